//! `boot-update`: the initramfs of a snapshot anew; with `--grub`, GRUB itself.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::change::{attention, locked, opened};
use super::context::{Global, clean, print};
use super::error::{CommandError, Kind, chain};
use super::inside::{self, Outcome};
use crate::exec::{Invocation, Options, Program, Streams};
use crate::grub::other::OtherSystem;
use crate::id::SnapshotId;
use crate::loader::{self, LoaderError, Wish};
use crate::others;
use crate::store::Done;
use crate::sys::lock::Wait;
use crate::work::renew_kernels;

/// Whose, and what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot; without it that of the default
    snapshot: Option<SnapshotId>,
    /// No images: only the menu, with the other systems that are on this machine now
    #[arg(long, conflicts_with_all = ["snapshot", "grub"])]
    menu: bool,
    /// GRUB itself, out of the snapshot's package: the next start tries it once, and the old one stays until the new one has booted well
    #[arg(long)]
    grub: bool,
    /// With --grub: also a release older than the one that is there
    #[arg(long, requires = "grub")]
    allow_older: bool,
    /// With --grub: no trial, the next start is by the new one (undone only by hand, if it comes to nothing)
    #[arg(long, requires = "grub")]
    untried: bool,
    /// With --grub: give up the new one, as long as the old one is there
    #[arg(long, requires = "grub", conflicts_with_all = ["untried", "allow_older", "snapshot"])]
    undo: bool,
    /// With --grub, on a BIOS: the disk whose boot sector starts this machine, where that is not plain
    #[arg(long, requires = "grub", value_name = "DEVICE")]
    disk: Option<PathBuf>,
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
    if args.grub {
        return if args.undo { undo(global) } else { grub(args, global) };
    }
    let n = match args.snapshot {
        Some(n) => n,
        None => of_default(global)?,
    };
    inside::change(global, n, false, &format!("build the initramfs of snapshot {n}"), |copy| {
        let streams = if global.json || global.quiet { Streams::Capture } else { Streams::Show };
        for name in renew_kernels(copy)? {
            global.say(format_args!("/boot/{name} of snapshot {n} had rotted on disk"));
        }
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

/// GRUB of the snapshot, or of what is the default, is tried by the next start (C1).
///
/// If interrupted: the old GRUB starts, and tries the new one or does not.
fn grub(args: &Args, global: &Global) -> Result<(), CommandError> {
    let wish = Wish { from: args.snapshot, older: args.allow_older, untried: args.untried, disk: args.disk.clone() };
    if global.dry_run {
        return match loader::prepare(&opened(global)?, &wish)? {
            None => global.plan("nothing to do: this GRUB starts the machine already\n"),
            Some(ready) => {
                let then = if wish.untried { "put it where the firmware starts it" } else { "ask the old GRUB to try it once, at the next start" };
                global.plan(&format!(
                    "GRUB {} of {} in the place of {}:\n    build it as @boot/grub/{}/{}\n    replace @boot/grub/grub.cfg\n  * {then}\n",
                    ready.version(),
                    ready.from(),
                    ready.installed.as_deref().unwrap_or("one of an unknown release"),
                    crate::layout::GRUB_BUILDS,
                    ready.id()
                ))
            }
        };
    }
    let locked = locked(global)?;
    let Some(ready) = loader::prepare(&locked, &wish)? else {
        return global.nothing("nothing to do: this GRUB starts the machine already");
    };
    loader::begin(&locked, ready)?;
    tell(global, &locked)?;
    attention(&locked, &Done::default())
}

/// The new GRUB is given up.
fn undo(global: &Global) -> Result<(), CommandError> {
    if global.dry_run {
        let look = loader::look(&opened(global)?);
        let Some(new) = look.new else { return Err(LoaderError::NothingUnderway.into()) };
        return global.plan(&format!("give up GRUB {new}:\n  * the old one starts this machine\n    delete the new one\n"));
    }
    let locked = locked(global)?;
    let version = loader::give_up(&locked)?;
    if !global.json {
        print(&format!("GRUB {version} is given up, the one before it starts this machine\n"))?;
    }
    tell(global, &locked)
}

fn tell(global: &Global, store: &crate::store::Store) -> Result<(), CommandError> {
    let look = loader::look(store);
    if global.json { global.print_json(&json!({ "grub": look })) } else { print(&format!("GRUB {look}\n")) }
}

impl From<LoaderError> for CommandError {
    fn from(error: LoaderError) -> Self {
        let kind = if error.is_refusal() { Kind::Refused } else { Kind::World };
        let failure = Self::new(kind, super::error::chain(&error));
        match error {
            LoaderError::Store(error) => error.into(),
            LoaderError::OnTrial(_) => failure.hint("wait until it is promoted, or `ast bad`"),
            LoaderError::Underway(_) => failure.hint("restart, and let that start be reported well; `ast boot-update --grub --undo` gives it up"),
            LoaderError::NoGrub { .. } => failure.hint("`ast install N grub`, and then `ast boot-update N --grub`"),
            LoaderError::Older { .. } => failure.hint("--allow-older takes it all the same"),
            LoaderError::CannotTry => failure.hint("--untried puts it in its place at once: if it comes to nothing, somebody has to undo that from another system"),
            LoaderError::ForeignBootSector(_) | LoaderError::OddCore { .. } => {
                failure.hint("`grub-install` puts GRUB there, if that is meant; nothing was changed")
            }
            LoaderError::SeveralDisks(_) | LoaderError::NoDisk => failure.hint("--disk DEVICE names the one that the firmware starts"),
            LoaderError::NoRoom { .. } => failure.hint("`grub-install` puts a smaller core image there; nothing was changed"),
            LoaderError::NothingOnEsp => failure.hint("`grub-install` puts GRUB there; nothing was changed"),
            LoaderError::EspFull { .. } => failure.hint("delete what nobody needs there; nothing was changed"),
            LoaderError::ReadBack { .. } => failure.hint("the medium does not keep what is written: replace it"),
            _ => failure,
        }
    }
}
