//! A small btrfs on a loop device with an installed machine on it, whose content nothing boots: what the store does with subvolumes
//! and documents does not depend on it. A child process (this very test program) is killed at the store's stop points.
#![allow(dead_code, clippy::expect_used, clippy::disallowed_methods)]

pub mod documents;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ast::boot::block::BootBlock;
use ast::boot::medium::Medium;
use ast::id::{DeployId, SetId, SnapshotId};
use ast::layout::{self, Layout, Part};
use ast::store::document;
use ast::store::machine::{Block, Firmware, Machine};
use ast::store::{Locked, Store};
use ast::sys::lock::Wait;
use ast::sys::{btrfs, file};
use ast::tree::{Label, Tree};

/// Smallest size that holds what the tests make, in bytes.
const SIZE: u64 = 256 << 20;

pub fn n(number: u32) -> SnapshotId {
    SnapshotId::new(number)
}

pub fn d(number: u32) -> DeployId {
    DeployId::new(number)
}

pub fn set(text: &str) -> SetId {
    text.parse().expect("a set")
}

/// Says why it cannot run, and is true then. Only root can mount.
pub fn skipped() -> bool {
    let no = !nix::unistd::geteuid().is_root();
    if no {
        eprintln!("skipped: only root can make and mount a filesystem");
    }
    no
}

/// What is mounted where, in this order.
const MOUNTS: [(&str, &str); 3] = [("@.snapshots", ".snapshots"), ("@boot", "boot"), ("@var", "var")];

/// A mounted machine: `root/.snapshots`, `root/boot/grub`, `root/var`, with base 0.1 and deployment 1 of it.
/// Unmounted when dropped, on a panic too; `NO_TEST_CLEAN_UP=1` keeps it.
pub struct Machine1 {
    dir: tempfile::TempDir,
    pub root: PathBuf,
    pub device: PathBuf,
    disk: PathBuf,
}

