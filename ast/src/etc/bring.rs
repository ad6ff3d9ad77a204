//! What one snapshot has changed in its `/etc` arrives in another one that never touched it.
//!
//! There is no common base to compare with: what packages brought is the base, for each path. So a file is carried over when a package
//! has it in both, in the same pristine form, and it is changed in the one and pristine in the other; or when no package has it in either,
//! and the other lacks it. Everything else is left. Accounts are left, too: packages add theirs on both sides.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::accounts::{FILES, Owners};
use super::apply::{self, Places};
use super::decide::{Action, is_own};
use super::tree::{self, Kind, Meta, Node};
use crate::sys::SysError;

/// A file as a package brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pristine {
    /// A file.
    File {
        /// SHA-256 of its content.
        digest: [u8; 32],
        /// Its twelve bits.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl Pristine {
    fn node(&self) -> Node {
        let meta = |mode, uid, gid| Meta { mode, uid, gid, attributes: BTreeMap::new() };
        match self {
            Self::File { digest, mode, uid, gid } => Node { kind: Kind::File(*digest), meta: meta(*mode, *uid, *gid) },
            Self::Link { target, uid, gid } => Node { kind: Kind::Link(target.clone()), meta: meta(0, *uid, *gid) },
        }
    }
}

/// The files of packages below one `/etc`; `None` for a file whose pristine form is not known.
pub type Owned = BTreeMap<PathBuf, Option<Pristine>>;

/// What was carried over, and what was not though it differs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brought {
    /// Paths below /etc that are now as in the other one.
    pub brought: Vec<PathBuf>,
    /// Paths that were changed here, too, or deleted.
    pub left: Vec<PathBuf>,
}

/// `into` has what `from` changed and `into` never touched, with owner, mode, attributes and times.
///
/// If interrupted: `into` has some of it; it belongs to a working copy.
pub fn bring(from: &Path, from_owned: &Owned, into: &Path, into_owned: &Owned) -> Result<Brought, SysError> {
    let ((theirs, mut links), (ours, _)) = (tree::scan(from)?, tree::scan(into)?);
    let mut found = Found { from_owned, into_owned, result: Brought::default() };
    found.below(Path::new(""), &theirs, Some(&ours));
    let mut actions = Vec::new();
    let mut made = BTreeSet::new();
    for path in &found.result.brought {
        let above: Vec<&Path> = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty()).collect();
        for dir in above.into_iter().rev().filter(|dir| !into.join(dir).is_dir()) {
            if made.insert(dir.to_owned()) {
                actions.push(Action::CarryDir(dir.to_owned()));
            }
        }
        actions.push(Action::Carry(path.clone()));
    }
    apply::apply(&actions, &Places { mine: from, into, owners: &Owners::default() })?;
    // Names of one file, as far as they were carried over.
    links.values_mut().for_each(|names| names.retain(|name| found.result.brought.contains(name)));
    apply::relink(into, &links, &tree::Links::new(), &tree::Links::new())?;
    Ok(found.result)
}

struct Found<'a> {
    from_owned: &'a Owned,
    into_owned: &'a Owned,
    result: Brought,
}

impl Found<'_> {
    /// Everything in the directory `theirs`; `ours` is what is there, none when nothing is.
    fn below(&mut self, path: &Path, theirs: &Node, ours: Option<&Node>) {
        let names = ours.and_then(Node::children);
        for (name, theirs) in theirs.children().into_iter().flatten() {
            let path = path.join(name);
            let ours = names.and_then(|names| names.get(name));
            if theirs.children().is_some() {
                // A file or a link in the place of a directory is somebody's will.
                if ours.is_none_or(|ours| ours.children().is_some()) {
                    self.below(&path, theirs, ours);
                } else {
                    self.result.left.push(path);
                }
            } else if ours != Some(theirs) && !is_left_alone(&path) {
                match self.may_come(&path, theirs, ours) {
                    Some(true) => self.result.brought.push(path),
                    Some(false) => self.result.left.push(path),
                    None => {}
                }
            }
        }
    }

    /// Whether a file that differs is carried over; `None` when it is not this snapshot's business.
    fn may_come(&self, path: &Path, theirs: &Node, ours: Option<&Node>) -> Option<bool> {
        match (self.from_owned.get(path), self.into_owned.get(path)) {
            (Some(pristine), Some(own)) => {
                let pristine = pristine.as_ref().map(Pristine::node);
                if pristine.as_ref() == Some(theirs) {
                    return None;
                }
                Some(pristine.is_some() && pristine.as_ref() == own.as_ref().map(Pristine::node).as_ref() && pristine.as_ref() == ours)
            }
            (None, None) => Some(ours.is_none()),
            // Without its package the file would be in the way when that is installed.
            (Some(_), None) => None,
            (None, Some(_)) => Some(false),
        }
    }
}

