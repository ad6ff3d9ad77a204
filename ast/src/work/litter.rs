//! What must not get into a snapshot: traces of the run, of this machine and of package managers (R3, R6).

use std::fs;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::{Parts, WorkError};
use crate::layout::{MOUNT_POINTS, PACMAN_DB, Part};
use crate::sys::{At, SysError, btrfs, file};

/// Directories of the root that are mounted over in a running system: what is in them is never seen again.
const HIDDEN: [&str; 8] = ["dev", "etc", "proc", "run", "sys", "tmp", "var", "boot"];
/// Directories of /var whose content is temporary by its nature.
const TEMPORARY: [&str; 1] = ["tmp"];
/// Directories of /var whose files are caches: they go, their directories belong to packages and stay.
const CACHES: [&str; 1] = ["cache"];
/// Files that make one machine differ from another, below /etc: no script gives a snapshot another one.
const MACHINE_ETC: [&str; 2] = ["machine-id", "adjtime"];
/// The same below /var.
const MACHINE_VAR: [&str; 2] = ["lib/systemd/random-seed", "lib/systemd/credential.secret"];
/// Where the package manager's keyring is: its agent leaves sockets and locks there.
const KEYRING: &str = "pacman.d/gnupg";

/// Nothing of the run is left in the copy, and everything that is mounted on has its directory.
///
/// If interrupted: some of it is done; the copy is garbage by its name.
pub(super) fn clean(parts: &Parts, machine: Option<&MachineFiles>) -> Result<(), WorkError> {
    for dir in HIDDEN {
        empty(&parts.root.join(dir))?;
    }
    for name in MOUNT_POINTS {
        make_mount_point(&parts.root, name)?;
    }
    let db = parts.root.join(PACMAN_DB);
    file::make_dirs(&db)?;
    file::remove_if_exists(&db.join("db.lck"))?;
    if let Some(var) = &parts.var {
        file::remove_if_exists(&var.join("lib/pacman/db.lck"))?;
        for dir in TEMPORARY {
            empty(&var.join(dir))?;
        }
        for dir in CACHES {
            empty_of_files(&var.join(dir))?;
        }
        unnest(var)?;
    }
    if let Some(machine) = machine {
        machine.restore(parts)?;
    }
    clean_keyring(&parts.etc.join(KEYRING))?;
    unnest(&parts.root)?;
    unnest(&parts.etc)?;
    Ok(())
}

/// `root/name` is a directory: what else has that name is removed, since it could be neither seen nor used.
fn make_mount_point(root: &Path, name: &str) -> Result<(), SysError> {
    let path = root.join(name);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => return Ok(()),
        Ok(_) => file::remove_if_exists(&path)?,
        Err(_) => {}
    }
    let mode = match name {
        "root" => 0o700,
        "tmp" => 0o1777,
        _ => 0o755,
    };
    fs::DirBuilder::new().mode(mode).create(&path).at("make the directory", &path)
}

/// The directory has nothing in it; a link in its place is not followed.
fn empty(dir: &Path) -> Result<(), SysError> {
    if !is_real_dir(dir) {
        return Ok(());
    }
    for name in file::names(dir)? {
        let path = dir.join(name);
        if is_real_dir(&path) {
            empty(&path)?;
            // An empty nested subvolume goes the same way as a directory.
            fs::remove_dir(&path).at("remove the directory", &path)?;
        } else {
            file::remove_if_exists(&path)?;
        }
    }
    Ok(())
}

/// No files are left below `dir`, its directories are.
fn empty_of_files(dir: &Path) -> Result<(), SysError> {
    if !is_real_dir(dir) {
        return Ok(());
    }
    for name in file::names(dir)? {
        let path = dir.join(name);
        if is_real_dir(&path) { empty_of_files(&path)? } else { file::remove_if_exists(&path)? }
    }
    Ok(())
}

/// The files that make one machine differ from another, as the source of a copy had them: read when the copy is made.
#[derive(Debug)]
pub(super) struct MachineFiles(Vec<MachineFile>);

/// One of them: where it is, and its content and mode if it was there.
#[derive(Debug)]
struct MachineFile {
    part: Part,
    name: &'static str,
    before: Option<(Vec<u8>, u32)>,
}

