//! Power cuts at any moment of the verbs that change what exists and what boots, recorded on a real btrfs and replayed: old or new, for GRUB
//! (which reads no log tree) as for the kernel, and repair clears the rest.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

use ast_tests::campaign::{WITHIN, decide, native, taken};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// States of the longer run: two recordings.
const MORE_STATES: usize = 4000;

/// Says why it cannot run, and is true then. Only root can mount.
fn skipped() -> bool {
    let no = !nix::unistd::geteuid().is_root();
    if no {
        eprintln!("skipped: only root can make and mount a filesystem");
    }
    no
}

fn seed() -> u64 {
    std::env::var("AST_CUT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

#[test]
fn s2_s4_every_power_cut_leaves_old_or_new_for_grub_and_kernel() {
    if skipped() {
        return;
    }
    let decided = decide(seed()).expect("replayed");
    eprintln!("{}", decided.report);
    assert!(decided.report.is_clean(), "{}", decided.report);
    assert_eq!(decided.report.outcomes.len(), decided.places, "too few outcomes: {}", decided.report);
    assert!(decided.differences.is_empty(), "in memory it is another machine: {:#?}", decided.differences);
    // Subvolumes are made empty by the installer alone, which has no plan.
    assert!(decided.steps_not_taken.iter().eq(["create-subvolume"]), "in no recorded verb: {:?}", decided.steps_not_taken);
}

/// The same with more recordings and in every state of each, with `./dev test --full` (`AST_LAB_FULL`).
#[test]
fn s2_s4_every_power_cut_at_more_moments() {
    if std::env::var("AST_LAB_FULL").is_ok_and(|full| !full.is_empty()) && !skipped() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(native::run(&dir.path().join("campaign.csv"), MORE_STATES, None, None).expect("replayed"));
    } else {
        eprintln!("skipped: only with --full");
    }
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").path());
    entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] }).collect()
}

/// A new verb is recorded, or this is red: whatever makes a plan has `plan_` in its name and a plan in its result.
#[test]
fn s2_every_plan_that_the_program_can_make_is_recorded() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let recorded = std::fs::read_to_string(project.join("tests/src/campaign/verbs.rs")).expect("the verbs");
    let mut offered = BTreeSet::new();
    for path in rust_files(&project.join("ast/src")) {
        let text = std::fs::read_to_string(&path).expect("text");
        for (_, rest) in text.match_indices("pub fn plan_").map(|(at, start)| (at, &text[at + start.len() - "plan_".len()..])) {
            let signature = rest.split('{').next().unwrap_or_default();
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            if signature.contains("Plan") || signature.contains("Step") {
                offered.insert(name.to_owned());
            }
        }
    }
    assert!(offered.len() > 20, "{offered:?}");
    let within = |name: &str| WITHIN.iter().any(|(inner, outer)| *inner == name && recorded.contains(&format!("{outer}(")));
    let missing: Vec<_> = offered.iter().filter(|name| !recorded.contains(&format!("{name}(")) && !within(name)).collect();
    assert!(missing.is_empty(), "no power is ever cut in: {missing:?}; add them to tests/src/campaign/verbs.rs");
    // Plans have no other door.
    let made: Vec<_> = rust_files(&project.join("ast/src"))
        .into_iter()
        .filter(|path| std::fs::read_to_string(path).expect("text").contains("Plan {"))
        .map(|path| path.strip_prefix(project.join("ast/src")).expect("below").to_string_lossy().into_owned())
        .collect();
    const MAKERS: [&str; 6] = ["deploy/good.rs", "deploy/mod.rs", "deploy/rollback.rs", "legacy/take.rs", "plan/mod.rs", "store/verbs.rs"];
    let strange: Vec<_> = made.iter().filter(|path| !MAKERS.contains(&path.as_str())).collect();
    assert!(strange.is_empty(), "makes plans, and nobody looks for them there: {strange:?}");
}

/// A machine of the original program, at every flush of taking it over, going back, and giving up what it had; with `--full` between them, too.
#[test]
fn s2_s4_a_power_cut_while_a_machine_is_taken_over_leaves_it_the_originals_or_ours() {
    if skipped() {
        return;
    }
    let full = std::env::var("AST_LAB_FULL").is_ok_and(|full| !full.is_empty());
    let (report, verbs) = taken::decide(seed(), !full).expect("replayed");
    eprintln!("{report}");
    assert!(report.is_clean(), "{report}");
    // Old and new of most; some have nothing between their commit and their end.
    assert!(report.states > 60 && report.outcomes.len() > verbs, "too few outcomes: {report}");
}
