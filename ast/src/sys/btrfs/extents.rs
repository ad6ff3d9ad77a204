//! Where the data of a file lies (FIEMAP).

use std::fs::File;
use std::path::Path;

use super::{READ, WRITE, call, request};
use crate::sys::{At, Result, witness};

/// `FIEMAP_EXTENT_ENCODED`: compressed or encrypted.
const EXTENT_ENCODED: u32 = 0x8;
/// `FIEMAP_EXTENT_DATA_INLINE`: in the tree, with the file's own description.
const EXTENT_INLINE: u32 = 0x200;
/// `FIEMAP_EXTENT_SHARED`: another file, or another snapshot of this one, has it too.
const EXTENT_SHARED: u32 = 0x2000;

/// `struct fiemap` with room for some extents.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; 64],
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved: [u64; 2],
    flags: u32,
    reserved2: [u32; 3],
}

/// Whether no extent of `file` is compressed (by FIEMAP, after writing out what is in memory): GRUB then hashes it in a second.
pub fn is_stored_plain(file: &Path) -> Result<bool> {
    if let Some(done) = witness::ask(|btrfs| btrfs.is_stored_plain(file)) {
        return done.at("map the extents of", file);
    }
    let mut plain = true;
    each_extent(file, true, |extent| plain &= extent.flags & EXTENT_ENCODED == 0)?;
    Ok(plain)
}

/// Bytes of the data of `file`, as far as it is in extents of its own, and of these the bytes that something else has too. Compressed data
/// counts as long as it is when read; what is so small that it lies in the tree counts nothing.
pub fn data(file: &Path) -> Result<(u64, u64)> {
    let (mut all, mut shared) = (0u64, 0u64);
    each_extent(file, false, |extent| {
        if extent.flags & EXTENT_INLINE == 0 {
            all = all.saturating_add(extent.length);
            shared = shared.saturating_add(if extent.flags & EXTENT_SHARED == 0 { 0 } else { extent.length });
        }
    })?;
    Ok((all, shared))
}

/// Hands over each extent of `file`, after writing out what is in memory where that is wanted.
fn each_extent(file: &Path, sync: bool, mut hand: impl FnMut(&FiemapExtent)) -> Result<()> {
    const ACTION: &str = "map the extents of";
    let open = File::open(file).at(ACTION, file)?;
    let blank = FiemapExtent { logical: 0, physical: 0, length: 0, reserved: [0; 2], flags: 0, reserved2: [0; 3] };
    let mut start = 0;
    loop {
        let flags = u32::from(sync);
        let mut map = Fiemap { start, length: u64::MAX - start, flags, mapped: 0, count: 64, reserved: 0, extents: [blank; 64] };
        // The size in the number is that of the header alone; the kernel writes at most `count` extents behind it.
        call(&open, request(READ | WRITE, b'f', 11, 32), &mut map).at(ACTION, file)?;
        let mapped = usize::try_from(map.mapped).unwrap_or(0).min(64);
        let extents = map.extents.get(..mapped).unwrap_or_default();
        extents.iter().for_each(&mut hand);
        match extents.last() {
            // FIEMAP_EXTENT_LAST
            Some(last) if last.flags & 1 == 0 => start = last.logical + last.length,
            _ => return Ok(()),
        }
    }
}
