//! Retention on a real btrfs: what goes, what stays, and what one snapshot that cannot go does to the others (U8).

#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod common;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ast::config::autoupdate::Keep;
use ast::config::space::Space;
use ast::deploy::{self, Etc, How};
use ast::id::SnapshotId;
use ast::layout::Part;
use ast::retain::{self, Fate, Retention, Stays};
use ast::store::machine::Block;
use ast::store::{Locked, StoreError};
use ast::sys::btrfs;
use ast::sys::mount::{mount, unmount};
use ast::tree::{Marks, draw};
use ast::updates::Updates;
use common::*;
use nix::mount::MsFlags;

/// Runs what retention would do, `keep` staying; what could not be deleted.
fn retention(locked: &mut Locked, keep: u32) -> Vec<StoreError> {
    let found = retain::look(locked, &Updates::default(), &Keep::newest(keep)).expect("looked");
    match found.plan(locked).expect("a plan") {
        Some(plan) => locked.run(plan).expect("committed").unfinished,
        None => Vec::new(),
    }
}

/// A person's snapshot 1, and updates 2 to `last` in a chain below it.
fn chain(machine: &Machine1, last: u32) -> Locked {
    let mut locked = machine.lock();
    let (plan, _) = locked.plan_new("kiosk").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let end = (2..=last).fold(n(1), |below, _| update(&mut locked, below));
    assert_eq!(end, n(last));
    locked
}

fn sets(machine: &Machine1) -> Vec<String> {
    machine.on_disk().into_iter().filter(|word| word.starts_with("set ")).collect()
}

fn drawn(locked: &Locked) -> String {
    draw(locked.tree().expect("tree"), &Marks::default())
}

fn attribute(path: &Path, change: &str) {
    assert!(Command::new("chattr").arg(change).arg(path).status().expect("chattr").success());
}

#[test]
fn u8_ancestors_go_and_what_was_below_them_stays_in_reach() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = chain(&machine, 6);
    let (plan, theirs) = locked.plan_branch(n(3), "theirs").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    assert_eq!(theirs, n(7));
    // A copy of an update has its description, and is a person's.
    let (plan, copy) = locked.plan_clone(n(4), "update 0123456789ab: hello 1 -> 2").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let (plan, d2) = deploy::plan_deploy(&locked, n(6), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    // The base is the fallback now. The record and the base of the merge of what boots are as they were.
    let record = text(&locked.layout().deployment_record(d2));
    assert!(retention(&mut locked, 1).is_empty());
    assert_eq!(
        drawn(&locked),
        "root - root\n├── 0 - base snapshot\n├── 1 - kiosk\n│   ├── 5 - update 0123456789ab: hello 1 -> 2\n│   │   └── 6 - update 0123456789ab: hello 1 -> 2\n│   └── 7 - theirs\n└── 8 - update 0123456789ab: hello 1 -> 2\n"
    );
    assert_eq!(copy, n(8));
    assert_eq!(sets(&machine), ["set 0.1", "set 1.1", "set 5.1", "set 6.1", "set 7.1", "set 8.1"]);
    assert!(ast::volumes::is_whole_deployment(locked.layout(), d2));
    assert_eq!(text(&locked.layout().deployment_record(d2)), record);
    // S6: their numbers are not given again, not even by a process that never saw them.
    drop(locked);
    let mut locked = machine.lock();
    assert!(locked.repaired().mended.is_empty(), "{:?}", locked.repaired());
    assert_eq!(update(&mut locked, n(6)), n(9));
    assert!(retention(&mut locked, 0).is_empty());
    assert_eq!(sets(&machine), ["set 0.1", "set 1.1", "set 6.1", "set 7.1", "set 8.1"]);
}

