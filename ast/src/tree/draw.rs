//! The tree as the README draws it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::{Tree, clean_description};
use crate::id::SnapshotId;

/// Which snapshots a drawing points out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Marks {
    /// Where the running system comes from.
    pub booted: Option<SnapshotId>,
    /// What boots when nothing is on trial; drawn as the asterisk.
    pub default: Option<SnapshotId>,
    /// What is on trial.
    pub trial: Option<SnapshotId>,
    /// What boots when the default does not.
    pub fallback: Option<SnapshotId>,
}

/// What a word of a drawing says of its snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// It is the default: its number and asterisk.
    Default,
    /// `booted`.
    Booted,
    /// `on trial`.
    Trial,
    /// `fallback`.
    Fallback,
    /// `pinned`.
    Pinned,
    /// `broken`: not all of it is on disk.
    Broken,
}

/// The drawing, one line for each snapshot, with a newline after the last.
///
/// `2*-` is the default; other marks stand in square brackets behind the description.
pub fn draw(tree: &Tree, marks: &Marks) -> String {
    draw_with(tree, marks, &BTreeSet::new(), &|_, text| text.to_owned())
}

/// The same with those that are not whole, each word as `paint` has it.
pub fn draw_with(tree: &Tree, marks: &Marks, broken: &BTreeSet<SnapshotId>, paint: &dyn Fn(Mark, &str) -> String) -> String {
    let mut out = String::from("root - root\n");
    // For each depth, whether a sibling follows further down, so that its line must be carried on.
    let mut open: Vec<bool> = Vec::new();
    for visit in tree.walk() {
        open.truncate(visit.depth);
        for more in &open {
            out.push_str(if *more { "│   " } else { "    " });
        }
        open.push(!visit.last);
        let node = visit.node;
        let branch = if visit.last { "└── " } else { "├── " };
        let number = if marks.default == Some(node.id) { paint(Mark::Default, &format!("{}*", node.id)) } else { format!("{} ", node.id) };
        let description = clean_description(&node.description);
        let words = words(node.id, node.pinned, broken.contains(&node.id), marks);
        let words: Vec<String> = words.into_iter().map(|(mark, word)| paint(mark, word)).collect();
        // Writing to a String cannot fail.
        let _ok = write!(out, "{branch}{number}- {description}");
        if !words.is_empty() {
            let _ok = write!(out, " [{}]", words.join(", "));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

fn words(id: SnapshotId, pinned: bool, broken: bool, marks: &Marks) -> Vec<(Mark, &'static str)> {
    [
        (marks.booted == Some(id), Mark::Booted, "booted"),
        (marks.trial == Some(id), Mark::Trial, "on trial"),
        (marks.fallback == Some(id) && marks.default != Some(id), Mark::Fallback, "fallback"),
        (pinned, Mark::Pinned, "pinned"),
        (broken, Mark::Broken, "broken"),
    ]
    .into_iter()
    .filter_map(|(is, mark, word)| is.then_some((mark, word)))
    .collect()
}

/// What the marks of [`draw`] mean, in one line.
pub const LEGEND: &str = "* default: boots when nothing is on trial";
