//! A machine whose disk is a directory in memory: what a btrfs does is done here, and whoever watches is told of each change.
//!
//! Below `top` is the btrfs, below `esp` the other disk, with the boot block; `root` shows both as a running system does.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ast::layout;
use ast::sys::btrfs::Access;
use ast::sys::witness::{self, Change, StandIn};
use nix::errno::Errno;

use super::disk::{Dir, Disk, Node, Subvolume};
use crate::vm::scratch::scratch_in_memory;

/// UUID of the file system that this stands for.
pub(super) const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";
/// Number of the top level of a btrfs, and what the first of the others has.
const TOP: u64 = 5;
const FIRST: u64 = 256;

/// Where a path lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// On the btrfs, from its top level.
    Btrfs(String),
    /// On the other disk.
    Apart(String),
    /// Neither.
    Elsewhere,
}

/// What is told of a change.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    Change(Change<'a>),
    Created(&'a Path, Subvolume),
    Snapshot(&'a Path, &'a Path, Subvolume),
    Deleted(&'a Path),
    ReadOnly(&'a Path, bool),
}

type Watch = Rc<dyn Fn(&Seen<'_>)>;

/// The btrfs of one thread.
pub(super) struct Machine {
    dir: tempfile::TempDir,
    subvolumes: RefCell<BTreeMap<u64, Subvolume>>,
    next: RefCell<u64>,
    watch: RefCell<Option<Watch>>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("dir", &self.dir).finish_non_exhaustive()
    }
}

fn error<T>(errno: Errno) -> io::Result<T> {
    Err(errno.into())
}

impl Machine {
    /// An empty disk, which this thread's changes are made to from here on.
    pub(super) fn new() -> Rc<Self> {
        let dir = scratch_in_memory("memory").expect("a directory in memory");
        let machine = Self { dir, subvolumes: RefCell::default(), next: RefCell::new(FIRST), watch: RefCell::default() };
        for name in ["top", "esp/ast/a", "esp/ast/b", "root/run/ast"] {
            std::fs::create_dir_all(machine.dir.path().join(name)).expect("dir");
        }
        for (to, name) in [
            (machine.top().join(layout::SNAPSHOTS_SUBVOL), ".snapshots"),
            (machine.top().join(layout::BOOT_SUBVOL), "boot"),
            (machine.top().join(layout::VAR_SUBVOL), "var"),
            (machine.esp(), layout::ESP_MOUNT),
        ] {
            symlink(to, machine.root().join(name)).expect("link");
        }
        machine.add(&machine.top(), Subvolume { id: TOP, read_only: false }).expect("the top level");
        let machine = Rc::new(machine);
        witness::set(Some(Rc::clone(&machine) as Rc<dyn StandIn>));
        machine
    }

    pub(super) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    pub(super) fn top(&self) -> PathBuf {
        self.dir.path().join("top")
    }

    pub(super) fn esp(&self) -> PathBuf {
        self.dir.path().join("esp")
    }

    /// From here on `watch` is told of each change.
    pub(super) fn watch(&self, watch: Option<Watch>) {
        *self.watch.borrow_mut() = watch;
    }

    fn tell(&self, seen: &Seen<'_>) {
        let watch = self.watch.borrow().clone();
        if let Some(watch) = watch {
            watch(seen);
        }
    }

    /// Where `path` lies, whichever way it was named.
    pub(super) fn place(&self, path: &Path) -> Place {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        if let Ok(rest) = path.strip_prefix(self.top()) {
            return Place::Btrfs(text(rest));
        }
        if let Ok(rest) = path.strip_prefix(self.esp()) {
            return Place::Apart(text(rest));
        }
        let Ok(rest) = path.strip_prefix(self.root()) else { return Place::Elsewhere };
        for (name, subvolume) in [(".snapshots", layout::SNAPSHOTS_SUBVOL), ("boot", layout::BOOT_SUBVOL), ("var", layout::VAR_SUBVOL)] {
            if let Ok(rest) = rest.strip_prefix(name) {
                return Place::Btrfs(text(&Path::new(subvolume).join(rest)).trim_end_matches('/').to_owned());
            }
        }
        match rest.strip_prefix(layout::ESP_MOUNT) {
            Ok(rest) => Place::Apart(text(rest)),
            Err(_) => Place::Elsewhere,
        }
    }

    fn ino(path: &Path) -> io::Result<u64> {
        // Of a link, what it leads to: the root shows subvolumes by links.
        Ok(std::fs::metadata(path)?.ino())
    }

    fn add(&self, path: &Path, subvolume: Subvolume) -> io::Result<()> {
        self.subvolumes.borrow_mut().insert(Self::ino(path)?, subvolume);
        Ok(())
    }

    /// The subvolume that `path` is.
    pub(super) fn subvolume(&self, path: &Path) -> Option<Subvolume> {
        self.at(path)
    }

    fn at(&self, path: &Path) -> Option<Subvolume> {
        self.subvolumes.borrow().get(&Self::ino(path).ok()?).copied()
    }

    /// The subvolume that a directory lies in.
    fn around(&self, path: &Path) -> io::Result<Subvolume> {
        let real = std::fs::canonicalize(path)?;
        real.ancestors().find_map(|dir| self.at(dir)).ok_or_else(|| Errno::ENOTTY.into())
    }

    fn is_room_for(&self, path: &Path) -> io::Result<()> {
        let around = self.around(path.parent().unwrap_or(Path::new("/")))?;
        match () {
            () if std::fs::symlink_metadata(path).is_ok() => error(Errno::EEXIST),
            () if around.read_only => error(Errno::EROFS),
            () => Ok(()),
        }
    }

    fn make(&self, path: &Path, read_only: bool) -> io::Result<Subvolume> {
        let id = self.next.replace_with(|next| *next + 1);
        let subvolume = Subvolume { id, read_only };
        std::fs::create_dir(path)?;
        self.add(path, subvolume)?;
        Ok(subvolume)
    }

    /// Everything below `from` is below `to`, a subvolume inside it as an empty directory.
    fn copy(&self, from: &Path, to: &Path, known: &mut BTreeMap<u64, PathBuf>) -> io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let (meta, made) = (entry.metadata()?, to.join(entry.file_name()));
            if meta.is_dir() {
                std::fs::create_dir(&made)?;
                if !self.subvolumes.borrow().contains_key(&meta.ino()) {
                    self.copy(&entry.path(), &made, known)?;
                }
            } else if meta.is_symlink() {
                symlink(std::fs::read_link(entry.path())?, &made)?;
            } else if let Some(first) = known.get(&meta.ino()) {
                std::fs::hard_link(first, &made)?;
            } else {
                std::fs::copy(entry.path(), &made)?;
                if meta.nlink() > 1 {
                    known.insert(meta.ino(), made);
                }
            }
        }
        Ok(())
    }

    /// The disk is `disk`, with this on the other one; what was there is gone.
    pub(super) fn become_disk(&self, disk: &Disk, esp: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
        for entry in std::fs::read_dir(self.top())? {
            std::fs::remove_dir_all(entry?.path())?;
        }
        let top = self.at(&self.top());
        self.subvolumes.borrow_mut().clear();
        self.add(&self.top(), top.unwrap_or(Subvolume { id: TOP, read_only: false }))?;
        let mut first = BTreeMap::new();
        let mut highest = FIRST;
        self.write(disk, disk.root(), &self.top(), &mut first, &mut highest)?;
        *self.next.borrow_mut() = highest + 1;
        for (name, bytes) in esp {
            std::fs::write(self.esp().join(name), bytes)?;
        }
        Ok(())
    }

    fn write(&self, disk: &Disk, dir: &Dir, at: &Path, first: &mut BTreeMap<u64, PathBuf>, highest: &mut u64) -> io::Result<()> {
        for (name, node) in &dir.names {
            let path = at.join(name);
            match node {
                Node::Dir(below) => {
                    std::fs::create_dir(&path)?;
                    if let Some(subvolume) = below.subvolume {
                        *highest = subvolume.id.max(*highest);
                        self.add(&path, subvolume)?;
                    }
                    self.write(disk, below, &path, first, highest)?;
                }
                Node::File(ino, bytes) => match first.get(ino) {
                    Some(first) => std::fs::hard_link(first, &path)?,
                    None => {
                        std::fs::write(&path, &disk.content(*ino, bytes).bytes)?;
                        first.insert(*ino, path);
                    }
                },
                Node::Link(to) => symlink(to, &path)?,
            }
        }
        Ok(())
    }
}

