//! The verdict: pure, from what was seen.

use super::baseline::Baseline;
use super::checks::{Kind, Ran};
use super::units::Failed;

/// What the gate saw.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whether this start is a trial: then newly failing units count too.
    pub on_trial: bool,
    /// Whether the system reached what it boots to.
    pub reached: bool,
    /// What it should have reached, for the message.
    pub target: String,
    /// The checks.
    pub checks: Vec<Ran>,
    /// The units that do not work.
    pub failed: Vec<Failed>,
    /// What failed on the good deployment; not known with `None`.
    pub baseline: Option<Baseline>,
    /// Units that never count, from the settings.
    pub ignored: Vec<String>,
    /// What kept the gate from seeing all of this, or would keep the next update from being made.
    pub blind: Vec<String>,
}

/// The verdict and what it rests on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Whether this start is well.
    pub healthy: bool,
    /// What speaks against it, a line each.
    pub evidence: Vec<String>,
    /// What does not count but should be seen.
    pub warnings: Vec<String>,
}

/// Units of the gate itself: they run while it looks.
const OWN_UNITS: [&str; 2] = ["ast-health.service", "ast-autoupdate.service"];

/// End of the names of units that wait for a network: that there is none says something of the world outside, not of the update (U3). A machine
/// that has to be online says so with a check of its own.
const OUTSIDE: &str = "-wait-online.service";

/// The verdict about `seen`.
///
/// A unit that is not in the baseline counts on a trial only: on the good deployment nothing is compared, and a printer that broke
/// must not make the machine leave it. Without a baseline nobody knows whether it is new, so it does not count either.
pub fn judge(seen: &Seen) -> Report {
    let mut report = Report::default();
    if !seen.reached {
        report.evidence.push(format!("{} was not reached", seen.target));
    }
    report.evidence.extend(seen.blind.iter().cloned());
    for ran in &seen.checks {
        let Some(complaint) = ran.complaint() else { continue };
        match ran.check.kind {
            Kind::Required => report.evidence.push(complaint),
            Kind::Wanted => report.warnings.push(complaint),
        }
    }
    let counted = |f: &&Failed| !OWN_UNITS.contains(&f.unit.as_str()) && !seen.ignored.contains(&f.unit);
    for failed in seen.failed.iter().filter(counted) {
        let line = format!("unit {}: {}", failed.unit, failed.state);
        match &seen.baseline {
            Some(baseline) if baseline.units.contains(&failed.unit) => report.warnings.push(format!("{line}, as before")),
            Some(_) if failed.unit.ends_with(OUTSIDE) => report.warnings.push(format!("{line}, which waits for a network")),
            Some(_) if seen.on_trial => report.evidence.push(format!("{line}, and it worked before this update")),
            Some(_) => report.warnings.push(line),
            None => report.warnings.push(format!("{line}, and it is not known whether that is new")),
        }
    }
    report.healthy = report.evidence.is_empty();
    report
}
