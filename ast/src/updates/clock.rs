//! Time without a wall clock: how long the machine has run, over all its starts (U5).

use serde::{Deserialize, Serialize};

/// Seconds that a start counts beyond its running time: 6 h. A machine that is switched off every night starts once a day and
/// runs for part of it; without this a wait of a day would take it several.
const START_CREDIT: u64 = 6 * 3600;

/// Seconds that the machine has run since this document exists, each start counting 6 hours more. Only ever grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Age(pub u64);

impl Age {
    /// Seconds from `earlier` to this one; 0 if it was later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The age in `seconds` from now.
    pub const fn plus(self, seconds: u64) -> Self {
        Self(self.0.saturating_add(seconds))
    }
}

/// What turns time since boot into an [`Age`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Clock {
    /// The kernel's id of the start that was seen last.
    pub boot_id: String,
    /// How many starts were seen.
    pub boots: u32,
    /// Age at the beginning of that start.
    pub before: Age,
    /// Seconds since boot when it was looked at last.
    pub uptime: u64,
}

impl Clock {
    /// In memory only: the clock has seen `uptime` seconds of the start `boot_id`.
    pub fn tick(&mut self, boot_id: &str, uptime: u64) {
        if self.boot_id == boot_id {
            self.uptime = self.uptime.max(uptime);
            return;
        }
        self.before = if self.boots == 0 { Age(0) } else { self.now().plus(START_CREDIT) };
        self.boot_id = boot_id.to_owned();
        self.boots = self.boots.saturating_add(1);
        self.uptime = uptime;
    }

    /// The age at the last tick.
    pub const fn now(&self) -> Age {
        self.before.plus(self.uptime)
    }
}
