//! Taking over: one plan, whose commit is the first tree document.

use std::path::{Path, PathBuf};

use super::found::{Deployment, Found, Source};
use super::{BY, LegacyError, Result, fstab, look, undo, var};
use crate::boot::block::BootBlock;
use crate::deploy::record::Record;
use crate::grub::BootEnv;
use crate::id::{DeployId, Generation, SetId, SnapshotId};
use crate::layout::{self, BOOT_ENV, Layout, Part};
use crate::luks;
use crate::plan::{Commit, Plan, Step};
use crate::store::document::encode;
use crate::store::machine::{Block, Firmware, Machine, Migration, Numbers};
use crate::store::{Done, Locked, now, stop_point};
use crate::sys::btrfs::{self, Access};
use crate::sys::file;
use crate::tree::{Kind, Later, MAX_DESCRIPTION, Node, Tree, clean_description};
use crate::volumes::MountEntry;
use crate::work::{self, Parts, Place};

/// The deployment that stands for the original's own system.
pub(super) const DEPLOYMENT: DeployId = DeployId::new(1);

/// What was taken over, or would be.
#[derive(Debug)]
pub struct Taken {
    /// What is on disk.
    pub found: Found,
    /// The plan, for reading.
    pub plan: String,
    /// What follows and could not be done; `None` when nothing was done at all.
    pub done: Option<Done>,
}

/// What [`take`] would do. Changes nothing.
pub fn preview(layout: &Layout) -> Result<Taken> {
    let found = look(layout)?;
    let plan = plan(layout, &found, &tree(&found)?, &layout.work().join("…"))?;
    Ok(Taken { plan: plan.to_string(), found, done: None })
}

/// The machine has a tree of ours with the original's snapshots under their numbers; what the original had is as it was.
///
/// If interrupted: the machine is the original's, with garbage that the next call deletes.
/// Refuses: a machine without a whole snapshot, too little space.
pub fn take(mut locked: Locked) -> Result<Taken> {
    let layout = locked.layout().clone();
    let found = look(&layout)?;
    let tree = tree(&found)?;
    undo::clear(&layout)?;
    locked.has_space()?;
    let place = Place::claim(&layout)?;
    stop_point("migrate: prepare");
    let shared_var = locked.sysroot().join("var");
    for (id, source) in sources(&found).filter(|(_, source)| source.var.is_none()) {
        let to = var_of(&place.inside(), id);
        btrfs::create_subvolume(&to)?;
        var::fill(&source.root, &shared_var, &to)?;
    }
    stop_point("migrate: etc");
    make_etc(&layout, &found, &place.inside())?;
    stop_point("migrate: boot");
    make_boot(&found, &place.inside())?;
    let plan = plan(&layout, &found, &tree, &place.inside())?;
    let text = plan.to_string();
    match locked.run(plan) {
        Ok(done) => Ok(Taken { found, plan: text, done: Some(done) }),
        Err(error) => {
            undo::clear(&layout)?;
            Err(error.into())
        }
    }
}

/// The snapshots to be, the base first, even if the original's is lost.
fn sources(found: &Found) -> impl Iterator<Item = (SnapshotId, &Source)> {
    let base = found.snapshots.get(&found.base()).map(|source| (SnapshotId::BASE, source));
    base.into_iter().chain(found.snapshots.iter().filter(|(id, _)| **id != SnapshotId::BASE).map(|(id, source)| (*id, source)))
}

fn set(id: SnapshotId) -> SetId {
    SetId { snapshot: id, generation: Generation::new(1) }
}

fn var_of(inside: &Path, id: SnapshotId) -> PathBuf {
    inside.join(format!("var-{id}"))
}

/// Copies of each `/etc` that is taken over, which mount nothing of the original's layout.
fn make_etc(layout: &Layout, found: &Found, inside: &Path) -> Result<()> {
    let fs_uuid = btrfs::filesystem_uuid(layout.snapshots())?;
    let (running, _) = running(found)?;
    let all = sources(found).map(|(id, source)| (etc_of(inside, Some(id)), source.etc.clone()));
    for (to, from) in all.chain([(etc_of(inside, None), running.etc)]) {
        btrfs::snapshot(&from, &to, Access::Writable)?;
        fstab::settle(&to, &fs_uuid)?;
    }
    Ok(())
}

