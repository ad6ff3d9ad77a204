//! Why no root is mounted.

use std::path::PathBuf;

use ast::boot::choose::{Broken, Target};
use ast::boot::medium::MediumError;
use ast::sys::SysError;

/// What ends the attempt.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line does not say which filesystem.
    #[error("the kernel command line has no root=UUID=…")]
    NoRootUuid,
    /// The filesystem did not come.
    #[error("no btrfs with UUID {uuid} appeared within {seconds} seconds")]
    NoDevice {
        /// Which was awaited.
        uuid: String,
        /// How long.
        seconds: u64,
    },
    /// Nothing can be the root.
    #[error("nothing can be mounted as the root{}", list(.0))]
    NoCandidate(Vec<(Target, Broken)>),
    /// A trial that has no start left.
    #[error("the trial has no try left")]
    Exhausted,
    /// The boot block is not known, or neither copy is whole.
    #[error("the boot block cannot be read, so it cannot be changed")]
    NoBlock,
    /// Somebody armed another one since GRUB read the block.
    #[error("the boot block is about another trial than this one")]
    AnotherTrial,
    /// The mount point is missing.
    #[error("{0} is not a directory")]
    NoMountPoint(PathBuf),
    /// A call failed.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The boot block could not be written.
    #[error(transparent)]
    Medium(#[from] MediumError),
}

fn list(broken: &[(Target, Broken)]) -> String {
    broken.iter().map(|(target, why)| format!("; {target}: {why}")).collect()
}
