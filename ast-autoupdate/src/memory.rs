//! `updates.json` in the hands of one process.

use std::time::Duration;

use ast::layout::Layout;
use ast::sys::lock::{Lock, LockError, Wait};
use ast::updates::{self, Effect, Event, Updates};

use crate::error::Error;

/// Beside the document: held by a cycle for as long as it takes, unlike the lock of the store.
const LOCK: &str = "updates.lock";

/// The memory, its clock set.
#[derive(Debug)]
pub struct Memory {
    layout: Layout,
    updates: Updates,
    _lock: Option<Lock>,
}

impl Memory {
    /// The memory of this machine, for this process alone.
    ///
    /// Refuses: while another cycle runs, after `wait`.
    pub fn open(layout: &Layout, wait: Wait) -> Result<Self, Error> {
        let lock = Lock::acquire(&layout.document(LOCK), wait)?;
        Self::load(layout, Some(lock))
    }

    /// The same for the gate: its verdict matters more than a cycle that a person has started meanwhile, or than a lock that cannot be
    /// made on a full disk.
    pub fn open_anyway(layout: &Layout) -> Result<Self, Error> {
        /// Longer than any step of a cycle holds its breath, shorter than the gate's deadline.
        const PATIENCE: Duration = Duration::from_secs(20);
        match Lock::acquire(&layout.document(LOCK), Wait::Up(PATIENCE)) {
            Ok(lock) => Self::load(layout, Some(lock)),
            Err(LockError::Held { .. } | LockError::Sys(_)) => Self::load(layout, None),
        }
    }

    fn load(layout: &Layout, lock: Option<Lock>) -> Result<Self, Error> {
        let updates = updates::load(layout)?;
        Ok(Self { layout: layout.clone(), updates, _lock: lock })
    }

    /// What is remembered.
    pub const fn updates(&self) -> &Updates {
        &self.updates
    }

    /// The machine has taken `event`, the disk has its new state, and this is what to do.
    ///
    /// If interrupted: the memory is as before or as after.
    pub fn take(&mut self, event: Event) -> Result<Vec<Effect>, Error> {
        let (mut next, effects) = self.updates.clone().step(event)?;
        updates::tick(&mut next)?;
        updates::save(&self.layout, &mut next)?;
        self.updates = next;
        crate::status::publish(&self.layout, &self.updates);
        ast::store::stop_point(&format!("updates: {}", self.updates.state.name()));
        Ok(effects)
    }
}
