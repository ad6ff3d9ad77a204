//! Bad input, for every verb: the exit code of the contract, a message that names what is wrong, and nothing changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::process::Command;

use ast::deploy::{self, Etc, How};
use ast::layout;
use ast::store::machine::Block;
use common::*;

/// Every verb that takes a snapshot; `@` is where its number stands. What follows is well formed.
const WITH_SNAPSHOT: &[&[&str]] = &[
    &["info", "@"],
    &["desc", "@", "text"],
    &["clone", "@"],
    &["clone-tree", "@"],
    &["branch", "@"],
    &["cbranch", "@"],
    &["ubranch", "@", "1"],
    &["ubranch", "1", "@"],
    &["del", "@"],
    &["pin", "@"],
    &["unpin", "@"],
    &["install", "@", "hello"],
    &["remove", "@", "hello"],
    &["upgrade", "@"],
    &["sync", "@"],
    &["force-sync", "@"],
    &["refresh", "@"],
    &["tree-rmpkg", "@", "hello"],
    &["tree-upgrade", "@"],
    &["list", "@"],
    &["run", "@", "true"],
    &["tree-run", "@", "true"],
    &["chroot", "@"],
    &["unlock", "@"],
    &["edit-conf", "@"],
    &["deploy", "@"],
    &["rollback", "@"],
    &["export", "@", "/nowhere/at/all"],
];

/// Words that are no number of a snapshot: usage.
const NO_NUMBERS: &[&str] =
    &["", " ", "x", "1.5", "0x1", "+1", "1e3", "99999999999999999999", "../1", "1\n2", "1;reboot", "$(id)", "`id`", "１", "1 2", "\u{7f}", "%s"];

/// Verbs that base 0 is not for.
const NOT_THE_BASE: &[&[&str]] = &[
    &["del", "0"],
    &["install", "0", "hello"],
    &["remove", "0", "hello"],
    &["upgrade", "0"],
    &["run", "0", "true"],
    &["chroot", "0"],
    &["edit-conf", "0"],
];

/// Names that are no packages: usage, and nothing reaches pacman.
const NO_PACKAGES: &[&str] = &["", "-Rdd", "--config=/x", "a b", "a\nb", "$(reboot)", "../../x", "a;b", "a`b`", "ü", "a'b", "a\"b", "a|b", "a&b", "/etc/passwd"];

/// Words that do not make a command: usage.
const NO_COMMANDS: &[&[&str]] = &[
    &[],
    &["nonsense"],
    &["tree", "extra"],
    &["current", "1"],
    &["status", "x"],
    &["desc", "1"],
    &["clone"],
    &["clone", "1", "2"],
    &["ubranch", "1"],
    &["del"],
    &["install", "1"],
    &["remove", "1"],
    &["run", "1"],
    &["tree-run", "1"],
    &["deploy"],
    &["deploy", "1", "--once", "--no-trial"],
    &["rollback", "1", "--previous"],
    &["rollback", "--with-var=x"],
    &["export", "1"],
    &["import"],
    &["clean", "--keep", "many"],
    &["clean", "--keep", "-1"],
    &["help", "nonsense"],
    &["completions", "powershell"],
    &["completions"],
    &["--sysroot"],
    &["--nonsense", "tree"],
    &["tree", "--nonsense"],
    &["doctor", "--mend"],
    &["history", "x"],
    &["pin", "1", "2"],
];

fn ast_os(machine: &Machine1, words: &[OsString]) -> Said {
    Said::of(command(machine, words).env("EDITOR", "true"))
}

fn ast(machine: &Machine1, words: &[&str]) -> Said {
    ast_os(machine, &words.iter().map(OsString::from).collect::<Vec<_>>())
}

/// What must not change: subvolumes, documents but for the history of repairs, boot block.
fn state(machine: &Machine1) -> String {
    let documents = [layout::TREE, layout::MACHINE, layout::NUMBERS].map(|name| machine.layout().document(name));
    let texts = documents.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect::<Vec<_>>();
    format!("{:?} {texts:?} {:?}", machine.on_disk(), machine.store().block().ok())
}

