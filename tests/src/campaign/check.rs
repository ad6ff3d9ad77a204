//! Everything that must hold on the disk of a state.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::FileExt;
use std::path::Path;

use ast::boot::block::BootBlock;
use ast::id::{DeployId, SetId};
use ast::layout;
use ast::store::Store;
use ast::sys::file;
use ast::volumes;
use ast::work::Token;

use super::eyes::Eyes;
use super::machine::locked;
use super::past::{Files, Past, REPAIRED, Root, UNSETTLED, Was, files_below, said, waiting};
use crate::cut::{Preview, State};

/// Where btrfs has its superblocks on a disk of this size, and how long they are: bytes.
const SUPERBLOCKS: [u64; 2] = [64 << 10, 64 << 20];
const SUPERBLOCK: usize = 4096;
/// Within one: its generation, the root of roots and that of the chunks.
const ROOTS: std::ops::Range<usize> = 0x48..0x60;

/// Where `/var` is kept, from the top level.
const KEPT_VARS: &str = "@.snapshots/vars";

/// The deployments that a block names.
pub(super) fn named(block: &BootBlock) -> impl Iterator<Item = DeployId> {
    [Some(block.good), block.prev, block.trial.map(|t| t.deployment)].into_iter().flatten()
}

/// What a state is, when all is well: after which verb, and how many had returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub confirmed: usize,
    pub place: usize,
}

/// Judges states of one recording.
pub(super) struct Judge<'a> {
    past: &'a Past,
    eyes: Eyes<'a>,
    /// A repair is recorded, of this state: whatever becomes of it, it stays the same.
    repaired: Option<Seen>,
    /// Outcomes by all that the kernel can reach: see [`Judge::before`].
    known: HashMap<(usize, Vec<u8>), Seen>,
    /// What GRUB can reach and was found to be right, if that is not to be looked at again.
    for_grub: Option<HashSet<(usize, Vec<u8>)>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(past: &'a Past, repaired: Option<Seen>) -> Self {
        Self { past, eyes: Eyes::new(past), repaired, known: HashMap::new(), for_grub: None }
    }

    /// The same, for whom each superblock is enough once: btrfs overwrites nothing that one leads to, so two states that have it in common
    /// differ in what nothing leads to. The deciding test does without those, in a third of the time; the campaign does not.
    pub(super) fn in_haste(past: &'a Past, repaired: Option<Seen>) -> Self {
        Self { for_grub: Some(HashSet::new()), ..Self::new(past, repaired) }
    }

    /// How many verbs had returned when this was the last mark.
    pub(super) fn confirmed(&self, mark: Option<&str>) -> usize {
        match self.repaired {
            Some(seen) if mark == Some(REPAIRED) => seen.place,
            Some(seen) => seen.confirmed,
            None => mark.map_or(0, |mark| mark.parse().expect("a number")),
        }
    }

    /// In haste: what a state was found to be that had the same superblocks, the same boot block, and as many verbs that had returned.
    pub(super) fn before(&self, state: &Preview<'_>) -> Option<Seen> {
        self.for_grub.as_ref()?;
        let reachable = reachable(|offset, len| state.read(offset, len).expect("readable"));
        self.known.get(&(self.confirmed(state.last_mark()), reachable)).copied()
    }

    fn for_grub(&mut self, state: &State<'_>, confirmed: usize, reachable: &[u8]) -> Result<(), String> {
        // GRUB begins at the first superblock's generation and roots, and replays no log: what was only synced into that is nothing new to it.
        let key = (confirmed, reachable.iter().skip(ROOTS.start).take(ROOTS.len()).chain(&reachable[2 * SUPERBLOCK..]).copied().collect());
        if self.for_grub.as_ref().is_some_and(|known| known.contains(&key)) {
            return Ok(());
        }
        self.eyes.check(state, confirmed)?;
        if let Some(known) = &mut self.for_grub {
            known.insert(key);
        }
        Ok(())
    }

    /// Everything holds, for GRUB, for the kernel, and after a repair.
    pub(super) fn check(&mut self, state: &mut State<'_>) -> Result<Seen, String> {
        let confirmed = self.confirmed(state.marks().last().copied());
        let image = std::fs::File::open(state.image()).map_err(|e| e.to_string())?;
        let key = (confirmed, reachable(|offset, len| read_at(&image, offset, len)));
        self.for_grub(state, confirmed, &key.1)?;
        let top = state.mount("subvolid=5").map_err(|e| e.to_string())?;
        let root = Root::of(&top);
        let seen = settles(self.past, self.repaired, confirmed, &top, root.path())?;
        self.known.insert(key, seen);
        Ok(seen)
    }
}

