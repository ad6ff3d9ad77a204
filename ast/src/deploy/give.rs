//! `rollback --with-var`: the `/var` that was kept when a trial was armed is `/var` again, from the next start on.
//!
//! Nothing is exchanged while the system runs: the initramfs does it when it starts the deployment that the plan made the good one, in one
//! rename. Until then another choice of a person undoes it, and what runs goes on with its own `/var`. What was `/var` stays in `vars`.

use crate::id::DeployId;
use crate::plan::{Plan, Step};
use crate::store::{Store, StoreError, vars};
use crate::sys::btrfs::Access;
use crate::volumes;

use super::shared_var;

/// Which `/var` a rollback comes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Var {
    /// The one that the machine has.
    AsItIs,
    /// The one kept from the time to which the rollback goes.
    OfThatTime,
    /// The one kept when this deployment was armed.
    Before(DeployId),
}

/// A time, by deployments: `/var` as `after` left it is what was kept when the next one was armed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Era {
    /// The deployment whose `/var` is wanted.
    pub(super) after: DeployId,
    /// The newest that may have been armed next: what was kept for a later one has been in the hands of this one.
    pub(super) until: Option<DeployId>,
}

/// Steps that have `var` wait for the next start of `target`; without an era, the newest that is kept.
///
/// Refuses: when it is not kept; when the machine's `/var` holds subvolumes with something in them, which no snapshot of it holds.
pub(super) fn steps(store: &Store, var: Var, era: Option<Era>, target: DeployId) -> Result<Vec<Step>, StoreError> {
    if var == Var::AsItIs {
        return Ok(Vec::new());
    }
    let kept = vars::kept(store)?;
    let fits = |d: &&DeployId| era.is_none_or(|era| **d > era.after && era.until.is_none_or(|until| **d <= until));
    let chosen = match (var, era) {
        (Var::Before(d), _) => kept.iter().find(|k| **k == d),
        (_, Some(_)) => kept.iter().find(fits),
        (_, None) => kept.last(),
    };
    let Some(chosen) = chosen.copied() else { return Err(StoreError::NoKeptVar(kept)) };
    if let Some(now) = shared_var(store)
        && let Some(nested) = volumes::filled_subvolumes(&now)?.into_iter().next()
    {
        return Err(StoreError::VarHolds(nested));
    }
    let layout = store.layout();
    let taken = volumes::var_swaps(layout, target)?;
    let swap = layout.var_swap(target);
    // What was given back to it before lies there still.
    let to = (1..=taken.len()).map(|n| swap.with_extension(n.to_string())).fold(swap.clone(), |to, next| if taken.contains(&to) { next } else { to });
    Ok(vec![Step::MakeDir(layout.var(target)), Step::Snapshot { from: layout.var_before(chosen), to, access: Access::Writable }])
}

/// The plan does `steps` too, before what it prepares is synced.
pub(super) fn before_the_sync(plan: &mut Plan, steps: Vec<Step>) {
    if steps.is_empty() {
        return;
    }
    match plan.prepare.iter().position(|step| *step == Step::Sync) {
        Some(sync) => drop(plan.prepare.splice(sync..sync, steps)),
        None => plan.prepare.extend(steps.into_iter().chain([Step::Sync])),
    }
}
