//! The rule, as a pure function of three trees.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::tree::{Kind, Meta, Node, digest_of};
use super::{Conflict, Goal, Outcome, Report};

/// Files that make this machine this one: always the device's own, when it has them.
const CARRIED: [&str; 5] = ["machine-id", "adjtime", "resolv.conf", "ast/export.key", "ast/export.pub"];
/// The same, by their beginning.
const CARRIED_BEGINNINGS: [&str; 1] = ["ssh/ssh_host_"];
/// Files that belong to the snapshot: always the new one's.
const OF_SNAPSHOT: [&str; 1] = ["ast.conf"];
/// Files that programs generate from what is installed: when both changed, the new one's, since only that fits its packages.
const GENERATED: [&str; 3] = ["ld.so.cache", ".updated", "udev/hwdb.bin"];
/// The same, by the directory: the keyring of the package manager.
const GENERATED_DIRS: [&str; 1] = ["pacman.d/gnupg"];

/// One thing to do in the new `/etc`, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Owner and group are these numbers, for they have changed their meaning.
    Own(PathBuf, u32, u32),
    /// What packages bring moves to `.pacnew`.
    Pacnew(PathBuf),
    /// It is as in `mine`, with everything below it, whatever was there.
    Carry(PathBuf),
    /// A directory as in `mine`, empty, is there.
    CarryDir(PathBuf),
    /// It is gone, with everything below it.
    Delete(PathBuf),
    /// Content as in `mine`, with this metadata.
    Content(PathBuf, Meta),
    /// Owner, mode and attributes are these.
    Meta(PathBuf, Meta),
    /// A file merged by entry: its content and its metadata.
    Accounts(PathBuf, Vec<u8>, Meta),
}

/// What is to be done, and what to tell.
#[derive(Debug)]
pub(super) struct Decided {
    pub actions: Vec<Action>,
    pub report: Report,
    /// Names that a package's file has moved to: an older one of the device's is not carried over it.
    pacnew: BTreeSet<PathBuf>,
    goal: Goal,
    /// Account files by their names below /etc, when they are merged by entry.
    accounts: BTreeMap<PathBuf, Vec<u8>>,
}

/// What turns `new` into the merge.
pub(super) fn decide(base: &Node, mine: &Node, new: &Node, goal: Goal, accounts: BTreeMap<PathBuf, Vec<u8>>) -> Decided {
    let mut decided = Decided { actions: Vec::new(), report: Report::default(), pacnew: BTreeSet::new(), goal, accounts };
    decided.children(Path::new(""), Some(base), Some(mine), Some(new));
    decided
}

impl Decided {
    fn conflict(&mut self, path: &Path, outcome: Outcome) {
        self.report.conflicts.push(Conflict { path: path.to_owned(), outcome });
    }

    /// Every name in any of the three directories (what is none has no names).
    fn children(&mut self, path: &Path, base: Option<&Node>, mine: Option<&Node>, new: Option<&Node>) {
        let of = |node: Option<&Node>| node.and_then(Node::children).cloned().unwrap_or_default();
        let (base, mine, new) = (of(base), of(mine), of(new));
        let names: BTreeSet<_> = base.keys().chain(mine.keys()).chain(new.keys()).collect();
        for name in names {
            self.node(&path.join(name), base.get(name), mine.get(name), new.get(name));
        }
    }

    fn node(&mut self, path: &Path, base: Option<&Node>, mine: Option<&Node>, new: Option<&Node>) {
        if self.pacnew.contains(path) {
            return;
        }
        if is_lost(mine) || is_lost(new) {
            return self.unreadable(path, mine);
        }
        if let (Some(bytes), Some(mine), Some(new)) = (self.accounts.get(path).cloned(), mine, new) {
            return self.account(path, bytes, base, mine, new);
        }
        if mine == new {
            return;
        }
        match self.goal {
            Goal::Deployment if is_one_of(path, &OF_SNAPSHOT) => return,
            Goal::Deployment if is_carried(path) => {
                if mine.is_some() {
                    self.carry(path);
                }
                return;
            }
            Goal::Snapshot if is_identity(path) => return,
            _ => {}
        }
        let is_dir = |node: Option<&Node>| node.is_some_and(|node| node.children().is_some());
        let dir_or_none = |node: Option<&Node>| node.is_none() || is_dir(node);
        if dir_or_none(mine) && dir_or_none(new) {
            return self.directory(path, base, mine, new);
        }
        if mine == base {
            return;
        }
        if new == base {
            return if mine.is_some() { self.carry(path) } else { self.delete(path) };
        }
        // Both changed it, and not to the same.
        match (mine, new) {
            (Some(Node { kind: Kind::File(_), .. }), Some(Node { kind: Kind::File(_), .. })) => self.file(path, base, mine, new),
            _ if is_generated(path) => self.conflict(path, Outcome::TookNew),
            (None, _) => {
                self.delete(path);
                self.conflict(path, Outcome::StaysDeleted);
            }
            (Some(_), Some(Node { kind: Kind::File(_), .. })) => self.keep_with_pacnew(path),
            (Some(_), _) => {
                self.carry(path);
                self.conflict(path, Outcome::KeptMine);
            }
        }
    }

