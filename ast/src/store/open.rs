//! Opening: what the documents, the boot block and the initramfs say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use super::document::{self, DocumentError};
use super::machine::{Block, Machine, Migration, Numbers};
use super::run::{Staged, Verify};
use super::{Repaired, StoreError, repair};
use crate::boot::block::BootBlock;
use crate::boot::booted::Booted;
use crate::boot::medium::{Copies, Medium};
use crate::deploy::record;
use crate::etc::Report;
use crate::id::{DeployId, SetId, SnapshotId};
use crate::layout::{self, Layout};
use crate::sys::lock::{Lock, Wait};
use crate::sys::{device, file};
use crate::tree::{Marks, Tree};
use crate::volumes::MountEntry;

/// What is known of the tree.
#[derive(Debug, Default)]
pub(super) struct KnownTree {
    /// `None` when it cannot be told: a newer ast wrote it, or it is lost and so is the base.
    pub(super) tree: Option<Tree>,
    /// Why the older copy of the tree, or one guessed from the sets on disk, is all there is.
    pub(super) damage: Option<DocumentError>,
}

impl KnownTree {
    fn read(layout: &Layout) -> Result<Self, StoreError> {
        Ok(match document::load::<Tree>(&layout.document(layout::TREE)) {
            Ok(loaded) if loaded.damage.is_none() => Self { tree: Some(loaded.body), damage: None },
            Ok(loaded) => {
                let guessed = repair::guess_tree(layout, Some(&loaded.body))?;
                Self { tree: Some(guessed.unwrap_or(loaded.body)), damage: loaded.damage }
            }
            Err(damage @ (DocumentError::Damaged { .. } | DocumentError::Missing(_))) => {
                Self { tree: repair::guess_tree(layout, None)?, damage: Some(damage) }
            }
            // What boots can still be judged and recorded without it (S13).
            Err(DocumentError::NewerToRead { .. }) => Self::default(),
            Err(error) => return Err(error.into()),
        })
    }
}

impl From<Tree> for KnownTree {
    fn from(tree: Tree) -> Self {
        Self { tree: Some(tree), damage: None }
    }
}

/// A machine's state as it was when it was opened, and its tree as it was when it was first asked for. Reading needs no root where the files allow it.
#[derive(Debug)]
pub struct Store {
    sysroot: PathBuf,
    layout: Layout,
    /// The tree, once it was asked for: not every verb needs it, and one of thousands takes longer to read than all the rest.
    pub(super) known_tree: OnceLock<KnownTree>,
    machine: Option<Machine>,
    booted: Option<Booted>,
    /// The boot block, once it was asked for: its medium may have to be mounted for every look. `None`: neither copy is whole.
    pub(super) known_block: OnceLock<Option<BootBlock>>,
    /// What the menu says of sets that were looked at.
    pub(super) seen: Mutex<super::lines::Seen>,
}

