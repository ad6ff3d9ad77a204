//! Recorded power cuts: every write of a workload to a real file system is recorded, and the disk is shown as it may be after a cut at any moment.
//!
//! A killed emulator, or a killed process, loses no completed write and proves nothing about `fsync`. Here the disk's own promise is taken at its
//! word: what a flush confirmed is there, anything else may or may not be. [`Recording`] records, [`replay`] shows each state to a checker, which
//! looks at it with GRUB's eyes ([`State::grub_view`]: no log tree) and then with the kernel's ([`State::mount`]: with it).
//!
//! ```no_run
//! # use ast_tests::cut::{Recording, Strategy, replay};
//! # use std::path::Path;
//! # fn main() -> Result<(), ast_tests::cut::CutError> {
//! let mut recording = Recording::new(Path::new("base.img"), 0)?;
//! let root = recording.mount("subvolid=5")?.to_owned();
//! std::fs::write(root.join("file"), "content").unwrap();
//! recording.mark("written")?;
//! let log = recording.finish()?;
//! let report = replay(&log, Strategy::Subsets { seed: 1, per_flush: 4 }, |state| {
//!     let root = state.mount("subvolid=5").map_err(|e| e.to_string())?;
//!     Ok(if root.join("file").exists() { "there" } else { "not there" }.into())
//! })?;
//! assert!(report.is_clean(), "{report}");
//! # Ok(())
//! # }
//! ```

mod arena;
mod grub;
mod log;
mod own;
mod record;
mod replay;
mod report;
mod seed;
mod strategy;

pub use grub::{GrubError, grub_name, grub_sees, grub_view};
pub use log::{Entry, LOG_SPACE, WriteLog};
pub use record::{Recording, new_btrfs};
pub use replay::{Preview, State, replay, replay_some};
pub use report::{Report, Violation};
pub use seed::Seed;
pub use strategy::Strategy;

use crate::vm::VmError;

/// A failure of recording or replaying, as opposed to a state that is wrong.
#[derive(thiserror::Error)]
pub enum CutError {
    /// A mount, a file or a program failed.
    #[error(transparent)]
    Lab(#[from] VmError),
    /// A state cannot be made: the file system of the one before is still mounted, by somebody who copied our mounts.
    #[error("{device} is still in use by the state before", device = device.display())]
    Busy {
        /// The block device of the states.
        device: std::path::PathBuf,
    },
    /// The log is not one.
    #[error("write log {path}: {what}", path = path.display())]
    Log {
        /// The log.
        path: std::path::PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The recording cannot be trusted: all its writes together are not the disk they made.
    #[error("replaying all {entries} entries does not give the disk that was written: first difference at byte {offset}")]
    Unfaithful {
        /// How many entries there are.
        entries: usize,
        /// Where.
        offset: u64,
    },
}

impl std::fmt::Debug for CutError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
