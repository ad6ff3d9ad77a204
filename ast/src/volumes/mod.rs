//! What is on disk: sets, deployments and working copies as directories of subvolumes. btrfs says what exists, the tree what it means.

mod mounts;
mod remove;
mod size;
mod swap;

#[cfg(test)]
mod tests;

pub use mounts::{MountEntry, Mounts};
pub use remove::{is_mounted, remove};
pub use size::{Size, size_of_set};
pub use swap::swap_file;

use std::path::PathBuf;

use crate::id::{DeployId, SetId, SnapshotId};
use crate::layout::{Layout, Part, VAR_SWAP};
use crate::sys::{SysError, btrfs, file};

/// Why a directory of subvolumes could not be made or deleted.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The kernel refused.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// It, or something inside, is mounted (S14).
    #[error("{} is mounted and stays", .0.display())]
    Mounted(PathBuf),
    /// It leads to another filesystem, where nothing is ours to delete.
    #[error("{} is on another filesystem and stays", .0.display())]
    Foreign(PathBuf),
}

/// Sets on disk, whole or not, in the order of their numbers. Names that are no set are passed over.
pub fn sets(layout: &Layout) -> Result<Vec<SetId>, VolumeError> {
    named(layout.sets())
}

/// Deployments on disk, whole or not, in the order of their numbers.
pub fn deployments(layout: &Layout) -> Result<Vec<DeployId>, VolumeError> {
    named(layout.deployments())
}

/// Deployments for which something of the shared /var is kept, in the order of their numbers.
pub fn vars(layout: &Layout) -> Result<Vec<DeployId>, VolumeError> {
    named(layout.vars())
}

/// What changes places with /var when `d` starts as the good one, or has done so.
pub fn var_swaps(layout: &Layout, d: DeployId) -> Result<Vec<PathBuf>, VolumeError> {
    let mut swaps: Vec<PathBuf> = file::names(&layout.var(d))?
        .into_iter()
        .filter(|name| name.to_string_lossy().starts_with(VAR_SWAP))
        .map(|name| layout.var(d).join(name))
        .filter(|path| btrfs::is_subvolume(path))
        .collect();
    swaps.sort();
    Ok(swaps)
}

/// Subvolumes nested in `path` at any depth that hold anything: a snapshot of it does not.
pub fn filled_subvolumes(path: &std::path::Path) -> Result<Vec<PathBuf>, VolumeError> {
    let mut filled = Vec::new();
    for nested in btrfs::nested_subvolumes(path)? {
        let inner = filled_subvolumes(&nested)?;
        if inner.is_empty() && !file::names(&nested)?.is_empty() {
            filled.push(nested);
        } else {
            filled.extend(inner);
        }
    }
    Ok(filled)
}

/// Names of the working copies on disk, dead ones included.
pub fn work_copies(layout: &Layout) -> Result<Vec<String>, VolumeError> {
    Ok(file::names(&layout.work())?.into_iter().filter_map(|name| name.into_string().ok()).collect())
}

fn named<T: std::str::FromStr + Ord>(dir: PathBuf) -> Result<Vec<T>, VolumeError> {
    let names = file::names(&dir)?;
    let mut found: Vec<T> = names.iter().filter_map(|name| name.to_str()?.parse().ok()).collect();
    found.sort();
    Ok(found)
}

/// Whether the set is there with its four subvolumes, each read-only, as far as that can be told.
pub fn is_whole_set(layout: &Layout, set: SetId) -> bool {
    whole_set(layout, set).unwrap_or(false)
}

/// Whether the set is there with its four subvolumes, each read-only.
///
/// Refuses: when the disk does not let that be told, which is another thing than a set that is not whole.
pub fn whole_set(layout: &Layout, set: SetId) -> Result<bool, VolumeError> {
    all(Part::ALL.into_iter().map(|part| is_sealed(layout.set_part(set, part))))
}

/// Whether the deployment is there: root and boot read-only, `/etc` and its base; as far as that can be told.
pub fn is_whole_deployment(layout: &Layout, d: DeployId) -> bool {
    whole_deployment(layout, d).unwrap_or(false)
}

/// Whether the deployment is there: root and boot read-only, `/etc` and its base.
///
/// Refuses: when the disk does not let that be told.
pub fn whole_deployment(layout: &Layout, d: DeployId) -> Result<bool, VolumeError> {
    let there = |path: PathBuf| Ok(btrfs::subvolume_there(&path)?);
    all([
        is_sealed(layout.deployment_part(d, Part::Root)),
        is_sealed(layout.deployment_part(d, Part::Boot)),
        there(layout.deployment_part(d, Part::Etc)),
        there(layout.deployment_etc_base(d)),
    ])
}

fn is_sealed(path: PathBuf) -> Result<bool, VolumeError> {
    Ok(btrfs::subvolume_there(&path)? && btrfs::is_read_only(&path)?)
}

/// One that is not there is enough to say no, whatever cannot be told of the others.
fn all(each: impl IntoIterator<Item = Result<bool, VolumeError>>) -> Result<bool, VolumeError> {
    let mut untold = Ok(true);
    for is in each {
        match is {
            Ok(false) => return Ok(false),
            Ok(true) => {}
            unknown => untold = untold.and(unknown),
        }
    }
    untold
}

/// The highest snapshot number that anything on disk bears: sets, and the links of the README, whose targets may be gone (S6).
pub fn highest_snapshot(layout: &Layout) -> Result<Option<SnapshotId>, VolumeError> {
    let mut highest = sets(layout)?.into_iter().map(|set| set.snapshot).max();
    for part in Part::ALL {
        for (n, _) in links(layout, part)? {
            highest = highest.max(Some(n));
        }
    }
    Ok(highest)
}

/// Everything named like one of the README's links for `part` (`rootfs/snapshot-N`, `etc/etc-N` …), whatever it is.
pub fn links(layout: &Layout, part: Part) -> Result<Vec<(SnapshotId, PathBuf)>, VolumeError> {
    let example = layout.link(SnapshotId::BASE, part);
    let (Some(dir), Some(name)) = (example.parent(), example.file_name().and_then(|n| n.to_str())) else { return Ok(Vec::new()) };
    let prefix = name.trim_end_matches('0');
    let number = |name: &std::ffi::OsString| name.to_str()?.strip_prefix(prefix)?.parse::<SnapshotId>().ok();
    let names = file::names(dir)?;
    Ok(names.iter().filter_map(|name| Some((number(name)?, dir.join(name)))).collect())
}
