//! `refresh`: newer package databases, where no partial upgrade can come of them.

use serde_json::json;

use super::context::{Global, print};
use super::error::CommandError;
use super::inside::{self, Ended, Outcome};
use super::packages::feed;
use crate::id::SnapshotId;
use crate::pacman::{self, Change, Refreshed};

/// What `--help` adds.
const HELP: &str = "The new databases are kept only when nothing that is installed is older than what they offer: a later `ast install` then \
finds new packages, and cannot become a partial upgrade. Otherwise the snapshot is left as it was, and what `ast upgrade` would bring is listed.";

/// Whose databases.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
}

/// The databases of the snapshot are those of the mirrors, or it is as it was and what an upgrade would bring is on standard output.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let n = args.snapshot;
    let what = format!("refresh the databases of snapshot {n}");
    inside::no_base(n)?;
    if global.dry_run {
        return global.plan(&inside::planned(global, n, &what)?);
    }
    let set = inside::begin(global, n)?;
    let mut pending = Change::default();
    let ended = inside::once(global, set, &what, None, |copy| {
        Ok(match pacman::refresh(copy, feed(global))? {
            Refreshed::Same => Outcome::Nothing("nothing to do: the databases are as new as the mirrors'"),
            Refreshed::New => Outcome::Save(json!({})),
            Refreshed::Behind(change) => {
                pending = change;
                Outcome::Nothing("the databases are left as they are, so that no install mixes old and new: `ast upgrade` brings both")
            }
        })
    })?;
    let (saved, words, attention) = match ended {
        Ended::Saved(saved) => (Some(saved.set), format!("saved as generation {} of snapshot {n}", saved.set.generation), saved.attention),
        Ended::Nothing(why) | Ended::Told(why) => (None, why.to_owned(), Ok(())),
    };
    if global.json {
        global.print_json(&json!({ "snapshot": n, "set": saved, "pending": pending }))?;
    } else {
        print(&pending.to_string())?;
        global.say(words);
    }
    attention
}
