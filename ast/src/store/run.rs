//! Carrying out a plan: prepare, the one commit, what follows.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::history::{self, Line};
use super::open::{KnownTree, Locked, Store};
use super::{RoomError, StoreError, collect, derive, document, stop};
use crate::boot::block::BootBlock;
use crate::boot::medium::Which;
use crate::deploy::record;
use crate::etc::{self, Goal, Report};
use crate::grub::install::NewMenu;
use crate::id::DeployId;
use crate::layout::{self, Layout, Part};
use crate::plan::{Commit, Plan, Step};
use crate::progress;
use crate::sys::{btrfs, file};
use crate::verify::{self, Depth, Disk};
use crate::volumes::{self, Mounts};
use crate::work::{Parts, ReadyToSeal, WorkError};

/// Judges a new deployment before it may be booted (S12).
pub type Verify = fn(&Layout, DeployId) -> Result<(), RoomError>;

/// Free bytes without which nothing new is begun: a full btrfs cannot even delete (S10). Metadata of four snapshots and of the
/// documents is under 1 MiB; the rest is for whoever writes at the same time.
const RESERVE: u64 = 32 << 20;
/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

/// A plan was committed.
#[derive(Debug, Default)]
#[must_use = "what could not be finished should be told"]
pub struct Done {
    /// What follows from the commit and could not be done now; the next repair does it (exit code 5).
    pub unfinished: Vec<StoreError>,
    /// What was merged into the new `/etc`, if anything was to be; what wants a look is exit code 5.
    pub etc: Option<Report>,
}

/// Seconds since 1970, by a clock that may be wrong.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// The deployment is there with its four subvolumes, sealed where they must be, and with everything that it needs to start.
pub(super) fn verify_really(layout: &Layout, d: DeployId) -> Result<(), RoomError> {
    if !volumes::whole_deployment(layout, d)? {
        return Err(StoreError::NoDeployment(d).into());
    }
    let parts = Parts::of_deployment(layout, d);
    let boot_of = |other| layout.deployment_part(other, Part::Boot);
    let booted_well = |other: &DeployId| *other != d && layout.deployment_well(*other).exists();
    // To have started a machine says more of an image than a look into it; that these are the same bytes is still asked of the files.
    let known = volumes::deployments(layout)?.into_iter().filter(booted_well).any(|other| verify::same_images(&parts.boot, &boot_of(other)));
    // Where the disk is to be unlocked, what is in an image has to fit how it is started.
    let disk = Disk::of(layout);
    let depth = if known && disk != Disk::Encrypted { Depth::NotIntoTheImages } else { Depth::Whole };
    match verify::check_to(&parts, disk, depth) {
        lacks if lacks.is_empty() => Ok(()),
        lacks => Err(WorkError::NotWhole(lacks).into()),
    }
}

impl Store {
    /// Whether there is space to begin something new.
    ///
    /// Refuses: when there is less than is needed to end it well.
    pub fn has_space(&self) -> Result<(), StoreError> {
        self.has_space_for(0)
    }

    /// Whether less than a tenth of the disk is free: time to delete what nobody misses.
    pub fn is_tight(&self) -> Result<bool, StoreError> {
        let (size, available) = btrfs::space(self.layout().snapshots())?;
        Ok(available < size / 10)
    }

    /// Whether there is space to begin something new that takes about this many bytes.
    ///
    /// Refuses: when there is less than is needed to end it well.
    pub fn has_space_for(&self, bytes: u64) -> Result<(), StoreError> {
        let (_, available) = btrfs::space(self.layout().snapshots())?;
        let needed = RESERVE.saturating_add(bytes);
        if available < needed {
            return Err(StoreError::NoSpace { available: available / MIB, needed: needed.div_ceil(MIB) });
        }
        Ok(())
    }
}

/// What waits beside its place for the commit.
#[derive(Debug, Default)]
pub(super) struct Staged {
    /// The tree document does.
    tree: bool,
    /// The menu that goes with it.
    menu: Option<NewMenu>,
}

impl Locked {
    /// The plan is committed, and what follows from it is done as far as it could be.
    ///
    /// If interrupted: before the commit everything new is garbage, after it everything left is derived; the next repair does either.
    /// Refuses: a plan made for another tree or boot block, a document that only a newer ast may write, too little space to begin.
    /// Whatever fails before the commit leaves the machine as it was.
    pub fn run(&mut self, plan: Plan) -> Result<Done, StoreError> {
        self.prepare(&plan)?;
        Ok(self.follow(&plan))
    }

    /// The same, and `made_of`, the working copy that the plan was made of, is deleted beside what follows from the commit (or, as on any
    /// error, before it).
    pub fn run_sealing(&mut self, plan: Plan, made_of: ReadyToSeal) -> Result<Done, StoreError> {
        self.prepare(&plan)?;
        Ok(std::thread::scope(|scope| {
            // It keeps a processor busy, while the rest waits for the disk. Without a thread it is deleted here and now.
            let _beside = std::thread::Builder::new().name("discard".into()).spawn_scoped(scope, || drop(made_of));
            self.follow(&plan)
        }))
    }

