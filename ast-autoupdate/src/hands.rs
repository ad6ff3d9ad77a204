//! The effects, done.

use std::path::{Path, PathBuf};

use ast::config::autoupdate;
use ast::deploy;
use ast::etc::{Outcome, shown};
use ast::id::{ArmId, DeployId};
use ast::retain;
use ast::store::{Locked, Need, Store, StoreError};
use ast::sys::lock::Wait;
use ast::updates::{Effect, Ended, Event, MAX_INTERRUPTED, Prepared, State, Updates};

use crate::baseline;
use crate::cycle::LOCK_PATIENCE;
use crate::error::{Error, chain};
use crate::facts;
use crate::update::{Planned, Work};
use crate::voice::{Message, Voice};
use crate::wait;

/// What comes after an effect.
#[derive(Debug)]
pub enum After {
    /// The next effect.
    Nothing,
    /// This event.
    Event(Event),
    /// Nothing more.
    End(Ended),
}

/// What one cycle holds in its hands between two steps.
#[derive(Debug)]
pub struct Hands<'a> {
    sysroot: PathBuf,
    voice: &'a Voice,
    work: Work,
}

impl<'a> Hands<'a> {
    /// Empty hands.
    pub fn new(sysroot: &Path, voice: &'a Voice) -> Self {
        Self { sysroot: sysroot.to_owned(), voice, work: Work::Nothing }
    }

    /// The effect is done, or the event says that it went wrong.
    pub fn perform(&mut self, effect: Effect, updates: &Updates) -> After {
        if let Some(text) = caption(&effect, updates) {
            self.voice.status(&text);
            self.voice.say(Message::Step, &text);
        }
        let done = match effect {
            Effect::End(ended) => return After::End(ended),
            Effect::Discard(prepared) => {
                if let Err(error) = self.discard(&prepared) {
                    self.voice.say(Message::Warning, &format!("snapshot {} of an update stays: {}", prepared.snapshot, chain(&error)));
                }
                return After::Nothing;
            }
            Effect::Retain => self.retain(updates).map(Event::Retained).map_err(Error::from),
            Effect::Reboot => match crate::reboot::restart() {
                Ok(()) => {
                    self.voice.say(Message::Restart, "restarting into the update");
                    return After::End(Ended { text: "restarting into the update".to_owned(), attention: false });
                }
                Err(error) => Ok(Event::WentWrong(chain(&error))),
            },
            Effect::AskReboot => wait::for_reboot(&self.sysroot, updates, self.voice),
            Effect::Promote { .. } => crate::gate::promote(&self.sysroot, &crate::gate::read_booted(&self.sysroot), self.voice)
                .map(|done| if done { Event::Promoted } else { Event::Superseded })
                .map_err(Error::from),
            Effect::ClearTrial { d, arm } => self.clear_trial(d, arm, updates).map_err(Error::from),
            effect => self.work(effect, updates),
        };
        After::Event(done.unwrap_or_else(|error| match error.is_out_of_space() {
            true => Event::NoSpace(chain(&error)),
            false => Event::WentWrong(chain(&error)),
        }))
    }

    /// The steps that make an update; each takes up what the one before left in `self.work`.
    fn work(&mut self, effect: Effect, updates: &Updates) -> Result<Event, Error> {
        let work = std::mem::replace(&mut self.work, Work::Nothing);
        let (work, event) = match (effect, work) {
            (Effect::Check(set), _) => (Work::Nothing, Event::Checked(crate::update::check(&self.open()?, set, self.voice)?)),
            (Effect::Upgrade(set), _) => {
                let store = self.lock()?;
                self.make_room(&store, updates)?;
                crate::update::upgrade(store.layout(), set, self.voice)?
            }
            (Effect::Verify, Work::Upgraded(copy)) => crate::update::verify(copy)?,
            (Effect::PlanSeal, Work::Whole(ready)) => {
                let Some(update) = updates.state.update() else { return Err(Error::Lost) };
                crate::update::plan_seal(self.lock()?, ready, update)?
            }
            (Effect::PlanDeploy(set), _) => {
                let store = self.lock()?;
                self.see_baseline(&store);
                crate::update::plan_deploy(store, set, updates.state.update().map(|update| update.parent))?
            }
            (Effect::CommitSeal, Work::Planned(planned)) => {
                let Planned { mut store, plan, ready } = *planned;
                let State::Sealing { snapshot, .. } = updates.state else { return Err(Error::Lost) };
                self.finish(&mut store, plan)?;
                drop(ready);
                (Work::Nothing, Event::Sealed(store.set_of(snapshot)?))
            }
            (Effect::CommitDeploy, Work::Planned(planned)) => {
                let Planned { mut store, plan, .. } = *planned;
                let text = plan.what.clone();
                self.finish(&mut store, plan)?;
                self.voice.say(Message::Armed, &text);
                (Work::Nothing, Event::Armed)
            }
            _ => return Err(Error::Lost),
        };
        self.work = work;
        Ok(event)
    }

