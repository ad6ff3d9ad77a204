//! Years of updates on one disk: what they leave, what retention takes, and what can come in between (U8).

use std::fs;
use std::os::unix::process::ExitStatusExt;

use ast::boot::booted::Booted;
use ast::deploy::{self, Etc, How};
use ast::id::{DeployId, SnapshotId};
use ast::layout::{self, Part};
use ast::store::{Locked, document};
use ast::sys::lock::Wait;
use ast::sys::{btrfs, file};
use ast::updates::State as UpdateState;
use ast::volumes::{self, Mounts};
use ast_tests::lab::repo::State;

use super::bed::{Bed, sh, skipped};

/// What every update brings that its parent has in another version: enough to be seen on the disk.
const BROUGHT: usize = 8 << 20;

fn lock(bed: &Bed) -> Locked {
    bed.store().lock(Wait::No).expect("locked")
}

fn run(locked: &mut Locked, plan: ast::plan::Plan) {
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

/// A child of `parent` as the service seals it, without pacman: the same image with other content in one large file.
fn sealed(bed: &Bed, parent: SnapshotId) -> SnapshotId {
    let mut locked = lock(bed);
    let from = locked.set_of(parent).expect("whole");
    let dir = locked.layout().work_copy("by-hand");
    fs::create_dir_all(&dir).expect("dir");
    for part in Part::ALL {
        btrfs::snapshot(&locked.layout().set_part(from, part), &dir.join(part.name()), btrfs::Access::Writable).expect("copied");
    }
    sh(&format!("head -c {BROUGHT} /dev/urandom > {}", dir.join("root/usr/share/brought").display()));
    let source = |part: Part| dir.join(part.name());
    let (plan, new) = locked.plan_update(source, parent, "update 0123456789ab: brought", |new| format!("update {new}")).expect("a plan");
    run(&mut locked, plan);
    volumes::remove(&dir, &Mounts::of_filesystem(&dir).expect("mounts")).expect("removed");
    new
}

/// An update of the default is sealed, armed, booted and promoted. Its snapshot and its deployment.
pub fn promoted(bed: &Bed) -> (SnapshotId, DeployId) {
    let store = bed.store();
    let good = store.block().expect("block").good;
    let parent = store.snapshot_of(good).expect("a record");
    let new = sealed(bed, parent);
    let mut locked = lock(bed);
    let (plan, d) = deploy::plan_deploy(&locked, new, How::Trial, Etc::MergedFrom(good)).expect("a plan");
    run(&mut locked, plan);
    let arm = locked.boot_block().expect("block").arm;
    let record = format!("d={d}\nset={new}.1\nwhy=trial\narm={arm}\nleft=2\nenv=ok\n");
    bed.booted(&record);
    let plan = deploy::plan_promote(&locked, &Booted::parse(&record)).expect("allowed").expect("a promotion");
    run(&mut locked, plan);
    (new, d)
}

/// Snapshots in the tree, with their parents.
fn tree(bed: &Bed) -> Vec<(u32, Option<u32>)> {
    let store = bed.store();
    let mut all: Vec<_> = store.tree().expect("tree").nodes().map(|n| (n.id.get(), n.parent.map(SnapshotId::get))).collect();
    all.sort_unstable();
    all
}

fn numbers(bed: &Bed) -> Vec<u32> {
    tree(bed).into_iter().map(|(id, _)| id).collect()
}

/// The sets on disk are those of the tree.
fn assert_no_garbage(bed: &Bed) {
    let sets: Vec<u32> = volumes::sets(&bed.layout()).expect("sets").iter().map(|set| set.snapshot.get()).collect();
    assert_eq!(sets, numbers(bed));
    assert_eq!(volumes::work_copies(&bed.layout()).expect("copies"), Vec::<String>::new());
}

/// Bytes in use, once everything that was deleted is really gone.
fn used(bed: &Bed) -> u64 {
    let at = bed.layout().snapshots().to_owned();
    sh(&format!("btrfs filesystem sync {0}; btrfs subvolume sync {0}; btrfs filesystem sync {0}", at.display()));
    sh(&format!("btrfs filesystem usage -b {} | awk '/^ *Used:/ {{ print $2; exit }}'", at.display())).parse().expect("bytes")
}

fn settings(bed: &Bed, text: &str) {
    fs::create_dir_all(bed.root.join("etc/ast")).expect("dir");
    fs::write(bed.root.join("etc/ast/autoupdate.toml"), text).expect("settings");
}

fn summary(bed: &Bed) -> String {
    ast::updates::Summary::of(&bed.updates()).to_string()
}

#[test]
fn u8_years_of_updates_leave_what_the_policy_keeps() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let mut usage = Vec::new();
    for year in 1..=9u32 {
        let (new, d) = promoted(&bed);
        assert_eq!(new.get(), year);
        assert!(bed.layout().var_before(d).exists(), "kept until promotion and retention (S9)");
        let text = bed.cycle();
        assert!(text.contains("up to date"), "{text}");
        // The default, the fallback, three more, the base; the oldest one that is left hangs below the base.
        let first = year.saturating_sub(4).max(1);
        let expected: Vec<_> =
            std::iter::once((0, None)).chain((first..=year).map(|id| (id, Some(if id == first { 0 } else { id - 1 })))).collect();
        assert_eq!(tree(&bed), expected, "{text}");
        assert_no_garbage(&bed);
        assert_eq!(volumes::deployments(&bed.layout()).expect("deployments").len(), 2);
        assert!(!bed.layout().var_before(d).exists());
        assert_eq!((bed.updates().state, bed.updates().undeleted), (UpdateState::Idle, vec![]));
        usage.push(used(&bed));
    }
    eprintln!("MiB in use after each update: {:?}", usage.iter().map(|b| b >> 20).collect::<Vec<_>>());
    let (early, late) = (usage[5], usage[8]);
    assert!(late < early + BROUGHT as u64 / 2, "the disk fills: {usage:?}");
    assert!(usage[4] > usage[0] + 3 * BROUGHT as u64, "the test would not see a disk that fills: {usage:?}");
    let history = ast::store::history::read(&bed.layout().document(layout::HISTORY)).expect("history");
    assert_eq!(history.iter().filter(|line| line.what.starts_with("retention: delete snapshots")).count(), 4);

    // The package cache: what no snapshot has goes, unless somebody is at work in a copy.
    let cache = bed.root.join("var/cache/pacman/pkg");
    let (spare, kept) =
        (["gone-1-1-any.pkg.tar.zst", "gone-1-1-any.pkg.tar.zst.sig", "download-cut"], ["hello-1-1-any.pkg.tar.zst", "notes"]);
    sh(&format!("cd {}; mkdir download-cut; touch {} {}", cache.display(), spare.join(" "), kept.join(" ")));
    sh(&format!("touch {}/download-cut/part", cache.display()));
    let there = |names: &[&str]| names.iter().filter(|name| cache.join(name).exists()).count();
    let at_work = bed.layout().work_copy("somebody");
    fs::create_dir_all(&at_work).expect("dir");
    promoted(&bed);
    bed.cycle();
    assert_eq!((there(&spare), there(&kept)), (3, 2), "somebody is at work");
    fs::remove_dir(&at_work).expect("removed");
    promoted(&bed);
    bed.cycle();
    assert_eq!((there(&spare), there(&kept)), (0, 2));
    assert_eq!(numbers(&bed), [0, 7, 8, 9, 10, 11]);

    // One is mounted, of one the directory cannot be touched: the others go, and it is told.
    settings(&bed, "keep_updates = 0");
    let (mounted, stuck) = (bed.layout().set("7.1".parse().expect("set")), bed.layout().set("8.1".parse().expect("set")));
    let held = bed.root.join("held");
    fs::create_dir_all(&held).expect("dir");
    sh(&format!("mount --bind {} {}; chattr +i {}", mounted.join("root").display(), held.display(), stuck.display()));
    let text = bed.cycle();
    assert!(text.contains("up to date"), "an update does not wait for it: {text}");
    assert_eq!(tree(&bed), [(0, None), (7, Some(0)), (10, Some(7)), (11, Some(10))], "{text}");
    assert!(!bed.layout().set("9.1".parse().expect("set")).exists() && stuck.exists());
    for told in [text.clone(), summary(&bed)] {
        assert!(told.contains("not deleted: snapshot 7 stays for now: it is mounted"), "{told}");
    }
    assert!(summary(&bed).contains("not deleted: set 8.1 could not be deleted"), "{}", summary(&bed));
    let text = bed.cycle();
    assert!(text.contains("up to date") && !text.contains("not deleted: snapshot 7"), "said once: {text}");
    assert!(summary(&bed).contains("snapshot 7") && summary(&bed).contains("set 8.1"), "{}", summary(&bed));
    sh(&format!("umount {}; chattr -i {}", held.display(), stuck.display()));
    bed.cycle();
    assert_eq!(tree(&bed), [(0, None), (10, Some(0)), (11, Some(10))]);
    assert_no_garbage(&bed);
    assert!(!summary(&bed).contains("not deleted"), "{}", summary(&bed));

    // A real update is armed: nothing goes as long as it is on trial, whatever could.
    let spare = sealed(&bed, SnapshotId::new(10));
    bed.offer(State::V2);
    settings(&bed, "keep_updates = 1");
    bed.cycle();
    let block = bed.store().block().expect("block");
    let trial = block.trial.expect("armed").deployment;
    let new = bed.store().snapshot_of(trial).expect("a record");
    assert_eq!((spare.get(), new.get()), (12, 13));
    settings(&bed, "keep_updates = 0");
    let all = numbers(&bed);
    assert_eq!(all, [0, 10, 11, 12, 13]);
    let out = bed.run(&["run", "--now"], None);
    assert_eq!(numbers(&bed), all, "armed: {}", String::from_utf8_lossy(&out.stderr));
    let arm = block.arm;
    bed.booted(&format!("d={trial}\nset={new}.1\nwhy=trial\narm={arm}\nleft=2\nenv=ok\n"));
    for words in [&["run"] as &[&str], &["run", "--now"]] {
        bed.run(words, None);
        assert_eq!(numbers(&bed), all, "on trial");
    }
    // It fails for good: the newest that failed stays for a look, the spare one goes.
    let mut exhausted = bed.store().block().expect("block");
    if let Some(trial) = &mut exhausted.trial {
        trial.tries = 0;
    }
    bed.store().medium().expect("medium").write(&exhausted).expect("written");
    bed.booted(&format!("d={}\nset=11.1\nwhy=exhausted\narm={arm}\nleft=0\nenv=ok\n", block.good));
    assert!(!bed.run(&["run"], None).status.success(), "somebody should look");
    assert_eq!(numbers(&bed), all, "judged and cleared first");
    bed.booted(&format!("d={}\nset=11.1\nwhy=good\nenv=ok\n", block.good));
    assert!(bed.cycle().contains("not trying"));
    assert_eq!(tree(&bed), [(0, None), (10, Some(0)), (11, Some(10)), (13, Some(11))]);
    // A newer one fails: the older one has been looked at.
    let mut memory = bed.updates();
    assert_eq!(memory.failed.as_ref().map(|failed| failed.snapshot), Some(new));
    let newer = sealed(&bed, SnapshotId::new(11));
    let mut verdict = memory.verdicts.last().expect("a verdict").clone();
    verdict.set = Some(bed.store().set_of(newer).expect("whole"));
    memory.verdicts.push(verdict);
    document::save(&bed.layout().document(layout::UPDATES), &memory).expect("saved");
    bed.cycle();
    assert_eq!(numbers(&bed), [0, 10, 11, newer.get()]);
    assert_no_garbage(&bed);

    // What is young stays, whatever the count; while too little is free the oldest goes first, and what could boot never.
    settings(&bed, "keep_updates = 0\nkeep_days = 365");
    let young = [sealed(&bed, newer), sealed(&bed, newer)];
    bed.cycle();
    assert_eq!(numbers(&bed), [0, 10, 11, newer.get(), young[0].get(), young[1].get()]);
    used(&bed);
    let free = btrfs::space(bed.layout().snapshots()).expect("space").1;
    settings(&bed, &format!("keep_days = 365\nmin_free = \"{}\"", free + BROUGHT as u64 / 2));
    let text = bed.cycle();
    assert_eq!(numbers(&bed), [0, 10, 11, young[0].get(), young[1].get()], "{text}");
    settings(&bed, "keep_days = 365\nmin_free = \"100%\"");
    bed.cycle();
    assert_eq!(numbers(&bed), [0, 10, 11]);
    assert_no_garbage(&bed);
    assert!(summary(&bed).contains("MiB are free, and nothing more may go"), "{}", summary(&bed));
}

