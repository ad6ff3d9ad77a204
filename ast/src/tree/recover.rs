//! The tree that follows from what is on disk, when its document is damaged.

use std::collections::BTreeMap;

use super::{Kind, Label, Later, Node, Tree, node};
use crate::id::{Generation, SetId, SnapshotId};

/// The tree that names every whole set of `sets` that is the newest of its snapshot: shaped as `older` (the older copy of the document)
/// as far as that knows them, the others as trees of their own. In memory only; loses no set but old generations.
///
/// Used when `tree.json` is damaged: its older copy may name generations that are gone and miss ones that were committed since.
/// `None` when there is no base among the sets: then nothing can be told from disk.
pub fn recover(older: Option<&Tree>, sets: &[SetId], now: u64) -> Option<Tree> {
    let mut newest: BTreeMap<SnapshotId, Generation> = BTreeMap::new();
    for set in sets {
        let known = newest.entry(set.snapshot).or_insert(set.generation);
        *known = (*known).max(set.generation);
    }
    newest.contains_key(&SnapshotId::BASE).then_some(())?;
    let alive = |id: SnapshotId| newest.contains_key(&id);
    let mut nodes: Vec<Node> = Vec::new();
    for visit in older.iter().flat_map(|tree| tree.walk()) {
        let Some(generation) = newest.get(&visit.node.id) else { continue };
        let tree = older?;
        let mut kept = visit.node.clone();
        kept.generation = *generation;
        // A parent whose set is gone leaves its children to the nearest ancestor that is there.
        kept.parent = tree.ancestors(kept.id).map(|n| n.id).find(|id| alive(*id));
        nodes.push(kept);
    }
    for (id, generation) in &newest {
        if nodes.iter().any(|n| n.id == *id) {
            continue;
        }
        let kind = if *id == SnapshotId::BASE { Kind::Base } else { Kind::Snapshot };
        let description = if kind == Kind::Base { "base snapshot" } else { "recovered" };
        let label = Label { description: description.to_owned(), created: now };
        nodes.push(Node { generation: *generation, ..node(*id, None, label, kind) });
    }
    let highest = nodes.iter().map(|n| n.id).max()?;
    let next = older.map_or(SnapshotId::BASE, Tree::next_snapshot).max(highest.next()?);
    let later = older.map_or_else(Later::new, |tree| tree.later.clone());
    Some(Tree { next_snapshot: next, nodes, later })
}
