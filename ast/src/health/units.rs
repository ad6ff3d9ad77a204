//! What systemd says about its units.

use std::time::Duration;

use serde::Deserialize;

use super::HealthError;
use crate::exec::{self, Invocation, Options, Program};

/// systemd answers at once or not at all; this is for a machine that starts on a slow disk (30 s).
const PATIENCE: Duration = Duration::from_secs(30);

/// A unit that does not work.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Failed {
    /// Its name.
    pub unit: String,
    /// What systemd calls its state, as `failed` or `auto-restart`.
    pub state: String,
}

/// One line of `systemctl list-units --output=json`; systemd adds others.
#[derive(Debug, Deserialize)]
struct Line {
    unit: String,
    sub: String,
    active: String,
}

/// The units that have failed or are being restarted again and again, sorted.
pub fn failed_units() -> Result<Vec<Failed>, HealthError> {
    // `--state` matches the three kinds of states alike; a service that systemd starts again and again is never `failed` between two starts.
    let list = ["list-units", "--all", "--full", "--no-pager", "--state=failed,auto-restart", "--output=json"];
    let ended = exec::run(&Invocation::new(Program::Systemctl).args(list), Options::capture().timeout(PATIENCE))?.success()?;
    parse(&ended.text())
}

/// The units in the answer of systemd.
pub fn parse(json: &str) -> Result<Vec<Failed>, HealthError> {
    let lines: Vec<Line> = serde_json::from_str(json).map_err(HealthError::Units)?;
    let state = |l: &Line| if l.active == "failed" { l.active.clone() } else { l.sub.clone() };
    let mut units: Vec<_> = lines.iter().map(|l| Failed { state: state(l), unit: l.unit.clone() }).collect();
    units.sort();
    Ok(units)
}

/// Whether at least one of `units` is active.
pub fn one_is_active(units: &[&str]) -> Result<bool, HealthError> {
    let ask = Invocation::new(Program::Systemctl).args(["is-active", "--quiet"]).args(units);
    Ok(exec::run(&ask, Options::capture().timeout(PATIENCE))?.status.success())
}
