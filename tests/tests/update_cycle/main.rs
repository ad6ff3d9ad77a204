//! Whole cycles of the real `ast-autoupdate` on the disk of an installed machine, natively: real pacman, real mirror, real btrfs.
//! The gate runs under a real systemd in a container (`gate`); only restarts are left to the scenarios.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod bed;
mod care;
mod gate;
mod rot;
mod years;

use std::fs;
use std::os::unix::process::ExitStatusExt;

use ast::deploy;
use ast::id::{ArmId, DeployId};
use ast::layout::{self, Part};
use ast::store::document;
use ast::sys::lock::Wait;
use ast::updates::{Cause, TrialResult, Updates};
use ast::volumes;
use ast_tests::lab::repo::State;

use bed::{Bed, sh, skipped};

#[test]
fn u2_u1_nothing_new_and_what_failed_leave_nothing_behind() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let before = bed.subvolumes();
    assert!(bed.cycle().contains("up to date"));
    assert_eq!(bed.subvolumes(), before, "nothing new: nothing created");
    assert_eq!(bed.store().block().expect("block").trial, None);

    // A build that went wrong although pacman said 0 is refused before any restart, and not tried again.
    bed.offer(State::V2NoBinary);
    let out = bed.run(&["run"], None);
    assert!(!out.status.success());
    assert_eq!(bed.subvolumes(), before, "refused: nothing is left\n{}", String::from_utf8_lossy(&out.stderr));
    let updates = bed.updates();
    assert_eq!(updates.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [Cause::NotWhole]);
    assert!(updates.degraded.as_ref().is_some_and(|d| d.contains("initramfs")), "{:?}", updates.degraded);
    assert!(bed.cycle().contains("not trying"));
    assert_eq!(bed.subvolumes(), before);

    // A mirror that is gone: waits, and nothing else.
    fs::remove_file(&bed.link).expect("link");
    assert!(!bed.run(&["run", "--now"], None).status.success());
    assert_eq!((bed.updates().retry.attempts, bed.subvolumes()), (1, before.clone()));

    // The repaired update is another one, and is tried.
    bed.offer(State::V3);
    let old_etc = bed.layout().deployment_part(DeployId::new(1), Part::Etc);
    fs::write(old_etc.join("before-the-deploy"), "mine").expect("file");
    bed.run(&["run", "--now"], None);
    let d = bed.assert_armed("3-1");
    let arm = bed.store().block().expect("block").arm;
    let new_etc = bed.layout().deployment_part(d, Part::Etc);
    assert_eq!(fs::read_to_string(new_etc.join("before-the-deploy")).expect("merged"), "mine");

    // U7: what is edited between the deploy and the restart arrives at the first start, and only then.
    fs::write(old_etc.join("before-the-deploy"), "mine, again").expect("file");
    fs::write(old_etc.join("after-the-deploy"), "mine").expect("file");
    fs::remove_file(old_etc.join("hostname")).expect("deleted");
    bed.booted(&format!("d={d}\nset=1.1\nwhy=trial\narm={arm}\nleft=2\nenv=ok\nblock=raw\n"));
    let first = || {
        let out = bed.run(&["first-boot"], None);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    first();
    let read = |name: &str| fs::read_to_string(new_etc.join(name)).unwrap_or_default();
    assert_eq!((read("before-the-deploy").as_str(), read("after-the-deploy").as_str()), ("mine, again", "mine"));
    assert!(!new_etc.join("hostname").exists() && !new_etc.join("before-the-deploy.pacnew").exists());
    assert_eq!(read("machine-id"), fs::read_to_string(old_etc.join("machine-id")).expect("an id"));
    fs::write(new_etc.join("after-the-deploy"), "mine, later").expect("file");
    first();
    assert_eq!(read("after-the-deploy"), "mine, later", "once");
    assert_eq!(volumes::work_copies(&bed.layout()).expect("copies"), Vec::<String>::new());

    // It is promoted (by the gate, in a machine); the next cycle takes note and finds nothing more.
    let store = bed.store();
    let booted = ast::boot::booted::Booted::parse(&format!("d={d}\nset=1.1\nwhy=trial\narm={arm}\nleft=2\n"));
    let plan = deploy::plan_promote(&store, &booted).expect("planned").expect("a promotion");
    drop(store.lock(Wait::No).expect("locked").run(plan).expect("promoted"));
    bed.booted(&format!("d={d}\nset=1.1\nwhy=good\nenv=ok\n"));
    assert!(bed.cycle().contains("up to date"));
    let updates = bed.updates();
    assert_eq!(updates.verdicts.last().map(|v| v.result), Some(TrialResult::Promoted));
    assert_eq!((updates.degraded, updates.state.name()), (None, "idle"));
    // U10: programs see it, too.
    let shown = |name: &str| fs::read_to_string(bed.root.join("run/ast").join(name)).expect(name);
    let json: serde_json::Value = serde_json::from_str(&shown("update.json")).expect("JSON");
    assert_eq!((&json["state"], &json["last"]), (&"idle".into(), &"up to date".into()), "u10: {json}");
    let metrics = shown("metrics.prom");
    assert!(metrics.contains("\nast_update_trials_promoted 1\n") && metrics.contains("ast_update_state{state=\"idle\"} 1"), "u10: {metrics}");
}

