//! What a workload did to the disk, change by change, and what of it a cut at each moment may lose.
//!
//! What is durable when, as measured on btrfs (`tests/tests/store_memory.rs` asks a real one again):
//!
//! | call | may be lost until | and for GRUB until |
//! |---|---|---|
//! | a name: made, renamed, linked, removed; a subvolume deleted or sealed | its directory or its file is synced, or a commit; those before it are never lost without it | a commit |
//! | the content of a file | it is synced; `syncfs`; a snapshot of its subvolume | a commit after that |
//!
//! What is cloned (`cp --reflink`, and `copy_file_range`, which is what copying a file is) shares the blocks of its source: its content is
//! never lost without its name. Commits are `syncfs` and every snapshot; the kernel makes one whenever it likes, too. What `fdatasync` and `fsync` of a directory save is in
//! a log, which the kernel replays and GRUB does not; with a file other names of its directory may get there, too.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use ast::layout;
use ast::sys::witness::Change;

use super::disk::{Bytes, Dir, Disk, Node, Op, Subvolume};
use super::machine::{Machine, Place, Seen};

/// What lies on the other disk, by its path there.
pub(super) type Apart = BTreeMap<String, Vec<u8>>;

/// A change that is not committed.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub op: Arc<Op>,
    /// The kernel finds it in the log.
    pub logged: bool,
    /// The kernel may find it there: a name in a directory that is in the log, when something else in it was synced.
    pub perhaps: bool,
    /// It is never lost while a later change is not. Names never are.
    pub in_order: bool,
}

/// Beginnings of the names under which `work::add_missing` and `etc` make clones.
const CLONES: [&str; 2] = [".ast-new.", ".ast-merge-"];

/// A moment at which the power may go.
#[derive(Debug, Clone)]
pub(super) struct Cut {
    pub committed: Disk,
    pub pending: Vec<Pending>,
    /// The last change is all that is new since the moment before.
    pub newest: bool,
    pub apart: Arc<Apart>,
    /// How many verbs had returned.
    pub confirmed: usize,
}

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for Pending { op, logged, .. } in &self.pending {
            writeln!(f, "    not committed: {op:?}{}", if *logged { ", in the log" } else { "" })?;
        }
        Ok(())
    }
}

/// Sees what is done on a machine.
pub(super) struct Recorder {
    machine: Rc<Machine>,
    state: RefCell<State>,
}

struct State {
    now: Disk,
    committed: Disk,
    pending: Vec<Pending>,
    apart: Arc<Apart>,
    confirmed: usize,
    /// The last number that a file was given.
    files: u64,
    /// Files that are known to hold what `now` says, by device number and time of change.
    known: HashMap<(String, u64, i64, i64), ()>,
    cuts: Vec<Cut>,
}

impl Recorder {
    /// Everything that is on `machine` is on disk, and from here on each change is seen.
    pub(super) fn begin(machine: &Rc<Machine>) -> Rc<Self> {
        let mut now = Disk::default();
        now.put_root(Dir::new(Some(Subvolume { id: 5, read_only: false })));
        let state = State {
            committed: now.clone(),
            now,
            pending: Vec::new(),
            apart: Arc::default(),
            confirmed: 0,
            files: 1 << 20,
            known: HashMap::new(),
            cuts: Vec::new(),
        };
        let recorder = Rc::new(Self { machine: Rc::clone(machine), state: RefCell::new(state) });
        {
            let mut state = recorder.state.borrow_mut();
            state.reconcile(machine, true);
            state.commit();
            state.look_apart(machine);
            state.cuts.clear();
            state.cut(false);
        }
        let watching = Rc::clone(&recorder);
        machine.watch(Some(Rc::new(move |seen| watching.state.borrow_mut().saw(&watching.machine, seen))));
        recorder
    }

    /// A verb has returned.
    pub(super) fn mark(&self) {
        let mut state = self.state.borrow_mut();
        state.reconcile(&self.machine, false);
        state.confirmed += 1;
        state.cut(false);
    }

