//! What boots: plans whose one commit is the boot block. A deployment that no plan has committed is garbage.
//!
//! ```text
//!  deploy ──► block: try D, 3 starts ──► booted, reported well ──► promote: good = D, prev = the good one before
//!                       └── not well ──► the good one boots ──► fail_trial: nothing on trial
//! ```

mod etc;
mod give;
mod good;
pub mod record;
mod rollback;
mod status;

pub use etc::{booted_etc, only_here, plan_save_etc};
pub use give::Var;
pub use good::{plan_fail_trial, plan_promote, plan_report_well};
pub use rollback::{
    packaged_var, plan_rollback_deploy, plan_rollback_previous, plan_rollback_snapshot, plan_rollback_to, plan_rollback_var,
};
pub use status::{DeploymentStatus, Next, Status, status};

use crate::boot::block::{ARMED_TRIES, BootBlock, Mode, Trial};
use crate::etc::Edited;
use crate::id::{ArmId, DeployId, SetId, SnapshotId};
use crate::layout::{Part, VAR_MARK};
use crate::plan::{Commit, Plan, Step};
use crate::store::machine::Numbers;
use crate::store::{Store, StoreError, document, now};
use crate::sys::btrfs::{self, Access};
use crate::tree::{Later, TreeError};
use crate::verify::{self, Depth, Disk};
use crate::volumes;
use crate::work::Parts;

/// How a new deployment is to be booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Counted until its first good boot; the default then.
    Trial,
    /// For one start.
    Once,
    /// The default at once, and nothing is on trial any more.
    NoTrial,
}

/// Where the `/etc` of a new deployment comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Etc {
    /// From the snapshot.
    OfSnapshot,
    /// From the snapshot, with what was changed in the `/etc` of this deployment since it was made.
    MergedFrom(DeployId),
}

/// Snapshot `n` becomes a new deployment, to be booted as `how` says. The deployment's number.
///
/// The source is only read (S5). What was on trial is no longer: the last word of a person counts (B15).
pub fn plan_deploy(store: &Store, n: SnapshotId, how: How, etc: Etc) -> Result<(Plan, DeployId), StoreError> {
    let before = store.block()?;
    let made = Made::new(store, n)?;
    let arm = ArmId::new(made.numbers.next_arm);
    let trial = |mode, tries| BootBlock { trial: Some(Trial { deployment: made.d, mode, tries }), arm, ..before.clone() };
    let (after, word) = match how {
        How::Trial => (trial(Mode::Trial, ARMED_TRIES), "on trial"),
        How::Once => (trial(Mode::Once, 1), "for one start"),
        How::NoTrial => (made_good(store, &before, made.d, None), "without trial"),
    };
    let keep_var = how != How::NoTrial;
    let what = format!("deploy {n} as deployment {}, {word}", made.d);
    Ok((made.plan(store, what, etc, keep_var, before, after)?, made.d))
}

/// The block in which `d` is the good one and nothing is on trial. The one before it is `prev`, or the newest that is known to have
/// booted well (B2) and lacks nothing since: a good one that rotted is no fallback for the update that took its place.
fn made_good(store: &Store, before: &BootBlock, d: DeployId, prev: Option<DeployId>) -> BootBlock {
    let well = |candidate: &DeployId| *candidate != d && store.layout().deployment_well(*candidate).exists();
    let known = [Some(before.good), before.prev].into_iter().flatten();
    // A machine whose first deployment never reported has nothing better than it.
    let whole = |candidate: &DeployId| verify::check_to(&Parts::of_deployment(store.layout(), *candidate), Disk::of(store.layout()), Depth::NotTheImages).is_empty();
    let proven = || known.clone().filter(well);
    let prev = prev.or_else(|| proven().find(whole).or_else(|| proven().next())).or_else(|| known.clone().find(|candidate| *candidate != d));
    BootBlock { good: d, prev, trial: None, starts: 0, ..before.clone() }
}

/// A deployment in the making.
struct Made {
    n: SnapshotId,
    set: SetId,
    d: DeployId,
    numbers: Numbers,
}

impl Made {
    fn new(store: &Store, n: SnapshotId) -> Result<Self, StoreError> {
        if store.starts_with_original() {
            return Err(StoreError::OriginalBoot);
        }
        let set = store.set_of(n)?;
        let numbers = store.numbers()?;
        Ok(Self { n, set, d: DeployId::new(numbers.next_deployment), numbers })
    }