#[test]
fn u8_one_that_cannot_be_deleted_blocks_no_other() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = chain(&machine, 6);
    let at = machine.root.join("mnt");
    ast::sys::file::make_dirs(&at).expect("dir");
    let device = machine.device.to_string_lossy().into_owned();
    mount(&device, &at, "btrfs", MsFlags::MS_RDONLY, "subvol=@.snapshots/sets/3.1/root").expect("mounted");
    let stuck = locked.layout().set(set("4.1"));
    attribute(&stuck, "+i");

    // The mounted one is not even taken out of the tree; the other one is, and its leftovers are told.
    let found = retain::look(&locked, &Updates::default(), &Keep::newest(0)).expect("looked");
    assert_eq!(found.held(), ["snapshot 3 stays for now: it is mounted"]);
    let unfinished = retention(&mut locked, 0);
    assert!(matches!(unfinished.as_slice(), [StoreError::Stuck { what, .. }] if what == "set 4.1"), "{unfinished:?}");
    assert_eq!(sets(&machine), ["set 0.1", "set 1.1", "set 3.1", "set 4.1"]);
    assert_eq!(text(&at.join("word")), "base root");
    let (one, three): (SnapshotId, SnapshotId) = (n(1), n(3));
    assert_eq!(locked.tree().expect("tree").get(three).map(|node| node.parent), Ok(Some(one)));
    drop(locked);

    // It is told again and keeps nothing else: neither new garbage, nor the retention of what is free by now.
    let mut locked = machine.lock();
    assert!(matches!(locked.repaired().problems.as_slice(), [StoreError::Stuck { .. }]), "{:?}", locked.repaired());
    unmount(&at).expect("unmounted");
    assert_eq!(retention(&mut locked, 0).len(), 1);
    assert_eq!(sets(&machine), ["set 0.1", "set 1.1", "set 4.1"]);
    drop(locked);
    attribute(&stuck, "-i");
    drop(machine.lock());
    assert_eq!(sets(&machine), ["set 0.1", "set 1.1"]);
    assert!(machine.lock().repaired().problems.is_empty());
}

#[test]
fn u8_nothing_is_deleted_in_a_trial_or_while_a_document_cannot_be_read() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = chain(&machine, 4);
    let kept = locked.layout().var_before(d(1));
    ast::sys::file::make_dirs(&locked.layout().var(d(1))).expect("dir");
    btrfs::snapshot(&machine.root.join("var"), &kept, btrfs::Access::ReadOnly).expect("kept");
    for how in [How::Trial, How::Once] {
        let (plan, d) = deploy::plan_deploy(&locked, n(4), how, Etc::OfSnapshot).expect("a plan");
        drop(locked.run(plan).expect("committed"));
        let found = retain::look(&locked, &Updates::default(), &Keep::newest(0)).expect("looked");
        assert!(found.is_empty(), "{how:?}: {found:?}");
        let fates: Vec<_> = found.snapshots.iter().map(|j| j.fate).skip(2).collect();
        assert_eq!(fates, [Stays::Trial, Stays::Trial, Stays::OnTrial].map(Fate::Stays), "{how:?}");
        let arm = locked.boot_block().expect("block").arm;
        let plan = deploy::plan_fail_trial(&locked, d, arm, "test").expect("a plan").expect("a trial");
        drop(locked.run(plan).expect("committed"));
    }
    let found = retain::look(&locked, &Updates::default(), &Keep::newest(0)).expect("looked");
    assert_eq!((found.going(), &found.vars), (vec![n(2), n(3), n(4)], &vec![d(1)]));

    // Whose record cannot be read might be of any snapshot.
    let record = locked.layout().deployment_record(d(1));
    let whole = text(&record);
    write(&record, "{");
    assert!(matches!(retain::look(&locked, &Updates::default(), &Keep::newest(0)), Err(StoreError::Document(_))));
    write(&record, &whole);
    assert!(retention(&mut locked, 0).is_empty());
    assert!(!kept.exists() && ast::volumes::is_whole_deployment(locked.layout(), d(1)));
    assert_eq!(sets(&machine), ["set 0.1", "set 1.1"]);
}

