//! Finding a filesystem by its UUID without udev: every block device's superblock is read.

use std::path::{Path, PathBuf};

use super::{Result, file};

/// Byte at which btrfs keeps its first superblock. Source: btrfs on-disk format.
const BTRFS_SUPER: u64 = 65536;
/// What stands 64 bytes into that superblock.
const BTRFS_MAGIC: &[u8; 8] = b"_BHRfS_M";

/// The device node that holds the filesystem with this UUID (btrfs: 36 characters; FAT: `ABCD-1234`), if one is there now.
///
/// Loop devices and partitions count like whole disks; devices that cannot be read are passed over.
pub fn find_by_uuid(uuid: &str) -> Result<Option<PathBuf>> {
    for name in file::names(Path::new("/sys/class/block"))? {
        let node = Path::new("/dev").join(&name);
        if uuid_of(&node).is_some_and(|found| found.eq_ignore_ascii_case(uuid)) {
            return Ok(Some(node));
        }
    }
    Ok(None)
}

/// UUID of the btrfs or FAT filesystem in `node` (a device or an image), `None` when it holds neither.
pub fn uuid_of(node: &Path) -> Option<String> {
    btrfs_uuid(node).or_else(|| fat_serial(node))
}

fn btrfs_uuid(node: &Path) -> Option<String> {
    let superblock = file::read_at(node, BTRFS_SUPER, 0x48).ok()?;
    (superblock.get(0x40..0x48)? == BTRFS_MAGIC).then_some(())?;
    format_uuid(superblock.get(0x20..0x30)?)
}

/// 16 bytes as a UUID is written.
pub(crate) fn format_uuid(bytes: &[u8]) -> Option<String> {
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    (hex.len() == 32)
        .then(|| [hex.get(..8), hex.get(8..12), hex.get(12..16), hex.get(16..20), hex.get(20..)])?
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .map(|p| p.join("-"))
}

/// Serial number of a FAT filesystem as `blkid` writes it. Source: the FAT specification's BS_VolID and BS_FilSysType.
fn fat_serial(node: &Path) -> Option<String> {
    let sector = file::read_at(node, 0, 512).ok()?;
    (sector.get(510..512)? == [0x55, 0xAA]).then_some(())?;
    // FAT32 has its extended block at 64, FAT12 and FAT16 at 36.
    let at = if sector.get(82..87)? == b"FAT32" {
        67
    } else if sector.get(54..57)? == b"FAT" {
        39
    } else {
        return None;
    };
    let id = sector.get(at..at + 4)?;
    match id {
        [a, b, c, d] => Some(format!("{d:02X}{c:02X}-{b:02X}{a:02X}")),
        _ => None,
    }
}
