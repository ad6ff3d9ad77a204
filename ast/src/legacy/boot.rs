//! The second half of taking over: our boot script in the place of the original's menu, in the GRUB that is installed.
//!
//! ```text
//!  look: GRUB's directory, its release, the ESP ─► @root @cache …, boot block, good.cfg, original.cfg ─► grub.cfg ─► machine.json
//!        (only read)                               (nobody reads them yet)                              (commit)   (ast knows)
//! ```
//!
//! GRUB itself stays as the original's `grub-install` left it: it reads `grub.cfg` out of `@boot/grub`, and that one file is exchanged. The
//! original's is kept beside it and is an entry of our menu, so that whoever stands there can start what it started.

use std::path::{Path, PathBuf};

use super::take::DEPLOYMENT;
use super::{LegacyError, Result};
use crate::boot::block::BootBlock;
use crate::boot::medium::Medium;
use crate::cmdline::BlockPlace;
use crate::etc;
use crate::grub::defaults::Defaults;
use crate::grub::install::{ORIGINAL_MENU, write_good, write_script};
use crate::grub::release::{version, writes_raw};
use crate::grub::{Baked, BootEnv, ScriptConfig, Serial, script};
use crate::layout::{self, BOOT_ENV, ESP_MOUNT, Layout, Part};
use crate::store::machine::{Block, Firmware, Machine, Migration};
use crate::store::{Locked, Store, stop_point};
use crate::sys::mount::{self, Mounted, MsFlags};
use crate::sys::{btrfs, device, file};
use crate::volumes::MountEntry;

/// GRUB's platforms, and how the firmware starts each.
const PLATFORMS: [(&str, Firmware); 2] = [("x86_64-efi", Firmware::Efi), ("i386-pc", Firmware::Bios)];
/// Where a running system may have the ESP, below its root: the original's place first.
const ESPS: [&str; 3] = ["boot/efi", ESP_MOUNT, "boot"];

/// How this machine starts, found on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootLoader {
    /// How the firmware starts GRUB.
    pub firmware: Firmware,
    /// Its release, as far as its modules tell.
    pub version: Option<String>,
    /// Where the boot block goes.
    pub block: Block,
    /// What its owner should know.
    pub notes: Vec<String>,
}

/// The top level of the filesystem, mounted for the moment.
struct Top {
    mounted: Mounted,
}

impl Top {
    fn mount(layout: &Layout) -> Result<Self> {
        let source = MountEntry::of(layout.snapshots())?.ok_or_else(|| LegacyError::Nothing(layout.snapshots().to_owned()))?.source;
        let dir = PathBuf::from(format!("/run/ast/top.{}", std::process::id()));
        file::make_dirs(&dir)?;
        let mounted = Mounted::new(&source.to_string_lossy(), &dir, "btrfs", MsFlags::MS_NOATIME | MsFlags::MS_NOSUID, "subvolid=5")?;
        // Shared mounts would spread what is bound in here.
        mount::keep_to_itself(mounted.path())?;
        Ok(Self { mounted })
    }

    fn at(&self, name: &str) -> PathBuf {
        self.mounted.path().join(name)
    }

    fn grub(&self) -> PathBuf {
        self.at(layout::BOOT_SUBVOL).join("grub")
    }

    fn close(self) -> Result<()> {
        let dir = self.mounted.path().to_owned();
        self.mounted.unmount()?;
        // An empty directory in /run harms nobody.
        drop(std::fs::remove_dir(dir));
        Ok(())
    }
}

/// What [`take_boot`] would find. Changes nothing.
pub fn preview_boot(store: &Store) -> Result<BootLoader> {
    allowed(store)?;
    let top = Top::mount(store.layout())?;
    let found = look(store, &top.grub());
    top.close()?;
    found
}

/// Our boot script starts this machine, and the original's own system by it; its menu is an entry of ours.
///
/// If interrupted: the original's menu starts the machine, or our script does and the next call goes on.
/// Refuses: a machine whose snapshots were not taken over, a GRUB without what the script needs, an EFI machine whose ESP is not mounted.
pub fn take_boot(locked: &Locked) -> Result<BootLoader> {
    allowed(locked)?;
    let top = Top::mount(locked.layout())?;
    let done = look(locked, &top.grub()).and_then(|found| {
        // Done before: whatever grub.cfg is by now (grub-mkconfig makes it, too), it is not the original's, and deployment 1 may be gone.
        if locked.starts_with_original() {
            change(locked, &top, &found)?;
        }
        Ok(found)
    });
    top.close()?;
    done
}

