//! A stretch of a disk or of an image file: a partition, whether or not the kernel knows about partitions.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use super::table::{Extent, SECTOR};
use super::{InstallError, Result, tool};
use crate::exec::Program;
use crate::sys::{self, At as _};

/// Bytes `offset..offset + size` of a block device or an image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The device or file.
    pub file: PathBuf,
    /// First byte.
    pub offset: u64,
    /// How many.
    pub size: u64,
}

impl Target {
    /// The whole of a disk or an image file.
    pub fn whole(file: &Path) -> Result<Self> {
        let size = File::open(file).and_then(|mut f| f.seek(SeekFrom::End(0))).at("open", file)?;
        Ok(Self { file: file.to_owned(), offset: 0, size })
    }

    /// A part of it.
    pub fn part(&self, extent: Extent) -> Self {
        Self { file: self.file.clone(), offset: self.offset + extent.start * SECTOR, size: extent.sectors * SECTOR }
    }

    /// What is left behind its first bytes.
    pub fn behind(&self, bytes: u64) -> Self {
        let bytes = bytes.min(self.size);
        Self { file: self.file.clone(), offset: self.offset + bytes, size: self.size - bytes }
    }

    /// These bytes are on the medium at `offset` of the target.
    ///
    /// If interrupted: any sectors of them are.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(sys::file::write_in_place(&self.file, self.offset + offset, bytes)?)
    }

    /// `size` bytes at `offset` of the target.
    pub fn read_at(&self, offset: u64, size: usize) -> Result<Vec<u8>> {
        Ok(sys::file::read_at(&self.file, self.offset + offset, size)?)
    }

    /// A block device with exactly these bytes, for programs and mounts that take no offset.
    pub fn attach(&self) -> Result<Attached> {
        let kind = self.file.metadata().map_err(|e| InstallError::io(&self.file, e))?.file_type();
        if kind.is_block_device() && self.offset == 0 {
            return Attached::open(self.file.clone());
        }
        let (offset, size) = (self.offset.to_string(), self.size.to_string());
        let args = ["--find", "--show", "--offset", &offset, "--sizelimit", &size];
        let said = tool::run(Program::Losetup, args.map(OsStr::new).into_iter().chain([self.file.as_os_str()]), None)?;
        let attached = Attached::open(PathBuf::from(String::from_utf8_lossy(&said).trim()))?;
        // While it is held open this only marks it: the kernel lets it go with its last user, even if we are killed.
        tool::run(Program::Losetup, ["--detach".as_ref(), attached.device.as_os_str()], None)?;
        Ok(attached)
    }
}

/// A block device that stays until this, and every mount of it, is gone.
#[derive(Debug)]
pub struct Attached {
    device: PathBuf,
    _open: File,
}

impl Attached {
    fn open(device: PathBuf) -> Result<Self> {
        let open = File::open(&device).map_err(|e| InstallError::io(&device, e))?;
        Ok(Self { device, _open: open })
    }

    /// Its node below `/dev`.
    pub fn device(&self) -> &Path {
        &self.device
    }
}
