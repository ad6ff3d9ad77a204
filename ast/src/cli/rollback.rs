//! `rollback`: back to what ran well.

use serde_json::json;

use super::change;
use super::context::Global;
use super::error::CommandError;
use crate::deploy::{Etc, How, plan_deploy, plan_rollback_deploy, plan_rollback_previous, plan_rollback_snapshot};
use crate::id::SnapshotId;

/// Back to what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Deploy this snapshot instead, at once
    #[arg(conflicts_with = "previous")]
    snapshot: Option<SnapshotId>,
    /// From a system one dislikes: deploy the one that ran well before it
    #[arg(long)]
    previous: bool,
}

/// What is booted (its /etc included) is a new tree described `rollback` and the default; or the previous one, or the named one, is.
///
/// If interrupted between the two plans of the first form: there is one snapshot more, and nothing else.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    if let Some(n) = args.snapshot {
        return change::planned(global, |store| {
            let (plan, d) = plan_deploy(store, n, How::NoTrial, Etc::OfSnapshot)?;
            Ok(Some((
                plan,
                format!("snapshot {n} (deployment {d}) is the default from the next boot on\n"),
                json!({ "snapshot": n, "deployment": d }),
            )))
        });
    }
    if args.previous {
        return change::planned(global, |store| {
            let (plan, d) = plan_rollback_previous(store)?;
            Ok(Some((
                plan,
                format!("deployment {d}, which ran well before, is the default from the next boot on\n"),
                json!({ "deployment": d }),
            )))
        });
    }
    let mut saved = None;
    change::planned(global, |store| {
        let (plan, n) = plan_rollback_snapshot(store)?;
        saved = Some(n);
        Ok(Some((plan, String::new(), json!({ "snapshot": n }))))
    })?;
    let Some(n) = saved.filter(|_| !global.dry_run) else { return Ok(()) };
    change::planned(global, |store| {
        let (plan, d) = plan_rollback_deploy(store, n)?;
        let text = format!("what is booted is saved as snapshot {n} and is the default from the next boot on (deployment {d})\n");
        Ok(Some((plan, text, json!({ "snapshot": n, "deployment": d }))))
    })
}
