//! Retention (U8): what unattended updates leave behind over the years, and the one policy that says what of it goes. Used by the
//! updater, as a step of its own that only comes after a promotion, and by `ast clean`.
//!
//! ```text
//!  tree, boot block, menus, updates.json, mounts ─► Situation ─► judge (pure) ─► plan: one commit, the tree without them
//!                                          ▲                                       │
//!                                          └─── as long as the disk is too full ───┘
//! ```
//!
//! Subvolumes of btrfs do not depend on the one that they were snapshotted from: to take a snapshot out of a chain is a change of the
//! tree document, in which its children go to its parent.

mod policy;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use policy::{Fate, Goes, Judged, Situation, Stays, judge};

use crate::config::autoupdate::Keep;
use crate::id::{DeployId, SnapshotId};
use crate::plan::Plan;
use crate::store::{Done, Locked, Store, StoreError, now};
use crate::sys::{SysError, btrfs};
use crate::updates::Updates;
use crate::volumes::{self, Mounts, VolumeError};

/// How long one waits for the space of what was deleted: the kernel needs seconds for a system of some gigabytes, minutes on a slow card.
const CLEANED: Duration = Duration::from_secs(120);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(20);

/// A disk that is fuller than its owner wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    /// Bytes that are free.
    pub free: u64,
    /// Bytes that should be.
    pub wanted: u64,
}

/// What stays and what goes on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Every snapshot.
    pub snapshots: Vec<Judged>,
    /// Deployments whose kept `/var` goes: they, or newer ones, booted well since, so that nobody needs the one before (S9).
    pub vars: Vec<DeployId>,
    /// Set while less of the disk is free than should be.
    pub short: Option<Short>,
    /// What goes next as long as it is, one after the other, besides what goes now.
    pub next: Vec<SnapshotId>,
}

/// What retention would do now.
///
/// Refuses: when tree, boot block, a menu or the record of a deployment that one of them names cannot be read.
pub fn look(store: &Store, updates: &Updates, keep: &Keep) -> Result<Retention, StoreError> {
    let layout = store.layout();
    let tree = store.tree()?;
    let mounts = Mounts::of_filesystem(layout.snapshots())?;
    let trial = store.block()?.trial.is_some();
    // What cannot be looked at stays, and keeps nothing else.
    let held = |looked: Result<bool, VolumeError>| looked.unwrap_or(true);
    let updates_made = tree.nodes().filter(|node| node.by_update);
    let mounted = updates_made.filter(|node| held(volumes::is_mounted(&layout.set(node.set()), &mounts))).map(|node| node.id).collect();
    let good = store.block()?.good;
    let well = |d: DeployId| layout.deployment_well(d).exists();
    // On a disk without space for anything the machine comes first: what fills /var is in what was kept of it, too.
    let full = matches!(store.has_space(), Err(StoreError::NoSpace { .. }));
    // Promoted itself, or past: what is newer was promoted. What the good one was given back stays until then.
    let over = |d: &DeployId| {
        let past = good > *d && well(good);
        (past || (full || well(*d)) && layout.var_before(*d).exists()) && !held(volumes::is_mounted(&layout.var(*d), &mounts))
    };
    let vars: Vec<DeployId> = if trial { Vec::new() } else { volumes::vars(layout)?.into_iter().filter(over).collect() };
    let short = short(store, keep)?;
    let situation = Situation {
        tree,
        marks: store.marks(),
        trial,
        deployed: store.deployed()?,
        mounted,
        under_way: updates.state.prepared().map(|prepared| prepared.snapshot),
        failed: updates.failed_snapshots(),
        unused: updates.leftovers.iter().map(|prepared| prepared.snapshot).collect(),
        keep: *keep,
        now: now(),
        // An update that found no room is a disk that is too full, whatever its owner wants to be free.
        short: (short.is_some() || updates.no_space) && vars.is_empty(),
    };
    let snapshots = judge(&situation);
    let next = if short.is_some() { policy::in_the_way(&situation, &snapshots).collect() } else { Vec::new() };
    Ok(Retention { snapshots, vars, short, next })
}

fn short(store: &Store, keep: &Keep) -> Result<Option<Short>, SysError> {
    let Some(wanted) = keep.min_free else { return Ok(None) };
    let (size, free) = btrfs::space(store.layout().snapshots())?;
    let wanted = wanted.of(size);
    Ok((free < wanted).then_some(Short { free, wanted }))
}

/// What the policy does not keep is gone; as long as the disk is too full the oldest that may go follows, one after the other, and how
/// much is free is measured in between. Each commit is told, with what it did, before the next; what is left to say is given back.
///
/// If interrupted: what was committed is gone, and the next retention goes on.
pub fn carry_out(
    locked: &mut Locked,
    updates: &Updates,
    keep: &Keep,
    mut tell: impl FnMut(&Retention, &str, Done),
) -> Result<Retention, StoreError> {
    let mut found = look(locked, updates, keep)?;
    // Each turn takes out a snapshot at least, but for the first, which may find a kept /var alone.
    for _ in 0..=locked.tree()?.nodes().count() {
        let Some(plan) = found.plan(locked)? else { break };
        let what = plan.what.clone();
        let done = locked.run(plan)?;
        let stuck = !done.unfinished.is_empty();
        tell(&found, &what, done);
        let known = keep.min_free.is_none() || is_given_back(locked)?;
        found = look(locked, updates, keep)?;
        // What cannot be deleted, or takes long, is no reason to delete more.
        if stuck || !known || keep.min_free.is_none() {
            break;
        }
    }
    Ok(found)
}

/// Whether the disk has all the space of what was deleted, which is waited for.
fn is_given_back(store: &Store) -> Result<bool, SysError> {
    let snapshots = store.layout().snapshots();
    // The kernel begins after a commit.
    btrfs::commit(snapshots)?;
    let begun = Instant::now();
    while btrfs::is_cleaning(snapshots)? {
        if begun.elapsed() > CLEANED {
            return Ok(false);
        }
        std::thread::sleep(LOOK);
    }
    // And what it gave back counts after another.
    btrfs::commit(snapshots)?;
    Ok(true)
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

    /// What should go and does not, a line each: snapshots that are held, and a disk that is too full when nothing more may go.
    pub fn held(&self) -> Vec<String> {
        let held = self.snapshots.iter().filter(|j| j.fate == Fate::Stays(Stays::Mounted));
        let nothing_more = self.short.filter(|_| self.next.is_empty() && self.is_empty());
        let short = nothing_more.map(|short| format!("less than {} MiB are free, and nothing more may go", short.wanted >> 20));
        held.map(|j| format!("snapshot {} {}", j.id, j.fate)).chain(short).collect()
    }

    /// The plan that does it; `None` when there is nothing to be done. To delete a snapshot takes some milliseconds, whatever its size.
    pub fn plan(&self, store: &Store) -> Result<Option<Plan>, StoreError> {
        if self.is_empty() { Ok(None) } else { store.plan_take_out(&self.going(), &self.vars).map(Some) }
    }
}
