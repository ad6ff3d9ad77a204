//! What the machine was between the verbs that are recorded: everything that a state of the disk may show.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ast::grub::menu;
use ast::layout::{self, Part, VAR_MARK};
use ast::plan::{Plan, Step};
use ast::store::machine::Block;
use ast::store::{Locked, Store};
use ast::sys::btrfs::{self, Access};
use ast::sys::file;
use ast::volumes;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use super::machine::{fill, locked, n, write};
use super::verbs::{CHANGED_LIVE, VERBS, Verb, change_live};
use crate::cut::{CutError, Recording, Seed, WriteLog, new_btrfs};

/// Bytes of the disk: btrfs wants 109 MiB at least, and the store a reserve.
const SIZE: u64 = 256 << 20;
/// Bytes of the kernel that the update brings: too long to lie inside metadata, so that its data can be missing.
const KERNEL: usize = 12 << 10;
/// What GRUB reads of ours besides the deployments and sets, below `@boot/grub/ast`.
pub(super) const MENUS: [&str; 10] = [
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
/// Mark of a recorded repair that has returned.
pub(super) const REPAIRED: &str = "repaired";
/// Directories whose files never change once they are made (S1, S5).
const KEPT: [&str; 3] = ["@.snapshots/sets", "@.snapshots/deploy", "@.snapshots/vars"];
/// Notes beside them that are made later, and what the next `etc-update` throws away.
const NOTES: [&str; 5] = ["well", ".well.tmp", "armed", ".armed.tmp", "etc.saved.new"];

/// Beginning of the names of what a live change is made of, beside the root that it changes.
pub(super) const UNSETTLED: &str = "live-";
/// The verb that is no plan: what is booted is changed.
pub(super) const LIVE: &str = "live";

/// Files by their path from the top level of the disk; of links, where they lead.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A machine between two verbs.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Was {
    /// The verb that made it so.
    pub verb: String,
    /// The two commits in words.
    pub said: String,
    /// What GRUB reads besides what it starts, by name.
    pub menus: BTreeMap<String, Option<Vec<u8>>>,
    /// The files there were, of sets, deployments and what is kept of `/var`, each in which of its versions.
    pub paths: BTreeMap<String, usize>,
    /// The files of the shared `/var`.
    pub shared: Files,
    /// What waits to become `/var` at the next start of the good one.
    pub waits: Vec<String>,
}

/// Everything that a state of the disk may show.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Past {
    /// Before the first verb and after each.
    pub was: Vec<Was>,
    /// Every file of every set and deployment that ever was. None changes but by a live change, and then there is another version.
    pub files: BTreeMap<String, Vec<Vec<u8>>>,
    /// The steps that the verbs' plans are made of, by name.
    pub steps: BTreeSet<String>,
}

impl Past {
    /// What a cut after verb `confirmed` may leave: that, or the state after the next verb.
    pub(super) fn allowed(&self, confirmed: usize) -> impl Iterator<Item = &Was> {
        self.was.iter().skip(confirmed).take(2)
    }

    /// The verb that is under way when `confirmed` of them have returned.
    pub(super) fn operation(&self, confirmed: usize) -> &str {
        self.was.get(confirmed + 1).map_or("nothing", |was| was.verb.as_str())
    }

    /// Files of the directory `dir` (from the top level) as they were made.
    pub(super) fn made(&self, dir: &str) -> impl Iterator<Item = (&String, &Vec<u8>)> {
        let dir = format!("{}/", dir.trim_start_matches('/'));
        let found = self.files.iter().filter(move |(path, _)| path.starts_with(&dir));
        found.filter_map(|(path, versions)| Some((path, versions.first()?)))
    }

    pub(super) fn note(&mut self, verb: &str, store: &Store, top: &Path) {
        let menus = MENUS.map(|name| (name.to_owned(), file::read_if_exists(&store.grub_dir().join("ast").join(name)).expect("readable")));
        let (mut files, mut shared) = (Files::new(), Files::new());
        KEPT.iter().for_each(|dir| files_below(top, dir, &mut files).expect("readable"));
        files_below(top, layout::VAR_SUBVOL, &mut shared).expect("readable");
        let mut paths = BTreeMap::new();
        for (path, bytes) in files {
            let versions = self.files.entry(path.clone()).or_default();
            let version = versions.iter().position(|version| *version == bytes).unwrap_or(versions.len());
            if version == versions.len() {
                assert!(versions.is_empty() || verb == LIVE, "{verb} changed {path}");
                versions.push(bytes);
            }
            paths.insert(path, version);
        }
        let (said, waits) = (said(store).expect("a state"), waiting(store, top).expect("readable"));
        self.was.push(Was { verb: verb.to_owned(), said, menus: menus.into(), paths, shared, waits });
    }
}

