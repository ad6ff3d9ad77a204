//! The states of the machine, each with its data.

use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::clock::Age;
use crate::id::{ArmId, DeployId, SetId, SnapshotId};

/// The update that a cycle is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// What it is cloned from.
    pub parent: SetId,
    /// What it changes: as announced until the upgrade is done, as it was done after it.
    pub changes: Changes,
}

impl Candidate {
    /// With what the description of every snapshot begins that an update made.
    pub const MARK: &'static str = "update ";

    /// The beginning of the description of the snapshot that holds this update. By it a snapshot is known to be ours: a person who
    /// describes it otherwise has taken it over.
    pub fn mark(&self) -> String {
        /// Characters of the fingerprint that people have to look at.
        const SHOWN: usize = 12;
        format!("{}{}", Self::MARK, self.changes.fingerprint().chars().take(SHOWN).collect::<String>())
    }

    /// The whole description of that snapshot.
    pub fn description(&self) -> String {
        format!("{}: {}", self.mark(), self.changes.summary())
    }

    /// The snapshot `snapshot`, as far as it holds this update.
    pub fn prepared(&self, snapshot: SnapshotId) -> Prepared {
        Prepared { snapshot, mark: self.mark() }
    }
}

/// A snapshot that an update made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// Its number.
    pub snapshot: SnapshotId,
    /// What its description begins with, as long as it is ours.
    pub mark: String,
}

/// Where the machine stands. Written before anything that relies on it is done (U9).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Nothing under way.
    #[default]
    Idle,
    /// Deleting what earlier updates left and the policy does not keep. A kill leaves a whole tree, with them or without.
    Retaining,
    /// Asking the mirrors.
    Checking,
    /// A working copy of the parent is being upgraded and verified. A kill leaves garbage by name.
    Upgrading {
        /// Which update.
        update: Candidate,
    },
    /// About to enter the tree.
    Sealing {
        /// Which update.
        update: Candidate,
        /// The number it gets: in the tree if and only if it happened.
        snapshot: SnapshotId,
    },
    /// In the tree, whole, not deployed.
    Verified {
        /// Which update.
        update: Candidate,
        /// Its set.
        set: SetId,
    },
    /// About to be armed.
    Deploying {
        /// Which update.
        update: Candidate,
        /// Its set.
        set: SetId,
        /// The deployment's number.
        d: DeployId,
        /// The arming's number: in the block if and only if it happened.
        arm: ArmId,
    },
    /// Armed; the next start tries it.
    AwaitingReboot {
        /// Which update.
        update: Candidate,
        /// Its set.
        set: SetId,
        /// The deployment.
        d: DeployId,
        /// The arming.
        arm: ArmId,
        /// Since when.
        since: Age,
    },
    /// Running for the first time (again, if a try before it failed).
    OnTrial {
        /// Which update; none if a person deployed it.
        update: Option<Candidate>,
        /// Its set, if known.
        set: Option<SetId>,
        /// The deployment.
        d: DeployId,
        /// The arming.
        arm: ArmId,
        /// What the gate said of this start; nothing yet with `None`.
        healthy: Option<bool>,
    },
    /// Judged and blocked; its trial is about to be cleared from the block.
    Failed {
        /// The deployment.
        d: DeployId,
        /// The arming.
        arm: ArmId,
    },
    /// A state of a later version: the block and the tree say what to do.
    #[serde(other)]
    Unknown,
}

impl State {
    /// The update that this state is about.
    pub const fn update(&self) -> Option<&Candidate> {
        match self {
            Self::Upgrading { update }
            | Self::Sealing { update, .. }
            | Self::Verified { update, .. }
            | Self::Deploying { update, .. }
            | Self::AwaitingReboot { update, .. } => Some(update),
            Self::OnTrial { update, .. } => update.as_ref(),
            Self::Idle | Self::Retaining | Self::Checking | Self::Failed { .. } | Self::Unknown => None,
        }
    }

    /// The snapshot that this state has put into the tree or was about to.
    pub fn prepared(&self) -> Option<Prepared> {
        match self {
            Self::Sealing { update, snapshot } => Some(update.prepared(*snapshot)),
            Self::Verified { update, set }
            | Self::Deploying { update, set, .. }
            | Self::AwaitingReboot { update, set, .. }
            | Self::OnTrial { update: Some(update), set: Some(set), .. } => Some(update.prepared(set.snapshot)),
            _ => None,
        }
    }

    /// The same, as long as it was not deployed.
    pub fn undeployed(&self) -> Option<Prepared> {
        matches!(self, Self::Sealing { .. } | Self::Verified { .. } | Self::Deploying { .. }).then(|| self.prepared())?
    }

    /// Deployment and arming that this state names.
    pub const fn arming(&self) -> Option<(DeployId, ArmId)> {
        match self {
            Self::Deploying { d, arm, .. }
            | Self::AwaitingReboot { d, arm, .. }
            | Self::OnTrial { d, arm, .. }
            | Self::Failed { d, arm } => Some((*d, *arm)),
            _ => None,
        }
    }

    /// Whether this is about deployment `d` of arming `arm`, made from `set`.
    ///
    /// Numbers alone do not tell: those of an arming that did not happen are given to the next one, and that may be a person's.
    pub fn is_about(&self, d: DeployId, arm: ArmId, set: Option<SetId>) -> bool {
        let mine = match self {
            Self::Deploying { set, .. } | Self::AwaitingReboot { set, .. } => Some(*set),
            Self::OnTrial { set, .. } => *set,
            _ => None,
        };
        self.arming() == Some((d, arm)) && (mine.is_none() || set.is_none() || mine == set)
    }

    /// Its name, as people and metrics see it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Retaining => "retaining",
            Self::Checking => "checking",
            Self::Upgrading { .. } => "upgrading",
            Self::Sealing { .. } => "sealing",
            Self::Verified { .. } => "verified",
            Self::Deploying { .. } => "deploying",
            Self::AwaitingReboot { .. } => "awaiting-reboot",
            Self::OnTrial { .. } => "on-trial",
            Self::Failed { .. } => "failed",
            Self::Unknown => "unknown",
        }
    }
}
