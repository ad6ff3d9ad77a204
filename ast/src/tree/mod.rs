//! The tree document in memory: which snapshots exist, in which generation, below which parent. Every edit is in memory only;
//! writing it is the one commit of a plan (`store`).

mod draw;
mod recover;
mod walk;

#[cfg(test)]
mod tests;

pub use draw::{LEGEND, Mark, Marks, draw, draw_with};
pub use recover::recover;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{Generation, SetId, SnapshotId};

/// Longest description in characters: one line of a wide terminal, and of the boot menu.
pub const MAX_DESCRIPTION: usize = 200;

/// Fields that a later version added, kept when an older program writes the document.
pub type Later = BTreeMap<String, serde_json::Value>;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Snapshot 0: changed only by `base-update` and `chroot --base`.
    Base,
    /// Any other.
    Snapshot,
}

/// One snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its number, never reused.
    pub id: SnapshotId,
    /// Which of its generations is the current one; older ones on disk are garbage.
    pub generation: Generation,
    /// The snapshot above it; `None` for a tree of its own.
    pub parent: Option<SnapshotId>,
    /// One line for people.
    pub description: String,
    /// When it was made, in seconds since 1970 (of this machine's clock, which may be wrong).
    pub created: u64,
    /// Whether it is protected from deletion and clean-up.
    pub pinned: bool,
    /// What it is.
    pub kind: Kind,
    /// Whether an unattended update made it and no person has laid hands on it since: only such ones may go by themselves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_update: bool,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

impl Node {
    /// The set that this node names.
    pub fn set(&self) -> SetId {
        SetId { snapshot: self.id, generation: self.generation }
    }
}

/// What a new node is called, and when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// One line for people; cleaned by [`clean_description`].
    pub description: String,
    /// Seconds since 1970.
    pub created: u64,
}

