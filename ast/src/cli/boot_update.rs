//! `boot-update`: the initramfs of a snapshot anew.

use std::time::Duration;

use serde_json::json;

use super::change::{locked, opened};
use super::context::{Global, clean};
use super::error::{CommandError, Kind, chain};
use super::inside::{self, Outcome};
use crate::exec::{Invocation, Options, Program, Streams};
use crate::grub::other::OtherSystem;
use crate::id::SnapshotId;
use crate::others;
use crate::sys::lock::Wait;

/// Whose.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot; without it that of the default
    snapshot: Option<SnapshotId>,
    /// No images: only the menu, with the other systems that are on this machine now
    #[arg(long, conflicts_with = "snapshot")]
    menu: bool,
}

/// How long the menu waits for another ast to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The images of the snapshot are built anew, with its settings of now, and so is the menu. What boots today is a copy and stays as it is:
/// a deploy makes the new images boot, and counts their starts as those of any other (B2). Other systems are looked for, where
/// `/etc/default/grub` of the default asks for them.
///
/// If interrupted: the snapshot is as it was.
/// Refuses: the base; images that lack something to start with which the ones before had.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    if args.menu {
        return menu(global);
    }
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
    })?;
    if global.dry_run {
        return Ok(());
    }
    // The images are done: what other disks hold does not undo that.
    match others::refresh(&global.sysroot, Wait::Up(PATIENCE)) {
        Ok(found) => told(global, found.as_deref()),
        Err(error) => global.say(format_args!("warning: the menu has no news of other systems: {}", chain(&error))),
    }
    Ok(())
}

/// The menu says what tree, boot block and `/etc/default/grub` of the default say, and which other systems there are.
///
/// If interrupted: GRUB reads it, or the one before.
fn menu(global: &Global) -> Result<(), CommandError> {
    if global.dry_run {
        return global.plan("look for other systems, if /etc/default/grub of the default asks for them, and write the menu\n");
    }
    // Whatever else the menu has to follow, repair sees to.
    drop(locked(global)?);
    let found = others::refresh(&global.sysroot, Wait::Up(PATIENCE))
        .map_err(|error| CommandError::new(Kind::World, chain(&error)).hint("the menu lists the systems that were known before"))?;
    told(global, found.as_deref());
    let titles: Option<Vec<&str>> = found.as_ref().map(|found| found.iter().map(OtherSystem::title).collect());
    if global.json { global.print_json(&json!({ "others": titles })) } else { Ok(()) }
}

/// What was found, a line each.
fn told(global: &Global, found: Option<&[OtherSystem]>) {
    for other in found.unwrap_or_default() {
        global.say(format_args!("the menu lists {}", clean(other.title())));
    }
    if found.is_some_and(<[_]>::is_empty) {
        global.say("no other system was found");
    }
}

/// The snapshot that boots when nothing is on trial.
fn of_default(global: &Global) -> Result<SnapshotId, CommandError> {
    let store = opened(global)?;
    let default = store.marks().default;
    default.ok_or_else(|| CommandError::refused("it is not known which snapshot is the default").hint("name one: `ast boot-update N`"))
}
