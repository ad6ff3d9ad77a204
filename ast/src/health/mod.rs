//! Is this system well? Checks that packages and owners put into directories, units that failed, and the rule that makes a verdict.
//!
//! `required.d` fails the start, `wanted.d` warns; `/etc/ast/health.d` comes before `/usr/lib/ast/health.d`, and a file of the same name
//! there replaces or, as a link to `/dev/null`, switches off the other. Every check has a time limit and all together a deadline (U3).

mod baseline;
mod checks;
mod gate;
mod trial;
mod units;

use std::path::PathBuf;

pub use baseline::Baseline;
pub use checks::{Check, Kind, Outcome, Ran, find, run};
pub use gate::{Report, Seen, judge};
pub use trial::end_trial;
pub use units::{Failed, failed_units, one_is_active, parse};

/// Name of the document with the units that fail on the good deployment too.
pub const BASELINE: &str = "baseline.json";

/// Why the health of this system is not known.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// A directory of checks cannot be read.
    #[error("cannot read the health checks in {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// systemd did not answer.
    #[error("systemd does not tell its units")]
    Systemd(#[from] crate::exec::ExecError),
    /// What restarts a trial by itself cannot be taken away.
    #[error("what restarts the machine by itself is still there")]
    Trial(#[source] crate::sys::SysError),
    /// systemd answered something else than a list of units.
    #[error("systemd's list of units cannot be read")]
    Units(#[source] serde_json::Error),
}

#[cfg(test)]
mod tests;
