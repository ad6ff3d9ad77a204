//! `updates.json` on disk, and the kernel's clock: the only door of this room to the world.

use std::time::Duration;

use super::clock::Age;
use super::document::{Pause, Updates};
use crate::layout::{Layout, UPDATES};
use crate::store::document::{self, DocumentError};
use crate::sys::lock::{Lock, LockError, Wait};
use crate::sys::{At, SysError, file};

/// Kernel's id of this start.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What is remembered, its clock set; an empty memory when there never was one, or when it is damaged together with its older copy, or the disk
/// gives back neither: block and tree tell what matters, and a machine that cannot remember must still update itself.
///
/// Refuses: a document of a newer ast that this one cannot read.
pub fn load(layout: &Layout) -> Result<Updates, DocumentError> {
    let mut updates: Updates = match document::load_if_exists(&layout.document(UPDATES)) {
        Ok(None) => Updates::default(),
        Ok(Some(loaded)) => {
            if let Some(damage) = loaded.damage {
                tracing::warn!("what is remembered of updates is that of its older copy: {damage}");
            }
            loaded.body
        }
        Err(error) if error.is_loss() => {
            tracing::warn!("what was remembered of updates is lost: {error}");
            Updates::default()
        }
        Err(error) => return Err(error),
    };
    tick(&mut updates)?;
    Ok(updates)
}

/// Beside the document: held for the length of one write, while a cycle may run or not.
const WRITING: &str = "updates.writing";
/// A write takes a sync of the disk. One that takes longer than this has a disk that hangs (30 s).
const PATIENCE: Duration = Duration::from_secs(30);

/// Why something is not remembered.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// Another one writes, and does not end.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It cannot be read or written.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

/// `updates` is remembered, now and after a power cut. What a person ordered meanwhile (a pause) is kept, also in `updates`.
///
/// If interrupted: the memory is whole, old or new.
/// Refuses: while another process writes it, after 30 seconds: the gate and a cycle may have it open at once.
pub fn save(layout: &Layout, updates: &mut Updates) -> Result<(), KeepError> {
    let _writing = Lock::acquire(&layout.document(WRITING), Wait::Up(PATIENCE))?;
    let path = layout.document(UPDATES);
    if let Ok(Some(there)) = document::load_if_exists::<Updates>(&path) {
        updates.pause = there.body.pause;
    }
    Ok(document::save(&path, updates)?)
}

/// A pause of `seconds` of running time from now on is remembered; one without an end with `None`. Holds at once, for a cycle that runs, too.
///
/// If interrupted: it is or it is not.
pub fn pause(layout: &Layout, seconds: Option<u64>) -> Result<Updates, KeepError> {
    set_pause(layout, |now| Some(Pause { until: seconds.map(|seconds| now.plus(seconds)) }))
}

/// No pause is remembered.
///
/// If interrupted: as before or as after.
pub fn resume(layout: &Layout) -> Result<Updates, KeepError> {
    set_pause(layout, |_| None)
}

fn set_pause(layout: &Layout, pause: impl FnOnce(Age) -> Option<Pause>) -> Result<Updates, KeepError> {
    let _writing = Lock::acquire(&layout.document(WRITING), Wait::Up(PATIENCE))?;
    let mut updates = load(layout)?;
    updates.pause = pause(updates.now());
    document::save(&layout.document(UPDATES), &updates)?;
    Ok(updates)
}

/// In memory only: the clock has seen this moment.
pub fn tick(updates: &mut Updates) -> Result<(), SysError> {
    let id = file::read(BOOT_ID.as_ref())?;
    // Sleep counts: a machine that slept through a day has waited for a day.
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).at("read the time since boot of", BOOT_ID.as_ref())?;
    updates.clock.tick(String::from_utf8_lossy(&id).trim(), u64::try_from(time.tv_sec()).unwrap_or(0));
    Ok(())
}
