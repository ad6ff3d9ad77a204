//! btrfs by its ioctls. Source of numbers and structures: Linux `include/uapi/linux/btrfs.h` and `fiemap.h`.
#![allow(unsafe_code)]

mod devices;
mod extents;

pub use devices::{Device, devices, space};
pub use extents::{data, is_stored_plain};

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::{At, Result, SysError, device::format_uuid, witness};

/// Inode number of the root directory of every subvolume.
const SUBVOLUME_INODE: u64 = 256;
/// `BTRFS_SUBVOL_RDONLY`.
const READ_ONLY: u64 = 1 << 1;
/// `BTRFS_ROOT_REF_KEY`: an item that names a subvolume inside another.
const ROOT_REF: u32 = 156;

const fn request(direction: u32, kind: u8, number: u8, size: usize) -> libc::c_ulong {
    ((direction as libc::c_ulong) << 30) | ((size as libc::c_ulong) << 16) | ((kind as libc::c_ulong) << 8) | number as libc::c_ulong
}
const WRITE: u32 = 1;
const READ: u32 = 2;
const MAGIC: u8 = 0x94;

/// `struct btrfs_ioctl_vol_args_v2`, with a name.
#[repr(C)]
struct VolArgs2 {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_vol_args`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    name: [u8; 4088],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InoLookup {
    treeid: u64,
    objectid: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_search_args`.
#[repr(C)]
struct Search {
    tree_id: u64,
    min_objectid: u64,
    max_objectid: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    nr_items: u32,
    unused: [u32; 9],
    buf: [u8; 3992],
}

impl Search {
    /// Items of this kind that `object` has in the root tree, from `offset` on.
    const fn in_root_tree(object: u64, kind: u32, offset: u64, most: u32) -> Self {
        Self {
            tree_id: 1,
            min_objectid: object,
            max_objectid: object,
            min_offset: offset,
            max_offset: u64::MAX,
            min_transid: 0,
            max_transid: u64::MAX,
            min_type: kind,
            max_type: kind,
            nr_items: most,
            unused: [0; 9],
            buf: [0; 3992],
        }
    }

    /// `buf` holds what was found, `nr_items` of it.
    fn ask(&mut self, file: &File) -> std::io::Result<()> {
        call(file, request(READ | WRITE, MAGIC, 17, 4096), self)
    }
}

fn call<T>(file: &File, number: libc::c_ulong, argument: &mut T) -> std::io::Result<()> {
    // SAFETY: every caller pairs a request number with the structure whose size is encoded in that number, so the kernel
    // reads and writes inside `argument`, which is borrowed mutably for the whole call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), number, std::ptr::from_mut(argument)) };
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// Whether a new snapshot can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Never again, until its flag is cleared.
    ReadOnly,
    /// By whoever the modes allow.
    Writable,
}

fn split(path: &Path, action: &'static str) -> Result<(File, [u8; 4040])> {
    let invalid = |text: &'static str| SysError {
        action,
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, text),
    };
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(invalid("it has no name")) };
    let mut buffer = [0; 4040];
    // 255 is what btrfs allows for one name.
    if name.len() > 255 {
        return Err(invalid("its name is longer than 255 bytes"));
    }
    buffer.iter_mut().zip(name.as_bytes()).for_each(|(to, from)| *to = *from);
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    Ok((File::open(dir).at(action, dir)?, buffer))
}

/// There is an empty subvolume at `path`.
pub fn create_subvolume(path: &Path) -> Result<()> {
    const ACTION: &str = "create the subvolume";
    if let Some(done) = witness::ask(|btrfs| btrfs.create_subvolume(path)) {
        return done.at(ACTION, path);
    }
    let (dir, name) = split(path, ACTION)?;
    let mut args = VolArgs2 { fd: 0, transid: 0, flags: 0, unused: [0; 4], name };
    call(&dir, request(WRITE, MAGIC, 24, 4096), &mut args).at(ACTION, path)
}