    fn prepare(&mut self, plan: &Plan) -> Result<(), StoreError> {
        tracing::info!("{}", plan.what);
        self.staged = Staged::default();
        self.may_commit(&plan.commit)?;
        if plan.prepare.iter().any(|step| matches!(step, Step::Snapshot { .. } | Step::CreateSubvolume(_))) {
            self.has_space()?;
        }
        if let Err(error) = self.prepare_and_commit(plan) {
            // As long as this process lives it clears up behind itself; if that fails too, repair will.
            if let Err(second) = self.collect(false) {
                tracing::warn!("what was prepared is left for the next repair: {second}");
            }
            return Err(error);
        }
        Ok(())
    }

    fn follow(&mut self, plan: &Plan) -> Done {
        let mut done = Done { etc: self.merged.take(), ..Done::default() };
        for (index, step) in plan.after.iter().enumerate() {
            stop::point(&format!("after: {step}"));
            progress::step(plan.prepare.len() + 2 + index, steps_of(plan), step);
            if let Err(error) = self.perform(step) {
                tracing::warn!("committed, but: {error}");
                // Deleting needs everything before it to have been done, but not that everything else could be deleted.
                self.deletes &= matches!(error, StoreError::Stuck { .. });
                done.unfinished.push(error);
            }
        }
        stop::point("done");
        done
    }

    /// Package files that no snapshot has installed are gone from the machine's cache, and their space is there, unless somebody is at work
    /// in a copy: those that a command has just fetched are in no snapshot yet.
    ///
    /// If interrupted: some are gone.
    pub fn clean_cache(&self) -> Result<(), StoreError> {
        collect::clean_cache(self)?;
        Ok(btrfs::commit(self.layout().snapshots())?)
    }

    fn may_commit(&self, commit: &Commit) -> Result<(), StoreError> {
        match commit {
            Commit::Tree { before, .. } => {
                if **before != *self.tree()? {
                    return Err(StoreError::Stale("the tree has changed"));
                }
                Ok(document::may_write(&self.layout().document(layout::TREE))?)
            }
            Commit::First { .. } if self.store.known_tree()?.tree.is_some() || self.layout().document(layout::TREE).exists() => {
                Err(StoreError::Stale("there is a tree already"))
            }
            Commit::First { .. } => Ok(()),
            Commit::Boot { before, .. } if *before != *self.boot_block()? => Err(StoreError::Stale("the boot block has changed")),
            Commit::Boot { .. } => Ok(()),
        }
    }

    fn prepare_and_commit(&mut self, plan: &Plan) -> Result<(), StoreError> {
        let last_sync = plan.prepare.iter().rposition(|step| *step == Step::Sync);
        for (index, step) in plan.prepare.iter().enumerate() {
            if last_sync == Some(index) {
                stop::point("prepare: stage what the commit publishes");
                self.stage(plan)?;
            }
            stop::point(&format!("prepare: {step}"));
            progress::step(index + 1, steps_of(plan), step);
            self.perform(step)?;
        }
        stop::point(&format!("before: {}", plan.commit));
        progress::step(plan.prepare.len() + 1, steps_of(plan), &plan.commit);
        self.commit(&plan.commit)
    }

    /// What the commit and the step behind it write waits for the sync before, so that they need none of their own (S4).
    fn stage(&mut self, plan: &Plan) -> Result<(), StoreError> {
        if let Commit::Tree { before, after } = &plan.commit
            && before != after
        {
            document::stage(&self.layout().document(layout::TREE), after)?;
            self.staged.tree = true;
        }
        // Steps before it may do what it has to say: then it waits for them.
        if plan.after.iter().find(|step| !matches!(step, Step::Links)) == Some(&Step::Menu) {
            let menu = match &plan.commit {
                Commit::Tree { after, .. } => self.boot_block().and_then(|block| derive::stage_menu(self, after, block)),
                Commit::Boot { after, .. } => self.tree().and_then(|tree| derive::stage_menu(self, tree, after)),
                Commit::First { .. } => Ok(None),
            };
            // What is wrong with it is said by the step itself, and undoes nothing.
            self.staged.menu = menu.inspect_err(|error| tracing::debug!("the menu is not staged: {error}")).ok().flatten();
        }
        Ok(())
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        self.synced = false;
        match commit {
            // Written only when it says something new: the older copy is to be another one.
            Commit::Tree { before, after } if before == after => Ok(()),
            Commit::Tree { after, .. } => {
                let path = self.layout().document(layout::TREE);
                match std::mem::take(&mut self.staged.tree) {
                    true => document::publish(&path)?,
                    false => document::save(&path, after)?,
                }
                self.store.known_tree = KnownTree::from((**after).clone()).into();
                Ok(())
            }
            Commit::First { after } => {
                document::save(&self.layout().document(layout::TREE), after)?;
                self.store.known_tree = KnownTree::from((**after).clone()).into();
                Ok(())
            }
            Commit::Boot { after, .. } => self.write_block(after),
        }
    }

