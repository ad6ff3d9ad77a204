//! The making of an update: check, upgrade a working copy, verify, seal, deploy.

use std::collections::BTreeMap;

use ast::deploy::{self, Etc, How};
use ast::id::SetId;
use ast::layout::{Layout, Part};
use ast::pacman::{self, Feed};
use ast::plan::{Commit, Plan};
use ast::store::{Locked, Store, StoreError};
use ast::sys::file;
use ast::updates::{Candidate, Change, Changes, Event};
use ast::work::{self, Parts, ReadyToSeal, WorkError, WorkingCopy};

use crate::error::{Error, chain};
use crate::facts;
use crate::voice::{Message, Voice};

/// Where databases are fetched for a look, below the documents: on disk, since /run is small. Emptied by nobody: the next look is faster.
const SCRATCH: &str = "check";

/// What is under way. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub enum Work {
    /// Nothing.
    Nothing,
    /// A copy that pacman is done with.
    Upgraded(WorkingCopy),
    /// A copy that may be sealed.
    Whole(ReadyToSeal),
    /// A plan, ready to be carried out.
    Planned(Box<Planned>),
}

/// A plan and the lock under which it was made, so that its numbers hold; the copy that it seals.
#[derive(Debug)]
pub struct Planned {
    /// The store, locked.
    pub store: Locked,
    /// The plan.
    pub plan: Plan,
    /// The copy, if it seals one.
    pub ready: Option<ReadyToSeal>,
}

/// What the mirrors have newer than `set`. No snapshot is touched (U2).
pub fn check(store: &Store, set: SetId, voice: &Voice) -> Result<Changes, Error> {
    let scratch = store.layout().document(SCRATCH);
    file::make_dirs(&scratch)?;
    let updates = pacman::check_updates(&Parts::of_set(store.layout(), set), &scratch)?;
    voice.alive();
    let change = |u: pacman::Update| Change { name: u.name, from: Some(u.old), to: Some(u.new) };
    Ok(Changes::new(updates.into_iter().map(change).collect()))
}

/// A copy of `set` is upgraded.
///
/// If interrupted: the copy is garbage by its name.
pub fn upgrade(layout: &Layout, set: SetId, voice: &Voice) -> Result<(Work, Event), Error> {
    let copy = WorkingCopy::create(layout, set)?;
    let mut progress = |line: &str| {
        voice.alive();
        tracing::info!(target: "pacman", "{line}");
    };
    match pacman::upgrade(&copy, Feed::Lines(&mut progress)) {
        Ok(change) => {
            renew(&copy, voice);
            Ok((Work::Upgraded(copy), Event::Upgraded(changes(&change))))
        }
        Err(error) => match error.rejection() {
            Some(why) => Ok((Work::Nothing, Event::Rejected(why))),
            None => Err(error.into()),
        },
    }
}

/// What the parent starts with and has rotted on disk is made anew: no deployment of it would be armed otherwise, and what boots today has the
/// same blocks. Where that fails, the deploy says so.
fn renew(copy: &WorkingCopy, voice: &Voice) {
    match work::renew_boot(copy) {
        Ok(rotten) if rotten.is_empty() => {}
        Ok(rotten) => voice.say(Message::Attention, &format!("had rotted on disk, and was made anew: {}", rotten.join(", "))),
        Err(error) => voice.say(Message::Warning, &chain(&error)),
    }
}

fn changes(change: &pacman::Change) -> Changes {
    let added = change.added.iter().map(|p| Change { name: p.name.clone(), from: None, to: Some(p.version.clone()) });
    let removed = change.removed.iter().map(|p| Change { name: p.name.clone(), from: Some(p.version.clone()), to: None });
    let changed =
        change.changed.iter().map(|(name, old, new)| Change { name: name.clone(), from: Some(old.clone()), to: Some(new.clone()) });
    Changes::new(added.chain(removed).chain(changed).collect())
}

/// What `later` has in other versions than `earlier`; `None` where a list cannot be read.
pub fn difference(layout: &Layout, earlier: SetId, later: SetId) -> Option<Changes> {
    let installed = |set| -> Option<BTreeMap<String, String>> {
        let packages = pacman::installed(&layout.set_part(set, Part::Root)).ok()?;
        Some(packages.iter().map(|p| (p.name.clone(), p.version.clone())).collect())
    };
    Some(Changes::between(&installed(earlier)?, &installed(later)?))
}

/// The copy is cleaned and looked at (S12). What cannot be looked at went wrong; what is not whole is a verdict.
pub fn verify(copy: WorkingCopy) -> Result<(Work, Event), Error> {
    let findings = match copy.finish() {
        Ok(ready) if ready.findings().is_empty() => return Ok((Work::Whole(ready), Event::Whole)),
        Ok(ready) => ready.findings().to_vec(),
        Err(WorkError::NotWhole(findings)) => findings,
        Err(error) => return Err(error.into()),
    };
    Ok((Work::Nothing, Event::NotWhole(findings.iter().map(ToString::to_string).collect())))
}

/// The plan that makes the copy a child of what it is a copy of.
pub fn plan_seal(store: Locked, ready: ReadyToSeal, update: &Candidate) -> Result<(Work, Event), Error> {
    let parent = update.parent.snapshot;
    let source = |part: Part| ready.dir().join(part.name());
    let what = |new| format!("update of {parent} as {new}: {}", update.changes.summary());
    let (plan, new) = store.plan_update(source, parent, &update.description(), what)?;
    Ok((Work::Planned(Box::new(Planned { store, plan, ready: Some(ready) })), Event::SealPlanned(new)))
}

/// The plan that puts `set`, made of `parent`, on trial, with the default's `/etc` merged into it.
///
/// Refuses: while something is on trial, and a snapshot that somebody changed meanwhile.
pub fn plan_deploy(store: Locked, set: SetId, parent: Option<SetId>) -> Result<(Work, Event), Error> {
    let block = store.boot_block()?;
    if block.trial.is_some() {
        return Err(StoreError::Stale("something else was put on trial meanwhile").into());
    }
    let now = store.set_of(set.snapshot)?;
    if now != set {
        return Err(StoreError::Moved { from: set, now }.into());
    }
    let (plan, d) = deploy::plan_deploy(&store, set.snapshot, How::Trial, Etc::MergedFrom(facts::etc_for(&store, block, parent)))?;
    let Commit::Boot { after, .. } = &plan.commit else { return Err(Error::Lost) };
    let arm = after.arm;
    Ok((Work::Planned(Box::new(Planned { store, plan, ready: None })), Event::DeployPlanned { d, arm }))
}
