//! What is kept of the shared `/var` (S9): taken when a trial is armed, given back only on request.
//!
//! ```text
//!  arm D ──► vars/D/before (read-only) ──► D promoted, or failed and something newer promoted ──► retention
//!                 └── rollback --with-var to E ──► vars/E/swap (a copy) ──► E starts: it is /var, and swap is what was
//! ```
//!
//! A trial that failed is gone with its deployment; what it may have done to `/var` is not, so what was kept before it stays until
//! something newer has been promoted. Of several that failed in a row the newest is kept: a machine whose updates fail for a year
//! must not fill its disk with the `/var` of a year.

use std::path::{Path, PathBuf};

use super::open::Store;
use super::{StoreError, now};
use crate::boot::block::BootBlock;
use crate::boot::medium::Copies;
use crate::id::DeployId;
use crate::layout::{Layout, VAR_MARK};
use crate::sys::{btrfs, file};
use crate::volumes::{self, VolumeError};

/// Deployments for whose sake `/var` was kept when they were armed, in the order of their numbers.
pub fn kept(store: &Store) -> Result<Vec<DeployId>, StoreError> {
    let layout = store.layout();
    let trial = store.block()?.trial.map(|t| t.deployment);
    let armed = |d: &DeployId| trial == Some(*d) || layout.var_armed(*d).exists();
    Ok(volumes::vars(layout)?.into_iter().filter(|d| armed(d) && btrfs::is_subvolume(&layout.var_before(*d))).collect())
}

/// What is on trial was armed, so what was kept for it is no leftover. Written once.
pub(super) fn mark_armed(layout: &Layout, block: &BootBlock) -> Result<(), StoreError> {
    let Some(trial) = block.trial else { return Ok(()) };
    let mark = layout.var_armed(trial.deployment);
    if !layout.var_before(trial.deployment).exists() || mark.exists() {
        return Ok(());
    }
    Ok(file::replace(&mark, format!("{}\n", now()).as_bytes())?)
}

/// What of `vars` nothing needs: left by a plan that was not committed, or by trials before the last one that failed. In words, and where.
pub(super) fn garbage(layout: &Layout, copies: &Copies, is_named: impl Fn(DeployId) -> bool) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let all = volumes::vars(layout)?;
    let newest = all.iter().rev().find(|d| !is_named(**d) && layout.var_armed(**d).exists()).copied();
    let is_good = |d: DeployId| [&copies.a, &copies.b].into_iter().any(|copy| copy.as_ref().is_ok_and(|block| block.good == d));
    let mut garbage = Vec::new();
    for d in all {
        let swaps = volumes::var_swaps(layout, d)?;
        let done = swaps.iter().any(|swap| !is_pending(swap));
        if !is_named(d) && newest != Some(d) && !done {
            garbage.push((format!("the /var before deployment {d}"), layout.var(d)));
        } else if !is_good(d) {
            let pending = swaps.into_iter().filter(|swap| is_pending(swap));
            garbage.extend(pending.map(|swap| (format!("the /var that deployment {d} was to be given"), swap)));
        }
    }
    Ok(garbage)
}

/// Whether it waits to become `/var`; otherwise it was `/var`.
fn is_pending(swap: &Path) -> bool {
    swap.join(VAR_MARK).exists()
}

/// What retention takes of what is kept for `d`: the `/var` before it, and, once something newer is the good one, what was `/var` before it
/// was given back. Subvolumes of their own with something in them stay: no snapshot holds what is in them (C5).
pub(super) fn forgettable(layout: &Layout, d: DeployId, good: DeployId) -> Result<Vec<PathBuf>, VolumeError> {
    if good <= d {
        return Ok(vec![layout.var_before(d)]);
    }
    let swaps = volumes::var_swaps(layout, d)?;
    for swap in swaps.iter().filter(|swap| !is_pending(swap)) {
        if !volumes::filled_subvolumes(swap)?.is_empty() {
            tracing::warn!("{} stays: it holds subvolumes with something in them", swap.display());
            return Ok(vec![layout.var_before(d)]);
        }
    }
    Ok(vec![layout.var(d)])
}
