//! The beginning of a cycle: the memory is compared with the machine, so that a kill at any step resumes (U9).

use super::blocks::block;
use super::document::Updates;
use super::facts::{Facts, Request};
use super::judge::{Cause, Result as Ending};
use super::state::State;
use super::step::{Effect, Ended, MAX_INTERRUPTED, Refused};
use crate::boot::block::{Mode, Trial};
use crate::boot::stage::Reached;
use crate::cmdline::Why;
use crate::id::{ArmId, DeployId};

type Next = Result<(Updates, Vec<Effect>), Refused>;

impl Updates {
    pub(super) fn begin(mut self, state: State, facts: &Facts) -> Next {
        self.jitter = facts.jitter;
        self.request = Some(facts.request);
        self.parent = Some(facts.parent);
        let state = self.replaced(state, facts);
        match facts.trial {
            Some(trial) => self.begin_with_trial(state, facts, trial),
            None => self.begin_without_trial(state, facts),
        }
    }

    /// In memory only: a trial that failed and whose place in the block was taken since is judged all the same. The initramfs does
    /// that when it has to have another deployment started.
    fn replaced(&mut self, state: State, facts: &Facts) -> State {
        match state.arming() {
            Some((d, arm))
                if arm < facts.arm
                    && d != facts.good
                    && matches!(state, State::AwaitingReboot { .. } | State::OnTrial { .. })
                    && !facts.evidence(arm).is_empty() =>
            {
                let cause = self.cause_of_starts(facts, arm);
                self.note_failed(&state, facts, d, arm, cause);
                State::Idle
            }
            _ => state,
        }
    }

    fn begin_with_trial(self, state: State, facts: &Facts, trial: Trial) -> Next {
        let d = trial.deployment;
        let ours = state.is_about(d, facts.arm, facts.trial_set);
        if trial.mode == Mode::Once {
            if trial.tries == 0 {
                // One start was asked for, and it was.
                return self.go(kept(state, ours), Effect::ClearTrial { d, arm: facts.arm });
            }
            return self.stop(kept(state, ours), format!("deployment {d} is to be started once: waiting for that"), false);
        }
        if facts.on_trial() {
            return match state {
                State::OnTrial { healthy: Some(true), .. } if ours => {
                    let arm = facts.arm;
                    self.go(state, Effect::Promote { d, arm })
                }
                state => self.stop(state, format!("deployment {d} is on trial: waiting for its health checks"), false),
            };
        }
        if let Some(cause) = self.cause(&state, facts, trial) {
            return self.judge(&state, facts, trial, cause);
        }
        // Somebody who picked an entry of the menu is looking at what it started.
        let may_restart = facts.request != Request::Start && facts.why != Some(Why::Chosen) && !facts.chosen();
        match state {
            State::Deploying { update, set, d, arm } if ours && may_restart => self.armed(update, set, d, arm),
            state @ State::AwaitingReboot { .. } if ours && may_restart => self.go(state, Effect::AskReboot),
            // It ran before, and a person went back to the good one in the menu: that person decides when to go on.
            state => self.stop(state, format!("deployment {d} awaits its trial at the next start"), false),
        }
    }

    /// Why the trial is over, unless it is not.
    fn cause(&self, state: &State, facts: &Facts, trial: Trial) -> Option<Cause> {
        // The machine was restarted to try it, and the boot loader started the good one as if there were nothing to try: it reads another block
        // than we do, or none. Restarting once more would end the same way, night after night.
        let passed_over = matches!(state, State::AwaitingReboot { since, .. } if self.clock.before > *since)
            && state.is_about(trial.deployment, facts.arm, facts.trial_set);
        match facts.why {
            Some(Why::Hash) => Some(Cause::Damaged),
            Some(Why::Load) => Some(Cause::NotLoaded),
            Some(Why::NoSave) => Some(Cause::NotCounted),
            Some(Why::Trial) if facts.another_root => Some(Cause::Initramfs),
            Some(Why::Good | Why::Baked) if passed_over && trial.tries > 0 => Some(Cause::NotCounted),
            _ if trial.tries > 0 => None,
            _ => Some(self.cause_of_starts(facts, facts.arm)),
        }
    }