/// A row: words, the exit codes that are right, and what the message has to name.
fn row(machine: &Machine1, before: &str, words: &[&str], codes: &[i32], names: &str) {
    let said = ast(machine, words);
    assert!(codes.contains(&said.code), "ast {words:?}: {} instead of {codes:?}\n{}{}", said.code, said.out, said.err);
    assert!(said.err.contains(names), "ast {words:?} does not name {names:?}: {}", said.err);
    assert!(!said.err.contains("os error") || said.err.contains("cannot"), "ast {words:?} says a bare errno: {}", said.err);
    assert!(!said.err.contains("panicked") && !said.err.contains("RUST_BACKTRACE"), "ast {words:?}: {}", said.err);
    assert_eq!(state(machine), before, "ast {words:?} changed something: {}{}", said.out, said.err);
}

fn with<'a>(words: &[&'a str], snapshot: &'a str) -> Vec<&'a str> {
    words.iter().map(|word| if *word == "@" { snapshot } else { word }).collect()
}

/// Snapshots 0, 1 and 2 below 1; deployment 1 of the base boots.
fn machine() -> Machine1 {
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let (plan, _) = locked.plan_new("one").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let (plan, _) = locked.plan_branch(n(1), "two").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    drop(locked);
    machine
}

#[test]
fn r7_at_least_three_hundred_rows_of_bad_words_change_nothing() {
    if skipped() {
        return;
    }
    let machine = machine();
    let before = state(&machine);
    let mut rows = 0;
    let mut check = |words: &[&str], codes: &[i32], names: &str| {
        row(&machine, &before, words, codes, names);
        rows += 1;
    };
    for words in WITH_SNAPSHOT {
        for bad in NO_NUMBERS {
            check(&with(words, bad), &[2], "");
        }
        // An unknown one is refused, and named; `--yes` answers no rule.
        check(&with(words, "77"), &[3], "77");
        check(&[&["--yes"], with(words, "4294967295").as_slice()].concat(), &[3], "4294967295");
        check(&[&["--dry-run"], with(words, "77").as_slice()].concat(), &[3], "77");
        check(&[&["--json"], with(words, "77").as_slice()].concat(), &[3], "77");
    }
    for words in NOT_THE_BASE {
        check(words, &[3], "0");
    }
    for bad in NO_PACKAGES {
        for verb in ["install", "remove", "tree-rmpkg"] {
            check(&[verb, "1", "--", bad], &[2], "");
        }
    }
    for words in NO_COMMANDS {
        check(words, &[2], "");
    }
    assert!(rows >= 300, "{rows} rows");
    eprintln!("{rows} rows");
}

#[test]
fn r7_hostile_texts_are_kept_as_text() {
    if skipped() {
        return;
    }
    let machine = machine();
    let long = "x".repeat(10_000);
    let texts = ["a\nb", "\u{1b}[31mred", "'; reboot; '", "\"$(reboot)\"", "../../etc", "${ast_good}", "}\nmenuentry x {", "\u{202e}desrever", &long];
    for text in texts {
        let said = ast(&machine, &["desc", "1", "--", text]);
        assert_eq!(said.code, 0, "{text:?}: {}", said.err);
        let drawn = ast(&machine, &["tree"]).out;
        assert_eq!(drawn.lines().count(), 4, "{text:?} breaks the tree:\n{drawn}");
        assert!(!drawn.contains('\u{1b}'), "{text:?} drives the terminal");
        let menu = std::fs::read_to_string(machine.root.join("boot/grub/ast/snapshots.cfg")).expect("menu");
        assert_eq!(menu.lines().count(), 3, "{text:?} breaks the menu:\n{menu}");
        assert!(menu.lines().all(|line| line.starts_with("ast_")), "{text:?}:\n{menu}");
    }
    // No text at all: a word that is no UTF-8.
    let bytes = OsString::from_vec(vec![b'a', 0xff, b'b']);
    let before = state(&machine);
    for words in [vec!["desc".into(), "1".into(), bytes.clone()], vec!["clone".into(), bytes.clone()], vec![bytes.clone()], vec!["install".into(), "1".into(), bytes]] {
        let said = ast_os(&machine, &words);
        assert_eq!(said.code, 2, "{words:?}: {}", said.err);
    }
    assert_eq!(state(&machine), before);
}

