//! Mounting and unmounting, by system calls.

use std::path::{Path, PathBuf};

pub use nix::mount::MsFlags;
use nix::mount::{MntFlags, mount as sys_mount, umount2};

use super::{At, Result};

/// `source` is mounted at `target`.
pub fn mount(source: &str, target: &Path, fstype: &str, flags: MsFlags, data: &str) -> Result<()> {
    sys_mount(Some(source), target, Some(fstype), flags, Some(data)).at("mount on", target)
}

/// What is at `source` is also at `target` (without what is mounted below it).
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    sys_mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).at("bind on", target)
}

/// What is at `source`, with everything mounted below it, is also at `target`.
pub fn bind_recursive(source: &Path, target: &Path) -> Result<()> {
    sys_mount(Some(source), target, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).at("bind on", target)
}

/// The mount at `target` is read-only; other mounts of the same filesystem are as before.
pub fn remount_bind_ro(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    sys_mount(None::<&str>, target, None::<&str>, flags, None::<&str>).at("make read-only", target)
}

/// Reading through the mount at `target` sets no times; other mounts of the same filesystem are as before.
pub fn remount_bind_noatime(target: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOATIME;
    sys_mount(None::<&str>, target, None::<&str>, flags, None::<&str>).at("stop the setting of times by reading at", target)
}

/// The mount at `target` has these flags, and of those that it had only its times where none are given; other mounts of the same filesystem
/// are as before.
pub fn remount_bind(target: &Path, flags: MsFlags) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    sys_mount(None::<&str>, target, None::<&str>, flags, None::<&str>).at("set the flags of the mount at", target)
}

/// The filesystem at `target` has these options beside those that it had, all of them or none; its mount there has these flags.
pub fn remount(target: &Path, flags: MsFlags, data: &str) -> Result<()> {
    sys_mount(None::<&str>, target, None::<&str>, MsFlags::MS_REMOUNT | flags, Some(data)).at("set the options of", target)
}

/// The mount at `source` is at `target` instead.
pub fn move_mount(source: &Path, target: &Path) -> Result<()> {
    sys_mount(Some(source), target, None::<&str>, MsFlags::MS_MOVE, None::<&str>).at("move the mount to", target)
}

/// Nothing that is mounted in this namespace from now on is seen by another.
pub fn make_private() -> Result<()> {
    sys_mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .at("make mounts private below", Path::new("/"))
}

/// Nothing is mounted at `target` any more (what was below it may show again).
pub fn unmount(target: &Path) -> Result<()> {
    umount2(target, MntFlags::UMOUNT_NOFOLLOW).at("unmount", target)
}

/// The mount at `target` is out of the tree now, and gone when its last user is.
pub fn unmount_lazy(target: &Path) -> Result<()> {
    umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).at("unmount", target)
}

/// What is mounted below `target` from now on is mounted nowhere else, and what is bound from there neither.
pub fn keep_to_itself(target: &Path) -> Result<()> {
    nix::mount::mount(None::<&str>, target, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).at("make private", target)
}

/// A mount that ends with this value. Its directory stays.
#[must_use = "it is unmounted when dropped"]
#[derive(Debug)]
pub struct Mounted {
    target: PathBuf,
}

impl Mounted {
    /// `source` is mounted at `target` as long as the value lives.
    pub fn new(source: &str, target: &Path, fstype: &str, flags: MsFlags, data: &str) -> Result<Self> {
        mount(source, target, fstype, flags, data)?;
        Ok(Self { target: target.to_owned() })
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// It is unmounted now; an error says why it could not be, which a drop cannot.
    pub fn unmount(self) -> Result<()> {
        let target = self.target.clone();
        std::mem::forget(self);
        unmount(&target)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if unmount(&self.target).is_err() {
            drop(unmount_lazy(&self.target));
        }
    }
}