    /// Why the starts of arming `arm` failed.
    fn cause_of_starts(&self, facts: &Facts, arm: ArmId) -> Cause {
        if self.verdicts_of(arm).any(|v| v.result == Ending::StartFailed) {
            return Cause::Gate;
        }
        match facts.stage.reached {
            _ if facts.stage.arm != Some(arm) => Cause::Kernel,
            Reached::Initramfs => Cause::Initramfs,
            Reached::Userspace => Cause::Userspace,
        }
    }

    /// The trial is over: recorded with its evidence and blocked, then taken out of the block.
    fn judge(mut self, state: &State, facts: &Facts, trial: Trial, cause: Cause) -> Next {
        let (d, arm) = (trial.deployment, facts.arm);
        self.note_failed(state, facts, d, arm, cause);
        self.go(State::Failed { d, arm }, Effect::ClearTrial { d, arm })
    }

    /// In memory only: deployment `d` of arming `arm` failed; recorded and blocked, once.
    fn note_failed(&mut self, state: &State, facts: &Facts, d: DeployId, arm: ArmId, cause: Cause) {
        let current = facts.trial.is_some_and(|t| t.deployment == d) && facts.arm == arm;
        let trial_set = facts.trial_set.filter(|_| current);
        let trial_changes = facts.trial_changes.as_ref().filter(|_| current);
        let ours = state.is_about(d, arm, trial_set);
        let mut seen: Vec<String> = self.verdicts_of(arm).flat_map(|v| v.evidence.iter().cloned()).collect();
        for line in facts.evidence(arm) {
            if !seen.contains(&line) {
                seen.push(line);
            }
        }
        let update = state.update().filter(|_| ours).cloned();
        let judged = self.verdicts_of(arm).any(|v| v.result == Ending::Failed);
        if !judged {
            let set = trial_set.or(state.prepared().filter(|_| ours).and_then(|p| facts.own_set(p.snapshot)));
            let verdict = self.verdict(d, arm, set, Ending::Failed, Some(cause), seen.clone());
            self.record(verdict);
            let now = self.now();
            match (&update, trial_changes, cause) {
                (_, _, Cause::NotCounted) => self.wait(facts.jitter),
                (Some(update), _, _) => block(&mut self.blocked, &update.changes, cause, &seen, now),
                // The memory was lost; what the trial changed is still on disk.
                (None, Some(changes), _) => block(&mut self.blocked, changes, cause, &seen, now),
                (None, None, _) => {}
            }
            if let Some(failed) = state.prepared().filter(|_| ours) {
                let before = self.failed.replace(failed);
                self.leave(before);
            }
        }
        let more = seen.first().map(|line| format!(" ({line})")).unwrap_or_default();
        self.degraded = Some(format!("deployment {d} was left: {cause}{more}"));
    }

    fn begin_without_trial(mut self, state: State, facts: &Facts) -> Next {
        let Some((_, arm)) = state.arming().filter(|(_, arm)| *arm <= facts.arm) else {
            return self.begin_update(state, facts);
        };
        if state.is_about(facts.good, arm, facts.good_set) && !matches!(state, State::Failed { .. }) {
            self.note_promoted(&state);
        } else if matches!(state, State::Deploying { .. }) {
            // It did not happen, and its numbers went to another one since.
            return self.begin_update(state, facts);
        } else if arm == facts.arm && self.called_bad(&state, facts) {
            let Some((d, _)) = state.arming() else { return self.begin_update(State::Idle, facts) };
            self.note_failed(&state, facts, d, arm, Cause::Person);
        } else if !matches!(state, State::Failed { .. }) {
            self.note_superseded(&state);
        }
        self.begin_update(State::Idle, facts)
    }

