//! `rollback`: back to what ran well.

use serde_json::json;

use super::change;
use super::context::Global;
use super::error::CommandError;
use crate::deploy::{Var, plan_rollback_deploy, plan_rollback_previous, plan_rollback_snapshot, plan_rollback_to, plan_rollback_var};
use crate::id::{DeployId, SnapshotId};

/// Back to what.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Deploy this snapshot instead, at once
    #[arg(conflicts_with = "previous")]
    snapshot: Option<SnapshotId>,
    /// From a system one dislikes: deploy the one that ran well before it
    #[arg(long)]
    previous: bool,
    /// Give back the /var that was kept when the trial was armed; `=DEPLOYMENT` chooses one of those that `ast status` lists
    #[arg(long, value_name = "DEPLOYMENT", num_args = 0..=1, require_equals = true)]
    with_var: Option<Option<DeployId>>,
}

impl Args {
    const fn var(&self) -> Var {
        match self.with_var {
            None => Var::AsItIs,
            Some(None) => Var::OfThatTime,
            Some(Some(d)) => Var::Before(d),
        }
    }
}

/// What a rollback with another `/var` adds to what it says.
fn said_of(var: Var) -> &'static str {
    if var == Var::AsItIs { "" } else { "/var is then as it was; what it is now is kept beside it in /.snapshots/vars\n" }
}

/// What is booted (its /etc included) is a new tree described `rollback` and the default; or the previous one, or the named one, is.
///
/// If interrupted between the two plans of the first form: there is one snapshot more, and nothing else.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let var = args.var();
    if let Some(n) = args.snapshot {
        return change::planned(global, |store| {
            let (plan, d) = plan_rollback_to(store, n, var)?;
            Ok(Some((
                plan,
                format!("snapshot {n} (deployment {d}) is the default from the next boot on\n{}", said_of(var)),
                json!({ "snapshot": n, "deployment": d }),
            )))
        });
    }
    if args.previous {
        return change::planned(global, |store| {
            let (plan, d) = plan_rollback_previous(store, var)?;
            Ok(Some((
                plan,
                format!("deployment {d}, which ran well before, is the default from the next boot on\n{}", said_of(var)),
                json!({ "deployment": d }),
            )))
        });
    }
    let mut saved = None;
    // Told by the second plan alone: one command, one document.
    let first = Global { json: global.json && global.dry_run, ..global.clone() };
    change::planned(&first, |store| {
        // Refused before anything is made, not between the two plans.
        drop(plan_rollback_var(store, var)?);
        let (plan, n) = plan_rollback_snapshot(store)?;
        saved = Some(n);
        Ok(Some((plan, String::new(), json!({ "snapshot": n }))))
    })?;
    let Some(n) = saved.filter(|_| !global.dry_run) else { return Ok(()) };
    change::planned(global, |store| {
        let (plan, d) = plan_rollback_deploy(store, n, var)?;
        let text =
            format!("what is booted is saved as snapshot {n} and is the default from the next boot on (deployment {d})\n{}", said_of(var));
        Ok(Some((plan, text, json!({ "snapshot": n, "deployment": d }))))
    })
}
