//! The memory as people and programs see it: `ast check`, `/run/ast/update.json`, metrics (U10).

use std::fmt;

use serde::Serialize;

use super::document::Updates;
use super::judge::{Cause, Result as Ending};
use crate::id::{ArmId, DeployId};

/// How many verdicts are shown.
const SHOWN: usize = 5;
/// Seconds of a day and of a minute.
const DAY: u64 = 24 * 3600;
const MINUTE: u64 = 60;

/// What the updater is doing and how it went. Keys are stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Name of the state.
    pub state: &'static str,
    /// What the update under way changes, if one is.
    pub update: Option<String>,
    /// Why the machine is degraded, if it is.
    pub degraded: Option<String>,
    /// How the last cycle ended.
    pub last: Option<String>,
    /// Seconds of running time since then.
    pub last_seconds_ago: Option<u64>,
    /// Failed attempts in a row.
    pub attempts: u32,
    /// Seconds of running time until the next attempt.
    pub next_attempt_in: u64,
    /// Whether updates are paused.
    pub paused: bool,
    /// Seconds of running time until they go on by themselves; `None` when they are not paused, or until somebody resumes them.
    pub paused_for: Option<u64>,
    /// Package sets that failed.
    pub blocked: Vec<BlockedSet>,
    /// What should have been deleted and could not, a line each.
    pub undeleted: Vec<String>,
    /// What became of the last trials, newest first.
    pub trials: Vec<TrialEnd>,
    /// How many trials were promoted, of those remembered.
    pub promoted: usize,
    /// How many failed.
    pub failed: usize,
}

/// A set that is not tried again for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockedSet {
    /// The suspects, as `linux 6.1 -> 6.2`.
    pub suspects: String,
    /// Why.
    pub cause: Cause,
    /// Seconds of running time since.
    pub seconds_ago: u64,
    /// How often one of them failed.
    pub failures: u32,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrialEnd {
    /// The deployment.
    pub deployment: DeployId,
    /// Its arming.
    pub arm: ArmId,
    /// How.
    pub result: Ending,
    /// Why.
    pub cause: Option<Cause>,
    /// What was seen.
    pub evidence: Vec<String>,
}

impl Summary {
    /// The summary of `updates`.
    pub fn of(updates: &Updates) -> Self {
        let now = updates.now();
        let count = |result: Ending| updates.verdicts.iter().filter(|v| v.result == result).count();
        let blocked = updates.blocked.iter().rev().map(|b| BlockedSet {
            suspects: b.suspects.summary(),
            cause: b.cause,
            seconds_ago: now.since(b.at),
            failures: b.failures,
        });
        let trials = updates.verdicts.iter().rev().take(SHOWN).map(|v| TrialEnd {
            deployment: v.d,
            arm: v.arm,
            result: v.result,
            cause: v.cause,
            evidence: v.evidence.clone(),
        });
        Self {
            state: updates.state.name(),
            update: updates.state.update().map(|u| u.changes.summary()),
            degraded: updates.degraded.clone(),
            last: updates.last.as_ref().map(|l| l.text.clone()),
            last_seconds_ago: updates.last.as_ref().map(|l| now.since(l.at)),
            attempts: updates.retry.attempts,
            next_attempt_in: updates.retry.not_before.since(now),
            paused: updates.paused(),
            paused_for: updates.pause.filter(|_| updates.paused()).and_then(|pause| pause.until).map(|until| until.since(now)),
            blocked: blocked.collect(),
            undeleted: updates.undeleted.clone(),
            trials: trials.collect(),
            promoted: count(Ending::Promoted),
            failed: count(Ending::Failed),
        }
    }

    /// That and for how long updates are paused, if they are.
    pub fn pause(&self) -> Option<String> {
        let text = match self.paused_for {
            Some(left) => format!("updates are paused: {} of running time are left", Span(left)),
            None => "updates are paused until `ast auto-upgrade --resume`".to_owned(),
        };
        self.paused.then_some(text)
    }

    /// The same as Prometheus text, for the node exporter's directory of text files.
    pub fn metrics(&self) -> String {
        let degraded = u8::from(self.degraded.is_some());
        let gauges = [
            ("ast_update_degraded", "Whether the machine came back from an update that failed.", u64::from(degraded)),
            ("ast_update_paused", "Whether somebody has paused updates.", u64::from(self.paused)),
            ("ast_update_attempts", "Attempts at an update that went wrong in a row.", u64::from(self.attempts)),
            ("ast_update_blocked_sets", "Package sets that are not tried for now.", self.blocked.len() as u64),
            ("ast_update_undeleted", "What retention should have deleted and could not.", self.undeleted.len() as u64),
            ("ast_update_trials_promoted", "Trials that became the default, of those remembered.", self.promoted as u64),
            ("ast_update_trials_failed", "Trials that failed, of those remembered.", self.failed as u64),
        ];
        let mut text: String =
            gauges.iter().map(|(name, help, value)| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")).collect();
        text.push_str("# HELP ast_update_state What the updater is doing.\n# TYPE ast_update_state gauge\n");
        text.push_str(&format!("ast_update_state{{state=\"{}\"}} 1\n", self.state));
        text
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = &self.degraded {
            writeln!(f, "degraded: {why}")?;
        }
        let update = self.update.as_ref().map(|u| format!(" with {u}")).unwrap_or_default();
        writeln!(f, "state: {}{update}", self.state)?;
        if let (Some(last), Some(ago)) = (&self.last, self.last_seconds_ago) {
            writeln!(f, "last cycle: {last} ({} of running time ago)", Span(ago))?;
        }
        if let Some(line) = self.pause() {
            writeln!(f, "{line}")?;
        }
        if self.next_attempt_in > 0 {
            writeln!(f, "attempt {} in {}", self.attempts.saturating_add(1), Span(self.next_attempt_in))?;
        }
        for blocked in &self.blocked {
            writeln!(f, "blocked: {} ({}; {} ago)", blocked.suspects, blocked.cause, Span(blocked.seconds_ago))?;
        }
        self.undeleted.iter().try_for_each(|line| writeln!(f, "not deleted: {line}"))?;
        for trial in &self.trials {
            write!(f, "deployment {}: ", trial.deployment)?;
            match (trial.result, trial.cause) {
                (Ending::Promoted, _) => writeln!(f, "promoted")?,
                (Ending::Superseded, _) => writeln!(f, "gave way to another choice")?,
                (Ending::StartFailed, Some(cause)) => writeln!(f, "a start failed: {cause}")?,
                (_, Some(cause)) => writeln!(f, "left: {cause}")?,
                (_, None) => writeln!(f, "ended")?,
            }
            trial.evidence.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        }
        Ok(())
    }
}

/// Seconds as people say them.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            s if s >= 2 * DAY => write!(f, "{} days", s / DAY),
            s if s >= 120 * MINUTE => write!(f, "{} hours", s / 3600),
            s => write!(f, "{} minutes", s.div_ceil(MINUTE)),
        }
    }
}
