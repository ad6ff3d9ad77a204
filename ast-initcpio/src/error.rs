//! Why no root is mounted.

use std::path::PathBuf;

use ast::boot::choose::{Broken, Target};
use ast::boot::medium::MediumError;
use ast::cmdline::Root;
use ast::sys::SysError;

/// What ends the attempt.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line does not say which filesystem.
    #[error("the kernel command line names no root that is understood: UUID=, LABEL=, PARTUUID=, PARTLABEL= or /dev/…")]
    NoRoot,
    /// The filesystem did not come.
    #[error("no btrfs with {root} appeared within {seconds} seconds{}; seen: {}", other(.is.as_ref()), list_of(.seen))]
    NoDevice {
        /// Which was awaited.
        root: Root,
        /// The device that it names, in which there is no btrfs.
        is: Option<PathBuf>,
        /// How long.
        seconds: u64,
        /// What was there instead.
        seen: Vec<String>,
    },
    /// Nothing can be the root.
    #[error("nothing can be mounted as the root{}", list(.0))]
    NoCandidate(Vec<(Target, Broken)>),
    /// A trial that has no start left.
    #[error("the trial has no try left")]
    Exhausted,
    /// What GRUB only reads, and nobody else can write.
    #[error("the filesystem can only be read, and the boot block is on it")]
    ReadOnly,
    /// GRUB's own writes come to nothing.
    #[error("the boot loader cannot count a start, so it cannot be told to make one")]
    NotCounted,
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

fn other(is: Option<&PathBuf>) -> String {
    is.map(|node| format!("; {} is that, and holds none", node.display())).unwrap_or_default()
}

fn list_of(seen: &[String]) -> String {
    if seen.is_empty() { "no disk at all".to_owned() } else { seen.join(", ") }
}

fn list(broken: &[(Target, Broken)]) -> String {
    broken.iter().map(|(target, why)| format!("; {target}: {why}")).collect()
}