    fn finish(&self, store: &mut Locked, plan: ast::plan::Plan) -> Result<(), StoreError> {
        let done = store.run(plan)?;
        for conflict in done.etc.iter().flat_map(|etc| &etc.conflicts).filter(|conflict| conflict.outcome == Outcome::Unreadable) {
            self.voice.say(Message::Attention, &format!("{}: {}", shown(&conflict.path), conflict.outcome));
        }
        for error in done.unfinished {
            self.voice.say(Message::Warning, &format!("left for the next repair: {}", chain(&error)));
        }
        Ok(())
    }

    /// There is space for an update, as far as there can be without deleting a snapshot.
    ///
    /// Refuses: where there is none.
    fn make_room(&self, store: &Locked, updates: &Updates) -> Result<(), Error> {
        // What an attempt has fetched that is to be made again is worth keeping, as long as there is room for it.
        let again = (1..=MAX_INTERRUPTED).contains(&updates.retry.attempts);
        if (store.has_space().is_err() || !again && store.is_tight()?)
            && let Err(error) = store.clean_cache()
        {
            self.voice.say(Message::Warning, &chain(&error));
        }
        if ast::care::give_up_if_needed(store.layout())? {
            self.voice.say(Message::Attention, "the disk is nearly full: what was set aside for updates is used now");
        }
        Ok(store.has_space()?)
    }

    /// What fails now on the good deployment is nothing that its successor is to blame for.
    fn see_baseline(&self, store: &Locked) {
        let good = store.boot_block().ok().map(|b| b.good);
        let Some(d) = store.booted().and_then(|b| b.d).filter(|d| Some(*d) == good) else { return };
        let seen = ast::health::failed_units().map_err(Error::from).and_then(|failed| baseline::see(store.layout(), d, &failed));
        if let Err(error) = seen {
            self.voice.say(Message::Warning, &chain(&error));
        }
    }

    fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.sysroot)
    }

    fn lock(&self) -> Result<Locked, StoreError> {
        self.open()?.lock(Wait::Up(LOCK_PATIENCE))
    }

    /// The snapshot is gone, if it is still ours.
    ///
    /// Refuses: one that has children by now, and whatever the store protects.
    fn discard(&self, prepared: &Prepared) -> Result<(), StoreError> {
        let mut store = self.lock()?;
        if facts::own(&store, prepared).is_none() {
            return Ok(());
        }
        let (plan, gone) = store.plan_del(prepared.snapshot)?;
        if gone.len() > 1 {
            // Somebody built on it.
            return Err(StoreError::Needed { id: prepared.snapshot, need: Need::Pinned });
        }
        store.run(plan).map(drop)
    }

    /// What the policy does not keep is gone, looked at anew under the lock. What should have gone and could not, a line each.
    ///
    /// If interrupted: the tree has it or has it not, and the next cycle goes on.
    fn retain(&self, updates: &Updates) -> Result<Vec<String>, StoreError> {
        let mut store = self.lock()?;
        if !store.may_delete() {
            return Ok(vec!["old updates: nothing is deleted while a document cannot be read".to_owned()]);
        }
        let keep = autoupdate::load(&self.sysroot).0.keep;
        let mut stuck = Vec::new();
        let left = retain::carry_out(&mut store, updates, &keep, |_, what, done| {
            self.voice.say(Message::Step, what);
            for error in done.unfinished {
                let text = chain(&error);
                self.voice.say(Message::Warning, &format!("left for the next repair: {text}"));
                stuck.push(text);
            }
        })?;
        Ok(left.held().into_iter().chain(stuck).collect())
    }

    fn clear_trial(&self, d: DeployId, arm: ArmId, updates: &Updates) -> Result<Event, StoreError> {
        let mut store = self.lock()?;
        let reason = updates.degraded.clone().unwrap_or_else(|| "one start was asked for".to_owned());
        if let Some(plan) = deploy::plan_fail_trial(&store, d, arm, &reason)? {
            drop(store.run(plan)?);
        }
        // One that the block no longer carries is cleared, whoever did it.
        Ok(Event::TrialCleared)
    }
}

/// What the status line says while the effect is done.
fn caption(effect: &Effect, updates: &Updates) -> Option<String> {
    let update = || updates.state.update().map(|u| u.changes.summary()).unwrap_or_default();
    Some(match effect {
        Effect::Retain => "deleting old updates".to_owned(),
        Effect::Check(set) => format!("looking for updates of snapshot {}", set.snapshot),
        Effect::Upgrade(_) => format!("upgrading a copy: {}", update()),
        Effect::Verify => "looking whether the copy is whole".to_owned(),
        Effect::PlanSeal => "sealing the copy".to_owned(),
        Effect::PlanDeploy(set) => format!("deploying snapshot {}", set.snapshot),
        Effect::ClearTrial { d, .. } => format!("deployment {d} is not tried again"),
        Effect::Promote { d, .. } => format!("deployment {d} becomes the default"),
        _ => return None,
    })
}
