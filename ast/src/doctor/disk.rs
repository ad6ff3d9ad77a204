//! Rules about what is on disk: documents, sets, links, space.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::care;
use crate::layout::{self, Layout, PACMAN_DB, Part};
use crate::store::document::{self, DocumentError};
use crate::store::{Store, StoreError};
use crate::sys::{btrfs, file};
use crate::volumes;

/// Documents with an envelope.
const DOCUMENTS: [&str; 5] = [layout::TREE, layout::MACHINE, layout::NUMBERS, layout::UPDATES, layout::GRUB];

pub(super) fn sets_there(store: &Store) -> Vec<String> {
    each_part(store, |path| (!btrfs::is_subvolume(path)).then(|| format!("{} is missing", path.display())))
}

pub(super) fn sealed(store: &Store) -> Vec<String> {
    each_part(store, |path| {
        let open = btrfs::is_subvolume(path) && !btrfs::is_read_only(path).unwrap_or(false);
        open.then(|| format!("{} can be written", path.display()))
    })
}

fn each_part(store: &Store, wrong: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let Ok(tree) = store.tree() else { return Vec::new() };
    let parts = tree.nodes().flat_map(|node| Part::ALL.map(|part| store.layout().set_part(node.set(), part)));
    parts.filter_map(|path| wrong(&path)).collect()
}

pub(super) fn leftovers(store: &Store) -> Vec<String> {
    garbage(store, |what| !what.starts_with("working copy"))
}

pub(super) fn dead_copies(store: &Store) -> Vec<String> {
    garbage(store, |what| what.starts_with("working copy"))
}

fn garbage(store: &Store, of_this_kind: impl Fn(&str) -> bool) -> Vec<String> {
    match store.leftovers() {
        Ok(found) => found.into_iter().filter(|what| of_this_kind(what)).map(|what| format!("{what} is left over")).collect(),
        // Without tree, block and menus nobody can tell; their own rules say so.
        Err(_) => Vec::new(),
    }
}

pub(super) fn documents(store: &Store) -> Vec<String> {
    let mut found = Vec::new();
    for name in DOCUMENTS {
        let path = store.layout().document(name);
        match document::load_if_exists::<Value>(&path) {
            Ok(Some(loaded)) => found.extend(loaded.damage.map(|e| e.to_string())),
            Ok(None) if name == layout::TREE => found.push(DocumentError::Missing(path.clone()).to_string()),
            Ok(None) | Err(DocumentError::NewerToRead { .. }) => {}
            Err(error) => found.push(error.to_string()),
        }
        let older = file::old_copy(&path).ok().filter(|older| older.exists());
        match older.map(|older| document::load_if_exists::<Value>(&older)) {
            Some(Err(DocumentError::Damaged { path, why })) => found.push(format!("the older copy {}: {why}", path.display())),
            Some(Err(DocumentError::Sys(error))) => found.push(format!("the older copy: {error}")),
            _ => {}
        }
    }
    found
}

pub(super) fn newer(store: &Store) -> Vec<String> {
    let paths = DOCUMENTS.map(|name| store.layout().document(name));
    paths.iter().filter_map(|path| document::may_write(path).err()).map(|error| error.to_string()).collect()
}

pub(super) fn links(store: &Store) -> Vec<String> {
    let Ok(tree) = store.tree() else { return Vec::new() };
    let wrong = |link: &Path, target: &Path| match std::fs::read_link(link) {
        Ok(there) if there == target => None,
        Ok(there) => Some(format!("{} leads to {}, not to {}", link.display(), there.display(), target.display())),
        // The original's own, until its owner gives it up.
        Err(_) if link.exists() && store.machine().is_some_and(|machine| machine.migration.is_some()) => None,
        Err(_) if link.exists() => {
            Some(format!("{} is no link: somebody put it there; move it away, or take it over with `ast import`", link.display()))
        }
        Err(_) => Some(format!("{} is missing", link.display())),
    };
    let all = tree.nodes().flat_map(|n| Part::ALL.map(|part| (n, part)));
    let mut found: Vec<String> =
        all.filter_map(|(n, part)| wrong(&store.layout().link(n.id, part), &Layout::link_target(n.set(), part))).collect();
    let next = tree.next_snapshot();
    let highest = volumes::highest_snapshot(store.layout()).ok().flatten().filter(|highest| *highest >= next);
    found.extend(highest.map(|highest| format!("the next snapshot would be {next}, but {highest} is on disk")));
    found
}

pub(super) fn devices(store: &Store) -> Vec<String> {
    care::complaints(store.layout())
}

pub(super) fn space(store: &Store) -> Vec<String> {
    match store.has_space() {
        Err(error @ StoreError::NoSpace { .. }) => vec![error.to_string()],
        _ => Vec::new(),
    }
}

pub(super) fn walk(store: &Store) -> Vec<String> {
    let tree = match store.tree() {
        Ok(tree) => tree,
        Err(error) => return vec![error.to_string()],
    };
    let mut reached = BTreeSet::new();
    let twice: Vec<String> =
        tree.walk().filter(|visit| !reached.insert(visit.node.id)).map(|visit| format!("snapshot {} is reached twice", visit.node.id)).collect();
    let missed = tree.nodes().filter(|node| !reached.contains(&node.id)).map(|node| format!("snapshot {} is not reached", node.id));
    twice.into_iter().chain(missed).collect()
}

pub(super) fn litter(store: &Store) -> Vec<String> {
    let Ok(tree) = store.tree() else { return Vec::new() };
    let locks = tree.nodes().map(|n| store.layout().set_part(n.set(), Part::Root).join(PACMAN_DB).join("db.lck"));
    locks.filter(|lock| lock.exists()).map(|lock| format!("{} is in a snapshot", lock.display())).collect()
}
