//! The tree as the README draws it.

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

/// The drawing, one line for each snapshot, with a newline after the last.
///
/// `2*-` is the default; other marks stand in square brackets behind the description.
pub fn draw(tree: &Tree, marks: &Marks) -> String {
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
        let star = if marks.default == Some(node.id) { '*' } else { ' ' };
        let description = clean_description(&node.description);
        let words = words(node.id, node.pinned, marks);
        // Writing to a String cannot fail.
        let _ok = write!(out, "{branch}{}{star}- {description}", node.id);
        if !words.is_empty() {
            let _ok = write!(out, " [{}]", words.join(", "));
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    out
}

fn words(id: SnapshotId, pinned: bool, marks: &Marks) -> Vec<&'static str> {
    [
        (marks.booted == Some(id), "booted"),
        (marks.trial == Some(id), "on trial"),
        (marks.fallback == Some(id) && marks.default != Some(id), "fallback"),
        (pinned, "pinned"),
    ]
    .into_iter()
    .filter_map(|(is, word)| is.then_some(word))
    .collect()
}

/// What the marks of [`draw`] mean, in one line.
pub const LEGEND: &str = "* default: boots when nothing is on trial";
