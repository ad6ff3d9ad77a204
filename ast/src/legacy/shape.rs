//! How the original's snapshots descend from each other, out of its tree file.

use std::collections::BTreeMap;

use super::python::{Value, parse};
use crate::id::SnapshotId;

/// The parent of each snapshot that the tree file names, those without one under `None`. `None` when the file is no tree: empty, cut, or another text.
///
/// A node whose name is no number is passed over, and its children are its parent's; a number that comes twice counts where it comes first.
pub fn shape(text: &str) -> Option<BTreeMap<SnapshotId, Option<SnapshotId>>> {
    let root = parse(text)?;
    let mut found = BTreeMap::new();
    let mut open = vec![(&root, None)];
    root.get("name")?;
    while let Some((node, parent)) = open.pop() {
        let id = node.get("name").and_then(number);
        let below = match id {
            Some(id) if found.contains_key(&id) => continue,
            Some(id) => {
                // The base has no parent, whatever the file says.
                found.insert(id, parent.filter(|_| id != SnapshotId::BASE));
                Some(id)
            }
            None => parent,
        };
        if let Some(Value::List(children)) = node.get("children") {
            open.extend(children.iter().rev().map(|child| (child, below)));
        }
    }
    Some(found)
}

fn number(name: &Value) -> Option<SnapshotId> {
    match name {
        Value::Int(n) => u32::try_from(*n).ok().map(SnapshotId::new),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    }
}
