//! What can go wrong while driving a machine; each variant names its object.
use std::{fmt, io, path::PathBuf};

/// A failure of the lab's machines. `Debug` prints the same text as `Display`, so that `unwrap` in a test is readable.
#[derive(thiserror::Error)]
pub enum VmError {
    /// A file or directory of the lab could not be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of the host could not be started or failed.
    #[error("`{argv}` failed ({status}): {stderr}")]
    Tool {
        /// Its command line.
        argv: String,
        /// Its exit status, or why it has none.
        status: String,
        /// The end of its standard error.
        stderr: String,
    },
    /// The machine did not start.
    #[error("the emulator did not start: {reason}\n{stderr}")]
    Start {
        /// What happened instead.
        reason: String,
        /// Its standard error.
        stderr: String,
    },
    /// This thread already drives a machine: a second one would wait for the first for ever.
    #[error("this thread already drives a machine ({0}): drop it, or end it, before starting another")]
    AlreadyRunning(String),
    /// Something awaited did not come in time.
    #[error("no {what} within {secs:.0} s; console ends:\n{tail}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// How long.
        secs: f64,
        /// The last lines of the console.
        tail: String,
    },
    /// The emulator ended while something was awaited.
    #[error("the machine ended while waiting for {what}; console ends:\n{tail}")]
    Ended {
        /// What was awaited.
        what: String,
        /// The last lines of the console.
        tail: String,
    },
    /// Something came that must not come.
    #[error("{what} appeared; console ends:\n{tail}")]
    Unexpected {
        /// The pattern.
        what: String,
        /// The last lines of the console.
        tail: String,
    },
    /// The emulator refused a command of its monitor.
    #[error("monitor command {command}: {message}")]
    Monitor {
        /// The command.
        command: String,
        /// Its answer.
        message: String,
    },
    /// A pattern is not a regular expression.
    #[error(transparent)]
    Pattern(#[from] regex::Error),
    /// A command in the guest did not return 0.
    #[error("guest: `{command}` returned {status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")]
    Guest {
        /// The command.
        command: String,
        /// Its exit status.
        status: i32,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// The boot loader's menu has no such entry.
    #[error("no menu entry matches {wanted:?}; seen: {seen:#?}")]
    NoEntry {
        /// The pattern looked for.
        wanted: String,
        /// All entries that were highlighted on the way.
        seen: Vec<String>,
    },
    /// A disk image is not what it should be.
    #[error("{image}: {what}", image = image.display())]
    Image {
        /// The image.
        image: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

impl fmt::Debug for VmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names the path of an I/O error.
pub(crate) fn at<T>(path: impl Into<PathBuf>, result: io::Result<T>) -> Result<T, VmError> {
    result.map_err(|source| VmError::Io { path: path.into(), source })
}
