//! The installation itself, step by step; nothing on the disk is worth keeping until the last one is done.

use std::error::Error;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, unshare};

use super::core_image::{Grub, Terminal};
use super::fat::Fat;
use super::first::{self, DEPLOYMENT};
use super::staging::{Packages, Staging};
use super::table::{Boot, Scheme};
use super::target::Attached;
use super::{InstallError, Result, Target, proof, tool};
use crate::boot::block::BootBlock;
use crate::exec::Program;
use crate::layout::{self, Layout};
use crate::store::document;
use crate::store::machine::{Block, Firmware, Machine, Numbers};
use crate::sys::mount::{self, MsFlags};
use crate::sys::{device, file};
use crate::tree::Later;

/// Where the new filesystem is seen by the installing thread: a directory that every system has, and nobody else sees it there.
const SCRATCH: &str = "/mnt";
/// What file browsers call the filesystem.
const LABEL: &str = "ast";

/// What is to be installed.
#[derive(Debug, Clone)]
pub struct Wish {
    /// How the machine starts.
    pub boot: Boot,
    /// The GRUB that it gets.
    pub grub: Grub,
    /// Whether that GRUB talks on the serial port.
    pub terminal: Terminal,
    /// What is in its base.
    pub packages: Packages,
    /// What the base is called in the tree.
    pub description: String,
}

/// A caller's last touches on a new root before it is sealed: configuration, and whatever packages do not do.
pub type Settle<'a> = &'a (dyn Fn(&Staging) -> Result<(), Box<dyn Error + Send + Sync>> + Sync);

/// The disk holds a machine that boots deployment 1, and its boot block was written and read back.
///
/// If interrupted: the disk does not boot; whatever was mounted is not any more. What was on the disk is lost in any case.
/// Refuses: disks too small, before anything is written.
pub fn install(disk: &Target, wish: &Wish, settle: Settle<'_>) -> Result<Machine> {
    let scheme = Scheme::new(wish.boot, disk)?;
    scheme.write(disk)?;
    let fat = scheme.fat.map(|extent| Fat::format(&disk.part(extent), fat_label(wish.boot))).transpose()?;
    let target = disk.part(scheme.btrfs);
    let attached = target.attach()?;
    let node = attached.device();
    tool::run(Program::MkfsBtrfs, ["--force".as_ref(), "--quiet".as_ref(), "--label".as_ref(), LABEL.as_ref(), node.as_os_str()], None)?;
    let machine = describe(wish, node, fat.as_ref())?;
    let core = in_own_mounts(|| fill(&attached, wish, &machine, settle))?;

    let block = BootBlock::new(DEPLOYMENT);
    proof::write(&block, &target, fat.as_ref())?;
    match (wish.boot, &fat) {
        (Boot::Efi, Some(esp)) => wish.grub.place_on_esp(esp, &core)?,
        _ => wish.grub.embed(disk, &scheme, &core)?,
    }
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
        migration: None,
        later: Later::new(),
    })
}

/// What `work` gives, in a thread whose mounts nobody else sees; they end with it.
fn in_own_mounts<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
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

    let staging = Staging::create(&top, &root)?;
    staging.install(&wish.packages)?;
    staging.make_keyring()?;
    settle(&staging).map_err(InstallError::Settle)?;
    let ready = staging.finish()?;

    first::seal(&top, &ready, &wish.description)?;
    first::deploy(&top)?;
    drop(ready);

    let documents = Layout::of_top_level(&top);
    document::save(&documents.document(layout::MACHINE), machine)?;
    let numbers = Numbers { next_deployment: DEPLOYMENT.get() + 1, next_arm: 1, later: Later::new() };
    document::save(&documents.document(layout::NUMBERS), &numbers)?;

    let grub_dir = top.join(layout::BOOT_SUBVOL).join("grub");
    first::write_grub_files(&top, &grub_dir, machine, wish.terminal)?;
    let core = wish.grub.install_to(wish.boot, &grub_dir, &machine.fs_uuid, wish.terminal)?;
    file::syncfs(&top)?;
    mount::unmount(&top)?;
    Ok(core)
}
