//! A machine that the original Python program laid out, taken over in place: `migrate`.
//!
//! ```text
//!  look: subvolumes, fstree, descriptions ── plan ──► sets N.1, deployment 1, documents ── commit: tree.json   (take)
//!        (only read, and left where they are)                                  until then nothing is there but garbage
//!  our boot script in the GRUB that is there; the original's system by it ── commit: grub.cfg                     (take_boot)
//!  first deploy: no way back by `undo` any more, but the original's menu is an entry of ours
//!  the original's subvolumes and documents go ── commit: machine.json                                             (finish)
//! ```
//!
//! What the original had stays as it was until its owner gives it up: its subvolumes are only read, and of its boot loader one file is
//! exchanged. Our sets are read-only snapshots of them, so they share all their space. The way back is to delete what is ours.

mod boot;
mod finish;
mod found;
mod fstab;
mod python;
mod shape;
mod take;
#[cfg(test)]
mod tests;
mod undo;
mod var;

use std::path::PathBuf;

use crate::grub::GrubError;
use crate::layout::{self, Layout};
use crate::store::StoreError;
use crate::store::document::DocumentError;
use crate::sys::{SysError, file};
use crate::volumes::VolumeError;
use crate::work::WorkError;

pub use boot::{BootLoader, preview_boot, show_grub, take_boot};
pub use finish::{finish, preview_finish};
pub use found::{Deployment, Found, Source, look};
pub use python::{Value, parse};
pub use shape::shape;
pub use take::{Taken, preview, take};
pub use undo::{clear, undo};

/// The original's tree file, beside our documents.
pub const FSTREE: &str = "fstree";
/// What stands in the record of the deployment that starts the original's own system.
pub const BY: &str = "ast migrate";

/// Why a machine is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum LegacyError {
    /// Not one of the original's.
    #[error("{} has nothing of the original ast that could be taken over", .0.display())]
    Nothing(PathBuf),
    /// Nothing in it could be a snapshot.
    #[error("no snapshot in {} has its root, /etc and /boot", .0.display())]
    NoSnapshot(PathBuf),
    /// The way back is closed.
    #[error("{0}")]
    TooLate(&'static str),
    /// What the original had is still needed.
    #[error("what the original had cannot be given up: {0}")]
    TooEarly(&'static str),
    /// No GRUB that could read our boot script.
    #[error("the GRUB in @boot/grub cannot start our boot script: {0}; `grub-install` puts a whole one there")]
    NoGrub(String),
    /// The boot block has no place.
    #[error("no EFI system partition is mounted, and the boot block goes there: mount it at {}", .0.display())]
    NoEsp(PathBuf),
    /// The medium of the boot block.
    #[error(transparent)]
    Medium(#[from] crate::boot::medium::MediumError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A subvolume.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A working copy.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// How the original's system is started cannot be written down.
    #[error(transparent)]
    Grub(#[from] GrubError),
    /// The boot block.
    #[error(transparent)]
    Block(#[from] crate::boot::block::BlockError),
    /// The tree.
    #[error(transparent)]
    Tree(#[from] crate::tree::TreeError),
    /// A system call.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl LegacyError {
    /// Whether a rule forbids it, rather than the world failing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Nothing(_) | Self::NoSnapshot(_) | Self::TooLate(_) | Self::TooEarly(_) | Self::NoGrub(_) | Self::NoEsp(_) => true,
            Self::Store(error) => error.is_refusal(),
            _ => false,
        }
    }
}

/// The result of this room.
pub type Result<T, E = LegacyError> = std::result::Result<T, E>;

/// Whether this is a machine of the original that was not taken over: it has a tree file or subvolumes where we have links, and no tree of ours.
pub fn is_original(layout: &Layout) -> bool {
    let tree = layout.document(layout::TREE);
    let ours = tree.exists() || file::old_copy(&tree).is_ok_and(|old| old.exists());
    !ours && (layout.document(FSTREE).exists() || found::has_subvolumes(layout))
}
