//! `ast doctor`: each rule broken in turn is found by its number, nothing is changed by looking, and `--fix` mends what it says it mends.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::process::Command;

use ast::care;
use ast::deploy::{self, Etc, How};
use ast::layout::{self, Part};
use ast::loader::{Build, Loader, Stage, Update};
use ast::store::document;
use ast::store::machine::Block;
use ast::sys::{btrfs, file};
use common::*;

/// What is found, a promise and a line each, and the exit code.
fn wrong(machine: &Machine1, fix: bool) -> (BTreeSet<(String, String)>, i32) {
    let mut words = vec!["doctor"];
    words.extend(fix.then_some("--fix"));
    let out = Command::new(env!("CARGO_BIN_EXE_ast"))
        .args(["--json", "--sysroot"])
        .arg(&machine.root)
        .args(&words)
        .env_remove("AST_LOG")
        .output()
        .expect("ast");
    let said: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    let word = |value: &serde_json::Value| value.as_str().expect("a word").to_owned();
    let mut all = BTreeSet::new();
    for row in said["checks"].as_array().expect("checks") {
        let found = row["found"].as_array().expect("lines");
        assert_eq!(row["ok"] == true, found.is_empty(), "{row}");
        all.extend(found.iter().map(|line| (word(&row["promise"]), word(line))));
    }
    (all, out.status.code().unwrap_or(-1))
}

fn holds(found: &BTreeSet<(String, String)>, promise: &str) -> bool {
    found.iter().all(|(of, _)| of != promise)
}

fn remove(path: &std::path::Path) {
    ast::volumes::remove(path, &ast::volumes::Mounts::default()).expect("removed");
}

fn open(path: &std::path::Path) {
    btrfs::set_read_only(path, false).expect("opened");
}