    /// What was seen; nobody watches any more.
    pub(super) fn end(&self) -> Vec<Cut> {
        self.machine.watch(None);
        let mut state = self.state.borrow_mut();
        state.reconcile(&self.machine, false);
        std::mem::take(&mut state.cuts)
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

impl State {
    fn cut(&mut self, newest: bool) {
        let cut = Cut {
            committed: self.committed.clone(),
            pending: self.pending.clone(),
            newest,
            apart: Arc::clone(&self.apart),
            confirmed: self.confirmed,
        };
        self.cuts.push(cut);
    }

    fn change(&mut self, op: Op) {
        let in_order = !matches!(op, Op::Data(..));
        self.change_in(op, in_order);
    }

    fn change_in(&mut self, op: Op, in_order: bool) {
        if self.now.apply(&op) {
            self.pending.push(Pending { op: Arc::new(op), logged: false, perhaps: false, in_order });
            self.cut(true);
        }
    }

    fn saw(&mut self, machine: &Machine, seen: &Seen<'_>) {
        let at = |path: &Path| machine.place(path);
        match seen {
            Seen::Change(Change::Wrote(path)) => self.wrote(machine, path),
            Seen::Change(Change::InPlace(path)) => {
                self.wrote(machine, path);
                self.synced(machine, path);
            }
            Seen::Change(Change::Made(path)) => {
                if let Place::Btrfs(place) = at(path) {
                    self.learn(&place, path);
                }
            }
            Seen::Change(Change::Linked(from, to)) => {
                if let (Place::Btrfs(from), Place::Btrfs(to)) = (at(from), at(to)) {
                    self.change(Op::HardLink(from, to));
                }
            }
            Seen::Change(Change::Renamed(from, to)) => match (at(from), at(to)) {
                (Place::Btrfs(old), Place::Btrfs(new)) => {
                    if self.now.get(&old).is_none() {
                        // Made by calls of its own; it is there under its new name.
                        self.learn(&old, to);
                    }
                    self.change(Op::Rename(old, new));
                }
                _ => self.look_apart(machine),
            },
            Seen::Change(Change::Exchanged(a, b)) => {
                if let (Place::Btrfs(a), Place::Btrfs(b)) = (at(a), at(b)) {
                    self.change(Op::Exchange(a, b));
                }
            }
            Seen::Change(Change::Removed(path)) => {
                if let Place::Btrfs(path) = at(path) {
                    self.forget(&path);
                }
            }
            Seen::Deleted(path) => {
                if let Place::Btrfs(path) = at(path) {
                    self.change(Op::Remove(path));
                }
            }
            Seen::Change(Change::Synced(path)) => self.synced(machine, path),
            Seen::Change(Change::SyncedDir(dir)) => {
                if let Place::Btrfs(dir) = at(dir) {
                    self.log(|op| op.names().iter().any(|name| parent(name) == dir) || is_dir_above(op, &dir));
                }
            }
            Seen::Change(Change::Committed(path)) => {
                if matches!(at(path), Place::Btrfs(_)) {
                    self.reconcile(machine, false);
                    self.commit();
                }
            }
            Seen::Created(path, subvolume) => {
                if let Place::Btrfs(path) = at(path) {
                    self.reconcile(machine, false);
                    self.commit();
                    for disk in [&mut self.now, &mut self.committed] {
                        disk.put(&path, Some(Node::Dir(Arc::new(Dir::new(Some(*subvolume))))));
                    }
                    self.cut(false);
                }
            }
            Seen::Snapshot(from, to, subvolume) => {
                if let (Place::Btrfs(from), Place::Btrfs(to)) = (at(from), at(to)) {
                    self.snapshot(machine, &from, &to, *subvolume);
                }
            }
            Seen::ReadOnly(path, read_only) => {
                if let Place::Btrfs(path) = at(path) {
                    self.change(Op::ReadOnly(path, *read_only));
                }
            }
        }
    }

    fn wrote(&mut self, machine: &Machine, path: &Path) {
        match machine.place(path) {
            Place::Btrfs(place) => self.learn(&place, path),
            Place::Apart(_) => self.look_apart(machine),
            Place::Elsewhere => {}
        }
    }

    /// What the other disk holds is durable when it is written.
    fn look_apart(&mut self, machine: &Machine) {
        let read = |name: &str| Some((name.to_owned(), std::fs::read(machine.esp().join(name)).ok()?));
        let now: Apart = [layout::FILE_BLOCK_A, layout::FILE_BLOCK_B].into_iter().filter_map(read).collect();
        if now != *self.apart {
            self.apart = Arc::new(now);
            self.cut(false);
        }
    }

    /// `place` is what is at `real`, itself and no more: a file with its content, a link, a directory.
    fn learn(&mut self, place: &str, real: &Path) {
        let Ok(meta) = std::fs::symlink_metadata(real) else { return };
        if !place.is_empty() && self.now.get(parent(place)).is_none() {
            self.learn(parent(place), real.parent().unwrap_or(Path::new("/")));
        }
        if meta.is_dir() {
            return self.change(Op::MakeDir(place.to_owned()));
        }
        if meta.is_symlink() {
            let to = std::fs::read_link(real).expect("a link").to_string_lossy().into_owned();
            if !matches!(self.now.get(place), Some(Node::Link(now)) if now == to) {
                self.change(Op::Remove(place.to_owned()));
                self.change(Op::MakeLink(place.to_owned(), to));
            }
            return;
        }
        if !meta.is_file() {
            return;
        }
        let bytes = std::fs::read(real).expect("readable");
        let (ino, old) = match self.now.get(place) {
            Some(Node::File(ino, old)) => (ino, Some(self.now.content(ino, &old))),
            _ => {
                self.files += 1;
                self.change(Op::MakeFile(place.to_owned(), self.files));
                (self.files, None)
            }
        };
        match old {
            Some(old) if old.bytes == bytes => return,
            // Cut off before it is written anew; what is only longer keeps what it had.
            Some(old) if !bytes.starts_with(&old.bytes) => self.change(Op::Data(ino, Bytes::new(Vec::new()))),
            _ => {}
        }
        if !bytes.is_empty() {
            let name = place.rsplit('/').next().unwrap_or_default();
            self.change_in(Op::Data(ino, Bytes::new(bytes)), CLONES.iter().any(|clone| name.starts_with(clone)));
        }
    }

    fn log(&mut self, is: impl Fn(&Op) -> bool) {
        let mut any = false;
        for pending in self.pending.iter_mut().filter(|pending| !pending.logged && is(&pending.op)) {
            // Written out before what comes next.
            (pending.logged, pending.in_order, any) = (true, true, true);
        }
        if any {
            self.cut(false);
        }
    }

    fn synced(&mut self, machine: &Machine, path: &Path) {
        let Place::Btrfs(place) = machine.place(path) else { return };
        let Some(Node::File(number, _)) = self.now.get(&place) else { return };
        for pending in self.pending.iter_mut().filter(|p| p.op.names().iter().any(|name| parent(name) == parent(&place))) {
            pending.perhaps = true;
        }
        self.log(|op| match op {
            Op::Data(ino, _) | Op::MakeFile(_, ino) => *ino == number,
            other => other.names().contains(&place.as_str()) || is_dir_above(other, &place),
        });
    }

    fn commit(&mut self) {
        self.now.settle(|_| true);
        self.committed = self.now.clone();
        self.pending.clear();
    }

    fn snapshot(&mut self, machine: &Machine, from: &str, to: &str, subvolume: Subvolume) {
        self.reconcile_but(machine, Some(to));
        let source = self.now.files_of(from);
        let mut left = Vec::new();
        for pending in std::mem::take(&mut self.pending) {
            match &*pending.op {
                Op::Data(ino, _) if !pending.in_order && !source.contains(ino) => left.push(pending),
                op => drop(self.committed.apply(op)),
            }
        }
        self.pending = left;
        let waits: Vec<u64> = self.pending.iter().filter_map(|p| if let Op::Data(ino, _) = &*p.op { Some(*ino) } else { None }).collect();
        let mut next = self.files;
        for disk in [&mut self.now, &mut self.committed] {
            disk.settle(|ino| !waits.contains(&ino));
            next = self.files;
            assert!(disk.snapshot(from, to, subvolume, &mut next), "the snapshot {to} of {from}");
        }
        self.files = next;
        self.cut(false);
    }

    /// What was done by calls that nobody tells of is a change like any other. On a new disk there is no telling.
    fn reconcile(&mut self, machine: &Machine, new: bool) {
        self.reconcile_below("", &machine.top(), machine, new, None);
    }

    /// The same, but for a snapshot that was just made.
    fn reconcile_but(&mut self, machine: &Machine, but: Option<&str>) {
        self.reconcile_below("", &machine.top(), machine, false, but);
    }

    fn reconcile_below(&mut self, place: &str, real: &Path, machine: &Machine, new: bool, but: Option<&str>) {
        let Some(Node::Dir(dir)) = self.now.get(place) else { return };
        let mut there: Vec<(String, PathBuf, std::fs::Metadata)> = std::fs::read_dir(real)
            .expect("readable")
            .map(|entry| entry.expect("an entry"))
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path(), entry.metadata().expect("there")))
            .collect();
        there.sort_by(|a, b| a.0.cmp(&b.0));
        let before = self.pending.len();
        for name in dir.names.keys().filter(|name| !there.iter().any(|(other, ..)| other == *name)) {
            self.forget(&join(place, name));
        }
        for (name, path, meta) in there {
            let inner = join(place, &name);
            if but == Some(inner.as_str()) {
                continue;
            }
            if meta.is_dir() {
                match machine.subvolume(&path) {
                    Some(subvolume) if self.now.get(&inner).is_none() => {
                        assert!(new, "the subvolume {inner} was made by nobody");
                        self.now.put(&inner, Some(Node::Dir(Arc::new(Dir::new(Some(Subvolume { read_only: false, ..subvolume }))))));
                        self.reconcile_below(&inner, &path, machine, new, but);
                        self.now.apply(&Op::ReadOnly(inner, subvolume.read_only));
                        continue;
                    }
                    Some(_) => {}
                    None => self.change(Op::MakeDir(inner.clone())),
                }
                self.reconcile_below(&inner, &path, machine, new, but);
                continue;
            }
            let key = (inner.clone(), meta.ino(), meta.ctime(), meta.ctime_nsec());
            if self.now.get(&inner).is_none() || !self.known.contains_key(&key) {
                self.learn(&inner, &path);
                self.known.insert(key, ());
            }
        }
        let sealed = self.now.subvolume_of(place).is_some_and(|subvolume| subvolume.read_only);
        assert!(
            new || !sealed || self.pending.len() == before,
            "something was written to {place}, which is sealed: {:?}",
            self.pending.last()
        );
    }

    fn forget(&mut self, place: &str) {
        if let Some(Node::Dir(dir)) = self.now.get(place) {
            dir.names.keys().for_each(|name| self.forget(&join(place, name)));
        }
        self.change(Op::Remove(place.to_owned()));
    }
}

fn is_dir_above(op: &Op, path: &str) -> bool {
    matches!(op, Op::MakeDir(dir) if path == dir || path.starts_with(&format!("{dir}/")))
}
