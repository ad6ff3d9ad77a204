//! The beginning: everything that could refuse is looked at first, then the new build is put beside the old one, and one word asks for it.

use std::path::{Path, PathBuf};

use super::bios::{self, Disk};
use super::build::{Home, Source};
use super::document::{self, Build, Loader, Stage, Update};
use super::settle::{collect, record, switch};
use super::{LoaderError, Result, esp};
use crate::grub::defaults::Defaults;
use crate::grub::install::{is_vouched_for, write_script};
use crate::grub::{ScriptConfig, Serial, release, script};
use crate::id::{CoreId, SnapshotId};
use crate::install::Boot;
use crate::install::core_image::luks_key;
use crate::layout::{GRUB_BUILDS, Part};
use crate::store::machine::{Block, Firmware, Machine};
use crate::store::{Locked, Store, stop_point};
use crate::sys::file;
use crate::tree::Later;
use crate::volumes::MountEntry;
use crate::work::Parts;

/// A function of the script that knows of another GRUB.
const KNOWS: &str = "function ast_other_grub ";

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Whose GRUB; `None`: that of the deployment which booted well.
    pub from: Option<SnapshotId>,
    /// Also an older release than the one that is there.
    pub older: bool,
    /// Without a trial: the firmware starts it next.
    pub untried: bool,
    /// The disk with the boot sector, where there are several.
    pub disk: Option<PathBuf>,
}

/// What would be done. Nothing was changed yet.
#[derive(Debug)]
pub struct Ready {
    source: Source,
    id: CoreId,
    home: Home,
    config: ScriptConfig,
    loader: Loader,
    untried: bool,
    /// GRUB's version that is installed, as far as it is known.
    pub installed: Option<String>,
}

impl Ready {
    /// The new version.
    pub fn version(&self) -> &str {
        &self.source.version
    }

    /// Whose it is.
    pub fn from(&self) -> &str {
        &self.source.from
    }

    /// The new build.
    pub fn id(&self) -> &CoreId {
        &self.id
    }
}

/// Everything is known that an update needs; `None` when this very build starts the machine already.
///
/// Refuses: a machine of the original's boot loader, a trial in progress, a snapshot without GRUB or with an older one, a boot sector that is
/// not GRUB's, no room for a second core image, no ESP or none with our files, and a machine where GRUB could not count.
pub fn prepare(store: &Store, wish: &Wish) -> Result<Option<Ready>> {
    let machine = machine(store)?;
    let layout = store.layout();
    let mut loader = document::load(layout)?;
    let block = store.block()?;
    if let Some(trial) = block.trial {
        return Err(LoaderError::OnTrial(trial.deployment));
    }
    let medium = store.medium()?;
    if let Some(update) = &loader.update
        && (update.stage != Stage::Try || medium.asked()?.as_ref() == Some(&update.build.id))
    {
        return Err(LoaderError::Underway(update.build.version.clone()));
    }
    if !medium.asks() && !wish.untried {
        return Err(LoaderError::CannotTry);
    }
    let (from, parts) = match wish.from {
        Some(n) => (format!("snapshot {n}"), Parts::of_set(layout, store.set_of(n)?)),
        None => (format!("deployment {}", block.good), Parts::of_deployment(layout, block.good)),
    };
    let source = Source::find(from, parts, platform(machine.firmware))?;
    let installed = loader.current.as_ref().map(|build| build.version.clone()).or_else(|| machine.grub_version.clone());
    if let (false, Some(installed)) = (wish.older, &installed)
        && release::release(&source.version) < release::release(installed)
    {
        return Err(LoaderError::Older { from: source.from, new: source.version, installed: installed.clone() });
    }
    if machine.block == Block::Raw && !release::writes_raw(Some(&source.version)) {
        return Err(LoaderError::CannotCount(source.version));
    }
    let defaults = file::read_if_exists(&layout.deployment_part(block.good, Part::Etc).join("default/grub"))?.unwrap_or_default();
    let serial = Serial::from_defaults(&Defaults::parse(&String::from_utf8_lossy(&defaults)))?;
    let config = ScriptConfig { fs_uuid: machine.fs_uuid.clone(), block: machine.block.clone().into(), serial };
    let home = Home { fs_uuid: machine.fs_uuid.clone(), luks: machine.luks.clone(), key: luks_key(&store.grub_dir(), &machine.luks) };
    let id = source.id(&home, serial, script::render(&config)?.as_bytes())?;
    if loader.current.as_ref().is_some_and(|build| build.id == id) {
        return Ok(None);
    }
    loader.disk = wish.disk.clone().or(loader.disk);
    let ready = Ready { source, id, home, config, loader, untried: wish.untried, installed };
    has_room(store, &ready, 0)?;
    Ok(Some(ready))
}