impl MachineFiles {
    /// Those of a fresh copy. Links and the like are left to themselves.
    pub(super) fn read(copy: &Parts) -> Result<Self, SysError> {
        let names = MACHINE_ETC.map(|name| (Part::Etc, name)).into_iter().chain(MACHINE_VAR.map(|name| (Part::Var, name)));
        let mut found = Vec::new();
        for (part, name) in names {
            let Some(path) = copy.get(part).map(|dir| dir.join(name)) else { continue };
            match fs::symlink_metadata(&path) {
                Ok(meta) if meta.is_file() => {
                    found.push(MachineFile { part, name, before: Some((file::read(&path)?, meta.mode() & 0o7777)) });
                }
                Ok(_) => {}
                Err(_) => found.push(MachineFile { part, name, before: None }),
            }
        }
        Ok(Self(found))
    }

    /// None is in `parts` with another content than it had. One that was removed or emptied stays so: that is how a snapshot is made for other
    /// machines, too.
    fn restore(&self, parts: &Parts) -> Result<(), SysError> {
        for MachineFile { part, name, before } in &self.0 {
            let Some(path) = parts.get(*part).map(|dir| dir.join(name)) else { continue };
            match before {
                None => file::remove_if_exists(&path)?,
                Some((bytes, mode)) => match file::read_if_exists(&path)? {
                    None => {}
                    // What machine-id(5) knows for an image that has none.
                    Some(now) if now == *bytes || now.is_empty() || now == b"uninitialized\n" => {}
                    Some(_) => {
                        file::replace(&path, bytes)?;
                        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).at("set the mode of", &path)?;
                    }
                },
            }
        }
        Ok(())
    }
}

/// Sockets and locks of a key agent are gone; keys stay.
fn clean_keyring(dir: &Path) -> Result<(), SysError> {
    if !is_real_dir(dir) {
        return Ok(());
    }
    for name in file::names(dir)? {
        let path = dir.join(&name);
        let text = name.to_string_lossy();
        let socket = fs::symlink_metadata(&path).is_ok_and(|meta| meta.file_type().is_socket());
        if socket || text.starts_with(".#lk") || text.ends_with(".lock") {
            file::remove_if_exists(&path)?;
        }
    }
    Ok(())
}

/// No subvolume is nested in `part`: an empty one (systemd makes them) is a directory of the same owner and mode now (C5).
///
/// Refuses: one that holds files; a snapshot would leave them out.
fn unnest(part: &Path) -> Result<(), WorkError> {
    if !btrfs::is_subvolume(part) {
        return Ok(());
    }
    for nested in btrfs::nested_subvolumes(part)? {
        if !file::names(&nested)?.is_empty() {
            return Err(WorkError::NestedSubvolume(nested));
        }
        let meta = fs::symlink_metadata(&nested).at("look at", &nested)?;
        btrfs::delete_subvolume(&nested)?;
        fs::DirBuilder::new().mode(0o700).create(&nested).at("make the directory", &nested)?;
        std::os::unix::fs::chown(&nested, Some(meta.uid()), Some(meta.gid())).at("set the owner of", &nested)?;
        fs::set_permissions(&nested, fs::Permissions::from_mode(meta.mode() & 0o7777)).at("set the mode of", &nested)?;
    }
    Ok(())
}

fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::expect_used)]

    use super::*;

    #[test]
    fn an_id_that_was_taken_away_is_not_given_back() {
        let taken_away = [None, Some(""), Some("uninitialized\n")].map(|now| (now, now));
        for (now, then) in taken_away.into_iter().chain([(Some("another\n"), Some("mine\n")), (Some("mine\n"), Some("mine\n"))]) {
            let dir = tempfile::tempdir().expect("a directory");
            let parts = Parts::below(dir.path());
            file::make_dirs(&parts.etc).expect("made");
            let path = parts.etc.join("machine-id");
            file::replace(&path, b"mine\n").expect("written");
            let machine = MachineFiles::read(&parts).expect("read");
            match now {
                Some(now) => file::replace(&path, now.as_bytes()).expect("written"),
                None => file::remove_if_exists(&path).expect("removed"),
            }
            machine.restore(&parts).expect("restored");
            assert_eq!(file::read_if_exists(&path).expect("read").as_deref(), then.map(str::as_bytes), "{now:?}");
        }
    }
}