/// What the kernel finds below `top`, seen as the system at `root`, when `confirmed` verbs had returned: tree and boot block say what they said
/// after one of them, everything that they name is whole, a repair changes nothing of that and leaves nothing over, and a second one has nothing to do.
pub(super) fn settles(past: &Past, repaired: Option<Seen>, confirmed: usize, top: &Path, root: &Path) -> Result<Seen, String> {
    let open = || Store::open(root).map_err(|e| e.to_string());
    let store = open()?;
    let now = said(&store)?;
    let allowed = |place: usize| match repaired {
        Some(seen) => place == seen.place,
        None => place == confirmed || place == confirmed + 1,
    };
    // A later state may say the same as an earlier one, and even the one after the verb as the one before.
    let mut places = past
        .was
        .iter()
        .enumerate()
        .filter(|(place, was)| allowed(*place) && was.said == now)
        .map(|(place, was)| (place, was, whole(past, was, &store, top, false)));
    let Some(first) = places.next() else {
        let elsewhere = past.was.iter().position(|was| was.said == now);
        return Err(format!("verb {confirmed} had returned, and this is the state after {elsewhere:?}: {now}"));
    };
    let (place, was, is_whole) = if first.2.is_ok() { first } else { places.find(|(.., is)| is.is_ok()).unwrap_or(first) };
    is_whole?;
    drop(store);
    let mended = locked(open()?);
    if let Some(problem) = mended.repaired().problems.first() {
        return Err(format!("repair: {problem}"));
    }
    if said(&mended)? != now {
        return Err(format!("repair made {} of {now}", said(&mended)?));
    }
    whole(past, was, &mended, top, true)?;
    let mut shared = Files::new();
    files_below(top, layout::VAR_SUBVOL, &mut shared).map_err(|e| e.to_string())?;
    if let Some((path, _)) = was.shared.iter().find(|(path, made)| shared.get(*path) != Some(made)) {
        return Err(format!("/{path} has {:?} bytes", shared.get(path).map(Vec::len)));
    }
    let waits = waiting(&mended, top)?;
    if waits != was.waits {
        return Err(format!("{waits:?} waits to become /var, and should be {:?}", was.waits));
    }
    drop(mended);
    let again = locked(open()?);
    if !again.repaired().mended.is_empty() {
        return Err(format!("a second repair still found {:?}", again.repaired().mended));
    }
    let on_disk = volumes::sets(again.layout()).map_err(|e| e.to_string())?.len();
    let in_tree = again.tree().map_err(|e| e.to_string())?.nodes().count();
    if on_disk != in_tree {
        return Err(format!("{on_disk} sets on disk, {in_tree} in the tree"));
    }
    // The one that is changed live is this process' own.
    let dead = |token: &&String| token.parse::<Token>().is_ok_and(|owner| !owner.is_alive());
    if let Some(left) = volumes::work_copies(again.layout()).map_err(|e| e.to_string())?.iter().find(dead) {
        return Err(format!("the working copy {left} is left"));
    }
    Ok(Seen { confirmed, place })
}

/// All that leads anywhere: both superblocks and both copies of the boot block.
fn reachable(read: impl Fn(u64, usize) -> Vec<u8>) -> Vec<u8> {
    let blocks = [layout::RAW_BLOCK_A_SECTOR, layout::RAW_BLOCK_B_SECTOR].map(|sector| (sector * 512, 512));
    SUPERBLOCKS.map(|offset| (offset, SUPERBLOCK)).into_iter().chain(blocks).flat_map(|(offset, len)| read(offset, len)).collect()
}

/// Whether something of this name, beside the root of a deployment, says that a live change has to be brought to its end.
fn is_unsettled(name: &std::ffi::OsStr) -> bool {
    name.to_string_lossy().starts_with(UNSETTLED)
}

fn read_at(image: &std::fs::File, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    image.read_exact_at(&mut bytes, offset).expect("readable");
    bytes
}

/// Everything that the kernel is told to run or keep is what was made, whole: the deployments of the block, the sets of the tree, what is
/// kept of `/var`. Before it is `repaired`, the `/etc` of a deployment may be in the middle of a live change that is seen not to be settled.
fn whole(past: &Past, was: &Was, store: &Store, top: &Path, repaired: bool) -> Result<(), String> {
    let layout = store.layout();
    let (block, tree) = (store.block().map_err(|e| e.to_string())?, store.tree().map_err(|e| e.to_string())?);
    let sets: Vec<SetId> = tree.nodes().map(|node| node.set()).collect();
    if let Some(set) = sets.iter().find(|set| !volumes::is_whole_set(layout, **set)) {
        return Err(format!("set {set} is not whole"));
    }
    if let Some(d) = named(&block).find(|d| !volumes::is_whole_deployment(layout, *d)) {
        return Err(format!("deployment {d} is not whole"));
    }
    let dirs = sets.iter().map(|set| format!("sets/{set}")).chain(named(&block).map(|d| format!("deploy/{d}"))).chain(["vars".to_owned()]);
    for dir in dirs.map(|dir| format!("{}/{dir}", layout::SNAPSHOTS_SUBVOL)) {
        let mut there = Files::new();
        files_below(top, &dir, &mut there).map_err(|e| format!("{dir}: {e}"))?;
        let unsettled = file::names(&top.join(&dir)).map_err(|e| e.to_string())?.iter().any(|name| is_unsettled(name));
        if unsettled && repaired {
            return Err(format!("a live change of {dir} is not settled"));
        }
        let is_open = |path: &str| unsettled && ["/etc/", "/etc.base/"].iter().any(|part| path[dir.len()..].starts_with(part));
        let inside = |path: &str| path.strip_prefix(&dir).is_some_and(|rest| rest.starts_with('/')) && !is_open(path);
        if let Some(path) = was.paths.keys().filter(|path| inside(path)).find(|path| !there.contains_key(*path)) {
            return Err(format!("/{path} is not there"));
        }
        // Of what waits beside the deployments, garbage may be half made.
        let judged = there.iter().filter(|(path, _)| !is_open(path) && (dir != KEPT_VARS || was.paths.contains_key(*path)));
        for (path, has) in judged {
            // What is not there after the verb may be there already or still.
            let version = was.paths.get(path).copied().unwrap_or(0);
            match past.files.get(path).and_then(|versions| versions.get(version)) {
                Some(made) if made == has => {}
                Some(made) => return Err(format!("/{path} has {} bytes, and was made with {}", has.len(), made.len())),
                None => return Err(format!("/{path} was never made")),
            }
        }
    }
    Ok(())
}