impl StandIn for Machine {
    fn saw(&self, change: Change<'_>) {
        self.tell(&Seen::Change(change));
    }

    fn create_subvolume(&self, path: &Path) -> io::Result<()> {
        self.is_room_for(path)?;
        let subvolume = self.make(path, false)?;
        self.tell(&Seen::Created(path, subvolume));
        Ok(())
    }

    fn snapshot(&self, from: &Path, to: &Path, access: Access) -> io::Result<()> {
        if self.at(from).is_none() {
            return error(if from.exists() { Errno::EINVAL } else { Errno::ENOENT });
        }
        self.is_room_for(to)?;
        let subvolume = self.make(to, access == Access::ReadOnly)?;
        self.copy(from, to, &mut BTreeMap::new())?;
        self.tell(&Seen::Snapshot(from, to, subvolume));
        Ok(())
    }

    fn delete_subvolume(&self, path: &Path) -> io::Result<()> {
        let ino = Self::ino(path)?;
        if self.at(path).is_none() {
            return error(Errno::EINVAL);
        }
        if !self.nested_subvolumes(path)?.is_empty() {
            return error(Errno::ENOTEMPTY);
        }
        if self.around(path.parent().unwrap_or(Path::new("/")))?.read_only {
            return error(Errno::EROFS);
        }
        std::fs::remove_dir_all(path)?;
        self.subvolumes.borrow_mut().remove(&ino);
        self.tell(&Seen::Deleted(path));
        Ok(())
    }

