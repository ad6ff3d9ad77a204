//! `info`: everything about one snapshot.

use std::fmt::Write as _;

use serde_json::json;

use super::change::opened;
use super::context::{Global, print, utc};
use super::error::CommandError;
use crate::id::SnapshotId;
use crate::layout::{self, Part};
use crate::store::{StoreError, history};
use crate::work::Parts;
use crate::{deploy, pacman, verify, volumes};

/// Lines of the history that are told; `ast history` has all.
const NEWEST: usize = 10;

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
    // As far as it can be read: without root some of it cannot.
    let size = volumes::size_of_set(store.layout(), set).ok();
    let lacks: Vec<String> = verify::check(&Parts::of_set(store.layout(), set), verify::Disk::of(store.layout())).iter().map(ToString::to_string).collect();
    let well: Vec<_> = deployments.iter().filter(|d| store.layout().deployment_well(**d).exists()).collect();
    let lines = history::read(&store.layout().document(layout::HISTORY)).map_err(StoreError::from)?;
    let lines: Vec<_> = lines.iter().rev().filter(|line| line.speaks_of(node.id)).take(NEWEST).collect();
    if global.json {
        let lines: Vec<_> = lines.iter().map(|l| json!({ "time": l.time, "by": l.by, "what": l.what })).collect();
        return global.print_json(&json!({
            "id": node.id, "set": set, "parent": node.parent, "children": children, "description": node.description, "created": node.created,
            "pinned": node.pinned, "kernel": kernel, "packages": count, "deployments": deployments, "exclusive": size.map(|s| s.exclusive),
            "shared": size.map(|s| s.shared), "lacks": lacks, "booted_well": well, "history": lines,
        }));
    }
    let health = match (lacks.is_empty(), well.is_empty()) {
        (false, _) => format!("would not boot: {}", lacks.join("; ")),
        (true, true) => "whole, not known to have booted well".to_owned(),
        (true, false) => format!("has booted well as deployment {}", list(well.iter().map(ToString::to_string).collect())),
    };
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
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
        ("exclusive", size.map_or_else(|| "unknown".to_owned(), |s| mib(s.exclusive))),
        ("shared", size.map_or_else(|| "unknown".to_owned(), |s| mib(s.shared))),
        ("health", health),
    ];
    for (name, value) in rows {
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{name:<12} {value}");
    }
    for (n, line) in lines.iter().enumerate() {
        let _ = writeln!(out, "{:<12} {}  {}  {}", if n == 0 { "history" } else { "" }, utc(line.time), line.by, line.what);
    }
    print(&out)
}

fn list(ids: Vec<String>) -> String {
    if ids.is_empty() { "none".to_owned() } else { ids.join(", ") }
}
