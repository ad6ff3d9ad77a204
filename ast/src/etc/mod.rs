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
mod copy;
mod decide;
mod rebase;
mod report;
#[cfg(test)]
mod sequence_tests;
#[cfg(test)]
mod tests;
mod tree;

use std::path::{Path, PathBuf};

use crate::id::DeployId;
use crate::layout::{Layout, Part};
use crate::sys::{SysError, file};

pub use accounts::Moved;
use accounts::Owners;
pub use bring::{Brought, Owned, Pristine, bring};
pub use decide::is_carried;
pub use report::{Conflict, Outcome, Report, shown};

/// Everything in the directory `from` is in the directory `to`, which is like it: content, owners, modes, times, attributes.
///
/// If interrupted: a part of it is.
pub fn copy_into(from: &Path, to: &Path) -> Result<(), SysError> {
    let owners = Owners::default();
    let copier = copy::Copier(&owners);
    for name in file::names(from)? {
        copier.copy(&from.join(&name), &to.join(&name))?;
    }
    let meta = std::fs::symlink_metadata(from).map_err(|source| SysError { action: "look at", path: from.to_owned(), source })?;
    copier.as_source(from, &meta, to)
}

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
/// Never fails because of what the directories hold; only because one cannot be read or written. A single file that the disk does not give back
/// is [`Outcome::Unreadable`], unless it says who may log in.
/// If interrupted: `into` is a mixture, each path whole; what it belongs to is garbage still.
pub fn merge(edited: &Edited, into: &Path, goal: Goal) -> Result<Report, SysError> {
    let judged = judge(edited, into, goal)?;
    apply::apply(&judged.decided.actions, &apply::Places { mine: &edited.mine, into, owners: &judged.owners })?;
    let [base, mine, new] = &judged.links;
    apply::relink(into, mine, base, new)?;
    Ok(judged.decided.report)
}

/// What [`merge`] would do. Changes nothing.
pub fn look(edited: &Edited, new: &Path, goal: Goal) -> Result<Report, SysError> {
    Ok(judge(edited, new, goal)?.decided.report)
}

/// What is to be done, and what has to be known for it.
struct Judged {
    decided: decide::Decided,
    /// What numbers of the device mean after the merge.
    owners: Owners,
    /// Of the base, the device, and the new one.
    links: [tree::Links; 3],
}

fn judge(edited: &Edited, into: &Path, goal: Goal) -> Result<Judged, SysError> {
    let ((base, base_links), (mine, mine_links), (new, new_links)) =
        (tree::scan(&edited.base)?, tree::scan(&edited.mine)?, tree::scan(into)?);
    let accounts = accounts_of(edited, into, [&base, &mine, &new])?;
    let moved_new = new.clone().owned(&accounts.new);
    let (mut base, mine) = (base.owned(&accounts.base), mine.owned(&accounts.mine));
    if let Some(saved) = &edited.saved {
        // What was saved was the device's.
        base = rebase::rebased(&base, &tree::scan(saved)?.0.owned(&accounts.mine), &mine, &moved_new);
    }
    let texts = accounts.texts.iter().map(|(name, text)| (PathBuf::from(name), bytes_of(text))).collect();
    let mut decided = decide::decide(&base, &mine, &moved_new, goal, texts);
    if !accounts.new.is_empty() {
        // Before all else, so that everything is decided about what has its owner already.
        let mut paths = Vec::new();
        rebase::paths(&moved_new, PathBuf::new(), &mut paths);
        let mut before = Vec::new();
        rebase::paths(&new, PathBuf::new(), &mut before);
        let own = paths.into_iter().zip(before).filter(|((_, now), (_, was))| (now.meta.uid, now.meta.gid) != (was.meta.uid, was.meta.gid));
        let own = own.map(|((path, now), _)| decide::Action::Own(path, now.meta.uid, now.meta.gid));
        decided.actions.splice(0..0, own.collect::<Vec<_>>());
    }
    let shared = accounts.shared.iter().map(|file| Conflict { path: file.into(), outcome: Outcome::SameNumber });
    decided.report.conflicts.extend(shared);
    decided.report.moved = accounts.moved;
    Ok(Judged { decided, owners: accounts.mine, links: [base_links, mine_links, new_links] })
}

/// The account files merged by entry, where one was changed on both sides; otherwise none, for each is taken whole from one side.
fn accounts_of(edited: &Edited, into: &Path, trees: [&tree::Node; 3]) -> Result<accounts::Merged, SysError> {
    let node = |tree: &tree::Node, name: &str| tree.children().and_then(|children| children.get(std::ffi::OsStr::new(name)).cloned());
    let is_file = |node: &Option<tree::Node>| node.as_ref().is_some_and(|node| matches!(node.kind, tree::Kind::File(_)));
    let of = |name: &str| trees.map(|tree| node(tree, name));
    let plain = |name: &&str| matches!(of(name), [_, mine, new] if is_file(&mine) && is_file(&new));
    let names: Vec<&'static str> = accounts::FILES.into_iter().filter(plain).collect();
    let text = |node: &Option<tree::Node>| node.as_ref().map(|node| node.kind.clone());
    let disputed = names.iter().any(|name| {
        let [base, mine, new] = of(name).map(|node| text(&node));
        mine != base && new != base && mine != new
    });
    if !disputed {
        return Ok(accounts::Merged::default());
    }
    let read = |dir: &Path| -> Result<accounts::Texts, SysError> {
        let one = |name: &&'static str| Ok(file::read_if_exists(&dir.join(name))?.map(|bytes| (*name, text_of(&bytes))));
        names.iter().filter_map(|name| one(name).transpose()).collect()
    };
    let (mine, new) = (read(&edited.mine)?, read(into)?);
    let mut base = read(&edited.base)?;
    if let Some(saved) = &edited.saved {
        for (name, text) in read(saved)? {
            let unchanged = mine.get(name) == Some(&text) || new.get(name) == base.get(name);
            if !unchanged {
                base.insert(name, text);
            }
        }
    }
    let mut merged = accounts::merge(&base, &mine, &new);
    merged.texts.retain(|name, _| names.contains(name));
    Ok(merged)
}

/// A character for each byte: no encoding is asked for, and none is broken.
fn text_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The bytes of such a text.
fn bytes_of(text: &str) -> Vec<u8> {
    text.chars().filter_map(|c| u8::try_from(u32::from(c)).ok()).collect()
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
    apply::apply(&actions, &apply::Places { mine, into, owners: &Owners::default() })
}
