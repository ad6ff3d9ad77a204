//! What a btrfs needs over the years (C2), as a pure rule: facts in, duties out.
//!
//! - A scrub every thirty days finds what rots before it is needed, and mends it where there is a second copy.
//!   One is due as well when a device of several was away and all are there again: what it lacks is mended only where it is read.
//! - A balance when no space is left that belongs to no chunk: without, metadata cannot grow, and a disk with gigabytes free is full.
//! - A reserve: a file of up to 512 MiB that is given up when an update finds the disk full, since what fills the disk may be what the update
//!   would mend. It comes back when there is space again.

use serde::{Deserialize, Serialize};

use crate::layout::{self, Layout};
use crate::store::StoreError;
use crate::store::document;
use crate::sys::{btrfs, file};
use crate::updates::Age;

/// Running time between two scrubs: 30 days, as distributions do it.
const SCRUB_EVERY: u64 = 30 * 24 * 3600;
/// Bytes that belong to no chunk, below which one tidies up: two chunks of data (1 GiB each on all but small filesystems), or a twentieth of a
/// small one.
const LOW: u64 = 2 << 30;
/// Most bytes of the reserve: an upgrade of a kiosk's packages takes less.
const RESERVE_MOST: u64 = 512 << 20;
/// Part of a filesystem that reserve and low mark may have.
const PART: u64 = 20;

/// What is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Bytes of the filesystem.
    pub size: u64,
    /// Bytes that can be written.
    pub available: u64,
    /// Bytes that belong to no chunk.
    pub unallocated: u64,
    /// Bytes of the reserve, if there is one.
    pub reserved: Option<u64>,
    /// When the last scrub ended.
    pub scrubbed: Option<Age>,
    /// Now.
    pub now: Age,
    /// Whether something is on trial.
    pub trial: bool,
    /// Whether a device is not there.
    pub missing: bool,
    /// Whether one was not at a start since the last scrub: what it holds is old.
    pub behind: bool,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Chunks that are mostly empty are put together.
    Balance,
    /// So many bytes are set aside.
    Reserve(u64),
    /// Everything is read and compared with its checksum.
    Scrub,
}

/// What the filesystem needs now. In a trial nothing: it is to run as the ones after it will.
pub fn duties(facts: &Facts) -> Vec<Duty> {
    if facts.trial {
        return Vec::new();
    }
    let mut duties = Vec::new();
    let low = LOW.min(facts.size / PART);
    // Space inside of chunks, without which there is nothing to put together.
    let slack = facts.available.saturating_sub(facts.unallocated);
    if facts.unallocated < low && slack > low {
        duties.push(Duty::Balance);
    }
    let reserve = reserve_of(facts.size);
    // Setting it aside must not be what fills the disk.
    if facts.reserved.unwrap_or(0) < reserve && facts.available > 3 * reserve {
        duties.push(Duty::Reserve(reserve));
    }
    // The first scrub waits its time too: a new machine has just written everything.
    let since = facts.scrubbed.map_or(facts.now.0, |at| facts.now.since(at));
    if since >= SCRUB_EVERY || (facts.behind && !facts.missing) {
        duties.push(Duty::Scrub);
    }
    duties
}

/// Bytes of the reserve on a filesystem of `size` bytes.
const fn reserve_of(size: u64) -> u64 {
    let part = size / PART;
    if part < RESERVE_MOST { part } else { RESERVE_MOST }
}

/// What is remembered between two looks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Care {
    /// When the last scrub ended.
    pub scrubbed: Option<Age>,
    /// Whether it found what it could not mend.
    pub damaged: bool,
    /// Whether a device was not there at a start since then.
    pub behind: bool,
    /// Whether one has begun since that has not ended: the next round goes on with it.
    pub scrubbing: bool,
}

/// It is remembered that a device is not there, or was away: at the start after this one it may not show any more.
pub fn note_behind(layout: &Layout) -> Result<(), StoreError> {
    let known = load(layout);
    // A scrub that has begun does not know of it.
    if known.behind && !known.scrubbing { Ok(()) } else { save(layout, &Care { behind: true, scrubbing: false, ..known }) }
}

/// What is remembered; nothing where there is nothing or it is damaged: then it is scrubbed once too often.
pub fn load(layout: &Layout) -> Care {
    let loaded = document::load_if_exists::<Care>(&layout.document(layout::CARE));
    loaded.ok().flatten().map(|loaded| loaded.body).unwrap_or_default()
}

/// `care` is remembered.
pub fn save(layout: &Layout, care: &Care) -> Result<(), StoreError> {
    Ok(document::save(&layout.document(layout::CARE), care)?)
}

/// The facts of this machine.
pub fn look(layout: &Layout, now: Age, trial: bool) -> Result<Facts, StoreError> {
    let (size, available) = btrfs::space(layout.snapshots())?;
    let devices = btrfs::devices(layout.snapshots())?;
    let unallocated = devices.iter().map(btrfs::Device::unallocated).sum();
    let missing = devices.iter().any(|device| device.missing);
    let Care { scrubbed, behind, .. } = load(layout);
    let reserved = std::fs::metadata(layout.document(layout::RESERVE)).ok().map(|meta| meta.len());
    Ok(Facts { size, available, unallocated, reserved, scrubbed, now, trial, missing, behind })
}