/// `to` is a new subvolume with the content of the subvolume `from`; nested subvolumes are empty directories in it.
///
/// If interrupted: `to` is whole or absent, once the filesystem has committed.
pub fn snapshot(from: &Path, to: &Path, access: Access) -> Result<()> {
    const ACTION: &str = "make the snapshot";
    if let Some(done) = witness::ask(|btrfs| btrfs.snapshot(from, to, access)) {
        return done.at(ACTION, to);
    }
    let source = File::open(from).at(ACTION, from)?;
    let (dir, name) = split(to, ACTION)?;
    let flags = match access {
        Access::ReadOnly => READ_ONLY,
        Access::Writable => 0,
    };
    let mut args = VolArgs2 { fd: i64::from(source.as_raw_fd()), transid: 0, flags, unused: [0; 4], name };
    call(&dir, request(WRITE, MAGIC, 23, 4096), &mut args).at(ACTION, to)
}

/// There is no subvolume at `path`; its space comes back in the background.
///
/// Refuses (kernel): one that still holds nested subvolumes, or is the filesystem's default. **Not** one that is mounted: the caller asks.
pub fn delete_subvolume(path: &Path) -> Result<()> {
    const ACTION: &str = "delete the subvolume";
    if let Some(done) = witness::ask(|btrfs| btrfs.delete_subvolume(path)) {
        return done.at(ACTION, path);
    }
    let (dir, name) = split(path, ACTION)?;
    let mut args = VolArgs { fd: 0, name: [0; 4088] };
    args.name.iter_mut().zip(name).for_each(|(to, from)| *to = from);
    call(&dir, request(WRITE, MAGIC, 15, 4096), &mut args).at(ACTION, path)
}

/// Whether `path` is the root of a subvolume of a btrfs, as far as that can be told.
pub fn is_subvolume(path: &Path) -> bool {
    subvolume_there(path).unwrap_or(false)
}

/// Whether `path` is the root of a subvolume of a btrfs.
///
/// Refuses: when the disk does not let that be told.
pub fn subvolume_there(path: &Path) -> Result<bool> {
    const ACTION: &str = "look for the subvolume";
    if let Some(done) = witness::ask(|btrfs| btrfs.is_subvolume(path)) {
        return done.at(ACTION, path);
    }
    match std::fs::symlink_metadata(path) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => Ok(false),
        Ok(meta) if !(meta.is_dir() && meta.ino() == SUBVOLUME_INODE) => Ok(false),
        meta => {
            meta.at(ACTION, path)?;
            Ok(nix::sys::statfs::statfs(path).at(ACTION, path)?.filesystem_type() == nix::sys::statfs::BTRFS_SUPER_MAGIC)
        }
    }
}

/// The subvolume at `path` is read-only, or writable.
pub fn set_read_only(path: &Path, read_only: bool) -> Result<()> {
    const ACTION: &str = "change the read-only flag of";
    if let Some(done) = witness::ask(|btrfs| btrfs.set_read_only(path, read_only)) {
        return done.at(ACTION, path);
    }
    let file = File::open(path).at(ACTION, path)?;
    let mut flags: u64 = 0;
    call(&file, request(READ, MAGIC, 25, 8), &mut flags).at(ACTION, path)?;
    let mut wanted = if read_only { flags | READ_ONLY } else { flags & !READ_ONLY };
    if wanted == flags {
        return Ok(());
    }
    call(&file, request(WRITE, MAGIC, 26, 8), &mut wanted).at(ACTION, path)
}

/// Whether the subvolume at `path` is read-only.
pub fn is_read_only(path: &Path) -> Result<bool> {
    const ACTION: &str = "read the flags of";
    if let Some(done) = witness::ask(|btrfs| btrfs.is_read_only(path)) {
        return done.at(ACTION, path);
    }
    let mut flags: u64 = 0;
    call(&File::open(path).at(ACTION, path)?, request(READ, MAGIC, 25, 8), &mut flags).at(ACTION, path)?;
    Ok(flags & READ_ONLY != 0)
}

/// Id of the subvolume that holds `path`.
pub fn subvolume_id(path: &Path) -> Result<u64> {
    const ACTION: &str = "look up the subvolume of";
    if let Some(done) = witness::ask(|btrfs| btrfs.subvolume_id(path)) {
        return done.at(ACTION, path);
    }
    let mut args = InoLookup { treeid: 0, objectid: SUBVOLUME_INODE, name: [0; 4080] };
    call(&File::open(path).at(ACTION, path)?, request(READ | WRITE, MAGIC, 18, 4096), &mut args).at(ACTION, path)?;
    Ok(args.treeid)
}

/// What a subvolume is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uuids {
    /// Its own UUID.
    pub own: String,
    /// The UUID of what it was received from; the kernel forgets it when the subvolume is made writable.
    pub received: Option<String>,
}

