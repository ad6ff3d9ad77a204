//! The transitions. Total: every event in every state gives a next state or a refusal, never a panic.

use super::blocks::{Decision, block, decide};
use super::changes::Changes;
use super::document::Updates;
use super::facts::{Facts, Request};
use super::judge::{Cause, Result as Ending, Verdict, evidence};
use super::state::{Candidate, Prepared, State};
use crate::id::{ArmId, DeployId, SetId, SnapshotId};

/// Steps of one cycle. The longest way through takes 10; more than this is a loop that nobody foresaw.
const MAX_STEPS: u32 = 16;
/// Attempts at one update that may be cut off before it is blocked, or fail to arm it before it is given up.
pub const MAX_INTERRUPTED: u32 = 5;

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A cycle begins on a machine like this.
    Begin(Box<Facts>),
    /// Retention is over; this should have been deleted and could not, a line each.
    Retained(Vec<String>),
    /// The mirrors offer these changes; nothing new if there are none.
    Checked(Changes),
    /// The working copy is upgraded; this is what changed in it.
    Upgraded(Changes),
    /// The working copy is whole (S12).
    Whole,
    /// It is not, because of this.
    NotWhole(Vec<String>),
    /// pacman refuses these packages, because of this: they do not go together with what is there.
    Rejected(Vec<String>),
    /// It is about to enter the tree under this number.
    SealPlanned(SnapshotId),
    /// It is in the tree.
    Sealed(SetId),
    /// It is about to be armed under these numbers.
    DeployPlanned {
        /// The deployment.
        d: DeployId,
        /// The arming.
        arm: ArmId,
    },
    /// It is armed.
    Armed,
    /// Nothing speaks against a reboot.
    RebootAllowed,
    /// The machine is not to be rebooted by us now, because of this.
    RebootDenied(String),
    /// What was asked for last failed; the world is as before, or Begin will tell.
    WentWrong(String),
    /// It failed because the disk is full.
    NoSpace(String),
    /// The health gate spoke about the trial that runs.
    Gate {
        /// The deployment.
        d: DeployId,
        /// The arming.
        arm: ArmId,
        /// What it was made from, if known.
        set: Option<SetId>,
        /// Its verdict.
        healthy: bool,
        /// What it saw.
        evidence: Vec<String>,
    },
    /// The block names the trial as the good one.
    Promoted,
    /// The block carries another trial by now, or none: a person's choice wins (B15).
    Superseded,
    /// The failed trial is no longer in the block.
    TrialCleared,
}

/// What is to be done, after the state is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Delete this snapshot that we made and that nothing uses. Gives no event; a failure is a warning.
    Discard(Prepared),
    /// Delete what the policy does not keep: [`Event::Retained`].
    Retain,
    /// Ask the mirrors what is newer than this set: [`Event::Checked`].
    Check(SetId),
    /// Upgrade a working copy of this set: [`Event::Upgraded`].
    Upgrade(SetId),
    /// Look whether the working copy is whole: [`Event::Whole`] or [`Event::NotWhole`].
    Verify,
    /// Plan the seal: [`Event::SealPlanned`].
    PlanSeal,
    /// Do as planned: [`Event::Sealed`].
    CommitSeal,
    /// Plan the deployment of this set: [`Event::DeployPlanned`].
    PlanDeploy(SetId),
    /// Do as planned: [`Event::Armed`].
    CommitDeploy,
    /// Wait for window, users and inhibitors: [`Event::RebootAllowed`], [`Event::RebootDenied`] or [`Event::Superseded`].
    AskReboot,
    /// Reboot. The cycle ends.
    Reboot,
    /// Make the trial the good one: [`Event::Promoted`] or [`Event::Superseded`].
    Promote {
        /// The deployment.
        d: DeployId,
        /// The arming that the block must still carry.
        arm: ArmId,
    },
    /// Take the failed trial out of the block: [`Event::TrialCleared`].
    ClearTrial {
        /// The deployment.
        d: DeployId,
        /// The arming that the block must still carry.
        arm: ArmId,
    },
    /// Nothing more to do now.
    End(Ended),
}

/// How a cycle ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// One sentence for the status line and the journal.
    pub text: String,
    /// Whether somebody should look.
    pub attention: bool,
}

/// An event that does not belong to the state; nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The event cannot happen here.
    #[error("the updater is {state} and cannot take {event}")]
    Event {
        /// The state's name.
        state: &'static str,
        /// The event.
        event: String,
    },
    /// A loop.
    #[error("the updater made {MAX_STEPS} steps in one cycle and stops")]
    TooManySteps,
}

/// The next machine and what to do.
type Next = Result<(Updates, Vec<Effect>), Refused>;

