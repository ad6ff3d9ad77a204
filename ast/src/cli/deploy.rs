//! `deploy`: what the next boot tries.

use serde_json::json;

use super::change::{self, opened};
use super::context::Global;
use super::error::CommandError;
use crate::deploy::{Etc, How, plan_deploy};
use crate::id::SnapshotId;

/// What is deployed, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
    /// The default at once, without being tried first
    #[arg(long, conflicts_with = "once")]
    no_trial: bool,
    /// For one boot, whatever comes of it
    #[arg(long)]
    once: bool,
    /// Merge what was changed in the booted /etc into the new one
    #[arg(long)]
    keep_etc: bool,
}

/// The snapshot is a new deployment, which the next boot starts.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let how = match (args.no_trial, args.once) {
        (true, _) => How::NoTrial,
        (_, true) => How::Once,
        _ => How::Trial,
    };
    let booted = opened(global)?.booted().and_then(|b| b.d);
    let etc = match (args.keep_etc, booted) {
        (true, Some(d)) => Etc::MergedFrom(d),
        (true, None) => {
            return Err(
                CommandError::refused("no deployment of this machine is booted, so there is no /etc to keep").hint("leave --keep-etc away")
            );
        }
        (false, _) => Etc::OfSnapshot,
    };
    change::planned(global, |store| {
        let (plan, d) = plan_deploy(store, args.snapshot, how, etc)?;
        let text = match how {
            How::Trial => {
                format!("the next boot tries snapshot {} (deployment {d}); it becomes the default when it boots well\n", args.snapshot)
            }
            How::Once => format!("the next boot starts snapshot {} (deployment {d}) once\n", args.snapshot),
            How::NoTrial => format!("snapshot {} (deployment {d}) is the default from the next boot on\n", args.snapshot),
        };
        Ok(Some((plan, text, json!({ "snapshot": args.snapshot, "deployment": d }))))
    })
}
