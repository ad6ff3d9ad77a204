//! Walks by typed numbers: parents first, each node once (S11).

use std::collections::BTreeMap;

use super::{Node, Tree, TreeError};
use crate::id::SnapshotId;

/// One node of a walk and where it hangs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Visit<'t> {
    /// The node.
    pub node: &'t Node,
    /// How far below the start of the walk; 0 for the start.
    pub depth: usize,
    /// Whether no sibling follows it.
    pub last: bool,
}

/// A pre-order walk; siblings in the order of the document.
#[derive(Debug)]
pub struct Walk<'t> {
    below: BTreeMap<SnapshotId, Vec<&'t Node>>,
    /// What is to be visited, the next one last.
    waiting: Vec<Visit<'t>>,
}

impl<'t> Walk<'t> {
    fn over(tree: &'t Tree, starts: Vec<&'t Node>) -> Self {
        let mut below: BTreeMap<SnapshotId, Vec<&'t Node>> = BTreeMap::new();
        for node in tree.nodes() {
            if let Some(parent) = node.parent {
                below.entry(parent).or_default().push(node);
            }
        }
        let mut walk = Self { below, waiting: Vec::new() };
        walk.wait_for(starts, 0);
        walk
    }

    fn wait_for(&mut self, siblings: Vec<&'t Node>, depth: usize) {
        let reversed = siblings.into_iter().rev().enumerate();
        self.waiting.extend(reversed.map(|(i, node)| Visit { node, depth, last: i == 0 }));
    }
}

impl<'t> Iterator for Walk<'t> {
    type Item = Visit<'t>;

    fn next(&mut self) -> Option<Visit<'t>> {
        let visit = self.waiting.pop()?;
        // Taken out, so that even a cycle could be entered only once.
        if let Some(children) = self.below.remove(&visit.node.id) {
            self.wait_for(children, visit.depth + 1);
        }
        Some(visit)
    }
}

impl Tree {
    /// Every node, parents first.
    pub fn walk(&self) -> Walk<'_> {
        Walk::over(self, self.nodes().filter(|n| n.parent.is_none()).collect())
    }

    /// `id` and everything below it, parents first.
    pub fn walk_from(&self, id: SnapshotId) -> Result<Walk<'_>, TreeError> {
        Ok(Walk::over(self, vec![self.get(id)?]))
    }

    /// The direct children of `id`, in the order of the document.
    pub fn children(&self, id: SnapshotId) -> impl Iterator<Item = &Node> {
        self.nodes().filter(move |n| n.parent == Some(id))
    }

    /// The ancestors of `id`, the nearest first, without `id` itself.
    pub fn ancestors(&self, id: SnapshotId) -> impl Iterator<Item = &Node> {
        let up = move |n: &&Node| n.parent.and_then(|p| self.get(p).ok());
        std::iter::successors(self.get(id).ok(), up).skip(1)
    }
}
