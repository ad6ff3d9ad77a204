//! Giving up what the original had: its subvolumes go, and the paths of the README lead to our sets.

use super::take::DEPLOYMENT;
use super::{FSTREE, LegacyError, Result};
use crate::grub::install::{ORIGINAL_MENU, baked_in};
use crate::layout::Layout;
use crate::store::machine::{Machine, Migration};
use crate::store::{Locked, Store, stop_point};
use crate::sys::{btrfs, file};
use crate::volumes::{self, Mounts, VolumeError};

/// Below the documents: what the original's program kept there and nothing else reads. The directories that a person may have filled
/// (`root`, `tmp`) and the program itself stay.
const THEIRS: [&str; 4] = [FSTREE, "part", "upstate", "snapshots"];

/// Names below `/.snapshots` that [`finish`] would delete. Changes nothing.
///
/// Refuses: as that.
pub fn preview_finish(store: &Store) -> Result<Vec<String>> {
    allowed(store)?;
    let layout = store.layout();
    let name = |path: &std::path::Path| path.strip_prefix(layout.snapshots()).unwrap_or(path).to_string_lossy().into_owned();
    Ok(super::found::subvolumes(layout)?.iter().map(|path| name(path)).collect())
}

/// Nothing of the original's is left but plain directories, and this is a machine of ours like any other.
///
/// If interrupted: some of it is; called again it goes on.
/// Refuses: while our boot script is not in place, while anything that may start by itself needs what the original had, and while a part of
/// that is mounted.
pub fn finish(locked: &Locked) -> Result<()> {
    allowed(locked)?;
    let layout = locked.layout();
    let (all, mounts) = (super::found::subvolumes(layout)?, Mounts::of_filesystem(layout.snapshots())?);
    for path in &all {
        if volumes::is_mounted(path, &mounts)? {
            return Err(VolumeError::Mounted(path.clone()).into());
        }
    }
    // First what offers it: a menu must not name what is gone (S2).
    stop_point("migrate: menu of the original");
    file::remove_if_exists(&locked.grub_dir().join(ORIGINAL_MENU))?;
    locked.write_menu()?;
    // The kernel keeps the default subvolume, by which the original's GRUB menu found its next deployment.
    btrfs::reset_default_subvolume(layout.snapshots())?;
    for path in all {
        stop_point("migrate: finish");
        volumes::remove(&path, &mounts)?;
    }
    for name in THEIRS {
        remove(layout, name, &mounts)?;
    }
    stop_point("migrate: machine");
    let machine = locked.machine().ok_or_else(|| LegacyError::Nothing(layout.snapshots().to_owned()))?;
    Machine { migration: None, ..machine.clone() }.save(layout)?;
    Ok(file::syncfs(layout.snapshots())?)
}

fn remove(layout: &Layout, name: &str, mounts: &Mounts) -> Result<()> {
    let path = layout.document(name);
    if path.is_dir() { Ok(volumes::remove(&path, mounts)?) } else { Ok(file::remove_if_exists(&path)?) }
}

fn allowed(store: &Store) -> Result<()> {
    match store.machine().and_then(|machine| machine.migration) {
        Some(Migration::Boot) => {}
        Some(Migration::Tree) => return Err(LegacyError::TooEarly("its own boot loader still starts it: `ast migrate --boot` first")),
        None => return Err(LegacyError::Nothing(store.layout().snapshots().to_owned())),
    }
    let block = store.block()?;
    let baked = baked_in(&store.grub_dir().join("ast"))?.into_iter().map(|baked| baked.good);
    let starts = [Some(block.good), block.prev, block.trial.map(|t| t.deployment)].into_iter().flatten().chain(baked);
    if starts.into_iter().any(|d| d == DEPLOYMENT) {
        return Err(LegacyError::TooEarly(
            "its system is what is started when a deployment is bad: two deployments that booted well are needed first",
        ));
    }
    let ours = store.booted().and_then(|booted| booted.d).is_some_and(|d| d != DEPLOYMENT);
    if ours { Ok(()) } else { Err(LegacyError::TooEarly("what runs now is no deployment of ours")) }
}
