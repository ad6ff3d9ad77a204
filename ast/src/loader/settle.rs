//! After a start that was reported well: the new GRUB takes the place of the old one, and at the next such start the old one goes.

use std::path::Path;

use super::document::{self, Loader, Stage};
use super::update::{dir_of, disk, machine};
use super::{LoaderError, Result, bios, build, esp};
use crate::id::CoreId;
use crate::layout::{self, GRUB_BUILDS};
use crate::store::machine::{Firmware, Machine};
use crate::store::{Locked, document as documents, stop_point};
use crate::sys::file;
use crate::volumes::{self, Mounts};

/// The number of this start of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What became of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// The firmware starts this version from now on; the old one is kept until that was seen.
    Switched(String),
    /// This version has started the machine by itself, and the old one is gone.
    Finished(String),
}

impl std::fmt::Display for Settled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Switched(version) => write!(f, "GRUB {version} started this machine well, and does so by itself from the next start on"),
            Self::Finished(version) => write!(f, "GRUB {version} starts this machine; the one before it is deleted"),
        }
    }
}

/// The booted system reported well: if a new GRUB started it, that goes one step on. `None` when there is nothing to do.
///
/// If interrupted: the firmware starts the old GRUB or the new one, both whole; the next call goes on.
pub fn reported_well(locked: &Locked) -> Result<Option<Settled>> {
    let mut loader = document::load(locked.layout())?;
    let Some(update) = &loader.update else { return Ok(None) };
    let by = locked.booted().and_then(|booted| booted.grub.as_ref());
    if by != Some(&update.build.id) && update.stage != Stage::Proven {
        return Ok(None);
    }
    let version = update.build.version.clone();
    match update.stage {
        // Once it has started the machine well, whatever starts it meanwhile: an interrupted switch goes on.
        Stage::Try | Stage::Proven => {
            switch(locked, &mut loader)?;
            Ok(Some(Settled::Switched(version)))
        }
        Stage::Switched if update.switched_in != Some(this_start()?) => {
            finish(locked, loader)?;
            Ok(Some(Settled::Finished(version)))
        }
        Stage::Switched => Ok(None),
    }
}

/// The firmware starts the build of the update; the old one is beside it.
///
/// If interrupted: the firmware starts the old one or the new one, both whole; called again it goes on.
/// Refuses: an image that is not as it was made, or does not read back.
pub(super) fn switch(locked: &Locked, loader: &mut Loader) -> Result<()> {
    let machine = machine(locked)?;
    let update = loader.update.as_ref().ok_or(LoaderError::NothingUnderway)?;
    let version = update.build.version.clone();
    let core = build::core_of(&dir_of(&locked.grub_dir(), &update.build.id), &update.build)?;
    if let Some(update) = loader.update.as_mut().filter(|update| update.stage == Stage::Try) {
        update.stage = Stage::Proven;
        document::save(locked.layout(), loader)?;
        stop_point("grub: proven");
    }
    match machine.firmware {
        Firmware::Bios => {
            let disk = disk(locked, loader, None)?;
            if !disk.starts(&core)? {
                let place = disk.place(bios::sectors(core.len() as u64))?;
                stop_point("grub: where the old one is");
                if let Some(update) = &mut loader.update {
                    update.old_core = Some(disk.core.start);
                }
                document::save(locked.layout(), loader)?;
                stop_point("grub: write the core image");
                disk.write(place, &core)?;
                stop_point("grub: the boot sector");
                disk.name(place)?;
            }
        }
        Firmware::Efi => {
            locked.medium()?.in_files(true, |dir| esp::switch(dir, &machine.fs_uuid, &core))?.ok_or(LoaderError::NothingOnEsp)?;
        }
    }
    stop_point("grub: switched");
    if let Some(update) = &mut loader.update {
        (update.stage, update.switched_in) = (Stage::Switched, Some(this_start()?));
    }
    document::save(locked.layout(), loader)?;
    record(locked, format!("GRUB {version} is what the firmware starts; the one before it is kept"));
    Ok(())
}