impl Updates {
    /// The machine after `event`, and what to do once it is on disk. In memory only.
    ///
    /// Refuses: events that do not belong to the state, and more than 16 steps in a cycle.
    pub fn step(mut self, event: Event) -> Next {
        self.steps = if matches!(event, Event::Begin(_)) { 0 } else { self.steps + 1 };
        if self.steps > MAX_STEPS {
            return Err(Refused::TooManySteps);
        }
        let state = std::mem::take(&mut self.state);
        match (state, event) {
            (state, Event::Begin(facts)) => self.begin(state, &facts),
            (state, Event::Gate { d, arm, set, healthy, evidence }) => self.gate(state, d, arm, set, healthy, evidence),
            (State::Retaining, Event::Retained(undeleted)) => self.retained(undeleted),
            // No update waits for it.
            (State::Retaining, Event::WentWrong(what) | Event::NoSpace(what)) => self.retained(vec![what]),
            (State::Checking, Event::Checked(changes)) => self.checked(changes),
            (State::Upgrading { update }, Event::Upgraded(changes)) => self.upgraded(update, changes),
            (State::Upgrading { update }, Event::Whole) => self.go(State::Upgrading { update }, Effect::PlanSeal),
            (State::Upgrading { update }, Event::NotWhole(why)) => self.refuse(&update, Cause::NotWhole, why),
            (State::Upgrading { update }, Event::Rejected(why)) => self.refuse(&update, Cause::Rejected, why),
            (State::Upgrading { update }, Event::SealPlanned(snapshot)) => self.go(State::Sealing { update, snapshot }, Effect::CommitSeal),
            (State::Sealing { update, .. }, Event::Sealed(set)) => self.verified(update, set),
            (State::Verified { update, set }, Event::DeployPlanned { d, arm }) => {
                self.go(State::Deploying { update, set, d, arm }, Effect::CommitDeploy)
            }
            (State::Deploying { update, set, d, arm }, Event::Armed) => self.armed(update, set, d, arm),
            (state @ State::AwaitingReboot { .. }, Event::RebootAllowed) => {
                self.ended("rebooting into the update");
                self.go(state, Effect::Reboot)
            }
            (state @ State::AwaitingReboot { .. }, Event::RebootDenied(why)) => self.stop(state, why, false),
            (state @ State::AwaitingReboot { .. }, Event::Superseded) => self.superseded(&state),
            (state @ State::OnTrial { healthy: Some(true), .. }, Event::Promoted) => self.promoted(&state),
            (state @ State::OnTrial { .. }, Event::Superseded) => self.superseded(&state),
            (State::Failed { d, .. }, Event::TrialCleared | Event::Superseded) => {
                let why = self.degraded.clone().unwrap_or_default();
                self.stop(State::Idle, format!("deployment {d} failed: {why}"), true)
            }
            (state, Event::TrialCleared) => self.stop(state, "the one start that was asked for is over", false),
            (state, Event::WentWrong(what)) => self.went_wrong(state, &what),
            (state, Event::NoSpace(what)) => {
                // Retention, at the next Begin, takes one more of the snapshots that stay only as long as there is room.
                self.no_space = true;
                self.went_wrong(state, &what)
            }
            (state, event) => Err(Refused::Event { state: state.name(), event: format!("{event:?}").chars().take(80).collect() }),
        }
    }

    /// To `state`, then `effect`.
    pub(super) fn go(mut self, state: State, effect: Effect) -> Next {
        self.state = state;
        Ok((self, vec![effect]))
    }

    /// To `state`, and the cycle ends.
    pub(super) fn stop(mut self, state: State, text: impl Into<String>, attention: bool) -> Next {
        let text = text.into();
        self.ended(&text);
        self.go(state, Effect::End(Ended { text, attention }))
    }

    fn retained(mut self, undeleted: Vec<String>) -> Next {
        self.undeleted = evidence(undeleted);
        self.begin_or_hold(State::Idle)
    }

    fn checked(mut self, changes: Changes) -> Next {
        if changes.is_empty() {
            self.retry = Default::default();
            return self.stop(State::Idle, "up to date", false);
        }
        let Some(parent) = self.parent else {
            return self.stop(State::Idle, "the cycle did not begin", true);
        };
        if let Some(text) = self.forbidden(&changes) {
            return self.stop(State::Idle, text, false);
        }
        self.go(State::Upgrading { update: Candidate { parent, changes } }, Effect::Upgrade(parent))
    }

    /// Why these changes are not to be tried now, unless they may be.
    fn forbidden(&mut self, changes: &Changes) -> Option<String> {
        if self.request == Some(Request::Person) {
            return None;
        }
        let (now, fingerprint) = (self.now(), changes.fingerprint());
        let gone_back = self.promoted.iter().any(|c| c.fingerprint() == fingerprint);
        if gone_back && !self.blocked.iter().any(|b| b.fingerprint == fingerprint) {
            // It was the default once and is no longer: somebody disliked it.
            block(&mut self.blocked, changes, Cause::Person, &[], now);
        }
        let days = |until: super::Age| until.since(self.now()).div_ceil(24 * 3600);
        match decide(&self.blocked, changes, self.now()) {
            Decision::Try => None,
            Decision::SameSet { until } => {
                Some(format!("not trying {}: it failed before; again when it changes, or in {} days", changes.summary(), days(until)))
            }
            Decision::Suspect { package, until } => {
                Some(format!("waiting {} days with {}: {package} was in an update that failed", days(until), changes.summary()))
            }
        }
    }

