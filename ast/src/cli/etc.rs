//! `etc-update`: the booted `/etc` into its snapshot.

use serde_json::json;

use super::change::{attention, locked, look_at, opened, tell};
use super::context::Global;
use super::error::CommandError;
use super::inside;
use crate::deploy::{booted_etc, only_here, plan_save_etc};
use crate::etc::{self, Edited, Goal};
use crate::id::SnapshotId;
use crate::layout::Part;
use crate::work::WorkingCopy;

/// `ast etc-update` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// What was changed in the booted `/etc` is in its snapshot, beside what the snapshot got since the machine was booted from it. What makes
/// this machine this one (its id, its host keys) stays out: a snapshot may be copied, and every deployment gets it anyway.
///
/// If interrupted: the snapshot is as before or as after.
/// Refuses: an `/etc` that ends with this boot; the base; a snapshot that is gone, or that somebody saved meanwhile.
pub(super) fn run(_: &Args, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let (d, set) = booted_etc(&store).map_err(|why| CommandError::from(why).hint("boot a deployment: `ast deploy N` makes one"))?;
    let n = set.snapshot;
    if n == SnapshotId::BASE {
        return Err(CommandError::refused("snapshot 0 is the base and is booted: its /etc is not changed this way")
            .hint("`ast rollback` saves what is booted, its /etc included, as a new tree"));
    }
    if global.dry_run {
        let report = only_here(&store, d, n, Goal::Snapshot)?;
        if report.is_as_packaged() {
            return global.plan("nothing to do\n");
        }
        let lines: String = report.lines().iter().map(|line| format!("    {line}\n")).collect();
        return global.plan(&format!("save /etc of deployment {d}:\n{lines}  * seal it as the next generation of snapshot {n}\n"));
    }
    let from = inside::begin(global, n)?;
    let layout = store.layout();
    let copy = WorkingCopy::create(layout, from)?;
    // As it is at one instant: whoever edits it meanwhile is saved next time.
    let mine = copy.beside("mine", &layout.deployment_part(d, Part::Etc))?;
    let report = etc::merge(&Edited { mine: mine.clone(), ..Edited::of(layout, d) }, &copy.parts().etc, Goal::Snapshot)?;
    if report.is_as_packaged() {
        return global.nothing(&format!("nothing to do: snapshot {n} has all of the booted /etc"));
    }
    let ready = copy.finish()?;
    let mut locked = locked(global)?;
    let (plan, to) = plan_save_etc(&locked, d, &mine, from, ready.dir())?;
    let done = locked.run_sealing(plan, ready)?;
    let text = format!("the booted /etc is saved as generation {} of snapshot {n}\n", to.generation);
    tell(global, json!({ "snapshot": n, "deployment": d, "set": to.to_string() }), &text, Some(&report))?;
    look_at(Some(&report))?;
    attention(&locked, &done)
}
