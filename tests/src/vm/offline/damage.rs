//! Ways in which a file can be broken, also in a read-only subvolume.
use super::Mounted;
use crate::vm::{VmError, error::at, tool::tool};
use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
};

/// The inode of every btrfs subvolume's root.
const SUBVOLUME_INODE: u64 = 256;
/// Bytes; zeroed in the middle of a file, enough to hit code that runs.
const HOLE: u64 = 256 << 10;

/// What to do to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It is gone.
    Delete,
    /// It has no bytes.
    Empty,
    /// Its second half is missing.
    Truncate,
    /// Zeroes in the middle (256 KiB, or half of a shorter file), same length.
    ZeroMiddle,
    /// Noise from this seed instead of its bytes, same length.
    Garbage(u64),
}

impl Mounted {
    /// The file is damaged and the damage is on the disk. A read-only subvolume is writable for that moment.
    pub fn damage(&self, relative: impl AsRef<Path>, damage: Damage) -> Result<(), VmError> {
        let path = self.path(relative);
        self.edit(&path, || {
            let length = at(&path, fs::metadata(&path))?.len();
            if damage == Damage::Delete {
                return at(&path, fs::remove_file(&path));
            }
            let file = at(&path, File::options().write(true).open(&path))?;
            at(&path, apply(&file, length, damage).and_then(|()| file.sync_all()))
        })
    }

    /// The file has this content, on the disk; a new one is made in an existing directory.
    pub fn put(&self, relative: impl AsRef<Path>, content: &[u8]) -> Result<(), VmError> {
        let path = self.path(relative);
        self.edit(&path, || at(&path, fs::write(&path, content)))
    }

    /// Runs `change` on `path` with its subvolume writable, and syncs the file system.
    fn edit(&self, path: &Path, change: impl FnOnce() -> Result<(), VmError>) -> Result<(), VmError> {
        let sealed = self.subvolume_of(path).filter(|subvolume| is_read_only(subvolume));
        if let Some(subvolume) = sealed {
            set_read_only(subvolume, false)?;
            let result = change();
            set_read_only(subvolume, true)?;
            result?;
        } else {
            change()?;
        }
        tool("sync", &["-f".as_ref(), self.root().as_os_str()]).map(drop)
    }

    fn subvolume_of<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let mut parents = path.ancestors().take_while(|parent| parent.starts_with(self.root()));
        parents.find(|parent| fs::metadata(parent).is_ok_and(|m| m.is_dir() && m.ino() == SUBVOLUME_INODE))
    }
}

fn apply(file: &File, length: u64, damage: Damage) -> std::io::Result<()> {
    match damage {
        Damage::Delete => Ok(()),
        Damage::Empty => file.set_len(0),
        Damage::Truncate => file.set_len(length / 2),
        Damage::ZeroMiddle => {
            let hole = HOLE.min(length / 2);
            file.write_all_at(&vec![0; hole as usize], (length - hole) / 2)
        }
        Damage::Garbage(seed) => {
            let mut noise = crate::cut::Seed::new(seed);
            let bytes: Vec<u8> = std::iter::repeat_with(|| noise.number().to_le_bytes()).flatten().take(length as usize).collect();
            file.write_all_at(&bytes, 0)
        }
    }
}

fn is_read_only(subvolume: &Path) -> bool {
    let args = ["property", "get", "-ts"].map(Path::new);
    tool("btrfs", &[args[0], args[1], args[2], subvolume, Path::new("ro")]).is_ok_and(|out| out.starts_with(b"ro=true"))
}

fn set_read_only(subvolume: &Path, read_only: bool) -> Result<(), VmError> {
    let value = if read_only { "true" } else { "false" };
    // -f: also one that was received from another machine.
    let args = ["property", "set", "-f", "-ts"].map(Path::new);
    tool("btrfs", &[args[0], args[1], args[2], args[3], subvolume, Path::new("ro"), Path::new(value)]).map(drop)
}
