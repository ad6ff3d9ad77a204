//! What a working copy differs in from what it was made from.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::layout::{MOUNT_POINTS, PACMAN_DB, Part};
use crate::sys::{At, Result, file};
use crate::work::Parts;

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// As seen inside.
    pub path: PathBuf,
    /// How.
    pub change: Kind,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its kind, content, owner, mode or attributes are others. Times alone do not count.
    Changed,
}

/// What is left out, as seen inside: logs and caches, what `finish` takes back, what only this run needs.
const LEFT_OUT: [&str; 9] = [
    "/var/log",
    "/var/cache",
    "/var/tmp",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/etc/machine-id",
    "/etc/adjtime",
    "/etc/.updated",
    "/var/.updated",
];

/// What in `now` is other than in `before`, by path. A directory that is new or gone stands for all that is in it.
pub fn differences(before: &Parts, now: &Parts) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for part in Part::ALL {
        if let (Some(before), Some(now)) = (before.get(part), now.get(part)) {
            let top = if part == Part::Root { Path::new("/") } else { Path::new(part.mount_point()) };
            walk(before, now, top, &mut found)?;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(before: &Path, now: &Path, inside: &Path, found: &mut Vec<Difference>) -> Result<()> {
    let names: BTreeSet<_> = file::names(before)?.into_iter().chain(file::names(now)?).collect();
    for name in names {
        let path = inside.join(&name);
        let (old, new) = (look(&before.join(&name))?, look(&now.join(&name))?);
        if is_left_out(&path, old.as_ref(), new.as_ref()) {
            continue;
        }
        let change = match (&old, &new) {
            (None, None) => continue,
            (None, Some(_)) => Some(Kind::Added),
            (Some(_), None) => Some(Kind::Removed),
            (Some(old), Some(new)) => (!same(old, new, &before.join(&name), &now.join(&name))?).then_some(Kind::Changed),
        };
        if let Some(change) = change {
            found.push(Difference { path: path.clone(), change });
        }
        if old.is_some_and(|m| m.is_dir()) && new.is_some_and(|m| m.is_dir()) {
            walk(&before.join(&name), &now.join(&name), &path, found)?;
        }
    }
    Ok(())
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).at("look at", path),
    }
}

fn is_left_out(path: &Path, old: Option<&Metadata>, new: Option<&Metadata>) -> bool {
    let mount_point =
        path.parent() == Some(Path::new("/")) && path.file_name().is_some_and(|name| MOUNT_POINTS.iter().any(|dir| name == *dir));
    let lock = path.strip_prefix("/").is_ok_and(|rest| rest == Path::new(PACMAN_DB).join("db.lck"));
    let key_lock = path.starts_with("/etc/pacman.d/gnupg")
        && path.file_name().is_some_and(|n| {
            let name = n.to_string_lossy();
            name.starts_with(".#lk") || name.ends_with(".lock")
        });
    // What the host's own is mounted over, and what `finish` removes.
    let placeholder = path == Path::new("/etc/resolv.conf") && old.is_none() && new.is_some_and(|m| m.len() == 0);
    let socket = [old, new].into_iter().flatten().any(|m| m.file_type().is_socket());
    mount_point || lock || key_lock || placeholder || socket || LEFT_OUT.iter().any(|out| path.starts_with(out))
}

/// Whether both are the same but for times.
fn same(old: &Metadata, new: &Metadata, before: &Path, now: &Path) -> Result<bool> {
    // A snapshot keeps inodes and times: what has not been touched since is the same without a look into it.
    if (old.ino(), old.ctime(), old.ctime_nsec()) == (new.ino(), new.ctime(), new.ctime_nsec()) {
        return Ok(true);
    }
    let (a, b) = (old.file_type(), new.file_type());
    if a != b || (old.mode(), old.uid(), old.gid(), old.rdev()) != (new.mode(), new.uid(), new.gid(), new.rdev()) {
        return Ok(false);
    }
    if a.is_symlink() {
        return Ok(fs::read_link(before).at("read the link", before)? == fs::read_link(now).at("read the link", now)?);
    }
    if a.is_file() && (old.len() != new.len() || !same_content(before, now)?) {
        return Ok(false);
    }
    Ok(attributes(before)? == attributes(now)?)
}

fn same_content(before: &Path, now: &Path) -> Result<bool> {
    use std::io::Read as _;
    let mut readers = [fs::File::open(before).at("read", before)?, fs::File::open(now).at("read", now)?];
    let mut buffers = [vec![0; 1 << 16], vec![0; 1 << 16]];
    loop {
        let mut lengths = [0; 2];
        for ((reader, buffer), length) in readers.iter_mut().zip(&mut buffers).zip(&mut lengths) {
            while *length < buffer.len() {
                match reader.read(&mut buffer[*length..]).at("read", before)? {
                    0 => break,
                    count => *length += count,
                }
            }
        }
        if lengths[0] != lengths[1] || buffers[0][..lengths[0]] != buffers[1][..lengths[1]] {
            return Ok(false);
        }
        if lengths[0] == 0 {
            return Ok(true);
        }
    }
}

fn attributes(path: &Path) -> Result<Vec<(std::ffi::OsString, Option<Vec<u8>>)>> {
    let mut all = Vec::new();
    for name in xattr::list(path).at("list the attributes of", path)? {
        let value = xattr::get(path, &name).at("read an attribute of", path)?;
        all.push((name, value));
    }
    all.sort();
    Ok(all)
}