#[test]
fn b1_u1_a_trial_that_failed_is_judged_blocked_cleared_and_not_tried_again() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    bed.offer(State::V2);
    bed.cycle();
    let d = bed.assert_armed("2-1");
    // What three starts that never reached the initramfs leave.
    let medium = bed.store().medium().expect("medium");
    let mut block = bed.store().block().expect("block");
    if let Some(trial) = &mut block.trial {
        trial.tries = 0;
    }
    medium.write(&block).expect("written");
    bed.booted(&format!("d=1\nset=0.1\nwhy=exhausted\narm={}\nleft=0\nenv=ok\n", block.arm));
    let out = bed.run(&["run"], None);
    assert!(!out.status.success(), "somebody should look");
    let updates = bed.updates();
    assert_eq!(updates.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [Cause::Kernel]);
    assert_eq!(updates.degraded, Some(format!("deployment {d} was left: its kernel never reached the initramfs")));
    assert_eq!(bed.store().block().expect("block").trial, None);
    assert_eq!(bed.store().block().expect("block").arm, ArmId::new(1), "a spent arming is never armed again");
    bed.booted("d=1\nset=0.1\nwhy=good\nenv=ok\n");
    assert!(bed.cycle().contains("not trying"));
    bed.offer(State::V2Plus);
    assert!(bed.cycle().contains("waiting 1 days"), "an unrelated package does not make the kernel another one");
    assert_eq!(bed.store().block().expect("block").trial, None);
    bed.offer(State::V3);
    bed.cycle();
    assert!(bed.store().block().expect("block").trial.is_some(), "another kernel is tried at once");
}

#[test]
fn s10_a_full_disk_is_told_and_space_comes_back() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    bed.offer(State::V2);
    let before = bed.subvolumes();
    let full = bed.root.join("var/full");
    // First so full that nothing is begun, then so that it breaks in the middle of it.
    for left in [8, 60] {
        fill(&bed, &full, left);
        let out = bed.run(&["run", "--now"], None);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success(), "{left} MiB were enough: {text}");
        assert!(text.contains("MiB are free") || text.contains("the disk is full") || text.contains("No space left"), "{left}: {text}");
        assert_eq!(bed.subvolumes(), before, "{left}: {text}");
        assert_eq!(bed.store().block().expect("block").trial, None);
        fs::remove_file(&full).expect("removed");
        sh(&format!("btrfs filesystem sync {0}; btrfs subvolume sync {0}", bed.layout().snapshots().display()));
    }
    bed.run(&["run", "--now"], None);
    bed.assert_armed("2-1");
}

/// A file that leaves `left` MiB of the disk.
fn fill(bed: &Bed, full: &std::path::Path, left: u64) {
    let (_, free) = ast::sys::btrfs::space(bed.layout().snapshots()).expect("space");
    // Piece by piece: what counts as free cannot always be had at once.
    let wanted = (free >> 20) - left;
    sh(&format!(
        "at=0; most=64; while [ $at -lt {wanted} ]; do step=$(({wanted} - at)); [ $step -le $most ] || step=$most; if fallocate -o ${{at}}M -l ${{step}}M {0}; then at=$((at + step)); else most=$((most / 2)); [ $most -gt 0 ] || break; fi; done; sync",
        full.display()
    ));
    // What was set aside for metadata counts as free at first.
    let (_, free) = ast::sys::btrfs::space(bed.layout().snapshots()).expect("space");
    eprintln!("{} MiB are left of {left} wanted", free >> 20);
}

#[test]
fn u9_killed_at_any_arrow_the_next_cycle_converges() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    bed.offer(State::V2);
    let text = bed.cycle();
    bed.assert_armed("2-1");
    let points: Vec<(u32, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("stop point ")?.split_once(": "))
        .filter_map(|(number, name)| Some((number.parse().ok()?, name.to_owned())))
        .filter(|(_, name)| ["updates: ", "before: ", "done"].iter().any(|begin| name.starts_with(begin)))
        .collect();
    assert!(points.len() >= 10, "{text}");
    for (number, name) in points {
        bed.reset();
        let out = bed.run(&["run"], Some(number));
        assert_eq!(out.status.signal(), Some(9), "at {name}: {}", String::from_utf8_lossy(&out.stderr));
        let text = bed.cycle();
        eprintln!("killed at {name}: {}", text.lines().last().unwrap_or_default());
        bed.assert_armed("2-1");
        assert_eq!(document::load::<Updates>(&bed.layout().document(layout::UPDATES)).expect("memory").body.verdicts, [], "at {name}");
    }
}
