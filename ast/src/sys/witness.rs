//! Who sees every change that this thread makes on disk, and stands for its btrfs: the tests that lose writes in memory. In a release build
//! there is nobody, and nothing of this is left.

use std::io;
use std::path::{Path, PathBuf};

use super::btrfs::Access;

/// One thing that a system call did, told when it is done.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A file has its content, in memory; its name may be new.
    Wrote(&'a Path),
    /// There is a directory, with those above it, or a symbolic link.
    Made(&'a Path),
    /// The second is another name of the first.
    Linked(&'a Path, &'a Path),
    /// The first has the name of the second.
    Renamed(&'a Path, &'a Path),
    /// Each has the name of the other.
    Exchanged(&'a Path, &'a Path),
    /// There is nothing of this name.
    Removed(&'a Path),
    /// The content of a file and its name survive a cut, for the kernel, which replays a log; GRUB does not.
    Synced(&'a Path),
    /// So do the names in a directory.
    SyncedDir(&'a Path),
    /// The whole filesystem of this path does, for GRUB, too.
    Committed(&'a Path),
    /// Bytes were overwritten in place, on the device.
    InPlace(&'a Path),
}

/// Sees changes, and does what only a btrfs can, on a filesystem that is none.
pub trait StandIn {
    /// A change was made.
    fn saw(&self, change: Change<'_>);
    /// As [`super::btrfs::create_subvolume`].
    fn create_subvolume(&self, path: &Path) -> io::Result<()>;
    /// As [`super::btrfs::snapshot`].
    fn snapshot(&self, from: &Path, to: &Path, access: Access) -> io::Result<()>;
    /// As [`super::btrfs::delete_subvolume`].
    fn delete_subvolume(&self, path: &Path) -> io::Result<()>;
    /// As [`super::btrfs::subvolume_there`].
    fn is_subvolume(&self, path: &Path) -> io::Result<bool>;
    /// As [`super::btrfs::set_read_only`].
    fn set_read_only(&self, path: &Path, read_only: bool) -> io::Result<()>;
    /// As [`super::btrfs::is_read_only`].
    fn is_read_only(&self, path: &Path) -> io::Result<bool>;
    /// As [`super::btrfs::subvolume_id`].
    fn subvolume_id(&self, path: &Path) -> io::Result<u64>;
    /// As [`super::btrfs::nested_subvolumes`].
    fn nested_subvolumes(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// As [`super::btrfs::is_as_made`]; "no" is always right, and costs time.
    fn is_as_made(&self, path: &Path) -> io::Result<bool>;
    /// As [`super::btrfs::is_stored_plain`].
    fn is_stored_plain(&self, file: &Path) -> io::Result<bool>;
    /// As [`super::btrfs::set_uncompressed`].
    fn set_uncompressed(&self, path: &Path) -> io::Result<()>;
    /// As [`super::btrfs::filesystem_uuid`].
    fn filesystem_uuid(&self, path: &Path) -> io::Result<String>;
}

#[cfg(debug_assertions)]
mod here {
    use super::{Change, StandIn, io};
    use std::cell::RefCell;
    use std::rc::Rc;

    thread_local! {
        static HERE: RefCell<Option<Rc<dyn StandIn>>> = const { RefCell::new(None) };
    }

    /// From here on `stand_in` is asked by this thread, or nobody.
    pub fn set(stand_in: Option<Rc<dyn StandIn>>) {
        HERE.set(stand_in);
    }

    pub(in super::super) fn ask<T>(answer: impl FnOnce(&dyn StandIn) -> io::Result<T>) -> Option<io::Result<T>> {
        // Not borrowed while it answers: it may touch files itself.
        let here = HERE.with_borrow(Clone::clone)?;
        Some(answer(&*here))
    }

    pub(in super::super) fn saw(change: Change<'_>) {
        if let Some(here) = HERE.with_borrow(Clone::clone) {
            here.saw(change);
        }
    }
}

#[cfg(not(debug_assertions))]
mod here {
    use super::{Change, StandIn, io};

    pub(in super::super) fn ask<T>(_answer: impl FnOnce(&dyn StandIn) -> io::Result<T>) -> Option<io::Result<T>> {
        None
    }

    pub(in super::super) const fn saw(_change: Change<'_>) {}
}

#[cfg(debug_assertions)]
pub use here::set;
pub(super) use here::{ask, saw};