/// The copy of the `/etc` of a snapshot, or of the system that runs.
fn etc_of(inside: &Path, id: Option<SnapshotId>) -> PathBuf {
    inside.join(id.map_or_else(|| "etc-running".to_owned(), |id| format!("etc-{id}")))
}

/// The original's numbers, descriptions and descent. A snapshot whose parent is not taken over is its grandparent's, or a tree of its own.
fn tree(found: &Found) -> Result<Tree> {
    let mut nodes = Vec::new();
    for (id, source) in sources(found) {
        let mut parent = found.shape.get(&id).copied().flatten();
        while let Some(gone) = parent.filter(|p| !found.snapshots.contains_key(p) && *p != SnapshotId::BASE) {
            parent = found.shape.get(&gone).copied().flatten();
        }
        let base = id == SnapshotId::BASE;
        let description = source.description.clone().unwrap_or_else(|| if base { "base snapshot".to_owned() } else { String::new() });
        nodes.push(Node {
            id,
            generation: Generation::new(1),
            parent: parent.filter(|_| !base),
            description: clean_description(&description).chars().take(MAX_DESCRIPTION).collect(),
            created: source.described.unwrap_or_else(now),
            pinned: false,
            kind: if base { Kind::Base } else { Kind::Snapshot },
            by_update: false,
            later: Later::new(),
        });
    }
    let next = found.highest.next().ok_or(crate::tree::TreeError::NumbersUsedUp("snapshot"))?;
    Ok(Tree::of(next, nodes)?)
}

/// `inside/boot` is the boot directory of the original's system with what GRUB reads in it: kernel, image, and arguments that make its own
/// initramfs mount its own root, as its own menu does. So the original's system is the first good one, and what a trial comes back to.
fn make_boot(found: &Found, inside: &Path) -> Result<()> {
    let (parts, args) = running(found)?;
    let to = inside.join(Part::Boot.name());
    btrfs::snapshot(&parts.boot, &to, Access::Writable)?;
    let own = Parts { boot: to.clone(), ..parts };
    work::prepare_boot(&own, None)?;
    if let Some(bytes) = file::read_if_exists(&to.join(BOOT_ENV))? {
        let env = BootEnv::parse(&bytes)?;
        let others = env.args().iter().filter(|arg| !arg.starts_with("rootflags=")).cloned();
        let all: Vec<String> = others.chain(args).collect();
        let title = "the system of the original ast";
        file::replace(&to.join(BOOT_ENV), &BootEnv::new(env.linux(), env.initrd(), &all, title)?.encode()?)?;
        work::write_sums(&to)?;
    }
    Ok(())
}

/// What starts next: the original's deployment, filled up from its snapshot where a part is lost; without any, the base.
fn running(found: &Found) -> Result<(Parts, Vec<String>)> {
    let of = found.deployment.as_ref().and_then(|d| d.of).filter(|id| found.snapshots.contains_key(id)).unwrap_or(found.base());
    let source = found.snapshots.get(&of).ok_or_else(|| LegacyError::NoSnapshot(PathBuf::from("rootfs")))?;
    let Some(Deployment { name, root, etc, boot, .. }) = &found.deployment else {
        return Ok((Parts { root: source.root.clone(), etc: source.etc.clone(), var: None, boot: source.boot.clone() }, Vec::new()));
    };
    let or = |own: &Option<PathBuf>, of: &PathBuf| own.as_ref().unwrap_or(of).clone();
    let parts = Parts { root: root.clone(), etc: or(etc, &source.etc), var: None, boot: or(boot, &source.boot) };
    Ok((parts, vec![format!("rootflags=subvol={}/rootfs/snapshot-{name}", layout::SNAPSHOTS_SUBVOL)]))
}

