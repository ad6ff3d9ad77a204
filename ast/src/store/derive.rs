//! What follows from tree and boot block: the links of the README, the menu, the baked entry. Written again, it is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::StoreError;
use super::machine::Firmware;
use super::lines;
use super::open::{Locked, Store};
use crate::boot::block::BootBlock;
use crate::grub::defaults::Defaults;
use crate::grub::install::NewMenu;
use crate::grub::menu::{MenuInput, MenuSettings, OtherSystem};
use crate::grub::{Baked, BootEnv, GrubError, install, menu};
use crate::id::DeployId;
use crate::layout::{self, Layout, Part};
use crate::sys::{SysError, file};
use crate::tree::Tree;
use crate::volumes;

/// `rootfs/snapshot-N`, `etc/etc-N` … lead to the current sets, and none is left of a snapshot that is gone. Whether any was changed.
///
/// If interrupted: some do; the next repair goes on.
/// What is no link (a subvolume that somebody put there) is left for `doctor`.
pub(super) fn links(store: &Store) -> Result<bool, StoreError> {
    let (layout, tree) = (store.layout(), store.tree()?);
    let known: BTreeSet<_> = tree.nodes().map(|node| node.id).collect();
    let mut changed = false;
    for part in Part::ALL {
        let there: BTreeMap<_, _> = volumes::links(layout, part)?.into_iter().collect();
        for node in tree.nodes() {
            let link = layout.link(node.id, part);
            let target = Layout::link_target(node.set(), part);
            // First what is so on a good day: of thousands nothing else is asked.
            if there.get(&node.id).is_some_and(|path| std::fs::read_link(path).is_ok_and(|to| to == target)) {
                continue;
            }
            match there.get(&node.id) {
                // The original's own, until its owner gives it up.
                Some(path) if !path.is_symlink() && store.machine().is_some_and(|machine| machine.migration.is_some()) => {}
                Some(path) if !path.is_symlink() => tracing::warn!("{} is no link and is left as it is", path.display()),
                _ => {
                    file::make_dirs(link.parent().unwrap_or(Path::new("/")))?;
                    file::symlink_replace(&target, &link)?;
                    changed = true;
                }
            }
        }
        for (n, path) in there.iter().filter(|(n, path)| !known.contains(n) && path.is_symlink()) {
            tracing::debug!("snapshot {n} is gone, and so is {}", path.display());
            file::remove_if_exists(path)?;
            changed = true;
        }
    }
    Ok(changed)
}

impl Store {
    /// Whether the `/etc/default/grub` of the good deployment asks for other systems in the menu.
    pub fn asks_for_others(&self) -> bool {
        self.block().is_ok_and(|block| settings(self.layout(), block.good).others)
    }
}

impl Locked {
    /// The menu says what tree and boot block say, before more is done.
    pub(crate) fn write_menu(&self) -> Result<(), StoreError> {
        menu(self, self.boot_block()?, None)?;
        Ok(file::syncfs(&self.grub_dir())?)
    }
}

/// The deployments that GRUB may start when neither copy of the boot block is whole, the first one first.
pub(super) fn baked(store: &Store) -> Result<Vec<DeployId>, StoreError> {
    Ok(install::baked_in(&store.grub_dir().join("ast"))?.into_iter().map(|baked| baked.good).collect())
}

/// Menu, previous menu and baked entry say what tree and boot block say. Whether any was changed: then the caller commits with `syncfs`.
/// `staged` is that menu, if it was staged already, and synced since.
///
/// If interrupted: GRUB reads the new ones or the ones before; the next repair goes on.
/// Refuses: a machine whose `boot/grub` is not seen, and a good deployment that cannot be started.
pub(super) fn menu(store: &Store, block: &BootBlock, staged: Option<NewMenu>) -> Result<bool, StoreError> {
    let Some(dir) = menu_dir(store)? else { return Ok(false) };
    let before = contents(&dir)?;
    bake(store, block.good, &dir)?;
    match staged {
        Some(new) => new.publish()?,
        None if store.tree().is_ok() => install::write_menu(&dir, &input(store, store.tree()?, block))?,
        None => {}
    }
    let changed = contents(&dir)? != before;
    Ok(install::previous_follows(&dir)? || changed)
}

/// The menu that goes with `tree` and `block` waits for the sync before the commit; `None` where there is no menu of ours.
///
/// If interrupted: the menu is as it was.
pub(super) fn stage_menu(store: &Store, tree: &Tree, block: &BootBlock) -> Result<Option<NewMenu>, StoreError> {
    let Some(dir) = menu_dir(store)? else { return Ok(None) };
    let new = NewMenu::of(&dir, &input(store, tree, block))?;
    new.stage()?;
    Ok(Some(new))
}

