//! The devices of a btrfs, and its space.

use std::fs::File;
use std::path::Path;

use nix::libc;

use super::{MAGIC, READ, WRITE, call, request};
use crate::sys::{At, Result};

/// One device of a btrfs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub id: u64,
    /// Bytes in all.
    pub total: u64,
    /// Bytes that belong to a chunk, used or not.
    pub allocated: u64,
    /// How often something went wrong since the counters were last cleared: write, read, flush, corruption, generation.
    pub errors: [u64; 5],
    /// Whether it was not there when the filesystem was mounted (`degraded`).
    pub missing: bool,
}

impl Device {
    /// What each number of [`Device::errors`] counts, in the words of `btrfs device stats`.
    pub const ERRORS: [&str; 5] = ["write", "read", "flush", "corruption", "generation"];

    /// Bytes that no chunk has; a device that is not there has none to give.
    pub const fn unallocated(&self) -> u64 {
        if self.missing { 0 } else { self.total.saturating_sub(self.allocated) }
    }
}

/// The devices of the btrfs that holds `path`. Needs root.
pub fn devices(path: &Path) -> Result<Vec<Device>> {
    const ACTION: &str = "ask for the devices of";
    /// `struct btrfs_ioctl_fs_info_args`, `…_dev_info_args` and `…_get_dev_stats` as 64-bit words.
    const FS_INFO: usize = 1024;
    const DEV_INFO: usize = 4096;
    const DEV_INFO_PATH: usize = 3072 / 8;
    const DEV_STATS: usize = 1032;
    let file = File::open(path).at(ACTION, path)?;
    let mut info = [0u64; FS_INFO / 8];
    call(&file, request(READ, MAGIC, 31, FS_INFO), &mut info).at(ACTION, path)?;
    let [highest, count, ..] = info;
    let mut found = Vec::new();
    for id in 0..=highest {
        let mut device = [0u64; DEV_INFO / 8];
        let [number, ..] = &mut device;
        *number = id;
        match call(&file, request(READ | WRITE, MAGIC, 30, DEV_INFO), &mut device) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => continue,
            result => result.at(ACTION, path)?,
        }
        // devid, uuid (two words), bytes used, bytes in all; far behind them the path, which one that is missing does not have.
        let [_, _, _, allocated, total, ..] = device;
        let missing = device.get(DEV_INFO_PATH).is_some_and(|word| *word == 0);
        let mut stats = [0u64; DEV_STATS / 8];
        let [number, items, ..] = &mut stats;
        (*number, *items) = (id, 5);
        call(&file, request(READ | WRITE, MAGIC, 52, DEV_STATS), &mut stats).at(ACTION, path)?;
        // devid, number of values, flags, the values.
        let [_, _, _, write, read, flush, corruption, generation, ..] = stats;
        found.push(Device { id, total, allocated, errors: [write, read, flush, corruption, generation], missing });
        if found.len() as u64 == count {
            break;
        }
    }
    Ok(found)
}

/// Mounted-filesystem totals of the filesystem that holds `path`: bytes in all, bytes available.
pub fn space(path: &Path) -> Result<(u64, u64)> {
    let info = nix::sys::statvfs::statvfs(path).at("read the free space of", path)?;
    Ok((info.blocks() * info.fragment_size(), info.blocks_available() * info.fragment_size()))
}
