//! Files that survive a power cut: replaced whole, or overwritten in place within one sector.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::witness::{Change, saw};
use super::{At, Result, SysError};

/// Largest document or menu that is read whole, in bytes: what no sane machine reaches, and no memory is hurt by.
const MAX_READ: u64 = 64 << 20;
/// Bytes of most files that are read here: documents of one deployment, `ast.env`.
const USUAL_READ: usize = 4096;

/// `path` holds exactly `bytes`, now and after a power cut.
///
/// If interrupted: `path` is as before, and a file named `.NAME.tmp` may be left; the next replace overwrites it.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let tmp = beside(path, ".", ".tmp")?;
    write_synced(&tmp, bytes)?;
    fs_rename(&tmp, path)?;
    fsync_dir(parent(path)?)
}

/// Each path holds exactly its bytes, one after the other, and after the next [`syncfs`] also after a power cut. All are in one directory
/// of one filesystem, which is synced once for all of them, before the first is replaced.
///
/// If interrupted: those up to one of them are new, the others as before; files named `.NAME.tmp` may be left, as by [`replace`].
pub fn replace_all(dir: &Path, files: &[(PathBuf, Vec<u8>)]) -> Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    files.iter().try_for_each(|(path, bytes)| stage(path, bytes))?;
    syncfs(dir)?;
    files.iter().try_for_each(|(path, _)| publish(path))
}

/// What `path` is to hold waits beside it, on disk after the next [`syncfs`]; then [`publish`] makes it so.
///
/// If interrupted: a file named `.NAME.tmp` may be left, as by [`replace`].
pub fn stage(path: &Path, bytes: &[u8]) -> Result<()> {
    write_as(&beside(path, ".", ".tmp")?, bytes, 0o644).map(drop)
}

/// Whether this is the name of what [`stage`] leaves beside a file.
pub fn is_staged(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_bytes().starts_with(b".") && name.as_bytes().ends_with(b".tmp"))
}

/// `path` holds exactly `bytes`, and after the next [`syncfs`] also after a power cut; one before that may leave anything there. For what
/// nothing names yet.
pub fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    stage(path, bytes)?;
    publish(path)
}

/// `path` holds what was staged for it, and after the next sync of its directory also after a power cut.
pub fn publish(path: &Path) -> Result<()> {
    fs_rename(&beside(path, ".", ".tmp")?, path)
}

/// `to` holds what the file `from` holds, now and after a power cut. For files of any size.
///
/// If interrupted: `to` is as before, and a file named `.NAME.tmp` may be left; the next copy overwrites it.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    const ACTION: &str = "copy to";
    let tmp = beside(to, ".", ".tmp")?;
    let mut source = File::open(from).at("read", from)?;
    let mut target = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(&tmp)
        .at(ACTION, &tmp)?;
    std::io::copy(&mut source, &mut target).and_then(|_| target.sync_data()).at(ACTION, &tmp)?;
    saw(Change::Wrote(&tmp));
    saw(Change::Synced(&tmp));
    fs_rename(&tmp, to)?;
    fsync_dir(parent(to)?)
}

/// As [`replace`], and what was there before is kept as `NAME.old`.
///
/// If interrupted: `path` is whole, old or new; `NAME.old` is whole.
pub fn replace_keeping_old(path: &Path, bytes: &[u8]) -> Result<()> {
    keep_old(path)?;
    replace(path, bytes)
}

/// As [`replace_keeping_old`], with what was staged for `path` and is on disk by now.
pub fn publish_keeping_old(path: &Path) -> Result<()> {
    keep_old(path)?;
    publish(path)?;
    fsync_dir(parent(path)?)
}

fn keep_old(path: &Path) -> Result<()> {
    keep_as(path, &old_copy(path)?)
}

/// What is at `path`, if anything is, is found as `NAME.damaged` too, for whoever wants to know. It is not read: it may be what cannot be. As
/// long as it has a name, nothing else is put on its bad sectors. The caller replaces `path`, which syncs both names.
///
/// If interrupted: `path` is as before.
pub fn set_aside(path: &Path) -> Result<()> {
    keep_as(path, &beside(path, "", ".damaged")?)
}

/// The file at `path`, if there is one, is `kept` too.
fn keep_as(path: &Path, kept: &Path) -> Result<()> {
    const ACTION: &str = "give a second name to";
    // The same file under a second name: nothing of it has to be written again, and the directory is synced once, for both names.
    let link = beside(kept, ".", ".tmp")?;
    remove_if_exists(&link)?;
    match fs::hard_link(path, &link) {
        Ok(()) => {
            saw(Change::Linked(path, &link));
            fs_rename(&link, kept)?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).at(ACTION, path),
    }
    // Where both are one file already a rename does nothing, and leaves this name.
    remove_if_exists(&link)
}

