//! A machine with an update on trial, powered off: what faults are done to. The real service makes it, on the mounted disk.

use super::{Column, FILE, ImageError, PLAIN, build_both, luks};
use crate::lab::cache::{Key, keep_recent, once};
use crate::lab::http::Server;
use crate::lab::own;
use crate::lab::repo::{self, State};
use crate::vm::offline::Offline;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the machine's mirror list says that its mirror is.
const MIRROR: (&str, u16) = ("10.0.2.2", 8000);
/// The two copies of the boot block on FAT.
const BLOCKS: [&str; 2] = [ast::layout::FILE_BLOCK_A, ast::layout::FILE_BLOCK_B];

/// A raw image of `column` on which the update to `state` is deployed as a trial and was never started; made once per content.
/// It must not be written: boot an overlay.
pub fn armed(cache: &Path, column: Column, state: State) -> Result<PathBuf, ImageError> {
    updated(cache, column, state, false)
}

/// The same with the update promoted, by the command that a person would use: deployment 2 is the default, 1 the one before it.
pub fn promoted(cache: &Path, column: Column, state: State) -> Result<PathBuf, ImageError> {
    updated(cache, column, state, true)
}

fn updated(cache: &Path, column: Column, state: State, promote: bool) -> Result<PathBuf, ImageError> {
    let fresh = Fresh::build(cache, column)?;
    let packages = repo::build(cache, state)?;
    let key = Key::new("armed").with(fresh.disk.as_os_str().as_encoded_bytes()).with(packages.as_os_str().as_encoded_bytes()).with(include_str!("armed.rs"));
    let what = if promote { "promoted" } else { "armed" };
    let dir = cache.join("images").join(format!("{}-{what}-{}-{}", column.name(), state.name(), key.name()));
    let mut failed = None;
    let made = once(&dir, |new| {
        on_machine(&fresh, &packages, &new.join(FILE), |root, programs| arm(root, programs, promote)).map_err(|why| {
            failed = Some(why.clone());
            crate::lab::Error::NothingBuilt { what: "the service", dir: PathBuf::from(why) }
        })
    });
    match (made, failed) {
        (_, Some(why)) => Err(ImageError::Armed { state: state.name(), why }),
        (made, None) => {
            let dir = made?;
            keep_recent(&dir)?;
            Ok(dir.join(FILE))
        }
    }
}

/// A machine as it was installed. An encrypted one is worked on before it is encrypted.
pub(super) struct Fresh {
    /// Its image, not encrypted.
    pub disk: PathBuf,
    /// Bytes of its partition before its filesystem.
    behind: u64,
    /// The directory with what encrypts it, if it is to be.
    encrypted: Option<PathBuf>,
}

impl Fresh {
    pub(super) fn build(cache: &Path, column: Column) -> Result<Self, ImageError> {
        let base = build_both(cache, column, State::V1)?;
        Ok(match column.is_encrypted() {
            true => Self { disk: base.join(PLAIN), behind: luks::DATA_OFFSET, encrypted: Some(base) },
            false => Self { disk: base.join(FILE), behind: 0, encrypted: None },
        })
    }
}

/// `disk` is a copy of the fresh machine on which `work` was done: given the machine's root, mounted, and the directory of our programs, in namespaces
/// where the machine's mirror offers `packages`.
pub(super) fn on_machine(
    fresh: &Fresh,
    packages: &Path,
    disk: &Path,
    work: impl FnOnce(&Path, &Path) -> Result<(), String> + Send,
) -> Result<(), String> {
    let programs = own::binaries().map_err(|e| e.to_string())?;
    // Namespaces are a thread's: this one is not to lose its own.
    let result = std::thread::scope(|scope| scope.spawn(|| mounted(fresh, packages, disk, |root| work(root, &programs))).join());
    result.unwrap_or_else(|_| Err("the thread that works died".to_owned()))?;
    fresh.encrypted.as_ref().map_or(Ok(()), |base| luks::encrypt_in_place(disk, base).map_err(|e| e.to_string()))
}