fn run(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect(program);
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

impl Machine1 {
    /// A fresh machine whose boot block is where `block` says, mounted for this thread and its children alone.
    pub fn new(block: Block) -> Self {
        Self::behind(block, Path::to_owned)
    }

    /// The same on a disk behind another file than its image.
    pub fn behind(block: Block, disk: impl FnOnce(&Path) -> PathBuf) -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        ast::sys::mount::make_private().expect("private");
        // The disk is synced thousands of times: in memory that takes half the time.
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("ast-store-").tempdir_in(base).expect("dir");
        let image = dir.path().join("image");
        std::fs::File::create(&image).and_then(|f| f.set_len(SIZE)).expect("image");
        run("mkfs.btrfs", &["-q", "-f", &image.to_string_lossy()]);
        let disk = disk(&image);
        let device = PathBuf::from(run("losetup", &["--find", "--show", &disk.to_string_lossy()]));
        let machine = Self { root: dir.path().join("root"), dir, device, disk };
        machine.lay_out();
        machine.mount();
        // From now on the last unmount frees the device, however this process ends.
        run("losetup", &["-d", &machine.device.to_string_lossy()]);
        fill(&machine.root, block);
        machine
    }

    /// The same, whose snapshots hold busybox and a shell of it under the name of bash, with snapshot 1.
    pub fn with_busybox() -> Self {
        let machine = Self::new(Block::Local);
        let root = machine.layout().set_part(set("0.1"), Part::Root);
        btrfs::set_read_only(&root, false).expect("opened");
        for dir in layout::MOUNT_POINTS.into_iter().chain(["usr/bin", layout::PACMAN_DB]) {
            std::fs::create_dir_all(root.join(dir)).expect("dir");
        }
        let bin = root.join("usr/bin");
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for name in ["sh", "touch", "sleep", "false", "cat"] {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("link");
        }
        write(&bin.join("bash"), "#!/usr/bin/sh\nexec /usr/bin/sh \"$@\"\n");
        run("chmod", &["755", &bin.join("bash").to_string_lossy()]);
        btrfs::set_read_only(&root, true).expect("sealed");
        let mut locked = machine.lock();
        let (plan, _) = locked.plan_new("one").expect("a plan");
        drop(locked.run(plan).expect("committed"));
        drop(locked);
        machine
    }

    fn lay_out(&self) {
        let top = self.dir.path().join("top");
        std::fs::create_dir_all(&top).expect("dir");
        run("mount", &["-o", "subvolid=5", &self.device.to_string_lossy(), &top.to_string_lossy()]);
        for name in layout::TOP_SUBVOLS {
            btrfs::create_subvolume(&top.join(name)).expect("subvolume");
        }
        file::make_dirs(&top.join("@boot/grub/ast")).expect("dir");
        run("umount", &[&top.to_string_lossy()]);
    }

    fn mount(&self) {
        for (subvol, at) in MOUNTS {
            let target = self.root.join(at);
            std::fs::create_dir_all(&target).expect("dir");
            run("mount", &["-o", &format!("subvol={subvol}"), &self.device.to_string_lossy(), &target.to_string_lossy()]);
        }
    }

    /// The disk is taken out and put in again: what was only in memory is gone.
    pub fn plug_again(&mut self) {
        self.unplug();
        self.plug();
    }

    /// The disk is taken out.
    pub fn unplug(&self) {
        for at in MOUNTS.iter().rev().map(|(_, at)| self.root.join(at)) {
            run("umount", &[&at.to_string_lossy()]);
        }
    }

    /// The disk is put in.
    pub fn plug(&mut self) {
        self.device = PathBuf::from(run("losetup", &["--find", "--show", &self.disk.to_string_lossy()]));
        self.mount();
        run("losetup", &["-d", &self.device.to_string_lossy()]);
    }

    /// Whatever is written from now on, until the disk is taken out, is beside the metadata, however short: there it can be spoilt.
    pub fn keep_short_files_apart(&self) {
        run("mount", &["-o", "remount,max_inline=0", &self.root.join(".snapshots").to_string_lossy()]);
    }

    /// The disk no longer gives back these files, written since [`Machine1::keep_short_files_apart`]: their bytes are other ones than their checksums say.
    pub fn spoil(&mut self, files: &[&Path]) {
        let bytes: Vec<Vec<u8>> = files.iter().map(|path| file::read(path).expect("read")).collect();
        file::syncfs(self.layout().snapshots()).expect("synced");
        self.unplug();
        for bytes in bytes {
            spoil_in(&self.disk, &bytes);
        }
        self.plug();
        self.keep_short_files_apart();
        for path in files {
            let error = file::read(path).expect_err("it can be read");
            assert!(error.is_unreadable(), "{error}");
        }
    }

    pub fn layout(&self) -> Layout {
        Layout::of_sysroot(&self.root)
    }

    pub fn store(&self) -> Store {
        Store::open(&self.root).expect("a store")
    }

    pub fn lock(&self) -> Locked {
        locked(self.store())
    }

    pub fn medium(&self) -> Medium {
        self.store().medium().expect("a medium")
    }

    /// The record that the initramfs would have left.
    pub fn booted(&self, record: &str) {
        file::make_dirs(&self.root.join("run/ast")).expect("dir");
        file::replace(&self.root.join("run/ast/booted"), record.as_bytes()).expect("record");
    }

    /// Runs the test `name` of this program again as a child that does `what`, killed at stop point `at` if given.
    pub fn child(&self, name: &str, what: &str, at: Option<u32>) -> Output {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", name, "--nocapture"]).env("AST_TEST_CHILD", &self.root).env("AST_TEST_WHAT", what);
        command.env("AST_STOP_SHOW", "1");
        if let Some(at) = at {
            command.env("AST_STOP_AT", at.to_string());
        }
        command.output().expect("a child")
    }

    /// The same, going on beside this process.
    pub fn spawn(&self, name: &str, what: &str, out: std::process::Stdio) -> std::process::Child {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["--exact", name, "--nocapture"]).env("AST_TEST_CHILD", &self.root).env("AST_TEST_WHAT", what);
        command.stdout(out).stderr(std::process::Stdio::piped()).spawn().expect("a child")
    }

    /// Every subvolume directory on disk, for comparing.
    pub fn on_disk(&self) -> Vec<String> {
        let layout = self.layout();
        let mut all: Vec<String> = ast::volumes::sets(&layout).expect("sets").iter().map(|s| format!("set {s}")).collect();
        all.extend(ast::volumes::deployments(&layout).expect("deployments").iter().map(|d| format!("deployment {d}")));
        all.extend(ast::volumes::work_copies(&layout).expect("copies").iter().map(|w| format!("work {w}")));
        all
    }
}

