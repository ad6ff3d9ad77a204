//! The whole memory of the updater: `updates.json`, outside every snapshot.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::blocks::Blocked;
use super::changes::Changes;
use super::clock::{Age, Clock};
use super::facts::Request;
use super::judge::{Outcome, Result, Verdict};
use super::state::{Prepared, State};
use crate::id::{ArmId, SetId, SnapshotId};

/// Verdicts kept; the oldest go first.
const MAX_VERDICTS: usize = 64;
/// Leftovers remembered. Each cycle deletes them, so more than one or two are those that a rule protects.
const MAX_LEFTOVERS: usize = 16;
/// Promoted updates remembered: nobody goes back further than the snapshots that are kept.
const MAX_PROMOTED: usize = 8;
/// Seconds before the second attempt at something that went wrong: 15 minutes, doubled with each further one.
const FIRST_WAIT: u64 = 15 * 60;
/// Longest wait in seconds: a day. A mirror that is down for a week costs a device one day after it is back.
const LONGEST_WAIT: u64 = 24 * 3600;

/// Attempts at something that went wrong, and when the next one is due.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Not before this.
    pub not_before: Age,
}

/// A pause that a person ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Until this; for ever with `None`.
    pub until: Option<Age>,
}

/// What `ast-autoupdate` remembers. Unknown keys are kept, so that an older program loses nothing of a later one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Updates {
    /// Time.
    pub clock: Clock,
    /// Where the machine stands.
    pub state: State,
    /// Attempts and waiting.
    pub retry: Retry,
    /// Sets that failed.
    pub blocked: Vec<Blocked>,
    /// What became of trials, oldest first.
    pub verdicts: Vec<Verdict>,
    /// Why the machine is degraded, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub degraded: Option<String>,
    /// A pause, if one is ordered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<Pause>,
    /// How the last cycle ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Outcome>,
    /// Snapshot of the last update that failed: kept for a look until the next one fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<Prepared>,
    /// Snapshots that updates made and nobody needs: deleted at the beginning of a cycle, forgotten when they are gone.
    pub leftovers: Vec<Prepared>,
    /// What retention should have deleted and could not, a line each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub undeleted: Vec<String>,
    /// Whether the last attempt at an update ended because the disk was full, and none came as far as a snapshot since.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_space: bool,
    /// What the last updates changed that became the default: when the mirrors offer the same again, a person has gone back.
    pub promoted: Vec<Changes>,
    /// Steps of this cycle; not remembered.
    #[serde(skip)]
    pub(super) steps: u32,
    /// Who asked for this cycle.
    #[serde(skip)]
    pub(super) request: Option<Request>,
    /// Why this cycle begins no update, if it does not.
    #[serde(skip)]
    pub(super) held: Option<String>,
    /// What this cycle clones.
    #[serde(skip)]
    pub(super) parent: Option<SetId>,
    /// What spreads the waits of this cycle.
    #[serde(skip)]
    pub(super) jitter: u32,
    /// Keys of a later version, kept.
    #[serde(flatten)]
    pub later: serde_json::Map<String, serde_json::Value>,
}

impl Updates {
    /// The age at the last tick of the clock.
    pub const fn now(&self) -> Age {
        self.clock.now()
    }

    /// Whether a pause holds now.
    pub fn paused(&self) -> bool {
        self.pause.is_some_and(|p| p.until.is_none_or(|until| until > self.now()))
    }

    /// Whether a person asked for this cycle: it begins in spite of a pause.
    pub fn forced(&self) -> bool {
        self.request == Some(Request::Person)
    }

    /// Whether an attempt is due now.
    pub fn due(&self) -> bool {
        self.retry.not_before <= self.now()
    }

    /// The verdicts about one arming.
    pub fn verdicts_of(&self, arm: ArmId) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(move |v| v.arm == arm)
    }

    /// The snapshots that the tree has to be asked for.
    pub fn own_snapshots(&self) -> Vec<Prepared> {
        self.leftovers.iter().cloned().chain(self.state.prepared()).collect()
    }

    /// Snapshots whose trial failed, as far as that is remembered, and was not tried again with success.
    pub fn failed_snapshots(&self) -> BTreeSet<SnapshotId> {
        let mut failed: BTreeSet<_> = self.failed.iter().map(|prepared| prepared.snapshot).collect();
        for (verdict, set) in self.verdicts.iter().filter_map(|v| Some((v, v.set?))) {
            match verdict.result {
                Result::Failed => failed.insert(set.snapshot),
                Result::Promoted => failed.remove(&set.snapshot),
                _ => false,
            };
        }
        failed
    }

    /// In memory only: this snapshot goes at the next occasion.
    pub(super) fn leave(&mut self, prepared: Option<Prepared>) {
        self.leftovers.extend(prepared);
        let over = self.leftovers.len().saturating_sub(MAX_LEFTOVERS);
        self.leftovers.drain(..over);
    }

    /// In memory only: an update with these changes became the default.
    pub(super) fn note_changes(&mut self, changes: Changes) {
        self.promoted.retain(|c| c.fingerprint() != changes.fingerprint());
        self.promoted.push(changes);
        let over = self.promoted.len().saturating_sub(MAX_PROMOTED);
        self.promoted.drain(..over);
    }

    /// In memory only: an attempt failed; the next is due later, spread by `jitter`.
    pub(super) fn wait(&mut self, jitter: u32) {
        self.retry.attempts = self.retry.attempts.saturating_add(1);
        let doublings = self.retry.attempts.saturating_sub(1).min(16);
        let wait = (FIRST_WAIT << doublings).min(LONGEST_WAIT);
        // Up to a quarter more, so that a hundred kiosks do not come back to a mirror in the same second.
        let spread = wait / 4 * u64::from(jitter % 1000) / 1000;
        self.retry.not_before = self.now().plus(wait + spread);
    }

    /// In memory only: an attempt was cut off. The first time that costs no waiting: it was the plug, most likely.
    pub(super) fn interrupted(&mut self, jitter: u32) {
        self.wait(jitter);
        if self.retry.attempts == 1 {
            self.retry.not_before = self.now();
        }
    }

    /// In memory only: `verdict` is recorded, once for each arming and result.
    pub(super) fn record(&mut self, verdict: Verdict) {
        let terminal = verdict.result != Result::StartFailed;
        if terminal && self.verdicts_of(verdict.arm).any(|v| v.result == verdict.result) {
            return;
        }
        self.verdicts.push(verdict);
        let over = self.verdicts.len().saturating_sub(MAX_VERDICTS);
        self.verdicts.drain(..over);
    }

    /// In memory only: the cycle ended like this.
    pub(super) fn ended(&mut self, text: &str) {
        self.last = Some(Outcome { at: self.now(), text: text.to_owned() });
    }
}
