//! Finding a filesystem without udev: every block device's superblock is read.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{At, Result, file};

/// Where the kernel lists its block devices.
const BLOCK: &str = "/sys/class/block";
/// Byte at which btrfs keeps its first superblock, and its length. Source: btrfs on-disk format, `struct btrfs_super_block`.
const BTRFS_SUPER: (u64, usize) = (65536, 4096);
/// What stands 64 bytes into that superblock.
const BTRFS_MAGIC: &[u8; 8] = b"_BHRfS_M";
/// First bytes of a LUKS container. Source: "LUKS2 On-Disk Format Specification" 1.1.
const LUKS_MAGIC: &[u8] = b"LUKS\xba\xbe";
/// Further fields in it: UUID of the filesystem, generation, number of devices, number of this device, label.
const FSID: std::ops::Range<usize> = 0x20..0x30;
const MAGIC: std::ops::Range<usize> = 0x40..0x48;
const GENERATION: usize = 0x48;
const DEVICES: usize = 0x88;
const ID: usize = 0xC9;
const LABEL: std::ops::Range<usize> = 0x12B..0x22B;

/// A device of a btrfs, as its first superblock describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The device node.
    pub node: PathBuf,
    /// UUID of the filesystem.
    pub uuid: String,
    /// Its label; empty if it has none.
    pub label: String,
    /// How many devices it had when this superblock was written.
    pub devices: u64,
    /// Number of this device among them.
    pub id: u64,
    /// Commit that wrote it. A device that was left out of a start is behind the others.
    pub generation: u64,
}

impl Member {
    /// What is in `node` (a device or an image); `None` if that is no btrfs.
    pub fn read(node: &Path) -> Option<Self> {
        let (at, length) = BTRFS_SUPER;
        let superblock = file::read_at(node, at, length).ok()?;
        (superblock.get(MAGIC)? == BTRFS_MAGIC).then_some(())?;
        let number = |at: usize| superblock.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map(u64::from_le_bytes);
        let label = superblock.get(LABEL)?.split(|byte| *byte == 0).next()?;
        Some(Self {
            node: node.to_owned(),
            uuid: format_uuid(superblock.get(FSID)?)?,
            label: String::from_utf8_lossy(label).into_owned(),
            devices: number(DEVICES)?,
            id: number(ID)?,
            generation: number(GENERATION)?,
        })
    }
}

/// Nodes of all block devices that are there now, partitions and loop devices like whole disks.
pub fn nodes() -> Result<Vec<PathBuf>> {
    // A slash in a device's name is an exclamation mark in sysfs.
    let node = |name: std::ffi::OsString| Path::new("/dev").join(name.to_string_lossy().replace('!', "/"));
    Ok(file::names(Path::new(BLOCK))?.into_iter().map(node).collect())
}

/// The device node that holds the filesystem with this UUID (btrfs: 36 characters; FAT: `ABCD-1234`), if one is there now.
///
/// Devices that cannot be read are passed over.
pub fn find_by_uuid(uuid: &str) -> Result<Option<PathBuf>> {
    Ok(nodes()?.into_iter().find(|node| uuid_of(node).is_some_and(|found| found.eq_ignore_ascii_case(uuid))))
}

/// The same; of several copies of it, one on the disk that `beside` is on, if there is one there.
pub fn find_by_uuid_beside(uuid: &str, beside: &Path) -> Result<Option<PathBuf>> {
    let mut found: Vec<PathBuf> = nodes()?;
    found.retain(|node| uuid_of(node).is_some_and(|found| found.eq_ignore_ascii_case(uuid)));
    Ok(first_beside(found, beside, disk_of))
}

/// The first of these that is on the disk of `beside`, else the first.
fn first_beside(mut found: Vec<PathBuf>, beside: &Path, disk_of: impl Fn(&Path) -> PathBuf) -> Option<PathBuf> {
    let disk = disk_of(beside);
    let here = found.iter().position(|node| disk_of(node) == disk).unwrap_or(0);
    (here < found.len()).then(|| found.swap_remove(here))
}

/// The device node that holds a btrfs with this label, if one is there now; of several the first by name.
pub fn find_by_label(label: &str) -> Result<Option<PathBuf>> {
    Ok(nodes()?.into_iter().find(|node| Member::read(node).is_some_and(|found| found.label == label)))
}

