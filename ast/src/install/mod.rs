//! A new machine on a disk: partition table, filesystems, the first snapshot and deployment, GRUB, and the proof that GRUB's boot
//! block can be written and read there.
//!
//! ```text
//! Disk (what is to be overwritten, looked at) → host (what this machine has to have)
//! Scheme (table) → Fat, btrfs (target) → Staging: root/etc/var/boot as one tree (system) → set 0.1, deployment 1, documents (first)
//!                                                                                     → core image, grub.cfg, block, proof (boot)
//! ```
//! Everything takes a file and an offset: a partition of a disk, or a stretch of an image file on a kernel that knows no partitions.
//! Nothing is mounted where another process sees it, and nothing stays mounted when this one is killed.

pub mod answers;
pub mod core_image;
pub mod disk;
pub mod fat;
pub mod first;
pub mod host;
pub mod machine;
mod proof;
pub mod settle;
pub mod sources;
pub mod staging;
pub mod table;
pub mod target;
#[cfg(test)]
mod tests;
mod tool;

pub use core_image::{Grub, Terminal};
pub use table::Boot;
pub use target::Target;

use std::path::{Path, PathBuf};

use crate::boot::block::BlockError;
use crate::boot::medium::MediumError;
use crate::exec::ExecError;
use crate::grub::GrubError;
use crate::luks::LuksError;
use crate::store::document::DocumentError;
use crate::sys::SysError;
use crate::verify::Finding;
use crate::work::WorkError;

/// Why a machine could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The disk cannot hold a machine.
    #[error("{} has {size} bytes; a machine needs at least {needed}", disk.display())]
    TooSmall {
        /// The disk.
        disk: PathBuf,
        /// Its bytes.
        size: u64,
        /// Bytes that would do.
        needed: u64,
    },
    /// An MBR counts sectors in 32 bits.
    #[error("{} has {size} bytes, and a BIOS partition table reaches 2 TiB", disk.display())]
    TooBig {
        /// The disk.
        disk: PathBuf,
        /// Its bytes.
        size: u64,
    },
    /// Neither a block device nor a file.
    #[error("{} is neither a disk nor an image file", .0.display())]
    NoDisk(PathBuf),
    /// A part of a disk.
    #[error("{} is a partition, and a whole disk is needed{}", node.display(), whole.as_ref().map(|disk| format!(": {}", disk.display())).unwrap_or_default())]
    Partition {
        /// The partition.
        node: PathBuf,
        /// The disk that it is on.
        whole: Option<PathBuf>,
    },
    /// Nothing can be written to it.
    #[error("{} is read-only", .0.display())]
    ReadOnly(PathBuf),
    /// Partition tables, GRUB's blocklists and the boot block are laid out for sectors of 512 bytes.
    #[error("{} has sectors of {size} bytes, and ast lays a disk out for sectors of 512", disk.display())]
    SectorSize {
        /// The disk.
        disk: PathBuf,
        /// Bytes of a sector.
        size: u64,
    },
    /// Somebody uses it.
    #[error("{} is in use: {}", disk.display(), if by.is_empty() { "the kernel, or a program, has it for itself".to_owned() } else { by.join(", ") })]
    InUse {
        /// The disk.
        disk: PathBuf,
        /// By whom, as far as that can be known.
        by: Vec<String>,
    },
    /// Another installer, or udev, is at it.
    #[error("another program has locked {}", .0.display())]
    Claimed(PathBuf),
    /// What is on it is not known.
    #[error("cannot tell what is on {}: {reason}", disk.display())]
    Listing {
        /// The disk.
        disk: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A program that an installation runs is not here.
    #[error("{program} is not installed on this machine, and nothing can be installed without it (package {package})")]
    NoProgram {
        /// Which.
        program: &'static str,
        /// What to install.
        package: &'static str,
    },
    /// No modules of GRUB for the platform.
    #[error("{} does not hold GRUB's modules (package grub)", dir.display())]
    NoGrubModules {
        /// Where they should be.
        dir: PathBuf,
    },
    /// It does not say its version.
    #[error("cannot tell the version of GRUB from {said:?}")]
    GrubVersion {
        /// What it says.
        said: String,
    },
    /// It cannot write the boot block there.
    #[error("GRUB {version} cannot write to raw sectors of a btrfs, 2.14 is the first that can")]
    GrubTooOld {
        /// Its version.
        version: String,
    },
    /// The core image does not fit before what comes next on the disk.
    #[error("GRUB's core image has {size} bytes, and there is room for {room} before what comes next on the disk")]
    CoreTooBig {
        /// Its bytes.
        size: u64,
        /// Bytes there are.
        room: u64,
    },
    /// The core image is not laid out as every one was so far.
    #[error("GRUB's core image says that {len} sectors follow from sector {start}; {rest} from sector 2 were expected")]
    Blocklist {
        /// First sector in its list.
        start: u64,
        /// Sectors in its list.
        len: u64,
        /// Sectors that follow its first.
        rest: u64,
    },
    /// Not the `boot.img` that we know how to change.
    #[error("{}: not GRUB's boot sector as every release so far had it", .0.display())]
    BootCode(PathBuf),
    /// What was written to the place of the boot block does not read back.
    #[error("copy {which} of the boot block does not read back as it was written: GRUB could not count on this machine")]
    Proof {
        /// `A` or `B`.
        which: char,
    },
    /// GRUB could not unlock the disk.
    #[error("GRUB could not unlock the disk: {0}")]
    Luks(#[from] LuksError),
    /// An older GRUB asks a person, and no key in its core image helps.
    #[error("GRUB {0} takes no key out of its core image (2.12 does): without one it asks for the passphrase at each start")]
    NoKeys(String),
    /// A file or directory could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no filesystem where one was just made.
    #[error("{} holds no filesystem, though one was just made there", .0.display())]
    NoFilesystem(PathBuf),
    /// The caller's own part failed.
    #[error("setting up the new root failed: {0}")]
    Settle(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A document could not be written.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// What GRUB reads could not be made.
    #[error(transparent)]
    Grub(#[from] GrubError),
    /// The working copy could not be made or finished.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// What was installed could not start.
    #[error("what was installed would not start: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    NotWhole(Vec<Finding>),
    /// A thread of ours ended without a result.
    #[error("a thread of the installer ended without a result, which is a bug")]
    Thread,
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A program failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The boot block could not be made or stored.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// The boot block could not be encoded.
    #[error(transparent)]
    Block(#[from] BlockError),
}

impl InstallError {
    fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// The result of this room.
pub type Result<T, E = InstallError> = std::result::Result<T, E>;