fn allowed(store: &Store) -> Result<()> {
    match store.machine().and_then(|machine| machine.migration) {
        Some(Migration::Tree | Migration::Boot) => Ok(()),
        None => Err(LegacyError::Nothing(store.layout().snapshots().to_owned())),
    }
}

fn look(store: &Store, grub: &Path) -> Result<BootLoader> {
    if !grub.join("grub.cfg").is_file() {
        return Err(LegacyError::NoGrub("it has no grub.cfg".to_owned()));
    }
    let mut there: Vec<_> = PLATFORMS.into_iter().filter(|(name, _)| grub.join(name).join("normal.mod").is_file()).collect();
    if there.len() > 1 {
        // Both were installed once: the one that this machine was started by.
        there.retain(|(_, firmware)| *firmware == super::take::firmware());
    }
    let Some((platform, firmware)) = there.into_iter().next() else {
        return Err(LegacyError::NoGrub("it has no modules".to_owned()));
    };
    let modules = grub.join(platform);
    let missing = script::MODULES.into_iter().find(|name| !modules.join(format!("{name}.mod")).is_file());
    if let Some(name) = missing {
        return Err(LegacyError::NoGrub(format!("it has no {name}.mod for {platform}")));
    }
    let version = version(&file::read(&modules.join("normal.mod"))?);
    let mut notes = Vec::new();
    let block = match firmware {
        Firmware::Efi => Block::Files { uuid: esp(store.sysroot())? },
        Firmware::Bios if writes_raw(version.as_deref()) => Block::Raw,
        Firmware::Bios => {
            notes.push(format!(
                "GRUB {} cannot write on btrfs, so the initramfs alone counts the starts of a trial: a kernel that panics is not covered. GRUB 2.14 can",
                version.as_deref().unwrap_or("of an unknown release")
            ));
            Block::Local
        }
    };
    let var = store.sysroot().join("var");
    if MountEntry::of(&var)?.is_none_or(|entry| !entry.root.starts_with(Path::new("/").join(layout::VAR_SUBVOL))) {
        notes.push(format!("{} is not {} here: that is what /var will be in a deployment", var.display(), layout::VAR_SUBVOL));
    }
    Ok(BootLoader { firmware, version, block, notes })
}

/// Serial of the ESP that the running system has mounted.
fn esp(sysroot: &Path) -> Result<String> {
    for dir in ESPS.map(|name| sysroot.join(name)).into_iter().filter(|dir| dir.is_dir()) {
        let entry = MountEntry::of(&dir)?.filter(|entry| entry.fstype == "vfat");
        if let Some(uuid) = entry.and_then(|entry| device::uuid_of(&entry.source)) {
            return Ok(uuid);
        }
    }
    Err(LegacyError::NoEsp(sysroot.join(ESPS[0])))
}

fn change(store: &Store, top: &Top, found: &BootLoader) -> Result<()> {
    stop_point("migrate: subvolumes");
    make_subvolumes(store, top)?;
    let (grub, layout) = (top.grub(), store.layout());
    let config =
        ScriptConfig { fs_uuid: btrfs::filesystem_uuid(layout.snapshots())?, block: found.block.clone().into(), serial: serial(store)? };
    let script = script::render(&config)?;
    let there = file::read(&grub.join("grub.cfg"))?;
    if there != script.as_bytes() {
        stop_point("migrate: block");
        // Whatever block is there is of an earlier attempt: no GRUB has read it since.
        let medium = medium(store, &config.block)?;
        medium.create(&store.block().unwrap_or_else(|_| BootBlock::new(DEPLOYMENT)))?;
        medium.prove()?;
        stop_point("migrate: baked");
        let env = BootEnv::parse(&file::read(&layout.deployment_part(DEPLOYMENT, Part::Boot).join(BOOT_ENV))?)?;
        write_good(&grub.join("ast"), &Baked { good: DEPLOYMENT, env })?;
        file::replace(&grub.join(ORIGINAL_MENU), &there)?;
        file::syncfs(&grub)?;
        stop_point("migrate: grub.cfg");
        write_script(&grub, &config)?;
        file::syncfs(&grub)?;
    }
    stop_point("migrate: machine");
    let old = store.machine().ok_or_else(|| LegacyError::Nothing(layout.snapshots().to_owned()))?;
    let machine = Machine {
        firmware: found.firmware,
        block: found.block.clone(),
        esp_uuid: match &found.block {
            Block::Files { uuid } => Some(uuid.clone()),
            _ => None,
        },
        grub_version: found.version.clone(),
        migration: Some(Migration::Boot),
        ..old.clone()
    };
    machine.save(layout)?;
    Ok(file::syncfs(layout.snapshots())?)
}

