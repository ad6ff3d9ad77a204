//! The disk of a freshly installed machine, mounted, with its mirror and the real service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ast::boot::block::Mode;
use ast::deploy;
use ast::id::{DeployId, SnapshotId};
use ast::layout::{self, Layout, Part};
use ast::store::Store;
use ast::sys::btrfs;
use ast::sys::lock::Wait;
use ast::updates::Updates;
use ast::{pacman, volumes};
use ast_tests::image::{self, Column};
use ast_tests::lab::http::Server;
use ast_tests::lab::repo::{self, State};

/// Output of a shell line that has to succeed.
pub fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-ec", line]).output().expect("sh");
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// A mounted copy of a freshly installed disk, in a mount and network namespace of this test's thread, with its mirror.
pub struct Bed {
    pub program: PathBuf,
    cache: PathBuf,
    pub link: PathBuf,
    pub root: PathBuf,
    _mirror: Server,
    dir: tempfile::TempDir,
}

impl Bed {
    pub fn new() -> Self {
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
        let bed = Self { program, cache, link, root, _mirror: mirror, dir };
        bed.use_mirror();
        bed.booted("d=1\nset=0.1\nwhy=good\nenv=ok\n");
        bed
    }

    /// The base asks the mirror of this namespace, and the installer's own packages are not in the way.
    pub fn use_mirror(&self) {
        let etc = self.layout().set_part("0.1".parse().expect("set"), Part::Etc);
        btrfs::set_read_only(&etc, false).expect("writable");
        fs::write(etc.join("pacman.d/mirrorlist"), format!("Server = http://127.0.0.1:{}\n", self._mirror.port())).expect("mirrorlist");
        btrfs::set_read_only(&etc, true).expect("read-only");
    }

    pub fn offer(&self, state: State) {
        repo::publish(&repo::build(&self.cache, state).expect("repository"), &self.link).expect("published");
    }

    pub fn booted(&self, record: &str) {
        fs::write(self.root.join("run/ast/booted"), record).expect("record");
    }

    /// The image of the whole disk.
    pub fn disk(&self) -> PathBuf {
        self.dir.path().join("disk.raw")
    }

    pub fn layout(&self) -> Layout {
        Layout::of_sysroot(&self.root)
    }

    pub fn store(&self) -> Store {
        Store::open(&self.root).expect("a store")
    }

    pub fn updates(&self) -> Updates {
        ast::updates::load(&self.layout()).expect("a memory")
    }

    /// One cycle, killed at stop point `at` if given.
    pub fn run(&self, words: &[&str], at: Option<u32>) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("--sysroot").arg(&self.root).args(words).env("AST_STOP_SHOW", "1");
        if let Some(at) = at {
            command.env("AST_STOP_AT", at.to_string());
        }
        command.output().expect("ast-autoupdate")
    }

    pub fn cycle(&self) -> String {
        let out = self.run(&["run"], None);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{text}");
        text
    }

    /// Every subvolume of the disk, by its path.
    pub fn subvolumes(&self) -> Vec<String> {
        let listed = sh(&format!("btrfs subvolume list {} | sed 's/.* path //' | sort", self.layout().snapshots().display()));
        listed.lines().map(str::to_owned).collect()
    }

    /// The update to hello `version` is on trial, and nothing else was left by whatever happened before.
    pub fn assert_armed(&self, version: &str) -> DeployId {
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
    pub fn reset(&self) {
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

impl Drop for Bed {
    fn drop(&mut self) {
        // Before the directory is deleted: what is mounted in it is not to be walked through. Deepest first.
        let below = format!("awk '{{print $2}}' /proc/self/mounts | grep '^{}/' | sort -r | xargs -r umount -l", self.root.display());
        drop(Command::new("sh").args(["-c", &below]).status());
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

pub fn skipped() -> bool {
    let no = !nix::unistd::geteuid().is_root();
    if no {
        eprintln!("skipped: only root can mount a disk");
    }
    no
}
