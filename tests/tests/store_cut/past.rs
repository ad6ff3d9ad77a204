//! What is recorded: the verbs of one update and of what comes after it, and what the machine was after each.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ast::boot::booted::Booted;
use ast::deploy::{self, Etc, How};
use ast::grub::menu;
use ast::id::DeployId;
use ast::layout::{self, Part};
use ast::plan::Plan;
use ast::store::machine::Block;
use ast::store::{Locked, Store};
use ast::sys::{btrfs, file};
use ast_tests::cut::{Recording, Seed, WriteLog, new_btrfs};

use crate::machine::{d, fill, locked, n, write};

/// Bytes of the disk: btrfs wants 109 MiB at least, and the store a reserve.
const SIZE: u64 = 256 << 20;
/// Bytes of the kernel that the update brings: too long to lie inside metadata, so that its data can be missing.
const KERNEL: usize = 64 << 10;
/// What GRUB reads of ours besides the deployments and sets, below `@boot/grub/ast`.
pub const MENUS: [&str; 10] = [
    "good.cfg",
    "good.prev.cfg",
    "menu.cfg",
    "menu.sums",
    "menu.prev.cfg",
    "menu.prev.sums",
    "snapshots.cfg",
    "snapshots.sums",
    "snapshots.prev.cfg",
    "snapshots.prev.sums",
];

/// Files by their path from the top level of the disk; of links, where they lead.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A machine between two verbs.
pub struct Was {
    /// The two commits in words.
    pub said: String,
    /// What GRUB reads besides what it starts, by name.
    pub menus: BTreeMap<&'static str, Option<Vec<u8>>>,
}

/// Everything that a state of the disk may show.
pub struct Past {
    /// Before the first verb and after each.
    pub was: Vec<Was>,
    /// Every file of every set and deployment that ever was: none of them changes once it is made (S1, S5).
    pub files: Files,
}

impl Past {
    /// What a cut after verb `confirmed` may leave: that, or the state after the next verb.
    pub fn allowed(&self, confirmed: usize) -> impl Iterator<Item = &Was> {
        self.was.iter().skip(confirmed).take(2)
    }

    /// Files of the directory `dir` (from the top level) as they were made.
    pub fn made(&self, dir: &str) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        let dir = format!("{}/", dir.trim_start_matches('/'));
        self.files.iter().filter(move |(path, _)| path.starts_with(&dir))
    }

    fn note(&mut self, store: &Store, top: &Path) {
        let menus = MENUS.map(|name| (name, file::read_if_exists(&store.grub_dir().join("ast").join(name)).expect("readable")));
        self.was.push(Was { said: said(store).expect("a state"), menus: menus.into() });
        let mut files = Files::new();
        for dir in ["@.snapshots/sets", "@.snapshots/deploy"] {
            files_below(top, dir, &mut files).expect("readable");
        }
        for (path, bytes) in files {
            let before = self.files.insert(path.clone(), bytes.clone());
            assert!(before.is_none_or(|before| before == bytes), "{path} was changed");
        }
    }
}

/// A directory that looks like the root of the machine whose top level is mounted at `top`.
pub struct Root(tempfile::TempDir);