/// The partition of which the kernel says `key=value` (`PARTNAME`, since Linux 6.10 `PARTUUID` too), if one is there now.
pub fn find_partition(key: &str, value: &str) -> Result<Option<PathBuf>> {
    let says = |node: &PathBuf| {
        let name = node.strip_prefix("/dev").unwrap_or(node).to_string_lossy().replace('/', "!");
        let about = file::read(&Path::new(BLOCK).join(name).join("uevent")).unwrap_or_default();
        says(&String::from_utf8_lossy(&about), key, value)
    };
    Ok(nodes()?.into_iter().find(says))
}

/// The disk that a partition is on; `node` itself where it is no partition.
pub fn disk_of(node: &Path) -> PathBuf {
    let of = |node: &Path| {
        let name = std::fs::canonicalize(node).ok()?.strip_prefix("/dev").ok()?.to_string_lossy().replace('/', "!");
        let about = std::fs::canonicalize(Path::new(BLOCK).join(name)).ok()?;
        about.join("partition").exists().then_some(())?;
        Some(Path::new("/dev").join(about.parent()?.file_name()?.to_string_lossy().replace('!', "/")))
    };
    of(node).unwrap_or_else(|| node.to_owned())
}

fn says(about: &str, key: &str, value: &str) -> bool {
    about.lines().filter_map(|line| line.split_once('=')).any(|(k, v)| k == key && v.eq_ignore_ascii_case(value))
}

/// The devices of the btrfs with this UUID that are there now, by their number; of two that claim one number the newer.
pub fn members(uuid: &str) -> Result<Vec<Member>> {
    let mut found: Vec<Member> =
        nodes()?.iter().filter_map(|node| Member::read(node)).filter(|m| m.uuid.eq_ignore_ascii_case(uuid)).collect();
    found.sort_by_key(|member| (member.id, std::cmp::Reverse(member.generation)));
    found.dedup_by_key(|member| member.id);
    Ok(found)
}

/// Whoever listens to the kernel, udev above all, looks at `node` again.
pub fn announce(node: &Path) -> Result<()> {
    const ACTION: &str = "announce a change of";
    let number = std::fs::metadata(node).at(ACTION, node)?.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    let attribute = format!("/sys/dev/block/{major}:{minor}/uevent");
    OpenOptions::new().write(true).open(attribute).and_then(|mut file| file.write_all(b"change")).at(ACTION, node)
}

/// The attribute `path` of sysfs is `value`; it takes it in one write or not at all.
pub fn set_attribute(path: &Path, value: &str) -> Result<()> {
    OpenOptions::new().write(true).open(path).and_then(|mut file| file.write_all(value.as_bytes())).at("set", path)
}

/// UUID of the btrfs or FAT filesystem in `node` (a device or an image), `None` when it holds neither.
pub fn uuid_of(node: &Path) -> Option<String> {
    Member::read(node).map(|member| member.uuid).or_else(|| fat_serial(node))
}

/// Whether `node` begins as a LUKS container does: what is in it shows elsewhere, once it is unlocked.
pub fn is_luks(node: &Path) -> bool {
    file::read_at(node, 0, LUKS_MAGIC.len()).is_ok_and(|bytes| bytes == LUKS_MAGIC)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b4_of_copies_the_one_on_the_disk_of_the_root_is_taken() {
        let disk = |node: &Path| PathBuf::from(node.to_string_lossy().trim_end_matches(char::is_numeric).to_owned());
        let first = |found: &[&str], beside: &str| {
            first_beside(found.iter().map(PathBuf::from).collect(), Path::new(beside), disk).map(|node| node.to_string_lossy().into_owned())
        };
        assert_eq!(first(&["/dev/sda1", "/dev/sdb1"], "/dev/sdb2").as_deref(), Some("/dev/sdb1"));
        assert_eq!(first(&["/dev/sda1", "/dev/sdb1"], "/dev/sda2").as_deref(), Some("/dev/sda1"));
        assert_eq!(first(&["/dev/sda1", "/dev/sdb1"], "/dev/mapper/root").as_deref(), Some("/dev/sda1"), "better than none");
        assert_eq!(first(&[], "/dev/sda2"), None);
    }

    #[test]
    fn a_partition_is_known_by_what_the_kernel_says_of_it() {
        let about = "MAJOR=8\nDEVTYPE=partition\nPARTN=2\nPARTUUID=0FC63DAF-8483-4772-8E79-3D69D8477DE4\nPARTNAME=ast = root\n";
        assert!(says(about, "PARTUUID", "0fc63daf-8483-4772-8e79-3d69d8477de4") && says(about, "PARTNAME", "ast = root"));
        assert!(!says(about, "PARTN", "") && !says(about, "PARTNAME", "ast") && !says("", "PARTUUID", ""));
    }
}
