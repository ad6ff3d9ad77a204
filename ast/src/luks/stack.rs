//! Which LUKS container a device is the inside of, as the kernel's device-mapper tells.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The kernel's directory of a block device is `MAJOR:MINOR` in here.
const BY_NUMBER: &str = "/sys/dev/block";
/// What cryptsetup calls what it unlocked, in `dm/uuid`: `CRYPT-LUKS2-<32 digits>-NAME`.
const MARKS: [&str; 2] = ["CRYPT-LUKS2-", "CRYPT-LUKS1-"];
/// Devices on devices on devices: LVM inside LUKS on RAID has four.
const DEEPEST: usize = 8;

/// A container that is unlocked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Node of the device that holds it.
    pub device: PathBuf,
    /// UUID of the container: 32 digits without dashes, as the kernel tells it.
    pub uuid: String,
}

/// The container that the block device `node` is in, itself or what it is made of; `None` if it is in none. Needs no root.
pub fn under(node: &Path) -> Option<Container> {
    let number = fs::metadata(node).ok()?.rdev();
    let (major, minor) = (nix::sys::stat::major(number), nix::sys::stat::minor(number));
    below(&Path::new(BY_NUMBER).join(format!("{major}:{minor}")), DEEPEST)
}

/// The same for a device's directory in sysfs.
pub(super) fn below(dir: &Path, deepest: usize) -> Option<Container> {
    let slaves = || fs::read_dir(dir.join("slaves")).into_iter().flatten().flatten();
    let kind = fs::read_to_string(dir.join("dm/uuid")).unwrap_or_default();
    if let Some(rest) = MARKS.iter().find_map(|mark| kind.trim_end().strip_prefix(mark)) {
        // A slash in a device's name is an exclamation mark in sysfs.
        let device = slaves().next().map(|slave| Path::new("/dev").join(slave.file_name().to_string_lossy().replace('!', "/")))?;
        return Some(Container { device, uuid: rest.split('-').next().unwrap_or_default().to_owned() });
    }
    if deepest == 0 {
        return None;
    }
    slaves().find_map(|slave| below(&slave.path(), deepest - 1))
}
