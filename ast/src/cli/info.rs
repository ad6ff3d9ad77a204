//! `info`: everything about one snapshot.

use std::fmt::Write as _;

use serde_json::json;

use super::change::opened;
use super::context::{Global, print, utc};
use super::error::CommandError;
use crate::id::SnapshotId;
use crate::layout::Part;
use crate::{deploy, pacman, volumes};

/// Which snapshot.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
}

/// What is known about the snapshot is on standard output.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let tree = store.tree()?;
    let node = tree.get(args.snapshot)?;
    let children: Vec<SnapshotId> = tree.children(node.id).map(|child| child.id).collect();
    let set = node.set();
    let packages = pacman::installed(&store.layout().set_part(set, Part::Root)).ok();
    let kernel = packages.as_ref().and_then(|p| p.version("linux").map(ToString::to_string));
    let count = packages.as_ref().map(pacman::PackageSet::len);
    let deployments: Vec<_> = volumes::deployments(store.layout())
        .map_err(crate::store::StoreError::from)?
        .into_iter()
        .filter(|d| deploy::record::load(store.layout(), *d).is_ok_and(|r| r.set.snapshot == node.id))
        .collect();
    if global.json {
        return global.print_json(&json!({
            "id": node.id, "set": set, "parent": node.parent, "children": children, "description": node.description, "created": node.created,
            "pinned": node.pinned, "kernel": kernel, "packages": count, "deployments": deployments,
        }));
    }
    let list = |ids: Vec<String>| if ids.is_empty() { "none".to_owned() } else { ids.join(", ") };
    let mut out = String::new();
    let rows = [
        ("snapshot", format!("{} (generation {})", node.id, node.generation)),
        ("description", node.description.clone()),
        ("parent", node.parent.map_or_else(|| "none".to_owned(), |p| p.to_string())),
        ("children", list(children.iter().map(ToString::to_string).collect())),
        ("created", utc(node.created)),
        ("pinned", if node.pinned { "yes" } else { "no" }.to_owned()),
        ("kernel", kernel.unwrap_or_else(|| "none".to_owned())),
        ("packages", count.map_or_else(|| "unknown".to_owned(), |n| n.to_string())),
        ("deployments", list(deployments.iter().map(ToString::to_string).collect())),
    ];
    for (name, value) in rows {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{name:<12} {value}");
    }
    print(&out)
}
