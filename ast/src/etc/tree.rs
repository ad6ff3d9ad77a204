//! A directory as it is compared: types, owners, modes, attributes, and a digest in place of content.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::accounts::{FILES, Owners};
use crate::sys::{At, SysError, file};

/// What a path is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub kind: Kind,
    pub meta: Meta,
}

/// Its type, with what is compared of its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Dir(BTreeMap<OsString, Node>),
    File([u8; 32]),
    /// A file whose content the disk does not give back.
    Unreadable,
    Link(PathBuf),
    /// A device, a pipe: type and device number.
    Special(u32, u64),
}

/// Owner, mode and extended attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub attributes: BTreeMap<OsString, Vec<u8>>,
}

impl Node {
    /// The same, with every number as `owners` says.
    pub fn owned(mut self, owners: &Owners) -> Self {
        if !owners.is_empty() {
            (self.meta.uid, self.meta.gid) = owners.of(self.meta.uid, self.meta.gid);
            if let Kind::Dir(children) = self.kind {
                self.kind = Kind::Dir(children.into_iter().map(|(name, node)| (name, node.owned(owners))).collect());
            }
        }
        self
    }

    /// What is in it, if it is a directory.
    pub fn children(&self) -> Option<&BTreeMap<OsString, Self>> {
        match &self.kind {
            Kind::Dir(children) => Some(children),
            _ => None,
        }
    }
}

/// Names that begin so are a merge's own, on their way to their place: left by one that was cut off, they are nobody's.
pub(super) const ON_ITS_WAY: &str = ".ast-merge-";

/// Files of more than one name: device and inode, and the names.
pub(super) type Links = BTreeMap<(u64, u64), Vec<PathBuf>>;

/// The directory at `path`, and what is linked in it. Sockets are left out (they live with their program), and so is what vanishes
/// while it is read.
pub(super) fn scan(path: &Path) -> Result<(Node, Links), SysError> {
    let meta = fs::symlink_metadata(path).at("look at", path)?;
    let mut links = Links::new();
    let node = read(path, Path::new(""), &meta, &mut links)?;
    links.retain(|_, names| names.len() > 1);
    Ok((node.unwrap_or(Node { kind: Kind::Dir(BTreeMap::new()), meta: Meta::default() }), links))
}

fn read(path: &Path, below: &Path, meta: &Metadata, links: &mut Links) -> Result<Option<Node>, SysError> {
    let kind = if meta.is_dir() {
        let mut children = BTreeMap::new();
        for name in file::names(path)?.into_iter().filter(|name| !name.to_string_lossy().starts_with(ON_ITS_WAY)) {
            let child = path.join(&name);
            let node = match fs::symlink_metadata(&child).at("look at", &child) {
                Ok(meta) => read(&child, &below.join(&name), &meta, links),
                Err(error) => Err(error),
            };
            match node {
                Ok(Some(node)) => drop(children.insert(name, node)),
                Ok(None) => {}
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Kind::Dir(children)
    } else if meta.is_file() {
        if meta.nlink() > 1 {
            links.entry((meta.dev(), meta.ino())).or_default().push(below.to_owned());
        }
        match digest(path) {
            Ok(digest) => Kind::File(digest),
            // Who may log in is not given up for what packages bring.
            Err(error) if error.is_unreadable() && !FILES.iter().any(|name| below == Path::new(name)) => Kind::Unreadable,
            Err(error) => return Err(error),
        }
    } else if meta.is_symlink() {
        Kind::Link(fs::read_link(path).at("read the link", path)?)
    } else if meta.file_type().is_socket() {
        return Ok(None);
    } else {
        // The type is in the mode, above its twelve bits.
        Kind::Special(meta.mode() & !0o7777, meta.rdev())
    };
    // The mode of a link means nothing.
    let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o7777 };
    Ok(Some(Node { kind, meta: Meta { mode, uid: meta.uid(), gid: meta.gid(), attributes: attributes(path)? } }))
}

/// The extended attributes of `path` itself. A filesystem without any has none.
pub(super) fn attributes(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>, SysError> {
    const ACTION: &str = "read the attributes of";
    let mut found = BTreeMap::new();
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(found),
        Err(error) => return Err(error).at(ACTION, path),
    };
    for name in names {
        if let Some(value) = xattr::get(path, &name).at(ACTION, path)? {
            found.insert(name, value);
        }
    }
    Ok(found)
}

/// Whether two paths are the same but for their names and times.
pub(super) fn same(one: &Path, other: &Path) -> Result<bool, SysError> {
    let node = |path: &Path| {
        let meta = fs::symlink_metadata(path).at("look at", path)?;
        read(path, Path::new(""), &meta, &mut Links::new())
    };
    Ok(node(one)? == node(other)?)
}

/// The digest of a content in memory.
pub(super) fn digest_of(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn digest(path: &Path) -> Result<[u8; 32], SysError> {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path).at("read", path)?, &mut hash).at("read", path)?;
    Ok(hash.finalize().into())
}
