//! Whole cycles of the real `ast-autoupdate` on the disk of an installed machine, natively: real pacman, real mirror, real btrfs.
//! Only what needs a running system (gate, restart) is left to the scenarios.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ast::boot::block::Mode;
use ast::deploy;
use ast::id::{ArmId, DeployId, SnapshotId};
use ast::layout::{self, Layout, Part};
use ast::store::{Store, document};
use ast::sys::btrfs;
use ast::sys::lock::Wait;
use ast::updates::{Cause, TrialResult, Updates};
use ast::{pacman, volumes};
use ast_tests::image::{self, Column};
use ast_tests::lab::http::Server;
use ast_tests::lab::repo::{self, State};

/// Output of a shell line that has to succeed.
fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-ec", line]).output().expect("sh");
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A mounted copy of a freshly installed disk, in a mount and network namespace of this test's thread, with its mirror.
struct Bed {
    program: PathBuf,
    cache: PathBuf,
    link: PathBuf,
    root: PathBuf,
    _mirror: Server,
    _dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let program = program();
        let cache = ast_tests::vm::cache_dir();
        let image = image::build(&cache, Column::Bios214Raw, State::V1).expect("an image");
        fs::create_dir_all(cache.join("run")).expect("dir");
        let dir = tempfile::Builder::new().prefix("cycle").tempdir_in(cache.join("run")).expect("dir");
        let disk = dir.path().join("disk.raw");
        sh(&format!("cp --sparse=always {} {}", image.display(), disk.display()));

        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWNET).expect("namespaces");
        ast::sys::mount::make_private().expect("private");
        sh("ip link set lo up");
        let device = attach(&disk);
        let root = dir.path().join("root");
        for (subvolume, at) in [("@.snapshots", ".snapshots"), ("@boot", "boot"), ("@var", "var"), ("@cache", "var/cache/pacman/pkg")] {
            let target = root.join(at);
            fs::create_dir_all(&target).expect("dir");
            sh(&format!("mount -o compress=zstd,subvol={subvolume} {device} {}", target.display()));
        }
        // From now on the last unmount frees it, and that comes with the end of the namespace.
        sh(&format!("losetup -d {device}"));
        fs::create_dir_all(root.join("run/ast")).expect("dir");
        let link = dir.path().join("mirror");
        repo::publish(&repo::build(&cache, State::V1).expect("v1"), &link).expect("published");
        let mirror = Server::start(&link).expect("a mirror");
        let bed = Self { program, cache, link, root, _mirror: mirror, _dir: dir };
        bed.use_mirror();
        bed.booted("d=1\nset=0.1\nwhy=good\nenv=ok\n");
        bed
    }

    /// The base asks the mirror of this namespace, and the installer's own packages are not in the way.
    fn use_mirror(&self) {
        let etc = self.layout().set_part("0.1".parse().expect("set"), Part::Etc);
        btrfs::set_read_only(&etc, false).expect("writable");
        fs::write(etc.join("pacman.d/mirrorlist"), format!("Server = http://127.0.0.1:{}\n", self._mirror.port())).expect("mirrorlist");
        btrfs::set_read_only(&etc, true).expect("read-only");
    }

    fn offer(&self, state: State) {
        repo::publish(&repo::build(&self.cache, state).expect("repository"), &self.link).expect("published");
    }

    fn booted(&self, record: &str) {
        fs::write(self.root.join("run/ast/booted"), record).expect("record");
    }

    fn layout(&self) -> Layout {
        Layout::of_sysroot(&self.root)
    }

    fn store(&self) -> Store {
        Store::open(&self.root).expect("a store")
    }

    fn updates(&self) -> Updates {
        ast::updates::load(&self.layout()).expect("a memory")
    }

    /// One cycle, killed at stop point `at` if given.
    fn run(&self, words: &[&str], at: Option<u32>) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("--sysroot").arg(&self.root).args(words).env("AST_STOP_SHOW", "1");
        if let Some(at) = at {
            command.env("AST_STOP_AT", at.to_string());
        }
        command.output().expect("ast-autoupdate")
    }

    fn cycle(&self) -> String {
        let out = self.run(&["run"], None);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{text}");
        text
    }

    /// Every subvolume of the disk, by its path.
    fn subvolumes(&self) -> Vec<String> {
        let listed = sh(&format!("btrfs subvolume list {} | sed 's/.* path //' | sort", self.layout().snapshots().display()));
        listed.lines().map(str::to_owned).collect()
    }

    /// The update to hello `version` is on trial, and nothing else was left by whatever happened before.
    fn assert_armed(&self, version: &str) -> DeployId {
        let store = self.store();
        let block = store.block().expect("a block");
        let trial = block.trial.expect("a trial");
        assert_eq!((block.good, trial.mode, trial.tries), (DeployId::new(1), Mode::Trial, 3));
        let nodes: Vec<_> = store.tree().expect("a tree").nodes().cloned().collect();
        assert_eq!(nodes.len(), 2, "{nodes:#?}");
        let new = &nodes[1];
        assert_eq!(new.parent, Some(SnapshotId::BASE));
        assert!(new.description.starts_with("update "), "{}", new.description);
        assert_eq!(volumes::sets(store.layout()).expect("sets"), ["0.1".parse().expect("set"), new.set()]);
        assert_eq!(volumes::deployments(store.layout()).expect("deployments"), [DeployId::new(1), trial.deployment]);
        assert_eq!(volumes::work_copies(store.layout()).expect("copies"), Vec::<String>::new());
        for (set, hello) in [(new.set(), version), ("0.1".parse().expect("set"), "1-1")] {
            let packages = pacman::installed(&store.layout().set_part(set, Part::Root)).expect("packages");
            assert_eq!(packages.version("hello"), Some(hello), "in {set}");
        }
        let state = self.updates().state;
        assert_eq!(state.arming(), Some((trial.deployment, block.arm)), "{state:?}");
        assert_eq!(state.name(), "awaiting-reboot");
        trial.deployment
    }

    /// As before the update: nothing on trial, only the base in the tree, no memory.
    fn reset(&self) {
        let mut store = self.store().lock(Wait::No).expect("locked");
        let block = store.boot_block().expect("block").clone();
        if let Some(trial) = block.trial {
            let plan = deploy::plan_fail_trial(&store, trial.deployment, block.arm, "reset").expect("planned").expect("a trial");
            drop(store.run(plan).expect("cleared"));
        }
        let others: Vec<_> = store.tree().expect("tree").nodes().map(|n| n.id).filter(|n| *n != SnapshotId::BASE).collect();
        for n in others {
            let (plan, _) = store.plan_del(n).expect("planned");
            drop(store.run(plan).expect("deleted"));
        }
        drop(store);
        for name in [layout::UPDATES.to_owned(), format!("{}.old", layout::UPDATES)] {
            fs::remove_file(self.layout().document(&name)).ok();
        }
        // The menu before the last one may still name what is gone: two repairs take that along.
        (0..2).for_each(|_| drop(self.store().lock(Wait::No).expect("repaired")));
    }
}

/// A loop device over the btrfs partition of `disk`.
fn attach(disk: &Path) -> String {
    let table = sh(&format!("sfdisk --json {}", disk.display()));
    let table: serde_json::Value = serde_json::from_str(&table).expect("a table");
    let parts = table["partitiontable"]["partitions"].as_array().expect("partitions");
    let last = parts.iter().max_by_key(|p| p["size"].as_u64()).expect("a partition");
    let bytes = |key: &str| last[key].as_u64().expect(key) * 512;
    sh(&format!("losetup --find --show --offset {} --sizelimit {} {}", bytes("start"), bytes("size"), disk.display()))
}

/// The service, with the stop points of a debug build.
fn program() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "ast-autoupdate"]).current_dir(&project).status();
    assert!(status.expect("cargo").success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from);
    target.join("debug/ast-autoupdate")
}

fn skipped() -> bool {
    let no = !nix::unistd::geteuid().is_root();
    if no {
        eprintln!("skipped: only root can mount a disk");
    }
    no
}

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
