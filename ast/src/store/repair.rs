//! Repair, at the start of every writing verb: what a crash left is finished or cleared. Run twice it does nothing the second time.
//!
//! The order is part of the promise (S14): tree, boot block, links and menu, sync, and only then anything is deleted.

use serde_json::Value;

use super::document::{self, DocumentError, Loaded};
use super::machine::Machine;
use super::open::{Locked, Store};
use super::{StoreError, collect, derive, run, stop};
use crate::boot::block::BootBlock;
use crate::boot::medium::{Copies, MediumError, Which};
use crate::id::{ArmId, DeployId};
use crate::layout::{self, Layout};
use crate::plan::Spoken;
use crate::sys::file;
use crate::tree::Tree;
use crate::volumes;

/// One thing that repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// The tree document was damaged; it now says what its older copy and the sets on disk say.
    Tree(String),
    /// `machine.json` was damaged; it says again what its older copy says.
    Machine(String),
    /// This copy of the boot block was not whole; it was written from the other one.
    Copy(char),
    /// The copies differed, because GRUB counts in the one it reads; both are what GRUB saw. Happens after every boot.
    Counters,
    /// Neither copy was whole; both now name what the baked entry or the running system names.
    Block(String),
    /// This file of the menu could not be read; it was made anew.
    Menu(String),
    /// Links or menu were not what tree and block say.
    Derived(&'static str),
    /// A live change of this deployment was made to its end, or what is left of one is gone.
    Live(DeployId),
    /// What nothing named was deleted: left by an interrupted command, or kept until the menu no longer named it.
    Deleted(String),
}

/// What repair did, and what it could not do.
#[derive(Debug, Default)]
pub struct Repaired {
    /// What it did.
    pub mended: Vec<Mended>,
    /// What it could not mend. Nothing was deleted then, unless all that is wrong is that something could not be deleted.
    pub problems: Vec<StoreError>,
}

impl Repaired {
    /// Whether a person should hear of it (exit code 5), rather than it being the daily business after a boot or a deploy.
    pub fn needs_attention(&self) -> bool {
        !self.problems.is_empty() || self.mended.iter().any(Mended::was_damage)
    }
}

impl Mended {
    /// Whether something was not as it had been written, which a person should hear of: the disk may be failing.
    pub const fn was_damage(&self) -> bool {
        matches!(self, Self::Tree(_) | Self::Machine(_) | Self::Copy(_) | Self::Block(_) | Self::Menu(_))
    }
}

impl std::fmt::Display for Mended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tree(why) => write!(f, "the tree was rebuilt from its older copy and what is on disk, because {why}"),
            Self::Machine(why) => write!(f, "machine.json was written anew from its older copy, because {why}"),
            Self::Copy(name) => write!(f, "copy {name} of the boot block was damaged or could not be read, and is whole again"),
            Self::Counters => write!(f, "both copies of the boot block are as GRUB left the one it read"),
            Self::Block(what) => write!(f, "both copies of the boot block were damaged; they now say: {what}"),
            Self::Menu(why) => write!(f, "a file of the menu was made anew, because {why}"),
            Self::Derived(what) => write!(f, "the {what} now follow the tree and the boot block"),
            Self::Live(d) => write!(f, "what a live change of deployment {d} had left is settled"),
            Self::Deleted(what) => write!(f, "{what} was left over and is deleted"),
        }
    }
}

/// Tree and boot block are whole, links and menu follow them, what nothing names is gone.
///
/// If interrupted: the next repair goes on.
/// What fails is in [`Repaired::problems`], and nothing is deleted then.
pub(super) fn repair(locked: &mut Locked) {
    let mut problems = Vec::new();
    if let Err(error) = tree(locked).and_then(|()| locked.store.tree().map(drop)) {
        problems.push(error);
    }
    if let Err(error) = machine(locked) {
        problems.push(error);
    }
    match block(&mut locked.store) {
        Ok((block, mended)) => {
            locked.knows(Some(block));
            locked.repaired.mended.extend(mended);
        }
        Err(error) => problems.push(error),
    }
    problems.extend(unreadable_documents(&locked.store));
    stop::point("repair: links and menu");
    if let Err(error) = derived(locked) {
        problems.push(error);
    }
    stop::point("repair: live changes");
    // It deletes what is left over, so it waits like all that does.
    if problems.is_empty() {
        match crate::live::settle(locked) {
            Ok(settled) => locked.repaired.mended.extend(settled.into_iter().map(Mended::Live)),
            Err(error) => problems.push(StoreError::Live(Box::new(error))),
        }
    }
    locked.deletes = problems.is_empty();
    match collect::collect(locked, false) {
        Ok(collected) => {
            locked.repaired.mended.extend(collected.gone.into_iter().map(Mended::Deleted));
            problems.extend(collected.stuck);
        }
        Err(error) => problems.push(error),
    }
    for mended in &locked.repaired.mended {
        tracing::info!("repair: {mended}");
    }
    locked.repaired.problems = problems;
}

/// The document says what was made of its older copy and of the sets on disk, if it was damaged.
fn tree(locked: &mut Locked) -> Result<(), StoreError> {
    let store = &mut locked.store;
    let Some(damage) = store.known_tree.get_mut().filter(|known| known.tree.is_some()).and_then(|known| known.damage.take()) else {
        return Ok(());
    };
    let path = store.layout().document(layout::TREE);
    stop::point("repair: tree");
    file::set_aside(&path)?;
    document::save(&path, store.tree()?)?;
    locked.repaired.mended.push(Mended::Tree(damage.to_string()));
    Ok(())
}

