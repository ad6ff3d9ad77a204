//! `chroot`: a root shell inside a snapshot.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use serde_json::json;

use super::context::Global;
use super::error::{CommandError, Kind};
use super::inside::{self, Outcome};
use crate::exec::{Ended, Invocation, Options, Program, Streams};
use crate::id::SnapshotId;

/// Where the shell opens.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
    /// Yes, the base snapshot
    #[arg(long)]
    base: bool,
}

/// Work of this length is not thrown away without a question: a shell that is left with ^D ends with the status of its last command,
/// which few people look at.
const LONG: Duration = Duration::from_secs(60);

/// The snapshot is as the shell left it when it ended with 0, as before otherwise.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let n = args.snapshot;
    inside::change(global, n, args.base, &format!("chroot into snapshot {n}"), |copy| {
        global.say(format_args!("root shell in a copy of snapshot {n}: `exit 0` saves it, `exit 1` discards it"));
        let begun = Instant::now();
        let ended = copy.run(&Invocation::new(Program::Bash).arg("-l"), Options::new(Streams::Terminal))?;
        is_saved(&ended, begun.elapsed(), global)?;
        Ok(Outcome::Save(json!({ "snapshot": n })))
    })
}

/// What was done in the shell is to be saved.
///
/// Refuses: when it ended with another status than 0, unless a person wants it all the same.
pub(super) fn is_saved(ended: &Ended, took: Duration, global: &Global) -> Result<(), CommandError> {
    let asks = took >= long() && !global.yes && std::io::stdin().is_terminal();
    let spent = humantime::format_duration(Duration::from_secs(took.as_secs()));
    let question = || format!("The shell ended with {} after {spent}. Save its changes all the same?", ended.status);
    if ended.status.success() || asks && global.confirm(&question()).is_ok() {
        return Ok(());
    }
    Err(CommandError::new(Kind::World, format!("the shell ended with {}: its changes are discarded", ended.status))
        .hint("`exit 0` saves them"))
}

/// [`LONG`], or in a debug build what a test has no time to wait for.
fn long() -> Duration {
    let shorter = std::env::var("AST_LONG_SESSION").ok().filter(|_| cfg!(debug_assertions));
    shorter.and_then(|seconds| seconds.parse().ok()).map_or(LONG, Duration::from_secs)
}
