//! A look for updates that touches no snapshot: databases are fetched into a scratch directory, beside a link to the snapshot's own list.

use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::transaction::judged;
use super::{PacmanError, set};
use crate::exec::{Invocation, Options, Program};
use crate::layout::PACMAN_DB;
use crate::sys::{At, file};
use crate::work::{Bind, Parts, View, run_inside};

/// Fetching databases takes seconds; a line that brings none in this time is down.
const LIMIT: Duration = Duration::from_secs(15 * 60);
/// Where the scratch database is seen inside.
const INSIDE: &str = "/run/ast-check";

/// A package that a repository has in a newer version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Update {
    /// Its name.
    pub name: String,
    /// The installed version.
    pub old: String,
    /// The version in the repository.
    pub new: String,
}

/// SHA-256 over the new names and versions: the same as long as the repositories offer the same.
pub fn update_fingerprint(updates: &[Update]) -> String {
    let mut sorted: Vec<_> = updates.iter().map(|u| (u.name.as_str(), u.new.as_str())).collect();
    sorted.sort_unstable();
    set::fingerprint(sorted.into_iter())
}

/// What the repositories have newer than the system in `parts`, by name. Nothing of the system is changed; `scratch` is an empty
/// directory of the caller's, with the fetched databases after the call.
pub fn check_updates(parts: &Parts, scratch: &Path) -> Result<Vec<Update>, PacmanError> {
    let list = scratch.join("local");
    if std::fs::symlink_metadata(&list).is_err() {
        std::os::unix::fs::symlink(Path::new("/").join(PACMAN_DB).join("local"), &list).at("link the list of packages as", &list)?;
    }
    // What an interrupted check left.
    file::remove_if_exists(&scratch.join("db.lck"))?;
    let binds = [Bind { source: scratch.to_owned(), target: INSIDE.into(), read_only: false }];
    let view = View { parts, writable: false, cache: None, binds: &binds };
    let ask = |words: &[&str]| {
        let invocation = Invocation::new(Program::Pacman).args(words).args(["--dbpath", INSIDE, "--logfile", "/dev/null"]);
        run_inside(view, &invocation, Options::capture().env("LC_ALL", "C.UTF-8").timeout(LIMIT))
    };
    judged(ask(&["-Sy", "--noprogressbar"])?)?;
    // Ends with 1 when there is nothing.
    Ok(parse(&ask(&["-Qu"])?.text()))
}

/// The pacman of the system in `parts` runs there, reads its settings, and lists what is installed. Asks no mirror.
pub fn answers(parts: &Parts) -> Result<(), PacmanError> {
    let view = View { parts, writable: false, cache: None, binds: &[] };
    let database = Path::new("/").join(PACMAN_DB);
    let ask = Invocation::new(Program::Pacman).args(["-Q", "--logfile", "/dev/null", "--dbpath"]).arg(database);
    judged(run_inside(view, &ask, Options::capture().env("LC_ALL", "C.UTF-8").timeout(LIMIT))?).map(drop)
}

/// Lines of `pacman -Qu`: `name old -> new`, with `[ignored]` behind what an owner holds back.
fn parse(text: &str) -> Vec<Update> {
    let mut found: Vec<Update> = text
        .lines()
        .filter_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [name, old, "->", new] => Some(Update { name: (*name).into(), old: (*old).into(), new: (*new).into() }),
            _ => None,
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_would_be_upgraded_counts() {
        let text = "hello 1-1 -> 2-1\nheld 1-1 -> 2-1 [ignored]\n\nnonsense\nabc 1:1-1 -> 1:2-1\n";
        let found = parse(text);
        assert_eq!(found.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["abc", "hello"]);
        let mut turned = found.clone();
        turned.reverse();
        assert_eq!(update_fingerprint(&found), update_fingerprint(&turned));
        assert_ne!(update_fingerprint(&found), update_fingerprint(&found[..1]));
    }
}
