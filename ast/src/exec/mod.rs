//! The seam to other programs: a closed table of what may be run, argument vectors, one runner.
//!
//! There is no shell between the caller's words and `exec`: an [`Invocation`] is a vector from beginning to end (R1).
//! Every command line goes to the log at debug level, so `-vv` shows it.

mod program;
mod run;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use program::{Invocation, PROGRAM_DIRS, Program};
pub use run::{Ended, Isolation, Options, Streams, run, run_isolated};

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is in none of the directories where programs are looked for.
    #[error("{} is not installed (looked in {})", .program.name(), PROGRAM_DIRS.join(", "))]
    Missing {
        /// The program.
        program: Program,
    },
    /// The words of the user name no program.
    #[error("{command}: no such command")]
    NoSuchCommand {
        /// The command line, for reading.
        command: String,
    },
    /// Words that cannot be an argument vector: none at all, or a zero byte in one.
    #[error("the command is empty or has a zero byte in it")]
    BadWords,
    /// The kernel did not start it.
    #[error("cannot start {command}")]
    Start {
        /// The command line, for reading.
        command: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Its output or its end could not be read.
    #[error("lost contact with {command}")]
    Contact {
        /// The command line, for reading.
        command: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// It ended with another status than 0.
    #[error("{command} failed ({status}){}", after_colon(.tail))]
    Failed {
        /// The command line, for reading.
        command: String,
        /// Its status.
        status: std::process::ExitStatus,
        /// The last lines of its error output, control characters removed.
        tail: String,
    },
    /// It took too long and was killed with everything it had started.
    #[error("{command} did not end within {} s and was killed{}", .after.as_secs(), after_colon(.tail))]
    TimedOut {
        /// The command line, for reading.
        command: String,
        /// The time it was given.
        after: Duration,
        /// The last lines of its error output.
        tail: String,
    },
    /// The caller asked for its end.
    #[error("{command} was cancelled")]
    Cancelled {
        /// The command line, for reading.
        command: String,
    },
    /// A directory that it was to be started in cannot be used.
    #[error("cannot start a program in {}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// `: tail`, or nothing where there is none.
fn after_colon(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}
