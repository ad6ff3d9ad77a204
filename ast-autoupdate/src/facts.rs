//! What the machine says, for the beginning of a cycle.

use std::time::{SystemTime, UNIX_EPOCH};

use ast::boot::block::BootBlock;
use ast::boot::booted::Booted;
use ast::boot::stage::Stage;
use ast::config::autoupdate::{self, Keep};
use ast::deploy::record;
use ast::id::{DeployId, SetId};
use ast::layout::{Layout, STAGE};
use ast::retain;
use ast::store::{Locked, Store, StoreError};
use ast::sys::file;
use ast::updates::{Changes, Facts, Prepared, Request, Updates};
use ast::work::Parts;
use ast::{pacman, verify, volumes};

use crate::error::{Error, chain};

/// The machine as it is now.
pub fn gather(store: &Locked, updates: &Updates, request: Request) -> Result<Facts, Error> {
    let block = store.boot_block()?;
    let booted = store.booted().cloned().unwrap_or_default();
    // One that cannot be read says nothing, as one that is not there: the block has counted, and no update would ever come again.
    let stage = file::read_if_readable(&store.layout().document(STAGE))?.unwrap_or_default();
    // The initramfs knows what it mounted even where the record is lost.
    let settings = autoupdate::load(store.sysroot()).0;
    let (spare, undeleted) = match request {
        // Not in the gate: a start waits for it.
        Request::Start => (false, updates.undeleted.clone()),
        _ => retention(store, updates, &settings.keep),
    };
    let good_set = set_of(store, block.good).or(booted.set.filter(|_| booted.d == Some(block.good)));
    Ok(Facts {
        request,
        jitter: jitter(),
        booted: booted.d.filter(|_| !booted.volatile),
        why: booted.why,
        another_root: booted.wanted.is_some(),
        good: block.good,
        prev: block.prev,
        good_set,
        trial: block.trial,
        arm: block.arm,
        trial_set: block.trial.and_then(|t| set_of(store, t.deployment)),
        trial_changes: trial_changes(store, good_set, block.trial.and_then(|t| set_of(store, t.deployment))),
        stage: Stage::parse(&String::from_utf8_lossy(&stage)),
        parent: parent(store, block.good, good_set, &booted)?,
        ours: updates.own_snapshots().iter().filter_map(|p| own(store, p)).collect(),
        good_well: store.layout().deployment_well(block.good).exists(),
        spare,
        undeleted,
        paused: updates.paused() || !settings.enabled,
    })
}

/// Whether retention would delete something, and what should be gone and is not, a line each.
fn retention(store: &Locked, updates: &Updates, keep: &Keep) -> (bool, Vec<String>) {
    let stuck = store.repaired().problems.iter().filter(|p| matches!(p, StoreError::Stuck { .. })).map(|p| chain(p));
    // Whatever is wrong with it, the update goes on.
    match retain::look(store, updates, keep) {
        Ok(found) => (store.may_delete() && !found.is_empty(), stuck.chain(found.held()).collect()),
        Err(error) => (false, stuck.chain([format!("old updates: {}", chain(&error))]).collect()),
    }
}

fn set_of(store: &Store, d: DeployId) -> Option<SetId> {
    record::load(store.layout(), d).ok().map(|r| r.set)
}

/// What the trial changes, if an update made it: what is blocked when the memory is lost.
fn trial_changes(store: &Store, good: Option<SetId>, trial: Option<SetId>) -> Option<Changes> {
    let ours = store.tree().ok()?.get(trial?.snapshot).ok()?.by_update;
    if ours { crate::update::difference(store.layout(), good?, trial?) } else { None }
}

/// What an update is cloned from: the default's snapshot as its owner has it by now; what was deployed, if that snapshot is gone.
///
/// Where something proven runs in the place of the default and the default's set has rotted, what runs: a copy of the rotten one would be
/// refused for not being whole, again and again, on the very machine that an update would mend.
fn parent(store: &Store, good: DeployId, good_set: Option<SetId>, booted: &Booted) -> Result<SetId, Error> {
    let layout = store.layout();
    let latest = |set: SetId| store.set_of(set.snapshot).unwrap_or(set);
    let wanted = good_set.map(latest);
    let stands_in = booted.d.filter(|d| *d != good && !booted.volatile && layout.deployment_well(*d).exists());
    if let Some(running) = stands_in.and_then(|d| set_of(store, d).or(booted.set))
        && !wanted.is_some_and(|set| is_sound(layout, set))
        && let Some(set) = [latest(running), running].into_iter().find(|set| is_sound(layout, *set))
    {
        return Ok(set);
    }
    wanted.ok_or_else(|| record::load(layout, good).err().map_or(StoreError::NoDeployment(good), Into::into).into())
}

/// Whether a copy of this set can be upgraded to something that starts.
fn is_sound(layout: &Layout, set: SetId) -> bool {
    let parts = Parts::of_set(layout, set);
    let has_packages = || pacman::installed(&parts.root).is_ok_and(|packages| packages.iter().next().is_some());
    volumes::is_whole_set(layout, set) && has_packages() && verify::check(&parts, verify::Disk::of(layout)).is_empty()
}

/// The deployment whose `/etc` an update of `parent` gets: the default's; that of the one before it, if the update was made of that because
/// the default has rotted. The same at the deploy and at the first start.
pub fn etc_for(store: &Store, block: &BootBlock, parent: Option<SetId>) -> DeployId {
    let made_of = |d: DeployId| parent.is_some_and(|set| store.snapshot_of(d) == Some(set.snapshot));
    match block.prev {
        Some(prev) if !made_of(block.good) && made_of(prev) => prev,
        _ => block.good,
    }
}

/// The set of a snapshot that an update made, as long as it bears the update's mark and nobody has changed it.
pub fn own(store: &Store, prepared: &Prepared) -> Option<SetId> {
    let node = store.tree().ok()?.get(prepared.snapshot).ok()?;
    (node.by_update && node.description.starts_with(&prepared.mark)).then(|| node.set())
}

/// A number that machines with the same clock do not share.
fn jitter() -> u32 {
    let nanoseconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    nanoseconds.wrapping_mul(2_654_435_761).rotate_left(7) ^ std::process::id()
}
