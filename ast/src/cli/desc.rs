//! `desc`: what a snapshot is called.

use serde_json::json;

use super::change;
use super::context::Global;
use super::error::CommandError;
use crate::id::SnapshotId;

/// Which snapshot is called what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
    /// The description
    #[arg(required = true, trailing_var_arg = true)]
    text: Vec<String>,
}

/// The snapshot is described by the words.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    change::planned(global, |store| {
        let plan = store.plan_describe(args.snapshot, &args.text.join(" "))?;
        Ok(Some((plan, String::new(), json!({ "snapshot": args.snapshot }))))
    })
}
