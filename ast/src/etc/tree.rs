//! A directory as it is compared: types, owners, modes, attributes, and a digest in place of content.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

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
    /// What is in it, if it is a directory.
    pub fn children(&self) -> Option<&BTreeMap<OsString, Self>> {
        match &self.kind {
            Kind::Dir(children) => Some(children),
            _ => None,
        }
    }
}

/// The directory at `path`. Sockets are left out (they live with their program), and so is what vanishes while it is read.
pub(super) fn scan(path: &Path) -> Result<Node, SysError> {
    let meta = fs::symlink_metadata(path).at("look at", path)?;
    let node = read(path, &meta)?;
    Ok(node.unwrap_or(Node { kind: Kind::Dir(BTreeMap::new()), meta: Meta::default() }))
}

fn read(path: &Path, meta: &Metadata) -> Result<Option<Node>, SysError> {
    let kind = if meta.is_dir() {
        let mut children = BTreeMap::new();
        for name in file::names(path)? {
            let child = path.join(&name);
            let node = match fs::symlink_metadata(&child).at("look at", &child) {
                Ok(meta) => read(&child, &meta),
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
        Kind::File(digest(path)?)
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

/// `base`, but what was saved where `new` is as it was saved: against that the device's later edits are judged there.
pub(super) fn rebased(base: &Node, saved: &Node, new: &Node) -> Node {
    if saved == new {
        return saved.clone();
    }
    let none = BTreeMap::new();
    let (Kind::Dir(saved), Kind::Dir(new)) = (&saved.kind, &new.kind) else { return base.clone() };
    let Kind::Dir(before) = &base.kind else { return base.clone() };
    let (mut children, empty) = (before.clone(), Node { kind: Kind::Dir(none), meta: Meta::default() });
    let names: BTreeSet<_> = before.keys().chain(saved.keys()).chain(new.keys()).collect();
    for name in names {
        match (saved.get(name), new.get(name)) {
            // Deleted here, saved, and deleted there.
            (None, None) => drop(children.remove(name)),
            (Some(saved), Some(new)) if saved == new => drop(children.insert(name.clone(), saved.clone())),
            (Some(saved), Some(new)) if saved.children().is_some() && new.children().is_some() => {
                let known = before.get(name);
                let inside = rebased(known.unwrap_or(&empty), saved, new);
                // A directory that only appeared with what was saved has no metadata to compare with.
                if known.is_some() || inside.children().is_some_and(|inside| !inside.is_empty()) {
                    children.insert(name.clone(), inside);
                }
            }
            _ => {}
        }
    }
    Node { kind: Kind::Dir(children), meta: base.meta.clone() }
}

/// The extended attributes of `path` itself. A filesystem without any has none.
fn attributes(path: &Path) -> Result<BTreeMap<OsString, Vec<u8>>, SysError> {
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

fn digest(path: &Path) -> Result<[u8; 32], SysError> {
    let mut hash = Sha256::new();
    std::io::copy(&mut File::open(path).at("read", path)?, &mut hash).at("read", path)?;
    Ok(hash.finalize().into())
}
