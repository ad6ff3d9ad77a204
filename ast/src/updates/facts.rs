//! What a cycle looks at before it does anything: the machine, not the memory of it.

use super::changes::Changes;
use crate::boot::block::Trial;
use crate::boot::stage::Stage;
use crate::cmdline::Why;
use crate::id::{ArmId, DeployId, SetId, SnapshotId};

/// Who started this cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Request {
    /// The timer: pauses, waits and blocks hold.
    Timer,
    /// A person (`ast auto-upgrade`): they do not.
    Person,
    /// The start of the machine: what is left of earlier cycles and trials is settled, and nothing new is begun.
    Start,
}

/// The machine at the beginning of a cycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Who asks.
    pub request: Request,
    /// A number that differs between machines and cycles: spreads retries.
    pub jitter: u32,
    /// The deployment that runs, if it is one.
    pub booted: Option<DeployId>,
    /// Why the boot loader started it.
    pub why: Option<Why>,
    /// Whether the initramfs had to mount another root than the one that the boot loader had named.
    pub another_root: bool,
    /// The block's good one.
    pub good: DeployId,
    /// The one before it.
    pub prev: Option<DeployId>,
    /// What the good one was made from.
    pub good_set: Option<SetId>,
    /// The block's trial.
    pub trial: Option<Trial>,
    /// The block's newest arming.
    pub arm: ArmId,
    /// What the trial was made from.
    pub trial_set: Option<SetId>,
    /// What the trial changes against the default, if an update made it and not a person.
    pub trial_changes: Option<Changes>,
    /// The stage file, whichever arming it is about.
    pub stage: Stage,
    /// Current set of the default's snapshot: what an update is cloned from.
    pub parent: SetId,
    /// Of [`super::Updates::own_snapshots`], the sets of those that are in the tree and still bear their mark.
    pub ours: Vec<SetId>,
    /// Whether the default is known to have booted well.
    pub good_well: bool,
    /// Whether retention would delete something.
    pub spare: bool,
    /// What should be deleted and is held, a line each.
    pub undeleted: Vec<String>,
    /// Whether updates are paused now.
    pub paused: bool,
}

impl Facts {
    /// Whether this start is the trial of the block itself.
    pub fn on_trial(&self) -> bool {
        self.why == Some(Why::Trial) && !self.another_root && self.trial.is_some_and(|t| Some(t.deployment) == self.booted)
    }

    /// The set of snapshot `n`, if it is one of ours.
    pub fn own_set(&self, n: SnapshotId) -> Option<SetId> {
        self.ours.iter().copied().find(|set| set.snapshot == n)
    }

    /// What starts of arming `arm` left behind, oldest first.
    pub fn evidence(&self, arm: ArmId) -> Vec<String> {
        let about = self.stage.arm == Some(arm);
        self.stage.earlier.iter().chain(&self.stage.evidence).filter(|_| about).cloned().collect()
    }

    /// Whether retention may run: the default runs, is proven, and nothing is to be tried (U8).
    pub fn settled(&self) -> bool {
        let proven = self.booted == Some(self.good) && self.good_well && !self.another_root;
        proven && self.trial.is_none() && self.request != Request::Start
    }

    /// Whether a person chose what runs, and it is not the default: then updates wait.
    ///
    /// The one before the default is started once by the initramfs, when the default's root is broken; a person's one start is of a new
    /// deployment. Were that taken for a choice, a machine whose default has rotted would never update again, and an update is what mends it.
    pub fn chosen(&self) -> bool {
        let by_hand = match self.why {
            Some(Why::Once) => self.booted != self.prev,
            why => why == Some(Why::Chosen),
        };
        self.booted.is_none_or(|d| by_hand && d != self.good)
    }
}
