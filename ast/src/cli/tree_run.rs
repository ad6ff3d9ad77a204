//! `tree-run`: one command inside a snapshot and everything below it.

use serde_json::json;

use super::across::{self, Did};
use super::context::Global;
use super::error::{CommandError, Kind};
use crate::exec::{Invocation, Options, Streams};
use crate::id::SnapshotId;
use crate::pacman;

/// Status of a command that SIGINT or SIGQUIT ended, as a shell tells it (128 and the number of the signal).
const OF_KEYBOARD: [i32; 2] = [130, 131];
/// What `--help` adds.
const HELP: &str = "Parents come before their children. A snapshot is saved when the command ends with 0 there. One where it fails is left as it \
was, the others go on, and the table at the end names it (exit code 1).";

/// What runs where.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The snapshot; everything below it too
    #[arg(value_name = "TREE")]
    snapshot: SnapshotId,
    /// The command and its arguments, passed as they are, through no shell
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<std::ffi::OsString>,
}

/// The command has run inside each snapshot; each is as it left it when it ended with 0, as before otherwise.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let invocation = Invocation::words(args.command.clone())?;
    let line = invocation.display();
    across::each(
        global,
        "tree-run",
        args.snapshot,
        |n| format!("run {line} in snapshot {n}"),
        |_, copy| {
            // A snapshot without a list of packages can be worked in, too.
            let packages = || pacman::installed(&copy.parts().root).unwrap_or_default();
            let before = packages();
            // With --json standard output is the document's.
            let streams = if global.json { Streams::Capture } else { Streams::Terminal };
            let ended = copy.run(&invocation, Options::new(streams))?;
            if !ended.status.success() {
                let tail = ended.tail();
                let words = if tail.is_empty() { String::new() } else { format!("\n{tail}") };
                let error = CommandError::new(Kind::World, format!("{line} failed ({}){words}", ended.status));
                // `^C` ends the command, and is meant for all of them.
                return if ended.status.code().is_some_and(|code| OF_KEYBOARD.contains(&code)) {
                    Ok(Did::Interrupted(error))
                } else {
                    Err(error)
                };
            }
            let change = before.change_to(&packages());
            let mut document = json!({ "status": 0, "change": change });
            if global.json {
                document["stdout"] = ended.text().into();
                document["stderr"] = String::from_utf8_lossy(&ended.stderr).into();
            }
            Ok(Did::Changed(across::short(&change), document))
        },
    )
}