/// `struct btrfs_ioctl_get_subvol_info_args`: offsets of the generation, the two UUIDs, the generation when it was made, and its size.
const INFO_GENERATION: usize = 280;
const INFO_UUID: usize = 296;
const INFO_RECEIVED: usize = 328;
const INFO_MADE: usize = 352;
const INFO_SIZE: usize = 504;

fn info(path: &Path, action: &'static str) -> Result<[u8; INFO_SIZE]> {
    let mut info = [0u8; INFO_SIZE];
    call(&File::open(path).at(action, path)?, request(READ, MAGIC, 60, INFO_SIZE), &mut info).at(action, path)?;
    Ok(info)
}

/// Whether nothing in the subvolume at `path` was written since it was made, as far as that is on disk already ([`super::file::syncfs`]).
/// A read that sets a time counts as a write, and so does a snapshot of it.
pub fn is_as_made(path: &Path) -> Result<bool> {
    if let Some(done) = witness::ask(|btrfs| btrfs.is_as_made(path)) {
        return done.at("read the generation of", path);
    }
    let info = info(path, "read the generation of")?;
    let number = |at: usize| info.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    Ok(number(INFO_GENERATION).is_some() && number(INFO_GENERATION) == number(INFO_MADE))
}

/// What the subvolume at `path` is known by.
pub fn uuids(path: &Path) -> Result<Uuids> {
    const ACTION: &str = "read the UUIDs of";
    let info = info(path, ACTION)?;
    let uuid = |at: usize| info.get(at..at + 16).filter(|bytes| bytes.iter().any(|b| *b != 0)).and_then(format_uuid);
    let none = || SysError { action: ACTION, path: path.to_owned(), source: std::io::ErrorKind::InvalidData.into() };
    Ok(Uuids { own: uuid(INFO_UUID).ok_or_else(none)?, received: uuid(INFO_RECEIVED) })
}

/// The subvolume that holds all others.
const TOP_LEVEL: u64 = 5;

/// Id of the subvolume that is mounted of the filesystem of `path` when nothing else is said. Source: `btrfs_dir_item` named `default` in the
/// directory of the root tree. Needs root.
pub fn default_subvolume(path: &Path) -> Result<u64> {
    const ACTION: &str = "read the default subvolume at";
    /// Object of that directory, type of its item.
    const ROOT_DIR: u64 = 6;
    const DIR_ITEM: u32 = 84;
    let mut search = Search::in_root_tree(ROOT_DIR, DIR_ITEM, 0, 1);
    search.ask(&File::open(path).at(ACTION, path)?).at(ACTION, path)?;
    let id = search.buf.get(32..40).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    Ok(id.filter(|_| search.nr_items > 0).unwrap_or(TOP_LEVEL))
}

/// The top level is what is mounted of the filesystem of `path` when nothing else is said, so that any subvolume may go. Needs root.
pub fn reset_default_subvolume(path: &Path) -> Result<()> {
    const ACTION: &str = "reset the default subvolume at";
    let mut id = TOP_LEVEL;
    call(&File::open(path).at(ACTION, path)?, request(WRITE, MAGIC, 19, 8), &mut id).at(ACTION, path).map(drop)
}