    fn plan(&self, store: &Store, what: String, etc: Etc, keep_var: bool, before: BootBlock, after: BootBlock) -> Result<Plan, StoreError> {
        let mut prepare = self.steps(store, etc, &what)?;
        if let Some(var) = shared_var(store).filter(|var| keep_var && can_be_kept(var)) {
            let to = store.layout().var_before(self.d);
            prepare.push(Step::MakeDir(store.layout().var(self.d)));
            let mark = Step::Write { path: to.join(VAR_MARK), bytes: format!("kept when deployment {} was armed\n", self.d).into_bytes() };
            prepare.extend([Step::Snapshot { from: var, to: to.clone(), access: Access::Writable }, mark, Step::Seal(to)]);
        }
        // On disk where GRUB reads before it is judged, judged before it is named (S4, S12).
        prepare.extend([Step::Sync, Step::Verify(self.d)]);
        let follow_up = follow_up(&what);
        Ok(Plan { what, prepare, commit: Commit::Boot { before, after }, after: follow_up })
    }

    fn steps(&self, store: &Store, etc: Etc, what: &str) -> Result<Vec<Step>, StoreError> {
        let layout = store.layout();
        let used_up = |what| StoreError::Tree(TreeError::NumbersUsedUp(what));
        let reserved = Numbers {
            next_deployment: self.numbers.next_deployment.checked_add(1).ok_or_else(|| used_up("deployment"))?,
            next_arm: self.numbers.next_arm.checked_add(1).ok_or_else(|| used_up("arming"))?,
            later: self.numbers.later.clone(),
        };
        let copy = |part, to, access| Step::Snapshot { from: layout.set_part(self.set, part), to, access };
        let part = |part| layout.deployment_part(self.d, part);
        let title = format!("Snapshot {}: {}", self.n, store.tree()?.get(self.n)?.description);
        let mut steps = vec![
            Step::Reserve(reserved),
            Step::MakeDir(layout.deployment(self.d)),
            copy(Part::Root, part(Part::Root), Access::ReadOnly),
            copy(Part::Etc, part(Part::Etc), Access::Writable),
            copy(Part::Etc, layout.deployment_etc_base(self.d), Access::ReadOnly),
            copy(Part::Boot, part(Part::Boot), Access::Writable),
            Step::Title { boot: part(Part::Boot), title },
            Step::Seal(part(Part::Boot)),
        ];
        match etc {
            Etc::MergedFrom(other) => {
                steps.push(Step::MergeEtc { edited: Edited::of(layout, other), into: part(Part::Etc) });
            }
            // The snapshot's own /etc, but on this machine.
            Etc::OfSnapshot => {
                let running = store.booted().and_then(|booted| booted.d).unwrap_or(store.block()?.good);
                let from = layout.deployment_part(running, Part::Etc);
                if from.is_dir() {
                    steps.push(Step::CarryIdentity { from, into: part(Part::Etc) });
                }
            }
        }
        let record = record::Record { d: self.d, set: self.set, created: now(), by: what.to_owned(), later: Later::new() };
        let path = layout.deployment_record(self.d);
        let bytes = document::encode(&path, &record)?;
        steps.push(Step::Write { path, bytes });
        Ok(steps)
    }
}

/// What follows from a new boot block.
fn follow_up(what: &str) -> Vec<Step> {
    vec![Step::Menu, Step::Record(what.to_owned()), Step::Sync, Step::Collect]
}

/// Whether a snapshot can be taken of the subvolume at `var`. Without one an update goes on, rather than never again: its `/var` is not kept.
fn can_be_kept(var: &std::path::Path) -> bool {
    let Ok(Some(swap)) = volumes::swap_file(var) else { return true };
    tracing::warn!("/var is not kept as it is now: {} is a swap file in use, and btrfs snapshots no subvolume with one", swap.display());
    false
}

/// The shared `/var` of the machine, where it can be snapshotted beside the deployments (S9).
pub fn shared_var(store: &Store) -> Option<std::path::PathBuf> {
    let var = store.sysroot().join("var");
    let same = btrfs::is_subvolume(&var)
        && btrfs::filesystem_uuid(&var)
            .ok()
            .is_some_and(|uuid| btrfs::filesystem_uuid(store.layout().snapshots()).is_ok_and(|u| u == uuid));
    same.then_some(var)
}