impl Store {
    /// The state of the machine whose root is at `sysroot` (`/` in a running one): `.snapshots`, `boot/grub` and `run/ast/booted` below it.
    ///
    /// Refuses: a place without documents. A tree that only a newer ast can read is refused by [`Store::tree`], not here.
    pub fn open(sysroot: &Path) -> Result<Self, StoreError> {
        let layout = Layout::of_sysroot(sysroot);
        if !layout.documents().is_dir() {
            return Err(StoreError::NoSystem { sysroot: sysroot.to_owned() });
        }
        if crate::legacy::is_original(&layout) {
            return Err(StoreError::Original { sysroot: sysroot.to_owned() });
        }
        let machine = match document::load_if_exists::<Machine>(&layout.document(layout::MACHINE)) {
            Ok(loaded) => loaded.map(|l| l.body),
            // Everything that needs it says so; repair reports it and deletes nothing.
            Err(DocumentError::Damaged { .. } | DocumentError::NewerToRead { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let booted = file::read_if_exists(&sysroot.join(layout::BOOTED_RECORD.trim_start_matches('/')))?
            .map(|bytes| Booted::parse(&String::from_utf8_lossy(&bytes)));
        Ok(Self { sysroot: sysroot.to_owned(), layout, known_tree: OnceLock::new(), machine, booted, known_block: OnceLock::new(), seen: Mutex::default() })
    }

    /// The root of the machine, `/` in a running one.
    pub fn sysroot(&self) -> &Path {
        &self.sysroot
    }

    /// Names on disk.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where GRUB's files are seen: `boot/grub` of the machine.
    pub fn grub_dir(&self) -> PathBuf {
        self.sysroot.join("boot/grub")
    }

    /// Whether that is the directory that GRUB reads. Where the original Python program's system runs, its own is seen there.
    pub fn shows_grub(&self) -> bool {
        let was_theirs = self.machine.as_ref().is_some_and(|machine| machine.migration == Some(Migration::Boot));
        let ours = |entry: MountEntry| entry.root.starts_with(Path::new("/").join(layout::BOOT_SUBVOL));
        !was_theirs || MountEntry::of(&self.grub_dir()).is_ok_and(|entry| entry.is_some_and(ours))
    }

    pub(super) fn known_tree(&self) -> Result<&KnownTree, StoreError> {
        match self.known_tree.get() {
            Some(known) => Ok(known),
            None => KnownTree::read(&self.layout).map(|read| self.known_tree.get_or_init(|| read)),
        }
    }

    /// The tree.
    ///
    /// Refuses: one that only a newer ast can read, or that is lost.
    pub fn tree(&self) -> Result<&Tree, StoreError> {
        match &self.known_tree()?.tree {
            Some(tree) => Ok(tree),
            None => {
                let path = self.layout.document(layout::TREE);
                Err(document::load::<Tree>(&path).err().unwrap_or(DocumentError::Missing(path)).into())
            }
        }
    }

    /// What the installer found; `None` when nothing was installed.
    pub fn machine(&self) -> Option<&Machine> {
        self.machine.as_ref()
    }

    /// Whether the boot loader of the original Python program starts this machine: it has no menu of ours, and nothing of ours boots.
    pub fn starts_with_original(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.migration == Some(Migration::Tree))
    }

    /// What the initramfs says about this boot; `None` when this machine does not run.
    pub fn booted(&self) -> Option<&Booted> {
        self.booted.as_ref()
    }

    /// The set in generation of now of this snapshot, whole on disk.
    ///
    /// Refuses: a snapshot that is not there, or of which that cannot be told.
    pub fn set_of(&self, id: SnapshotId) -> Result<SetId, StoreError> {
        let set = self.tree()?.set_of(id)?;
        if crate::volumes::whole_set(&self.layout, set)? { Ok(set) } else { Err(StoreError::Broken(set)) }
    }

    /// Where the boot block is.
    ///
    /// Refuses: a machine without `machine.json`, or whose medium is not there.
    pub fn medium(&self) -> Result<Medium, StoreError> {
        let machine = self.machine.as_ref().ok_or_else(|| DocumentError::Missing(self.layout.document(layout::MACHINE)))?;
        if machine.block == Block::Local {
            return Ok(Medium::Local { path: self.layout.document(layout::LOCAL_BLOCK) });
        }
        // On another machine's disk its ESP is where that machine would see it, or wherever the UUID leads.
        let esp = self.sysroot.join(layout::ESP_MOUNT);
        if self.sysroot != Path::new("/") && matches!(machine.block, Block::Files { .. }) && esp.join(layout::FILE_BLOCK_A).exists() {
            return Ok(Medium::Mounted { dir: esp });
        }
        // What is mounted comes first: of an image and its copy both have the UUID, and only one is meant.
        let mounted = MountEntry::of(self.layout.snapshots())?.filter(|e| e.fstype == "btrfs").map(|e| e.source);
        let root = match mounted.filter(|node| node.exists()) {
            Some(node) => Some(node),
            None => device::find_by_uuid(&machine.fs_uuid)?,
        };
        let root = root.unwrap_or_else(|| PathBuf::from("/dev/disk/by-uuid").join(&machine.fs_uuid));
        Ok(Medium::find(&machine.block.clone().into(), &root, &self.layout.documents())?)
    }

    /// Both copies of the boot block as they are now. A copy that cannot be read is an error inside.
    pub fn copies(&self) -> Result<Copies, StoreError> {
        Ok(self.medium()?.read())
    }

    /// The boot state that GRUB would take, as it was when this store was first asked for it or wrote it itself.
    ///
    /// Refuses: when neither copy is whole.
    pub fn block(&self) -> Result<BootBlock, StoreError> {
        if let Some(known) = self.known_block.get() {
            return known.clone().ok_or(StoreError::NoBlock);
        }
        let read = self.copies()?.current().map(|(_, block)| block.clone());
        self.known_block.get_or_init(|| read).clone().ok_or(StoreError::NoBlock)
    }

    /// The snapshot that a deployment was made of, as far as its record can be read.
    pub fn snapshot_of(&self, d: DeployId) -> Option<SnapshotId> {
        record::load(&self.layout, d).ok().map(|record| record.set.snapshot)
    }

    /// Which snapshots a drawing of the tree points out. What cannot be read is not pointed out.
    pub fn marks(&self) -> Marks {
        let booted = self.booted_snapshot();
        self.block().map_or(Marks { booted, ..Marks::default() }, |block| self.marks_of(&block))
    }

    /// The same, by this boot block.
    pub(crate) fn marks_of(&self, block: &BootBlock) -> Marks {
        Marks {
            booted: self.booted_snapshot(),
            default: self.snapshot_of(block.good),
            trial: block.trial.and_then(|t| self.snapshot_of(t.deployment)),
            fallback: block.prev.and_then(|d| self.snapshot_of(d)),
        }
    }

    /// The snapshot that the running system comes from.
    pub fn booted_snapshot(&self) -> Option<SnapshotId> {
        let booted = self.booted.as_ref()?;
        booted.d.and_then(|d| self.snapshot_of(d)).or(booted.set.map(|set| set.snapshot))
    }

    /// The snapshots that deployments were made of which the running system, a copy of the boot block, a baked entry or a menu names.
    ///
    /// Refuses: when one of these, or the record of such a deployment, cannot be read.
    pub fn deployed(&self) -> Result<BTreeSet<SnapshotId>, StoreError> {
        let named = super::collect::named(self, &self.copies()?)?.deployments;
        let there = named.into_iter().filter(|d| self.layout.deployment(*d).exists());
        there.map(|d| Ok(record::load(&self.layout, d)?.set.snapshot)).collect()
    }

    /// The lowest numbers that no deployment and no arming ever had (S6).
    pub fn numbers(&self) -> Result<Numbers, StoreError> {
        let (written, step) = match document::load_if_exists::<Numbers>(&self.layout.document(layout::NUMBERS)) {
            Ok(Some(loaded)) => (Some(loaded.body), if loaded.damage.is_some() { LOST_NUMBERS } else { 1 }),
            Ok(None) => (None, 1),
            // Lost: what can still be seen has to do, with a wide step away from it.
            Err(error) if error.is_loss() => (None, LOST_NUMBERS),
            Err(error) => return Err(error.into()),
        };
        let block = self.block().ok();
        let in_block = block.iter().flat_map(|b| [Some(b.good), b.prev, b.trial.map(|t| t.deployment)]).flatten();
        let on_disk = crate::volumes::deployments(&self.layout)?;
        let seen = in_block.chain(on_disk).chain(self.booted.iter().filter_map(|b| b.d));
        let past = |seen: Option<u32>| seen.map_or(1, |n| n.saturating_add(step));
        let arms = block.iter().map(|b| b.arm).chain(self.booted.iter().filter_map(|b| b.arm));
        let next_deployment = past(seen.map(DeployId::get).max());
        let next_arm = past(arms.map(crate::id::ArmId::get).max());
        let known = written.unwrap_or(Numbers { next_deployment: 0, next_arm: 0, later: Default::default() });
        Ok(Numbers {
            next_deployment: known.next_deployment.max(next_deployment),
            next_arm: known.next_arm.max(next_arm),
            later: known.later,
        })
    }

    /// The only writer on a machine of the original program that was not taken over: without a tree, without a repair.
    ///
    /// Refuses: any other machine; while another process holds the lock, after `wait`.
    pub fn take_over(sysroot: &Path, wait: Wait) -> Result<Locked, StoreError> {
        let layout = Layout::of_sysroot(sysroot);
        if !layout.documents().is_dir() {
            return Err(StoreError::NoSystem { sysroot: sysroot.to_owned() });
        }
        let lock = Lock::acquire(&layout.document(layout::LOCK), wait)?;
        // After the lock: another one may have taken it over meanwhile.
        if !crate::legacy::is_original(&layout) {
            return Err(StoreError::Stale("there is a tree already"));
        }
        let store = Self {
            sysroot: sysroot.to_owned(),
            layout,
            known_tree: KnownTree::default().into(),
            machine: None,
            booted: None,
            known_block: OnceLock::new(),
            seen: Mutex::default(),
        };
        Ok(Locked::unrepaired(store, lock))
    }

    /// The only writer, after a repair.
    ///
    /// Refuses: while another process holds the lock, after `wait`.
    pub fn lock(self, wait: Wait) -> Result<Locked, StoreError> {
        let lock = Lock::acquire(&self.layout.document(layout::LOCK), wait)?;
        // What was read before the lock may be old by now.
        let store = Self::open(&self.sysroot)?;
        store.known_tree()?;
        let mut locked = Locked::unrepaired(store, lock);
        repair::repair(&mut locked);
        Ok(locked)
    }
}

/// How far to jump when the document with the numbers is lost: more than any machine deploys between two backups of it.
const LOST_NUMBERS: u32 = 1000;

/// The store, locked and repaired: the only value that can change anything.
#[derive(Debug)]
pub struct Locked {
    pub(super) store: Store,
    /// The boot block after repair; `None` when its medium cannot be used.
    block: Option<BootBlock>,
    /// Whether every document could be read, so that what none names may be deleted.
    pub(super) deletes: bool,
    pub(super) repaired: Repaired,
    pub(super) verify: Verify,
    /// What the running plan merged into a new `/etc`.
    pub(super) merged: Option<Report>,
    /// What of it waits for its commit.
    pub(super) staged: Staged,
    /// Whether the running plan has written nothing since its last sync.
    pub(super) synced: bool,
    _lock: Lock,
}

impl Locked {
    fn unrepaired(store: Store, lock: Lock) -> Self {
        Self {
            store,
            block: None,
            deletes: false,
            repaired: Repaired::default(),
            verify: super::run::verify_really,
            merged: None,
            staged: Staged::default(),
            synced: false,
            _lock: lock,
        }
    }

    /// What the repair at the start found and did.
    pub fn repaired(&self) -> &Repaired {
        &self.repaired
    }

    /// The boot block as it is on both copies.
    ///
    /// Refuses: when its medium cannot be used.
    pub fn boot_block(&self) -> Result<&BootBlock, StoreError> {
        self.block.as_ref().ok_or(StoreError::NoBlock)
    }

    /// Whether every document could be read, so that what none names may be deleted.
    pub fn may_delete(&self) -> bool {
        self.deletes
    }

    /// From here on this is the state.
    pub(super) fn knows(&mut self, block: Option<BootBlock>) {
        self.store.known_block = OnceLock::from(block.clone());
        self.block = block;
    }

    /// New deployments are judged by `verify` instead. For tests of what surrounds it, on content that nothing boots.
    pub fn verify_with(&mut self, verify: Verify) {
        self.verify = verify;
    }
}

impl std::ops::Deref for Locked {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}
