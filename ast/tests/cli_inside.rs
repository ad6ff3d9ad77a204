//! `ast run` against a real tree: what is saved, what is thrown away, what a kill leaves, and that no shell is in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ast::layout::Part;
use ast::sys::file;
use common::{Machine1, n, set, skipped};

/// A machine whose snapshots hold busybox, with snapshot 1.
fn machine() -> Machine1 {
    Machine1::with_busybox()
}

fn command(machine: &Machine1, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ast"));
    command.arg("--sysroot").arg(&machine.root).args(words).env_remove("AST_LOG").stdin(Stdio::null());
    command
}

/// Exit code, and everything that was said.
fn ast(machine: &Machine1, words: &[&str]) -> (i32, String) {
    let out = command(machine, words).output().expect("ast");
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into())
}

/// A path in the root of snapshot 1 as it is now.
fn in_snapshot(machine: &Machine1, path: &str) -> PathBuf {
    machine.layout().set_part(machine.store().set_of(n(1)).expect("a set"), Part::Root).join(path)
}

fn copies(machine: &Machine1) -> usize {
    file::names(&machine.layout().work()).expect("list").len()
}

/// Started, and at the point where it has touched `/usr/started`.
fn started(machine: &Machine1, script: &str) -> Child {
    let child =
        command(machine, &["run", "1", "sh", "-c", &format!("touch /usr/started; {script}")]).stderr(Stdio::piped()).spawn().expect("ast");
    let begun = Instant::now();
    let is_there = || {
        let names = file::names(&machine.layout().work()).expect("list");
        names.iter().any(|name| machine.layout().work().join(name).join("root/usr/started").exists())
    };
    while !is_there() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it did not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

/// What only one snapshot has is what comes back when it is deleted; what it shares with its parent does not.
#[test]
fn info_tells_size_health_and_history() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    let info = |id: &str| -> serde_json::Value {
        let (code, said) = ast(&machine, &["--json", "info", id]);
        assert_eq!(code, 0, "{said}");
        serde_json::from_str(&said).expect("a document")
    };
    let busybox = std::fs::metadata("/bin/busybox").expect("busybox-static is installed").len();
    let stored = busybox.next_multiple_of(4096);
    assert_eq!((info("1")["exclusive"].as_u64(), info("1")["shared"].as_u64()), (Some(0), Some(stored)));
    assert_eq!(ast(&machine, &["run", "1", "sh", "-c", "cat /usr/bin/busybox > /usr/copy"]).0, 0);
    // The working copy shares it until the kernel has cleared that away.
    let begun = std::time::Instant::now();
    while info("1")["exclusive"].as_u64() != Some(stored) {
        assert!(begun.elapsed() < std::time::Duration::from_secs(120), "{}", info("1"));
        ast::sys::btrfs::commit(machine.layout().snapshots()).expect("committed");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!((info("1")["shared"].as_u64(), info("0")["exclusive"].as_u64()), (Some(stored), Some(0)));
    let told = info("1");
    assert!(told["history"][0]["what"].as_str().is_some_and(|what| what.starts_with("run sh") && what.ends_with("1.1 becomes 1.2")), "{told}");
    assert!(told["lacks"].as_array().is_some_and(|lacks| !lacks.is_empty()), "busybox alone boots nothing: {told}");
    let (_, text) = ast(&machine, &["info", "1"]);
    assert!(text.contains("health       would not boot: ") && text.contains("exclusive    ") && text.contains("1.1 becomes 1.2"), "{text}");
}

#[test]
fn r1_no_shell_is_between_the_words_and_the_command() {
    if skipped() {
        return;
    }
    let machine = machine();
    // The original ran the second half of this on the host, as root.
    let host = std::env::temp_dir().join(format!("ast-r1-{}", std::process::id()));
    let (code, said) = ast(&machine, &["run", "1", &format!("touch /usr/a && touch {}", host.display())]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no such command"), "{said}");
    assert!(!host.exists(), "it ran on the host");
    let (code, said) = ast(&machine, &["run", "1", "touch", "/usr/a;b", "/usr/$(c)"]);
    assert_eq!(code, 0, "{said}");
    assert!(in_snapshot(&machine, "usr/a;b").exists() && in_snapshot(&machine, "usr/$(c)").exists());
}

#[test]
fn status_0_saves_and_any_other_discards() {
    if skipped() {
        return;
    }
    let machine = machine();
    let before = machine.store().set_of(n(1)).expect("a set");
    let (code, said) = ast(&machine, &["run", "1", "sh", "-c", "touch /usr/lost; exit 3"]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(machine.store().set_of(n(1)).expect("a set"), before, "it was saved");
    assert_eq!(copies(&machine), 0);
    let (code, said) = ast(&machine, &["-vv", "run", "1", "touch", "/usr/kept"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("touch /usr/kept"), "-vv shows the command lines: {said}");
    assert!(in_snapshot(&machine, "usr/kept").exists() && !in_snapshot(&machine, "usr/lost").exists());
    assert_eq!(copies(&machine), 0);
    // The parent is as it was.
    assert!(!machine.layout().set_part(set("0.1"), Part::Root).join("usr/kept").exists());
}

#[test]
fn r2_a_killed_ast_leaves_garbage_that_the_next_one_clears() {
    if skipped() {
        return;
    }
    let machine = machine();
    let before = machine.store().set_of(n(1)).expect("a set");
    let mut child = started(&machine, "sleep 5757; touch /usr/late");
    // A live one is nobody's garbage (S7): another command repairs and leaves it alone.
    assert_eq!(ast(&machine, &["desc", "1", "meanwhile"]).0, 0);
    assert_eq!(copies(&machine), 1, "a live copy was cleared");
    child.kill().expect("killed");
    child.wait().expect("dead");
    let begun = Instant::now();
    while is_running("5757") {
        assert!(begun.elapsed() < Duration::from_secs(20), "its command outlived it");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, said) = ast(&machine, &["desc", "1", "afterwards"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(copies(&machine), 0, "{said}");
    assert_eq!(machine.store().set_of(n(1)).expect("a set"), before);
}

#[test]
fn who_saves_second_is_refused() {
    if skipped() {
        return;
    }
    let machine = machine();
    let first = started(&machine, "while ! [ -e /usr/go ]; do sleep 0.1; done");
    assert_eq!(ast(&machine, &["run", "1", "touch", "/usr/second"]).0, 0);
    let work = machine.layout().work();
    let name = file::names(&work).expect("list").pop().expect("the first one's copy");
    file::replace(&work.join(name).join("root/usr/go"), b"").expect("told");
    let out = first.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(3), "{said}");
    assert!(said.contains("was changed meanwhile"), "{said}");
    assert!(in_snapshot(&machine, "usr/second").exists());
    assert_eq!(copies(&machine), 0);
}

fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").expect("proc").flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).split('\0').any(|w| w == word))
    })
}