#[test]
fn u8_killed_at_any_step_the_next_cycle_finishes_it() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    // The record of a good start is what makes the default a proven one.
    file::replace(&bed.layout().deployment_well(DeployId::new(1)), b"1\n").expect("well");
    settings(&bed, "keep_updates = 0");
    let spare = || {
        let upper = sealed(&bed, SnapshotId::BASE);
        let lower = sealed(&bed, upper);
        let mut locked = lock(&bed);
        let (plan, theirs) = locked.plan_branch(lower, "theirs").expect("a plan");
        run(&mut locked, plan);
        theirs
    };
    let finished = |theirs: SnapshotId, when: &str| {
        assert_eq!(tree(&bed), [(0, None), (theirs.get(), Some(0))], "{when}");
        assert_no_garbage(&bed);
        assert_eq!((bed.updates().state, bed.updates().retry.attempts, bed.updates().undeleted), (UpdateState::Idle, 0, vec![]), "{when}");
        let mut locked = lock(&bed);
        let (plan, _) = locked.plan_del(theirs).expect("a plan");
        run(&mut locked, plan);
    };
    let theirs = spare();
    let text = bed.cycle();
    finished(theirs, &text);
    let points: Vec<(u32, String)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("stop point ")?.split_once(": "))
        .filter_map(|(number, name)| Some((number.parse().ok()?, name.to_owned())))
        .collect();
    let place = |what: &str| points.iter().position(|(_, name)| name == what).unwrap_or_else(|| panic!("no {what} in {text}"));
    let during = &points[place("updates: retaining")..=place("updates: checking")];
    assert!(during.len() >= 9 && during.iter().any(|(_, name)| name.starts_with("collect: set")), "{text}");
    for (number, name) in during {
        let theirs = spare();
        let out = bed.run(&["run"], Some(*number));
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.signal(), Some(9), "at {name}: {said}");
        assert!(said.contains(&format!("stop point {number}: ")), "{said}");
        // What boots is whole at any instant, and so is what the tree names.
        let store = bed.store();
        assert!(volumes::is_whole_deployment(store.layout(), DeployId::new(1)), "at {name}");
        for node in store.tree().expect("tree").nodes() {
            assert!(volumes::is_whole_set(store.layout(), node.set()), "at {name}: {}", node.set());
        }
        drop(store);
        let text = bed.cycle();
        eprintln!("killed at {name}: {}", text.lines().last().unwrap_or_default());
        finished(theirs, &format!("killed at {name}: {text}"));
    }
}