impl Root {
    pub fn of(top: &Path) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        symlink(top.join("@.snapshots"), dir.path().join(".snapshots")).expect("link");
        symlink(top.join("@boot"), dir.path().join("boot")).expect("link");
        Self(dir)
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// What a machine is, in words: the two commits and nothing that follows from them.
pub fn said(store: &Store) -> Result<String, String> {
    let sets: Vec<String> = store.tree().map_err(|e| e.to_string())?.nodes().map(|node| node.set().to_string()).collect();
    let block = store.block().map_err(|e| e.to_string())?;
    let trial = block.trial.map(|t| t.deployment);
    Ok(format!("{} | good {} prev {:?} trial {trial:?} arm {}", sets.join(" "), block.good, block.prev, block.arm))
}

/// Every file below `top/dir`, except the note that a deployment has booted well, which is made later.
pub fn files_below(top: &Path, dir: &str, files: &mut Files) -> std::io::Result<()> {
    for entry in std::fs::read_dir(top.join(dir))? {
        let entry = entry?;
        let path = format!("{dir}/{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(top, &path, files)?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path())?;
            files.insert(path, target.into_os_string().into_encoded_bytes());
        } else if !["well", ".well.tmp"].contains(&&*entry.file_name().to_string_lossy()) {
            files.insert(path, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

fn run(locked: &mut Locked, plan: Plan) {
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

/// A machine with snapshots 1 and 2 and updates 3 and 4 of the first, in use for a while, ready to be changed.
pub fn base(dir: &Path) -> PathBuf {
    let image = dir.join("base.img");
    new_btrfs(&image, SIZE, |top| {
        for name in layout::TOP_SUBVOLS {
            btrfs::create_subvolume(&top.join(name)).expect("subvolume");
        }
        file::make_dirs(&top.join("@boot/grub/ast")).expect("dir");
        let root = Root::of(top);
        fill(root.path(), Block::Raw);
        // Who this machine is, and what its owner changed.
        let etc = root.path().join(".snapshots/deploy/1/etc");
        file::make_dirs(&etc.join("ssh")).expect("dir");
        for name in ["machine-id", "ssh/ssh_host_ed25519_key", "hostname", "app.conf"] {
            write(&etc.join(name), &format!("{name} of this device, longer than nothing\n").repeat(100));
        }
        let mut locked = locked(Store::open(root.path()).expect("a store"));
        for description in ["one", "two"] {
            let (plan, _) = locked.plan_new(description).expect("a plan");
            run(&mut locked, plan);
        }
        // An update below another one, of which retention takes the upper one.
        for parent in [n(1), n(3)] {
            let from = locked.set_of(parent).expect("whole");
            let source = |part| locked.layout().set_part(from, part);
            let (plan, _) =
                locked.plan_update(source, parent, "update 0123456789ab: hello", |new| format!("update {new}")).expect("a plan");
            run(&mut locked, plan);
        }
    })
    .expect("a disk");
    image
}

/// The verbs of one update and what comes after it, each marked when it has returned.
pub fn record(image: &Path) -> (WriteLog, Past) {
    let mut recording = Recording::new(image, 0).expect("a recording");
    let top = recording.mount("subvolid=5").expect("mounted").to_owned();
    let root = Root::of(&top);
    let mut locked = locked(Store::open(root.path()).expect("a store"));
    let mut past = Past { was: Vec::new(), files: Files::new() };
    past.note(&locked, &top);
    let mut step = |locked: &mut Locked, plan: Plan| {
        run(locked, plan);
        recording.mark(&past.was.len().to_string()).expect("marked");
        past.note(locked, &top);
    };

    let (plan, clone) = locked.plan_branch(n(1), "update").expect("a plan");
    step(&mut locked, plan);
    let from = locked.set_of(clone).expect("whole");
    let dir = locked.layout().work_copy("by-hand");
    file::make_dirs(&dir).expect("dir");
    for part in Part::ALL {
        btrfs::snapshot(&locked.layout().set_part(from, part), &dir.join(part.name()), btrfs::Access::Writable).expect("copied");
    }
    upgrade(&dir);
    let (plan, _) = locked.plan_seal(from, &dir, "upgrade").expect("a plan");
    step(&mut locked, plan);
    let (plan, trial) = deploy::plan_deploy(&locked, clone, How::Trial, Etc::MergedFrom(d(1))).expect("a plan");
    step(&mut locked, plan);
    promote(&mut locked, trial, &mut step);
    let (plan, _) = locked.plan_del(n(2)).expect("a plan");
    step(&mut locked, plan);
    let (plan, _) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    step(&mut locked, plan);
    // One commit that re-parents and deletes.
    let found = ast::retain::look(&locked, &ast::updates::Updates::default(), &ast::config::autoupdate::Keep::newest(1)).expect("looked");
    assert_eq!(found.going(), [n(3)]);
    let plan = found.plan(&locked).expect("a plan").expect("something goes");
    step(&mut locked, plan);
    drop(locked);
    let log = recording.finish().expect("a faithful log");
    // As if it were another disk: its flush confirms nothing of the file system.
    let blocks = [layout::RAW_BLOCK_A_SECTOR, layout::RAW_BLOCK_B_SECTOR].map(|sector| sector * 512..(sector + 1) * 512);
    (log.apart(&blocks), past)
}

fn promote(locked: &mut Locked, trial: DeployId, step: &mut impl FnMut(&mut Locked, Plan)) {
    let arm = locked.boot_block().expect("a block").arm;
    let booted = Booted::parse(&format!("d={trial}\nwhy=trial\narm={arm}\nleft=2\nenv=ok\n"));
    let plan = deploy::plan_promote(locked, &booted).expect("allowed").expect("needed");
    step(locked, plan);
}

/// What a package manager does in a working copy: it syncs nothing.
fn upgrade(dir: &Path) {
    let mut seed = Seed::new(6);
    let kernel: Vec<u8> = std::iter::repeat_with(|| seed.number().to_le_bytes()).flatten().take(KERNEL).collect();
    let boot = dir.join("boot");
    let read = |name: &str| std::fs::read(boot.join(name)).expect("readable");
    let mut sums = String::new();
    for (name, bytes) in [("vmlinuz-linux", kernel.clone()), ("initramfs-linux.img", kernel), ("ast.env", read("ast.env"))] {
        std::fs::write(boot.join(name), &bytes).expect("written");
        sums.push_str(&menu::sums(name, &bytes));
    }
    std::fs::write(boot.join("ast.sums"), sums).expect("written");
    std::fs::write(dir.join("root/word"), "upgraded".repeat(1000)).expect("written");
}
