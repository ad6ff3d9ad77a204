//! `updates.json` on disk, and the kernel's clock: the only door of this room to the world.

use super::Updates;
use crate::layout::{Layout, UPDATES};
use crate::store::document::{self, DocumentError};
use crate::sys::{At, SysError, file};

/// Kernel's id of this start.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is remembered, its clock set; an empty memory when there never was one, or when it is damaged together with its older copy:
/// block and tree tell what matters, and a machine that cannot remember must still update itself.
///
/// Refuses: a document of a newer ast that this one cannot read.
pub fn load(layout: &Layout) -> Result<Updates, DocumentError> {
    let mut updates: Updates = match document::load_if_exists(&layout.document(UPDATES)) {
        Ok(loaded) => loaded.map(|loaded| loaded.body).unwrap_or_default(),
        Err(damage @ DocumentError::Damaged { .. }) => {
            tracing::warn!("what was remembered of updates is lost: {damage}");
            Updates::default()
        }
        Err(error) => return Err(error),
    };
    tick(&mut updates)?;
    Ok(updates)
}

/// `updates` is remembered, now and after a power cut.
///
/// If interrupted: the memory is whole, old or new.
pub fn save(layout: &Layout, updates: &Updates) -> Result<(), DocumentError> {
    document::save(&layout.document(UPDATES), updates)
}

/// In memory only: the clock has seen this moment.
pub fn tick(updates: &mut Updates) -> Result<(), SysError> {
    let id = file::read(BOOT_ID.as_ref())?;
    // Sleep counts: a machine that slept through a day has waited for a day.
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).at("read the time since boot of", BOOT_ID.as_ref())?;
    updates.clock.tick(String::from_utf8_lossy(&id).trim(), u64::try_from(time.tv_sec()).unwrap_or(0));
    Ok(())
}
