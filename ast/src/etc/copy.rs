//! Copies that are true to metadata (S8), each path put in its place whole.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;

use super::accounts::Owners;
use super::tree::{Meta, ON_ITS_WAY, attributes};
use crate::sys::{At, SysError, file};

const ACTION: &str = "copy";

/// Where a path is made before it takes its place.
fn on_its_way(to: &Path) -> Result<PathBuf, SysError> {
    let mut name = std::ffi::OsString::from(ON_ITS_WAY);
    name.push(to.file_name().unwrap_or(OsStr::new("x")));
    let path = to.with_file_name(name);
    remove(&path)?;
    Ok(path)
}

/// Nothing is at `path`; links are not followed.
pub(super) fn remove(path: &Path) -> Result<(), SysError> {
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
pub(super) fn make_dir(path: &Path) -> Result<(), SysError> {
    if fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_dir()) {
        remove(path)?;
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).at("make the directory", path)
}

/// What was made at `from` is at `to`, in the place of whatever was there.
fn put(from: &Path, to: &Path) -> Result<(), SysError> {
    if fs::symlink_metadata(to).is_ok_and(|meta| meta.is_dir()) {
        remove(to)?;
    }
    file::rename(from, to)
}

/// Copies of one device's files, with numbers as the owners say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Copier<'a>(pub &'a Owners);

impl Copier<'_> {
    /// `to` is what `from` is, with everything below it: content, owners, modes, times, attributes. What vanishes meanwhile is left out. What
    /// has several names is copied for each: which of them are one in the end is known only when all metadata are.
    pub(super) fn copy(self, from: &Path, to: &Path) -> Result<(), SysError> {
        let meta = match fs::symlink_metadata(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.at(ACTION, from)?,
        };
        if let Some(above) = to.parent().filter(|above| !above.is_dir()) {
            make_dir(above)?;
        }
        if meta.is_dir() {
            remove(to)?;
            make_dir(to)?;
            for name in file::names(from)? {
                self.copy(&from.join(&name), &to.join(&name))?;
            }
            return self.as_source(from, &meta, to);
        }
        let made = on_its_way(to)?;
        if meta.is_symlink() {
            symlink(fs::read_link(from).at(ACTION, from)?, &made).at(ACTION, &made)?;
        } else if meta.is_file() {
            content(from, &made)?;
        } else {
            let kind = SFlag::from_bits_truncate(meta.mode()) & SFlag::S_IFMT;
            if kind == SFlag::S_IFSOCK {
                return Ok(());
            }
            mknod(&made, kind, Mode::from_bits_truncate(0o600), meta.rdev()).at(ACTION, &made)?;
        }
        self.as_source(from, &meta, &made)?;
        put(&made, to)
    }

    /// Owner, mode, attributes and times of `to` are those of `from`.
    pub(super) fn as_source(self, from: &Path, meta: &Metadata, to: &Path) -> Result<(), SysError> {
        let (uid, gid) = self.0.of(meta.uid(), meta.gid());
        set_meta(to, &Meta { mode: meta.mode() & 0o7777, uid, gid, attributes: attributes(from)? })?;
        set_times(to, meta)
    }
}

/// A new file at `to` has the content of `from`, and nobody but root can read it yet.
fn content(from: &Path, to: &Path) -> Result<(), SysError> {
    let mut source = File::open(from).at(ACTION, from)?;
    let mut target = File::options().write(true).create_new(true).mode(0o600).open(to).at(ACTION, to)?;
    io::copy(&mut source, &mut target).at(ACTION, to).map(drop)
}

/// The file `to` has the content and the times of `from`, and this metadata.
pub(super) fn replace_content(from: &Path, to: &Path, meta: &Meta) -> Result<(), SysError> {
    let made = on_its_way(to)?;
    content(from, &made)?;
    set_meta(&made, meta)?;
    set_times(&made, &fs::symlink_metadata(from).at(ACTION, from)?)?;
    put(&made, to)
}

/// The file `to` holds `bytes`, with this metadata.
pub(super) fn write(to: &Path, bytes: &[u8], meta: &Meta) -> Result<(), SysError> {
    let made = on_its_way(to)?;
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&made).at(ACTION, &made)?;
    // Into the running /etc, where a name may come to disk before what was written; a copy shares its blocks and has them at once.
    io::Write::write_all(&mut file, bytes).and_then(|()| file.sync_data()).at(ACTION, &made)?;
    set_meta(&made, meta)?;
    put(&made, to)
}

/// The file at `path` has no other name; those that it had keep what it was.
pub(super) fn unlink_from_others(path: &Path) -> Result<(), SysError> {
    let meta = fs::symlink_metadata(path).at("look at", path)?;
    if !meta.is_file() || meta.nlink() == 1 {
        return Ok(());
    }
    let made = on_its_way(path)?;
    content(path, &made)?;
    Copier(&Owners::default()).as_source(path, &meta, &made)?;
    put(&made, path)
}

/// `path` is another name of the file at `first`.
pub(super) fn link(first: &Path, path: &Path) -> Result<(), SysError> {
    let made = on_its_way(path)?;
    fs::hard_link(first, &made).at("link", &made)?;
    put(&made, path)
}

fn set_times(path: &Path, meta: &Metadata) -> Result<(), SysError> {
    let (read, written) = (TimeSpec::new(meta.atime(), meta.atime_nsec()), TimeSpec::new(meta.mtime(), meta.mtime_nsec()));
    utimensat(nix::fcntl::AT_FDCWD, path, &read, &written, UtimensatFlags::NoFollowSymlink).at("set the times of", path)
}

/// Owner, mode and attributes of `path` are these. The owner first: changing it clears set-uid bits and capabilities.
pub(super) fn set_meta(path: &Path, meta: &Meta) -> Result<(), SysError> {
    const ACTION: &str = "set owner and mode of";
    lchown(path, Some(meta.uid), Some(meta.gid)).at(ACTION, path)?;
    if !fs::symlink_metadata(path).at(ACTION, path)?.is_symlink() {
        fs::set_permissions(path, fs::Permissions::from_mode(meta.mode)).at(ACTION, path)?;
    }
    let there = attributes(path)?;
    for name in there.keys().filter(|name| !meta.attributes.contains_key(*name)) {
        supported(xattr::remove(path, name)).at(ACTION, path)?;
    }
    for (name, value) in meta.attributes.iter().filter(|(name, value)| there.get(*name) != Some(*value)) {
        supported(xattr::set(path, name, value)).at(ACTION, path)?;
    }
    Ok(())
}

/// What this filesystem has no place for cannot be kept on it, and is no reason to fail an unattended deploy.
fn supported(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::EOPNOTSUPP as i32) => Ok(()),
        other => other,
    }
}
