//! What is on a disk, as a value: a tree that shares what did not change, so that a state costs what it differs in.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// A subvolume, by what is kept of it beside its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Subvolume {
    pub id: u64,
    pub read_only: bool,
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Bytes {
    pub bytes: Vec<u8>,
    hash: u64,
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes.len())
    }
}

impl Bytes {
    pub(super) fn new(bytes: Vec<u8>) -> Arc<Self> {
        let mut all = DefaultHasher::new();
        bytes.hash(&mut all);
        Arc::new(Self { hash: all.finish(), bytes })
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Dir(Arc<Dir>),
    /// What a file holds, unless [`Disk::contents`] has something newer under its number.
    File(u64, Arc<Bytes>),
    Link(String),
}

/// Names, and whether they are a subvolume of their own.
#[derive(Debug, Clone, Default)]
pub(super) struct Dir {
    pub subvolume: Option<Subvolume>,
    pub names: BTreeMap<String, Node>,
    hash: OnceLock<u64>,
}

impl Dir {
    pub(super) const fn new(subvolume: Option<Subvolume>) -> Self {
        Self { subvolume, names: BTreeMap::new(), hash: OnceLock::new() }
    }

    fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| {
            let mut all = DefaultHasher::new();
            self.subvolume.hash(&mut all);
            for (name, node) in &self.names {
                name.hash(&mut all);
                match node {
                    Node::Dir(dir) => (0, dir.hash()).hash(&mut all),
                    Node::File(ino, bytes) => (1, ino, bytes.hash).hash(&mut all),
                    Node::Link(to) => (2, to).hash(&mut all),
                }
            }
            all.finish()
        })
    }

    /// A copy in which one name stands for something else. What was known of it is forgotten.
    fn with(&self, name: &str, node: Option<Node>) -> Self {
        let mut names = self.names.clone();
        match node {
            Some(node) => drop(names.insert(name.to_owned(), node)),
            None => drop(names.remove(name)),
        }
        Self { subvolume: self.subvolume, names, hash: OnceLock::new() }
    }
}

/// One change that a cut may lose. Paths are those from the top level.
#[derive(Debug, Clone)]
pub(super) enum Op {
    MakeDir(String),
    MakeFile(String, u64),
    MakeLink(String, String),
    /// What a file holds reached the disk.
    Data(u64, Arc<Bytes>),
    HardLink(String, String),
    Rename(String, String),
    Exchange(String, String),
    /// A file, an empty directory, or a subvolume with all that is in it.
    Remove(String),
    ReadOnly(String, bool),
}

impl Op {
    /// The names in a directory that it changes.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::MakeDir(path) | Self::MakeFile(path, _) | Self::MakeLink(path, _) | Self::Remove(path) => vec![path],
            Self::HardLink(from, to) | Self::Rename(from, to) | Self::Exchange(from, to) => vec![from, to],
            Self::Data(..) | Self::ReadOnly(..) => Vec::new(),
        }
    }
}

/// A disk with a btrfs.
#[derive(Debug, Clone, Default)]
pub(super) struct Disk {
    root: Arc<Dir>,
    /// What files hold that were written to since they were last on disk whole.
    contents: BTreeMap<u64, Arc<Bytes>>,
}

fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

impl Disk {
    pub(super) const fn root(&self) -> &Arc<Dir> {
        &self.root
    }

    /// The top level is this directory.
    pub(super) fn put_root(&mut self, root: Dir) {
        self.root = Arc::new(root);
    }

    /// What `path` stands for; links are not followed.
    pub(super) fn get(&self, path: &str) -> Option<Node> {
        let mut node = Node::Dir(Arc::clone(&self.root));
        for part in parts(path) {
            let Node::Dir(dir) = node else { return None };
            node = dir.names.get(part)?.clone();
        }
        Some(node)
    }

    /// What the file `path` holds; `None`: there is none.
    pub(super) fn read(&self, path: &str) -> Option<Arc<Bytes>> {
        match self.get(path)? {
            Node::File(ino, bytes) => Some(self.content(ino, &bytes)),
            _ => None,
        }
    }

    /// What a file of that number holds.
    pub(super) fn content(&self, ino: u64, bytes: &Arc<Bytes>) -> Arc<Bytes> {
        Arc::clone(self.contents.get(&ino).unwrap_or(bytes))
    }

    /// Two disks with the same number hold the same.
    pub(super) fn hash(&self) -> u64 {
        let mut all = DefaultHasher::new();
        self.root.hash().hash(&mut all);
        for (ino, bytes) in &self.contents {
            (ino, bytes.hash).hash(&mut all);
        }
        all.finish()
    }

    /// `path` stands for `node`; whether the directory that it is in is there.
    pub(super) fn put(&mut self, path: &str, node: Option<Node>) -> bool {
        fn inside(dir: &Dir, parts: &[&str], node: Option<Node>) -> Option<Dir> {
            match parts {
                [] => None,
                [name] => Some(dir.with(name, node)),
                [first, rest @ ..] => {
                    let Node::Dir(below) = dir.names.get(*first)? else { return None };
                    Some(dir.with(first, Some(Node::Dir(Arc::new(inside(below, rest, node)?)))))
                }
            }
        }
        let parts: Vec<&str> = parts(path).collect();
        inside(&self.root, &parts, node).map(|root| self.root = Arc::new(root)).is_some()
    }

