//! Working copies: where everything that takes long or may fail happens, before a short plan seals the result.
//!
//! A working copy is a directory `work/TOKEN/{root,etc,var,boot}` of writable subvolumes. It is garbage by its name until
//! the store has sealed it. Commands run inside in private namespaces: they see the copy as `/`, their own `/proc`, `/dev`,
//! `/run` and `/tmp`, the machine's network and package cache, and nothing else of the host.
//!
//! ```text
//!  WorkingCopy::create(layout, set) ── run(words) … ── finish() ──► ReadyToSeal ── store::seal ──► set N.G+1
//!            │                             │              │              │
//!            └─────────── drop: the copy is deleted ──────┴──────────────┘
//! ```

mod boot;
mod complete;
mod copy;
mod dev;
mod inside;
mod litter;
mod owner;
mod parts;
mod place;
mod renew;
mod resolv;
mod terminal;
mod updated;

use std::path::PathBuf;

use crate::exec::ExecError;
use crate::sys::SysError;
use crate::verify::Finding;

pub use boot::{check_sums, prepare_boot, write_sums};
pub use complete::add_missing;
pub use copy::{ReadyToSeal, WorkingCopy, delete_parts};
pub use inside::{Bind, PACKAGE_CACHE, View, run_beside, run_inside};
pub use owner::{ParseTokenError, Token};
pub use parts::Parts;
pub use place::Place;
pub use renew::{renew_boot, renew_kernels};

/// Why a working copy could not be made, entered or finished.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// A system call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A program in the copy failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// Something in the way of a directory that must be one.
    #[error("{} is not a directory, so nothing can be mounted there", .0.display())]
    NotADirectory(PathBuf),
    /// A name in /boot that a list of checksums cannot hold.
    #[error("{} cannot be listed in {}: its name has a line break or a backslash", .0.display(), crate::layout::BOOT_SUMS)]
    BadBootName(PathBuf),
    /// A subvolume with content inside the copy: a snapshot would leave its content out.
    #[error("{} is a subvolume with files in it, which a snapshot would lose; make it a directory", .0.display())]
    NestedSubvolume(PathBuf),
    /// What would start the result cannot be written down.
    #[error("cannot write down how to start the snapshot")]
    BootEnv(#[from] crate::grub::GrubError),
    /// The result lacks what it needs to start, and its source did not.
    #[error("the result would not start: {}", list(.0))]
    NotWhole(Vec<Finding>),
    /// The thread that was to enter the copy was not started.
    #[error("cannot start a thread for the working copy")]
    Thread(#[source] std::io::Error),
}

impl WorkError {
    /// Whether the disk is full (S10).
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Sys(error) if error.is_out_of_space())
    }
}

fn list(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