/// What retention did under this policy: the snapshots of each commit, and what it would have done next.
fn rounds(locked: &mut Locked, keep: &Keep) -> (Vec<Vec<SnapshotId>>, Retention) {
    let mut rounds = Vec::new();
    let left = retain::carry_out(locked, &Updates::default(), keep, |found, _, done| {
        assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
        rounds.push(found.going());
    });
    (rounds, left.expect("carried out"))
}

#[test]
fn u8_space_is_made_oldest_first_and_by_nothing_that_is_needed() {
    const EACH: u64 = 8 << 20;
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = chain(&machine, 7);
    // What only this snapshot has, and no compression makes smaller.
    for n in 2..=7 {
        let root = locked.layout().set_part(locked.set_of(common::n(n)).expect("a set"), Part::Root);
        btrfs::set_read_only(&root, false).expect("opened");
        let out = Command::new("dd")
            .args(["if=/dev/urandom", "bs=1M", "count=8", "status=none"])
            .arg(format!("of={}", root.join("own").display()))
            .status();
        assert!(out.expect("dd").success());
        btrfs::set_read_only(&root, true).expect("sealed");
    }
    let plan = locked.plan_pin(n(3), true).expect("a plan").expect("a change");
    drop(locked.run(plan).expect("committed"));
    let (plan, _) = deploy::plan_deploy(&locked, n(7), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    btrfs::commit(locked.layout().snapshots()).expect("committed");
    let free = || btrfs::space(machine.layout().snapshots()).expect("space").1;
    let there = |locked: &Locked| locked.tree().expect("tree").nodes().map(|node| node.id.get()).collect::<Vec<_>>();

    // All of them are among the newest, and young: what is free is enough, so nothing goes.
    let all = Keep { updates: 9, within: Duration::from_secs(3600), min_free: Some(Space::Bytes(free() / 2)) };
    assert_eq!(rounds(&mut locked, &all).0, Vec::<Vec<SnapshotId>>::new());
    // Half of one more than there is: the oldest goes, one is enough, and that is measured.
    let wanted = free() + EACH / 2;
    let found = retain::look(&locked, &Updates::default(), &Keep { min_free: Some(Space::Bytes(wanted)), ..all }).expect("looked");
    assert_eq!((found.going(), &found.next), (vec![n(2)], &vec![n(4), n(5), n(6)]));
    let (gone, left) = rounds(&mut locked, &Keep { min_free: Some(Space::Bytes(wanted)), ..all });
    assert_eq!((gone, left.short, left.held()), (vec![vec![n(2)]], None, vec![]));
    assert!(free() >= wanted, "{} of {wanted}", free());
    // One and a half: two go, each by a commit of its own, and the pinned one is passed over.
    let wanted = free() + EACH * 3 / 2;
    assert_eq!(rounds(&mut locked, &Keep { min_free: Some(Space::Bytes(wanted)), ..all }).0, [[n(4)], [n(5)]]);
    assert!(free() >= wanted, "{} of {wanted}", free());
    // More than the disk has: what is needed, pinned or a person's stays, and that it is not enough is told.
    let (gone, left) = rounds(&mut locked, &Keep { min_free: Some(Space::Percent(100)), ..all });
    assert_eq!((gone, there(&locked)), (vec![vec![n(6)]], vec![0, 1, 3, 7]));
    assert!(left.held().concat().contains("256 MiB are free, and nothing more may go"), "{left:?}");
    assert_eq!(sets(&machine), ["set 0.1", "set 1.1", "set 3.1", "set 7.1"]);
}

#[test]
fn u8_what_is_not_old_enough_stays_whatever_the_count() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = chain(&machine, 4);
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(rounds(&mut locked, &Keep { within: day, ..Keep::newest(0) }).0, Vec::<Vec<SnapshotId>>::new());
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(rounds(&mut locked, &Keep { within: Duration::from_secs(1), ..Keep::newest(1) }).0, [[n(2), n(3)]]);
}
