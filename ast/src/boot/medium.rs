//! Where copies A and B of the boot block live, and reading and writing them.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::block::{BLOCK_SIZE, BlockError, BootBlock};
use crate::cmdline::BlockPlace;
use crate::layout::{FILE_BLOCK_A, FILE_BLOCK_B, LOCAL_BLOCK, RAW_BLOCK_A_SECTOR, RAW_BLOCK_B_SECTOR};
use crate::sys::device::Member;
use crate::sys::mount::{Mounted, MsFlags};
use crate::sys::{SysError, device, file};

/// Bytes in a sector, as GRUB counts them.
pub(super) const SECTOR: u64 = 512;

// Each raw copy begins a page, so that this can be written whole.
const _: () = assert!((RAW_BLOCK_A_SECTOR * SECTOR) % file::PAGE as u64 == 0 && (RAW_BLOCK_B_SECTOR * SECTOR) % file::PAGE as u64 == 0);

/// One of the two copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Which {
    /// Read first, written last.
    A,
    /// Read when A is not whole, written first.
    B,
}

/// A place that holds the boot block, found on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Medium {
    /// Two raw sectors of the btrfs device (or of an image of it).
    Raw {
        /// The device node.
        device: PathBuf,
    },
    /// Two files on a FAT filesystem, mounted only while they are read or written.
    Files {
        /// The device node of that filesystem.
        device: PathBuf,
    },
    /// The two files below a directory where that FAT filesystem is mounted already.
    Mounted {
        /// The directory.
        dir: PathBuf,
    },
    /// One file with A and B behind each other; GRUB does not see it, the initramfs counts alone.
    Local {
        /// The file.
        path: PathBuf,
    },
}

/// Why the block could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// The device that should hold it is not there.
    #[error("no filesystem with UUID {0} is there, which should hold the boot block")]
    NoDevice(String),
    /// Reading, writing or mounting failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// What should be written is not a block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// It was written, but reads back differently.
    #[error("copy {0:?} of the boot block in {1} does not read back as it was written")]
    ReadBack(Which, PathBuf),
}

impl MediumError {
    /// Whether the disk did not give back what it holds there.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Sys(error) if error.is_unreadable())
    }
}

/// Both copies as they are now.
#[derive(Debug)]
pub struct Copies {
    /// Copy A.
    pub a: Result<BootBlock, MediumError>,
    /// Copy B.
    pub b: Result<BootBlock, MediumError>,
}

impl Copies {
    /// The boot state: A if it is whole, else B. `None`: GRUB starts the baked entry.
    pub fn current(&self) -> Option<(Which, &BootBlock)> {
        match (&self.a, &self.b) {
            (Ok(a), _) => Some((Which::A, a)),
            (Err(_), Ok(b)) => Some((Which::B, b)),
            _ => None,
        }
    }

    /// Whether both are whole and alike but for what GRUB writes into the one it reads (counters and capability).
    pub fn agree(&self) -> bool {
        matches!((&self.a, &self.b), (Ok(a), Ok(b)) if a == b)
    }
}

impl Medium {
    /// The medium that `place` names, on a machine whose btrfs is on `root_device` and whose documents are in `documents`.
    ///
    /// Refuses: a FAT filesystem that is not there.
    pub fn find(place: &BlockPlace, root_device: &Path, documents: &Path) -> Result<Self, MediumError> {
        Ok(match place {
            BlockPlace::Raw => Self::Raw { device: with_block(root_device) },
            BlockPlace::Local => Self::Local { path: documents.join(LOCAL_BLOCK) },
            BlockPlace::Files(uuid) => {
                // GRUB takes the one on the disk that it comes from, where there are several: a cloned disk that was left in, an ESP on each disk of a pair.
                let device = device::find_by_uuid_beside(uuid, root_device)?.ok_or_else(|| MediumError::NoDevice(uuid.clone()))?;
                Self::Files { device }
            }
        })
    }

    /// Both copies. An unreadable medium gives two errors: the caller goes on with the baked entry.
    pub fn read(&self) -> Copies {
        match self.open(MsFlags::MS_RDONLY) {
            Ok(open) => Copies { a: open.read(Which::A), b: open.read(Which::B) },
            Err(error) => Copies { b: Err(MediumError::ReadBack(Which::B, self.path().to_owned())), a: Err(error) },
        }
    }

    /// The boot state is `block`: B, then A, each on the device and read back.
    ///
    /// If interrupted: A is old or new and whole, or torn with B new and whole.
    pub fn write(&self, block: &BootBlock) -> Result<(), MediumError> {
        let open = self.open(MsFlags::empty())?;
        open.write(Which::B, block)?;
        open.write(Which::A, block)?;
        open.close()
    }