    /// Whether somebody took this arming out of the block and put nothing in its place, while the default stayed what it was.
    fn called_bad(&self, state: &State, facts: &Facts) -> bool {
        let armed = matches!(state, State::AwaitingReboot { .. } | State::OnTrial { .. });
        let same = |update: &super::Candidate| facts.good_set.is_some_and(|set| set.snapshot == update.parent.snapshot);
        armed && state.update().is_some_and(same)
    }

    /// Nothing is in the block but good ones: the next update may begin or go on.
    fn begin_update(mut self, state: State, facts: &Facts) -> Next {
        let state = self.take_up(state, facts);
        self.leftovers.retain(|l| facts.own_set(l.snapshot).is_some() && l.snapshot != facts.parent.snapshot);
        let mut effects: Vec<_> = self.leftovers.iter().cloned().map(Effect::Discard).collect();
        self.undeleted.clone_from(&facts.undeleted);
        self.held = self.hold(facts);
        let (machine, more) = match state {
            // Space first: the update may need it.
            State::Idle | State::Unknown if facts.spare && facts.settled() => self.go(State::Retaining, Effect::Retain)?,
            state => self.begin_or_hold(state)?,
        };
        effects.extend(more);
        Ok((machine, effects))
    }

    /// The next update begins or goes on, unless something holds it.
    pub(super) fn begin_or_hold(mut self, state: State) -> Next {
        let Some(parent) = self.parent else { return self.stop(State::Idle, "the cycle did not begin", true) };
        match (self.held.take(), state) {
            // The state is kept, and the sentence about the last real cycle too.
            (Some(text), state) => self.go(state, Effect::End(Ended { text, attention: false })),
            (None, State::Verified { update, set }) => self.go(State::Verified { update, set }, Effect::PlanDeploy(set)),
            (None, _) => self.go(State::Checking, Effect::Check(parent)),
        }
    }

    /// In memory only: what a killed cycle left is taken up, or counted and left.
    fn take_up(&mut self, state: State, facts: &Facts) -> State {
        let prepared = state.undeployed();
        let set = prepared.as_ref().and_then(|p| facts.own_set(p.snapshot));
        // One that cannot be armed, whatever it is that keeps it from that, must not keep the next one from being made.
        let hopeless = matches!(state, State::Deploying { .. }) && self.retry.attempts >= MAX_INTERRUPTED;
        match (state, set) {
            (State::Sealing { update, .. } | State::Verified { update, .. } | State::Deploying { update, .. }, Some(set)) => {
                if update.parent == facts.parent && !hopeless {
                    return State::Verified { update, set };
                }
                // If not hopeless, then of a line that nobody follows any more: the default is another one by now.
                self.leave(prepared);
                State::Idle
            }
            // Whatever it did not get to is still to be seen in the tree.
            (State::Verified { .. } | State::Deploying { .. }, None) | (State::Retaining, _) => State::Idle,
            (state @ (State::Upgrading { .. } | State::Sealing { .. }), _) => {
                self.cut_off(state.update(), facts.jitter);
                State::Idle
            }
            (State::Checking, _) => {
                self.interrupted(facts.jitter);
                State::Idle
            }
            (state, _) => state,
        }
    }

    /// Why nothing is to be done now, unless something is.
    fn hold(&self, facts: &Facts) -> Option<String> {
        let forced = facts.request == Request::Person;
        if facts.request == Request::Start {
            return Some("nothing is left to settle".to_owned());
        }
        if facts.chosen() {
            return Some("what runs was chosen by hand: no update until the default runs again".to_owned());
        }
        if facts.paused && !forced {
            return Some("updates are paused".to_owned());
        }
        if !self.due() && !forced {
            let minutes = self.retry.not_before.since(self.now()).div_ceil(60);
            return Some(format!("attempt {} in {minutes} minutes", self.retry.attempts.saturating_add(1)));
        }
        None
    }
}

/// The state while a person's one start is pending: ours is kept if it is about that arming, else it is over.
fn kept(state: State, ours: bool) -> State {
    if ours || state.arming().is_none() { state } else { State::Idle }
}
