//! `migrate`: a machine of the original Python program, taken over in place.

use std::time::Duration;

use serde_json::json;

use super::change::{attention, locked, opened};
use super::context::{Global, clean, print};
use super::error::{CommandError, Kind};
use crate::layout::Layout;
use crate::legacy::{self, LegacyError, Taken};
use crate::store::machine::Block;
use crate::store::{Done, Store};
use crate::sys::lock::Wait;

/// How long to wait for another ast.
const PATIENCE: Duration = Duration::from_secs(2);

/// Forward, in three steps, or back.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Second step: our boot script takes the place of the original's menu, which becomes an entry of ours
    #[arg(long, conflicts_with_all = ["finish", "undo"])]
    boot: bool,
    /// Last step: delete the original's own subvolumes and files
    #[arg(long, conflicts_with = "undo")]
    finish: bool,
    /// Go back, before anything was deployed: delete everything that ast made, so that the machine is the original's again
    #[arg(long)]
    undo: bool,
}

/// The original's snapshots are in a tree of ours; what it had is as it was and starts as before.
///
/// If interrupted: the machine is the original's.
/// Refuses: a machine that the original did not lay out.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    match args {
        Args { undo: true, .. } => return undo(global),
        Args { boot: true, .. } => return boot(global),
        Args { finish: true, .. } => return finish(global),
        _ => {}
    }
    let layout = Layout::of_sysroot(&global.sysroot);
    if !global.dry_run {
        global.may_write()?;
    }
    if !legacy::is_original(&layout) {
        // Whatever it is, opening says so.
        return match opened(global)?.machine().and_then(|machine| machine.migration) {
            Some(_) => global.nothing("nothing to do: it is taken over already"),
            None => Err(LegacyError::Nothing(layout.snapshots().to_owned()).into()),
        };
    }
    if global.dry_run {
        let taken = legacy::preview(&layout)?;
        tell(&taken, global);
        return global.plan(&taken.plan);
    }
    let taken = legacy::take(Store::take_over(&global.sysroot, Wait::Up(PATIENCE))?)?;
    tell(&taken, global);
    let count = taken.found.snapshots.len();
    if global.json {
        let ids: Vec<_> = taken.found.snapshots.keys().collect();
        global.print_json(&json!({ "snapshots": ids, "survivors": survivors(&taken), "notes": taken.found.notes }))?;
    } else {
        print(&format!("{count} snapshots are taken over\n"))?;
        global.say("everything of the original is as it was, and starts as before; `ast migrate --undo` goes back, `--boot` goes on");
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

/// Our boot script starts the machine.
fn boot(global: &Global) -> Result<(), CommandError> {
    if global.dry_run {
        let found = legacy::preview_boot(&opened(global)?)?;
        return global.plan(&format!(
            "start by our boot script:\n    make @root, @cache and whatever else is missing beside them\n    write the boot block ({})\n    keep @boot/grub/grub.cfg as @boot/grub/{}\n    replace @boot/grub/grub.cfg\n",
            place(&found.block),
            crate::grub::install::ORIGINAL_MENU
        ));
    }
    let found = legacy::take_boot(&locked(global)?)?;
    // The next repair writes the menu.
    let locked = locked(global)?;
    for note in &found.notes {
        global.say(clean(note));
    }
    if global.json {
        let (block, esp) = match &found.block {
            Block::Files { uuid } => ("files", Some(uuid)),
            Block::Raw => ("raw", None),
            Block::Local => ("local", None),
        };
        let version = &found.version;
        global.print_json(
            &json!({ "firmware": found.firmware, "block": block, "esp": esp, "grub_version": version, "notes": found.notes }),
        )?;
    } else {
        print(&format!("our boot script starts this machine; its boot block is {}\n", place(&found.block)))?;
        global.say("the original's system is started by it until a snapshot is deployed; its own menu is an entry of ours");
    }
    attention(&locked, &Done::default())
}

fn place(block: &Block) -> String {
    match block {
        Block::Files { uuid } => format!("on the EFI system partition {uuid}"),
        Block::Raw => "in two sectors of the disk".to_owned(),
        Block::Local => "a file that GRUB does not see".to_owned(),
    }
}

/// Nothing of the original's is left.
fn finish(global: &Global) -> Result<(), CommandError> {
    let names = legacy::preview_finish(&opened(global)?)?;
    let list: String = names.iter().map(|name| format!("    delete {name}\n")).collect();
    if global.dry_run {
        return global.plan(&format!("give up what the original ast had:\n{list}"));
    }
    global.may_write()?;
    global.confirm(&format!("Delete {} subvolumes of the original ast, and its tree file and descriptions?", names.len()))?;
    legacy::finish(&locked(global)?)?;
    // The next repair makes the links.
    let locked = locked(global)?;
    if global.json {
        global.print_json(&json!({ "deleted": names }))?;
    } else {
        global.say("nothing of the original is left");
    }
    attention(&locked, &Done::default())
}

fn undo(global: &Global) -> Result<(), CommandError> {
    if global.dry_run {
        return global.plan(
            "go back to the original ast:\n    delete the tree document\n    delete every set, deployment and document of ours\n",
        );
    }
    global.may_write()?;
    opened(global)?;
    global.confirm("Delete everything that was done with ast since it took this machine over?")?;
    legacy::undo(&locked(global)?)?;
    global.say("the machine is the original's again");
    if global.json { global.print_json(&json!({ "undone": true })) } else { Ok(()) }
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
