//! The boot sector of a disk and the core images behind it. The firmware runs the boot sector; that loads the sector whose number is in it, and
//! the first sector of a core image loads its others.
//!
//! Sources: GRUB's `boot/i386/pc/boot.S`, `boot/i386/pc/diskboot.S`, `util/setup.c`; for the GPT the UEFI specification, chapter 5.

use std::path::{Path, PathBuf};

use super::{LoaderError, Result};
use crate::install::Target;
use crate::install::table::{Extent, SECTOR};
use crate::sys::device::{self, Member};
use crate::sys::file;

/// Bytes of a boot sector that are code; disk id and table come behind.
const CODE: usize = 440;
/// In it: what a partition's own boot sector has there, the core image's first sector, the drive, and a jump that is or is not taken.
const PARAMETERS: std::ops::Range<usize> = 0x03..0x5a;
const CORE: std::ops::Range<usize> = 0x5c..0x64;
const DRIVE_AND_JUMP: std::ops::Range<usize> = 0x64..0x68;
/// Where the four entries of the table begin.
const TABLE: usize = 446;
/// The type of an entry that stands for a whole GPT.
const PROTECTIVE: u8 = 0xee;
/// The type of the partition that a BIOS finds GRUB in, as it is on disk: 21686148-6449-6E6F-744E-656564454649.
const BIOS_BOOT: &[u8; 16] = b"Hah!IdontNeedEFI";
/// In the first sector of a core image: the end of the list of where its others are, and how long an entry of it is.
const LIST_END: usize = 512;
const LIST_ENTRY: usize = 12;

/// The disk that a BIOS starts this machine from, and the stretch of it that is there for core images.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub target: Target,
    /// The core image that is started now.
    pub core: Extent,
    /// Where core images may be.
    room: Extent,
}

impl Disk {
    /// The disk `named`, or the one of those with the filesystem of `node` whose boot sector is one of GRUB's. `boot_imgs` are boot sectors as
    /// GRUB comes with them.
    ///
    /// Refuses: none, several, somebody else's boot sector, a core image that is not in one piece.
    pub fn find(named: Option<&Path>, node: Option<&Path>, boot_imgs: &[Vec<u8>]) -> Result<Self> {
        if let Some(path) = named {
            return Self::open(path, boot_imgs);
        }
        let disks = node.map(disks_of).transpose()?.unwrap_or_default();
        let is_grubs = |path: &&PathBuf| file::read_at(path, 0, 512).is_ok_and(|sector| boot_imgs.iter().any(|img| is_of(&sector, img)));
        match (disks.iter().filter(is_grubs).collect::<Vec<_>>().as_slice(), disks.as_slice()) {
            ([one], _) => Self::open(one, boot_imgs),
            ([], []) => Err(LoaderError::NoDisk),
            ([], [first, ..]) => Err(LoaderError::ForeignBootSector(first.clone())),
            (several, _) => Err(LoaderError::SeveralDisks(several.iter().map(|path| (*path).clone()).collect())),
        }
    }

    fn open(path: &Path, boot_imgs: &[Vec<u8>]) -> Result<Self> {
        let target = Target::whole(path)?;
        let sector = target.read_at(0, 512)?;
        if !boot_imgs.iter().any(|img| is_of(&sector, img)) {
            return Err(LoaderError::ForeignBootSector(path.to_owned()));
        }
        let core = image_at(&target, number(&sector, CORE.start, 8))?;
        let room = room_around(&target, &sector, core)?;
        Ok(Self { target, core, room })
    }

    /// The first sector for another core image of so many sectors: at whichever end of the room the one that is there leaves free, so that
    /// one after the other has room.
    ///
    /// Refuses: when none has.
    pub fn place(&self, sectors: u64) -> Result<u64> {
        let (before, end) = (self.core.start.saturating_sub(self.room.start), self.core.start + self.core.sectors);
        let after = (self.room.start + self.room.sectors).saturating_sub(end);
        if after >= sectors {
            Ok(self.room.start + self.room.sectors - sectors)
        } else if before >= sectors {
            Ok(self.room.start)
        } else {
            Err(LoaderError::NoRoom { disk: self.target.file.clone(), needed: sectors, free: before.max(after) })
        }
    }

    /// The core image is at `sector`, and was read back from the device.
    ///
    /// If interrupted: some of its sectors are; nothing names them.
    pub fn write(&self, sector: u64, core: &[u8]) -> Result<()> {
        let image = image_for(sector, core)?;
        self.target.write_at(sector * SECTOR, &image)?;
        if self.read(sector, image.len())? != image {
            return Err(LoaderError::ReadBack { what: format!("{}, sector {sector}", self.target.file.display()) });
        }
        Ok(())
    }

    /// Whether the core image that is started is this one.
    pub fn starts(&self, core: &[u8]) -> Result<bool> {
        let image = image_for(self.core.start, core)?;
        Ok(self.read(self.core.start, image.len())? == image)
    }

    /// The boot sector names `sector`, and is as it was in every other byte.
    ///
    /// If interrupted: it names the one or the other.
    /// Refuses: a sector at which no core image begins.
    pub fn name(&self, sector: u64) -> Result<()> {
        image_at(&self.target, sector)?;
        let mut bytes = self.target.read_at(0, 512)?;
        bytes.splice(CORE, sector.to_le_bytes());
        self.target.write_at(0, &bytes)?;
        if self.read(0, 512)? != bytes {
            return Err(LoaderError::ReadBack { what: format!("the boot sector of {}", self.target.file.display()) });
        }
        Ok(())
    }