    /// B, then A: until A is written, A is whole and says what it said.
    fn write_block(&mut self, block: &BootBlock) -> Result<(), StoreError> {
        let medium = self.medium()?;
        medium.write_one(Which::B, block)?;
        stop::point("between the copies of the boot block");
        let written = medium.write_one(Which::A, block);
        // Whatever became of A, what GRUB would take is the state now.
        let now = medium.read().current().map(|(_, block)| block.clone());
        let is_new = now.as_ref() == Some(block);
        self.knows(now);
        match written {
            Err(error) if !is_new => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What nothing names is gone, but for what cannot be deleted: the first such is the error, and the next repair tells of all.
    fn collect(&self, synced: bool) -> Result<(), StoreError> {
        let stuck = collect::collect(self, synced)?.stuck;
        stuck.into_iter().inspect(|error| tracing::warn!("{error}")).reduce(|first, _| first).map_or(Ok(()), Err)
    }

    fn perform(&mut self, step: &Step) -> Result<(), StoreError> {
        tracing::debug!("{step}");
        // Whatever comes of it: only what is asked right behind a sync finds that.
        let synced = std::mem::take(&mut self.synced);
        let layout = self.layout();
        match step {
            Step::MakeDir(path) => file::make_dirs(path)?,
            Step::CreateSubvolume(path) => btrfs::create_subvolume(path)?,
            Step::Snapshot { from, to, access } => btrfs::snapshot(from, to, *access)?,
            Step::Seal(path) => btrfs::set_read_only(path, true)?,
            Step::Write { path, bytes } => file::put(path, bytes)?,
            Step::Title { boot, title } => derive::set_title(boot, title)?,
            Step::CarryIdentity { from, into } => etc::carry_identity(from, into)?,
            Step::MergeEtc { edited, into } => self.merged = Some(etc::merge(edited, into, Goal::Deployment)?),
            Step::KeepSaved { from, d } => replace_snapshot(from, &layout.deployment_etc_saved(*d))?,
            Step::Reserve(numbers) => document::save(&layout.document(layout::NUMBERS), numbers)?,
            Step::Sync => {
                file::syncfs(layout.snapshots())?;
                self.synced = true;
            }
            Step::Verify(d) => (self.verify)(layout, *d).map_err(|source| StoreError::Verify { d: *d, source })?,
            Step::MarkWell(d) => mark_well(layout, *d)?,
            Step::Links => drop(derive::links(self)?),
            Step::Menu => {
                let staged = self.staged.menu.take();
                derive::menu(self, self.boot_block()?, staged)?;
            }
            Step::ForgetVar(d) => collect::forget_var(self, *d)?,
            Step::CleanCache => collect::clean_cache(self)?,
            Step::Collect => self.collect(synced)?,
            Step::Record(what) => self.note(what.clone())?,
        }
        Ok(())
    }

    /// A line of the history says that this was done.
    ///
    /// If interrupted: a torn line may be there, which its readers pass over.
    pub fn note(&self, what: String) -> Result<(), StoreError> {
        let line = Line { time: now(), by: by(), what, later: Default::default() };
        Ok(history::append(&self.layout().document(layout::HISTORY), &line)?)
    }
}

/// Steps of a plan, the commit being one.
fn steps_of(plan: &Plan) -> usize {
    plan.prepare.len() + 1 + plan.after.len()
}

/// Name of the program that does it, for the history.
fn by() -> String {
    std::env::args_os().next().and_then(|arg| Path::new(&arg).file_name().map(|n| n.to_string_lossy().into_owned())).unwrap_or_default()
}

/// `to` is a sealed snapshot of `from`.
///
/// If interrupted: it is what it was, or that; what lies beside it is thrown away by the next one.
fn replace_snapshot(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut new = to.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    volumes::remove(new, &Mounts::default())?;
    btrfs::snapshot(from, new, btrfs::Access::ReadOnly)?;
    stop::point("prepare: the snapshot that replaces another is made");
    if !to.exists() {
        return Ok(file::rename(new, to)?);
    }
    file::exchange(new, to)?;
    stop::point("prepare: it has replaced it");
    Ok(volumes::remove(new, &Mounts::default())?)
}

/// The deployment is known to have booted well. Written once, so that a boot costs no write.
fn mark_well(layout: &Layout, d: DeployId) -> Result<(), StoreError> {
    let mark = |path: &Path| if path.exists() { Ok(()) } else { file::replace(path, format!("{}\n", now()).as_bytes()) };
    // For the menu only; the set may be gone. First: that the deployment has its mark says that nothing is left to do.
    let set = record::load(layout, d).map(|record| record.set).ok().filter(|set| layout.set(*set).is_dir());
    if let Some(Err(error)) = set.map(|set| mark(&layout.set_well(set))) {
        tracing::warn!("the menu will not say that it booted well: {error}");
    }
    Ok(mark(&layout.deployment_well(d))?)
}