    /// A file that cannot be read on the device is taken as unchanged; of the packages' that cannot be, the device's is better than nothing. One bad
    /// sector must not end deploys for ever, and what cannot be read helps nobody where it is.
    fn unreadable(&mut self, path: &Path, mine: Option<&Node>) {
        match self.goal {
            Goal::Deployment if is_one_of(path, &OF_SNAPSHOT) => return,
            Goal::Snapshot if is_identity(path) => return,
            _ => {}
        }
        if mine.is_some() && !is_lost(mine) {
            self.carry(path);
        }
        self.conflict(path, Outcome::Unreadable);
    }

    fn keep_with_pacnew(&mut self, path: &Path) {
        self.actions.push(Action::Pacnew(path.to_owned()));
        self.pacnew.insert(pacnew_of(path));
        self.carry(path);
        self.conflict(path, Outcome::Pacnew);
    }

    fn carry(&mut self, path: &Path) {
        self.actions.push(Action::Carry(path.to_owned()));
        self.report.kept.push(path.to_owned());
    }

    fn delete(&mut self, path: &Path) {
        self.actions.push(Action::Delete(path.to_owned()));
        self.report.kept.push(path.to_owned());
    }

    /// A path that is a directory or nothing for both: what is below it decides whether it is there.
    fn directory(&mut self, path: &Path, base: Option<&Node>, mine: Option<&Node>, new: Option<&Node>) {
        match (mine, new) {
            (Some(mine_node), Some(new_node)) => {
                let merged = merged_meta(base.map(|node| &node.meta), &mine_node.meta, &new_node.meta);
                if merged != new_node.meta {
                    self.told(path, merged == mine_node.meta);
                }
                self.meta(path, &merged, &new_node.meta);
                self.children(path, base, Some(mine_node), Some(new_node));
            }
            // The packages have none. What the device changed or added below is kept, in its directory.
            (Some(mine_node), None) => {
                if Some(mine_node) == base {
                    return;
                }
                let before = self.actions.len();
                self.children(path, base, Some(mine_node), None);
                let touched = base.is_none_or(|base| base.children().is_none() || base.meta != mine_node.meta);
                if self.actions.len() > before || touched {
                    self.actions.insert(before, Action::CarryDir(path.to_owned()));
                    self.report.kept.push(path.to_owned());
                }
            }
            // The device has none. Deleted there, it comes back only for what packages have added below it since.
            (None, Some(new_node)) if base.is_some_and(|base| base.children().is_some()) => {
                if survives(base, new_node) {
                    self.children(path, base, None, Some(new_node))
                } else {
                    self.delete(path)
                }
            }
            // New with the packages.
            (None, Some(_)) => {}
            (None, None) => {}
        }
    }

    /// Two files that differ, both changed: content and the rest are judged apart.
    fn file(&mut self, path: &Path, base: Option<&Node>, mine: Option<&Node>, new: Option<&Node>) {
        let (Some(mine), Some(new)) = (mine, new) else { return };
        let before = base.and_then(content);
        let (ours, theirs) = (content(mine), content(new));
        let meta = merged_meta(base.map(|node| &node.meta), &mine.meta, &new.meta);
        let of_mine = ours == theirs || ours != before;
        if ours == theirs || ours == before {
            self.meta(path, &meta, &new.meta);
        } else if theirs == before {
            self.actions.push(Action::Content(path.to_owned(), meta.clone()));
        } else if is_generated(path) {
            return self.conflict(path, Outcome::TookNew);
        } else {
            self.keep_with_pacnew(path);
            return self.meta(path, &meta, &mine.meta);
        }
        self.told(path, of_mine && meta == mine.meta);
    }