/// A promise, a way to break it on a machine with snapshots 0 and 1 and deployment 2 (of 1) as the good one before 1, and whether `--fix`
/// mends that.
type Break = (&'static str, bool, fn(&Machine1));

const BREAKS: &[Break] = &[
    ("S1", false, |m| remove(&m.layout().set_part(set("1.1"), Part::Var))),
    ("S2", true, |m| make_set(&m.layout(), set("1.7"), "left over")),
    ("S3", false, |m| write(&m.layout().document(layout::NUMBERS), "{")),
    ("S3", false, |m| write(&file::old_copy(&m.layout().document(layout::TREE)).expect("older"), "{")),
    ("S4", true, |m| {
        let path = m.layout().document(layout::LOCAL_BLOCK);
        file::write_in_place(&path, 0, &[0; 512]).expect("torn");
    }),
    ("S5", false, |m| file::remove_if_exists(&m.layout().deployment_well(d(1))).expect("removed")),
    ("S6", true, |m| file::remove_if_exists(&m.layout().link(n(1), Part::Etc)).expect("removed")),
    ("S7", true, |m| {
        let dir = m.layout().work_copy("999999-1-00000000-0");
        file::make_dirs(&dir).expect("dir");
        btrfs::create_subvolume(&dir.join("root")).expect("subvolume");
    }),
    ("S8", false, |m| open(&m.layout().set_part(set("1.1"), Part::Root))),
    ("S9", false, |m| {
        let mut locked = m.lock();
        let (plan, three) = deploy::plan_deploy(&locked, n(1), How::Trial, Etc::OfSnapshot).expect("a plan");
        drop(locked.run(plan).expect("committed"));
        remove(&m.layout().var(three));
    }),
    ("S12", false, |m| {
        let boot = m.layout().deployment_part(d(2), Part::Boot);
        open(&boot);
        write(&boot.join("vmlinuz-linux"), "not what was summed up");
        btrfs::set_read_only(&boot, true).expect("sealed");
    }),
    ("S13", false, |m| {
        let path = m.layout().document(layout::MACHINE);
        let text = text(&path).replace("\"min_writer\": 1", "\"min_writer\": 9");
        write(&path, &text);
    }),
    ("S14", false, |m| {
        let dir = m.root.join("boot/grub/ast");
        let baked = text(&dir.join("good.prev.cfg")).replace("ast_baked_good=1\n", "ast_baked_good=7\n");
        write(&dir.join("good.prev.cfg"), &baked);
    }),
    ("R3", false, |m| {
        let root = m.layout().set_part(set("1.1"), Part::Root);
        open(&root);
        file::make_dirs(&root.join(layout::PACMAN_DB)).expect("dir");
        write(&root.join(layout::PACMAN_DB).join("db.lck"), "");
        btrfs::set_read_only(&root, true).expect("sealed");
    }),
    ("B7", true, |m| write(&m.root.join("boot/grub/ast/snapshots.cfg"), "")),
    ("B9", false, |m| m.booted("d=2\nwhy=good\narm=0\nleft=0\nenv=ok\ndisk=/dev/x: its log was damaged and is dropped\n")),
    ("B12", false, |m| m.booted("d=2\nwhy=good\narm=0\nleft=0\nenv=fail\n")),
    ("B16", true, |m| file::remove_if_exists(&m.root.join("boot/grub/ast/menu.cfg")).expect("removed")),
    ("C1", false, |m| {
        let machine = m.store().machine().cloned().expect("a machine");
        let luks = vec!["aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".to_owned()];
        document::save(&m.layout().document(layout::MACHINE), &ast::store::machine::Machine { luks, ..machine }).expect("saved");
    }),
    ("C1", false, |m| {
        let id = "0123456789abcdef".parse().expect("a build");
        let build = Build { id, version: "2.14".into(), platform: "i386-pc".into(), sha256: "none".into(), later: Default::default() };
        let update = Update { build, stage: Stage::Try, old_core: None, switched_in: None, later: Default::default() };
        document::save(&m.layout().document(layout::GRUB), &Loader { update: Some(update), ..Loader::default() }).expect("saved");
    }),
    ("C2", false, |m| care::save(&m.layout(), &care::Care { damaged: true, ..care::Care::default() }).expect("saved")),
];

/// A machine with a good deployment that has another one behind it.
fn machine() -> Machine1 {
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let (plan, _) = locked.plan_new("one").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let (plan, _) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    drop(locked);
    write(&machine.layout().deployment_well(d(1)), "1\n");
    write(&machine.root.join("boot/grub/grub.cfg"), "# of the installer\n");
    drop(machine.lock());
    machine
}

#[test]
fn doctor_finds_each_broken_rule_by_its_number_and_mends_what_it_says() {
    if skipped() {
        return;
    }
    for (promise, mends, damage) in BREAKS {
        let machine = machine();
        // The roots of these machines hold no system, which S12 says of each of them.
        let before = wrong(&machine, false).0;
        assert!(before.iter().all(|(of, _)| of == "S12"), "of a healthy machine: {before:?}");
        damage(&machine);
        let state = machine.on_disk();
        let (found, code) = wrong(&machine, false);
        let new: BTreeSet<_> = found.difference(&before).cloned().collect();
        assert!(!holds(&new, promise), "{promise} is not found: {new:?}");
        assert_eq!(code, 5, "{promise}");
        assert_eq!(machine.on_disk(), state, "{promise}: a look changed something");
        drop(wrong(&machine, true));
        let after: BTreeSet<_> = wrong(&machine, false).0.difference(&before).cloned().collect();
        assert_eq!(holds(&after, promise), *mends, "{promise} after --fix: {after:?}");
    }
}

#[test]
fn b9_what_the_start_had_to_do_to_the_disk_is_in_status() {
    if skipped() {
        return;
    }
    let machine = machine();
    let status = |more: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_ast")).args(more).arg("--sysroot").arg(&machine.root).arg("status").output().expect("ast");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert!(!status(&[]).contains("disk  "), "{}", status(&[]));
    machine.booted("d=2\nwhy=good\ndisk=/dev/x: mounted read-only\ndisk=a \u{1b}[31mline\n");
    let text = status(&[]);
    assert!(text.contains("disk       /dev/x: mounted read-only\n") && !text.contains('\u{1b}'), "{text}");
    let said: serde_json::Value = serde_json::from_str(&status(&["--json"])).expect("a document");
    assert_eq!(said["disk"][0], "/dev/x: mounted read-only", "{said}");
}

#[test]
fn b12_doctor_proves_that_the_block_can_be_written_by_writing_what_it_says() {
    if skipped() {
        return;
    }
    for block in [Block::Local, Block::Raw] {
        let machine = Machine1::new(block.clone());
        drop(machine.lock());
        let before = machine.store().copies().expect("copies");
        assert!(holds(&wrong(&machine, false).0, "B12"), "{block:?}");
        let after = machine.store().copies().expect("copies");
        assert_eq!((before.a.ok(), before.b.ok()), (after.a.ok(), after.b.ok()), "{block:?}");
        if block != Block::Local {
            continue;
        }
        // A medium that takes no write: the kernel refuses even root.
        let path = machine.layout().document(layout::LOCAL_BLOCK);
        let attribute = |change: &str| assert!(Command::new("chattr").arg(change).arg(&path).status().expect("chattr").success());
        attribute("+i");
        let (found, code) = wrong(&machine, false);
        attribute("-i");
        assert!(!holds(&found, "B12") && holds(&found, "S4") && code == 5, "{found:?}");
        // Somebody else at work: what they write is not written over.
        let _held = machine.lock();
        assert!(!holds(&wrong(&machine, false).0, "B12"));
    }
}

#[test]
fn every_rule_of_the_doctor_says_what_it_is_for() {
    let all: Vec<&str> = ast::doctor::CHECKS.iter().map(|check| check.promise).collect();
    let promised: Vec<String> =
        (1..=14).map(|n| format!("S{n}")).chain(["R3", "B7", "B9", "B12", "B16", "C1", "C1", "C2"].map(str::to_owned)).collect();
    assert_eq!(all, promised);
    for check in ast::doctor::CHECKS {
        assert!(!check.rule.is_empty() && !check.why.is_empty() && !check.fix.is_empty(), "{check:?}");
    }
}