/// The document says what its older copy says, if it was damaged; and it has an older copy.
fn machine(locked: &mut Locked) -> Result<(), StoreError> {
    let path = locked.store.layout().document(layout::MACHINE);
    match document::load_if_exists::<Machine>(&path) {
        Ok(Some(Loaded { body, damage: Some(damage), .. })) => {
            stop::point("repair: machine");
            file::set_aside(&path)?;
            document::save(&path, &body)?;
            locked.repaired.mended.push(Mended::Machine(damage.to_string()));
        }
        // A full disk is no reason to stop: nothing needs the copy today.
        Ok(Some(_)) => document::save_older_copy(&path).unwrap_or_else(|error| tracing::warn!("no older copy: {error}")),
        // What needs it says so.
        Ok(None) | Err(_) => {}
    }
    Ok(())
}

/// The tree that the whole sets on disk and its older copy make; `None` when there is no base among them.
///
/// Refuses: when it cannot be told of one whether it is whole: a tree without it would have it deleted.
pub(super) fn guess_tree(layout: &Layout, older: Option<&Tree>) -> Result<Option<Tree>, StoreError> {
    let mut whole = Vec::new();
    for set in volumes::sets(layout)? {
        if volumes::whole_set(layout, set)? {
            whole.push(set);
        }
    }
    Ok(crate::tree::recover(older, &whole, run::now()))
}

/// Both copies of the boot block are the current state.
fn block(store: &mut Store) -> Result<(BootBlock, Option<Mended>), StoreError> {
    let medium = store.medium()?;
    let copies = medium.read();
    let damaged = |copy: &Result<BootBlock, MediumError>| copy.as_ref().err().is_some_and(is_damage);
    // While the other one is whole, what the disk does not give back is damage too: a write mends it, or its read-back says that it does not.
    let lost = |copy: &Result<BootBlock, MediumError>| damaged(copy) || copy.as_ref().err().is_some_and(MediumError::is_unreadable);
    let (block, mended) = match &copies {
        Copies { a: Ok(a), b: Ok(b) } if a == b => return Ok((a.clone(), None)),
        Copies { a: Ok(a), b: Ok(_) } => (a.clone(), Mended::Counters),
        Copies { a: Ok(a), b } if lost(b) => (a.clone(), Mended::Copy('B')),
        Copies { a, b: Ok(b) } if lost(a) => (b.clone(), Mended::Copy('A')),
        Copies { a, b } if damaged(a) && damaged(b) => {
            let block = rebuild(store)?;
            let said = Mended::Block(Spoken(&block).to_string());
            (block, said)
        }
        _ => return Err(copies.a.and(copies.b).map_or_else(Into::into, |_| StoreError::NoBlock)),
    };
    stop::point("repair: boot block");
    let write = |which: Which, copy: &Result<BootBlock, MediumError>| match copy {
        Ok(there) if *there == block => Ok(()),
        _ => medium.write_one(which, &block),
    };
    write(Which::B, &copies.b)?;
    write(Which::A, &copies.a)?;
    Ok((block, Some(mended)))
}

/// Whether the medium answered, with something that is no boot block.
fn is_damage(error: &MediumError) -> bool {
    match error {
        MediumError::Block(_) => true,
        MediumError::Sys(error) => error.is_not_found(),
        _ => false,
    }
}

/// A boot block out of what else is known: the baked entry, the running system. Its arming number is past every one that was given.
fn rebuild(store: &Store) -> Result<BootBlock, StoreError> {
    let whole = |d: &DeployId| volumes::is_whole_deployment(store.layout(), *d);
    let baked = derive::baked(store)?;
    let booted = store.booted().and_then(|b| b.d);
    let known_well = volumes::deployments(store.layout())?.into_iter().rev().filter(|d| store.layout().deployment_well(*d).exists());
    let mut candidates = baked.into_iter().chain(booted).chain(known_well).filter(whole);
    let good = candidates.next().ok_or(StoreError::NoBlock)?;
    let prev = candidates.find(|d| *d != good);
    let arm = store.numbers()?.next_arm;
    Ok(BootBlock { prev, arm: ArmId::new(arm), ..BootBlock::new(good) })
}

/// Documents that are there and cannot be read, besides the tree.
fn unreadable_documents(store: &Store) -> Vec<StoreError> {
    [layout::MACHINE, layout::NUMBERS, layout::UPDATES, layout::GRUB]
        .into_iter()
        .filter_map(|name| match document::load_if_exists::<Value>(&store.layout().document(name)) {
            Ok(Some(loaded)) => loaded.damage,
            Ok(None) => None,
            // A newer one can be read by a newer ast: it is no damage, and names no set.
            Err(DocumentError::NewerToRead { .. }) => None,
            Err(error) => Some(error),
        })
        .map(Into::into)
        .collect()
}

/// Links and menu follow tree and block. That they are on disk before anything is deleted, `collect` sees to.
fn derived(locked: &mut Locked) -> Result<(), StoreError> {
    let links = derive::links(&locked.store)?;
    let menu = match locked.boot_block() {
        Ok(block) => {
            let unreadable = derive::unreadable(&locked.store);
            let changed = derive::menu(&locked.store, block, None)?;
            locked.repaired.mended.extend(unreadable.into_iter().map(Mended::Menu));
            changed
        }
        Err(_) => false,
    };
    if menu {
        file::syncfs(&locked.store.grub_dir())?;
    }
    for what in [links.then_some("links"), menu.then_some("menus")].into_iter().flatten() {
        locked.repaired.mended.push(Mended::Derived(what));
    }
    Ok(())
}
