//! `ast tree-run` against a real tree: which snapshots are visited in which order, and what a failure, a kill and hostile words leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ast::layout::{MOUNT_POINTS, PACMAN_DB, Part};
use ast::store::machine::Block;
use ast::sys::{btrfs, file};
use common::{Machine1, Said, command, n, set, skipped};

/// A machine whose snapshots hold busybox, with the trees `1 → (2 → 4, 3 → 5)` and `6`.
fn machine() -> Machine1 {
    let machine = Machine1::new(Block::Local);
    let root = machine.layout().set_part(set("0.1"), Part::Root);
    btrfs::set_read_only(&root, false).expect("opened");
    for dir in MOUNT_POINTS.into_iter().chain(["usr/bin", PACMAN_DB]) {
        std::fs::create_dir_all(root.join(dir)).expect("dir");
    }
    std::fs::copy("/bin/busybox", root.join("usr/bin/busybox")).expect("busybox-static is installed");
    for name in ["sh", "touch", "sleep", "printf", "cat"] {
        std::os::unix::fs::symlink("busybox", root.join("usr/bin").join(name)).expect("link");
    }
    std::fs::write(root.join("usr/state"), "old").expect("state");
    btrfs::set_read_only(&root, true).expect("sealed");
    for words in [["clone", "0"], ["branch", "1"], ["branch", "1"], ["branch", "2"], ["branch", "3"], ["clone", "0"]] {
        let (code, _, err) = ast(&machine, &words);
        assert_eq!(code, 0, "{err}");
    }
    machine
}

/// Exit code, output, and what was said beside it.
fn ast(machine: &Machine1, words: &[&str]) -> (i32, String, String) {
    let Said { code, out, err } = common::ast(machine, words);
    (code, out, err)
}

/// The rows of a document: snapshot and result.
fn rows(document: &str) -> Vec<(u64, String)> {
    let json: serde_json::Value = serde_json::from_str(document).expect("one document");
    let row = |row: &serde_json::Value| (row["snapshot"].as_u64().expect("a number"), row["result"].as_str().expect("a word").to_owned());
    json["rows"].as_array().expect("rows").iter().map(row).collect()
}

/// A file in the root of a snapshot as it is now; empty when it is not there.
fn file_of(machine: &Machine1, snapshot: u32, path: &str) -> String {
    let set = machine.store().set_of(n(snapshot)).expect("whole");
    std::fs::read_to_string(machine.layout().set_part(set, Part::Root).join(path)).unwrap_or_default()
}

fn copies(machine: &Machine1) -> usize {
    file::names(&machine.layout().work()).expect("list").len()
}

fn saved(ids: &[u64]) -> Vec<(u64, String)> {
    ids.iter().map(|id| (*id, "saved".to_owned())).collect()
}

