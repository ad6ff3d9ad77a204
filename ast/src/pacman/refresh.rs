//! Newer databases in a working copy, and whether they may be kept: only where an upgrade would have nothing to do, since the next install
//! would mix old and new otherwise. So `-Sy` does not stand alone here either: it is a whole upgrade of nothing, or it is thrown away.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use super::transaction::{judged, pacman, quiet};
use super::{Change, Feed, Package, PackageSet, PacmanError, installed};
use crate::layout::PACMAN_DB;
use crate::sys::{SysError, file};
use crate::work::WorkingCopy;

/// What the databases of a copy are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refreshed {
    /// What they were.
    Same,
    /// New, and an upgrade would have nothing to do: the copy may be kept.
    New,
    /// New, and an upgrade would do this: kept alone, they would be a trap.
    Behind(Change),
}

/// The databases of the copy are those of the mirrors.
pub fn refresh(copy: &WorkingCopy, mut feed: Feed<'_>) -> Result<Refreshed, PacmanError> {
    let dir = copy.parts().root.join(PACMAN_DB).join("sync");
    let before = databases(&dir)?;
    pacman(copy, &["-Sy"], &[], &mut feed)?;
    let pending = pending(copy)?;
    Ok(match databases(&dir)? == before {
        _ if !pending.is_empty() => Refreshed::Behind(pending),
        true => Refreshed::Same,
        false => Refreshed::New,
    })
}

/// What an upgrade would do now, replacements and new dependencies included, which `pacman -Qu` does not tell.
fn pending(copy: &WorkingCopy) -> Result<Change, PacmanError> {
    let would = quiet(copy, &["-Su", "--print", "--print-format", "%n %v", "--noconfirm"], &[])?;
    let lines = would.text();
    judged(would)?;
    let now = installed(&copy.parts().root)?;
    let new = lines.lines().filter_map(|line| line.split_once(' '));
    let new = new.map(|(name, version)| Package { name: name.into(), version: version.into(), explicit: false });
    let then: PackageSet = now.iter().cloned().chain(new).collect();
    Ok(now.change_to(&then))
}

/// The content of each database: pacman fetches some anew that say what they said.
fn databases(dir: &Path) -> Result<BTreeMap<OsString, Vec<u8>>, SysError> {
    let databases = file::names(dir)?.into_iter().filter(|name| Path::new(name).extension().is_some_and(|e| e == "db"));
    databases.map(|name| Ok((name.clone(), file::read(&dir.join(&name))?))).collect()
}