/// A directory that looks like the root of the machine whose top level is mounted at `top`.
#[derive(Debug)]
pub(super) struct Root {
    dir: tempfile::TempDir,
    var: Option<PathBuf>,
}

impl Root {
    pub(super) fn of(top: &Path) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        symlink(top.join(layout::SNAPSHOTS_SUBVOL), dir.path().join(".snapshots")).expect("link");
        symlink(top.join(layout::BOOT_SUBVOL), dir.path().join("boot")).expect("link");
        symlink(top.join(layout::VAR_SUBVOL), dir.path().join("var")).expect("link");
        file::make_dirs(&dir.path().join("run/ast")).expect("dir");
        Self { dir, var: None }
    }

    /// The same with the shared `/var` mounted, as on a machine.
    fn with_var(top: &Path) -> Self {
        let mut root = Self::of(top);
        let var = root.path().join("var");
        file::remove_if_exists(&var).and_then(|()| file::make_dirs(&var)).expect("dir");
        mount(Some(&top.join(layout::VAR_SUBVOL)), &var, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bound");
        root.var = Some(var);
        root
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// In the system at `root` deployment `d` runs as the good one; 0: nothing runs.
pub(super) fn booted(root: &Path, d: u32) {
    let record = root.join("run/ast/booted");
    match d {
        0 => file::remove_if_exists(&record).expect("removed"),
        d => file::replace(&record, format!("d={d}\nwhy=good\narm=0\nleft=0\nenv=ok\n").as_bytes()).expect("written"),
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // Before the directory goes: never what is mounted in it.
        if let Some(var) = &self.var {
            umount2(var, MntFlags::empty()).or_else(|_| umount2(var, MntFlags::MNT_DETACH)).ok();
        }
    }
}

/// What a machine is, in words: the two commits, and that of a live change, and nothing that follows from them.
pub(super) fn said(store: &Store) -> Result<String, String> {
    let node = |node: &ast::tree::Node| {
        let parent = node.parent.map_or("-".into(), |parent| parent.to_string());
        let marks = [(node.pinned, " pinned"), (node.by_update, " by update")].into_iter().filter(|(is, _)| *is).map(|(_, word)| word);
        format!("{} below {parent} {:?}{}", node.set(), node.description, marks.collect::<String>())
    };
    let nodes: Vec<String> = store.tree().map_err(|e| e.to_string())?.nodes().map(node).collect();
    let block = store.block().map_err(|e| e.to_string())?;
    let mark = store.layout().deployment_part(block.good, Part::Root).join("usr/share/ast/live");
    let live = file::read_if_exists(&mark).map_err(|e| e.to_string())?.unwrap_or_default();
    Ok(format!("{} | {block:?} | changed live by {:?}", nodes.join(", "), String::from_utf8_lossy(&live).trim()))
}

/// What waits to become `/var` when the good one starts next, by the path from the top level.
pub(super) fn waiting(store: &Store, top: &Path) -> Result<Vec<String>, String> {
    let good = store.block().map_err(|e| e.to_string())?.good;
    let swaps = volumes::var_swaps(&ast::layout::Layout::of_top_level(top), good).map_err(|e| e.to_string())?;
    let pending = swaps.into_iter().filter(|swap| swap.join(VAR_MARK).exists());
    Ok(pending.filter_map(|swap| Some(swap.strip_prefix(top).ok()?.to_string_lossy().into_owned())).collect())
}

/// Every file below `top/dir`, if there is such a directory, except notes that are made later.
pub(super) fn files_below(top: &Path, dir: &str, files: &mut Files) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(top.join(dir)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if NOTES.contains(&name.as_str()) || name.starts_with(UNSETTLED) {
            continue;
        }
        let path = format!("{dir}/{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            files_below(top, &path, files)?;
        } else if kind.is_symlink() {
            let target = std::fs::read_link(entry.path())?;
            files.insert(path, target.into_os_string().into_encoded_bytes());
        } else {
            files.insert(path, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

pub(super) fn run(locked: &mut Locked, plan: Plan) {
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

/// A machine with snapshots 1 and 2 and updates 3 and 4 of the first, in use for a while, ready to be changed.
pub(super) fn base(dir: &Path) -> PathBuf {
    let image = dir.join("base.img");
    new_btrfs(&image, SIZE, |top| furnish(top, Root::of(top).path(), Block::Raw)).expect("a disk");
    image
}

/// The empty btrfs at `top` is a machine whose system is seen at `root`.
pub(super) fn furnish(top: &Path, root: &Path, block: Block) {
    for name in layout::TOP_SUBVOLS {
        btrfs::create_subvolume(&top.join(name)).expect("subvolume");
    }
    file::make_dirs(&top.join("@boot/grub/ast")).expect("dir");
    write(&top.join("@var/database"), "rows of this device\n");
    fill(root, block);
    // Who this machine is, and what its owner changed.
    let etc = root.join(".snapshots/deploy/1/etc");
    file::make_dirs(&etc.join("ssh")).expect("dir");
    for name in ["machine-id", "ssh/ssh_host_ed25519_key", "hostname", "app.conf"] {
        write(&etc.join(name), &format!("{name} of this device, longer than nothing\n").repeat(100));
    }
    let mut locked = locked(Store::open(root).expect("a store"));
    for description in ["one", "two"] {
        let (plan, _) = locked.plan_new(description).expect("a plan");
        run(&mut locked, plan);
    }
    // An update below another one, of which retention takes the upper one.
    for parent in [n(1), n(3)] {
        let from = locked.set_of(parent).expect("whole");
        let source = |part| locked.layout().set_part(from, part);
        let (plan, _) = locked.plan_update(source, parent, "update 0123456789ab: hello", |new| format!("update {new}")).expect("a plan");
        run(&mut locked, plan);
    }
}

/// Every verb, each as a process of its own would do it, and marked when it has returned.
pub(super) fn record(image: &Path) -> Result<(WriteLog, Past), CutError> {
    let mut recording = Recording::new(image, 0)?;
    let top = recording.mount("subvolid=5")?.to_owned();
    let root = Root::with_var(&top);
    let open = || locked(Store::open(root.path()).expect("a store"));
    let mut past = Past::default();
    past.note("nothing", &open(), &top);
    for Verb { name, booted: running, plan } in VERBS {
        booted(root.path(), running);
        let mut locked = open();
        let plan = plan(&locked);
        past.steps.extend(plan.prepare.iter().chain(&plan.after).map(|step| name_of(step).to_owned()));
        run(&mut locked, plan);
        recording.mark(&past.was.len().to_string())?;
        past.note(name, &locked, &top);
    }
    booted(root.path(), CHANGED_LIVE);
    let locked = open();
    change_live(&locked);
    recording.mark(&past.was.len().to_string())?;
    past.note(LIVE, &locked, &top);
    // As the kernel does after half a minute, and any snapshot at once: a commit that waits for nobody's data.
    btrfs::snapshot(&top.join(layout::ROOT_HOME_SUBVOL), &top.join("somebodys"), Access::ReadOnly).expect("copied");
    drop((locked, root));
    Ok((apart(recording.finish()?), past))
}

/// What a repair writes on the disk of one state.
pub(super) fn record_repair(image: &Path) -> Result<WriteLog, CutError> {
    let mut recording = Recording::new(image, 0)?;
    let top = recording.mount("subvolid=5")?.to_owned();
    let root = Root::of(&top);
    drop(locked(Store::open(root.path()).expect("a store")));
    recording.mark(REPAIRED)?;
    Ok(apart(recording.finish()?))
}

/// The boot block as if it were on another disk: its flush confirms nothing of the file system.
pub(super) fn apart(log: WriteLog) -> WriteLog {
    let blocks = [layout::RAW_BLOCK_A_SECTOR, layout::RAW_BLOCK_B_SECTOR].map(|sector| sector * 512..(sector + 1) * 512);
    log.apart(&blocks)
}

/// What a package manager does in a working copy: it syncs nothing.
pub(super) fn upgrade(dir: &Path) {
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

/// Each kind of step. A new one does not build until it has a name here, and the test asks for a verb that takes it.
pub(super) const STEPS: [&str; 19] = [
    "make-dir",
    "create-subvolume",
    "snapshot",
    "seal",
    "write",
    "title",
    "carry-identity",
    "merge-etc",
    "keep-saved",
    "reserve",
    "sync",
    "verify",
    "mark-well",
    "links",
    "menu",
    "forget-var",
    "clean-cache",
    "collect",
    "record",
];

pub(super) const fn name_of(step: &Step) -> &'static str {
    let at = match step {
        Step::MakeDir(_) => 0,
        Step::CreateSubvolume(_) => 1,
        Step::Snapshot { .. } => 2,
        Step::Seal(_) => 3,
        Step::Write { .. } => 4,
        Step::Title { .. } => 5,
        Step::CarryIdentity { .. } => 6,
        Step::MergeEtc { .. } => 7,
        Step::KeepSaved { .. } => 8,
        Step::Reserve(_) => 9,
        Step::Sync => 10,
        Step::Verify(_) => 11,
        Step::MarkWell(_) => 12,
        Step::Links => 13,
        Step::Menu => 14,
        Step::ForgetVar(_) => 15,
        Step::CleanCache => 16,
        Step::Collect => 17,
        Step::Record(_) => 18,
    };
    STEPS[at]
}
