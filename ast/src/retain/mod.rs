//! Retention (U8): what unattended updates leave behind over the years, and the one policy that says what of it goes. Used by the
//! updater, as a step of its own that only comes after a promotion, and by `ast clean`.
//!
//! ```text
//!  tree, boot block, menus, updates.json, mounts ─► Situation ─► judge (pure) ─► plan: one commit, the tree without them
//! ```
//!
//! Subvolumes of btrfs do not depend on the one that they were snapshotted from: to take a snapshot out of a chain is a change of the
//! tree document, in which its children go to its parent.

mod policy;

#[cfg(test)]
mod tests;

pub use policy::{Fate, Goes, Judged, Situation, Stays, judge};

use crate::id::{DeployId, SnapshotId};
use crate::plan::Plan;
use crate::store::{Store, StoreError};
use crate::updates::Updates;
use crate::volumes::{self, Mounts, VolumeError};

/// What stays and what goes on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Every snapshot.
    pub snapshots: Vec<Judged>,
    /// Deployments whose kept `/var` goes: they, or newer ones, booted well since, so that nobody needs the one before (S9).
    pub vars: Vec<DeployId>,
}

/// What retention would do now, `keep` of the newest updates staying.
///
/// Refuses: when tree, boot block, a menu or the record of a deployment that one of them names cannot be read.
pub fn look(store: &Store, updates: &Updates, keep: u32) -> Result<Retention, StoreError> {
    let layout = store.layout();
    let tree = store.tree()?;
    let mounts = Mounts::of_filesystem(layout.snapshots())?;
    let trial = store.block()?.trial.is_some();
    // What cannot be looked at stays, and keeps nothing else.
    let held = |looked: Result<bool, VolumeError>| looked.unwrap_or(true);
    let updates_made = tree.nodes().filter(|node| node.by_update);
    let mounted = updates_made.filter(|node| held(volumes::is_mounted(&layout.set(node.set()), &mounts))).map(|node| node.id).collect();
    let situation = Situation {
        tree,
        marks: store.marks(),
        trial,
        deployed: store.deployed()?,
        mounted,
        under_way: updates.state.prepared().map(|prepared| prepared.snapshot),
        failed: updates.failed_snapshots(),
        unused: updates.leftovers.iter().map(|prepared| prepared.snapshot).collect(),
        keep,
    };
    let good = store.block()?.good;
    let well = |d: DeployId| layout.deployment_well(d).exists();
    // On a disk without space for anything the machine comes first: what fills /var is in what was kept of it, too.
    let full = matches!(store.has_space(), Err(StoreError::NoSpace { .. }));
    // Promoted itself, or past: what is newer was promoted. What the good one was given back stays until then.
    let over = |d: &DeployId| {
        let past = good > *d && well(good);
        (past || (full || well(*d)) && layout.var_before(*d).exists()) && !held(volumes::is_mounted(&layout.var(*d), &mounts))
    };
    let vars = if trial { Vec::new() } else { volumes::vars(layout)?.into_iter().filter(over).collect() };
    Ok(Retention { snapshots: judge(&situation), vars })
}

impl Retention {
    /// The snapshots that go.
    pub fn going(&self) -> Vec<SnapshotId> {
        self.snapshots.iter().filter(|j| matches!(j.fate, Fate::Goes(_))).map(|j| j.id).collect()
    }

    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        self.vars.is_empty() && self.going().is_empty()
    }

    /// The snapshots that should go and are held, a line each.
    pub fn held(&self) -> Vec<String> {
        let held = self.snapshots.iter().filter(|j| j.fate == Fate::Stays(Stays::Mounted));
        held.map(|j| format!("snapshot {} {}", j.id, j.fate)).collect()
    }

    /// The plan that does it; `None` when there is nothing to be done. To delete a snapshot takes some milliseconds, whatever its size.
    pub fn plan(&self, store: &Store) -> Result<Option<Plan>, StoreError> {
        if self.is_empty() { Ok(None) } else { store.plan_take_out(&self.going(), &self.vars).map(Some) }
    }
}
