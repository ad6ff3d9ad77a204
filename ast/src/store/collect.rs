//! Deleting what nothing names any more, and finding out what is named (S14).

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::open::{Locked, Store};
use super::{StoreError, stop, vars};
use crate::boot::block::BootBlock;
use crate::boot::medium::Copies;
use crate::id::{DeployId, SetId};
use crate::layout::Part;
use crate::pacman;
use crate::sys::file;
use crate::volumes::{self, Mounts, VolumeError};
use crate::work::{PACKAGE_CACHE, Token};

/// Sets and deployments that something on disk or in memory names.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) sets: BTreeSet<SetId>,
    pub(super) deployments: BTreeSet<DeployId>,
}

impl Named {
    fn by_block(&mut self, block: &BootBlock) {
        self.deployments.extend([Some(block.good), block.prev, block.trial.map(|t| t.deployment)].into_iter().flatten());
    }

    /// Everything in `text` that could be one of ours, in whatever form a menu of any version writes it: rather one too many.
    pub(super) fn by_text(&mut self, text: &str) {
        for word in text.split(|c: char| !(c.is_ascii_digit() || c == '.')) {
            self.sets.extend(word.trim_matches('.').parse::<SetId>());
        }
        for mark in ["deploy/", "ast.d=", "ast-d", "ast_baked_good=", "ast_good=", "ast_prev=", "ast_try="] {
            for (at, _) in text.match_indices(mark) {
                let rest = text.get(at + mark.len()..).unwrap_or_default();
                let rest = rest.trim_start_matches(['"', '\'']);
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                self.deployments.extend(digits.parse::<DeployId>());
            }
        }
    }
}

/// What tree, boot block, running system, baked entries, menu and previous menu name.
///
/// Refuses: when one of them cannot be read.
pub(super) fn named(store: &Store, copies: &Copies) -> Result<Named, StoreError> {
    let mut named = Named::default();
    named.sets.extend(store.tree()?.nodes().map(crate::tree::Node::set));
    for copy in [&copies.a, &copies.b] {
        named.by_block(copy.as_ref().map_err(|_| StoreError::NoBlock)?);
    }
    if let Some(booted) = store.booted() {
        named.sets.extend(booted.set);
        named.deployments.extend(booted.d);
    }
    let dir = store.grub_dir().join("ast");
    for name in file::names(&dir)? {
        let path = dir.join(&name);
        // What is only staged names nothing yet: GRUB reads none of it, and its commit may never come.
        if path.is_file() && !file::is_staged(&path) {
            named.by_text(&String::from_utf8_lossy(&file::read(&path)?));
        }
    }
    Ok(named)
}

/// What was collected.
#[derive(Debug, Default)]
pub(super) struct Collected {
    /// What went, in words.
    pub(super) gone: Vec<String>,
    /// What should have gone and could not. It keeps nothing else from going.
    pub(super) stuck: Vec<StoreError>,
}

impl Store {
    /// What nothing names, in words: left by something interrupted, or by a session that is dead. The next repair deletes it.
    ///
    /// Refuses: when tree, boot block or a menu cannot be read.
    pub fn leftovers(&self) -> Result<Vec<String>, StoreError> {
        Ok(garbage(self, &self.copies()?)?.into_iter().map(|(what, _)| what).collect())
    }
}

/// Sets, deployments and kept `/var`s that nothing names, and working copies whose owner is dead. In words, and where.
fn garbage(store: &Store, copies: &Copies) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let layout = store.layout();
    let named = named(store, copies)?;
    let mut garbage = vars::garbage(layout, copies, |d| named.deployments.contains(&d))?;
    for token in volumes::work_copies(layout)? {
        // A name of another form is nobody's we know: `doctor` explains it.
        if token.parse::<Token>().is_ok_and(|owner| !owner.is_alive()) {
            garbage.push((format!("working copy {token}"), layout.work_copy(&token)));
        }
    }
    for d in volumes::deployments(layout)?.into_iter().filter(|d| !named.deployments.contains(d)) {
        garbage.push((format!("deployment {d}"), layout.deployment(d)));
    }
    for set in volumes::sets(layout)?.into_iter().filter(|set| !named.sets.contains(set)) {
        garbage.push((format!("set {set}"), layout.set(set)));
    }
    Ok(garbage)
}

