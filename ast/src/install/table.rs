//! Where everything lies on a new disk, and the partition table that says so.
//!
//! The MBR is written here, in one sector together with GRUB's boot code: the small FAT partition lies in the gap before the
//! first MiB, where partitioning programs refuse to put one. A GPT is left to `sfdisk`.

use std::ffi::OsStr;
use std::path::Path;

use super::{InstallError, Result, Target, tool};
use crate::exec::Program;
use crate::sys;

/// Bytes in a sector, as every address in a partition table and in GRUB's blocklists counts them.
pub const SECTOR: u64 = 512;
/// Sectors before the first partition: 1 MiB, where every partitioning program begins.
const FIRST: u64 = 2048;
/// First sector of the small FAT partition of an old GRUB: the core image has the 511 KiB before it.
const GAP_START: u64 = 1024;
/// Its sectors: up to the first MiB.
const GAP_SECTORS: u64 = FIRST - GAP_START;
/// Sectors of the ESP: 260 MiB, the smallest FAT32 on a disk with sectors of 4 KiB, as firmware wants it.
const ESP_SECTORS: u64 = 260 * 2048;
/// Sectors at the end that a GPT needs for its second copy, rounded to a MiB.
const GPT_TAIL: u64 = 2048;
/// Smallest btrfs, in sectors: 1 GiB. Less does not hold two deployments.
const BTRFS_MIN: u64 = 2 * 1024 * 1024;
/// Sectors that 32 bits can count: an MBR reaches 2 TiB.
const MBR_LIMIT: u64 = u32::MAX as u64;

/// How a machine starts, and with that where GRUB can write its boot block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Boot {
    /// BIOS, GRUB 2.14 or newer: two raw sectors in the first MiB of btrfs.
    BiosRaw,
    /// BIOS, older GRUB: two files on a tiny FAT partition in the gap before the first partition.
    BiosGap,
    /// EFI: two files on the ESP.
    Efi,
}

/// A stretch of the disk, in sectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First sector.
    pub start: u64,
    /// How many.
    pub sectors: u64,
}

/// Where everything lies on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme {
    /// How the machine starts.
    pub boot: Boot,
    /// The FAT filesystem with the boot block (the ESP or the one in the gap), if there is one.
    pub fat: Option<Extent>,
    /// The btrfs with everything else.
    pub btrfs: Extent,
}

impl Scheme {
    /// The scheme of a disk of this many bytes.
    ///
    /// Refuses: a disk too small for two deployments; with an MBR, one of more than 2 TiB.
    pub fn new(boot: Boot, disk: &Target) -> Result<Self> {
        let sectors = disk.size / SECTOR;
        let (fat, start, end) = match boot {
            Boot::BiosRaw => (None, FIRST, sectors),
            Boot::BiosGap => (Some(Extent { start: GAP_START, sectors: GAP_SECTORS }), FIRST, sectors),
            Boot::Efi => {
                let esp = Extent { start: FIRST, sectors: ESP_SECTORS };
                (Some(esp), FIRST + ESP_SECTORS, sectors.saturating_sub(GPT_TAIL))
            }
        };
        if end < start + BTRFS_MIN {
            let needed = (start + BTRFS_MIN + GPT_TAIL) * SECTOR;
            return Err(InstallError::TooSmall { disk: disk.file.clone(), size: disk.size, needed });
        }
        if boot != Boot::Efi && end > MBR_LIMIT {
            return Err(InstallError::TooBig { disk: disk.file.clone(), size: disk.size });
        }
        Ok(Self { boot, fat, btrfs: Extent { start, sectors: end - start } })
    }

    /// How many bytes GRUB's core image may have when it is embedded after the MBR.
    pub fn core_room(&self) -> u64 {
        let end = if self.boot == Boot::BiosGap { GAP_START } else { FIRST };
        (end - 1) * SECTOR
    }

    /// The disk begins and ends with zeros: neither firmware nor kernel finds anything that was on it: boot code, both copies of a GPT, what
    /// RAID, LVM and LUKS leave at either end and would find there again.
    ///
    /// If interrupted: the disk is as it was, or does not boot any more.
    pub fn clear(disk: &Target) -> Result<()> {
        let length = (FIRST * SECTOR).min(disk.size);
        let zeros = vec![0; usize::try_from(length).unwrap_or_default()];
        disk.write_at(0, &zeros)?;
        disk.write_at(disk.size - length, &zeros)
    }

    /// The disk has this table; nothing in the partitions is touched.
    ///
    /// If interrupted: the disk has no table or the new one.
    pub fn write(&self, disk: &Target) -> Result<()> {
        match self.boot {
            Boot::BiosRaw | Boot::BiosGap => disk.write_at(0, &self.mbr(&[], random_id()?)),
            Boot::Efi => {
                let args = ["--quiet", "--wipe", "always", "--no-reread", "--no-tell-kernel"];
                let args = args.iter().map(OsStr::new).chain([disk.file.as_os_str()]);
                tool::run(Program::Sfdisk, args, Some(self.gpt_script().as_bytes())).map(drop)
            }
        }
    }

    fn gpt_script(&self) -> String {
        let mut script = String::from("label: gpt\nunit: sectors\n\n");
        if let Some(Extent { start, sectors }) = self.fat {
            script.push_str(&format!("start={start}, size={sectors}, type=uefi, name=\"ESP\"\n"));
        }
        let Extent { start, sectors } = self.btrfs;
        script.push_str(&format!("start={start}, size={sectors}, type=linux, name=\"ast\"\n"));
        script
    }

    /// The first sector of the disk: boot code (at most 440 bytes of it), disk id, table.
    pub fn mbr(&self, boot_code: &[u8], id: u32) -> [u8; 512] {
        /// Bytes of boot code; the table begins a little behind it.
        const CODE: usize = 440;
        const TABLE: usize = 446;
        let mut sector = [0; 512];
        let code = boot_code.get(..CODE.min(boot_code.len())).unwrap_or_default();
        sector[..code.len()].copy_from_slice(code);
        sector[CODE..CODE + 4].copy_from_slice(&id.to_le_bytes());
        // 0x83: Linux. 0x01: FAT12.
        let entries = [Some((self.btrfs, 0x83, true)), self.fat.map(|fat| (fat, 0x01, false))];
        for (slot, entry) in entries.into_iter().flatten().enumerate() {
            let (extent, kind, active) = entry;
            // 0xfeffff says that cylinder, head and sector cannot tell: use the sector numbers.
            let mut bytes = [if active { 0x80 } else { 0 }, 0xfe, 0xff, 0xff, kind, 0xfe, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
            bytes[8..12].copy_from_slice(&low32(extent.start));
            bytes[12..16].copy_from_slice(&low32(extent.sectors));
            sector[TABLE + slot * 16..TABLE + slot * 16 + 16].copy_from_slice(&bytes);
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }
}

/// The lower 32 bits, little endian; [`Scheme::new`] made sure that there are no others.
fn low32(n: u64) -> [u8; 4] {
    let [a, b, c, d, ..] = n.to_le_bytes();
    [a, b, c, d]
}

/// Four random bytes: disks and filesystems of one machine are told apart by them.
pub(super) fn random_id() -> Result<u32> {
    let bytes = sys::file::read_at(Path::new("/dev/urandom"), 0, 4)?;
    Ok(bytes.iter().fold(0, |id, byte| id << 8 | u32::from(*byte)))
}
