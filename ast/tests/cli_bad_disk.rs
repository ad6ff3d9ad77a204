//! A disk that begins to fail (S10): every verb says so and names the object, the exit code is that of a failing world, and when the disk is
//! well again the machine is what it was, or what the verb had made of it, whole.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ast::boot::block::BootBlock;
use ast::deploy::{self, Etc, How};
use ast::store::machine::Block;
use ast::tree::Tree;
use ast::volumes;
use common::*;

/// How long its two servers may take to begin.
const BEGIN: Duration = Duration::from_secs(20);

/// A file that is the disk in another one, until it is told to fail: nbdkit answers with EIO as long as a certain file exists, and QEMU shows it as a file.
struct BadDisk {
    servers: Vec<Child>,
    dir: tempfile::TempDir,
}

impl BadDisk {
    fn over(image: &Path) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let at = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let (socket, disk) = (at("socket"), at("disk"));
        std::fs::write(&disk, "").expect("a place");
        let mut nbdkit = server("nbdkit");
        nbdkit.args(["--foreground", "--unix", &socket, "--filter=error", "file", &image.to_string_lossy(), "error=EIO"]);
        for (request, when) in [("pwrite", "no-writes"), ("zero", "no-writes"), ("trim", "no-writes"), ("pread", "no-reads")] {
            nbdkit.args([format!("error-{request}-rate=100%"), format!("error-{request}-file={}", at(when))]);
        }
        let mut bad = Self { servers: vec![nbdkit.spawn().expect("nbdkit is installed")], dir };
        wait_until(|| Path::new(&socket).exists());
        let before = std::fs::metadata(&disk).expect("a place").dev();
        let mut daemon = server("qemu-storage-daemon");
        daemon.args(["--blockdev", &format!("driver=nbd,node-name=disk,server.type=unix,server.path={socket}")]);
        daemon.args(["--export", &format!("type=fuse,id=export,node-name=disk,mountpoint={disk},writable=on,allow-other=off")]);
        bad.servers.push(daemon.spawn().expect("qemu-storage-daemon is installed"));
        wait_until(|| std::fs::metadata(&disk).is_ok_and(|m| m.dev() != before));
        bad
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("disk")
    }

    /// From now on every request of this kind fails.
    fn fails(&self, when: &str) {
        std::fs::write(self.dir.path().join(when), "").expect("written");
    }

    fn is_well(&self) {
        for when in ["no-writes", "no-reads"] {
            std::fs::remove_file(self.dir.path().join(when)).ok();
        }
    }
}

impl Drop for BadDisk {
    fn drop(&mut self) {
        // Who shows the file first: then it is no mount any more, and its directory can go.
        for mut server in self.servers.drain(..).rev() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(server.id()).expect("a pid"));
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
            server.wait().ok();
        }
    }
}

