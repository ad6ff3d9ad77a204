//! What is mounted anywhere, in this mount namespace and in those of other processes: btrfs deletes a mounted subvolume without complaint.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::fstab::unescape;
use crate::sys::{SysError, btrfs, file};

/// One line of a mountinfo file. Source: `proc_pid_mountinfo(5)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Major and minor number of the filesystem, as `0:31`; the same for every subvolume of a btrfs.
    pub device: String,
    /// What of the filesystem is mounted, from its top: `/@boot/grub`.
    pub root: PathBuf,
    /// Where it is mounted.
    pub target: PathBuf,
    /// Type of the filesystem.
    pub fstype: String,
    /// What is mounted: a device node, on a disk.
    pub source: PathBuf,
    /// Number of the subvolume, on btrfs.
    pub subvolume: Option<u64>,
}

impl MountEntry {
    /// The entry in this line; `None` when it is none.
    pub fn parse(line: &str) -> Option<Self> {
        let (first, second) = line.split_once(" - ")?;
        let mut first = first.split(' ').skip(2);
        let (device, root, target) = (first.next()?, first.next()?, first.next()?);
        let mut second = second.split(' ');
        let (fstype, source, options) = (second.next()?, second.next()?, second.next()?);
        let subvolume = options.split(',').find_map(|o| o.strip_prefix("subvolid=")?.parse().ok());
        Some(Self {
            device: device.to_owned(),
            root: PathBuf::from(unescape(root)),
            target: PathBuf::from(unescape(target)),
            fstype: fstype.to_owned(),
            source: PathBuf::from(unescape(source)),
            subvolume,
        })
    }

    /// The entries of this thread's namespace, in the order of the kernel.
    pub fn all() -> Result<Vec<Self>, SysError> {
        Ok(entries(&file::read(Path::new("/proc/thread-self/mountinfo"))?))
    }

    /// The mount through which `path` is seen: the last one among those with the longest target above it.
    pub fn of(path: &Path) -> Result<Option<Self>, SysError> {
        let real = std::fs::canonicalize(path).map_err(|source| SysError { action: "resolve", path: path.to_owned(), source })?;
        let above = Self::all()?.into_iter().filter(|e| real.starts_with(&e.target));
        Ok(above.max_by_key(|e| e.target.components().count()))
    }
}

fn entries(bytes: &[u8]) -> Vec<MountEntry> {
    String::from_utf8_lossy(bytes).lines().filter_map(MountEntry::parse).collect()
}

/// Which subvolumes of one btrfs are mounted anywhere, as far as this process may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts {
    subvolumes: BTreeSet<u64>,
    /// Mount points of this namespace, below which nothing is deleted.
    targets: Vec<PathBuf>,
}

impl Mounts {
    /// What is mounted now of the btrfs that holds `path`: this namespace, and every other that a process of /proc shows.
    ///
    /// Processes that end meanwhile, or that may not be looked at, are passed over.
    pub fn of_filesystem(path: &Path) -> Result<Self, SysError> {
        let own = MountEntry::all()?;
        let device = MountEntry::of(path)?.map(|e| e.device).unwrap_or_default();
        let mut subvolumes = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut add = |entries: &[MountEntry]| {
            subvolumes.extend(entries.iter().filter(|e| e.device == device).filter_map(|e| e.subvolume));
        };
        add(&own);
        for name in file::names(Path::new("/proc"))? {
            let Some(pid) = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) else { continue };
            let process = Path::new("/proc").join(pid);
            let new = std::fs::read_link(process.join("ns/mnt")).is_ok_and(|namespace| seen.insert(namespace));
            if !new {
                continue;
            }
            if let Ok(bytes) = file::read(&process.join("mountinfo")) {
                add(&entries(&bytes));
            }
        }
        Ok(Self { subvolumes, targets: own.into_iter().map(|e| e.target).collect() })
    }

    /// Whether the subvolume at `path` is mounted anywhere, or something is mounted on a directory inside it here.
    pub fn holds(&self, path: &Path) -> Result<bool, SysError> {
        let real = std::fs::canonicalize(path).map_err(|source| SysError { action: "resolve", path: path.to_owned(), source })?;
        Ok(self.targets.iter().any(|t| t.starts_with(&real)) || self.subvolumes.contains(&btrfs::subvolume_id(path)?))
    }
}
