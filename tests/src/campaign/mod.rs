//! `./dev campaign`: the power is cut again and again, while the machine changes what exists and what boots, and everything must hold
//! afterwards. Natively in states made from recorded writes ([`native`]), and in virtual machines ([`vm`]). See `docs/campaign.md`.
//!
//! `./dev test` decides by one recording ([`decide`]); the campaign is the same at more moments, without end.
#![allow(clippy::expect_used, clippy::panic, reason = "the workload is a test: what does not work in it is a finding, and ends it")]

mod check;
mod eyes;
// The small machine that the program's own tests use.
#[path = "../../../ast/tests/common/mod.rs"]
mod machine;
pub mod memory;
// A machine of the original program, as the program's own tests have it.
#[path = "../../../ast/tests/original/mod.rs"]
mod original;
pub mod native;
mod past;
pub mod rows;
pub mod taken;
mod verbs;
pub mod vm;

use machine as common;
pub use native::{Decided, decide};
pub use verbs::WITHIN;

use std::any::Any;
use std::path::PathBuf;

use crate::cut::CutError;
use crate::lab::cache::{cache_dir, project_dir};

/// Why a campaign cannot go on, as opposed to something that it found.
#[derive(thiserror::Error)]
pub enum CampaignError {
    /// Recording or replaying.
    #[error(transparent)]
    Cut(#[from] CutError),
    /// A file.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The report is somebody else's.
    #[error("{}: not a row of a campaign: {line}", path.display())]
    Row {
        /// The report.
        path: PathBuf,
        /// The line.
        line: String,
    },
    /// The lab, before the power was cut.
    #[error(transparent)]
    Scenario(#[from] crate::scenario::ScenarioError),
    /// A verb did not work while it was recorded.
    #[error("seed {seed}: {what}")]
    Verb {
        /// Of the recording.
        seed: u64,
        /// What it said.
        what: String,
    },
}

impl CampaignError {
    fn of_panic(seed: u64, panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Self::Verb { seed, what: text.unwrap_or_else(|| "a verb did not work".to_owned()) }
    }
}

impl std::fmt::Debug for CampaignError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// States that a campaign has at least.
pub const STATES: usize = 1000;

/// Where rows are appended.
pub fn report() -> PathBuf {
    project_dir().join("docs/campaign.csv")
}

/// A new directory for what went wrong.
fn keep_dir(name: &str) -> Result<PathBuf, CampaignError> {
    let dir = cache_dir().join("kept").join(name);
    std::fs::create_dir_all(&dir).map_err(|source| CampaignError::Io { path: dir.clone(), source })?;
    Ok(dir)
}