impl Drop for Machine1 {
    fn drop(&mut self) {
        if std::env::var_os("NO_TEST_CLEAN_UP").is_some() {
            eprintln!("kept: {} on {}", self.root.display(), self.device.display());
            return;
        }
        for (_, at) in MOUNTS.into_iter().rev() {
            drop(ast::sys::mount::unmount_lazy(&self.root.join(at)));
        }
    }
}

/// Every place in the image of a disk where a file with these bytes begins is spoilt: older copies of the same content too, which nobody reads.
pub fn spoil_in(image: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    const BLOCK: usize = 4096;
    let first = bytes.get(..bytes.len().min(BLOCK)).filter(|first| !first.is_empty()).expect("a file that is not empty");
    let disk = std::fs::File::options().read(true).write(true).open(image).expect("the image");
    let length = disk.metadata().expect("the image").len();
    let (mut block, mut found) = (vec![0; BLOCK], 0);
    for at in (0..length).step_by(BLOCK) {
        disk.read_exact_at(&mut block, at).expect("the image");
        if block.starts_with(first) {
            disk.write_all_at(b"spoilt", at).expect("the image");
            found += 1;
        }
    }
    assert!(found > 0, "its bytes are nowhere on the disk");
}

/// What an installer leaves below `root`, where the subvolumes are seen already: base 0.1, deployment 1 of it, its boot block.
pub fn fill(root: &Path, block: Block) {
    let layout = Layout::of_sysroot(root);
    file::make_dirs(&layout.documents()).expect("dir");
    make_set(&layout, set("0.1"), "base");
    let tree = Tree::new(Label { description: "base snapshot".into(), created: 0 });
    document::save(&layout.document(layout::TREE), &tree).expect("tree");
    let machine = Machine {
        fs_uuid: btrfs::filesystem_uuid(layout.snapshots()).expect("uuid"),
        firmware: Firmware::Bios,
        block,
        esp_uuid: None,
        grub_version: None,
        luks: Vec::new(),
        migration: None,
        later: Default::default(),
    };
    document::save(&layout.document(layout::MACHINE), &machine).expect("machine");
    make_deployment(&layout, d(1), set("0.1"));
    file::replace(&layout.deployment_well(d(1)), b"1\n").expect("well");
    Store::open(root).expect("a store").medium().expect("a medium").create(&BootBlock::new(d(1))).expect("block");
    file::syncfs(layout.snapshots()).expect("sync");
}

/// The only writer, who takes content that nothing boots for whole.
pub fn locked(store: Store) -> Locked {
    let mut locked = store.lock(Wait::Up(std::time::Duration::from_secs(60))).expect("the lock");
    locked.verify_with(|_, _| Ok(()));
    locked
}

/// A snapshot below `parent` as an unattended update makes it.
pub fn update(locked: &mut Locked, parent: SnapshotId) -> SnapshotId {
    let from = locked.set_of(parent).expect("whole");
    let source = |part| locked.layout().set_part(from, part);
    let (plan, new) =
        locked.plan_update(source, parent, "update 0123456789ab: hello 1 -> 2", |new| format!("update {new}")).expect("a plan");
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
    new
}

