//! What people are told of it.

use serde::Serialize;

use super::document::{self, Stage};
use super::settle::this_start;
use super::update::{dir_of, disk, machine};
use super::{Result, build, esp};
use crate::store::Store;
use crate::store::machine::Firmware;

/// How far a new GRUB is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pending {
    /// The next start tries it.
    Asked,
    /// It runs, and was not reported well yet.
    Running,
    /// It was tried, and the old one started after it; or this start was not reported well.
    Failed,
    /// It started the machine well, and is about to take the place of the old one.
    Proven,
    /// It took that place, and another one started the machine since.
    Bypassed,
    /// The firmware starts it next; the old one is kept until that was reported well.
    Switched,
}

/// GRUB as `status` tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    /// Version of the one that was there, or has come to stay.
    pub version: Option<String>,
    /// Version of the new one.
    pub new: Option<String>,
    /// How far that is.
    pub state: Option<Pending>,
}

impl std::fmt::Display for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let old = self.version.as_deref().unwrap_or("of an unknown release");
        let Some((new, state)) = self.new.as_ref().zip(self.state) else { return f.write_str(old) };
        match state {
            Pending::Asked => write!(f, "{old}; the next start tries {new}, once"),
            Pending::Running => write!(f, "{new} runs on trial; {old} starts this machine until this start is reported well"),
            Pending::Failed => write!(f, "{old}; {new} was tried and did not start this machine well"),
            Pending::Proven => write!(f, "{old}; {new} started this machine well, and takes its place at the next start that is reported well"),
            Pending::Bypassed => write!(f, "{new} is in its place, and yet another one started this machine"),
            Pending::Switched => write!(f, "{new}; {old} is kept until {new} has started this machine by itself"),
        }
    }
}

/// What is there and what is under way. What cannot be read without root is not told.
pub fn look(store: &Store) -> Look {
    let loader = document::load(store.layout()).unwrap_or_default();
    let by = store.booted().and_then(|booted| booted.grub.as_ref());
    let version = loader.current.map(|build| build.version).or_else(|| store.machine()?.grub_version.clone());
    let Some(update) = loader.update else { return Look { version, new: None, state: None } };
    let state = match update.stage {
        Stage::Proven => Pending::Proven,
        Stage::Switched if by != Some(&update.build.id) && store.booted().is_some() && update.switched_in != this_start().ok() => Pending::Bypassed,
        Stage::Switched => Pending::Switched,
        Stage::Try if by == Some(&update.build.id) => Pending::Running,
        Stage::Try => match store.medium().map(|medium| medium.asked()) {
            Ok(Ok(asked)) if asked.as_ref() == Some(&update.build.id) => Pending::Asked,
            Ok(Ok(_)) => Pending::Failed,
            _ => return Look { version, new: Some(update.build.version), state: None },
        },
    };
    Look { version, new: Some(update.build.version), state: Some(state) }
}

/// What is wrong with the GRUB that starts this machine, a line each. Looks only where root may.
pub fn complaints(store: &Store) -> Vec<String> {
    if !nix::unistd::geteuid().is_root() || store.starts_with_original() || store.machine().is_none() {
        return Vec::new();
    }
    let look = look(store);
    let failed = match look.state {
        Some(Pending::Failed) => Some(format!("GRUB {look}: `ast boot-update --grub` tries again, `--undo` deletes it")),
        Some(Pending::Bypassed) => Some(format!("GRUB {look}: the firmware starts another disk or file")),
        _ => None,
    };
    let found = on_disk(store).unwrap_or_else(|error| vec![error.to_string()]);
    failed.into_iter().chain(found).collect()
}

fn on_disk(store: &Store) -> Result<Vec<String>> {
    let (machine, loader) = (machine(store)?, document::load(store.layout())?);
    let mut found = Vec::new();
    let grub_dir = store.grub_dir();
    let builds = loader.current.iter().chain(loader.update.iter().map(|update| &update.build));
    let mut cores = Vec::new();
    for build in builds {
        match build::core_of(&dir_of(&grub_dir, &build.id), build) {
            Ok(core) => cores.push(core),
            Err(error) => found.push(format!("GRUB {}: {error}", build.version)),
        }
    }
    match machine.firmware {
        // Without a build of ours there is nothing to compare with, and its disk need not be known.
        Firmware::Bios if loader.current.is_some() => {
            let disk = disk(store, &loader, None)?;
            let mut known = false;
            for core in &cores {
                known |= disk.starts(core)?;
            }
            if !known {
                found.push(format!("the core image at sector {} of {} is none of ours", disk.core.start, disk.target.file.display()));
            }
        }
        Firmware::Bios => {}
        Firmware::Efi => {
            let there = store.medium()?.in_files(false, |dir| -> Result<bool> {
                drop(esp::ours(dir, &machine.fs_uuid)?);
                esp::has_fallback(dir, &machine.fs_uuid)
            })?;
            if there == Some(false) {
                found.push(r"\EFI\BOOT\BOOTX64.EFI is not there or not ours: a machine that loses its boot entries would not start".to_owned());
            }
        }
    }
    Ok(found)
}
