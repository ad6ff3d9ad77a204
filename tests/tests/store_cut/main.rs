//! Power cuts at any moment of the verbs that change what exists and what boots, recorded on a real btrfs and replayed: old or new, for GRUB
//! (which reads no log tree) as for the kernel, and repair clears the rest.
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod grub;
#[path = "../../../ast/tests/common/mod.rs"]
mod machine;
mod past;

use std::path::Path;

use ast::boot::block::BootBlock;
use ast::id::{DeployId, SetId};
use ast::layout;
use ast::store::Store;
use ast::volumes;
use ast_tests::cut::{State, Strategy, replay};
use grub::Eyes;
use machine::{locked, skipped};
use past::{Files, Past, Root, base, files_below, record, said};

/// Recordings of the longer run: about 1,400 states each.
const MORE_RECORDINGS: u64 = 2;

/// The deployments that a block names.
fn named(block: &BootBlock) -> impl Iterator<Item = DeployId> {
    [Some(block.good), block.prev, block.trial.map(|t| t.deployment)].into_iter().flatten()
}

/// Everything that the kernel is told to run or keep is what was made, whole: the deployments of the block and the sets of the tree.
fn whole(past: &Past, store: &Store, top: &Path) -> Result<(), String> {
    let layout = store.layout();
    let (block, tree) = (store.block().map_err(|e| e.to_string())?, store.tree().map_err(|e| e.to_string())?);
    let sets: Vec<SetId> = tree.nodes().map(|node| node.set()).collect();
    if let Some(set) = sets.iter().find(|set| !volumes::is_whole_set(layout, **set)) {
        return Err(format!("set {set} is not whole"));
    }
    if let Some(d) = named(&block).find(|d| !volumes::is_whole_deployment(layout, *d)) {
        return Err(format!("deployment {d} is not whole"));
    }
    let dirs = sets.iter().map(|set| format!("sets/{set}")).chain(named(&block).map(|d| format!("deploy/{d}")));
    for dir in dirs.map(|dir| format!("{}/{dir}", layout::SNAPSHOTS_SUBVOL)) {
        let mut there = Files::new();
        files_below(top, &dir, &mut there).map_err(|e| format!("{dir}: {e}"))?;
        if let Some((path, made)) = past.made(&dir).find(|(path, made)| there.get(*path) != Some(made)) {
            let has = there.get(path).map_or("is not there".into(), |bytes| format!("has {} bytes", bytes.len()));
            return Err(format!("/{path} {has}, and was made with {}", made.len()));
        }
        if let Some(path) = there.keys().find(|path| !past.files.contains_key(*path)) {
            return Err(format!("/{path} was never made"));
        }
    }
    Ok(())
}

/// Everything that must hold on this disk. Which state of the machine it is.
fn check(state: &mut State<'_>, past: &Past, eyes: &mut Eyes<'_>) -> Result<String, String> {
    let confirmed = state.marks().last().map_or(0, |mark| mark.parse().expect("a number"));
    eyes.check(state, confirmed)?;
    let top = state.mount("subvolid=5").map_err(|e| e.to_string())?;
    let root = Root::of(&top);
    let store = Store::open(root.path()).map_err(|e| e.to_string())?;
    let now = said(&store)?;
    let place = past.was.iter().position(|was| was.said == now).ok_or_else(|| format!("neither old nor new: {now}"))?;
    if place < confirmed || place > confirmed + 1 {
        return Err(format!("verb {} had returned, and this is the state after {place}: {now}", confirmed));
    }
    whole(past, &store, &top)?;
    drop(store);
    let repaired = locked(Store::open(root.path()).map_err(|e| e.to_string())?);
    if let Some(problem) = repaired.repaired().problems.first() {
        return Err(format!("repair: {problem}"));
    }
    if said(&repaired)? != now {
        return Err(format!("repair made {} of {now}", said(&repaired)?));
    }
    whole(past, &repaired, &top)?;
    drop(repaired);
    let again = locked(Store::open(root.path()).map_err(|e| e.to_string())?);
    if !again.repaired().mended.is_empty() {
        return Err(format!("a second repair still found {:?}", again.repaired().mended));
    }
    let on_disk = volumes::sets(again.layout()).map_err(|e| e.to_string())?.len();
    let named = again.tree().map_err(|e| e.to_string())?.nodes().count();
    if on_disk != named {
        return Err(format!("{on_disk} sets on disk, {named} in the tree"));
    }
    Ok(format!("after {place}"))
}

/// One recording, replayed.
fn every_cut(strategy: Strategy) {
    let dir = tempfile::tempdir().expect("dir");
    let (log, past) = record(&base(dir.path()));
    eprintln!("{} flushes, {} bytes written", log.flushes(), log.bytes());
    let (mut wrong, mut eyes) = (false, Eyes::new(&past));
    let report = replay(&log, strategy, |state| {
        // The first wrong one is enough: a look costs time.
        if wrong {
            return Ok("not looked at".into());
        }
        check(state, &past, &mut eyes).inspect_err(|what| {
            eprintln!("{} after {:?}: {what}", state.tag(), state.marks());
            wrong = true;
        })
    })
    .expect("replayed");
    eprintln!("{report}");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.outcomes.len(), past.was.len(), "too few outcomes: {report}");
}

fn seed() -> u64 {
    std::env::var("AST_CUT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn s2_s4_every_power_cut_leaves_old_or_new_for_grub_and_kernel() {
    if !skipped() {
        every_cut(Strategy::Subsets { seed: seed(), per_flush: 1 });
    }
}

/// The same with more recordings and at more moments of each, with `./dev test --full` (`AST_LAB_FULL`).
#[test]
fn s2_s4_every_power_cut_at_more_moments() {
    if std::env::var("AST_LAB_FULL").is_ok_and(|full| !full.is_empty()) && !skipped() {
        (1..=MORE_RECORDINGS).for_each(|n| every_cut(Strategy::Subsets { seed: seed() + n, per_flush: 3 }));
    } else {
        eprintln!("skipped: only with --full");
    }
}