    /// One copy is `block`. For repair, which mends one from the other.
    pub fn write_one(&self, which: Which, block: &BootBlock) -> Result<(), MediumError> {
        let open = self.open(MsFlags::empty())?;
        open.write(which, block)?;
        open.close()
    }

    /// Each copy has been written as it is and read back: the medium keeps what is written (B12).
    ///
    /// If interrupted: it holds the bytes that it held.
    /// Refuses: a copy that is not whole, which is for repair to mend.
    pub fn prove(&self) -> Result<(), MediumError> {
        let open = self.open(MsFlags::empty())?;
        for which in [Which::B, Which::A] {
            let (path, offset) = open.place(which);
            open.read(which)?;
            let bytes = file::read_at(&path, offset, BLOCK_SIZE)?;
            file::write_in_place(&path, offset, &bytes)?;
            if file::read_at_from_device(&path, offset, BLOCK_SIZE)? != bytes {
                return Err(MediumError::ReadBack(which, path));
            }
        }
        open.close()
    }

    /// Both copies exist with this content. For the installer: the files or the local file are made, in full length.
    pub fn create(&self, block: &BootBlock) -> Result<(), MediumError> {
        let open = self.open(MsFlags::empty())?;
        let bytes = block.encode()?;
        match self {
            Self::Raw { .. } => {}
            Self::Local { path } => {
                file::replace(path, &[bytes, bytes].concat())?;
            }
            Self::Files { .. } | Self::Mounted { .. } => {
                for which in [Which::B, Which::A] {
                    let (path, _) = open.place(which);
                    file::make_dirs(path.parent().unwrap_or(Path::new("/")))?;
                    file::replace(&path, &bytes)?;
                }
            }
        }
        open.write(Which::B, block)?;
        open.write(Which::A, block)?;
        open.close()?;
        // Where it is a sector GRUB reads it at every start, and would complain about anything else.
        self.ask(None).map(drop)
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Raw { device } | Self::Files { device } => device,
            Self::Mounted { dir } => dir,
            Self::Local { path } => path,
        }
    }

    pub(super) fn open(&self, flags: MsFlags) -> Result<Open<'_>, MediumError> {
        let mounted = match self {
            Self::Files { device } => {
                let dir = PathBuf::from(format!("/run/ast/block.{}", std::process::id()));
                file::make_dirs(&dir)?;
                let flags = flags | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                let mount = |flags| Mounted::new(&device.to_string_lossy(), &dir, "vfat", flags, "umask=0077");
                Some(match mount(flags) {
                    // Somebody has it mounted for writing (an ESP in fstab), and one filesystem cannot be mounted both ways.
                    Err(error) if error.errno() == Some(Errno::EBUSY) && flags.contains(MsFlags::MS_RDONLY) => {
                        mount(flags - MsFlags::MS_RDONLY)?
                    }
                    other => other?,
                })
            }
            _ => None,
        };
        Ok(Open { medium: self, mounted })
    }
}

/// Of the devices of a btrfs that `device` is one of, the first whose raw sectors hold a block: the one that GRUB was installed to read.
/// Without any, `device`.
fn with_block(device: &Path) -> PathBuf {
    let several = Member::read(device).filter(|member| member.devices > 1);
    let all = several.and_then(|member| device::members(&member.uuid).ok()).unwrap_or_default();
    let holds = |node: &PathBuf| Medium::Raw { device: node.clone() }.read().current().is_some();
    all.into_iter().map(|member| member.node).find(holds).unwrap_or_else(|| device.to_owned())
}

/// A medium whose FAT filesystem, if it has one, is mounted.
pub(super) struct Open<'a> {
    medium: &'a Medium,
    mounted: Option<Mounted>,
}

