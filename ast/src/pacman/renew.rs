//! One package alone as new as the repositories have it, without the trap of a partial upgrade: new databases are seen by this one
//! transaction only, and it is refused where it would touch anything else.

use std::path::{Path, PathBuf};

use super::transaction::judged;
use super::{Change, Feed, PacmanError, installed};
use crate::exec::{Ended, Invocation, Options, Program};
use crate::layout::PACMAN_DB;
use crate::sys::{At, SysError};
use crate::work::{Bind, WorkError, WorkingCopy};

/// Where the scratch database is seen inside.
const INSIDE: &str = "/run/ast-renew";

/// What became of the package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// It is not installed, and stays so.
    Absent,
    /// It was as new as the repositories have it.
    Newest,
    /// It is newer, and nothing else has changed.
    Changed(Change),
}

/// The package `name`, if the copy has it, is as new as the copy's own repositories have it, its signature checked as the copy's
/// `pacman.conf` says; every other package and the copy's databases are as before. `scratch` is an empty directory of the caller's.
///
/// Refuses: a new version that needs anything which is not installed in the copy, or another version of it than is there.
pub fn renew(copy: &WorkingCopy, name: &str, scratch: &Path, mut feed: Feed<'_>) -> Result<Renewed, PacmanError> {
    let before = installed(&copy.parts().root)?;
    if before.get(name).is_none() {
        return Ok(Renewed::Absent);
    }
    let list = list_of(copy)?;
    let pacman = |words: &[&str], names: &[&str], options: Options<'_>| -> Result<Ended, WorkError> {
        // Mounted, not linked: what pacman unpacks replaces a link by a directory.
        let bind = |source: &Path, target: PathBuf| Bind { source: source.to_owned(), target, read_only: false };
        let binds = [bind(scratch, INSIDE.into()), bind(&list, Path::new(INSIDE).join("local"))];
        let words = Invocation::new(Program::Pacman).args(words).args(["--dbpath", INSIDE, "--noconfirm", "--noprogressbar"]);
        copy.run_with(&binds, &if names.is_empty() { words } else { words.arg("--").args(names) }, options)
    };
    judged(pacman(&["-Sy"], &[], feed.options())?)?;
    let would = pacman(&["-S", "--needed", "--print", "--print-format", "%n"], &[name], Feed::Nobody.options())?;
    let text = would.text();
    judged(would)?;
    let (own, others): (Vec<&str>, Vec<&str>) = text.lines().map(str::trim).filter(|line| !line.is_empty()).partition(|line| *line == name);
    if !others.is_empty() {
        let needs = others.into_iter().map(str::to_owned).collect();
        return Err(PacmanError::NotAlone { name: name.to_owned(), needs });
    }
    if own.is_empty() {
        return Ok(Renewed::Newest);
    }
    judged(pacman(&["-S", "--needed"], &[name], feed.options())?)?;
    let change = before.change_to(&installed(&copy.parts().root)?);
    match (change.changed.as_slice(), change.added.is_empty() && change.removed.is_empty()) {
        ([(changed, ..)], true) if changed == name => Ok(Renewed::Changed(change)),
        ([], true) => Err(PacmanError::StillOld(name.to_owned())),
        _ => Err(PacmanError::NotAlone { name: name.to_owned(), needs: vec![change.to_string()] }),
    }
}

/// The directory with the list of installed packages.
///
/// Refuses: one that a link in the image leads to elsewhere, since it is opened from outside.
fn list_of(copy: &WorkingCopy) -> Result<PathBuf, SysError> {
    const ACTION: &str = "find the list of packages";
    let root = std::fs::canonicalize(&copy.parts().root).at(ACTION, &copy.parts().root)?;
    let list = root.join(PACMAN_DB).join("local");
    match std::fs::canonicalize(&list).at(ACTION, &list)? {
        real if real == list => Ok(list),
        _ => Err(SysError { action: ACTION, path: list, source: std::io::ErrorKind::InvalidInput.into() }),
    }
}
