//! The effects, done.

use std::path::{Path, PathBuf};

use ast::deploy;
use ast::store::{Store, StoreError};
use ast::sys::lock::Wait;
use ast::updates::{Effect, Ended, Event, Prepared, Updates};

use crate::cycle::LOCK_PATIENCE;
use crate::error::chain;
use crate::facts;
use crate::voice::{Message, Voice};

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
}

impl<'a> Hands<'a> {
    /// Empty hands.
    pub fn new(sysroot: &Path, voice: &'a Voice) -> Self {
        Self { sysroot: sysroot.to_owned(), voice }
    }

    /// The effect is done, or the event says that it went wrong.
    pub fn perform(&mut self, effect: Effect, updates: &Updates) -> After {
        let done = match effect {
            Effect::End(ended) => return After::End(ended),
            Effect::Discard(prepared) => {
                if let Err(error) = self.discard(&prepared) {
                    self.voice.say(Message::Warning, &format!("snapshot {} of an update stays: {}", prepared.snapshot, chain(&error)));
                }
                return After::Nothing;
            }
            Effect::Promote { .. } => crate::gate::promote(&self.sysroot, &crate::gate::read_booted(&self.sysroot))
                .map(|done| if done { Event::Promoted } else { Event::Superseded }),
            Effect::ClearTrial { d, arm } => self.clear_trial(d, arm, updates),
            _ => Ok(Event::WentWrong("updates land next".to_owned())),
        };
        After::Event(done.unwrap_or_else(|error| Event::WentWrong(chain(&error))))
    }

    /// The snapshot is gone, if it is still ours.
    ///
    /// Refuses: one that has children by now, and whatever the store protects.
    fn discard(&self, prepared: &Prepared) -> Result<(), StoreError> {
        let mut store = Store::open(&self.sysroot)?.lock(Wait::Up(LOCK_PATIENCE))?;
        if facts::own(&store, prepared).is_none() {
            return Ok(());
        }
        let (plan, gone) = store.plan_del(prepared.snapshot)?;
        if gone.len() > 1 {
            return Err(StoreError::Needed { id: prepared.snapshot, need: ast::store::Need::Pinned });
        }
        store.run(plan).map(drop)
    }

    fn clear_trial(&self, d: ast::id::DeployId, arm: ast::id::ArmId, updates: &Updates) -> Result<Event, StoreError> {
        let mut store = Store::open(&self.sysroot)?.lock(Wait::Up(LOCK_PATIENCE))?;
        let reason = updates.degraded.clone().unwrap_or_else(|| "one start was asked for".to_owned());
        match deploy::plan_fail_trial(&store, d, arm, &reason)? {
            Some(plan) => store.run(plan).map(|_| Event::TrialCleared),
            None => Ok(Event::Superseded),
        }
    }
}