    /// A file that is merged by entry to `bytes`.
    fn account(&mut self, path: &Path, bytes: Vec<u8>, base: Option<&Node>, mine: &Node, new: &Node) {
        let meta = merged_meta(base.map(|node| &node.meta), &mine.meta, &new.meta);
        let digest = Some(digest_of(&bytes));
        if digest == content(new) && meta == new.meta {
            return;
        }
        self.told(path, digest == content(mine) && meta == mine.meta);
        if digest == content(new) {
            self.meta(path, &meta, &new.meta);
        } else {
            self.actions.push(Action::Accounts(path.to_owned(), bytes, meta));
        }
    }

    /// The path is told as kept, or as merged.
    fn told(&mut self, path: &Path, kept: bool) {
        let list = if kept { &mut self.report.kept } else { &mut self.report.merged };
        list.push(path.to_owned());
    }

    /// Owner, mode and attributes of `path`, which are `now` so far, become `merged`.
    fn meta(&mut self, path: &Path, merged: &Meta, now: &Meta) {
        if merged != now {
            self.actions.push(Action::Meta(path.to_owned(), merged.clone()));
        }
    }
}

/// Whether the disk does not give it back. A base that it does not is one that differs from both: where the device's can be read it is another
/// one, or it would share those blocks.
fn is_lost(node: Option<&Node>) -> bool {
    node.is_some_and(|node| node.kind == Kind::Unreadable)
}

/// What is compared of a file's content.
fn content(node: &Node) -> Option<[u8; 32]> {
    match node.kind {
        Kind::File(digest) => Some(digest),
        _ => None,
    }
}

/// Owner, group, mode and each attribute: whoever changed it wins, the device where both did.
fn merged_meta(base: Option<&Meta>, mine: &Meta, new: &Meta) -> Meta {
    fn pick<T: PartialEq + Clone>(base: Option<&T>, mine: &T, new: &T) -> T {
        if base == Some(mine) { new.clone() } else { mine.clone() }
    }
    let attribute_names: BTreeSet<_> = mine.attributes.keys().chain(new.attributes.keys()).collect();
    let attributes = attribute_names
        .into_iter()
        .filter_map(|name| {
            let before = base.map(|meta| meta.attributes.get(name).cloned());
            let value = pick(before.as_ref(), &mine.attributes.get(name).cloned(), &new.attributes.get(name).cloned());
            value.map(|value| (name.clone(), value))
        })
        .collect();
    Meta {
        mode: pick(base.map(|m| &m.mode), &mine.mode, &new.mode),
        uid: pick(base.map(|m| &m.uid), &mine.uid, &new.uid),
        gid: pick(base.map(|m| &m.gid), &mine.gid, &new.gid),
        attributes,
    }
}

/// `NAME.pacnew` beside it, as pacman names it.
pub(super) fn pacnew_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".pacnew");
    path.with_file_name(name)
}

/// Whether anything below `new` is not just what `base` had, so that a deleted directory has to come back for it.
fn survives(base: Option<&Node>, new: &Node) -> bool {
    let before = base.and_then(Node::children);
    new.children().into_iter().flatten().any(|(name, node)| match before.and_then(|before| before.get(name)) {
        None => true,
        Some(old) if old.children().is_some() && node.children().is_some() => survives(Some(old), node),
        Some(_) => false,
    })
}

fn is_one_of(path: &Path, names: &[&str]) -> bool {
    names.iter().any(|name| path == Path::new(name))
}

/// Whether the file is always the device's own, when it has one.
pub fn is_carried(path: &Path) -> bool {
    is_one_of(path, &CARRIED) || CARRIED_BEGINNINGS.iter().any(|start| path.to_string_lossy().starts_with(start))
}

/// Whether the file is one of those that only this machine has.
pub(super) fn is_identity(path: &Path) -> bool {
    is_carried(path) && path != Path::new("resolv.conf")
}

/// Whether no other `/etc` has a say in the file: it is this machine's or this snapshot's, or generated from its packages.
pub(super) fn is_own(path: &Path) -> bool {
    is_carried(path) || is_one_of(path, &OF_SNAPSHOT) || is_generated(path)
}

fn is_generated(path: &Path) -> bool {
    is_one_of(path, &GENERATED) || GENERATED_DIRS.iter().any(|dir| path.starts_with(dir))
}
