//! System calls: mounts, btrfs ioctls, sync, durable replace, locks. The only room with `unsafe`.
//!
//! Every error names the call and the path. Nothing here knows what a snapshot is.

pub mod btrfs;
pub mod device;
pub mod file;
pub mod inside;
pub mod lock;
pub mod mount;
#[cfg(feature = "host")]
pub mod namespace;
#[cfg(feature = "host")]
pub mod signal;
pub mod superblock;
pub mod watchdog;
pub mod witness;

use std::path::{Path, PathBuf};

/// A system call that failed on a path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct SysError {
    /// What was tried, as a verb phrase.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: std::io::Error,
}

impl SysError {
    /// The error number, where the kernel gave one.
    pub fn errno(&self) -> Option<nix::errno::Errno> {
        self.source.raw_os_error().map(nix::errno::Errno::from_raw)
    }

    /// Whether there was no space, no quota or no metadata left (S10).
    pub fn is_out_of_space(&self) -> bool {
        matches!(self.errno(), Some(nix::errno::Errno::ENOSPC | nix::errno::Errno::EDQUOT))
    }

    /// Whether the disk did not give back what it holds there (EIO): a bad sector, or content that its checksum does not fit. Asked of a read alone.
    pub fn is_unreadable(&self) -> bool {
        self.errno() == Some(nix::errno::Errno::EIO)
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == std::io::ErrorKind::NotFound
    }
}

/// Result of a call on a path.
pub type Result<T> = std::result::Result<T, SysError>;

/// Adds what was tried and on what to an error of the operating system.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| SysError { action, path: path.to_owned(), source: source.into() })
    }
}
