//! The boot subvolume of a finished copy: stored plainly, and with the list of what is in it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufReader, Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Parts, WorkError};
use crate::grub::BootEnv;
use crate::grub::defaults::Defaults;
use crate::layout::{BOOT_ENV, BOOT_SUMS};
use crate::sys::{At, SysError, btrfs, file};

/// Where `@boot/grub` is mounted, below /boot.
const GRUB_MOUNT_POINT: &str = "grub";
/// Bytes read at once.
const CHUNK: usize = 1 << 16;

/// Images that are loaded before the initramfs, if they are there.
const MICROCODE: [&str; 2] = ["amd-ucode.img", "intel-ucode.img"];
/// The kernel that is started when there are several and none was chosen before.
const USUAL_KERNEL: &str = "vmlinuz-linux";

/// `/boot` is as GRUB needs it: no compressed file, `grub` to mount on, how to start written down, everything in the list of checksums.
///
/// A boot directory without a kernel, or whose kernel has no image, gets no `ast.env`: it cannot be started, and the menu says so.
/// A file that is the one of `source`, with the time of its last change, keeps the sum that it has there: if it has rotted, it gets no fresh one,
/// and whoever checks the sums finds it.
/// Refuses: kernel arguments in `/etc/default/grub` that GRUB cannot pass.
pub fn prepare_boot(parts: &Parts, source: Option<&Parts>) -> Result<(), WorkError> {
    let boot = &parts.boot;
    // Before anything here is written anew.
    let kept = source.map(|source| unwritten(boot, &source.boot)).transpose()?.unwrap_or_default();
    file::make_dirs(&boot.join(GRUB_MOUNT_POINT))?;
    btrfs::set_uncompressed(boot)?;
    write_env(parts)?;
    for path in files(boot)? {
        if !btrfs::is_stored_plain(&path)? {
            rewrite(&path)?;
        }
    }
    sum_up(boot, &kept)
}

/// Sums by name, as the list of `source` has them, of the files of `boot` that nobody wrote to since it was cloned from there.
pub(super) fn unwritten(boot: &Path, source: &Path) -> Result<BTreeMap<String, String>, WorkError> {
    let list = file::read_if_exists(&source.join(BOOT_SUMS))?.unwrap_or_default();
    // A clone has the inodes of its source, with all their times, and the kernel lets nobody set that of the last change.
    let inode = |path: &Path| fs::symlink_metadata(path).ok().map(|m| (m.ino(), m.len(), m.ctime(), m.ctime_nsec()));
    let same = |name: &str| inode(&boot.join(name)).is_some_and(|here| inode(&source.join(name)) == Some(here));
    let text = String::from_utf8_lossy(&list);
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    // How to start it is written here each time.
    Ok(lines.filter(|(_, name)| *name != BOOT_ENV && same(name)).map(|(sum, name)| (name.to_owned(), sum.to_owned())).collect())
}

/// Whether [`prepare_boot`] has nothing to do in a `/boot` that came out of it before: how to start it follows from `/etc` and the rest too.
pub(super) fn is_prepared(parts: &Parts) -> Result<bool, WorkError> {
    let there = file::read_if_exists(&parts.boot.join(BOOT_ENV))?;
    Ok(there.is_some() && there == env(parts)? && parts.boot.join(BOOT_SUMS).is_file())
}

/// `ast.env` says how to start what is in `/boot`, with the arguments of the copy's own `/etc/default/grub`.
fn write_env(parts: &Parts) -> Result<(), WorkError> {
    let path = parts.boot.join(BOOT_ENV);
    match env(parts)? {
        Some(bytes) => Ok(file::replace(&path, &bytes)?),
        None => Ok(file::remove_if_exists(&path)?),
    }
}

/// What `ast.env` is to hold; `None` where nothing can be started.
fn env(parts: &Parts) -> Result<Option<Vec<u8>>, WorkError> {
    let before = file::read_if_exists(&parts.boot.join(BOOT_ENV))?.and_then(|bytes| BootEnv::parse(&bytes).ok());
    let Some((kernel, images)) = to_start(&parts.boot, before.as_ref().map(BootEnv::linux))? else { return Ok(None) };
    let settings = file::read_if_exists(&parts.etc.join("default/grub"))?.unwrap_or_default();
    let args = Defaults::parse(&String::from_utf8_lossy(&settings)).kernel_args().map_err(crate::grub::GrubError::from)?;
    let title = before.map_or_else(|| name_of_system(&parts.root), |env| env.title().to_owned());
    Ok(Some(BootEnv::new(&kernel, &images, &args, &title)?.encode()?))
}

