//! Bytes that went bad on the disk itself, below the file system: its checksums no longer fit.
use super::{Mounted, Offline};
use crate::vm::{VmError, error::at, tool::tool};
use std::{fs, path::Path};

/// Bytes per block, as `filefrag` is told to count.
const BLOCK: u64 = 4096;
/// Blocks that go bad at most.
const BAD: u64 = 16;

impl Offline {
    /// Up to 64 KiB in the middle of a file of a btrfs are zeroes on the disk, in every copy; the file system does not know. Returns how many bytes.
    ///
    /// The kernel then refuses to read them; GRUB, which checks no checksums, reads the zeroes.
    /// Refuses: a file whose middle has no blocks of its own (empty, inline or a hole).
    pub fn rot(&self, partition: u32, file: &str) -> Result<u64, VmError> {
        let start = self.partition(partition)?.start;
        let mounted = self.mount(partition, "ro,subvolid=5")?;
        let path = mounted.path(file);
        let middle = at(&path, fs::metadata(&path))?.len() / 2 / BLOCK;
        let listing = tool("filefrag", &["-v".as_ref(), "-b4096".as_ref(), path.as_os_str()])?;
        let found = extents(&String::from_utf8_lossy(&listing)).into_iter().find(|e| (e.file..e.file + e.count).contains(&middle));
        let extent =
            found.ok_or_else(|| VmError::Image { image: self.image().into(), what: format!("{file}: its middle has no blocks") })?;
        let count = BAD.min(extent.file + extent.count - middle);
        let logical = (extent.disk + middle - extent.file) * BLOCK;
        let copies = copies(&mounted, logical)?;
        mounted.unmount()?;
        for copy in copies {
            self.write(start + copy, &vec![0; (count * BLOCK) as usize])?;
        }
        Ok(count * BLOCK)
    }
}

/// In blocks.
#[derive(Debug, PartialEq, Eq)]
struct Extent {
    file: u64,
    disk: u64,
    count: u64,
}

/// Lines such as `   0:        0..     255:       3328..      3583:    256:             last,eof`.
fn extents(listing: &str) -> Vec<Extent> {
    let number = |field: Option<&str>| field?.split("..").next()?.trim().parse().ok();
    let line = |line: &str| {
        let mut fields = line.split(':');
        fields.next()?.trim().parse::<u64>().ok()?;
        Some(Extent { file: number(fields.next())?, disk: number(fields.next())?, count: number(fields.next())? })
    };
    listing.lines().filter_map(line).collect()
}

/// Where the copies of a logical byte of a btrfs lie on its device (`mirror 1 logical 13631488 physical 13631488 device /dev/loop2`).
fn copies(mounted: &Mounted, logical: u64) -> Result<Vec<u64>, VmError> {
    let device = tool("findmnt", &["-nvo".as_ref(), "SOURCE".as_ref(), mounted.root().as_os_str()])?;
    let device = String::from_utf8_lossy(&device).trim().to_owned();
    let mapped = tool("btrfs-map-logical", &["-l", &logical.to_string(), &device])?;
    let places: Vec<u64> = String::from_utf8_lossy(&mapped)
        .lines()
        .filter_map(|line| line.split_whitespace().skip_while(|word| *word != "physical").nth(1)?.parse().ok())
        .collect();
    if places.is_empty() {
        return Err(VmError::Image { image: Path::new(&device).into(), what: format!("logical byte {logical} lies nowhere") });
    }
    Ok(places)
}