/// What speaks against the filesystem, a line each: what its devices have counted, as far as that can be read, and what the last scrub found.
pub fn complaints(layout: &Layout) -> Vec<String> {
    let devices = btrfs::devices(layout.snapshots()).unwrap_or_default();
    let damaged = load(layout).damaged.then(|| "the last scrub found damage that it could not mend".to_owned());
    devices.iter().filter_map(errors_of).chain(damaged).collect()
}

/// What the counters of a device say against it; `None` when nothing does.
fn errors_of(device: &btrfs::Device) -> Option<String> {
    if device.missing {
        return Some(format!("device {} of the filesystem is missing: what it held is there only once, or not at all", device.id));
    }
    let counted = device.errors.iter().zip(btrfs::Device::ERRORS).filter(|(count, _)| **count > 0);
    let words: Vec<String> = counted.map(|(count, what)| format!("{count} {what}")).collect();
    (!words.is_empty()).then(|| format!("device {} has counted errors: {}", device.id, words.join(", ")))
}

/// `bytes` are set aside.
///
/// If interrupted: fewer are, and the next look sets aside the rest.
pub fn set_aside(layout: &Layout, bytes: u64) -> Result<(), StoreError> {
    Ok(file::reserve(&layout.document(layout::RESERVE), bytes)?)
}

/// Bytes without which not even a document can be written: the memory of the updater, a menu, a history.
const ROOM: u64 = 16 << 20;

/// Where the disk has no room for a document, what was set aside is lent for the length of a cycle: without its memory a cycle would not
/// come as far as an update. So many bytes are lent.
///
/// If interrupted: the reserve is gone until there is space again.
pub fn lend(layout: &Layout) -> Result<Option<u64>, StoreError> {
    let path = layout.document(layout::RESERVE);
    let Some(bytes) = std::fs::metadata(&path).ok().map(|meta| meta.len()) else { return Ok(None) };
    let (_, available) = btrfs::space(layout.snapshots())?;
    if available >= ROOM {
        return Ok(None);
    }
    give_up(layout)?;
    Ok(Some(bytes))
}

/// What was lent is set aside again, as far as nobody has taken it meanwhile.
pub fn take_back(layout: &Layout, bytes: u64) -> Result<(), StoreError> {
    // What the cycle deleted counts once the transaction is on disk.
    btrfs::commit(layout.snapshots())?;
    let (_, available) = btrfs::space(layout.snapshots())?;
    match bytes.min(available.saturating_sub(ROOM / 4)) {
        0 => Ok(()),
        there => {
            set_aside(layout, there)?;
            // Until then what was freed by the first commit counts as free still.
            Ok(btrfs::commit(layout.snapshots())?)
        }
    }
}

/// What was set aside can be used, if the disk has less free than that. Whether it was needed.
pub fn give_up_if_needed(layout: &Layout) -> Result<bool, StoreError> {
    let path = layout.document(layout::RESERVE);
    let Ok(meta) = std::fs::metadata(&path) else { return Ok(false) };
    let (_, available) = btrfs::space(layout.snapshots())?;
    if available >= meta.len() {
        return Ok(false);
    }
    give_up(layout)?;
    Ok(true)
}

fn give_up(layout: &Layout) -> Result<(), StoreError> {
    file::remove_if_exists(&layout.document(layout::RESERVE))?;
    // The space is there once the transaction is.
    Ok(btrfs::commit(layout.snapshots())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn facts() -> Facts {
        Facts {
            size: 100 * GIB,
            available: 50 * GIB,
            unallocated: 20 * GIB,
            reserved: Some(RESERVE_MOST),
            scrubbed: Some(Age(1000)),
            now: Age(2000),
            trial: false,
            missing: false,
            behind: false,
        }
    }

    #[test]
    fn c2_a_filesystem_gets_what_it_needs_and_nothing_else() {
        let month = Age(1000 + SCRUB_EVERY);
        let cases: &[(Facts, &[Duty])] = &[
            (facts(), &[]),
            (Facts { now: month, ..facts() }, &[Duty::Scrub]),
            (Facts { now: month, trial: true, ..facts() }, &[]),
            (Facts { scrubbed: None, ..facts() }, &[]),
            // A device was away: once all are there again, and not before.
            (Facts { behind: true, ..facts() }, &[Duty::Scrub]),
            (Facts { behind: true, missing: true, ..facts() }, &[]),
            (Facts { behind: true, trial: true, ..facts() }, &[]),
            (Facts { behind: true, missing: true, now: month, ..facts() }, &[Duty::Scrub]),
            (Facts { scrubbed: None, now: month, ..facts() }, &[Duty::Scrub]),
            (Facts { unallocated: GIB, ..facts() }, &[Duty::Balance]),
            // Full of data: there is nothing to put together.
            (Facts { unallocated: GIB, available: 2 * GIB, ..facts() }, &[]),
            (Facts { reserved: None, ..facts() }, &[Duty::Reserve(RESERVE_MOST)]),
            // The reserve comes back only where there is plenty.
            (Facts { reserved: None, available: GIB, ..facts() }, &[]),
            // Cut while it was set aside.
            (Facts { reserved: Some(5), now: month, ..facts() }, &[Duty::Reserve(RESERVE_MOST), Duty::Scrub]),
            // A small disk: a twentieth.
            (
                Facts { size: 4 * GIB, available: 2 * GIB, unallocated: GIB / 10, reserved: None, ..facts() },
                &[Duty::Balance, Duty::Reserve(4 * GIB / 20)],
            ),
        ];
        for (facts, expected) in cases {
            assert_eq!(duties(facts), *expected, "{facts:?}");
        }
    }
}
