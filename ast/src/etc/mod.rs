//! Merging `/etc` when a deployment is made (U7): what was changed on the device survives, what packages changed arrives.
//!
//! Three directories are read: `base`, the `/etc` of the set that the running deployment was made from, untouched since
//! (`etc.base`); `mine`, the running `/etc`; `new`, the `/etc` of the new set. For each path, whoever changed it against `base` wins;
//! where both did, the device's own stays and the package's goes beside it as `.pacnew`. Content, owner, mode and each extended
//! attribute are judged apart, so a changed mode does not keep a new content away. Account files are merged by entry.
//! The next merge needs the unmerged `new` as its base, or everything that was kept would count as the package's.

mod accounts;
mod apply;
mod decide;
mod tree;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::sys::{SysError, file};

/// One path about which device and packages disagreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Below /etc.
    pub path: PathBuf,
    /// How it was settled.
    pub outcome: Outcome,
}

/// How a disagreement was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The device's own stays, the package's is beside it as `.pacnew`.
    Pacnew,
    /// The device's own stays; the package's has another type, or is gone.
    KeptMine,
    /// The device had deleted it, and it stays so.
    StaysDeleted,
    /// The package's: the file is generated from what is installed.
    TookNew,
    /// Accounts with the same number and different names are both there.
    SameNumber,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pacnew => "changed here and by a package: yours is kept, the package's is beside it as .pacnew",
            Self::KeptMine => "changed here, and of another type or gone in the package: yours is kept",
            Self::StaysDeleted => "deleted here and changed by a package: it stays deleted",
            Self::TookNew => "generated anew with the packages: theirs is taken",
            Self::SameNumber => "two accounts have the same number: give one of them another",
        })
    }
}

/// What a merge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Paths below /etc that are as the device had them, and not as the packages bring them.
    pub kept: Vec<PathBuf>,
    /// Where both had changed something.
    pub conflicts: Vec<Conflict>,
}

/// `into`, which holds the new set's `/etc`, is the merge of `base`, `mine` and itself.
///
/// Never fails because of what the directories hold; only because one cannot be read or written.
/// If interrupted: `into` is a mixture; the deployment that it belongs to is garbage still.
pub fn merge(base: &Path, mine: &Path, into: &Path) -> Result<Report, SysError> {
    let (base_tree, mine_tree, new_tree) = (tree::scan(base)?, tree::scan(mine)?, tree::scan(into)?);
    let decided = decide::decide(&base_tree, &mine_tree, &new_tree);
    let mut report = decided.report;
    apply::apply(&decided.actions, &apply::Places { base, mine, into }, &mut report)?;
    Ok(report)
}

/// `into` has the files that make this machine this one (its id, its host keys, the drift of its clock), as far as `mine` has them.
/// For a deployment whose `/etc` is the snapshot's own.
///
/// If interrupted: `into` has some of them; the deployment that it belongs to is garbage still.
pub fn carry_identity(mine: &Path, into: &Path) -> Result<(), SysError> {
    let mut actions = Vec::new();
    for name in file::names(mine)? {
        let path = PathBuf::from(&name);
        if decide::is_identity(&path) {
            actions.push(decide::Action::Carry(path));
        }
    }
    for name in file::names(&mine.join("ssh"))? {
        let path = Path::new("ssh").join(&name);
        if decide::is_identity(&path) {
            actions.extend([decide::Action::CarryDir("ssh".into()), decide::Action::Carry(path)]);
        }
    }
    apply::apply(&actions, &apply::Places { base: mine, mine, into }, &mut Report::default())
}
