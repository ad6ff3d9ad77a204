//! Two repairs of a btrfs that its kernel cannot make, because each is about whether it can be mounted at all: a first superblock that is
//! damaged while a copy is whole, and a log of the last fsyncs that cannot be replayed. Source of the offsets: btrfs's on-disk format,
//! `struct btrfs_super_block`.
//!
//! Only filesystems with crc32c sums are touched (mkfs's default); of others nothing is known, so nothing is changed.

use std::path::Path;

use super::{Result, file};

/// Where the superblock and its copies are, in bytes. The kernel mounts by the first alone.
const COPIES: [u64; 3] = [64 << 10, 64 << 20, 256 << 30];
const SIZE: usize = 4096;
const SUM: usize = 0x00;
/// The sum is over everything behind its own field.
const SUMMED: usize = 0x20;
const FSID: std::ops::Range<usize> = 0x20..0x30;
const OWN_PLACE: usize = 0x30;
const MAGIC: std::ops::Range<usize> = 0x40..0x48;
const GENERATION: usize = 0x48;
const LOG_ROOT: usize = 0x60;
const DEVICES: usize = 0x88;
const SUM_TYPE: std::ops::Range<usize> = 0xC4..0xC6;
const LOG_ROOT_LEVEL: usize = 0xC8;

/// One superblock with the magic in its place; whether it is whole is another question.
struct Superblock(Vec<u8>);

impl Superblock {
    fn read(node: &Path, place: u64) -> Option<Self> {
        // A disk that ends before it has no such copy.
        let bytes = file::read_at(node, place, SIZE).ok()?;
        (bytes.get(MAGIC)? == b"_BHRfS_M").then_some(Self(bytes))
    }

    fn number(&self, at: usize) -> u64 {
        self.0.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
    }

    fn set(&mut self, at: usize, value: &[u8]) {
        if let Some(field) = self.0.get_mut(at..at + value.len()) {
            field.copy_from_slice(value);
        }
    }

    fn has_crc32c(&self) -> bool {
        self.0.get(SUM_TYPE) == Some(&[0, 0])
    }

    fn sum(&self) -> [u8; 4] {
        crc32c(self.0.get(SUMMED..).unwrap_or_default()).to_le_bytes()
    }

    fn is_whole(&self, place: u64) -> bool {
        self.has_crc32c() && self.number(OWN_PLACE) == place && self.0.get(SUM..SUM + 4) == Some(&self.sum())
    }

    fn write(&mut self, node: &Path, place: u64) -> Result<()> {
        self.set(OWN_PLACE, &place.to_le_bytes());
        let sum = self.sum();
        self.set(SUM, &sum);
        file::write_in_place(node, place, &self.0)
    }
}

/// The first superblock of the unmounted filesystem in `node` is whole again, as its newest copy has it. Says whether it was damaged.
///
/// A superblock is the last that a commit writes, and nothing of the commit before is overwritten until it is there; so the copy of either of the
/// two is a whole state.
pub fn restore(node: &Path) -> Result<bool> {
    let [first, others @ ..] = COPIES;
    let Some(damaged) = Superblock::read(node, first).filter(|block| block.has_crc32c() && !block.is_whole(first)) else {
        return Ok(false);
    };
    let copies = others.iter().filter_map(|place| Superblock::read(node, *place).filter(|copy| copy.is_whole(*place)));
    let newest = copies.filter(|copy| copy.0.get(FSID) == damaged.0.get(FSID)).max_by_key(|copy| copy.number(GENERATION));
    let Some(mut copy) = newest else { return Ok(false) };
    copy.write(node, first)?;
    Ok(true)
}

/// Whether the unmounted filesystem in `node` has a log that a mount would replay, and is one that [`drop_log`] serves.
pub fn has_log(node: &Path) -> bool {
    let [first, ..] = COPIES;
    Superblock::read(node, first).is_some_and(|block| block.is_whole(first) && block.number(LOG_ROOT) != 0 && block.number(DEVICES) == 1)
}

/// The unmounted filesystem in `node` has no log any more: it is as its last commit left it.
///
/// If interrupted: the kernel looks at the first superblock alone, which is written last.
pub fn drop_log(node: &Path) -> Result<()> {
    for place in COPIES.into_iter().rev() {
        let Some(mut block) = Superblock::read(node, place).filter(|block| block.is_whole(place)) else { continue };
        block.set(LOG_ROOT, &[0; 8]);
        block.set(LOG_ROOT_LEVEL, &[0]);
        block.write(node, place)?;
    }
    Ok(())
}

/// CRC-32C (Castagnoli), RFC 3720 appendix B.4. Bit by bit: it is asked of a few kilobytes, once in the life of a disk.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |sum: u32, _| if sum & 1 == 1 { sum >> 1 ^ 0x82F6_3B78 } else { sum >> 1 };
    !bytes.iter().fold(!0, |sum, byte| (0..8).fold(sum ^ u32::from(*byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_rfc() {
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
    }
}
