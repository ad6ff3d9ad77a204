//! Going back, by hand.

use std::path::PathBuf;

use super::give::{self, Era, Var};
use super::record;
use super::{Etc, How, Made, follow_up, made_good, plan_deploy};
use crate::boot::block::BootBlock;
use crate::id::{DeployId, SetId, SnapshotId};
use crate::layout::Part;
use crate::plan::{Commit, Plan, Step};
use crate::store::{Store, StoreError};
use crate::tree::Tree;
use crate::volumes;

/// First plan of `rollback`: what is booted, its `/etc` included, becomes a tree of its own described `rollback`.
///
/// Refuses: a machine that does not run, and one whose running root is not there as a whole.
pub fn plan_rollback_snapshot(store: &Store) -> Result<(Plan, SnapshotId), StoreError> {
    let booted = store.booted().ok_or(StoreError::NotBooted("it is not known what is booted"))?;
    let layout = store.layout();
    match (booted.d, booted.set) {
        (Some(d), _) => {
            if !volumes::whole_deployment(layout, d)? {
                return Err(StoreError::NoDeployment(d));
            }
            // A deployment has no /var of its own: what packages put there comes from the set.
            let var = packaged_var(store, record::load(layout, d)?.set)?;
            let source = |part| if part == Part::Var { var.clone() } else { layout.deployment_part(d, part) };
            store.plan_from(source, None, "rollback", |new| format!("save deployment {d} as snapshot {new}"))
        }
        (None, Some(set)) => {
            if !volumes::whole_set(layout, set)? {
                return Err(StoreError::Broken(set));
            }
            store.plan_from(|part| layout.set_part(set, part), None, "rollback", |new| format!("save set {set} as snapshot {new}"))
        }
        (None, None) => Err(StoreError::NotBooted("it is not known what is booted")),
    }
}

/// What has `var` wait for the deployment that the second plan of `rollback` makes.
///
/// Refuses: when it is not kept.
pub fn plan_rollback_var(store: &Store, var: Var) -> Result<Vec<Step>, StoreError> {
    let good = store.block()?.good;
    // As what runs now knew it.
    let era = store.booted().and_then(|b| b.d).map(|d| Era { after: d, until: (good > d).then_some(good) });
    give::steps(store, var, era, DeployId::new(store.numbers()?.next_deployment))
}

/// Second plan of `rollback`: the snapshot made by the first is the default at once, with what runs now before it.
pub fn plan_rollback_deploy(store: &Store, saved: SnapshotId, var: Var) -> Result<(Plan, DeployId), StoreError> {
    let before = store.block()?;
    let made = Made::new(store, saved)?;
    let after = made_good(store, &before, made.d, store.booted().and_then(|b| b.d));
    let what = format!("roll back to what is booted, as deployment {}", made.d);
    let given = plan_rollback_var(store, var)?;
    let mut plan = made.plan(store, what, Etc::OfSnapshot, false, before, after)?;
    give::before_the_sync(&mut plan, given);
    Ok((plan, made.d))
}

/// `rollback --previous`: from a system one dislikes, the one that ran well before it is the default.
///
/// Refuses: when none is known, or it is not whole; when the `/var` of its time is asked for and is not kept.
pub fn plan_rollback_previous(store: &Store, var: Var) -> Result<(Plan, DeployId), StoreError> {
    let before = store.block()?;
    let booted = store.booted().and_then(|b| b.d);
    let on_trial = before.trial.map(|t| t.deployment);
    let (after, back) = if booted.is_some() && booted == on_trial && booted != Some(before.good) {
        // The good one is what ran before the trial.
        (BootBlock { trial: None, starts: 0, ..before.clone() }, before.good)
    } else {
        let back = before.prev.filter(|prev| booted != Some(*prev)).ok_or(StoreError::NoFallback)?;
        (BootBlock { good: back, prev: Some(before.good), trial: None, starts: 0, ..before.clone() }, back)
    };
    if !volumes::whole_deployment(store.layout(), back)? {
        return Err(StoreError::NoDeployment(back));
    }
    let left = if after.good == before.good { on_trial } else { Some(before.good) };
    let given = give::steps(store, var, Some(Era { after: back, until: left }), back)?;
    let what = format!("roll back to deployment {back}");
    let follow_up = follow_up(&what);
    let mut plan = Plan { what, prepare: Vec::new(), commit: Commit::Boot { before, after }, after: follow_up };
    give::before_the_sync(&mut plan, given);
    Ok((plan, back))
}

/// `rollback N`: snapshot `n` is the default at once, whatever is known of it.
pub fn plan_rollback_to(store: &Store, n: SnapshotId, var: Var) -> Result<(Plan, DeployId), StoreError> {
    let (mut plan, d) = plan_deploy(store, n, How::NoTrial, Etc::OfSnapshot)?;
    give::before_the_sync(&mut plan, give::steps(store, var, None, d)?);
    Ok((plan, d))
}

/// What packages of `set` put into `/var`: from that set, or the nearest that is still there.
pub fn packaged_var(store: &Store, set: SetId) -> Result<PathBuf, StoreError> {
    let tree = store.tree()?;
    let of = |set: SetId| store.layout().set_part(set, Part::Var);
    let now = |tree: &Tree, id| tree.set_of(id).ok();
    let candidates = [Some(set), now(tree, set.snapshot), now(tree, SnapshotId::BASE)];
    let found = candidates.into_iter().flatten().map(of).find(|path| crate::sys::btrfs::is_subvolume(path));
    found.ok_or(StoreError::Broken(set))
}
