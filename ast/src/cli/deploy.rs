//! `deploy`: what the next boot tries.

use serde_json::json;

use super::change::{self, opened};
use super::context::Global;
use super::error::{CommandError, chain};
use crate::deploy::{Etc, How, booted_etc, only_here, plan_deploy};
use crate::etc::{Goal, Report, is_carried, shown};
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

/// So many names say what a warning is about; the rest is in `--json`.
const FEW: usize = 5;

/// The snapshot is a new deployment, which the next boot starts.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let how = match (args.no_trial, args.once) {
        (true, _) => How::NoTrial,
        (_, true) => How::Once,
        _ => How::Trial,
    };
    let booted = booted_etc(&opened(global)?).map(|(d, _)| d);
    let etc = match (args.keep_etc, &booted) {
        (true, Ok(d)) => Etc::MergedFrom(*d),
        (true, Err(why)) => {
            return Err(CommandError::refused(format!("there is no /etc to keep: {}", chain(why))).hint("leave --keep-etc away"));
        }
        (false, _) => Etc::OfSnapshot,
    };
    let mut lost = Vec::new();
    let result = change::planned(global, |store| {
        let (plan, d) = plan_deploy(store, args.snapshot, how, etc)?;
        if let (Ok(from), false) = (&booted, args.keep_etc) {
            // A warning that cannot be given is no reason not to deploy.
            match only_here(store, *from, args.snapshot, Goal::Deployment) {
                Ok(report) => lost = paths(&report),
                Err(error) => tracing::warn!("it is not known what was changed in the booted /etc: {}", chain(&error)),
            }
        }
        let text = match how {
            How::Trial => {
                format!("the next boot tries snapshot {} (deployment {d}); it becomes the default when it boots well\n", args.snapshot)
            }
            How::Once => format!("the next boot starts snapshot {} (deployment {d}) once\n", args.snapshot),
            How::NoTrial => format!("snapshot {} (deployment {d}) is the default from the next boot on\n", args.snapshot),
        };
        Ok(Some((plan, text, json!({ "snapshot": args.snapshot, "deployment": d, "only_in_booted_etc": lost }))))
    });
    if !lost.is_empty() {
        global.say(format_args!("warning: snapshot {} does not have what was changed in the booted /etc: {}", args.snapshot, few(&lost)));
        global.say("hint: `--keep-etc` merges it into the new one, `ast etc-update` saves it into the booted snapshot");
    }
    result
}

/// What of the booted `/etc` the new one would not have, without what every deployment gets from the machine anyway.
fn paths(only_here: &Report) -> Vec<String> {
    let all = only_here.kept.iter().chain(&only_here.merged);
    let mut paths: Vec<String> = all.filter(|path| !is_carried(path)).map(|path| shown(path)).collect();
    paths.sort();
    paths.dedup();
    paths
}

/// The first few of `paths`, and how many more there are.
fn few(paths: &[String]) -> String {
    let named = paths.iter().take(FEW).map(String::as_str).collect::<Vec<_>>().join(", ");
    match paths.len().saturating_sub(FEW) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
