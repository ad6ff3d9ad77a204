//! The judged copy takes the place of the booted root.

use std::path::PathBuf;

use super::{LiveError, MARK, PREFIX, Ready, allowed, settle, show};
use crate::etc::{self, Edited, Goal};
use crate::layout::{self, Layout, Part};
use crate::store::history::{self, Line};
use crate::store::{Locked, StoreError, now, stop_point};
use crate::sys::btrfs::{self, Access};
use crate::sys::file;

/// What became of a live change that is on disk.
#[derive(Debug, Default)]
#[must_use = "what could not be finished should be told"]
pub struct Applied {
    /// What follows from it and could not be done now; the next repair or the next start does it.
    pub unfinished: Vec<LiveError>,
    /// Directories that are seen anew at once.
    pub shown: Vec<PathBuf>,
}

/// Where one of the things that a change is made of waits, beside the root.
pub(super) fn place(layout: &Layout, d: crate::id::DeployId, token: &str, what: &str) -> PathBuf {
    layout.deployment(d).join(format!("{PREFIX}{token}.{what}"))
}

/// The booted deployment is as its copy, on disk and for everything that looks from now on.
///
/// One exchange of two names is the commit. If interrupted: before it, what was prepared is garbage for the next repair; after it, the next
/// repair or start does the rest. The deployment is whole at any instant.
/// Refuses: as [`allowed`], when somebody else changed it meanwhile, and while something cannot be read.
pub fn apply(locked: &Locked, ready: &Ready, what: &str) -> Result<Applied, LiveError> {
    let layout = locked.layout();
    let (d, root) = (ready.d, layout.deployment_part(ready.d, Part::Root));
    let (booted, _) = allowed(locked)?;
    if booted != d || btrfs::subvolume_id(&root)? != ready.root {
        return Err(LiveError::Moved(d));
    }
    if !locked.may_delete() {
        return Err(LiveError::Unread);
    }
    locked.has_space()?;
    // What an earlier one left has to be done: the root tells of one change only.
    drop(settle(locked)?);
    if let Err(error) = prepare(layout, ready).and_then(|()| {
        stop_point("live: before the exchange");
        Ok(file::exchange(&root, &place(layout, d, ready.token(), "root"))?)
    }) {
        // What was not exchanged is garbage by its token.
        drop(settle(locked));
        return Err(error);
    }
    stop_point("live: after the exchange");
    let mut applied = Applied::default();
    let mut also = |result: Result<(), LiveError>| applied.unfinished.extend(result.err());
    let by = std::env::args_os().next().unwrap_or_default();
    let by = std::path::Path::new(&by).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let line = Line { time: now(), by, what: format!("{what} in the booted deployment {d}"), later: Default::default() };
    also(history::append(&layout.document(layout::HISTORY), &line).map_err(|error| StoreError::from(error).into()));
    also(file::syncfs(layout.snapshots()).map_err(Into::into));
    also(settle(locked).map(drop));
    stop_point("live: settled");
    let old = place(layout, d, ready.token(), "root");
    match show::show(locked.sysroot(), &old, &root) {
        Ok(shown) => applied.shown = shown,
        Err(error) => applied.unfinished.push(error.into()),
    }
    Ok(applied)
}

/// Everything that the change is made of is beside the root, whole and on disk.
fn prepare(layout: &Layout, ready: &Ready) -> Result<(), LiveError> {
    let at = |what| place(layout, ready.d, ready.token(), what);
    if let Some(root) = ready.part(Part::Root) {
        let mark = root.join(MARK);
        file::make_dirs(mark.parent().unwrap_or(root))?;
        file::replace(&mark, format!("{}\n", ready.token()).as_bytes())?;
    }
    for (part, what) in [(Part::Root, "root"), (Part::Etc, "etc"), (Part::Var, "var")] {
        if let Some(from) = ready.part(part) {
            btrfs::snapshot(from, &at(what), Access::ReadOnly)?;
        }
    }
    btrfs::snapshot(&ready.start, &at("start"), Access::ReadOnly)?;
    if ready.packaged {
        let base = at("base");
        btrfs::snapshot(&layout.deployment_etc_base(ready.d), &base, Access::Writable)?;
        etc::merge(&Edited { base: at("start"), saved: None, mine: at("etc") }, &base, Goal::Snapshot)?;
        btrfs::set_read_only(&base, true)?;
    }
    stop_point("live: prepared");
    Ok(file::syncfs(layout.snapshots())?)
}
