//! `ast-sync`: ast itself, in every snapshot.

use serde_json::json;

use super::across::{self, Did, Place};
use super::context::{Global, print};
use super::error::{CommandError, Kind, chain};
use super::packages::feed;
use crate::exec::{Invocation, Options};
use crate::pacman::{self, PacmanError, Renewed};
use crate::store::Store;
use crate::{work, work::WorkingCopy};

/// The package that this is.
const PACKAGE: &str = "ast";
/// What `--help` adds.
const HELP: &str = "Every snapshot is asked, base 0 too, with its own repositories and its own keys. Only the package `ast` changes: where its \
new version needs more than that, the snapshot is left as it was, and the table at the end names it (exit code 1); `ast upgrade N` brings \
both. What runs now keeps its own ast until the next deploy.";

/// `ast ast-sync` has no words of its own.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {}

/// Every snapshot that has ast has its newest packaged version, or is as it was.
pub(super) fn run(_: &Args, global: &Global) -> Result<(), CommandError> {
    across::over(
        global,
        "ast-sync",
        None,
        all,
        |n| format!("bring ast to its newest version in snapshot {n}"),
        |place, copy| renew(place, copy, global),
    )
}

/// Every snapshot, parents first, each once (S11).
fn all(store: &Store) -> Result<Vec<Place>, CommandError> {
    Ok(store.tree()?.walk().map(|visit| Place { id: visit.node.id, above: visit.node.parent }).collect())
}

fn renew(place: Place, copy: &WorkingCopy, global: &Global) -> Result<Did, CommandError> {
    let layout = super::change::opened(global)?.layout().clone();
    // Databases of one snapshot are not another's: each may have mirrors and repositories of its own.
    let scratch = work::Place::claim(&layout)?;
    let change = match pacman::renew(copy, PACKAGE, &scratch.inside(), feed(global)) {
        Ok(Renewed::Absent) => return Ok(Did::Nothing("ast is not installed in it")),
        Ok(Renewed::Newest) => return Ok(Did::Nothing("it has the newest ast")),
        Ok(Renewed::Changed(change)) => change,
        Err(error) => {
            let alone = matches!(error, PacmanError::NotAlone { .. });
            let failure = CommandError::from(error);
            return Err(if alone { failure.hint(format!("`ast upgrade {}` brings ast and what it needs", place.id)) } else { failure });
        }
    };
    // A package says what it needs by name; whether the libraries that are here are new enough is seen by starting it.
    let started = copy.run(&Invocation::words([PACKAGE, "--version"]).map_err(PacmanError::from)?, Options::capture());
    let why = match started {
        Ok(ended) if ended.status.success() => None,
        Ok(ended) => Some(ended.tail()),
        Err(error) => Some(chain(&error)),
    };
    if let Some(why) = why {
        let message = format!("the new ast does not start with the libraries of this snapshot: {why}");
        return Err(CommandError::new(Kind::World, message)
            .hint(format!("`ast upgrade {}` brings both", place.id))
            .hint("the snapshot is as it was"));
    }
    if !global.json {
        print(&change.to_string())?;
    }
    Ok(Did::Changed(across::short(&change), json!({ "change": change })))
}