/// The sysroot and the task of a child, when this process is one.
pub fn child_task() -> Option<(PathBuf, String)> {
    let root = std::env::var_os("AST_TEST_CHILD")?;
    Some((PathBuf::from(root), std::env::var("AST_TEST_WHAT").unwrap_or_default()))
}

/// A sealed set with a word in each part, by which it is told apart.
pub fn make_set(layout: &Layout, set: SetId, word: &str) {
    let dir = layout.set(set);
    file::make_dirs(&dir).expect("dir");
    for part in Part::ALL {
        let path = layout.set_part(set, part);
        btrfs::create_subvolume(&path).expect("subvolume");
        write(&path.join("word"), &format!("{word} {}", part.name()));
        match part {
            Part::Boot => boot_files(&path),
            Part::Root => file::make_dirs(&path.join("usr/lib/modules/6.12.1")).expect("dir"),
            _ => {}
        }
        btrfs::set_read_only(&path, true).expect("sealed");
    }
}

/// What is in a boot subvolume, in the form that GRUB reads.
fn boot_files(boot: &Path) {
    let env = ast::grub::BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], &["quiet".into()], "test").expect("env");
    let files =
        [("vmlinuz-linux", b"kernel".to_vec()), ("initramfs-linux.img", b"image".to_vec()), ("ast.env", env.encode().expect("env"))];
    let mut sums = String::new();
    for (name, bytes) in files {
        file::replace(&boot.join(name), &bytes).expect("written");
        sums.push_str(&ast::grub::menu::sums(name, &bytes));
    }
    write(&boot.join("ast.sums"), &sums);
}

/// A deployment of a set as the installer makes it.
pub fn make_deployment(layout: &Layout, d: DeployId, of: SetId) {
    file::make_dirs(&layout.deployment(d)).expect("dir");
    for (from, to, access) in [
        (Part::Root, layout.deployment_part(d, Part::Root), btrfs::Access::ReadOnly),
        (Part::Etc, layout.deployment_part(d, Part::Etc), btrfs::Access::Writable),
        (Part::Etc, layout.deployment_etc_base(d), btrfs::Access::ReadOnly),
        (Part::Boot, layout.deployment_part(d, Part::Boot), btrfs::Access::ReadOnly),
    ] {
        btrfs::snapshot(&layout.set_part(of, from), &to, access).expect("snapshot");
    }
    let record = ast::deploy::record::Record { d, set: of, created: 0, by: "test".into(), later: Default::default() };
    document::save(&layout.deployment_record(d), &record).expect("record");
}

pub fn write(path: &Path, text: &str) {
    file::replace(path, text.as_bytes()).expect("written");
}

pub fn text(path: &Path) -> String {
    String::from_utf8(file::read(path).expect("read")).expect("text")
}

/// What the program said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// It has run to its end.
    pub fn of(command: &mut Command) -> Self {
        let out = command.output().expect("ast");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    }
}

/// The program on the machine, with nobody to ask. `--sysroot` keeps it from this host; `--yes` is the caller's.
pub fn command<W: AsRef<std::ffi::OsStr>>(machine: &Machine1, words: &[W]) -> Command {
    // Not `env!`: this file is part of tests of other packages too.
    let Some(program) = option_env!("CARGO_BIN_EXE_ast") else { panic!("no test of the package that has the program") };
    let mut command = Command::new(program);
    command.arg("--sysroot").arg(&machine.root).args(words).env_remove("AST_LOG").env_remove("VISUAL").stdin(std::process::Stdio::null());
    command
}

/// What it said.
pub fn ast(machine: &Machine1, words: &[&str]) -> Said {
    let said = Said::of(&mut command(machine, words));
    documents::check(words, said.code, &said.out);
    said
}

/// Its output, when all was well.
pub fn ok(machine: &Machine1, words: &[&str]) -> String {
    let said = ast(machine, words);
    assert_eq!(said.code, 0, "ast {words:?}: {}{}", said.out, said.err);
    said.out
}