/// Why an edit of the tree is refused, or a document is not a tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// No snapshot has this number.
    #[error("there is no snapshot {0}")]
    Unknown(SnapshotId),
    /// The base is not changed this way.
    #[error("snapshot 0 is the base and cannot be {0}")]
    Base(&'static str),
    /// A number is used up.
    #[error("no number is left for a new {0}")]
    NumbersUsedUp(&'static str),
    /// A generation must grow.
    #[error("snapshot {id} is in generation {now} and cannot go to {wanted}")]
    Generation {
        /// The snapshot.
        id: SnapshotId,
        /// Its generation now.
        now: Generation,
        /// What was asked for.
        wanted: Generation,
    },
    /// The document has a number twice.
    #[error("the tree has snapshot {0} twice")]
    Twice(SnapshotId),
    /// The document has a node whose parent it does not have.
    #[error("snapshot {id} is below {parent}, which does not exist")]
    Orphan {
        /// The node.
        id: SnapshotId,
        /// The parent that is missing.
        parent: SnapshotId,
    },
    /// The document has a node that is its own ancestor.
    #[error("snapshot {0} is below itself")]
    Cycle(SnapshotId),
    /// The document has no base, one with a parent, or another node called base.
    #[error("the tree has no proper base: {0}")]
    NoBase(&'static str),
    /// The document would give a number out again.
    #[error("the next number {next} is not above snapshot {id}")]
    Next {
        /// `next_snapshot` of the document.
        next: SnapshotId,
        /// A node with that number or a higher one.
        id: SnapshotId,
    },
}

/// The snapshots and how they descend from each other. Always valid: one base, unique numbers, parents that exist, no cycle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawTree")]
pub struct Tree {
    next_snapshot: SnapshotId,
    nodes: Vec<Node>,
    #[serde(flatten)]
    later: Later,
}

#[derive(Deserialize)]
struct RawTree {
    next_snapshot: SnapshotId,
    nodes: Vec<Node>,
    #[serde(flatten)]
    later: Later,
}

impl TryFrom<RawTree> for Tree {
    type Error = TreeError;
    fn try_from(raw: RawTree) -> Result<Self, TreeError> {
        let tree = Self { next_snapshot: raw.next_snapshot, nodes: raw.nodes, later: raw.later };
        tree.check()?;
        Ok(tree)
    }
}

impl Tree {
    /// A tree with the base alone, in generation 1.
    pub fn new(label: Label) -> Self {
        let base = node(SnapshotId::BASE, None, label, Kind::Base);
        Self { next_snapshot: SnapshotId::new(1), nodes: vec![base], later: Later::new() }
    }

    /// These nodes, with the lowest number that none of them and none before them ever had.
    ///
    /// Refuses: what is no tree.
    pub fn of(next_snapshot: SnapshotId, nodes: Vec<Node>) -> Result<Self, TreeError> {
        RawTree { next_snapshot, nodes, later: Later::new() }.try_into()
    }

    fn check(&self) -> Result<(), TreeError> {
        let mut seen = BTreeSet::new();
        for node in &self.nodes {
            if !seen.insert(node.id) {
                return Err(TreeError::Twice(node.id));
            }
            if node.id >= self.next_snapshot {
                return Err(TreeError::Next { next: self.next_snapshot, id: node.id });
            }
            if (node.kind == Kind::Base) != (node.id == SnapshotId::BASE) {
                return Err(TreeError::NoBase("snapshot 0 and no other is the base"));
            }
        }
        match self.nodes.iter().find(|n| n.id == SnapshotId::BASE) {
            None => return Err(TreeError::NoBase("there is no snapshot 0")),
            Some(base) if base.parent.is_some() => return Err(TreeError::NoBase("snapshot 0 has a parent")),
            Some(_) => {}
        }
        for node in &self.nodes {
            if let Some(parent) = node.parent.filter(|p| !seen.contains(p)) {
                return Err(TreeError::Orphan { id: node.id, parent });
            }
        }
        let reached: BTreeSet<SnapshotId> = self.walk().map(|step| step.node.id).collect();
        match self.nodes.iter().find(|n| !reached.contains(&n.id)) {
            Some(lost) => Err(TreeError::Cycle(lost.id)),
            None => Ok(()),
        }
    }

    /// The node with this number.
    pub fn get(&self, id: SnapshotId) -> Result<&Node, TreeError> {
        self.nodes.iter().find(|n| n.id == id).ok_or(TreeError::Unknown(id))
    }

    fn get_mut(&mut self, id: SnapshotId) -> Result<&mut Node, TreeError> {
        self.nodes.iter_mut().find(|n| n.id == id).ok_or(TreeError::Unknown(id))
    }

    /// The set that is the current generation of this snapshot.
    pub fn set_of(&self, id: SnapshotId) -> Result<SetId, TreeError> {
        self.get(id).map(Node::set)
    }

    /// All nodes in the order of the document, in no relation to parents: to walk use [`Tree::walk`].
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter()
    }

    /// The lowest number that was never given to a snapshot.
    pub fn next_snapshot(&self) -> SnapshotId {
        self.next_snapshot
    }

    /// A new node below `parent` (a tree of its own with `None`), in memory only. Its number is above every number that the tree ever
    /// gave and above `highest_seen`, the highest that the caller found on disk (S6).
    pub fn add(&mut self, parent: Option<SnapshotId>, label: Label, highest_seen: Option<SnapshotId>) -> Result<SnapshotId, TreeError> {
        if let Some(parent) = parent {
            self.get(parent)?;
        }
        let past_disk = match highest_seen {
            Some(seen) => seen.next().ok_or(TreeError::NumbersUsedUp("snapshot"))?,
            None => SnapshotId::BASE,
        };
        let id = self.next_snapshot.max(past_disk);
        self.next_snapshot = id.next().ok_or(TreeError::NumbersUsedUp("snapshot"))?;
        self.nodes.push(node(id, parent, label, Kind::Snapshot));
        Ok(id)
    }

    /// Takes out `id` and everything below it, in memory only; gives back what was taken, parents first.
    ///
    /// Refuses: the base, and whatever it is an ancestor of. Pins and deployments are judged by the caller, who can name them.
    pub fn remove(&mut self, id: SnapshotId) -> Result<Vec<Node>, TreeError> {
        if self.get(id)?.kind == Kind::Base {
            return Err(TreeError::Base("deleted"));
        }
        let gone: Vec<Node> = self.walk_from(id)?.map(|step| step.node.clone()).collect();
        let ids: BTreeSet<SnapshotId> = gone.iter().map(|n| n.id).collect();
        self.nodes.retain(|n| !ids.contains(&n.id));
        Ok(gone)
    }

    /// Takes out `id` alone, in memory only: what was below it is below its parent then, or a tree of its own where it had none.
    ///
    /// Refuses: the base.
    pub fn take_out(&mut self, id: SnapshotId) -> Result<Node, TreeError> {
        let gone = self.get(id)?.clone();
        if gone.kind == Kind::Base {
            return Err(TreeError::Base("deleted"));
        }
        self.nodes.retain(|n| n.id != id);
        self.nodes.iter_mut().filter(|n| n.parent == Some(id)).for_each(|child| child.parent = gone.parent);
        Ok(gone)
    }

    /// An unattended update made this snapshot, in memory only.
    pub fn made_by_update(&mut self, id: SnapshotId) -> Result<(), TreeError> {
        self.get_mut(id)?.by_update = true;
        Ok(())
    }

    /// The snapshot now is this later generation, in memory only. What is in it is a person's from now on.
    ///
    /// Refuses: a generation that is not above the current one.
    pub fn set_generation(&mut self, id: SnapshotId, wanted: Generation) -> Result<(), TreeError> {
        let node = self.get_mut(id)?;
        if wanted <= node.generation {
            return Err(TreeError::Generation { id, now: node.generation, wanted });
        }
        (node.generation, node.by_update) = (wanted, false);
        Ok(())
    }

    /// The snapshot is described by this text, cleaned by [`clean_description`]; in memory only. It is a person's from now on.
    pub fn describe(&mut self, id: SnapshotId, text: &str) -> Result<(), TreeError> {
        let node = self.get_mut(id)?;
        (node.description, node.by_update) = (clean_description(text), false);
        Ok(())
    }

    /// The snapshot is pinned or not, in memory only. Whether that changed anything.
    pub fn pin(&mut self, id: SnapshotId, pinned: bool) -> Result<bool, TreeError> {
        let node = self.get_mut(id)?;
        Ok(std::mem::replace(&mut node.pinned, pinned) != pinned)
    }
}

fn node(id: SnapshotId, parent: Option<SnapshotId>, label: Label, kind: Kind) -> Node {
    Node {
        id,
        generation: Generation::new(1),
        parent,
        description: clean_description(&label.description),
        created: label.created,
        pinned: false,
        kind,
        by_update: false,
        later: Later::new(),
    }
}

/// The text as one line: control characters become spaces, at most [`MAX_DESCRIPTION`] characters, no space around it.
pub fn clean_description(text: &str) -> String {
    let text = text.trim_matches(|c: char| c.is_control() || c.is_whitespace());
    let mut line: String = text.chars().take(MAX_DESCRIPTION).map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.truncate(line.trim_end().len());
    line
}
