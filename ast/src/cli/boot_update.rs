//! `boot-update`: the initramfs of a snapshot anew.

use serde_json::json;

use super::change::opened;
use super::context::Global;
use super::error::{CommandError, Kind};
use super::inside::{self, Outcome};
use crate::exec::{Invocation, Options, Program, Streams};
use crate::id::SnapshotId;

/// Whose.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot; without it that of the default
    snapshot: Option<SnapshotId>,
}

/// The images of the snapshot are built anew, with its settings of now, and so is the menu. What boots today is a copy and stays as it is:
/// a deploy makes the new images boot, and counts their starts as those of any other (B2).
///
/// If interrupted: the snapshot is as it was.
/// Refuses: the base; images that lack something to start with which the ones before had.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let n = match args.snapshot {
        Some(n) => n,
        None => of_default(global)?,
    };
    inside::change(global, n, false, &format!("build the initramfs of snapshot {n}"), |copy| {
        let streams = if global.json || global.quiet { Streams::Capture } else { Streams::Show };
        let ended = copy.run(&Invocation::new(Program::Mkinitcpio).arg("-P"), Options::new(streams))?;
        if !ended.status.success() {
            return Err(CommandError::new(Kind::World, format!("mkinitcpio failed in snapshot {n} ({})\n{}", ended.status, ended.tail()))
                .hint("the snapshot is as it was; `ast chroot` and look at its /etc/mkinitcpio.conf"));
        }
        global.say(format_args!("`ast deploy {n}` boots it"));
        Ok(Outcome::Save(json!({ "snapshot": n })))
    })
}

/// The snapshot that boots when nothing is on trial.
fn of_default(global: &Global) -> Result<SnapshotId, CommandError> {
    let store = opened(global)?;
    let default = store.marks().default;
    default.ok_or_else(|| CommandError::refused("it is not known which snapshot is the default").hint("name one: `ast boot-update N`"))
}
