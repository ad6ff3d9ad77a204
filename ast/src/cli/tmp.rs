//! `tmp`, `unlock`: what dead sessions left is cleared.

use serde_json::json;

use super::change::{attention_to, locked, opened};
use super::context::{Global, print};
use super::error::CommandError;
use crate::id::SnapshotId;
use crate::store::Store;
use crate::volumes;
use crate::work::Token;

/// `ast tmp` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct TmpArgs {}

/// Whose session is meant.
#[derive(Debug, clap::Args)]
pub(super) struct UnlockArgs {
    /// The snapshot
    snapshot: SnapshotId,
}

/// No working copy is left whose owner is dead. Those of live processes are named and left.
///
/// If interrupted: some are gone, the next command of ast clears the rest.
pub(super) fn tmp(_: &TmpArgs, global: &Global) -> Result<(), CommandError> {
    clear(global)
}

/// The same, for whoever remembers the snapshot: copies are owned by their processes, so none locks a snapshot.
///
/// Refuses: a snapshot that is not there.
pub(super) fn unlock(args: &UnlockArgs, global: &Global) -> Result<(), CommandError> {
    opened(global)?.tree()?.get(args.snapshot)?;
    clear(global)
}

fn clear(global: &Global) -> Result<(), CommandError> {
    let before = Copies::of(&opened(global)?)?;
    if global.dry_run {
        let lines: String = before.dead.iter().map(|name| format!("clear working copy {name}\n")).collect();
        return global.plan(if lines.is_empty() { "nothing to do\n" } else { &lines });
    }
    // Taking the lock repairs, and that clears them: there is no second way.
    let locked = locked(global)?;
    let after = Copies::of(&locked)?;
    let gone: Vec<&String> = before.dead.iter().filter(|name| !after.dead.contains(name)).collect();
    if global.json {
        global.print_json(&json!({ "cleared": gone, "left": after.dead, "alive": after.alive }))?;
    } else {
        print(&gone.iter().map(|name| format!("cleared working copy {name}, whose owner is gone\n")).collect::<String>())?;
        for name in &after.alive {
            global.say(format_args!("working copy {name} belongs to a live process and stays"));
        }
        if gone.is_empty() {
            global.say("nothing to clear");
        }
    }
    attention_to(&locked)
}

/// Names in `work`, by whether somebody owns them.
#[derive(Debug, Default)]
struct Copies {
    alive: Vec<String>,
    dead: Vec<String>,
}

impl Copies {
    fn of(store: &Store) -> Result<Self, CommandError> {
        let mut copies = Self::default();
        for name in volumes::work_copies(store.layout()).map_err(crate::store::StoreError::from)? {
            match name.parse::<Token>() {
                Ok(owner) if owner.is_alive() => copies.alive.push(name),
                Ok(_) => copies.dead.push(name),
                // Not of ours: `ast doctor` explains it.
                Err(_) => {}
            }
        }
        Ok(copies)
    }
}