    fn upgraded(mut self, update: Candidate, changes: Changes) -> Next {
        if changes.is_empty() {
            self.retry = Default::default();
            return self.stop(State::Idle, "up to date: the upgrade changed nothing", false);
        }
        // The mirror may have moved on between the check and the upgrade.
        if let Some(text) = self.forbidden(&changes) {
            return self.stop(State::Idle, text, false);
        }
        self.go(State::Upgrading { update: Candidate { changes, ..update } }, Effect::Verify)
    }

    /// The update is blocked without having been tried.
    fn refuse(mut self, update: &Candidate, cause: Cause, why: Vec<String>) -> Next {
        let why = evidence(why);
        let now = self.now();
        block(&mut self.blocked, &update.changes, cause, &why, now);
        let text = format!("refused {}: {}", update.changes.summary(), why.join("; "));
        self.degraded = Some(text.clone());
        self.stop(State::Idle, text, true)
    }

    pub(super) fn verified(mut self, update: Candidate, set: SetId) -> Next {
        self.retry = Default::default();
        self.no_space = false;
        self.go(State::Verified { update, set }, Effect::PlanDeploy(set))
    }

    pub(super) fn armed(mut self, update: Candidate, set: SetId, d: DeployId, arm: ArmId) -> Next {
        self.retry = Default::default();
        let since = self.now();
        self.go(State::AwaitingReboot { update, set, d, arm, since }, Effect::AskReboot)
    }

    fn gate(mut self, state: State, d: DeployId, arm: ArmId, set: Option<SetId>, healthy: bool, seen: Vec<String>) -> Next {
        let ours = state.is_about(d, arm, set);
        let update = if ours { state.update().cloned() } else { None };
        if !ours {
            self.leave(state.undeployed());
        }
        if !healthy {
            let verdict = self.verdict(d, arm, set, Ending::StartFailed, Some(Cause::Gate), seen);
            self.record(verdict);
        }
        let next = State::OnTrial { update, set, d, arm, healthy: Some(healthy) };
        if healthy {
            return self.go(next, Effect::Promote { d, arm });
        }
        self.stop(next, format!("deployment {d} failed its health checks"), true)
    }

    pub(super) fn verdict(
        &self,
        d: DeployId,
        arm: ArmId,
        set: Option<SetId>,
        result: Ending,
        cause: Option<Cause>,
        seen: Vec<String>,
    ) -> Verdict {
        Verdict { arm, d, set, at: self.now(), result, cause, evidence: evidence(seen), later: Default::default() }
    }

    /// The arming of `state` is the good one now.
    pub(super) fn note_promoted(&mut self, state: &State) {
        let Some((d, arm)) = state.arming() else { return };
        let set = match state {
            State::OnTrial { set, .. } => *set,
            State::AwaitingReboot { set, .. } | State::Deploying { set, .. } => Some(*set),
            _ => None,
        };
        let verdict = self.verdict(d, arm, set, Ending::Promoted, None, Vec::new());
        self.record(verdict);
        if let Some(update) = state.update() {
            self.note_changes(update.changes.clone());
        }
        self.degraded = None;
        self.retry = Default::default();
        self.ended(&format!("deployment {d} booted well and is the default"));
    }

    fn promoted(mut self, state: &State) -> Next {
        self.note_promoted(state);
        let text = self.last.as_ref().map(|l| l.text.clone()).unwrap_or_default();
        self.stop(State::Idle, text, false)
    }

    /// The arming of `state` gave way to something else.
    pub(super) fn note_superseded(&mut self, state: &State) {
        let Some((d, arm)) = state.arming() else { return };
        let verdict = self.verdict(d, arm, None, Ending::Superseded, None, Vec::new());
        self.record(verdict);
    }

    fn superseded(mut self, state: &State) -> Next {
        self.note_superseded(state);
        self.stop(State::Idle, "another deployment was chosen meanwhile", false)
    }

    fn went_wrong(mut self, state: State, what: &str) -> Next {
        let what: String = what.chars().take(400).collect();
        self.wait(self.jitter);
        let next = match state {
            State::Checking | State::Upgrading { .. } | State::Idle | State::Unknown => State::Idle,
            State::Verified { .. } if self.retry.attempts >= MAX_INTERRUPTED => {
                self.leave(state.undeployed());
                State::Idle
            }
            // Whether the commit happened is seen at the next Begin.
            kept => kept,
        };
        self.stop(next, what, true)
    }

    /// In memory only: an upgrade was cut off; too often, and the update is blocked.
    pub(super) fn cut_off(&mut self, update: Option<&Candidate>, jitter: u32) {
        self.interrupted(jitter);
        if let Some(update) = update.filter(|_| self.retry.attempts >= MAX_INTERRUPTED) {
            let now = self.now();
            block(&mut self.blocked, &update.changes, Cause::Interrupted, &[], now);
            self.retry = Default::default();
        }
    }
}
