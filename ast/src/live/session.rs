//! A copy of the booted deployment, worked in and judged.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{LiveError, changes};
use crate::deploy::{packaged_var, record};
use crate::id::{DeployId, SetId};
use crate::layout::Part;
use crate::pacman::{self, PackageSet, installed};
use crate::store::{Store, StoreError};
use crate::sys::btrfs;
use crate::volumes;
use crate::work::{Parts, ReadyToSeal, WorkingCopy};

/// The booted deployment that may be changed live, and the set that it was made from.
///
/// Refuses: anything booted but a deployment of its own; one on trial; the only one that is known to have booted well (S14).
pub fn allowed(store: &Store) -> Result<(DeployId, SetId), LiveError> {
    let booted = store.booted().ok_or(StoreError::NotBooted("it is not known what is booted"))?;
    let d = booted.d.filter(|_| !booted.volatile);
    let d = d.ok_or(StoreError::NotBooted("what is booted is no deployment of its own: it ends with this boot"))?;
    let layout = store.layout();
    if !volumes::whole_deployment(layout, d)? {
        return Err(StoreError::NoDeployment(d).into());
    }
    let block = store.block()?;
    if block.trial.is_some_and(|trial| trial.deployment == d) && block.good != d {
        return Err(LiveError::OnTrial(d));
    }
    let well = |other: &DeployId| *other != d && layout.deployment_well(*other).exists() && volumes::is_whole_deployment(layout, *other);
    if ![Some(block.good), block.prev].iter().flatten().any(well) {
        return Err(LiveError::NoOther(d));
    }
    let set = record::load(layout, d).map_err(StoreError::from)?.set;
    Ok((d, set))
}

/// Work on the booted deployment, in a copy. Dropped, it was nothing.
#[derive(Debug)]
#[must_use = "dropped, it is deleted"]
pub struct Session {
    pub(super) copy: WorkingCopy,
    pub(super) d: DeployId,
    /// Which subvolume the root was.
    pub(super) root: u64,
    /// `/etc` as it was.
    pub(super) start: PathBuf,
    before: PackageSet,
    older: BTreeSet<String>,
}

impl Session {
    /// A copy of the booted deployment exists, with the `/var` that packages bring.
    ///
    /// If interrupted: it is garbage by its name. Refuses: as [`allowed`].
    pub fn begin(store: &Store) -> Result<Self, LiveError> {
        let (d, set) = allowed(store)?;
        let layout = store.layout();
        let parts = Parts::of_deployment(layout, d);
        let root = btrfs::subvolume_id(&parts.root)?;
        let (etc, var) = (parts.etc.clone(), packaged_var(store, set)?);
        let copy = WorkingCopy::create_from(layout, Parts { var: Some(var), ..parts })?;
        let start = copy.beside("start", &etc)?;
        let before = packages(&copy)?;
        let older = if before.is_empty() { BTreeSet::new() } else { pacman::older_than_offered(&copy)? };
        Ok(Self { copy, d, root, start, before, older })
    }

    /// The copy to work in.
    pub const fn copy(&self) -> &WorkingCopy {
        &self.copy
    }

    /// The booted deployment.
    pub const fn deployment(&self) -> DeployId {
        self.d
    }

    /// The copy is judged and clean. `packaged`: all of it is the packages' work, so that a later merge of `/etc` takes none of it for a person's.
    ///
    /// Refuses: another kernel, image, module or file of /boot (S14); a partial upgrade; what could not start. The copy is deleted then.
    pub fn finish(self, packaged: bool) -> Result<Ready, LiveError> {
        let Self { copy, d, root, start, before, older } = self;
        let source = copy.source().cloned();
        let boot = source.map(|source| changes::of_boot(&source, copy.parts())).transpose()?.unwrap_or_default();
        if !boot.is_empty() {
            return Err(LiveError::Boot(boot));
        }
        let change = before.change_to(&packages(&copy)?);
        let new = |(name, old, new): &(String, String, String)| format!("{name} {old} -> {new}");
        if packaged && !(change.changed.is_empty() && change.removed.is_empty()) {
            let removed = change.removed.iter().map(|p| format!("{} goes", p.name));
            return Err(LiveError::Partial(change.changed.iter().map(new).chain(removed).collect()));
        }
        if !change.changed.is_empty() {
            // Newer ones beside those that were left old: they were not made for each other.
            let left: BTreeSet<String> = pacman::older_than_offered(&copy)?.difference(&older).cloned().collect();
            if !left.is_empty() {
                return Err(LiveError::Partial(left.into_iter().map(|name| format!("{name} is left old")).collect()));
            }
        }
        Ok(Ready { ready: copy.finish()?, d, root, start, packaged })
    }
}

/// The packages of the copy; none where no package manager has been.
fn packages(copy: &WorkingCopy) -> Result<PackageSet, LiveError> {
    match installed(&copy.parts().root) {
        Err(error) if error.is_not_found() => Ok(PackageSet::default()),
        other => Ok(other?),
    }
}

/// A judged copy of the booted deployment.
#[derive(Debug)]
#[must_use = "dropped, it is deleted"]
pub struct Ready {
    pub(super) ready: ReadyToSeal,
    pub(super) d: DeployId,
    pub(super) root: u64,
    pub(super) start: PathBuf,
    pub(super) packaged: bool,
}

impl Ready {
    /// Its name, unlike every other's.
    pub(super) fn token(&self) -> &str {
        self.ready.dir().file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(super) fn part(&self, part: Part) -> Option<&Path> {
        self.ready.parts().get(part)
    }
}
