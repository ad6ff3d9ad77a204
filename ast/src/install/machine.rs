//! The installation itself, step by step; nothing on the disk is worth keeping until the last one is done.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};

use super::core_image::{Grub, LUKS_KEY, Terminal};
use super::fat::Fat;
use super::first::{self, DEPLOYMENT};
use super::staging::{Packages, Staging};
use super::table::{Boot, Scheme};
use super::target::Attached;
use super::{InstallError, Result, Target, proof, tool};
use crate::boot::block::BootBlock;
use crate::exec::Program;
use crate::layout::{self, Layout};
use crate::luks::Header;
use crate::progress::long_step;
use crate::store::document;
use crate::store::machine::{Block, Firmware, Machine, Numbers};
use crate::sys::mount::{self, MsFlags};
use crate::sys::{device, file};
use crate::tree::Later;

/// Where the new filesystem is seen by the installing thread: a directory that every system has, and nobody else sees it there.
pub(super) const SCRATCH: &str = "/mnt";
/// What file browsers call the filesystem.
const LABEL: &str = "ast";

/// Steps of an installation, as who watches sees them.
const STEPS: usize = 5;

/// What is to be installed.
#[derive(Debug, Clone)]
pub struct Wish {
    /// How the machine starts.
    pub boot: Boot,
    /// The GRUB that it gets.
    pub grub: Grub,
    /// Whether that GRUB talks on the serial port.
    pub terminal: Terminal,
    /// The LUKS container that its btrfs is in, if it is to be in one.
    pub luks: Option<Luks>,
    /// What is in its base.
    pub packages: Packages,
    /// What the base is called in the tree.
    pub description: String,
}

/// A LUKS container that the btrfs of a new machine is in.
///
/// The btrfs is written where the data of the container is, and not encrypted: whoever has a kernel with device-mapper installs onto what it
/// shows, and whoever has none encrypts what was written.
#[derive(Debug, Clone)]
pub struct Luks {
    /// Its header.
    pub header: Header,
    /// A key that GRUB's core image has inside, so that it unlocks the container without asking. It is readable for whoever has the medium with
    /// the core image in hand, so it protects what is on another one only.
    pub key: Option<Vec<u8>>,
}

/// A caller's last touches on a new root before it is sealed: configuration, and whatever packages do not do.
pub type Settle<'a> = &'a (dyn Fn(&Staging) -> Result<(), Box<dyn Error + Send + Sync>> + Sync);

/// The disk holds a machine that boots deployment 1, and its boot block was written and read back.
///
/// If interrupted: the disk does not boot; whatever was mounted is not any more. What was on the disk is lost in any case.
/// Refuses, before anything is written: disks too small; a LUKS container that GRUB cannot unlock, or a key for a GRUB that takes none.
pub fn install(disk: &Target, wish: &Wish, settle: Settle<'_>) -> Result<Machine> {
    if let Some(luks) = &wish.luks {
        luks.header.for_grub()?;
        if luks.key.is_some() && !wish.grub.takes_keys() {
            return Err(InstallError::NoKeys(wish.grub.version.clone()));
        }
    }
    let scheme = Scheme::new(wish.boot, disk)?;
    long_step(1, STEPS, &"make partitions and filesystems");
    Scheme::clear(disk)?;
    scheme.write(disk)?;
    let fat = scheme.fat.map(|extent| Fat::format(&disk.part(extent), fat_label(wish.boot))).transpose()?;
    let target = disk.part(scheme.btrfs).behind(wish.luks.as_ref().map_or(0, |luks| luks.header.data_offset));
    let attached = target.attach()?;
    let node = attached.device();
    tool::run(Program::MkfsBtrfs, ["--force".as_ref(), "--quiet".as_ref(), "--label".as_ref(), LABEL.as_ref(), node.as_os_str()], None)?;
    let machine = describe(wish, node, fat.as_ref())?;
    let core = in_own_mounts(|| fill(&attached, wish, &machine, settle))?;

    long_step(5, STEPS, &"write the boot loader and the boot block, and read it back");
    let block = BootBlock::new(DEPLOYMENT);
    proof::write(&block, &target, fat.as_ref())?;
    match (wish.boot, &fat) {
        (Boot::Efi, Some(esp)) => wish.grub.place_on_esp(esp, &core)?,
        _ => wish.grub.embed(disk, &scheme, &core)?,
    }
    // What the programs for FAT wrote, too: whoever is told that it is done may switch the machine off.
    File::open(&disk.file).and_then(|file| file.sync_all()).map_err(|e| InstallError::io(&disk.file, e))?;
    Ok(machine)
}