#[test]
fn s11_every_snapshot_below_has_its_turn_once_and_parents_first() {
    if skipped() {
        return;
    }
    let machine = machine();
    let (code, out, err) = ast(&machine, &["--json", "tree-run", "1", "sh", "-c", "echo turn >> /usr/log; echo said"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(rows(&out), saved(&[1, 2, 4, 3, 5]));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).expect("JSON")["rows"][2]["stdout"], "said\n");
    let log = |id| file_of(&machine, id, "usr/log");
    assert_eq!([0, 1, 2, 3, 4, 5, 6].map(log), ["", "turn\n", "turn\n", "turn\n", "turn\n", "turn\n", ""]);
    // A part of the tree, by the other name, in words.
    let (code, out, err) = ast(&machine, &["trun", "3", "touch", "/usr/below-3"]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(out, "snapshot  result   what\n3         saved\n5         saved\n");
    assert_eq!(copies(&machine), 0);
    assert!(ast(&machine, &["history"]).1.contains("run touch /usr/below-3 in snapshot 5: 5.2 becomes 5.3"));
}

#[test]
fn a_snapshot_where_it_fails_is_as_it_was_and_the_others_go_on() {
    if skipped() {
        return;
    }
    let machine = machine();
    assert_eq!(ast(&machine, &["run", "2", "touch", "/usr/bad"]).0, 0);
    let before = machine.store().set_of(n(2)).expect("a set");
    let (code, out, err) = ast(&machine, &["tree-run", "1", "sh", "-c", "echo new > /usr/state; ! [ -e /usr/bad ] || exit 7"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("snapshot 2: sh -c") && err.contains("exit status: 7") && err.contains("1 of 5 snapshots failed"), "{err}");
    let lines: Vec<&str> = out.lines().map(|line| line.trim_end()).collect();
    assert_eq!(lines.len(), 6, "{out}");
    assert!(lines[2].starts_with("2         failed   sh -c"), "{out}");
    assert!(lines[3].starts_with("4         saved"), "{out}");
    assert_eq!(machine.store().set_of(n(2)).expect("a set"), before, "it was saved");
    assert_eq!([1, 2, 3, 4, 5].map(|id| file_of(&machine, id, "usr/state").trim().to_owned()), ["new", "old", "new", "new", "new"]);
    assert_eq!(copies(&machine), 0);
    // A program that one of them lacks is the same for the others.
    let (code, out, err) = ast(&machine, &["--json", "tree-run", "2", "no-such-program"]);
    assert_eq!((code, rows(&out).len()), (1, 2), "{err}");
    assert!(out.contains("no such command"), "{out}");
    // Who interrupts one means all.
    let sets = machine.on_disk();
    let (code, out, err) = ast(&machine, &["tree-run", "3", "sh", "-c", "kill -INT $$; sleep 60"]);
    assert!(code == 1 && out.contains("3         failed   sh -c") && out.contains("5         failed   not begun"), "{out}{err}");
    assert_eq!(machine.on_disk(), sets);
}

#[test]
fn r1_no_shell_is_between_the_words_and_the_command_of_a_tree() {
    if skipped() {
        return;
    }
    let machine = machine();
    let host = std::env::temp_dir().join(format!("ast-r1-tree-{}", std::process::id()));
    let (code, _, err) = ast(&machine, &["tree-run", "1", &format!("touch /usr/a && touch {}", host.display())]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("no such command") && !host.exists(), "{err}");
    let words = ["a && touch /hacked", "; touch /hacked", "$(touch /hacked)", "two\nlines"];
    let (code, out, err) = ast(&machine, &[&["--json", "tree-run", "3", "printf", "%s."][..], &words].concat());
    assert_eq!(code, 0, "{err}");
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["rows"][1]["stdout"].as_str(), Some(words.map(|w| format!("{w}.")).concat().as_str()));
    assert!(file_of(&machine, 5, "hacked").is_empty() && !std::path::Path::new("/hacked").exists());
}

#[test]
fn what_is_refused_is_refused_before_the_first_snapshot() {
    if skipped() {
        return;
    }
    let machine = machine();
    assert_eq!(ast(&machine, &["branch", "0"]).0, 0);
    let before = (machine.on_disk(), ast(&machine, &["--json", "tree"]).1);
    // words, exit code, what the message names
    let table: &[(&[&str], i32, &str)] = &[
        (&["tree-run"], 2, "TREE"),
        (&["tree-run", "1"], 2, "COMMAND"),
        (&["tree-run", "one", "true"], 2, "one"),
        (&["tree-run", "9", "true"], 3, "9"),
        (&["tree-run", "0", "true"], 3, "`ast tree-run 7`"),
        (&["trun", "0", "true"], 3, "base"),
        (&["tree-run", "1", ""], 2, "empty"),
        (&["tree-upgrade"], 2, "TREE"),
        (&["tree-upgrade", "0"], 3, "`ast base-update`"),
        (&["tupgrade", "9"], 3, "9"),
        (&["tree-rmpkg", "1"], 2, "PACKAGE"),
        (&["tree-rmpkg", "0", "hello"], 3, "base"),
        (&["tremove", "9", "hello"], 3, "9"),
        (&["tree-rmpkg", "1", "a b"], 2, "a b"),
        (&["tree-rmpkg", "1", "hello", "$(reboot)"], 2, "$(reboot)"),
        (&["sync", "0"], 3, "base"),
        (&["fsync", "9"], 3, "9"),
        (&["refresh", "0"], 3, "base"),
        (&["refresh", "9"], 3, "9"),
        (&["install", "1"], 2, "PACKAGE"),
        (&["install", "1", "-P", "/no/such/profile"], 1, "/no/such/profile"),
        (&["install", "1", "-P", "/bin/busybox"], 2, "/bin/busybox line 1"),
        (&["which"], 2, "PACKAGE"),
        (&["which", "a b"], 2, "a b"),
        // There are no lists of packages on this machine.
        (&["which", "hello"], 5, "0, 7, 1, 2"),
        (&["diff", "1"], 2, "<B>"),
        (&["diff", "1", "9"], 3, "9"),
        (&["diff", "9", "1", "--etc"], 3, "9"),
        (&["diff", "1", "2"], 1, "ALPM_DB_VERSION"),
    ];
    for (words, code, names) in table {
        let (found, out, err) = ast(&machine, words);
        assert_eq!(found, *code, "ast {words:?}: {out}{err}");
        assert!(err.contains(names), "ast {words:?} does not name {names:?}: {err}");
    }
    let (code, out, _) = ast(&machine, &["--dry-run", "tree-run", "2", "touch", "/usr/x"]);
    assert!(code == 0 && out.matches("  * seal it as the next generation").count() == 2, "{out}");
    let held = machine.lock();
    assert_eq!(ast(&machine, &["tree-run", "1", "true"]).0, 4);
    drop(held);
    assert_eq!((machine.on_disk(), ast(&machine, &["--json", "tree"]).1), before);
}

#[test]
fn s1_a_signal_in_the_middle_leaves_each_snapshot_old_or_new() {
    if skipped() {
        return;
    }
    let machine = machine();
    assert_eq!(ast(&machine, &["run", "4", "touch", "/usr/slow"]).0, 0);
    for (round, signal) in ["TERM", "KILL", "INT"].into_iter().enumerate() {
        let script = format!("echo {round} > /usr/state; touch /usr/begun-{round}; ! [ -e /usr/slow ] || sleep 575{round}");
        let mut child =
            command(&machine, &["tree-run", "1", "sh", "-c", &script]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("ast");
        let begun = Instant::now();
        // In the third of five, at the command.
        let slow = |name: &std::ffi::OsString| {
            let root = machine.layout().work().join(name).join("root/usr");
            root.join("slow").exists() && root.join(format!("begun-{round}")).exists()
        };
        while !file::names(&machine.layout().work()).expect("list").iter().any(slow) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it did not come to the third");
            std::thread::sleep(Duration::from_millis(20));
        }
        let killed = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status();
        assert!(killed.expect("kill").success());
        assert!(child.wait().expect("dead").signal().is_some());
        while is_running(&format!("575{round}")) {
            assert!(begun.elapsed() < Duration::from_secs(90), "its command outlived it");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(ast(&machine, &["desc", "6", "the next command repairs"]).0, 0);
        let (round, old) = (round.to_string(), "old".to_owned());
        let state = [1, 2, 4, 3, 5].map(|id| file_of(&machine, id, "usr/state").trim().to_owned());
        assert_eq!(state, [round.clone(), round, old.clone(), old.clone(), old], "after SIG{signal}");
        assert_eq!(copies(&machine), 0, "after SIG{signal}");
    }
}

#[test]
fn s2_a_kill_at_every_step_leaves_each_snapshot_old_or_new() {
    if skipped() {
        return;
    }
    let machine = machine();
    let mut before = [3, 5].map(|id| file_of(&machine, id, "usr/state").trim().to_owned());
    let mut kinds = std::collections::BTreeSet::new();
    // The end is reached when a round is not killed any more.
    for at in 0.. {
        let word = format!("round-{at}");
        let mut command = command(&machine, &["-q", "tree-run", "3", "sh", "-c", &format!("printf {word} > /usr/state")]);
        let out = command.env("AST_STOP_AT", at.to_string()).output().expect("ast");
        // What the next command repairs is no part of what is looked at.
        drop(machine.lock());
        let state = [3, 5].map(|id| file_of(&machine, id, "usr/state").trim().to_owned());
        for (now, was) in state.iter().zip(&before) {
            assert!(*now == word || now == was, "stop point {at}: {state:?} after {before:?}");
        }
        assert!(state[0] == word || state[1] != word, "stop point {at}: the child came before its parent: {state:?}");
        assert_eq!(copies(&machine), 0, "stop point {at}");
        kinds.insert(state.iter().map(|s| *s == word).collect::<Vec<_>>());
        before = state;
        if out.status.success() {
            assert!(at > 20, "only {at} stop points");
            break;
        }
        assert_eq!(out.status.signal(), Some(9), "stop point {at}: {}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(kinds.len(), 3, "none, one and both new: {kinds:?}");
}

fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").expect("proc").flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).split('\0').any(|w| w.ends_with(word)))
    })
}
