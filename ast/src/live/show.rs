//! The running system sees the new root.

use std::path::{Path, PathBuf};

use super::changes;
use crate::layout::MOUNT_POINTS;
use crate::sys::mount::{bind, remount_bind_ro};
use crate::sys::{SysError, file};

/// The directories of `root` that differ from `old` are mounted over those of the running system, each in one step: who has a file of the
/// old one open keeps it. What is new at the top of the root is seen after the next start, for there is nothing to mount it on.
pub(super) fn show(sysroot: &Path, old: &Path, root: &Path) -> Result<Vec<PathBuf>, SysError> {
    let is_dir = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let mut shown = Vec::new();
    for name in file::names(root)? {
        let (from, at) = (root.join(&name), sysroot.join(&name));
        if MOUNT_POINTS.iter().any(|point| name == *point) || !is_dir(&from) || !is_dir(&at) || !changes::differ(&old.join(&name), &from)? {
            continue;
        }
        bind(&from, &at)?;
        remount_bind_ro(&at)?;
        shown.push(Path::new("/").join(&name));
    }
    Ok(shown)
}
