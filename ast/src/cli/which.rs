//! `which`: the snapshots that hold a package.

use serde_json::json;

use super::change::opened;
use super::context::{Global, clean, print};
use super::error::{CommandError, Kind, chain};
use crate::layout::Part;
use crate::pacman;

/// Which package.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The package
    package: String,
}

/// The snapshots that hold the package, and its version there, are on standard output.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    pacman::check_names(std::slice::from_ref(&args.package))?;
    let store = opened(global)?;
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    for visit in store.tree()?.walk() {
        match pacman::installed(&store.layout().set_part(visit.node.set(), Part::Root)) {
            Ok(packages) => found.extend(packages.get(&args.package).cloned().map(|package| (visit.node, package))),
            Err(error) => {
                global.say(format_args!("the packages of snapshot {} cannot be read: {}", visit.node.id, chain(&error)));
                unknown.push(visit.node.id);
            }
        }
    }
    if global.json {
        let row = |(node, package): &(&crate::tree::Node, pacman::Package)| json!({ "snapshot": node.id, "description": node.description, "version": package.version, "explicit": package.explicit });
        let rows: Vec<_> = found.iter().map(row).collect();
        global.print_json(&json!({ "package": args.package, "snapshots": rows, "unknown": unknown }))?;
    } else {
        let width = found.iter().map(|(_, package)| package.version.len()).max().unwrap_or_default();
        let line = |(node, package): &(&crate::tree::Node, pacman::Package)| {
            format!("{:<8}  {:<width$}  {}", node.id.to_string(), package.version, clean(&node.description)).trim_end().to_owned() + "\n"
        };
        print(&found.iter().map(line).collect::<String>())?;
        if found.is_empty() {
            global.say(format_args!("no snapshot has {}", args.package));
        }
    }
    if unknown.is_empty() {
        return Ok(());
    }
    let list = unknown.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(CommandError::new(Kind::Attention, format!("the packages of these snapshots are not known: {list}")).hint("`ast doctor` says more"))
}