    fn is_subvolume(&self, path: &Path) -> io::Result<bool> {
        // What is a mount on a machine is a link here.
        let is_mount = path.parent().is_some_and(|dir| dir == self.root());
        let meta = if is_mount { std::fs::metadata(path) } else { std::fs::symlink_metadata(path) };
        match meta {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
            meta => Ok(meta?.is_dir() && self.at(path).is_some()),
        }
    }

    fn set_read_only(&self, path: &Path, read_only: bool) -> io::Result<()> {
        let Some(subvolume) = self.at(path) else { return error(Errno::EINVAL) };
        if subvolume.read_only != read_only {
            self.add(path, Subvolume { read_only, ..subvolume })?;
            self.tell(&Seen::ReadOnly(path, read_only));
        }
        Ok(())
    }

    fn is_read_only(&self, path: &Path) -> io::Result<bool> {
        Self::ino(path)?;
        self.at(path).map(|subvolume| subvolume.read_only).ok_or_else(|| Errno::EINVAL.into())
    }

    fn subvolume_id(&self, path: &Path) -> io::Result<u64> {
        Ok(self.around(path)?.id)
    }

    fn nested_subvolumes(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                continue;
            }
            if self.at(&entry.path()).is_some() {
                found.push(entry.path());
            } else {
                found.extend(self.nested_subvolumes(&entry.path())?);
            }
        }
        Ok(found)
    }

    fn is_as_made(&self, _path: &Path) -> io::Result<bool> {
        Ok(false)
    }

    fn is_stored_plain(&self, _file: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn set_uncompressed(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn filesystem_uuid(&self, _path: &Path) -> io::Result<String> {
        Ok(UUID.to_owned())
    }
}