/// The snapshot that the running system says it is, as far as that is taken over.
fn running_set(found: &Found) -> SetId {
    let of = found.deployment.as_ref().and_then(|d| d.of).filter(|id| found.snapshots.contains_key(id));
    set(of.unwrap_or(SnapshotId::BASE))
}

/// Everything is garbage until the tree document says otherwise; nothing of the original is written.
fn plan(layout: &Layout, found: &Found, tree: &Tree, inside: &Path) -> Result<Plan> {
    let mut prepare = vec![Step::MakeDir(layout.sets()), Step::MakeDir(layout.deployments()), Step::MakeDir(layout.work())];
    let copy = |from: &Path, to: PathBuf, access| Step::Snapshot { from: from.to_owned(), to, access };
    for (id, source) in sources(found) {
        prepare.push(Step::MakeDir(layout.set(set(id))));
        let var = source.var.clone().unwrap_or_else(|| var_of(inside, id));
        for (part, from) in
            [(Part::Root, &source.root), (Part::Etc, &etc_of(inside, Some(id))), (Part::Var, &var), (Part::Boot, &source.boot)]
        {
            prepare.push(copy(from, layout.set_part(set(id), part), Access::ReadOnly));
        }
    }
    let (parts, _) = running(found)?;
    // Whether the owner changed it is asked against the snapshot, so both are changed alike.
    let etc = etc_of(inside, None);
    let base_etc = layout.set_part(running_set(found), Part::Etc);
    let part = |part| layout.deployment_part(DEPLOYMENT, part);
    prepare.extend([
        Step::MakeDir(layout.deployment(DEPLOYMENT)),
        copy(&parts.root, part(Part::Root), Access::ReadOnly),
        copy(&etc, part(Part::Etc), Access::Writable),
        copy(&base_etc, layout.deployment_etc_base(DEPLOYMENT), Access::ReadOnly),
        copy(&inside.join(Part::Boot.name()), part(Part::Boot), Access::ReadOnly),
    ]);
    let record = Record { d: DEPLOYMENT, set: running_set(found), created: now(), by: BY.to_owned(), later: Later::new() };
    let machine = Machine {
        fs_uuid: btrfs::filesystem_uuid(layout.snapshots())?,
        firmware: firmware(),
        block: Block::Local,
        esp_uuid: None,
        luks: luks(layout),
        grub_version: None,
        migration: Some(Migration::Tree),
        later: Later::new(),
    };
    let block = BootBlock::new(DEPLOYMENT).encode()?;
    let of_machine = layout.document(layout::MACHINE);
    let documents = [
        (layout.deployment_record(DEPLOYMENT), encode(&layout.deployment_record(DEPLOYMENT), &record)?),
        (file::old_copy(&of_machine)?, encode(&of_machine, &machine)?),
        (of_machine.clone(), encode(&of_machine, &machine)?),
        (layout.document(layout::LOCAL_BLOCK), [block, block].concat()),
    ];
    prepare.extend(documents.map(|(path, bytes)| Step::Write { path, bytes }));
    let numbers = Numbers { next_deployment: DEPLOYMENT.get() + 1, next_arm: 1, later: Later::new() };
    prepare.extend([Step::MarkWell(DEPLOYMENT), Step::Reserve(numbers), Step::Sync]);
    let what = format!("take over {} snapshots of the original ast", found.snapshots.len());
    let after = vec![Step::Sync, Step::Record(what.clone())];
    Ok(Plan { what, prepare, commit: Commit::First { after: Box::new(tree.clone()) }, after })
}

/// The LUKS container that the filesystem is in. One that cannot be read is for `doctor` to tell of: this machine starts as it did.
fn luks(layout: &Layout) -> Vec<String> {
    let node = MountEntry::of(layout.snapshots()).ok().flatten().map(|entry| entry.source);
    let found = node.and_then(|node| luks::of(&node).ok().flatten());
    found.map(|(_, header)| header.uuid).into_iter().collect()
}

/// How this machine was started.
pub(super) fn firmware() -> Firmware {
    if Path::new("/sys/firmware/efi").is_dir() { Firmware::Efi } else { Firmware::Bios }
}