fn fat_label(boot: Boot) -> &'static str {
    match boot {
        Boot::Efi => "AST_ESP",
        Boot::BiosRaw | Boot::BiosGap => "AST_BLOCK",
    }
}

fn describe(wish: &Wish, node: &Path, fat: Option<&Fat>) -> Result<Machine> {
    let fs_uuid = device::uuid_of(node).ok_or_else(|| InstallError::NoFilesystem(node.to_owned()))?;
    let uuid = fat.map(Fat::uuid);
    Ok(Machine {
        fs_uuid,
        firmware: if wish.boot == Boot::Efi { Firmware::Efi } else { Firmware::Bios },
        block: uuid.clone().map_or(Block::Raw, |uuid| Block::Files { uuid }),
        esp_uuid: uuid.filter(|_| wish.boot == Boot::Efi),
        grub_version: Some(wish.grub.version.clone()),
        luks: wish.luks.iter().map(|luks| luks.header.uuid.clone()).collect(),
        migration: None,
        later: Later::new(),
    })
}

/// What `work` gives, in a thread whose mounts nobody else sees; they end with it.
pub(super) fn in_own_mounts<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)
            .map_err(|e| InstallError::io(Path::new("/proc/thread-self/ns/mnt"), e.into()))?;
        mount::make_private()?;
        work()
    };
    std::thread::scope(|scope| scope.spawn(run).join()).map_err(|_| InstallError::Thread)?
}

/// Everything on the btrfs; gives back GRUB's core image.
fn fill(attached: &Attached, wish: &Wish, machine: &Machine, settle: Settle<'_>) -> Result<Vec<u8>> {
    mount::mount("tmpfs", Path::new(SCRATCH), "tmpfs", MsFlags::empty(), "mode=0700")?;
    let (top, root): (PathBuf, PathBuf) = (Path::new(SCRATCH).join("top"), Path::new(SCRATCH).join("root"));
    file::make_dirs(&top)?;
    file::make_dirs(&root)?;
    mount::mount(&attached.device().to_string_lossy(), &top, "btrfs", MsFlags::MS_NOATIME, "subvolid=5")?;
    first::make_top_level(&top)?;

    // What is installed is judged by it: on an encrypted disk an image has to unlock that.
    let documents = Layout::of_top_level(&top);
    machine.save(&documents)?;
    let staging = Staging::create(&top, &root)?;
    long_step(2, STEPS, &format_args!("install {} packages and what they need", wish.packages.names.len()));
    staging.install(&wish.packages)?;
    staging.make_keyring()?;
    long_step(3, STEPS, &"settle it: users, files, services");
    settle(&staging).map_err(InstallError::Settle)?;
    let ready = staging.finish()?;

    long_step(4, STEPS, &"seal the base, and make the deployment and the menu");
    first::seal(&top, &ready, &wish.description)?;
    first::deploy(&top)?;
    drop(ready);

    let numbers = Numbers { next_deployment: DEPLOYMENT.get() + 1, next_arm: 1, later: Later::new() };
    document::save(&documents.document(layout::NUMBERS), &numbers)?;

    let grub_dir = top.join(layout::BOOT_SUBVOL).join("grub");
    first::write_grub_files(&top, &grub_dir, machine, wish.terminal)?;
    if let Some(key) = wish.luks.as_ref().and_then(|luks| luks.key.as_ref()) {
        file::replace_secret(&grub_dir.join(LUKS_KEY), key)?;
    }
    let core = wish.grub.install_to(wish.boot, &grub_dir, &machine.fs_uuid, &machine.luks, wish.terminal)?;
    file::syncfs(&top)?;
    mount::unmount(&top)?;
    Ok(core)
}