/// `path` holds exactly `bytes`, now and after a power cut, and only root can read it.
///
/// If interrupted: as [`replace`].
pub fn replace_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    let tmp = beside(path, ".", ".tmp")?;
    remove_if_exists(&tmp)?;
    write_synced_as(&tmp, bytes, 0o600)?;
    fs_rename(&tmp, path)?;
    fsync_dir(parent(path)?)
}

/// A file without a name on the filesystem of `dir`, gone with its last user.
pub fn unnamed(dir: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_TMPFILE)
        .open(dir)
        .at("make a file without a name in", dir)
}

/// A file that is written beside `path` and becomes it at the end.
#[derive(Debug)]
#[must_use = "dropped, it is gone"]
pub struct Draft {
    /// To be written.
    pub file: File,
    tmp: PathBuf,
    path: PathBuf,
    /// Whether it has no name yet, so that an interruption leaves nothing.
    unnamed: bool,
    published: bool,
}

impl Draft {
    /// An empty file for what will be at `path`, with this mode.
    ///
    /// If interrupted: nothing is left, or on a filesystem that has no files without a name `.NAME.tmp`, which the next one overwrites.
    pub fn of(path: &Path, mode: u32) -> Result<Self> {
        let tmp = beside(path, ".", ".tmp")?;
        remove_if_exists(&tmp)?;
        let dir = parent(path)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).mode(mode);
        let (file, unnamed) = match options.clone().custom_flags(nix::libc::O_TMPFILE).open(dir) {
            Ok(file) => (file, true),
            // FAT, and some network filesystems.
            Err(error) if matches!(error.raw_os_error(), Some(nix::libc::EOPNOTSUPP | nix::libc::EISDIR | nix::libc::EINVAL)) => {
                (options.create_new(true).custom_flags(nix::libc::O_NOFOLLOW).open(&tmp).at("make the file", &tmp)?, false)
            }
            Err(error) => return Err(error).at("make a file in", dir),
        };
        Ok(Self { file, tmp, path: path.to_owned(), unnamed, published: false })
    }

    /// It is on disk and is `path`, whatever was there before.
    ///
    /// If interrupted: `path` is as before or whole.
    pub fn publish(mut self) -> Result<()> {
        use std::os::fd::AsRawFd;
        const ACTION: &str = "write";
        self.file.sync_all().at(ACTION, &self.path)?;
        if self.unnamed {
            let own = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
            let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
            nix::unistd::linkat(nix::fcntl::AT_FDCWD, &own, nix::fcntl::AT_FDCWD, &self.tmp, follow).at(ACTION, &self.tmp)?;
            self.unnamed = false;
            saw(Change::Wrote(&self.tmp));
        }
        fs_rename(&self.tmp, &self.path)?;
        self.published = true;
        fsync_dir(parent(&self.path)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.published && !self.unnamed {
            drop(remove_if_exists(&self.tmp));
        }
    }
}

/// Name of the older copy that [`replace_keeping_old`] keeps.
pub fn old_copy(path: &Path) -> Result<PathBuf> {
    beside(path, "", ".old")
}

/// `path` holds exactly `bytes`, now and after a power cut, with the owner and the mode of what was there before; new, it is root's and
/// readable by all.
///
/// If interrupted: as [`replace`]. At no time can anybody read it who could not before.
pub fn replace_like(path: &Path, bytes: &[u8]) -> Result<()> {
    const ACTION: &str = "replace";
    let Ok(meta) = fs::symlink_metadata(path) else { return replace(path, bytes) };
    let tmp = beside(path, ".", ".tmp")?;
    remove_if_exists(&tmp)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&tmp).at(ACTION, &tmp)?;
    file.write_all(bytes).at(ACTION, &tmp)?;
    std::os::unix::fs::fchown(&file, Some(meta.uid()), Some(meta.gid())).at(ACTION, &tmp)?;
    file.set_permissions(fs::Permissions::from_mode(meta.mode() & 0o7777)).at(ACTION, &tmp)?;
    file.sync_all().at(ACTION, &tmp)?;
    saw(Change::Wrote(&tmp));
    saw(Change::Synced(&tmp));
    fs_rename(&tmp, path)?;
    fsync_dir(parent(path)?)
}

