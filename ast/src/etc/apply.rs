//! Carrying out what was decided, metadata and all (S8).

use std::collections::HashMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, mknod};
use nix::sys::time::TimeSpec;

use super::decide::{Action, pacnew_of};
use super::tree::Meta;
use super::{Conflict, Outcome, Report, accounts};
use crate::sys::{At, SysError, file};

/// The three directories.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub base: &'a Path,
    pub mine: &'a Path,
    pub into: &'a Path,
}

/// `into` is as decided.
pub(super) fn apply(actions: &[Action], places: &Places<'_>, report: &mut Report) -> Result<(), SysError> {
    let mut linked = HashMap::new();
    for action in actions {
        match action {
            Action::Pacnew(path) => {
                let from = places.into.join(path);
                let to = pacnew_of(&from);
                remove(&to)?;
                file::rename(&from, &to)?;
            }
            Action::Carry(path) => {
                remove(&places.into.join(path))?;
                copy(&places.mine.join(path), &places.into.join(path), &mut linked)?;
            }
            Action::CarryDir(path) => {
                let from = places.mine.join(path);
                let meta = fs::symlink_metadata(&from).at("look at", &from)?;
                make_dir(&places.into.join(path))?;
                copy_meta(&from, &meta, &places.into.join(path))?;
            }
            Action::Delete(path) => remove(&places.into.join(path))?,
            Action::Content(path) => {
                let bytes = file::read(&places.mine.join(path))?;
                file::replace(&places.into.join(path), &bytes)?;
            }
            Action::Meta(path, meta) => set_meta(&places.into.join(path), meta)?,
            Action::Accounts(path) => merge_accounts(path, places, report)?,
        }
    }
    Ok(())
}

fn merge_accounts(path: &Path, places: &Places<'_>, report: &mut Report) -> Result<(), SysError> {
    let text = |dir: &Path| -> Result<String, SysError> {
        let bytes = file::read_if_exists(&dir.join(path))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let name = path.to_string_lossy();
    let (merged, shared) = accounts::merge(&name, &text(places.base)?, &text(places.mine)?, &text(places.into)?);
    for _ in shared {
        report.conflicts.push(Conflict { path: path.to_owned(), outcome: Outcome::SameNumber });
    }
    file::replace(&places.into.join(path), merged.as_bytes())
}

/// Nothing is at `path`; links are not followed.
fn remove(path: &Path) -> Result<(), SysError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(meta) if meta.is_dir() => {
            for name in file::names(path)? {
                remove(&path.join(name))?;
            }
            fs::remove_dir(path).at("remove the directory", path)
        }
        _ => file::remove_if_exists(path),
    }
}

/// A directory is at `path`, and the ones above it.
fn make_dir(path: &Path) -> Result<(), SysError> {
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir()) {
        remove(path)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("make the directory", path)
}

/// `to` is what `from` is, with everything below it: content, links, owners, modes, times, attributes, hard links among them.
/// What vanishes meanwhile is left out.
fn copy(from: &Path, to: &Path, linked: &mut HashMap<(u64, u64), PathBuf>) -> Result<(), SysError> {
    const ACTION: &str = "copy";
    let meta = match fs::symlink_metadata(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.at(ACTION, from)?,
    };
    if let Some(above) = to.parent().filter(|above| !above.is_dir()) {
        make_dir(above)?;
    }
    if meta.is_dir() {
        make_dir(to)?;
        for name in file::names(from)? {
            copy(&from.join(&name), &to.join(&name), linked)?;
        }
    } else if meta.is_symlink() {
        symlink(fs::read_link(from).at(ACTION, from)?, to).at(ACTION, to)?;
    } else if meta.is_file() {
        if meta.nlink() > 1 {
            if let Some(first) = linked.get(&(meta.dev(), meta.ino())) {
                return fs::hard_link(first, to).at(ACTION, to);
            }
            linked.insert((meta.dev(), meta.ino()), to.to_owned());
        }
        let mut source = File::open(from).at(ACTION, from)?;
        let mut target = File::options().write(true).create_new(true).mode(0o600).open(to).at(ACTION, to)?;
        io::copy(&mut source, &mut target).at(ACTION, to)?;
    } else {
        let kind = SFlag::from_bits_truncate(meta.mode());
        if kind == SFlag::S_IFSOCK {
            return Ok(());
        }
        mknod(to, kind & SFlag::S_IFMT, Mode::from_bits_truncate(0o600), meta.rdev()).at(ACTION, to)?;
    }
    copy_meta(from, &meta, to)
}

/// Owner, mode, attributes and times of `to` are those of `from`. The owner first: changing it clears set-uid bits and capabilities.
fn copy_meta(from: &Path, meta: &Metadata, to: &Path) -> Result<(), SysError> {
    const ACTION: &str = "copy the metadata to";
    lchown(to, Some(meta.uid()), Some(meta.gid())).at(ACTION, to)?;
    if !meta.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777)).at(ACTION, to)?;
    }
    match xattr::list(from) {
        Ok(names) => {
            for name in names {
                if let Some(value) = xattr::get(from, &name).at(ACTION, to)? {
                    xattr::set(to, &name, &value).at(ACTION, to)?;
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        Err(error) => return Err(error).at(ACTION, to),
    }
    let time = |seconds: i64, nanoseconds: i64| TimeSpec::new(seconds, nanoseconds);
    let (read, written) = (time(meta.atime(), meta.atime_nsec()), time(meta.mtime(), meta.mtime_nsec()));
    let follow = nix::sys::stat::UtimensatFlags::NoFollowSymlink;
    nix::sys::stat::utimensat(nix::fcntl::AT_FDCWD, to, &read, &written, follow).at(ACTION, to)
}

/// Owner, mode and attributes of `path` are these.
fn set_meta(path: &Path, meta: &Meta) -> Result<(), SysError> {
    const ACTION: &str = "set owner and mode of";
    lchown(path, Some(meta.uid), Some(meta.gid)).at(ACTION, path)?;
    if !fs::symlink_metadata(path).at(ACTION, path)?.is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(meta.mode)).at(ACTION, path)?;
    }
    let there: Vec<_> = match xattr::list(path) {
        Ok(names) => names.collect(),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(()),
        Err(error) => return Err(error).at(ACTION, path),
    };
    for name in there.iter().filter(|name| !meta.attributes.contains_key(*name)) {
        xattr::remove(path, name).at(ACTION, path)?;
    }
    for (name, value) in &meta.attributes {
        xattr::set(path, name, value).at(ACTION, path)?;
    }
    Ok(())
}