    /// The change is made, as far as what it needs is there; whether there was anything to change.
    pub(super) fn apply(&mut self, op: &Op) -> bool {
        match op {
            Op::MakeDir(path) => self.get(path).is_none() && self.put(path, Some(Node::Dir(Arc::default()))),
            Op::MakeFile(path, ino) => self.get(path).is_none() && self.put(path, Some(Node::File(*ino, Arc::default()))),
            Op::MakeLink(path, to) => self.get(path).is_none() && self.put(path, Some(Node::Link(to.clone()))),
            Op::Data(ino, bytes) => self.contents.insert(*ino, Arc::clone(bytes)).is_none_or(|old| !Arc::ptr_eq(&old, bytes)),
            Op::HardLink(from, to) => match self.get(from) {
                Some(node @ Node::File(..)) if self.get(to).is_none() => self.put(to, Some(node)),
                _ => false,
            },
            Op::Rename(from, to) => match (self.get(from), self.get(to)) {
                (None, _) => false,
                // Two names of one file: nothing happens.
                (Some(Node::File(one, _)), Some(Node::File(other, _))) if one == other => false,
                (Some(node), _) => self.put(to, Some(node)) && self.put(from, None),
            },
            Op::Exchange(a, b) => match (self.get(a), self.get(b)) {
                (Some(one), Some(other)) => self.put(a, Some(other)) && self.put(b, Some(one)),
                _ => false,
            },
            Op::Remove(path) => match self.get(path) {
                Some(Node::Dir(dir)) if dir.subvolume.is_none() && !dir.names.is_empty() => false,
                Some(_) => self.put(path, None),
                None => false,
            },
            Op::ReadOnly(path, read_only) => match self.get(path) {
                Some(Node::Dir(dir)) => {
                    let subvolume = dir.subvolume.map(|subvolume| Subvolume { read_only: *read_only, ..subvolume });
                    let changed = subvolume != dir.subvolume;
                    changed && self.put(path, Some(Node::Dir(Arc::new(Dir { subvolume, names: dir.names.clone(), hash: OnceLock::new() }))))
                }
                _ => false,
            },
        }
    }

    /// What was written to the files `of` is what they hold, and nothing newer is known.
    pub(super) fn settle(&mut self, of: impl Fn(u64) -> bool) {
        fn inside(dir: &Arc<Dir>, newer: &BTreeMap<u64, Arc<Bytes>>) -> Arc<Dir> {
            let mut names = BTreeMap::new();
            let mut changed = false;
            for (name, node) in &dir.names {
                let now = match node {
                    Node::Dir(below) => {
                        let now = inside(below, newer);
                        changed |= !Arc::ptr_eq(&now, below);
                        Node::Dir(now)
                    }
                    Node::File(ino, _) if newer.contains_key(ino) => {
                        changed = true;
                        Node::File(*ino, Arc::clone(&newer[ino]))
                    }
                    other => other.clone(),
                };
                names.insert(name.clone(), now);
            }
            if changed { Arc::new(Dir { subvolume: dir.subvolume, names, hash: OnceLock::new() }) } else { Arc::clone(dir) }
        }
        let newer: BTreeMap<_, _> =
            self.contents.iter().filter(|(ino, _)| of(**ino)).map(|(ino, bytes)| (*ino, Arc::clone(bytes))).collect();
        if !newer.is_empty() {
            self.root = inside(&self.root, &newer);
            self.contents.retain(|ino, _| !newer.contains_key(ino));
        }
    }

    /// `to` is a new subvolume with what is in `from`; its files have numbers from `next` on, and nested subvolumes are empty directories.
    pub(super) fn snapshot(&mut self, from: &str, to: &str, subvolume: Subvolume, next: &mut u64) -> bool {
        fn copy(disk: &Disk, dir: &Dir, subvolume: Option<Subvolume>, known: &mut BTreeMap<u64, u64>, next: &mut u64) -> Dir {
            let mut copied = Dir::new(subvolume);
            for (name, node) in &dir.names {
                let node = match node {
                    Node::Dir(below) if below.subvolume.is_some() => Node::Dir(Arc::default()),
                    Node::Dir(below) => Node::Dir(Arc::new(copy(disk, below, None, known, next))),
                    Node::File(ino, bytes) => {
                        let new = *known.entry(*ino).or_insert_with(|| {
                            *next += 1;
                            *next
                        });
                        Node::File(new, disk.content(*ino, bytes))
                    }
                    Node::Link(to) => Node::Link(to.clone()),
                };
                copied.names.insert(name.clone(), node);
            }
            copied
        }
        let Some(Node::Dir(source)) = self.get(from) else { return false };
        let copied = copy(self, &source, Some(subvolume), &mut BTreeMap::new(), next);
        self.put(to, Some(Node::Dir(Arc::new(copied))))
    }

    /// The subvolume that `path` is in or is.
    pub(super) fn subvolume_of(&self, path: &str) -> Option<Subvolume> {
        let mut found = self.root.subvolume;
        let mut dir = Arc::clone(&self.root);
        for part in parts(path) {
            let Some(Node::Dir(below)) = dir.names.get(part).cloned() else { break };
            found = below.subvolume.or(found);
            dir = below;
        }
        found
    }

    /// The numbers of all files in a subvolume, without what is nested in it.
    pub(super) fn files_of(&self, path: &str) -> Vec<u64> {
        fn inside(dir: &Dir, found: &mut Vec<u64>) {
            for node in dir.names.values() {
                match node {
                    Node::Dir(below) if below.subvolume.is_none() => inside(below, found),
                    Node::File(ino, _) => found.push(*ino),
                    _ => {}
                }
            }
        }
        let mut found = Vec::new();
        if let Some(Node::Dir(dir)) = self.get(path) {
            inside(&dir, &mut found);
        }
        found
    }
}
