//! `chroot`: a root shell inside a snapshot.

use serde_json::json;

use super::context::Global;
use super::error::{CommandError, Kind};
use super::inside::{self, Outcome};
use crate::exec::{Invocation, Options, Program, Streams};
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

/// The snapshot is as the shell left it when it ended with 0, as before otherwise.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let n = args.snapshot;
    inside::change(global, n, args.base, &format!("chroot into snapshot {n}"), |copy| {
        global.say(format_args!("root shell in a copy of snapshot {n}: `exit 0` saves it, `exit 1` discards it"));
        let ended = copy.run(&Invocation::new(Program::Bash).arg("-l"), Options::new(Streams::Terminal))?;
        if ended.status.success() {
            return Ok(Outcome::Save(json!({ "snapshot": n })));
        }
        Err(CommandError::new(Kind::World, format!("the shell ended with {}: its changes are discarded", ended.status))
            .hint("`exit 0` saves them"))
    })
}
