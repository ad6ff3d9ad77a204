//! Deleting a directory of subvolumes, with whatever was made inside them since (C5), and nothing else.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Mounts, VolumeError};
use crate::sys::{SysError, btrfs, file};

/// There is nothing at `dir`: its subvolumes, the ones nested in them, and plain files are gone.
///
/// If interrupted: a part is gone; the rest is garbage by the name of `dir`, and the next repair goes on.
/// Refuses: before anything is deleted, when a subvolume of it is mounted anywhere or it leads to another filesystem.
pub fn remove(dir: &Path, mounts: &Mounts) -> Result<(), VolumeError> {
    let Some(meta) = metadata(dir)? else { return Ok(()) };
    if !meta.is_dir() {
        return Ok(file::remove_if_exists(dir)?);
    }
    let mut subvolumes = Vec::new();
    find_subvolumes(dir, &mut subvolumes)?;
    for subvolume in &subvolumes {
        if mounts.holds(subvolume)? {
            return Err(VolumeError::Mounted(subvolume.clone()));
        }
    }
    // The innermost were found last.
    for subvolume in subvolumes.iter().rev() {
        delete(subvolume)?;
    }
    if dir.exists() { remove_plain(dir, meta.dev()) } else { Ok(()) }
}

/// Whether a subvolume at or below `dir` is mounted anywhere.
pub fn is_mounted(dir: &Path, mounts: &Mounts) -> Result<bool, VolumeError> {
    let mut subvolumes = Vec::new();
    find_subvolumes(dir, &mut subvolumes)?;
    subvolumes.iter().try_fold(false, |found, subvolume| Ok(found || mounts.holds(subvolume)?))
}

fn metadata(path: &Path) -> Result<Option<std::fs::Metadata>, SysError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SysError { action: "look at", path: path.to_owned(), source }),
    }
}

/// Every subvolume at or below `path`, outer ones first. Plain directories are walked, subvolumes asked.
fn find_subvolumes(path: &Path, found: &mut Vec<PathBuf>) -> Result<(), VolumeError> {
    if btrfs::is_subvolume(path) {
        found.push(path.to_owned());
        for nested in btrfs::nested_subvolumes(path)? {
            find_subvolumes(&nested, found)?;
        }
        return Ok(());
    }
    for name in file::names(path)? {
        let inside = path.join(name);
        if metadata(&inside)?.is_some_and(|m| m.is_dir()) {
            find_subvolumes(&inside, found)?;
        }
    }
    Ok(())
}

/// One subvolume is gone. A read-only one around it is opened first, since nothing can be taken out of it otherwise; it goes next.
fn delete(subvolume: &Path) -> Result<(), VolumeError> {
    match btrfs::delete_subvolume(subvolume) {
        Err(error) if error.errno() == Some(nix::errno::Errno::EROFS) => {}
        result => return Ok(result?),
    }
    for outer in subvolume.ancestors().skip(1).filter(|p| btrfs::is_subvolume(p)).take(1) {
        btrfs::set_read_only(outer, false)?;
    }
    Ok(btrfs::delete_subvolume(subvolume)?)
}

/// What is left: plain directories and files on the filesystem `dev`. A directory of another is refused: `dir` was no subvolume, so
/// what differs is a mount.
fn remove_plain(dir: &Path, dev: u64) -> Result<(), VolumeError> {
    for name in file::names(dir)? {
        let inside = dir.join(name);
        match metadata(&inside)? {
            Some(meta) if meta.dev() != dev => return Err(VolumeError::Foreign(inside)),
            Some(meta) if meta.is_dir() => remove_plain(&inside, dev)?,
            Some(_) => file::remove_if_exists(&inside)?,
            None => {}
        }
    }
    Ok(file::remove_dir_if_exists(dir)?)
}