    fn read(&self, sector: u64, length: usize) -> Result<Vec<u8>> {
        Ok(file::read_at_from_device(&self.target.file, self.target.offset + sector * SECTOR, length)?)
    }
}

/// How many sectors a core image of so many bytes takes.
pub(super) const fn sectors(size: u64) -> u64 {
    size.div_ceil(SECTOR)
}

/// The disks that hold the devices of the btrfs that `node` is one of.
fn disks_of(node: &Path) -> Result<Vec<PathBuf>> {
    let several = Member::read(node).filter(|member| member.devices > 1);
    let nodes = match several {
        Some(member) => device::members(&member.uuid)?.into_iter().map(|member| member.node).collect(),
        None => vec![node.to_owned()],
    };
    let mut disks: Vec<PathBuf> = nodes.iter().map(|node| device::disk_of(node)).collect();
    disks.sort();
    disks.dedup();
    Ok(disks)
}

/// Whether a boot sector is that of `img`, but for what an installer changes in it.
fn is_of(sector: &[u8], img: &[u8]) -> bool {
    let fixed = |index: &usize| !PARAMETERS.contains(index) && !CORE.contains(index) && !DRIVE_AND_JUMP.contains(index);
    let same = |index: usize| sector.get(index).is_some() && sector.get(index) == img.get(index);
    (0..CODE).filter(fixed).all(same) && sector.get(510..) == Some(&[0x55, 0xaa])
}

/// The core image that begins at `sector`: its list has one entry, of the sectors that follow.
fn image_at(disk: &Target, sector: u64) -> Result<Extent> {
    let odd = |why| LoaderError::OddCore { disk: disk.file.clone(), sector, why };
    if sector == 0 || sector >= disk.size / SECTOR {
        return Err(odd("it is outside of the disk"));
    }
    let first = disk.read_at(sector * SECTOR, 512)?;
    let (entry, next) = (LIST_END - LIST_ENTRY, LIST_END - 2 * LIST_ENTRY);
    let (start, len) = (number(&first, entry, 8), number(&first, entry + 8, 2));
    if start != sector + 1 || len == 0 {
        return Err(odd("its other sectors do not follow its first"));
    }
    if number(&first, next + 8, 2) != 0 {
        return Err(odd("it is in several pieces"));
    }
    Ok(Extent { start: sector, sectors: len + 1 })
}

/// A core image for the place at `sector`, in whole sectors.
fn image_for(sector: u64, core: &[u8]) -> Result<Vec<u8>> {
    crate::install::core_image::check_blocklist(core)?;
    let mut image = core.to_vec();
    image.resize(usize::try_from(sectors(core.len() as u64) * SECTOR).unwrap_or(core.len()), 0);
    let entry = LIST_END - LIST_ENTRY;
    image.splice(entry..entry + 8, (sector + 1).to_le_bytes());
    Ok(image)
}

/// Where core images may be: the gap before the first partition, or the partition made for them that this one is in.
fn room_around(disk: &Target, sector: &[u8], core: Extent) -> Result<Extent> {
    let odd = |why| LoaderError::OddCore { disk: disk.file.clone(), sector: core.start, why };
    let entries: Vec<(u8, u64)> = (0..4).map(|n| TABLE + 16 * n).map(|at| (byte(sector, at + 4), number(sector, at + 8, 4))).collect();
    let room = if entries.iter().any(|(kind, _)| *kind == PROTECTIVE) {
        boot_partition(disk, core.start)?.ok_or_else(|| odd("it is in no partition that is made for it"))?
    } else {
        let first = entries.iter().filter(|(kind, start)| *kind != 0 && *start != 0).map(|(_, start)| *start).min();
        Extent { start: 1, sectors: first.ok_or_else(|| odd("the disk has no partitions"))?.saturating_sub(1) }
    };
    if core.start < room.start || core.start + core.sectors > room.start + room.sectors {
        return Err(odd("it reaches into a partition"));
    }
    Ok(room)
}

/// The partition for GRUB in a GPT that `sector` is in.
fn boot_partition(disk: &Target, sector: u64) -> Result<Option<Extent>> {
    /// Entries that any GPT has at most, and bytes of one.
    const MOST: (u64, usize) = (1024, 4096);
    let header = disk.read_at(SECTOR, 512)?;
    let (at, count, size) = (number(&header, 72, 8), number(&header, 80, 4), usize::try_from(number(&header, 84, 4)).unwrap_or(0));
    if !header.starts_with(b"EFI PART") || count > MOST.0 || !(128..=MOST.1).contains(&size) || at.saturating_mul(SECTOR) > disk.size {
        return Ok(None);
    }
    let table = disk.read_at(at * SECTOR, usize::try_from(count).unwrap_or(0) * size)?;
    let extents = table.chunks_exact(size).filter(|entry| entry.starts_with(BIOS_BOOT)).map(|entry| {
        let (first, last) = (number(entry, 32, 8), number(entry, 40, 8));
        Extent { start: first, sectors: last.saturating_sub(first) + 1 }
    });
    Ok(extents.into_iter().find(|extent| (extent.start..extent.start + extent.sectors).contains(&sector)))
}

fn byte(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

/// A number of up to eight bytes, little endian; nothing where there are none.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes.get(at..at + length).unwrap_or_default().iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}
