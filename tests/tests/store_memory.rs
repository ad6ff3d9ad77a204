//! Power cuts in memory: each moment of each verb, each subset of what was not on disk, and the same again inside the repair. Beside it a real
//! btrfs, which says whether the one in memory does as it does.
#![allow(clippy::expect_used, clippy::disallowed_methods)]

use ast::sys::mount::{Mounted, MsFlags};
use ast_tests::campaign::memory::{self, Effort, real};
use std::process::Command;

/// Verbs of one history, and histories.
const VERBS: usize = 12;
const HISTORIES: u64 = 2;
const MORE_HISTORIES: u64 = 60;

fn seed() -> u64 {
    std::env::var("AST_CUT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn is_full() -> bool {
    std::env::var("AST_LAB_FULL").is_ok_and(|full| !full.is_empty())
}

/// In full every disk is repaired; else as many as a few seconds allow, others with each seed.
fn effort(seed: u64, kernel_one_in: u64) -> Effort {
    if is_full() {
        return Effort { seed, kernel_one_in: 1, repair_one_in: 10, threads: 2 };
    }
    Effort { seed, kernel_one_in, repair_one_in: 30, threads: 2 }
}

/// Says why it cannot run, and is true then. Only root can mount.
fn skipped() -> bool {
    let no = !nix::unistd::geteuid().is_root();
    if no {
        eprintln!("skipped: only root can make and mount a filesystem");
    }
    no
}

#[test]
fn s2_s4_every_subset_of_what_a_cut_loses_leaves_old_or_new() {
    let workload = memory::verbs();
    let looked = memory::judge(&workload, effort(seed(), 6));
    eprintln!("{looked}");
    assert!(looked.wrong.is_empty(), "{looked}");
    assert!(looked.for_grub > 2000 && looked.repaired > 250 && looked.in_repairs > 10, "{looked}");
    let seen = |verb: &String| looked.outcomes.keys().any(|(name, what)| name == verb && *what == "new");
    let missing: Vec<_> = workload.verbs().into_iter().filter(|verb| !seen(verb)).collect();
    assert!(missing.is_empty(), "never seen when it was done: {missing:?}");
}

#[test]
fn s2_s4_any_history_of_verbs_on_any_tree_is_cut_the_same_way() {
    let (from, count) = (seed() * 1000, if is_full() { MORE_HISTORIES } else { HISTORIES });
    for seed in from..from + count {
        let workload = memory::random(seed, VERBS);
        let looked = memory::judge(&workload, effort(seed, 8));
        eprintln!("history {seed}: {:?}\n{looked}", workload.verbs());
        assert!(looked.wrong.is_empty(), "history {seed}: {looked}");
        assert!(looked.for_grub > 200 && looked.repaired > 20, "{looked}");
    }
}

#[test]
fn what_stands_for_a_btrfs_answers_as_one() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().expect("dir");
    let (image, at) = (dir.path().join("image"), dir.path().join("m"));
    let sh = |line: String| {
        let out = Command::new("sh").args(["-ec", &line]).output().expect("sh");
        assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let device = sh(format!("truncate -s 200M {0} && mkfs.btrfs -q {0} >&2 && losetup -f --show {0}", image.display()));
    std::fs::create_dir(&at).expect("mount point");
    let mounted = Mounted::new(&device, &at, "btrfs", MsFlags::empty(), "subvolid=5");
    // It goes with the mount.
    sh(format!("losetup -d {device}"));
    let real = real::contract(&at);
    mounted.expect("mounted").unmount().expect("unmounted");
    assert!(real.len() > 40, "{real:#?}");
    let memory = real::contract_in_memory();
    let differ: Vec<_> = real.iter().zip(&memory).filter(|(one, other)| one != other).collect();
    assert!(differ.is_empty() && real.len() == memory.len(), "a btrfs, and what stands for it: {differ:#?}");
}

#[test]
fn what_is_durable_when_is_what_a_btrfs_shows() {
    if skipped() {
        return;
    }
    let report = real::durable(seed()).expect("replayed");
    eprintln!("{report}");
    assert!(report.is_clean(), "{report}");
    assert!(report.states > 30 && report.outcomes.len() > 5, "{report}");
}
