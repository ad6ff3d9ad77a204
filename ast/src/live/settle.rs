//! What follows from a live change, and the end of one that was cut off.

use std::collections::BTreeSet;
use std::path::Path;

use super::apply::place;
use super::{LiveError, MARK, PREFIX};
use crate::etc::{self, Edited, Goal};
use crate::id::DeployId;
use crate::layout::{Layout, Part};
use crate::store::{Store, stop_point};
use crate::sys::btrfs::{self, Access};
use crate::sys::file;
use crate::volumes::{self, Mounts, VolumeError};
use crate::work::add_missing;

/// Every live change is either made to the end or gone, and no old root is left that is not in use. The deployments for which there was
/// something to do.
///
/// If interrupted: the next one goes on; /etc and /var have some of it, each path whole.
pub fn settle(store: &Store) -> Result<Vec<DeployId>, LiveError> {
    let layout = store.layout();
    let mut settled = Vec::new();
    for d in volumes::deployments(layout)? {
        let names = file::names(&layout.deployment(d))?;
        let tokens = names.iter().filter_map(|name| name.to_str()?.strip_prefix(PREFIX)?.rsplit_once('.').map(|(token, _)| token));
        let tokens: BTreeSet<&str> = tokens.collect();
        let mut did = false;
        for token in tokens {
            did |= one(store, d, token)?;
        }
        settled.extend(did.then_some(d));
    }
    Ok(settled)
}

/// One change; whether there was something to do.
fn one(store: &Store, d: DeployId, token: &str) -> Result<bool, LiveError> {
    let layout = store.layout();
    let at = |what| place(layout, d, token, what);
    let mark = file::read_if_exists(&layout.deployment_part(d, Part::Root).join(MARK))?.unwrap_or_default();
    let is_made = String::from_utf8_lossy(&mark).trim() == token;
    if is_made && at("etc").is_dir() {
        finish(store, d, token)?;
    }
    let mut did = false;
    // First what says that there is something to finish, and the root last, which may be in use.
    for what in ["etc", "anew", "before", "start", "base", "var", "root"] {
        let path = at(what);
        if !path.exists() {
            continue;
        }
        match volumes::remove(&path, &Mounts::of_filesystem(layout.snapshots())?) {
            Ok(()) => did = true,
            // It runs, until the next start.
            Err(VolumeError::Mounted(_)) => {}
            Err(error) => return Err(error.into()),
        }
        stop_point("live: one thing less is left");
    }
    Ok(did)
}

/// The running `/etc` has what was changed in the copy's, the shared `/var` what was missing, and the base of the next merge what packages brought.
fn finish(store: &Store, d: DeployId, token: &str) -> Result<(), LiveError> {
    let layout = store.layout();
    let at = |what| place(layout, d, token, what);
    let here = layout.deployment_part(d, Part::Etc);
    let fresh = |from: &Path, to: &Path, access| -> Result<(), LiveError> {
        volumes::remove(to, &Mounts::default())?;
        Ok(btrfs::snapshot(from, to, access)?)
    };
    let (before, anew) = (at("before"), at("anew"));
    fresh(&here, &before, Access::ReadOnly)?;
    fresh(&at("etc"), &anew, Access::Writable)?;
    // What was edited in the running one meanwhile stays; only what is news then is written to it.
    drop(etc::merge(&Edited { base: at("start"), saved: None, mine: before.clone() }, &anew, Goal::Snapshot)?);
    drop(etc::merge(&Edited { base: before, saved: None, mine: anew }, &here, Goal::Snapshot)?);
    stop_point("live: /etc");
    if at("var").is_dir() {
        add_missing(&at("var"), &store.sysroot().join("var"))?;
    }
    exchange_base(layout, d, token)
}

fn exchange_base(layout: &Layout, d: DeployId, token: &str) -> Result<(), LiveError> {
    let new = place(layout, d, token, "base");
    let base = layout.deployment_etc_base(d);
    // Subvolumes are numbered in the order of their making: what lies there may be the old one already.
    if new.is_dir() && btrfs::subvolume_id(&new)? > btrfs::subvolume_id(&base)? {
        file::exchange(&base, &new)?;
    }
    Ok(())
}