/// The bytes at `offset` of `path` are `bytes`, and the device has them. The file is neither created, truncated nor extended.
///
/// If interrupted: one sector of 512 bytes is old or new.
/// Refuses: a file that ends before the last byte.
pub fn write_in_place(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    const ACTION: &str = "overwrite in place";
    let file = OpenOptions::new().read(true).write(true).open(path).at(ACTION, path)?;
    // A read of the whole range proves that it lies inside: a device has no length in its metadata.
    let mut there = vec![0; bytes.len()];
    file.read_exact_at(&mut there, offset).at(ACTION, path)?;
    file.write_all_at(bytes, offset).at(ACTION, path)?;
    file.sync_data().at(ACTION, path)?;
    saw(Change::InPlace(path));
    Ok(())
}

/// Bytes in a page: the kernel reads and writes a device in no smaller pieces, and reads what is not written whole first.
pub const PAGE: usize = 4096;

/// The page at `offset` of `path` holds `bytes`, and the device has them. Nothing is read before: what was there may be what cannot be.
///
/// If interrupted: each of its sectors is old or new.
pub fn write_page(path: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    const ACTION: &str = "overwrite the page in";
    let file = OpenOptions::new().write(true).open(path).at(ACTION, path)?;
    file.write_all_at(bytes, offset).at(ACTION, path)?;
    file.sync_data().at(ACTION, path)?;
    saw(Change::InPlace(path));
    Ok(())
}

/// `length` bytes at `offset` of `path`.
pub fn read_at(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    File::open(path).and_then(|f| f.read_exact_at(&mut bytes, offset)).at("read", path)?;
    Ok(bytes)
}

/// The same from the device, not from what the kernel remembers of it, as far as nobody holds that in memory.
pub fn read_at_from_device(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    let file = File::open(path).at("read", path)?;
    let (start, count) = (i64::try_from(offset).unwrap_or(0), i64::try_from(length).unwrap_or(0));
    // Only advice; where it is not taken the bytes are those that were written.
    let _ = nix::fcntl::posix_fadvise(&file, start, count, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    read_at(path, offset, length)
}

/// What is in `path`.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    // Room for most of what is read here: two system calls then, the second at the end.
    let mut bytes = Vec::with_capacity(USUAL_READ);
    File::open(path).and_then(|f| f.take(MAX_READ).read_to_end(&mut bytes)).at("read", path)?;
    Ok(bytes)
}

/// What is in `path`; `None` when there is no such file.
pub fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>> {
    match read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same for what can be made anew: `None` also when the disk does not give it back.
pub fn read_if_readable(path: &Path) -> Result<Option<Vec<u8>>> {
    match read_if_exists(path) {
        Err(error) if error.is_unreadable() => Ok(None),
        other => other,
    }
}

/// A new line is at the end of `path`; on disk with the next sync of the filesystem.
///
/// If interrupted: a part of the line may be there.
pub fn append_line(path: &Path, line: &str) -> Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path).at("append to", path)?;
    file.write_all(format!("{line}\n").as_bytes()).at("append to", path)?;
    saw(Change::Wrote(path));
    Ok(())
}

/// Everything written to the filesystem of `path` is in its committed tree, where GRUB reads it too (S4).
pub fn syncfs(path: &Path) -> Result<()> {
    let file = File::open(path).at("sync the filesystem of", path)?;
    nix::unistd::syncfs(&file).at("sync the filesystem of", path)?;
    saw(Change::Committed(path));
    Ok(())
}

/// The names in `dir` are on disk.
pub fn fsync_dir(dir: &Path) -> Result<()> {
    File::open(dir).and_then(|d| d.sync_all()).at("sync the directory", dir)?;
    saw(Change::SyncedDir(dir));
    Ok(())
}

/// `link` is a symbolic link to `target`, whatever link was there before.
///
/// Refuses: to replace anything but a symbolic link.
pub fn symlink_replace(target: &Path, link: &Path) -> Result<()> {
    const ACTION: &str = "replace the link";
    match fs::symlink_metadata(link) {
        Ok(meta) if !meta.file_type().is_symlink() => {
            let source = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is not a symbolic link");
            return Err(SysError { action: ACTION, path: link.to_owned(), source });
        }
        Ok(_) if fs::read_link(link).is_ok_and(|t| t == target) => return Ok(()),
        _ => {}
    }
    let tmp = beside(link, ".", ".tmp")?;
    remove_if_exists(&tmp)?;
    symlink(target, &tmp).at(ACTION, &tmp)?;
    saw(Change::Made(&tmp));
    fs_rename(&tmp, link)
}

