//! `doctor`: every rule that must hold on this machine, what is wrong, why it matters, and what `--fix` does about it.

use std::fmt::Write as _;

use serde_json::json;

use super::change::{locked, opened};
use super::context::{Global, print};
use super::error::{CommandError, Kind, chain};
use crate::boot::block::BootBlock;
use crate::id::DeployId;
use crate::layout::{Layout, PACMAN_DB, Part};
use crate::store::Store;
use crate::verify;
use crate::volumes;
use crate::work::Parts;

/// Whether to repair.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Repair what can be repaired without losing anything
    #[arg(long)]
    fix: bool,
}

/// One rule, by the number of its promise in the documentation.
struct Check {
    promise: &'static str,
    rule: &'static str,
    why: &'static str,
    look: fn(&Store) -> Vec<String>,
}

const CHECKS: &[Check] = &[
    Check { promise: "S3", rule: "the tree can be read", why: "without it no snapshot is known", look: tree_reads },
    Check { promise: "S1", rule: "every snapshot is whole", why: "a snapshot that lacks a part cannot be deployed", look: sets_whole },
    Check {
        promise: "S4",
        rule: "both copies of the boot block are whole",
        why: "with one copy left, one bad sector decides what boots",
        look: copies_whole,
    },
    Check {
        promise: "S12",
        rule: "what boots is whole",
        why: "the default, and what is behind it, must always start",
        look: deployments_whole,
    },
    Check {
        promise: "S6",
        rule: "the links lead to the current sets",
        why: "the paths of the README are read by people and scripts",
        look: links_right,
    },
    Check {
        promise: "R3",
        rule: "no lock of the package manager is inside a snapshot",
        why: "every later transaction in it would fail",
        look: no_litter,
    },
    Check { promise: "B12", rule: "GRUB can count starts", why: "a kernel that panics on trial would be started for ever", look: counting },
    Check {
        promise: "B16",
        rule: "the boot loader has a menu and a baked entry",
        why: "the baked entry boots when the boot block is lost",
        look: menu_there,
    },
];

/// Each rule is checked and its state printed; what can be mended is, with `--fix`.
///
/// Refuses: nothing; exit code 5 says that something is left to look at.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let mut mended = Vec::new();
    if args.fix && !global.dry_run {
        // Taking the lock repairs: doctor knows no other way than every writing verb.
        let locked = locked(global)?;
        mended.extend(locked.repaired().mended.iter().map(ToString::to_string));
        mended.extend(locked.repaired().problems.iter().map(|p| format!("could not be repaired: {}", chain(p))));
    }
    let store = opened(global)?;
    let results: Vec<_> = CHECKS.iter().map(|check| (check, (check.look)(&store))).collect();
    let wrong = results.iter().filter(|(_, found)| !found.is_empty()).count();
    if global.json {
        let rows: Vec<_> = results
            .iter()
            .map(|(check, found)| json!({ "promise": check.promise, "rule": check.rule, "ok": found.is_empty(), "found": found, "why": check.why }))
            .collect();
        global.print_json(&json!({ "checks": rows, "mended": mended }))?;
    } else {
        let mut out = String::new();
        for text in &mended {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "mended  {text}");
        }
        for (check, found) in &results {
            let mark = if found.is_empty() { "ok" } else { "WRONG" };
            let _ = writeln!(out, "{mark:<7} {:<4} {}", check.promise, check.rule);
            for text in found {
                let _ = writeln!(out, "             {text}");
            }
            if !found.is_empty() {
                let _ = writeln!(out, "             why it matters: {}", check.why);
            }
        }
        print(&out)?;
    }
    if wrong == 0 {
        return Ok(());
    }
    let failure = CommandError::new(Kind::Attention, format!("{wrong} of {} rules do not hold", CHECKS.len()));
    Err(if args.fix {
        failure.hint("what --fix could mend is mended; the lines above say what is left")
    } else {
        failure.hint("`ast doctor --fix` repairs what can be repaired")
    })
}

fn tree_reads(store: &Store) -> Vec<String> {
    store.tree().err().iter().map(|e| chain(e)).collect()
}

fn sets_whole(store: &Store) -> Vec<String> {
    let Ok(tree) = store.tree() else { return Vec::new() };
    tree.nodes()
        .filter(|n| !volumes::is_whole_set(store.layout(), n.set()))
        .map(|n| format!("set {} of snapshot {} is not whole on disk", n.set(), n.id))
        .collect()
}

fn copies_whole(store: &Store) -> Vec<String> {
    match store.copies() {
        Err(error) => vec![chain(&error)],
        Ok(copies) => [("A", &copies.a), ("B", &copies.b)]
            .iter()
            .filter_map(|(name, copy)| copy.as_ref().err().map(|e| format!("copy {name}: {}", chain(e))))
            .collect(),
    }
}

fn deployments_whole(store: &Store) -> Vec<String> {
    let Ok(block) = store.block() else { return Vec::new() };
    named(&block).into_iter().flat_map(|d| lacks(store.layout(), d)).collect()
}

fn named(block: &BootBlock) -> Vec<DeployId> {
    [Some(block.good), block.prev, block.trial.map(|t| t.deployment)].into_iter().flatten().collect()
}

fn lacks(layout: &Layout, d: DeployId) -> Vec<String> {
    if !volumes::is_whole_deployment(layout, d) {
        return vec![format!("deployment {d} is not whole on disk")];
    }
    verify::check(&Parts::of_deployment(layout, d)).iter().map(|finding| format!("deployment {d}: {finding}")).collect()
}

fn links_right(store: &Store) -> Vec<String> {
    let Ok(tree) = store.tree() else { return Vec::new() };
    let wrong = |link: &std::path::Path, target: &std::path::Path| match std::fs::read_link(link) {
        Ok(there) if there == target => None,
        Ok(there) => Some(format!("{} leads to {}, not to {}", link.display(), there.display(), target.display())),
        Err(_) if link.exists() => {
            Some(format!("{} is no link: somebody put it there; move it away, or take it over with `ast import`", link.display()))
        }
        Err(_) => Some(format!("{} is missing", link.display())),
    };
    tree.nodes()
        .flat_map(|n| Part::ALL.map(|part| (n, part)))
        .filter_map(|(n, part)| wrong(&store.layout().link(n.id, part), &Layout::link_target(n.set(), part)))
        .collect()
}

fn no_litter(store: &Store) -> Vec<String> {
    let Ok(tree) = store.tree() else { return Vec::new() };
    tree.nodes()
        .map(|n| store.layout().set_part(n.set(), Part::Root).join(PACMAN_DB).join("db.lck"))
        .filter(|lock| lock.exists())
        .map(|lock| format!("{} is in a snapshot", lock.display()))
        .collect()
}

fn counting(store: &Store) -> Vec<String> {
    match store.booted().map(|b| b.env) {
        Some(Some(false)) => vec!["GRUB could not save its counter at this start".to_owned()],
        _ => Vec::new(),
    }
}

fn menu_there(store: &Store) -> Vec<String> {
    let dir = store.grub_dir();
    ["grub.cfg", "ast/menu.cfg", "ast/menu.sums", "ast/good.cfg"]
        .iter()
        .map(|name| dir.join(name))
        .filter(|path| std::fs::metadata(path).map_or(true, |m| m.len() == 0))
        .map(|path| format!("{} is missing or empty", path.display()))
        .collect()
}
