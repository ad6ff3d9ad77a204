//! `sync`, `force-sync`: what a snapshot has and its children lack is added below it.

use serde_json::json;

use super::across::{self, Did, Place};
use super::change::opened;
use super::context::Global;
use super::error::CommandError;
use super::packages::feed;
use crate::etc;
use crate::id::SnapshotId;
use crate::layout::Part;
use crate::pacman::{self, Change, PacmanError};
use crate::work::{Parts, WorkingCopy};

/// What `--help` adds.
const HELP: &str = "What somebody asked for in a snapshot and its child does not have is installed in the child, and so on down the tree; what a \
child removed on purpose comes back. Files in /etc that the parent changed follow where the child never touched them: files of packages that \
are still as packaged in the child, and files of no package that it lacks. Accounts, host keys and the machine's id stay.\n\n\
`sync` upgrades every snapshot of the tree first, so that all are of one age. `force-sync` upgrades nothing and fetches nothing: it installs \
the very package files of the parent out of the cache, and leaves a child alone where that would mix old and new packages (something they \
need is there in another version).\n\nA snapshot where it fails is left as it was, the others go on, and the table at the end names it (exit \
code 1).";

/// Which tree.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The snapshot; everything below it too
    #[arg(value_name = "TREE")]
    snapshot: SnapshotId,
}

/// Whether everything is upgraded first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// `sync`.
    Upgraded,
    /// `force-sync`.
    AsItIs,
}

impl How {
    const fn verb(self) -> &'static str {
        match self {
            Self::Upgraded => "sync",
            Self::AsItIs => "force-sync",
        }
    }
}

/// Each snapshot below has what the one above it has, or is as it was.
pub(super) fn run(args: &Args, how: How, global: &Global) -> Result<(), CommandError> {
    if global.dry_run {
        return plan(args.snapshot, how, global);
    }
    let verb = how.verb();
    across::each(global, verb, args.snapshot, |n| format!("{verb} snapshot {n}"), |place, copy| one(place, how, copy, global))
}

fn one(place: Place, how: How, copy: &WorkingCopy, global: &Global) -> Result<Did, CommandError> {
    let root = &copy.parts().root;
    let before = pacman::installed(root).map_err(PacmanError::from)?;
    if how == How::Upgraded {
        pacman::upgrade(copy, feed(global))?;
    }
    let (mut brought, mut left) = (Vec::new(), Vec::new());
    if let Some(above) = place.above {
        // As it is now: what it got a moment ago goes on down.
        let store = opened(global)?;
        let parent = Parts::of_set(store.layout(), store.set_of(above)?);
        match how {
            How::Upgraded => pacman::share(copy, &parent.root, feed(global))?,
            How::AsItIs => pacman::share_from_cache(copy, &parent.root, feed(global))?,
        };
        let owned = |root| pacman::owned_in_etc(root).map_err(PacmanError::from);
        let found = etc::bring(&parent.etc, &owned(&parent.root)?, &copy.parts().etc, &owned(root)?).map_err(PacmanError::from)?;
        let text = |path: &std::path::PathBuf| format!("/etc/{}", path.display());
        brought = found.brought.iter().map(text).collect();
        left = found.left.iter().map(text).collect();
    }
    let change = before.change_to(&pacman::installed(root).map_err(PacmanError::from)?);
    for path in &left {
        tracing::info!("snapshot {}: {path} is its own and stays", place.id);
    }
    if change.is_empty() && brought.is_empty() {
        return Ok(Did::Nothing("it lacks nothing"));
    }
    Ok(Did::Changed(words(&change, &brought, &left), json!({ "change": change, "etc": brought, "left": left })))
}

fn words(change: &Change, brought: &[String], left: &[String]) -> String {
    let packages = (!change.is_empty()).then(|| across::short(change));
    let files = (!brought.is_empty()).then(|| brought.join(", "));
    let own = (!left.is_empty()).then(|| format!("its own: {}", left.join(", ")));
    packages.into_iter().chain(files).chain(own).collect::<Vec<_>>().join("; ")
}

/// What would be installed where, by the sets of now, is on standard output.
fn plan(n: SnapshotId, how: How, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let set = |n: SnapshotId| -> Result<_, CommandError> {
        Ok(pacman::installed(&store.layout().set_part(store.set_of(n)?, Part::Root)).map_err(PacmanError::from)?)
    };
    let mut text = String::new();
    for place in across::places(&store, how.verb(), n)? {
        let mut steps = if how == How::Upgraded { "    upgrade it\n".to_owned() } else { String::new() };
        if let Some(above) = place.above {
            let lacking = pacman::lacking(&set(above)?, &set(place.id)?);
            steps.extend(lacking.iter().map(|p| format!("    install {} {} of snapshot {above}\n", p.name, p.version)));
            steps.push_str(&format!("    copy what snapshot {above} changed in /etc and this one never touched\n"));
        }
        text.push_str(&format!("{} snapshot {} in a working copy:\n{steps}  * seal it as the next generation\n", how.verb(), place.id));
    }
    global.plan(&text)
}