/// UUID of the btrfs that holds `path`, as `blkid` writes it.
pub fn filesystem_uuid(path: &Path) -> Result<String> {
    const ACTION: &str = "read the filesystem's UUID at";
    if let Some(done) = witness::ask(|btrfs| btrfs.filesystem_uuid(path)) {
        return done.at(ACTION, path);
    }
    let mut info = [0u8; 1024];
    call(&File::open(path).at(ACTION, path)?, request(READ, MAGIC, 31, 1024), &mut info).at(ACTION, path)?;
    info.get(16..32).and_then(format_uuid).ok_or_else(|| SysError {
        action: ACTION,
        path: path.to_owned(),
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

/// Subvolumes directly inside the subvolume at `path`, as paths below it. Needs root.
pub fn nested_subvolumes(path: &Path) -> Result<Vec<PathBuf>> {
    const ACTION: &str = "list the subvolumes inside";
    if let Some(done) = witness::ask(|btrfs| btrfs.nested_subvolumes(path)) {
        return done.at(ACTION, path);
    }
    let file = File::open(path).at(ACTION, path)?;
    let id = subvolume_id(path)?;
    let mut found = Vec::new();
    let mut from = 0;
    loop {
        let mut search = Search::in_root_tree(id, ROOT_REF, from, 4096);
        search.ask(&file).at(ACTION, path)?;
        if search.nr_items == 0 {
            return Ok(found);
        }
        let mut rest = search.buf.as_slice();
        for _ in 0..search.nr_items {
            let Some((offset, dir, name, after)) = root_ref(rest) else { break };
            let mut lookup = InoLookup { treeid: id, objectid: dir, name: [0; 4080] };
            call(&file, request(READ | WRITE, MAGIC, 18, 4096), &mut lookup).at(ACTION, path)?;
            let prefix = lookup.name.split(|b| *b == 0).next().unwrap_or_default();
            found.push(path.join(std::ffi::OsStr::from_bytes(prefix)).join(std::ffi::OsStr::from_bytes(name)));
            from = offset.saturating_add(1);
            rest = after;
        }
    }
}

/// Whether space of deleted subvolumes is still to come back on the filesystem that holds `path`: the kernel does that in the background.
/// Needs root. Source: the orphan item that a subvolume has in the root tree from its deletion until the last of it is gone.
pub fn is_cleaning(path: &Path) -> Result<bool> {
    const ACTION: &str = "ask for deleted subvolumes of";
    /// `BTRFS_ORPHAN_OBJECTID`, `BTRFS_ORPHAN_ITEM_KEY`.
    const ORPHANS: u64 = u64::MAX - 4;
    const ORPHAN_ITEM: u32 = 48;
    let mut search = Search::in_root_tree(ORPHANS, ORPHAN_ITEM, 0, 1);
    search.ask(&File::open(path).at(ACTION, path)?).at(ACTION, path)?;
    Ok(search.nr_items > 0)
}

/// One found item: its offset (the child's id), the directory and the name of the child, and what comes after it.
fn root_ref(bytes: &[u8]) -> Option<(u64, u64, &[u8], &[u8])> {
    let number = |at: usize| bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let length = usize::try_from(bytes.get(28..32).and_then(|b| b.try_into().ok()).map(u32::from_ne_bytes)?).ok()?;
    let offset = bytes.get(16..24).and_then(|b| b.try_into().ok()).map(u64::from_ne_bytes)?;
    let name_length = usize::from(bytes.get(48..50).and_then(|b| b.try_into().ok()).map(u16::from_le_bytes)?);
    Some((offset, number(32)?, bytes.get(50..50 + name_length)?, bytes.get(32 + length..)?))
}

/// Files made below `dir` from now on are stored without compression, whatever the mount says (`compress-force` excepted).
pub fn set_uncompressed(dir: &Path) -> Result<()> {
    const ACTION: &str = "switch compression off for";
    if let Some(done) = witness::ask(|btrfs| btrfs.set_uncompressed(dir)) {
        return done.at(ACTION, dir);
    }
    let invalid = |_| SysError { action: ACTION, path: dir.to_owned(), source: std::io::ErrorKind::InvalidInput.into() };
    let path = CString::new(dir.as_os_str().as_bytes()).map_err(invalid)?;
    // A snapshot has it from its source, and then nothing is to be written: `is_as_made` tells by that.
    let mut there = [0u8; 4];
    // SAFETY: two pointers to C strings and one to memory of the length beside it; all live through the call.
    let length = unsafe { libc::getxattr(path.as_ptr(), c"btrfs.compression".as_ptr(), there.as_mut_ptr().cast(), there.len()) };
    if length == 4 && &there == b"none" {
        return Ok(());
    }
    // SAFETY: three pointers to memory that lives through the call, with the length of the value beside it.
    let result = unsafe { libc::setxattr(path.as_ptr(), c"btrfs.compression".as_ptr(), c"none".as_ptr().cast(), 4, 0) };
    if result < 0 { Err(std::io::Error::last_os_error()).at(ACTION, dir) } else { Ok(()) }
}

/// The running transaction of the filesystem that holds `path` is committed.
pub fn commit(path: &Path) -> Result<()> {
    const ACTION: &str = "commit the filesystem of";
    if let Some(done) = witness::ask(|_| super::file::syncfs(path).map_err(|error| error.source)) {
        return done.at(ACTION, path);
    }
    let file = File::open(path).at(ACTION, path)?;
    let mut nothing = 0u64;
    call(&file, request(0, MAGIC, 8, 0), &mut nothing).at(ACTION, path)
}
