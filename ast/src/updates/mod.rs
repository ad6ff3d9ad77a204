//! The unattended update as a value: one state machine, its block list and its clock. Pure, but for `keep`, which reads and writes it.
//!
//! ```text
//!  Idle ─► Checking ─► Upgrading ─► Sealing ─► Verified ─► Deploying ─► AwaitingReboot ─► OnTrial ─► Idle (promoted)
//!   ▲         │            │           │           │            │             │              │
//!   └─────────┴────────────┴───────────┴───────────┴────────────┴─────────────┴──► Failed ◄──┘
//! ```
//!
//! From Idle a cycle goes through `Retaining` first when there is something to delete and nothing on trial (U8).
//!
//! The upgrade happens in a working copy of the default's set, which is garbage by its name; it enters the tree as a child of the
//! default in one commit, after it was verified. So there is no half-made clone that could leak. `Sealing` and `Deploying` are written
//! with the numbers that the commit is going to use, before it: after a kill the tree or the block tells whether it happened.
//! The block, not this document, is the boot state: each cycle begins by comparing both ([`Event::Begin`]).

mod begin;
mod blocks;
mod changes;
mod clock;
mod document;
mod facts;
mod judge;
mod keep;
mod state;
mod step;
mod summary;

pub use blocks::{Blocked, Decision};
pub use changes::{Change, Changes};
pub use clock::{Age, Clock};
pub use document::{Pause, Retry, Updates};
pub use facts::{Facts, Request};
pub use judge::evidence;
pub use judge::{Cause, Outcome, Result as TrialResult, Verdict};
pub use keep::{KeepError, load, pause, resume, save, tick};
pub use state::{Candidate, Prepared, State};
pub use step::{Effect, Ended, Event, MAX_INTERRUPTED, Refused};
pub use summary::{BlockedSet, Summary, TrialEnd};

#[cfg(test)]
mod tests;