/// `dir` and the directories above it exist.
pub fn make_dirs(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).at("make the directory", dir)?;
    saw(Change::Made(dir));
    Ok(())
}

/// Nobody but root sees what is in the directory `dir`.
pub fn only_for_root(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).at("close", dir)
}

/// `path` is a file that holds `bytes` of space, whatever is in it; made if it is missing.
///
/// If interrupted: it may be shorter.
/// Refuses (kernel): when there is not as much space.
pub fn reserve(path: &Path, bytes: u64) -> Result<()> {
    const ACTION: &str = "set space aside in";
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).at(ACTION, path)?;
    let length = i64::try_from(bytes).unwrap_or(i64::MAX);
    nix::fcntl::fallocate(&file, nix::fcntl::FallocateFlags::empty(), 0, length).at(ACTION, path)
}

/// Whether two files hold the same bytes.
pub fn same_content(one: &Path, other: &Path) -> Result<bool> {
    const ACTION: &str = "compare";
    let mut one_file = std::io::BufReader::new(File::open(one).at(ACTION, one)?);
    let mut other_file = std::io::BufReader::new(File::open(other).at(ACTION, other)?);
    loop {
        use std::io::BufRead as _;
        let (a, b) = (one_file.fill_buf().at(ACTION, one)?, other_file.fill_buf().at(ACTION, other)?);
        let length = a.len().min(b.len());
        if length == 0 {
            return Ok(a.len() == b.len());
        }
        if a.get(..length) != b.get(..length) {
            return Ok(false);
        }
        one_file.consume(length);
        other_file.consume(length);
    }
}

/// There is no file or link `path` (a directory is refused).
pub fn remove_if_exists(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        done => done.at("remove", path)?,
    }
    saw(Change::Removed(path));
    Ok(())
}

/// There is no directory `dir`.
///
/// Refuses (kernel): one that holds anything.
pub fn remove_dir_if_exists(dir: &Path) -> Result<()> {
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        done => done.at("remove the directory", dir)?,
    }
    saw(Change::Removed(dir));
    Ok(())
}

/// `to` is what `from` was; both are in one directory, which the caller syncs.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs_rename(from, to)
}

/// `a` and `b` are each what the other was; the caller commits the filesystem.
///
/// If interrupted: both are as they were, or both are exchanged.
pub fn exchange(a: &Path, b: &Path) -> Result<()> {
    let flags = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
    nix::fcntl::renameat2(nix::fcntl::AT_FDCWD, a, nix::fcntl::AT_FDCWD, b, flags).map_err(std::io::Error::from).at("exchange", a)?;
    saw(Change::Exchanged(a, b));
    Ok(())
}

/// Names in `dir`, sorted. Empty when there is no such directory.
pub fn names(dir: &Path) -> Result<Vec<OsString>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).at("list", dir),
    };
    let mut names = entries.map(|e| e.map(|e| e.file_name())).collect::<std::io::Result<Vec<_>>>().at("list", dir)?;
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    write_synced_as(path, bytes, 0o644)
}

fn write_synced_as(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    write_as(path, bytes, mode)?.sync_data().at("write", path)?;
    saw(Change::Synced(path));
    Ok(())
}

fn write_as(path: &Path, bytes: &[u8], mode: u32) -> Result<File> {
    const ACTION: &str = "write";
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .at(ACTION, path)?;
    file.write_all(bytes).at(ACTION, path)?;
    saw(Change::Wrote(path));
    Ok(file)
}

#[expect(clippy::disallowed_methods, reason = "this is the room that owns it; the callers above sync the directory")]
fn fs_rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).at("rename to", to)?;
    saw(Change::Renamed(from, to));
    Ok(())
}

fn parent(path: &Path) -> Result<&Path> {
    match path.parent() {
        Some(dir) if dir.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(dir) => Ok(dir),
        None => Err(std::io::Error::from(std::io::ErrorKind::InvalidInput)).at("find the directory of", path),
    }
}

fn beside(path: &Path, before: &str, after: &str) -> Result<PathBuf> {
    let dir = parent(path)?;
    let Some(name) = path.file_name() else {
        return Err(std::io::Error::from(std::io::ErrorKind::InvalidInput)).at("find the name of", path);
    };
    let mut full = OsString::from(before);
    full.push(name);
    full.push(after);
    Ok(dir.join(full))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