#[test]
fn s14_what_is_needed_is_refused_by_every_verb_that_deletes_and_named() {
    if skipped() {
        return;
    }
    let machine = machine();
    let mut locked = machine.lock();
    let (plan, _) = deploy::plan_deploy(&locked, n(2), How::Trial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let plan = locked.plan_pin(n(1), true).expect("a plan").expect("needed");
    drop(locked.run(plan).expect("committed"));
    drop(locked);
    machine.booted("d=1\nset=0.1\nwhy=good\narm=0\nleft=0\nenv=ok\n");
    drop(machine.lock());
    let before = state(&machine);
    row(&machine, &before, &["--yes", "del", "2"], &[3], "on trial");
    row(&machine, &before, &["--yes", "del", "1"], &[3], "pinned");
    row(&machine, &before, &["--yes", "del", "0"], &[3], "0");
    // Without a terminal nobody can be asked.
    let machine = self::machine();
    let before = state(&machine);
    row(&machine, &before, &["del", "2"], &[3], "--yes");
}

#[test]
fn s3_broken_documents_are_named_and_nothing_is_made_of_them() {
    if skipped() {
        return;
    }
    for (name, text) in [(layout::TREE, ""), (layout::TREE, "{"), (layout::TREE, "null"), (layout::MACHINE, "{}"), (layout::NUMBERS, "garbage")] {
        let machine = machine();
        let path = machine.layout().document(name);
        for broken in [path.clone(), ast::sys::file::old_copy(&path).expect("older")] {
            write(&broken, text);
        }
        let disk = machine.on_disk();
        for verb in [&["clone", "0"][..], &["--yes", "del", "2"], &["deploy", "1"], &["tree"], &["status"], &["doctor"]] {
            let said = ast(&machine, verb);
            assert!([0, 1, 5].contains(&said.code), "{name} {text:?} {verb:?}: {} {}", said.code, said.err);
            assert!(!said.err.contains("bug"), "{name} {text:?} {verb:?}: {}", said.err);
        }
        // Nothing that was there is gone (S2): what is new is a clone or a deployment.
        let now = machine.on_disk();
        let gone: Vec<_> = disk.iter().filter(|what| !now.contains(what) && *what != "set 2.1").collect();
        assert!(gone.is_empty(), "{name} {text:?}: {gone:?} is gone");
    }
}

#[test]
fn s10_a_disk_that_takes_no_write_is_told_and_nothing_is_lost() {
    if skipped() {
        return;
    }
    let machine = machine();
    let before = state(&machine);
    let remount = |how: &str| {
        for at in [".snapshots", "boot", "var"] {
            let status = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(machine.root.join(at)).status().expect("mount");
            assert!(status.success());
        }
    };
    remount("ro");
    for verb in [&["clone", "0"][..], &["new"], &["desc", "1", "x"], &["--yes", "del", "2"], &["deploy", "1"], &["pin", "1"], &["run", "1", "true"]] {
        let said = ast(&machine, verb);
        assert_eq!(said.code, 1, "{verb:?}: {}{}", said.out, said.err);
        assert!(said.err.contains("Read-only file system"), "{verb:?}: {}", said.err);
    }
    for verb in [&["tree"][..], &["status"], &["info", "1"], &["history"]] {
        let said = ast(&machine, verb);
        assert!([0, 5].contains(&said.code), "{verb:?}: {}", said.err);
    }
    remount("rw");
    assert_eq!(state(&machine), before);
    assert_eq!(ast(&machine, &["clone", "0"]).code, 0);
}
