//! `tree-upgrade`, `tree-rmpkg`: the packages of a snapshot and of everything below it.

use serde_json::json;

use super::across::{self, Did};
use super::context::{Global, print};
use super::error::CommandError;
use super::packages::feed;
use crate::id::SnapshotId;
use crate::pacman::{self, Change, PacmanError};

/// What `--help` adds.
const UPGRADE_HELP: &str = "Parents come before their children. A snapshot whose upgrade fails is left as it was, the others go on, and the \
table at the end names it (exit code 1). Package files are fetched once and shared by all.";
/// The same for the other verb.
const REMOVE_HELP: &str = "A snapshot that has none of the packages is passed over. One where they cannot be removed is left as it was, the \
others go on, and the table at the end names it (exit code 1).";

/// Which tree is upgraded.
#[derive(Debug, clap::Args)]
#[command(after_long_help = UPGRADE_HELP)]
pub(super) struct UpgradeArgs {
    /// The snapshot; everything below it too
    #[arg(value_name = "TREE")]
    snapshot: SnapshotId,
}

/// What is removed where.
#[derive(Debug, clap::Args)]
#[command(after_long_help = REMOVE_HELP)]
pub(super) struct RemoveArgs {
    /// The snapshot; everything below it too
    #[arg(value_name = "TREE")]
    snapshot: SnapshotId,
    /// The packages
    #[arg(required = true, value_name = "PACKAGE")]
    packages: Vec<String>,
}

/// Each snapshot is as new as the repositories, or as it was.
pub(super) fn upgrade(args: &UpgradeArgs, global: &Global) -> Result<(), CommandError> {
    across::each(
        global,
        "tree-upgrade",
        args.snapshot,
        |n| format!("upgrade snapshot {n}"),
        |_, copy| did(&pacman::upgrade(copy, feed(global))?, "nothing to upgrade", global),
    )
}

/// The packages are in none of the snapshots any more, but for those that are as they were.
pub(super) fn remove(args: &RemoveArgs, global: &Global) -> Result<(), CommandError> {
    pacman::check_names(&args.packages)?;
    let line = args.packages.join(" ");
    across::each(
        global,
        "tree-rmpkg",
        args.snapshot,
        |n| format!("remove {line} from snapshot {n}"),
        |_, copy| {
            let there = pacman::held(&copy.parts().root, &args.packages).map_err(PacmanError::from)?;
            if there.is_empty() {
                return Ok(Did::Nothing("it has no such package"));
            }
            did(&pacman::remove(copy, &there, feed(global))?, "there was nothing to remove", global)
        },
    )
}

fn did(change: &Change, nothing: &'static str, global: &Global) -> Result<Did, CommandError> {
    if change.is_empty() {
        return Ok(Did::Nothing(nothing));
    }
    if !global.json {
        print(&change.to_string())?;
    }
    Ok(Did::Changed(across::short(change), json!({ "change": change })))
}
