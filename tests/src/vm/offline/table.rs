//! Partition tables, read only: MBR (four primary partitions) and GPT (UEFI specification, chapter 5).
use crate::vm::{VmError, error::at};
use std::{fs::File, os::unix::fs::FileExt, path::Path};

/// Bytes; the emulated disks have no other.
pub const SECTOR: u64 = 512;

/// The kind of a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// None: the whole disk is one file system, or empty.
    None,
    /// MBR, without logical partitions.
    Mbr,
    /// GPT.
    Gpt,
}

/// One partition, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// As in `/dev/vda1`.
    pub number: u32,
    /// Offset of its first byte.
    pub start: u64,
    /// Its length.
    pub len: u64,
    /// MBR: the type as two hex digits; GPT: the type's UUID in capitals.
    pub kind: String,
    /// GPT: its own UUID.
    pub uuid: String,
    /// GPT: its name.
    pub name: String,
}

/// A partition table.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its kind.
    pub scheme: Scheme,
    /// In the order of the table, without empty places.
    pub partitions: Vec<Partition>,
}

impl Table {
    /// The table of a raw image or device. No table is no error.
    pub fn read(image: &Path) -> Result<Table, VmError> {
        let file = at(image, File::open(image))?;
        let read = |offset: u64, len: usize| {
            let mut bytes = vec![0; len];
            at(image, file.read_exact_at(&mut bytes, offset)).map(|()| bytes)
        };
        let size = at(image, file.metadata())?.len();
        let none = Table { scheme: Scheme::None, partitions: Vec::new() };
        if size < 3 * SECTOR {
            return Ok(none);
        }
        let mbr = read(0, SECTOR as usize)?;
        if mbr[510..] != [0x55, 0xaa] {
            return Ok(none);
        }
        let entries: Vec<Partition> = (0..4usize).filter_map(|index| mbr_entry(index, &mbr[446 + 16 * index..][..16])).collect();
        if !entries.iter().any(|entry| entry.kind == "ee") {
            // A FAT boot sector has the same signature: believe entries only if they fit the disk.
            let sane = !entries.is_empty() && entries.iter().all(|e| e.start > 0 && e.start + e.len <= size);
            return Ok(if sane { Table { scheme: Scheme::Mbr, partitions: entries } } else { none });
        }
        let header = read(SECTOR, SECTOR as usize)?;
        if header[..8] != *b"EFI PART" {
            return Err(VmError::Image { image: image.into(), what: "protective MBR without a GPT".into() });
        }
        let (first, count, entry_len) = (u64_at(&header, 72), u32_at(&header, 80), u32_at(&header, 84));
        if !(128..=4096).contains(&entry_len) || count > 1024 {
            return Err(VmError::Image { image: image.into(), what: format!("GPT with {count} entries of {entry_len} bytes") });
        }
        let entries = read(first * SECTOR, (count * entry_len) as usize)?;
        let partitions = entries.chunks_exact(entry_len as usize).zip(1..).filter_map(|(entry, number)| gpt_entry(number, entry)).collect();
        Ok(Table { scheme: Scheme::Gpt, partitions })
    }
}

fn mbr_entry(index: usize, entry: &[u8]) -> Option<Partition> {
    let (kind, start, len) = (entry[4], u64::from(u32_at(entry, 8)) * SECTOR, u64::from(u32_at(entry, 12)) * SECTOR);
    let number = u32::try_from(index).ok()? + 1;
    (kind != 0 && len != 0).then(|| Partition { number, start, len, kind: format!("{kind:02x}"), uuid: String::new(), name: String::new() })
}

fn gpt_entry(number: u32, entry: &[u8]) -> Option<Partition> {
    let (first, last) = (u64_at(entry, 32), u64_at(entry, 40));
    if entry[..16].iter().all(|b| *b == 0) || last < first {
        return None;
    }
    let name: Vec<u16> = entry[56..128].chunks_exact(2).map(|c| u16::from_le_bytes([c[0], c[1]])).take_while(|c| *c != 0).collect();
    Some(Partition {
        number,
        start: first * SECTOR,
        len: (last - first + 1) * SECTOR,
        kind: uuid(&entry[..16]),
        uuid: uuid(&entry[16..32]),
        name: String::from_utf16_lossy(&name),
    })
}

/// UUIDs of a GPT have their first three fields in little endian.
fn uuid(b: &[u8]) -> String {
    let tail: String = b[10..16].iter().map(|byte| format!("{byte:02X}")).collect();
    let (a, d1, d2) = (u32_at(b, 0), u16::from_le_bytes([b[4], b[5]]), u16::from_le_bytes([b[6], b[7]]));
    format!("{a:08X}-{d1:04X}-{d2:04X}-{:02X}{:02X}-{tail}", b[8], b[9])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes([bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]])
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from(u32_at(bytes, offset)) | u64::from(u32_at(bytes, offset + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    fn table(script: &str) -> Table {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(64 << 20).unwrap();
        if !script.is_empty() {
            let mut sfdisk = Command::new("sfdisk").arg("-q").arg(image.path()).stdin(Stdio::piped()).spawn().unwrap();
            sfdisk.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(sfdisk.wait().unwrap().success());
        }
        Table::read(image.path()).unwrap()
    }

    #[test]
    fn reads_what_sfdisk_writes() {
        assert_eq!(table("").scheme, Scheme::None);

        let mbr = table("label: dos\nstart=2048, size=4096, type=ef\nstart=8192, type=83, bootable\n");
        assert_eq!(mbr.scheme, Scheme::Mbr);
        let places: Vec<_> = mbr.partitions.iter().map(|p| (p.number, p.start, p.len, p.kind.as_str())).collect();
        assert_eq!(places, [(1, 2048 * 512, 4096 * 512, "ef"), (2, 8192 * 512, (64 << 20) - 8192 * 512, "83")]);

        let esp = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
        let own = "0B2E4D5A-1234-4ABC-8DEF-00112233AABB";
        let gpt = table(&format!(
            "label: gpt\n2 : start=2048, size=4096, type={esp}, uuid={own}, name=\"ast esp\"\n5 : start=8192, size=100, type=linux\n"
        ));
        assert_eq!(gpt.scheme, Scheme::Gpt);
        let first = Partition { number: 2, start: 2048 * 512, len: 4096 * 512, kind: esp.into(), uuid: own.into(), name: "ast esp".into() };
        assert_eq!(gpt.partitions[0], first);
        assert_eq!((gpt.partitions[1].number, gpt.partitions[1].start, gpt.partitions[1].len), (5, 8192 * 512, 100 * 512));
    }

    #[test]
    fn a_fat_without_table_is_no_table() {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(4 << 20).unwrap();
        assert!(Command::new("mkfs.vfat").arg(image.path()).stdout(Stdio::null()).status().unwrap().success());
        assert_eq!(Table::read(image.path()).unwrap().scheme, Scheme::None);
    }
}
