//! GRUB's own update (C1): on request only, tried once by the GRUB that is there, and the old one kept until the new one has started the
//! machine well.
//!
//! ```text
//!  begin ──► builds/ID, grub.json, grub.cfg ──► the word ──► next start: the old GRUB takes the word away and starts the new one
//!            (nobody starts them)               (commit)       │
//!                                                              ├─ nothing comes of it: restarted, the old one finds no word
//!                                                              └─ the start is reported well by the new one
//!                                                                    └─► switch: beside the old, read back, one step ──► the firmware's
//!  finish ◄── the next start that is reported well by the new one ◄──────────────────────────────────────────────────── next start
//!  (what only the old one had is deleted)
//! ```
//!
//! A BIOS finds a core image by the number of a sector in the boot sector: the new image is written to free sectors, and one sector changes.
//! EFI firmware finds a file: the new one is written beside it, and both change names, which on FAT is two entries of a directory that
//! both lead to a whole file whichever of them is on the disk.

mod bios;
mod build;
mod document;
mod esp;
mod look;
mod settle;
#[cfg(test)]
mod tests;
mod update;

pub use document::{Build, Loader, Stage, Update, load};
pub use look::{Look, Pending, complaints, look};
pub use settle::{Settled, give_up, reported_well};
pub use update::{Ready, Wish, begin, prepare};

use std::path::PathBuf;

use crate::boot::medium::MediumError;
use crate::exec::ExecError;
use crate::grub::GrubError;
use crate::install::InstallError;
use crate::store::StoreError;
use crate::store::document::DocumentError;
use crate::sys::SysError;
use crate::work::WorkError;

/// Why GRUB was not updated.
#[derive(Debug, thiserror::Error)]
pub enum LoaderError {
    /// The machine is none whose GRUB is ours to update.
    #[error("{0}")]
    NotOurs(&'static str),
    /// A deployment is on trial.
    #[error("deployment {0} is on trial: two things are not tried at once")]
    OnTrial(crate::id::DeployId),
    /// Another GRUB is on trial.
    #[error("GRUB {0} is on trial already, and has not started this machine well yet")]
    Underway(String),
    /// There is no update to give up.
    #[error("no other GRUB is on trial")]
    NothingUnderway,
    /// The snapshot has no GRUB for this firmware.
    #[error("{from} has no GRUB for this machine: {} is not there", missing.display())]
    NoGrub {
        /// Whose.
        from: String,
        /// What is missing.
        missing: PathBuf,
    },
    /// It cannot be told which release it is.
    #[error("it cannot be told which release of GRUB {} is of", .0.display())]
    NoRelease(PathBuf),
    /// An older one.
    #[error("{from} has GRUB {new}, and what starts this machine is {installed}")]
    Older {
        /// Whose.
        from: String,
        /// Its version.
        new: String,
        /// The version that is installed.
        installed: String,
    },
    /// It could not write the block.
    #[error("GRUB {0} cannot write the boot block where this machine has it, in raw sectors: 2.14 is the first that can")]
    CannotCount(String),
    /// GRUB cannot count here.
    #[error("GRUB cannot take back its word here, so it cannot try another GRUB once")]
    CannotTry,
    /// No boot sector that is GRUB's.
    #[error("the boot sector of {} is not GRUB's as ast or grub-install put it there", .0.display())]
    ForeignBootSector(PathBuf),
    /// Several.
    #[error("GRUB is in the boot sectors of several disks: {}", .0.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", "))]
    SeveralDisks(Vec<PathBuf>),
    /// No disk at all.
    #[error("it is not known which disk starts this machine")]
    NoDisk,
    /// The core image is not in one piece, or not where a core image can be.
    #[error("the core image at sector {sector} of {} is not one that can be left in its place: {why}", disk.display())]
    OddCore {
        /// The disk.
        disk: PathBuf,
        /// Where the boot sector says that it begins.
        sector: u64,
        /// What is odd.
        why: &'static str,
    },
    /// No room for a second one.
    #[error("{} has no {needed} free sectors before its first partition beside the core image that is there ({free} are)", disk.display())]
    NoRoom {
        /// The disk.
        disk: PathBuf,
        /// Sectors that are needed.
        needed: u64,
        /// The longest stretch that is free.
        free: u64,
    },
    /// No file on the ESP is ours.
    #[error("no file on the EFI system partition starts the GRUB of this machine")]
    NothingOnEsp,
    /// The ESP is full.
    #[error("the EFI system partition has {free} bytes left, and {needed} are needed beside what is there")]
    EspFull {
        /// Bytes free.
        free: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// What was written does not read back.
    #[error("{what} does not read back as it was written; what starts this machine was not changed")]
    ReadBack {
        /// Where it was written to.
        what: String,
    },
    /// The image that was tried is not there as it was made.
    #[error("{}: it is not as it was made", .0.display())]
    Damaged(PathBuf),
    /// What the installer knows about disks and images.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// What GRUB reads.
    #[error(transparent)]
    Grub(#[from] GrubError),
    /// The medium of the boot block.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// A command in the snapshot.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// A program.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A system call.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl LoaderError {
    /// Whether a rule forbids it, rather than the world failing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Store(error) => error.is_refusal(),
            Self::NotOurs(_)
            | Self::OnTrial(_)
            | Self::Underway(_)
            | Self::NothingUnderway
            | Self::NoGrub { .. }
            | Self::NoRelease(_)
            | Self::Older { .. }
            | Self::CannotTry
            | Self::CannotCount(_)
            | Self::ForeignBootSector(_)
            | Self::SeveralDisks(_)
            | Self::NoDisk
            | Self::OddCore { .. }
            | Self::NoRoom { .. }
            | Self::NothingOnEsp
            | Self::EspFull { .. } => true,
            _ => false,
        }
    }
}

/// The result of this room.
pub type Result<T, E = LoaderError> = std::result::Result<T, E>;
