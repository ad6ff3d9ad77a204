//! `migrate`: a machine of the original Python program, taken over in place.

use std::time::Duration;

use serde_json::json;

use super::change::{attention, locked, opened};
use super::context::{Global, clean, print};
use super::error::{CommandError, Kind};
use crate::layout::Layout;
use crate::legacy::{self, LegacyError, Taken};
use crate::store::Store;
use crate::sys::lock::Wait;

/// How long to wait for another ast.
const PATIENCE: Duration = Duration::from_secs(2);

/// Forward, or back.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Go back: delete everything that ast made, so that the machine is the original's again
    #[arg(long)]
    undo: bool,
}

/// The original's snapshots are in a tree of ours; what it had is as it was and starts as before.
///
/// If interrupted: the machine is the original's.
/// Refuses: a machine that the original did not lay out.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    if args.undo {
        return undo(global);
    }
    let layout = Layout::of_sysroot(&global.sysroot);
    if !global.dry_run {
        global.may_write()?;
    }
    if !legacy::is_original(&layout) {
        // Whatever it is, opening says so.
        return match opened(global)?.machine().and_then(|machine| machine.migration) {
            Some(_) => {
                global.say("nothing to do: it is taken over already");
                Ok(())
            }
            None => Err(LegacyError::Nothing(layout.snapshots().to_owned()).into()),
        };
    }
    if global.dry_run {
        let taken = legacy::preview(&layout)?;
        tell(&taken, global);
        return print(&taken.plan);
    }
    let taken = legacy::take(Store::take_over(&global.sysroot, Wait::Up(PATIENCE))?)?;
    tell(&taken, global);
    let count = taken.found.snapshots.len();
    if global.json {
        let ids: Vec<_> = taken.found.snapshots.keys().collect();
        global.print_json(&json!({ "snapshots": ids, "survivors": survivors(&taken), "notes": taken.found.notes }))?;
    } else {
        print(&format!("{count} snapshots are taken over\n"))?;
        global.say("everything of the original is as it was, and starts as before; `ast migrate --undo` goes back");
    }
    // The first repair writes what follows from the tree.
    let locked = locked(global)?;
    attention(&locked, &taken.done.unwrap_or_default())
}

fn survivors(taken: &Taken) -> Vec<crate::id::SnapshotId> {
    taken.found.snapshots.iter().filter(|(_, source)| source.survivor).map(|(id, _)| *id).collect()
}

fn tell(taken: &Taken, global: &Global) {
    for note in &taken.found.notes {
        global.say(clean(note));
    }
}

fn undo(global: &Global) -> Result<(), CommandError> {
    if global.dry_run {
        return print(
            "go back to the original ast:\n    delete the tree document\n    delete every set, deployment and document of ours\n",
        );
    }
    global.may_write()?;
    opened(global)?;
    global.confirm("Delete everything that was done with ast since it took this machine over?")?;
    legacy::undo(&locked(global)?)?;
    global.say("the machine is the original's again");
    Ok(())
}

impl From<LegacyError> for CommandError {
    fn from(error: LegacyError) -> Self {
        match error {
            LegacyError::Store(error) => error.into(),
            error => {
                let kind = if error.is_refusal() { Kind::Refused } else { Kind::World };
                Self::new(kind, super::error::chain(&error))
            }
        }
    }
}