/// Where the menu is; `None` where the original's boot loader starts this machine, and reads its own menu.
fn menu_dir(store: &Store) -> Result<Option<PathBuf>, StoreError> {
    if store.starts_with_original() {
        return Ok(None);
    }
    let grub = store.grub_dir();
    if !grub.is_dir() || !store.shows_grub() {
        return Err(StoreError::NoGrub(grub));
    }
    Ok(Some(grub.join("ast")))
}

fn input(store: &Store, tree: &Tree, block: &BootBlock) -> MenuInput {
    let marks = store.marks_of(block);
    let snapshots = lines::lines(store, tree, &marks);
    let settings = settings(store.layout(), block.good);
    let efi = store.machine().is_some_and(|m| m.firmware == Firmware::Efi);
    let original = store.grub_dir().join(install::ORIGINAL_MENU).is_file().then_some(OtherSystem::Original);
    let found = if settings.others { crate::others::known(store.layout()) } else { Vec::new() };
    let others = found.into_iter().chain(original).chain(efi.then_some(OtherSystem::FirmwareSetup)).collect();
    MenuInput { settings, snapshots, others, titles: titles(store.layout(), block) }
}

/// Of the deployments in the block, each once; what cannot be read is left out, and GRUB looks itself.
fn titles(layout: &Layout, block: &BootBlock) -> Vec<(DeployId, String)> {
    let mut named = vec![block.good];
    named.extend(block.prev.into_iter().chain(block.trial.map(|trial| trial.deployment)).filter(|d| *d != block.good));
    let title = |d: DeployId| Some((d, boot_env(&layout.deployment_part(d, Part::Boot)).ok()?.title().to_owned()));
    named.into_iter().filter_map(title).collect()
}

/// What is in them; nothing where it cannot be read: then the new one is another.
fn contents(dir: &Path) -> Result<Vec<Option<Vec<u8>>>, SysError> {
    ["good.cfg", "menu.cfg", "menu.sums", "snapshots.cfg", "snapshots.sums"]
        .iter()
        .map(|name| file::read_if_readable(&dir.join(name)))
        .collect()
}

/// Files of the menu that the disk does not give back, in words. [`menu`] makes them anew.
pub(super) fn unreadable(store: &Store) -> Vec<String> {
    let Ok(Some(dir)) = menu_dir(store) else { return Vec::new() };
    install::derived(&dir).filter_map(|path| file::read_if_exists(&path).err()).filter(SysError::is_unreadable).map(|error| error.to_string()).collect()
}

/// `good.cfg` starts `good`. One that does already is left, even if the deployment's own file is damaged since.
fn bake(store: &Store, good: DeployId, dir: &Path) -> Result<(), StoreError> {
    let own = boot_env(&store.layout().deployment_part(good, Part::Boot));
    match own {
        Ok(env) => Ok(install::write_good(dir, &Baked { good, env })?),
        Err(_) if baked(store)?.first() == Some(&good) => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn boot_env(boot: &Path) -> Result<BootEnv, StoreError> {
    Ok(BootEnv::parse(&file::read(&boot.join(layout::BOOT_ENV))?)?)
}

/// The title in the `ast.env` of a writable boot subvolume is this, and the line of that file in its sums follows. The other lines stay as
/// they were when the set was sealed, so that a file damaged since is found. The caller commits with `syncfs`.
pub(super) fn set_title(boot: &Path, title: &str) -> Result<(), StoreError> {
    let env = boot_env(boot)?;
    let bytes = BootEnv::new(env.linux(), env.initrd(), env.args(), title)?.encode()?;
    file::put(&boot.join(layout::BOOT_ENV), &bytes)?;
    let sums = boot.join(layout::BOOT_SUMS);
    let text = String::from_utf8_lossy(&file::read(&sums)?).into_owned();
    let suffix = format!("  {}", layout::BOOT_ENV);
    let others = text.lines().filter(|line| !line.ends_with(&suffix)).map(|line| format!("{line}\n"));
    let new: String = others.chain([menu::sums(layout::BOOT_ENV, &bytes)]).collect();
    Ok(file::put(&sums, new.as_bytes())?)
}

/// What the promoted deployment's `/etc/default/grub` says; what cannot be known from it is as by default, since no setting may keep
/// the good one from booting (B16).
fn settings(layout: &Layout, good: DeployId) -> MenuSettings {
    let path = layout.deployment_part(good, Part::Etc).join("default/grub");
    let text = file::read_if_exists(&path).ok().flatten().unwrap_or_default();
    let read = |text: &str| -> Result<MenuSettings, GrubError> { MenuSettings::from_defaults(&Defaults::parse(text)) };
    read(&String::from_utf8_lossy(&text)).unwrap_or_else(|error| {
        tracing::warn!("the menu has default settings: {error}");
        MenuSettings::default()
    })
}