#[test]
fn c2_u8_an_update_that_finds_no_room_is_made_room_for() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let (oldest, _) = promoted(&bed);
    promoted(&bed);
    let (newest, d) = promoted(&bed);
    bed.booted(&format!("d={d}\nset={newest}.1\nwhy=good\nenv=ok\n"));
    bed.cycle();
    assert_eq!(numbers(&bed), [0, 1, 2, 3], "all of them are within what is kept");

    bed.offer(State::V2);
    let full = bed.root.join("var/full");
    super::fill(&bed, &full, 60);
    let out = bed.run(&["run", "--now"], None);
    assert!(!out.status.success() && bed.updates().no_space, "{}", String::from_utf8_lossy(&out.stderr));
    assert!(bed.store().tree().expect("tree").get(oldest).is_ok(), "it was not known before");
    let out = bed.run(&["run", "--now"], None);
    assert!(bed.store().tree().expect("tree").get(oldest).is_err(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(numbers(&bed), [0, 2, 3], "one at a time, and never what could be started");

    fs::remove_file(&full).expect("removed");
    let (_, _) = (used(&bed), bed.run(&["run", "--now"], None));
    assert!(bed.store().block().expect("block").trial.is_some());
    assert!(!bed.updates().no_space);
}

#[test]
fn c2_what_was_fetched_for_nothing_goes_when_the_disk_is_tight() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let spare = bed.root.join("var/cache/pacman/pkg/spare-1-1-any.pkg.tar.zst");
    let fetched = || fs::write(&spare, "x").expect("file");
    fetched();
    bed.offer(State::V2);
    bed.cycle();
    bed.assert_armed("2-1");
    assert!(spare.exists(), "there is room");

    bed.reset();
    let (size, _) = btrfs::space(bed.layout().snapshots()).expect("space");
    super::fill(&bed, &bed.root.join("var/full"), ((size / 10) >> 20) - 40);
    let mut memory = bed.updates();
    memory.retry.attempts = 1;
    ast::updates::save(&bed.layout(), &mut memory).expect("saved");
    bed.run(&["run", "--now"], None);
    bed.assert_armed("2-1");
    assert!(spare.exists(), "an attempt that was cut off goes on with what it had fetched");

    bed.reset();
    bed.run(&["run", "--now"], None);
    bed.assert_armed("2-1");
    assert!(!spare.exists());
}
