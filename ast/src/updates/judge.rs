//! Verdicts: what became of a trial, and why.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::clock::Age;
use crate::id::{ArmId, DeployId, SetId};

/// Why an update or a trial failed. The words are part of the document; a word of a later version is kept as [`Cause::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The upgrade went through and what it left is not whole (S12): refused before any reboot.
    NotWhole,
    /// pacman refuses it: packages exclude or lack each other, or a file is in the way.
    Rejected,
    /// The upgrade was interrupted again and again.
    Interrupted,
    /// GRUB found kernel or initramfs damaged.
    Damaged,
    /// GRUB could not load kernel or initramfs.
    NotLoaded,
    /// No start got as far as the initramfs: the kernel panics, hangs or resets.
    Kernel,
    /// The initramfs found no root that it could mount, or did not get to the end.
    Initramfs,
    /// The system started and the gate was never heard: init, a hang, a panic.
    Userspace,
    /// The health gate said no.
    Gate,
    /// GRUB cannot count on this machine, so a trial cannot be tried. No fault of the packages.
    NotCounted,
    /// A person said so (`ast bad`).
    Person,
    /// A word of a later version.
    #[serde(other)]
    Unknown,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotWhole => "what the upgrade built is not whole",
            Self::Rejected => "pacman refuses it",
            Self::Interrupted => "the upgrade was interrupted again and again",
            Self::Damaged => "its kernel or initramfs is damaged",
            Self::NotLoaded => "its kernel or initramfs could not be loaded",
            Self::Kernel => "its kernel never reached the initramfs",
            Self::Initramfs => "its initramfs did not reach the system",
            Self::Userspace => "its system never reached the health checks",
            Self::Gate => "its health checks failed",
            Self::NotCounted => "the boot loader cannot count starts here",
            Self::Person => "it was marked bad by hand",
            Self::Unknown => "of a cause that a later version of ast recorded",
        })
    }
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Result {
    /// It is the default now.
    Promoted,
    /// One start of it failed; there may be tries left.
    StartFailed,
    /// It failed for good.
    Failed,
    /// Another deployment was put in its place.
    Superseded,
    /// A word of a later version.
    #[serde(other)]
    Unknown,
}

/// One entry of the record of trials. A frozen format: a later version may only add keys, so that the older program of a fallback
/// always can report and record (S13).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The arming that this is about.
    pub arm: ArmId,
    /// The deployment.
    pub d: DeployId,
    /// What it was made from, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<SetId>,
    /// When.
    pub at: Age,
    /// How it ended.
    pub result: Result,
    /// Why, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// What was seen, a line each: checks, units, stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// Keys of a later version, kept.
    #[serde(flatten)]
    pub later: serde_json::Map<String, serde_json::Value>,
}

/// Most lines of evidence in one verdict, and characters in a line: the document is rewritten at each step.
const MAX_EVIDENCE: (usize, usize) = (20, 300);

/// `lines` cut to what a verdict keeps, control characters replaced.
pub fn evidence(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let clean = |line: String| -> String { line.chars().take(MAX_EVIDENCE.1).map(|c| if c.is_control() { ' ' } else { c }).collect() };
    lines.into_iter().take(MAX_EVIDENCE.0).map(clean).collect()
}

/// How the last cycle ended, for `ast check` and `ast status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// When.
    pub at: Age,
    /// One sentence.
    pub text: String,
}