/// A program that ends with this thread.
fn server(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", program]).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn wait_until(there: impl Fn() -> bool) {
    let deadline = Instant::now() + BEGIN;
    while !there() {
        assert!(Instant::now() < deadline, "a server of the disk does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A machine with snapshots 1 and 2 and deployment 2 of the first one, on a disk that can fail.
fn machine() -> (BadDisk, Machine1) {
    let mut bad = None;
    let machine = Machine1::behind(Block::Raw, |image| bad.insert(BadDisk::over(image)).disk());
    for description in ["one", "two"] {
        ok(&machine, &["new", description]);
    }
    let mut locked = machine.lock();
    let (plan, _) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    drop(locked);
    (bad.expect("a disk"), machine)
}

/// The commits.
fn state(machine: &Machine1) -> (Tree, BootBlock) {
    let store = machine.store();
    (store.tree().expect("a tree").clone(), store.block().expect("a block"))
}

/// Everything that tree and block name is there, and a repair finds nothing else that is wrong.
fn assert_whole(machine: &Machine1, when: &str) {
    let layout = machine.layout();
    let (tree, block) = state(machine);
    assert!(tree.nodes().all(|node| volumes::is_whole_set(&layout, node.set())), "{when}: a set is not whole");
    for d in [Some(block.good), block.prev].into_iter().flatten() {
        assert!(volumes::is_whole_deployment(&layout, d), "{when}: deployment {d} is not whole");
    }
    let locked = machine.lock();
    assert!(locked.repaired().problems.is_empty(), "{when}: {:?}", locked.repaired().problems);
    drop(locked);
    assert_eq!(state(machine), (tree, block), "{when}: repair changed what is committed");
}

/// It names what it is about and why, at the end or where the repair at the start says what it could not do.
fn assert_told(said: &Said, when: &str) {
    assert_eq!(said.code, 1, "{when}: {said:?}");
    let names = |line: &str| [".snapshots", "/dev/loop", "boot/grub"].iter().any(|object| line.contains(object));
    let reasons = |line: &str| ["Input/output error", "Read-only file system"].iter().any(|why| line.contains(why));
    assert!(said.err.lines().any(|line| names(line) && reasons(line)), "{when} names nothing, or gives no reason: {}", said.err);
    assert!(said.err.lines().any(|line| line.starts_with("ast: ")), "{when} does not say that it failed: {}", said.err);
    assert!(!said.err.contains("panicked"), "{when}: {}", said.err);
}

/// What changes something; `del 2` comes last.
const VERBS: [&[&str]; 7] = [
    &["new", "three"],
    &["branch", "1"],
    &["clone-tree", "1"],
    &["desc", "1", "described"],
    &["pin", "1"],
    &["rollback", "--previous"],
    &["del", "2"],
];

#[test]
fn s10_a_disk_that_refuses_writes_is_told_and_nothing_has_changed() {
    if skipped() {
        return;
    }
    let (bad, mut machine) = machine();
    for verb in VERBS {
        machine.plug_again();
        let before = state(&machine);
        let words = [&["--yes"], verb].concat();
        bad.fails("no-writes");
        let said = ast(&machine, &words);
        eprintln!("{verb:?}: {}", said.err.trim());
        assert_told(&said, &format!("{verb:?}"));
        assert_eq!(state(&machine), before, "{verb:?} changed something");
        // A second one finds the disk as bad.
        assert_told(&ast(&machine, &words), &format!("{verb:?} again"));
        machine.unplug();
        bad.is_well();
        machine.plug();
        assert_eq!(state(&machine), before, "{verb:?} changed something on disk");
        assert_whole(&machine, &format!("{verb:?}"));
        ok(&machine, &words);
        assert_ne!(state(&machine), before, "{verb:?} does nothing");
    }
}

#[test]
fn s10_a_disk_that_fails_while_a_verb_is_at_work_leaves_old_or_new() {
    if skipped() {
        return;
    }
    let (bad, mut machine) = machine();
    let (mut old, mut new) = (0, 0);
    // Longer and longer, until one is done before the disk fails.
    for milliseconds in (0..40).map(|n| n * 5) {
        machine.plug_again();
        let before = state(&machine);
        let mut verb = command(&machine, &["branch", "1"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ast");
        std::thread::sleep(Duration::from_millis(milliseconds));
        let ended = verb.try_wait().expect("asked").is_some();
        bad.fails("no-writes");
        let out = verb.wait_with_output().expect("ended");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let when = format!("branch after {milliseconds} ms ({:?}: {said})", out.status.code());
        machine.unplug();
        bad.is_well();
        machine.plug();
        let changed = state(&machine) != before;
        match out.status.code() {
            // Told as done: then it is, and also what follows from it is or will be.
            Some(0 | 5) => assert!(changed, "{when}: lost"),
            Some(1) => assert!(said.contains("Input/output error") || said.contains("Read-only file system"), "{when}"),
            _ => panic!("{when}"),
        }
        (old, new) = if changed { (old, new + 1) } else { (old + 1, new) };
        assert_whole(&machine, &when);
        if ended {
            break;
        }
    }
    eprintln!("{old} times old, {new} times new");
    assert!(old > 0 && new > 0, "{old} old, {new} new");
}

#[test]
fn s10_a_disk_that_refuses_reads_is_told() {
    if skipped() {
        return;
    }
    let (bad, mut machine) = machine();
    // So much that the document of the tree lies beside the metadata, which is in memory from the mount on.
    for _ in 0..8 {
        ok(&machine, &["new", &"a long description ".repeat(10)]);
    }
    let before = state(&machine);
    for words in [&["tree"][..], &["info", "1"], &["status"], &["--yes", "branch", "1"], &["--yes", "rollback", "--previous"]] {
        machine.plug_again();
        bad.fails("no-reads");
        // Not that it is not there: whatever is made anew of what is there would go without it.
        let whole = volumes::whole_set(&machine.layout(), set("2.1"));
        assert!(whole.is_err(), "{whole:?}");
        let said = ast(&machine, words);
        eprintln!("{words:?}: {}", said.err.trim());
        match words {
            // What can be told is, and what cannot is told, too.
            ["status"] => assert!(
                said.code == 0 && said.out.lines().any(|line| line.starts_with("problem") && line.contains("tree.json: Input/output error")),
                "{said:?}"
            ),
            _ => assert_told(&said, &format!("{words:?}")),
        }
        machine.unplug();
        bad.is_well();
        machine.plug();
        assert_eq!(state(&machine), before, "{words:?}");
        assert_whole(&machine, &format!("{words:?}"));
    }
}