fn mounted(fresh: &Fresh, packages: &Path, disk: &Path, work: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), String> {
    luks::copy(&fresh.disk, disk).map_err(|e| format!("{}: {e}", disk.display()))?;
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let offline = Offline::open(disk).map_err(|e| said(&e))?;
    // In every column the system is the largest partition, and the one with the boot block, if it has one, the other.
    let partition = offline.partitions().iter().max_by_key(|p| p.len).cloned().ok_or("no partition on it")?;
    let fat = offline.partitions().iter().map(|p| p.number).find(|n| *n != partition.number);

    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_NEWNET).map_err(|e| said(&e))?;
    ast::sys::mount::make_private().map_err(|e| said(&e))?;
    sh(&format!("ip link set lo up; ip address add {}/32 dev lo", MIRROR.0))?;
    let link = disk.with_file_name("mirror");
    symlink(packages, &link).map_err(|e| said(&e))?;
    let mirror = Server::start_at(&link, MIRROR.0, MIRROR.1).map_err(|e| said(&e))?;

    let (start, len) = (partition.start + fresh.behind, partition.len - fresh.behind);
    let device = sh(&format!("losetup --find --show --offset {start} --sizelimit {len} {}", offline.path().display()))?;
    let root = tempfile::tempdir().map_err(|e| said(&e))?;
    let mounted = mount(&device, root.path());
    sh(&format!("losetup -d {device}"))?;
    mounted?;
    let efi = root.path().join("efi");
    if let Some(number) = fat {
        let fat = offline.fat(number).map_err(|e| said(&e))?;
        for name in BLOCKS {
            let to = efi.join(name);
            fs::create_dir_all(to.parent().unwrap_or(&efi)).map_err(|e| said(&e))?;
            fs::write(&to, fat.read(&format!("/{name}")).map_err(|e| said(&e))?).map_err(|e| said(&e))?;
        }
    }
    fs::create_dir_all(root.path().join("run/ast")).map_err(|e| said(&e))?;
    let worked = work(root.path());
    drop(mirror);
    if let Some(number) = fat {
        let fat = offline.fat(number).map_err(|e| said(&e))?;
        for name in BLOCKS {
            fat.write(&format!("/{name}"), &fs::read(efi.join(name)).map_err(|e| said(&e))?).map_err(|e| said(&e))?;
        }
    }
    sh(&format!("umount --recursive {0}/var {0}/boot {0}/.snapshots", root.path().display()))?;
    offline.close().map_err(|e| said(&e))?;
    fs::remove_file(&link).map_err(|e| said(&e))?;
    worked
}

/// The update is deployed as a trial, by the real service; promoted by the command that a person would use.
fn arm(root: &Path, programs: &Path, promote: bool) -> Result<(), String> {
    let said = |e: &dyn std::fmt::Display| e.to_string();
    let good = format!("{} --sysroot {} good", programs.join("ast").display(), root.display());
    fs::write(root.join("run/ast/booted"), "d=1\nset=0.1\nwhy=good\nenv=ok\n").map_err(|e| said(&e))?;
    // The gate of the machine that runs the update has judged its own start before.
    sh(&good)?;
    let out = Command::new(programs.join("ast-autoupdate")).arg("--sysroot").arg(root).arg("run").output().map_err(|e| said(&e))?;
    if promote {
        fs::write(root.join("run/ast/booted"), "d=2\nset=1.1\nwhy=trial\narm=1\nleft=2\nenv=ok\n").map_err(|e| said(&e))?;
        sh(&good)?;
    }
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() && text.contains("trial") { Ok(()) } else { Err(text) }
}

/// What the service works on is where it would be in the machine.
fn mount(device: &str, root: &Path) -> Result<(), String> {
    for (subvolume, at) in [("@.snapshots", ".snapshots"), ("@boot", "boot"), ("@var", "var"), ("@cache", "var/cache/pacman/pkg")] {
        let target = root.join(at);
        fs::create_dir_all(&target).map_err(|e| e.to_string())?;
        sh(&format!("mount -o compress=zstd,subvol={subvolume} {device} {}", target.display()))?;
    }
    Ok(())
}

pub(super) fn sh(line: &str) -> Result<String, String> {
    let out = Command::new("sh").args(["-ec", line]).output().map_err(|e| format!("{line}: {e}"))?;
    if out.status.success() {
        return Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&out.stderr)))
}