/// The original's menu is `grub.cfg` again, and nothing that GRUB reads is ours.
///
/// If interrupted: GRUB reads the original's menu or ours; called again it goes on.
pub(super) fn give_back(store: &Store) -> Result<()> {
    let top = Top::mount(store.layout())?;
    let grub = top.grub();
    let done = || -> Result<()> {
        let there = file::read_if_exists(&grub.join("grub.cfg"))?.unwrap_or_default();
        let kept = file::read_if_exists(&grub.join(ORIGINAL_MENU))?;
        // Where ours never came, the original may have written a newer one since the copy was made.
        if let Some(menu) = kept.filter(|_| script::is_in(&String::from_utf8_lossy(&there))) {
            stop_point("migrate: give back grub.cfg");
            file::replace(&grub.join("grub.cfg"), &menu)?;
            file::syncfs(&grub)?;
        }
        let ours = grub.join(layout::GRUB_DIR.trim_start_matches("grub/"));
        if ours.is_dir() {
            stop_point("migrate: give back");
            for name in file::names(&ours)? {
                file::remove_if_exists(&ours.join(name))?;
            }
        }
        Ok(())
    };
    let done = done();
    top.close()?;
    done
}

/// Where the block goes, on the disk that is seen here and no copy of it.
fn medium(store: &Store, place: &BlockPlace) -> Result<Medium> {
    let layout = store.layout();
    let root = MountEntry::of(layout.snapshots())?.map(|entry| entry.source).unwrap_or_default();
    Ok(Medium::find(place, &root, &layout.documents())?)
}

fn serial(store: &Store) -> Result<Option<Serial>> {
    let path = store.layout().deployment_part(DEPLOYMENT, Part::Etc).join("default/grub");
    let text = file::read_if_exists(&path)?.unwrap_or_default();
    Ok(Serial::from_defaults(&Defaults::parse(&String::from_utf8_lossy(&text)))?)
}

/// What a deployment of ours shares is there: `@root` with what the original had at /root, the others as they are or empty.
fn make_subvolumes(store: &Store, top: &Top) -> Result<()> {
    for name in layout::TOP_SUBVOLS {
        let path = top.at(name);
        if btrfs::is_subvolume(&path) {
            continue;
        }
        // Under another name until it is whole.
        let beside = top.at(&format!("{name}.new"));
        if btrfs::is_subvolume(&beside) {
            btrfs::delete_subvolume(&beside)?;
        }
        let from = match name {
            layout::ROOT_HOME_SUBVOL => Some(store.layout().documents().join("root")).filter(|dir| dir.is_dir()),
            layout::VAR_SUBVOL => Some(store.sysroot().join("var")),
            _ => None,
        };
        btrfs::create_subvolume(&beside)?;
        if let Some(from) = from {
            etc::copy_into(&from, &beside)?;
        }
        file::syncfs(&beside)?;
        file::rename(&beside, &path)?;
    }
    Ok(())
}

/// `@boot/grub` is seen at `boot/grub` of a machine whose boot script is ours while the original's own system runs, as the initramfs would
/// show it; its own `/boot/grub` is another directory, which no GRUB reads. Whether it is seen now.
///
/// If interrupted: a mount in /run is left, until the next start.
pub fn show_grub(store: &Store) -> Result<bool> {
    let at = store.grub_dir();
    let theirs = store.machine().is_some_and(|machine| machine.migration == Some(Migration::Boot)) && !store.shows_grub();
    if !theirs || !at.is_dir() || !nix::unistd::geteuid().is_root() {
        return Ok(!theirs);
    }
    let top = Top::mount(store.layout())?;
    let done = mount::bind(&top.grub(), &at);
    top.close()?;
    done.map(|()| true).map_err(LegacyError::from)
}