/// The kernel to start and its images, microcode first; `None` when no kernel has one. `chosen` before stays chosen.
fn to_start(boot: &Path, chosen: Option<&str>) -> Result<Option<(String, Vec<String>)>, SysError> {
    let names: Vec<String> = file::names(boot)?.into_iter().filter_map(|name| name.into_string().ok()).collect();
    let image_of = |kernel: &str| format!("initramfs-{}.img", kernel.trim_start_matches("vmlinuz-"));
    let startable = |kernel: &&String| kernel.starts_with("vmlinuz-") && names.contains(&image_of(kernel));
    let mut kernels: Vec<&String> = names.iter().filter(startable).collect();
    kernels.sort_by_key(|name| (Some(name.as_str()) != chosen, *name != USUAL_KERNEL));
    let Some(kernel) = kernels.first() else { return Ok(None) };
    let microcode = MICROCODE.iter().map(|name| (*name).to_owned()).filter(|name| names.contains(name));
    Ok(Some(((*kernel).clone(), microcode.chain([image_of(kernel)]).collect())))
}

/// What the system calls itself.
fn name_of_system(root: &Path) -> String {
    let text = file::read(&root.join("usr/lib/os-release")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches(['"', '\'']).to_owned())
}

/// The file has the same content and metadata and none of it is compressed.
///
/// Copied byte by byte: anything cleverer would share the compressed extents.
fn rewrite(path: &Path) -> Result<(), SysError> {
    const ACTION: &str = "store without compression";
    let meta = fs::symlink_metadata(path).at(ACTION, path)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".plain");
    let beside = path.with_file_name(name);
    file::remove_if_exists(&beside)?;
    let mut from = File::open(path).at(ACTION, path)?;
    let mut to = File::options().write(true).create_new(true).mode(0o600).open(&beside).at(ACTION, &beside)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk).at(ACTION, path)? {
            0 => break,
            count => to.write_all(chunk.get(..count).unwrap_or_default()).at(ACTION, &beside)?,
        }
    }
    std::os::unix::fs::fchown(&to, Some(meta.uid()), Some(meta.gid())).at(ACTION, &beside)?;
    to.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777)).at(ACTION, &beside)?;
    if let Ok(time) = meta.modified() {
        to.set_modified(time).at(ACTION, &beside)?;
    }
    file::rename(&beside, path)
}

/// `ast.sums` of `boot` lists every file in it except itself, as `sha256sum` writes it.
pub fn write_sums(boot: &Path) -> Result<(), WorkError> {
    sum_up(boot, &BTreeMap::new())
}

/// The same, with the sums of `kept` for those files.
fn sum_up(boot: &Path, kept: &BTreeMap<String, String>) -> Result<(), WorkError> {
    let mut list = String::new();
    for path in files(boot)? {
        let name = relative(boot, &path)?;
        if name == BOOT_SUMS {
            continue;
        }
        // Writing to a String cannot fail.
        let sum = kept.get(&name).map_or_else(|| sha256(&path), |sum| Ok(sum.clone()))?;
        writeln!(list, "{sum}  {name}").unwrap_or_default();
    }
    Ok(file::replace(&boot.join(BOOT_SUMS), list.as_bytes())?)
}

/// Files of `boot` that do not match its `ast.sums`: changed, missing, unreadable, or not in the list. An unreadable list: the list itself.
pub fn check_sums(boot: &Path) -> Result<Vec<PathBuf>, SysError> {
    let list_path = boot.join(BOOT_SUMS);
    let Some(list) = file::read_if_exists(&list_path)?.and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return Ok(vec![list_path]);
    };
    let mut wrong = Vec::new();
    let mut listed = std::collections::BTreeSet::new();
    for line in list.lines() {
        let Some((sum, name)) = line.split_once("  ") else { return Ok(vec![list_path]) };
        let path = boot.join(name);
        let inside = !name.starts_with('/') && !name.split('/').any(|part| part == "..");
        let real = fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file());
        // What cannot be read is not what it was either.
        if !inside || !real || !sha256(&path).is_ok_and(|is| is == sum) {
            wrong.push(path.clone());
        }
        listed.insert(path);
    }
    wrong.extend(files(boot)?.into_iter().filter(|path| *path != list_path && !listed.contains(path)));
    Ok(wrong)
}

/// Every plain file below `boot`, sorted; what is under the mount point of GRUB's own files is not part of it.
fn files(boot: &Path) -> Result<Vec<PathBuf>, SysError> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) -> Result<(), SysError> {
        for name in file::names(dir)? {
            let path = dir.join(name);
            let meta = fs::symlink_metadata(&path).at("look at", &path)?;
            if meta.is_dir() {
                walk(&path, found)?;
            } else if meta.is_file() {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(boot, &mut found)?;
    let grub = boot.join(GRUB_MOUNT_POINT);
    found.retain(|path| !path.starts_with(&grub));
    Ok(found)
}

/// The name of `path` below `boot`, if a list of checksums can hold it.
fn relative(boot: &Path, path: &Path) -> Result<String, WorkError> {
    path.strip_prefix(boot)
        .ok()
        .and_then(Path::to_str)
        .filter(|name| !name.contains(['\n', '\r', '\\']))
        .map(str::to_owned)
        .ok_or_else(|| WorkError::BadBootName(path.to_owned()))
}

pub(super) fn sha256(path: &Path) -> Result<String, SysError> {
    let mut hash = Sha256::new();
    std::io::copy(&mut BufReader::with_capacity(CHUNK, File::open(path).at("read", path)?), &mut hash).at("read", path)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
