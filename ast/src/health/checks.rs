//! The executables in `required.d` and `wanted.d`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::HealthError;
use crate::exec::{self, ExecError, Invocation, Options};

/// Directories below a root, the owner's before the packages'.
const DIRECTORIES: [&str; 2] = ["etc/ast/health.d", "usr/lib/ast/health.d"];

/// Whether a failed check fails the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// It does.
    Required,
    /// It warns.
    Wanted,
}

impl Kind {
    /// Name of its directory.
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Required => "required.d",
            Self::Wanted => "wanted.d",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Required or wanted.
    pub kind: Kind,
    /// The program.
    pub path: PathBuf,
    /// Whether it can be started: a file without the right to be executed was meant to check something.
    pub executable: bool,
}

impl Check {
    /// Its file name.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With status 0.
    Passed,
    /// With another one; what it said last.
    Failed {
        /// The status, as words.
        status: String,
        /// Last lines of its error output, or of its output.
        said: String,
    },
    /// It was killed with everything it had started.
    TimedOut(Duration),
    /// It could not be started.
    NotStarted(String),
    /// The deadline of the whole gate had passed before its turn.
    NotReached,
}

/// A check and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The check.
    pub check: Check,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// One line for people and for evidence; `None` if it passed.
    pub fn complaint(&self) -> Option<String> {
        let kind = match self.check.kind {
            Kind::Required => "required",
            Kind::Wanted => "wanted",
        };
        let why = match &self.outcome {
            Outcome::Passed => return None,
            Outcome::Failed { status, said } if said.is_empty() => status.clone(),
            Outcome::Failed { status, said } => format!("{status}: {}", said.replace('\n', " / ")),
            Outcome::TimedOut(after) => format!("did not end within {} s and was killed", after.as_secs_f32()),
            Outcome::NotStarted(why) => format!("cannot be started: {why}"),
            Outcome::NotReached => "the deadline passed before its turn".to_owned(),
        };
        Some(format!("{kind} check {}: {why}", self.check.name()))
    }
}

/// The checks of the system at `root`: the required ones first, each kind by name.
///
/// Names that begin with a dot or end like backups and leftovers of package managers are no checks.
pub fn find(root: &Path) -> Result<Vec<Check>, HealthError> {
    let mut found: BTreeMap<(Kind, String), Option<Check>> = BTreeMap::new();
    for directory in DIRECTORIES {
        for kind in [Kind::Required, Kind::Wanted] {
            let path = root.join(directory).join(kind.directory());
            for entry in entries(&path).map_err(|source| HealthError::Directory { path: path.clone(), source })? {
                let Some(name) = entry.file_name().and_then(OsStr::to_str).filter(|n| is_name(n)) else { continue };
                found.entry((kind, name.to_owned())).or_insert_with(|| check(kind, &entry));
            }
        }
    }
    Ok(found.into_values().flatten().collect())
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|e| e.map(|e| e.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_name(name: &str) -> bool {
    const LEFTOVERS: [&str; 6] = ["~", ".pacnew", ".pacsave", ".pacorig", ".swp", ".bak"];
    !name.starts_with('.') && !LEFTOVERS.iter().any(|end| name.ends_with(end))
}

/// The check at `path`; `None` if it is switched off.
fn check(kind: Kind, path: &Path) -> Option<Check> {
    let off = fs::canonicalize(path).is_ok_and(|target| target == Path::new("/dev/null"));
    // What a link leads to counts; one that leads nowhere was meant to check something.
    let executable = fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    let is_directory = fs::metadata(path).is_ok_and(|meta| meta.is_dir());
    (!off && !is_directory).then(|| Check { kind, path: path.to_owned(), executable })
}

/// `check` was run, with at most `limit` and not beyond `deadline`; nothing of its process group is left.
pub fn run(check: &Check, limit: Duration, deadline: Instant) -> Ran {
    let started = Instant::now();
    let left = deadline.saturating_duration_since(started);
    let outcome = if left.is_zero() {
        Outcome::NotReached
    } else if check.executable {
        outcome(check, limit.min(left))
    } else {
        Outcome::NotStarted("it is not an executable file".to_owned())
    };
    Ran { check: check.clone(), outcome, took: started.elapsed() }
}

fn outcome(check: &Check, limit: Duration) -> Outcome {
    let ended = Invocation::words([&check.path]).and_then(|words| exec::run(&words, Options::capture().timeout(limit)));
    match ended {
        Ok(ended) if ended.status.success() => Outcome::Passed,
        Ok(ended) => {
            let said = if ended.stderr.is_empty() { last_line(&ended.text()) } else { ended.tail() };
            Outcome::Failed { status: ended.status.to_string(), said }
        }
        Err(ExecError::TimedOut { after, .. }) => Outcome::TimedOut(after),
        Err(error @ ExecError::Start { .. }) => {
            let why = std::error::Error::source(&error).map(ToString::to_string);
            Outcome::NotStarted(why.unwrap_or_else(|| error.to_string()))
        }
        Err(error) => Outcome::NotStarted(error.to_string()),
    }
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or_default().chars().filter(|c| !c.is_control()).collect()
}
