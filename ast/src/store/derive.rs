//! What follows from tree and boot block: the links of the README, the menu, the baked entry. Written again, it is the same.

use std::collections::BTreeMap;
use std::path::Path;

use super::StoreError;
use super::open::Store;
use crate::boot::block::BootBlock;
use crate::id::DeployId;
use crate::layout::{Layout, Part};
use crate::sys::file;
use crate::volumes;

/// `rootfs/snapshot-N`, `etc/etc-N` … lead to the current sets, and none is left of a snapshot that is gone. Whether any was changed.
///
/// If interrupted: some do; the next repair goes on.
/// What is no link (a subvolume that somebody put there) is left for `doctor`.
pub(super) fn links(store: &Store) -> Result<bool, StoreError> {
    let layout = store.layout();
    let mut changed = false;
    for part in Part::ALL {
        let there: BTreeMap<_, _> = volumes::links(layout, part)?.into_iter().collect();
        for node in store.tree()?.nodes() {
            let link = layout.link(node.id, part);
            let target = Layout::link_target(node.set(), part);
            match there.get(&node.id) {
                Some(path) if !path.is_symlink() => tracing::warn!("{} is no link and is left as it is", path.display()),
                Some(path) if std::fs::read_link(path).is_ok_and(|to| to == target) => {}
                _ => {
                    file::make_dirs(link.parent().unwrap_or(Path::new("/")))?;
                    file::symlink_replace(&target, &link)?;
                    changed = true;
                }
            }
        }
        for (n, path) in there.iter().filter(|(n, path)| path.is_symlink() && store.tree().is_ok_and(|t| t.get(**n).is_err())) {
            tracing::debug!("snapshot {n} is gone, and so is {}", path.display());
            file::remove_if_exists(path)?;
            changed = true;
        }
    }
    Ok(changed)
}

/// The deployment that GRUB starts when neither copy of the boot block is whole.
pub(super) fn baked_good(_store: &Store) -> Result<Option<DeployId>, StoreError> {
    Ok(None)
}

/// Menu and baked entry say what tree and boot block say, and are in the committed tree of the filesystem. Whether any was changed.
pub(super) fn menu(_store: &Store, _block: &BootBlock) -> Result<bool, StoreError> {
    Ok(false)
}
