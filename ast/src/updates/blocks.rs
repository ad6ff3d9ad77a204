//! Package sets that failed, and how long to stay away from them and from what looks like them (U1).

use serde::{Deserialize, Serialize};

use super::changes::Changes;
use super::clock::Age;
use super::judge::Cause;

/// Seconds of a day, the unit in which we wait.
const DAY: u64 = 24 * 3600;
/// Days after which the very same set is tried again: by then a broken mirror or a full disk is the likelier culprit than the set.
const SAME_SET_DAYS: u64 = 30;
/// Most that a wait doubles: 2⁵ = 32 days.
const MAX_DOUBLINGS: u32 = 5;
/// Entries kept; the oldest go first. Nobody reads more, and the document stays small.
const MAX_ENTRIES: usize = 32;

/// A package set that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// [`Changes::fingerprint`] of the set.
    pub fingerprint: String,
    /// The packages that are suspected, with the versions that failed.
    pub suspects: Changes,
    /// Why it failed.
    pub cause: Cause,
    /// When.
    pub at: Age,
    /// Failures in a row with one of the suspects, this one included: the wait doubles with each.
    pub failures: u32,
}

/// Whether an update may be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Try,
    /// No: this very set failed.
    SameSet {
        /// When it may be tried again.
        until: Age,
    },
    /// Not yet: it differs from a set that failed, but a suspect package is in it unchanged.
    Suspect {
        /// The suspect.
        package: String,
        /// When it may be tried.
        until: Age,
    },
}

/// What the block list says about `changes` at `now`.
pub fn decide(blocked: &[Blocked], changes: &Changes, now: Age) -> Decision {
    let fingerprint = changes.fingerprint();
    let same = blocked.iter().filter(|b| b.fingerprint == fingerprint).map(|b| b.at.plus(SAME_SET_DAYS * DAY)).max();
    if let Some(until) = same.filter(|until| *until > now) {
        return Decision::SameSet { until };
    }
    let suspect = blocked
        .iter()
        .filter_map(|b| {
            let still = b.suspects.iter().find(|s| changes.contains(&s.name, s.to.as_deref()))?;
            let days = 1 << b.failures.saturating_sub(1).min(MAX_DOUBLINGS);
            Some((b.at.plus(days * DAY), still.name.clone()))
        })
        .max();
    match suspect {
        Some((until, package)) if until > now => Decision::Suspect { package, until },
        _ => Decision::Try,
    }
}

/// In memory only: `changes` are blocked because of `cause`.
pub fn block(blocked: &mut Vec<Blocked>, changes: &Changes, cause: Cause, evidence: &[String], now: Age) {
    // What pacman refuses never came as far as a start.
    let suspects = if cause == Cause::Rejected { changes.named_in(evidence) } else { changes.suspects(evidence) };
    let shares = |b: &Blocked| b.suspects.iter().any(|s| suspects.contains(&s.name, s.to.as_deref()));
    let before = blocked.iter().filter(|b| shares(b)).map(|b| b.failures).max().unwrap_or(0);
    let fingerprint = changes.fingerprint();
    blocked.retain(|b| b.fingerprint != fingerprint);
    blocked.push(Blocked { fingerprint, suspects, cause, at: now, failures: before.saturating_add(1) });
    let over = blocked.len().saturating_sub(MAX_ENTRIES);
    blocked.drain(..over);
}
