//! The booted `/etc`: what it holds that a snapshot does not, and how it is saved into its own.

use std::path::Path;

use super::record;
use crate::etc::{self, Edited, Goal, Report};
use crate::id::{DeployId, SetId, SnapshotId};
use crate::layout::Part;
use crate::plan::{Plan, Step};
use crate::store::{Store, StoreError};

/// The deployment whose own `/etc` is the booted one, and the set that it was made from.
///
/// Refuses: a machine that does not run, a set that was booted from the menu, and any `/etc` that ends with this boot.
pub fn booted_etc(store: &Store) -> Result<(DeployId, SetId), StoreError> {
    let booted = store.booted().ok_or(StoreError::NotBooted("it is not known what is booted, so there is no booted /etc"))?;
    let d = booted.d.ok_or(StoreError::NotBooted("a snapshot was booted from the menu: its /etc is in memory and ends with this boot"))?;
    if booted.volatile {
        return Err(StoreError::NotBooted("the booted /etc is in memory and ends with this boot"));
    }
    Ok((d, record::load(store.layout(), d)?.set))
}

/// What was changed in the `/etc` of deployment `d` and is not so in snapshot `n`. Changes nothing.
pub fn only_here(store: &Store, d: DeployId, n: SnapshotId, goal: Goal) -> Result<Report, StoreError> {
    let new = store.layout().set_part(store.set_of(n)?, Part::Etc);
    Ok(etc::look(&Edited::of(store.layout(), d), &new, goal)?)
}

/// The finished working copy `dir` of `from`, into whose `/etc` that of deployment `d` was merged as it is in `saved`, becomes the next
/// generation of its snapshot.
///
/// Refuses: when somebody saved the snapshot meanwhile.
pub fn plan_save_etc(store: &Store, d: DeployId, saved: &Path, from: SetId, dir: &Path) -> Result<(Plan, SetId), StoreError> {
    let (mut plan, to) = store.plan_seal(from, dir, &format!("save /etc of deployment {d}"))?;
    plan.prepare.insert(0, Step::KeepSaved { from: saved.to_owned(), d });
    Ok((plan, to))
}
