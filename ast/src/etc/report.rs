//! What a merge did, for people and for programs.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::accounts::Moved;

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
    /// The disk does not give back one of the two: the other is taken.
    Unreadable,
}

impl Outcome {
    /// Its word in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pacnew => "pacnew",
            Self::KeptMine => "kept-mine",
            Self::StaysDeleted => "stays-deleted",
            Self::TookNew => "took-new",
            Self::SameNumber => "same-number",
            Self::Unreadable => "unreadable",
        }
    }

    /// Whether somebody should look at it (exit code 5).
    pub const fn wants_a_look(self) -> bool {
        matches!(self, Self::Pacnew | Self::KeptMine | Self::SameNumber | Self::Unreadable)
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pacnew => "changed here and by a package: yours is kept, the package's is beside it as .pacnew",
            Self::KeptMine => "changed here, and of another type or gone in the package: yours is kept",
            Self::StaysDeleted => "deleted here and changed by a package: it stays deleted",
            Self::TookNew => "generated anew with the packages: theirs is taken",
            Self::Unreadable => "cannot be read here, or not as the packages bring it: the other one is taken; the disk may be failing",
            Self::SameNumber => "two accounts have the same number: give one of them another",
        })
    }
}

impl std::fmt::Display for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.group { "group" } else { "user" };
        let name: String = self.name.chars().filter(|c| !c.is_control()).collect();
        write!(
            f,
            "{kind} {name} has number {} here, since {} is somebody else's; its files outside /etc may have the old one",
            self.to, self.from
        )
    }
}

/// What a merge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Paths below /etc that are as the device had them, and not as the packages bring them.
    pub kept: Vec<PathBuf>,
    /// Paths that have something of both: account files, and files whose content and metadata were changed by different sides.
    pub merged: Vec<PathBuf>,
    /// Where both had changed something.
    pub conflicts: Vec<Conflict>,
    /// Accounts of the packages whose number the device had given to somebody else. Their files in /etc are given to them; others,
    /// outside /etc, still have the old number.
    pub moved: Vec<Moved>,
}

impl Report {
    /// Whether the merge is just what the packages bring, whatever was in dispute.
    pub fn is_as_packaged(&self) -> bool {
        self.kept.is_empty() && self.merged.is_empty()
    }

    /// A line for each thing that somebody should look at.
    pub fn to_look_at(&self) -> Vec<String> {
        let conflicts = self.conflicts.iter().filter(|conflict| conflict.outcome.wants_a_look());
        conflicts.map(|c| format!("{}: {}", shown(&c.path), c.outcome)).chain(self.moved.iter().map(Moved::to_string)).collect()
    }

    /// A line for each path.
    pub fn lines(&self) -> Vec<String> {
        let disputed = |path: &Path| self.conflicts.iter().any(|conflict| conflict.path == path);
        let kept = self.kept.iter().filter(|path| !disputed(path)).map(|path| format!("{}: kept as it is here", shown(path)));
        let merged = self.merged.iter().map(|path| format!("{}: merged", shown(path)));
        let conflicts = self.conflicts.iter().map(|conflict| format!("{}: {}", shown(&conflict.path), conflict.outcome));
        let mut lines: Vec<String> = kept.chain(merged).chain(conflicts).chain(self.moved.iter().map(Moved::to_string)).collect();
        lines.sort();
        lines
    }

    /// The document: `kept`, `merged`, `conflicts` with `path` and `outcome`, and `renumbered` with `kind`, `name`, `from` and `to`.
    pub fn json(&self) -> Value {
        let texts = |paths: &[PathBuf]| paths.iter().map(|path| shown(path)).collect::<Vec<_>>();
        let conflicts: Vec<Value> = self.conflicts.iter().map(|c| json!({ "path": shown(&c.path), "outcome": c.outcome.word() })).collect();
        let moved: Vec<Value> = self
            .moved
            .iter()
            .map(|m| json!({ "kind": if m.group { "group" } else { "user" }, "name": m.name, "from": m.from, "to": m.to }))
            .collect();
        json!({ "kept": texts(&self.kept), "merged": texts(&self.merged), "conflicts": conflicts, "renumbered": moved })
    }
}

/// The path as a person writes it, on one line whatever it holds.
pub fn shown(path: &Path) -> String {
    format!("/etc/{}", path.to_string_lossy()).chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
