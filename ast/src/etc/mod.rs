//! Merging `/etc` (U7): what was changed on the device survives, what packages changed arrives.
//!
//! Three directories are read: the base, the `/etc` of the set that the running deployment was made from, untouched since
//! (`etc.base`); mine, the running `/etc`; and the new one, the `/etc` of another set. For each path, whoever changed it against the
//! base wins; where both did, the device's own stays and the package's goes beside it as `.pacnew`. Content, owner, mode and each
//! extended attribute are judged apart, so a changed mode does not keep a new content away. Account files are merged by entry.
//! The next merge needs the unmerged new one as its base, or everything that was kept would count as the package's.

mod accounts;
mod apply;
mod bring;
mod decide;
mod report;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};

use crate::id::DeployId;
use crate::layout::{Layout, Part};
use crate::sys::{SysError, file};

pub use bring::{Brought, Owned, Pristine, bring};
pub use decide::is_carried;
pub use report::{Conflict, Outcome, Report, shown};

/// The `/etc` of a deployment, and what tells which of it was changed on the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// As it was when the deployment was made.
    pub base: PathBuf,
    /// As it was when it was last saved into a snapshot, if it ever was. Where the new one is as it was saved, it is the base:
    /// an edit that was saved and taken back later is an edit too.
    pub saved: Option<PathBuf>,
    /// As it is.
    pub mine: PathBuf,
}

impl Edited {
    /// That of deployment `d`.
    pub fn of(layout: &Layout, d: DeployId) -> Self {
        let saved = layout.deployment_etc_saved(d);
        Self { base: layout.deployment_etc_base(d), saved: saved.is_dir().then_some(saved), mine: layout.deployment_part(d, Part::Etc) }
    }
}

/// Where a merge goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Into the `/etc` of a deployment on this machine, which has this machine's identity; `ast.conf` is the snapshot's.
    Deployment,
    /// Into a snapshot, which has no machine's identity: it may be deployed, copied and exported.
    Snapshot,
}

/// `into`, which holds the new set's `/etc`, is the merge of what was changed on the device and itself.
///
/// Never fails because of what the directories hold; only because one cannot be read or written.
/// If interrupted: `into` is a mixture, each path whole; what it belongs to is garbage still.
pub fn merge(edited: &Edited, into: &Path, goal: Goal) -> Result<Report, SysError> {
    let decided = judge(edited, into, goal)?;
    let mut report = decided.report;
    apply::apply(&decided.actions, &apply::Places { base: &edited.base, mine: &edited.mine, into }, &mut report)?;
    Ok(report)
}

/// What [`merge`] would do, as far as it can be told without doing it. Changes nothing.
pub fn look(edited: &Edited, new: &Path, goal: Goal) -> Result<Report, SysError> {
    Ok(judge(edited, new, goal)?.report)
}

fn judge(edited: &Edited, new: &Path, goal: Goal) -> Result<decide::Decided, SysError> {
    let (base, mine, new) = (tree::scan(&edited.base)?, tree::scan(&edited.mine)?, tree::scan(new)?);
    let base = match &edited.saved {
        Some(saved) => tree::rebased(&base, &tree::scan(saved)?, &new),
        None => base,
    };
    Ok(decide::decide(&base, &mine, &new, goal))
}

/// `into` has the files that make this machine this one (its id, its host keys, the key of its exports, the drift of its clock), as far as
/// `mine` has them. For a deployment whose `/etc` is the snapshot's own.
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
    for dir in ["ssh", "ast"] {
        for path in file::names(&mine.join(dir))?.into_iter().map(|name| Path::new(dir).join(name)) {
            if decide::is_identity(&path) {
                actions.extend([decide::Action::CarryDir(dir.into()), decide::Action::Carry(path)]);
            }
        }
    }
    apply::apply(&actions, &apply::Places { base: mine, mine, into }, &mut Report::default())
}