/// What nothing names is deleted. `synced`: nothing was written since the last sync, under the same lock.
///
/// If interrupted: the next repair goes on.
/// Refuses: to delete anything while a document, a copy of the boot block or a menu cannot be read; skips what is mounted anywhere.
pub(super) fn collect(locked: &Locked, synced: bool) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    let store = &locked.store;
    let layout = store.layout();
    // Also where nothing may be deleted: once the trial is over, nothing else says that it was one. On a full disk it waits for what goes now.
    if let Ok(block) = locked.boot_block() {
        collected.stuck.extend(vars::mark_armed(layout, block).err());
    }
    if !locked.deletes {
        return Ok(collected);
    }
    let copies = store.copies()?;
    let garbage = garbage(store, &copies)?;
    if garbage.is_empty() {
        return Ok(collected);
    }
    // What names it no longer is on disk first, whoever wrote that: one who was killed may have had no time to sync (S14).
    if !synced {
        file::syncfs(layout.snapshots())?;
    }
    let mounts = Mounts::of_filesystem(layout.snapshots())?;
    for (what, dir) in garbage {
        stop::point(&format!("collect: {what}"));
        match volumes::remove(&dir, &mounts) {
            Ok(()) => collected.gone.push(what),
            Err(VolumeError::Mounted(path)) => tracing::info!("{} is mounted and stays for now", path.display()),
            Err(source) => collected.stuck.push(StoreError::Stuck { what, source }),
        }
    }
    Ok(collected)
}

/// The `/var` that was kept when `d` was armed is gone, unless somebody has it mounted.
pub(super) fn forget_var(locked: &Locked, d: DeployId) -> Result<(), StoreError> {
    let layout = locked.store.layout();
    let mounts = Mounts::of_filesystem(layout.snapshots())?;
    for path in vars::forgettable(layout, d, locked.boot_block()?.good)? {
        match volumes::remove(&path, &mounts) {
            Err(VolumeError::Mounted(path)) => tracing::info!("{} is mounted and stays for now", path.display()),
            Err(source) => return Err(StoreError::Stuck { what: format!("the /var before deployment {d}"), source }),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Package files that no snapshot has installed are gone from the cache, unless somebody is at work in a copy: those that a command has
/// just fetched are in no snapshot yet.
///
/// If interrupted: some are gone; the next retention goes on.
pub(super) fn clean_cache(locked: &Locked) -> Result<(), StoreError> {
    let store = &locked.store;
    let layout = store.layout();
    let cache = store.sysroot().join(PACKAGE_CACHE.trim_start_matches('/'));
    let installed = store.tree()?.nodes().map(|node| pacman::installed(&layout.set_part(node.set(), Part::Root)));
    let spare = match installed.collect::<Result<Vec<_>, _>>() {
        Ok(installed) => pacman::spare_files(&cache, &installed)?,
        Err(error) => {
            tracing::info!("the package cache is left alone: {error}");
            return Ok(());
        }
    };
    // Asked after the look: whoever begins from here on fetches what is not in it.
    if spare.is_empty() || !volumes::work_copies(layout)?.is_empty() {
        return Ok(());
    }
    let mounts = Mounts::of_filesystem(&cache)?;
    let stuck = |path: PathBuf| {
        let source = volumes::remove(&path, &mounts).err()?;
        Some(StoreError::Stuck { what: format!("package file {}", path.display()), source })
    };
    // Each is tried; the first that stays is told.
    spare.into_iter().filter_map(stuck).reduce(|first, _| first).map_or(Ok(()), Err)
}
