//! Why something is not done, with the object it is about.

use std::path::PathBuf;

use super::document::DocumentError;
use crate::boot::medium::MediumError;
use crate::id::{ArmId, DeployId, SetId, SnapshotId};
use crate::sys::SysError;
use crate::sys::lock::LockError;
use crate::tree::TreeError;
use crate::volumes::VolumeError;

/// What another room said, when one of its functions is called by a plan.
pub type RoomError = Box<dyn std::error::Error + Send + Sync>;

/// What a snapshot is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It runs.
    Booted,
    /// It boots when nothing is on trial.
    Default,
    /// It is on trial.
    Trial,
    /// It boots when the default does not.
    Fallback,
    /// Its owner pinned it.
    Pinned,
}

impl std::fmt::Display for Need {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Booted => "booted",
            Self::Default => "the default",
            Self::Trial => "on trial",
            Self::Fallback => "the fallback",
            Self::Pinned => "pinned",
        })
    }
}

/// Why the store cannot be opened, or a plan not be made or carried out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No snapshots are seen there.
    #[error("{} is no astOS: it has no {}", sysroot.display(), crate::layout::DOCUMENTS)]
    NoSystem {
        /// Where the snapshots should be seen.
        sysroot: PathBuf,
    },
    /// The original Python program's, and not taken over.
    #[error("{} is laid out by the original ast, and was not taken over", sysroot.display())]
    Original {
        /// Where its snapshots are seen.
        sysroot: PathBuf,
    },
    /// The original's boot loader still starts this machine, and knows no deployments.
    #[error("the boot loader of the original ast still starts this machine, and it knows nothing of deployments")]
    OriginalBoot,
    /// A document.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Another writer.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A rule of the tree.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A directory of subvolumes.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// What should be deleted cannot be.
    #[error("{what} could not be deleted")]
    Stuck {
        /// It, in words.
        what: String,
        /// Why.
        source: VolumeError,
    },
    /// The kernel.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The medium of the boot block.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// What GRUB reads is not seen.
    #[error("{} is not there, so the boot menu cannot be written: mount @boot at {}", .0.display(), .0.parent().unwrap_or(.0).display())]
    NoGrub(PathBuf),
    /// What GRUB should read cannot be made.
    #[error(transparent)]
    Grub(#[from] crate::grub::GrubError),
    /// Neither copy of the boot block can be used, so nothing that boots may be changed.
    #[error("the boot block cannot be read, so what boots cannot be changed")]
    NoBlock,
    /// A snapshot that is needed.
    #[error("snapshot {id} is {need}")]
    Needed {
        /// The snapshot.
        id: SnapshotId,
        /// What for.
        need: Need,
    },
    /// A snapshot whose set on disk is not whole.
    #[error("set {0} is not whole on disk")]
    Broken(SetId),
    /// There is no such deployment, or not all of it.
    #[error("deployment {0} is not whole on disk")]
    NoDeployment(DeployId),
    /// Someone else saved the same snapshot meanwhile.
    #[error("snapshot {} was changed meanwhile: this is a copy of {from}, and it is in {now} now", from.snapshot)]
    Moved {
        /// What the working copy is a copy of.
        from: SetId,
        /// What the snapshot is now.
        now: SetId,
    },
    /// Tree or boot block are not as the plan found them.
    #[error("this was planned for another state of the machine ({0})")]
    Stale(&'static str),
    /// Not enough space to begin (S10).
    #[error("only {available} MiB are free where {needed} MiB are needed")]
    NoSpace {
        /// Free, in MiB.
        available: u64,
        /// Needed, in MiB.
        needed: u64,
    },
    /// The new deployment is not whole (S12).
    #[error("deployment {d} would not boot")]
    Verify {
        /// The deployment.
        d: DeployId,
        /// What is wrong with it.
        source: RoomError,
    },
    /// What is booted is not what the boot block has on trial: someone deployed another, or the trial is over (B15).
    #[error("deployment {d} of arming {arm} is no longer on trial")]
    Superseded {
        /// What was booted.
        d: DeployId,
        /// Its arming.
        arm: ArmId,
    },
    /// What is booted is no deployment, or it is not known what is.
    #[error("{0}")]
    NotBooted(&'static str),
    /// The `/var` of that time is not kept, or not any more.
    #[error("no /var is kept that fits{}", kept_for(.0))]
    NoKeptVar(Vec<DeployId>),
    /// Giving `/var` back would leave behind what is in a subvolume of its own.
    #[error("{} is a subvolume of its own, which no kept /var holds", .0.display())]
    VarHolds(PathBuf),
    /// A live change of the booted deployment that was cut off.
    #[error("a live change cannot be settled")]
    Live(#[source] RoomError),
    /// There is nothing to go back to.
    #[error("no other deployment is known to have booted well")]
    NoFallback,
}

impl StoreError {
    /// Whether a rule forbids it (exit code 3), rather than the world failing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Tree(error) => matches!(error, TreeError::Unknown(_) | TreeError::Base(_)),
            Self::Volume(error) => matches!(error, VolumeError::Mounted(_)),
            Self::Original { .. } | Self::OriginalBoot => true,
            Self::Needed { .. } | Self::Moved { .. } | Self::Superseded { .. } | Self::NotBooted(_) | Self::NoFallback => true,
            Self::NoKeptVar(_) | Self::VarHolds(_) => true,
            _ => false,
        }
    }

    /// Whether another ast is at work (exit code 4).
    pub fn is_locked(&self) -> bool {
        matches!(self, Self::Lock(LockError::Held { .. }))
    }

    /// Whether a newer ast has to do it (exit code 5).
    pub fn needs_newer(&self) -> bool {
        matches!(self, Self::Document(DocumentError::NewerToRead { .. } | DocumentError::NewerToWrite { .. }))
    }
}

/// Which ones there are, for the end of a sentence.
fn kept_for(kept: &[DeployId]) -> String {
    let list: Vec<String> = kept.iter().map(ToString::to_string).collect();
    if list.is_empty() { String::new() } else { format!("; kept is that before deployment {}", list.join(", ")) }
}