impl Open<'_> {
    fn place(&self, which: Which) -> (PathBuf, u64) {
        let name = match which {
            Which::A => FILE_BLOCK_A,
            Which::B => FILE_BLOCK_B,
        };
        match (self.medium, &self.mounted) {
            (Medium::Raw { device }, _) => {
                let sector = match which {
                    Which::A => RAW_BLOCK_A_SECTOR,
                    Which::B => RAW_BLOCK_B_SECTOR,
                };
                (device.clone(), sector * SECTOR)
            }
            (Medium::Local { path }, _) => (
                path.clone(),
                match which {
                    Which::A => 0,
                    Which::B => SECTOR,
                },
            ),
            _ => (self.dir().unwrap_or(self.medium.path()).join(name), 0),
        }
    }

    fn read(&self, which: Which) -> Result<BootBlock, MediumError> {
        let (path, offset) = self.place(which);
        if offset == 0 && !matches!(self.medium, Medium::Raw { .. } | Medium::Local { .. }) {
            // A file of another length is not ours, whatever its first 512 bytes say.
            return Ok(BootBlock::parse(&file::read(&path)?)?);
        }
        Ok(BootBlock::parse(&file::read_at(&path, offset, BLOCK_SIZE)?)?)
    }

    fn write(&self, which: Which, block: &BootBlock) -> Result<(), MediumError> {
        let (path, offset) = self.place(which);
        let bytes = block.encode()?;
        let is_file = matches!(self.medium, Medium::Files { .. } | Medium::Mounted { .. });
        if matches!(self.medium, Medium::Raw { .. }) && self.read(which).is_err_and(|error| error.is_unreadable()) {
            // A write mends a bad sector, but not one of less than a page: that would be read first. The rest of the page is nobody's.
            return self.write_page(which, &path, offset, &bytes);
        }
        if is_file && file::read_if_readable(&path)?.is_none_or(|there| there.len() != BLOCK_SIZE) {
            // Deleted, of another length or unreadable: made anew, since there is nothing whole to overwrite in place.
            file::make_dirs(path.parent().unwrap_or(Path::new("/")))?;
            file::replace(&path, &bytes)?;
        } else {
            file::write_in_place(&path, offset, &bytes)?;
        }
        match self.read(which) {
            Ok(back) if back == *block => Ok(()),
            _ => Err(MediumError::ReadBack(which, path)),
        }
    }

    /// The page of a raw copy is the block and zeros, written without being read, and read back from the device.
    fn write_page(&self, which: Which, path: &Path, offset: u64, bytes: &[u8; BLOCK_SIZE]) -> Result<(), MediumError> {
        let mut page = vec![0; file::PAGE];
        if let Some(start) = page.first_chunk_mut() {
            *start = *bytes;
        }
        file::write_page(path, offset, &page)?;
        if file::read_at_from_device(path, offset, file::PAGE)? == page { Ok(()) } else { Err(MediumError::ReadBack(which, path.to_owned())) }
    }

    /// Where its FAT filesystem is seen, if it has one.
    pub(super) fn dir(&self) -> Option<&Path> {
        match (self.medium, &self.mounted) {
            (Medium::Mounted { dir }, _) => Some(dir),
            (_, mounted) => mounted.as_ref().map(Mounted::path),
        }
    }

    pub(super) fn close(self) -> Result<(), MediumError> {
        match self.mounted {
            Some(mounted) => {
                file::syncfs(mounted.path())?;
                let dir = mounted.path().to_owned();
                mounted.unmount()?;
                // An empty directory in /run; one that stays behind harms nobody.
                drop(std::fs::remove_dir(dir));
                Ok(())
            }
            // GRUB does not read the log, which is all that an fsync writes (S4).
            None if matches!(self.medium, Medium::Local { .. }) => Ok(file::syncfs(self.medium.path())?),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DeployId;

    fn media(dir: &Path) -> Vec<Medium> {
        let image = dir.join("image");
        file::replace(&image, &vec![0; 1 << 20]).expect("image");
        vec![Medium::Raw { device: image }, Medium::Mounted { dir: dir.join("esp") }, Medium::Local { path: dir.join("bootblock") }]
    }

    #[test]
    fn every_medium_keeps_two_copies() {
        let dir = tempfile::tempdir().expect("dir");
        for medium in media(dir.path()) {
            assert!(medium.read().current().is_none(), "{medium:?} is blank");
            medium.create(&BootBlock::new(DeployId::new(1))).expect("created");
            let next = BootBlock { prev: Some(DeployId::new(1)), ..BootBlock::new(DeployId::new(2)) };
            medium.write(&next).expect("written");
            let copies = medium.read();
            assert!(copies.agree());
            assert_eq!(copies.current(), Some((Which::A, &next)));
        }
    }

    #[test]
    fn b5_a_torn_copy_leaves_the_other() {
        let dir = tempfile::tempdir().expect("dir");
        for medium in media(dir.path()) {
            let block = BootBlock::new(DeployId::new(1));
            medium.create(&block).expect("created");
            let open = medium.open(MsFlags::empty()).expect("open");
            let (path, offset) = open.place(Which::A);
            file::write_in_place(&path, offset, &[0; 100]).expect("torn");
            assert_eq!(medium.read().current(), Some((Which::B, &block)));
            medium.write_one(Which::A, &block).expect("mended");
            assert!(medium.read().agree());
        }
    }
}
