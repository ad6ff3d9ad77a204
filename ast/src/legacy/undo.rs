//! The way back, and the clearing of what an interruption left.

use super::take::DEPLOYMENT;
use super::{LegacyError, Result, boot, is_original};
use crate::layout::{self, Layout};
use crate::store::machine::Migration;
use crate::store::{Locked, stop_point};
use crate::sys::file;
use crate::volumes::{self, Mounts};

/// Documents that taking over writes besides the tree. The lock and the history stay.
const DOCUMENTS: [&str; 5] = [layout::MACHINE, layout::NUMBERS, layout::LOCAL_BLOCK, layout::UPDATES, layout::GRUB];

/// Nothing of ours is left on a machine that is the original's: no set, no deployment, no document.
///
/// If interrupted: some of it is; called again it goes on.
/// Refuses: a machine that was taken over.
pub fn clear(layout: &Layout) -> Result<()> {
    if !is_original(layout) {
        return Err(LegacyError::Nothing(layout.snapshots().to_owned()));
    }
    let mounts = Mounts::of_filesystem(layout.snapshots())?;
    for dir in [layout.sets(), layout.deployments()] {
        stop_point("migrate: clear");
        volumes::remove(&dir, &mounts)?;
    }
    for token in volumes::work_copies(layout)? {
        if token.parse::<crate::work::Token>().is_ok_and(|owner| !owner.is_alive()) {
            volumes::remove(&layout.work_copy(&token), &mounts)?;
        }
    }
    for name in DOCUMENTS {
        let path = layout.document(name);
        file::remove_if_exists(&file::old_copy(&path)?)?;
        file::remove_if_exists(&path)?;
    }
    for part in layout::Part::ALL {
        // Where the original had nothing, our links were.
        for (_, link) in volumes::links(layout, part)?.into_iter().filter(|(_, path)| path.is_symlink()) {
            file::remove_if_exists(&link)?;
        }
    }
    Ok(file::syncfs(layout.snapshots())?)
}

/// The machine is the original's again, as if it had never been taken over. What was done with ast since is lost.
///
/// If interrupted: before the tree document goes only the original's menu may be back, after it the rest is garbage that the next `migrate`
/// clears.
/// Refuses: after the first deploy, or when nothing of the original is left.
pub fn undo(locked: &Locked) -> Result<()> {
    let layout = locked.layout();
    match locked.machine().and_then(|machine| machine.migration) {
        Some(Migration::Tree) => {}
        Some(Migration::Boot) => {
            let block = locked.block()?;
            let ours_runs = locked.booted().and_then(|booted| booted.d).is_some_and(|d| d != DEPLOYMENT);
            if block.good != DEPLOYMENT || block.trial.is_some() || ours_runs {
                return Err(LegacyError::TooLate(
                    "a deployment of ours has taken its place; its system starts from its entry in the boot menu",
                ));
            }
        }
        None => return Err(LegacyError::Nothing(layout.snapshots().to_owned())),
    }
    if !super::found::has_subvolumes(layout) {
        return Err(LegacyError::TooLate("the original's subvolumes are gone"));
    }
    let grub = crate::loader::load(layout).map_err(|_| LegacyError::TooLate("it cannot be told whose GRUB starts this machine"))?;
    if grub.current.is_some() || grub.update.is_some() {
        // Its core image goes on with our script alone.
        return Err(LegacyError::TooLate("a GRUB that ast made has been put in its place: `grub-install` puts one there that reads any menu"));
    }
    boot::give_back(locked)?;
    let tree = layout.document(layout::TREE);
    stop_point("migrate: undo");
    file::remove_if_exists(&file::old_copy(&tree)?)?;
    file::remove_if_exists(&tree)?;
    file::syncfs(layout.snapshots())?;
    clear(layout)
}
