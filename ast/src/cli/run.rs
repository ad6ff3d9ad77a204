//! `run`: one command inside a snapshot.

use serde_json::json;

use super::context::Global;
use super::error::{CommandError, Kind};
use super::inside::{self, Outcome};
use crate::exec::{ExecError, Invocation, Options, Streams};
use crate::id::SnapshotId;

/// What runs where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
    /// The command and its arguments, passed as they are, through no shell
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<std::ffi::OsString>,
}

/// The command has run inside; the snapshot is as it left it when it ended with 0, as before otherwise.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let invocation = Invocation::words(args.command.clone())?;
    let line = invocation.display();
    inside::change(global, args.snapshot, false, &format!("run {line} in snapshot {}", args.snapshot), |copy| {
        // With --json standard output is the document's.
        let streams = if global.json { Streams::Capture } else { Streams::Terminal };
        let ended = copy.run(&invocation, Options::new(streams))?;
        if ended.status.success() {
            let mut document = json!({ "snapshot": args.snapshot, "status": 0 });
            if global.json {
                document["stdout"] = ended.text().into();
                document["stderr"] = String::from_utf8_lossy(&ended.stderr).into();
            }
            return Ok(Outcome::Save(document));
        }
        let tail = if global.json { format!("\n{}", ended.tail()) } else { String::new() };
        Err(CommandError::new(Kind::World, format!("{line} failed in snapshot {} ({}){}", args.snapshot, ended.status, tail.trim_end()))
            .hint("the snapshot is as it was"))
    })
}

impl From<ExecError> for CommandError {
    fn from(error: ExecError) -> Self {
        let kind = if matches!(error, ExecError::BadWords) { Kind::Usage } else { Kind::World };
        Self::new(kind, super::error::chain(&error))
    }
}