/// Whether a path is never carried over: of this machine, of one snapshot, generated, accounts and their older copies, what pacman left.
fn is_left_alone(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let account = |name: &str| FILES.contains(&name);
    let pacman = [".pacnew", ".pacsave", ".pacorig"].iter().any(|end| text.ends_with(end));
    is_own(path) || pacman || account(&text) || account(text.trim_end_matches('-')) || text == ".pwd.lock"
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::sys::file;

    fn write(dir: &Path, name: &str, text: &str) {
        let path = dir.join(name);
        file::make_dirs(path.parent().expect("a directory")).expect("dir");
        file::replace(&path, text.as_bytes()).expect("written");
    }

    fn packaged(dir: &Path, text: &str) -> Option<Pristine> {
        let meta = fs::symlink_metadata(dir).expect("dir");
        Some(Pristine::File { digest: Sha256::digest(text).into(), mode: 0o644, uid: meta.uid(), gid: meta.gid() })
    }

    #[test]
    fn only_what_was_changed_there_and_never_here_comes() {
        let dir = tempfile::tempdir().expect("dir");
        let (parent, child) = (dir.path().join("parent"), dir.path().join("child"));
        // name, packaged in the parent, packaged in the child (none: no package has it), content in the parent, in the child, comes or is left
        let table: &[(&str, Option<&str>, Option<&str>, Option<&str>, Option<&str>, Option<bool>)] = &[
            ("untouched", Some("p"), Some("p"), Some("new"), Some("p"), Some(true)),
            ("touched", Some("p"), Some("p"), Some("new"), Some("mine"), Some(false)),
            ("deleted", Some("p"), Some("p"), Some("new"), None, Some(false)),
            ("as packaged", Some("p"), Some("p"), Some("p"), Some("mine"), None),
            ("same edit", Some("p"), Some("p"), Some("new"), Some("new"), None),
            ("other version", Some("p2"), Some("p"), Some("new"), Some("p"), Some(false)),
            ("of a package it lacks", Some("p"), None, Some("new"), None, None),
            ("of its own package", None, Some("p"), Some("new"), Some("p"), Some(false)),
            ("ours/deep/new", None, None, Some("new"), None, Some(true)),
            ("ours/other", None, None, Some("new"), Some("mine"), Some(false)),
            ("only here", None, None, None, Some("mine"), None),
            ("ssh/ssh_host_rsa_key", None, None, Some("new"), None, None),
            ("machine-id", None, None, Some("new"), Some("mine"), None),
            ("ast.conf", None, None, Some("new"), None, None),
            ("passwd", Some("p"), Some("p"), Some("new"), Some("p"), None),
            ("shadow-", None, None, Some("new"), None, None),
            ("ld.so.cache", None, None, Some("new"), Some("mine"), None),
            ("x.pacnew", None, None, Some("new"), None, None),
        ];
        let (mut theirs, mut ours) = (Owned::new(), Owned::new());
        fs::create_dir_all(&child).expect("dir");
        for (name, in_parent, in_child, there, here, _) in table {
            there.iter().for_each(|text| write(&parent, name, text));
            here.iter().for_each(|text| write(&child, name, text));
            theirs.extend(in_parent.map(|text| (PathBuf::from(name), packaged(dir.path(), text))));
            ours.extend(in_child.map(|text| (PathBuf::from(name), packaged(dir.path(), text))));
        }
        let found = bring(&parent, &theirs, &child, &ours).expect("brought");
        let listed = |want: bool| table.iter().filter(|row| row.5 == Some(want)).map(|row| PathBuf::from(row.0)).collect::<BTreeSet<_>>();
        assert_eq!(found.brought.iter().cloned().collect::<BTreeSet<_>>(), listed(true));
        assert_eq!(found.left.iter().cloned().collect::<BTreeSet<_>>(), listed(false));
        for (name, _, _, there, here, comes) in table {
            let now = file::read_if_exists(&child.join(name)).expect("read").map(|bytes| String::from_utf8(bytes).expect("text"));
            let expected = if *comes == Some(true) { *there } else { *here };
            assert_eq!(now.as_deref(), expected, "{name}");
        }
        // Done again there is nothing to do.
        assert!(bring(&parent, &theirs, &child, &ours).expect("again").brought.is_empty());
    }

    #[test]
    fn modes_links_and_directories_count_and_are_carried() {
        let dir = tempfile::tempdir().expect("dir");
        let (parent, child) = (dir.path().join("parent"), dir.path().join("child"));
        for (at, mode) in [(&parent, 0o600), (&child, 0o644)] {
            write(at, "sudoers", "same");
            fs::set_permissions(at.join("sudoers"), fs::Permissions::from_mode(mode)).expect("mode");
            write(at, "unknown", if mode == 0o600 { "new" } else { "old" });
        }
        write(&parent, "dir/file", "new");
        write(&child, "dir", "a file in the place of a directory");
        fs::create_dir_all(parent.join("wants")).expect("dir");
        fs::set_permissions(parent.join("wants"), fs::Permissions::from_mode(0o750)).expect("mode");
        symlink("/usr/lib/x.service", parent.join("wants/x.service")).expect("link");
        let owned: Owned = [("sudoers".into(), packaged(dir.path(), "same")), ("unknown".into(), None)].into();
        let found = bring(&parent, &owned, &child, &owned).expect("brought");
        assert_eq!(found.brought, [Path::new("sudoers"), Path::new("wants/x.service")]);
        assert_eq!(found.left, [Path::new("dir"), Path::new("unknown")]);
        let mode = |name: &str| fs::symlink_metadata(child.join(name)).expect("there").mode() & 0o7777;
        assert_eq!((mode("sudoers"), mode("wants")), (0o600, 0o750));
        assert_eq!(fs::read_link(child.join("wants/x.service")).expect("a link"), Path::new("/usr/lib/x.service"));
        // A child that had made its own mode keeps it.
        fs::set_permissions(child.join("sudoers"), fs::Permissions::from_mode(0o440)).expect("mode");
        let found = bring(&parent, &owned, &child, &owned).expect("brought");
        assert!(found.brought.is_empty() && found.left.contains(&PathBuf::from("sudoers")), "{found:?}");
    }
}