/// The new build is beside the old one, and the next start tries it. Without a trial the firmware starts it next.
///
/// If interrupted: the old GRUB starts, and does or does not try the new one, which is whole.
/// Refuses: a core image for which there is no room, before anything is written.
pub fn begin(locked: &Locked, ready: Ready) -> Result<Build> {
    let Ready { source, id, home, config, mut loader, untried, .. } = ready;
    let (layout, grub_dir) = (locked.layout(), locked.grub_dir());
    let scratch = Scratch::make()?;
    let grub_cfg = scratch.0.join("grub.cfg");
    file::replace(&grub_cfg, script::render(&config)?.as_bytes())?;
    let (build, core) = source.make(&id, &home, config.serial, &grub_cfg, &scratch.0)?;
    let ready = Ready { source, id, home, config, loader: loader.clone(), untried, installed: None };
    has_room(locked, &ready, core.len() as u64)?;
    locked.has_space()?;

    stop_point("grub: the build");
    // One that came to nothing goes; the old GRUB is not asked for it any more.
    loader.update = None;
    collect(&grub_dir, &loader)?;
    ready.source.put(&dir_of(&grub_dir, &build.id), &ready.home, &core)?;
    file::syncfs(&grub_dir)?;
    stop_point("grub: the document");
    let update = Update { build: build.clone(), stage: Stage::Try, old_core: None, switched_in: None, later: Later::new() };
    loader.update = Some(update);
    document::save(layout, &loader)?;
    stop_point("grub: the script");
    // Whatever grub-mkconfig made is left alone if it knows how to try another GRUB, and replaced if it does not.
    let there = file::read_if_exists(&grub_dir.join("grub.cfg"))?.unwrap_or_default();
    if is_vouched_for(&grub_dir)? || !String::from_utf8_lossy(&there).contains(KNOWS) {
        write_script(&grub_dir, &ready.config)?;
    }
    file::syncfs(&grub_dir)?;
    if untried {
        switch(locked, &mut loader)?;
    } else {
        stop_point("grub: the word");
        locked.medium()?.ask(Some(&build.id))?;
    }
    record(locked, format!("GRUB {} of {} is {}", build.version, ready.source.from, if untried { "installed" } else { "tried by the next start" }));
    stop_point("grub: begun");
    Ok(build)
}

/// A directory of this process in memory, gone with this value.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> Result<Self> {
        let dir = PathBuf::from(format!("/run/ast/grub.{}", std::process::id()));
        file::make_dirs(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for name in file::names(&self.0).unwrap_or_default() {
            // Some hundred kilobytes in memory; the next start is without them.
            drop(file::remove_if_exists(&self.0.join(name)));
        }
        drop(std::fs::remove_dir(&self.0));
    }
}

/// The machine, if its GRUB is ours to update.
pub(super) fn machine(store: &Store) -> Result<&Machine> {
    if store.starts_with_original() {
        return Err(LoaderError::NotOurs("the boot loader of the original ast starts this machine: `ast migrate --boot` first"));
    }
    if !store.shows_grub() {
        return Err(LoaderError::NotOurs("what is seen at /boot/grub is not the directory that GRUB reads"));
    }
    store.machine().ok_or(LoaderError::NotOurs("machine.json is not there, so it is not known how this machine starts"))
}

/// GRUB's name of what it is made for.
pub(super) const fn platform(firmware: Firmware) -> &'static str {
    match firmware {
        Firmware::Bios => Boot::BiosRaw.platform(),
        Firmware::Efi => Boot::Efi.platform(),
    }
}

/// Where a build is, below GRUB's directory.
pub(super) fn dir_of(grub_dir: &Path, id: &CoreId) -> PathBuf {
    grub_dir.join(GRUB_BUILDS).join(id.to_string())
}

/// The disk that a BIOS starts this machine from.
pub(super) fn disk(store: &Store, loader: &Loader, more: Option<Vec<u8>>) -> Result<Disk> {
    let dirs = [Some(store.grub_dir()), loader.update.as_ref().map(|update| dir_of(&store.grub_dir(), &update.build.id))];
    let there = dirs.into_iter().flatten().filter_map(|dir| file::read(&dir.join(Boot::BiosRaw.platform()).join("boot.img")).ok());
    let node = MountEntry::of(store.layout().snapshots())?.map(|entry| entry.source);
    Disk::find(loader.disk.as_deref(), node.as_deref(), &there.chain(more).collect::<Vec<_>>())
}

/// There is room for another core image of so many bytes, where the firmware will look for it.
fn has_room(store: &Store, ready: &Ready, size: u64) -> Result<()> {
    let machine = machine(store)?;
    match machine.firmware {
        Firmware::Bios => {
            let disk = disk(store, &ready.loader, ready.source.boot_img())?;
            disk.place(bios::sectors(size)).map(drop)
        }
        Firmware::Efi => {
            let look = |dir: &Path| -> Result<()> {
                let (_, free) = crate::sys::btrfs::space(dir)?;
                let needed = esp::needed(dir, &machine.fs_uuid, size)?;
                if free < needed { Err(LoaderError::EspFull { free, needed }) } else { Ok(()) }
            };
            store.medium()?.in_files(false, look)?.ok_or(LoaderError::NothingOnEsp)
        }
    }
}