/// Only the new build is left, and the machine is described by it.
fn finish(locked: &Locked, mut loader: Loader) -> Result<()> {
    let Some(update) = loader.update.take() else { return Ok(()) };
    let old = machine(locked)?;
    let described = Machine { grub_version: Some(update.build.version.clone()), ..old.clone() };
    loader.current = Some(update.build);
    document::save(locked.layout(), &loader)?;
    stop_point("grub: the machine");
    documents::save(&locked.layout().document(layout::MACHINE), &described)?;
    stop_point("grub: the old one");
    clean(locked, old, &loader)?;
    let installed = described.grub_version.unwrap_or_default();
    record(locked, format!("GRUB {installed} has started this machine by itself; the one before it is deleted"));
    Ok(())
}

/// The update is given up: the old GRUB starts the machine, and nothing of the new one is left.
///
/// If interrupted: the firmware starts the old one or the new one, both whole; called again it goes on.
/// Refuses: when there is none, or the old one is not there any more.
pub fn give_up(locked: &Locked) -> Result<String> {
    let mut loader = document::load(locked.layout())?;
    let Some(update) = loader.update.clone() else { return Err(LoaderError::NothingUnderway) };
    let machine = machine(locked)?;
    stop_point("grub: take the word back");
    locked.medium()?.ask(None)?;
    let core = build::core_of(&dir_of(&locked.grub_dir(), &update.build.id), &update.build);
    match (machine.firmware, update.old_core, core) {
        (Firmware::Bios, Some(old), _) => {
            let disk = disk(locked, &loader, None)?;
            if disk.core.start != old {
                stop_point("grub: the old boot sector");
                disk.name(old)?;
            }
        }
        (Firmware::Efi, _, Ok(core)) => {
            locked.medium()?.in_files(true, |dir| esp::switch_back(dir, &machine.fs_uuid, &core))?.ok_or(LoaderError::NothingOnEsp)?;
        }
        (Firmware::Efi, _, Err(error)) if update.stage == Stage::Switched => return Err(error),
        _ => {}
    }
    stop_point("grub: given up");
    loader.update = None;
    document::save(locked.layout(), &loader)?;
    clean(locked, machine, &loader)?;
    record(locked, format!("GRUB {} is given up", update.build.version));
    Ok(update.build.version)
}

/// Nothing lies beside our files on the ESP, and no build is there that the document does not name.
fn clean(locked: &Locked, machine: &Machine, loader: &Loader) -> Result<()> {
    if machine.firmware == Firmware::Efi {
        locked.medium()?.in_files(true, |dir| esp::clean(dir, &machine.fs_uuid))?.unwrap_or_default();
    }
    collect(&locked.grub_dir(), loader)?;
    Ok(file::syncfs(&locked.grub_dir())?)
}

/// Builds that the document does not name are deleted. What the installer or `grub-install` put into GRUB's own directory stays.
pub(super) fn collect(grub_dir: &Path, loader: &Loader) -> Result<()> {
    let named = [loader.current.as_ref(), loader.update.as_ref().map(|update| &update.build)];
    for name in file::names(&grub_dir.join(GRUB_BUILDS))? {
        let id = name.to_str().and_then(|name| name.parse::<CoreId>().ok());
        let keep = named.iter().flatten().any(|build| Some(&build.id) == id.as_ref());
        if !keep {
            let mounts = Mounts::of_filesystem(grub_dir)?;
            volumes::remove(&grub_dir.join(GRUB_BUILDS).join(name), &mounts).map_err(crate::store::StoreError::from)?;
        }
    }
    Ok(())
}

/// A line of the history says so, if the disk takes one: what was done is done.
pub(super) fn record(locked: &Locked, what: String) {
    if let Err(error) = locked.note(what) {
        tracing::warn!("the history does not tell of it: {error}");
    }
}

/// The kernel's number of this start.
pub(super) fn this_start() -> Result<String> {
    Ok(String::from_utf8_lossy(&file::read(Path::new(BOOT_ID))?).trim().to_owned())
}
