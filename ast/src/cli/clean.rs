//! `clean`: what unattended updates left and the policy does not keep.

use serde_json::{Value, json};

use super::change::{attention, locked, opened};
use super::context::{Global, print};
use super::error::CommandError;
use crate::config::autoupdate;
use crate::retain::{self, Fate, Retention};
use crate::store::{Store, StoreError};
use crate::updates;

/// How much of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// How many of the newest updates stay, besides what runs, the default and its fallback [default: as autoupdate.toml says]
    #[arg(short, long, value_name = "COUNT")]
    keep: Option<u32>,
}

/// What the policy does not keep is gone; each snapshot and its fate is on standard output.
///
/// Refuses: while something is on trial, and while a document cannot be read.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    if !global.dry_run {
        global.may_write()?;
    }
    let keep = args.keep.unwrap_or_else(|| autoupdate::load(&global.sysroot).0.keep_updates);
    let store = opened(global)?;
    let found = look(&store, keep)?;
    if global.dry_run || found.is_empty() {
        let plan = found.plan(&store)?.map_or_else(|| "nothing to do\n".to_owned(), |plan| plan.to_string());
        return if global.json { global.print_json(&document(&found)) } else { print(&format!("{}{plan}", text(&found))) };
    }
    let going = found.going();
    let list = going.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if !going.is_empty() {
        global.confirm(&format!("Delete snapshot {list}?"))?;
    }
    let mut locked = locked(global)?;
    if !locked.may_delete() {
        return Err(CommandError::refused("nothing is deleted while a document cannot be read").hint("`ast doctor` says which"));
    }
    let now = look(&locked, keep)?;
    if now != found {
        return Err(StoreError::Stale("the tree has changed").into());
    }
    let Some(plan) = now.plan(&locked)? else { return Ok(()) };
    let done = locked.run(plan)?;
    if global.json {
        global.print_json(&document(&found))?
    } else {
        print(&text(&found))?
    }
    attention(&locked, &done)
}

fn look(store: &Store, keep: u32) -> Result<Retention, CommandError> {
    if let Some(trial) = store.block()?.trial {
        let what = format!("deployment {} is on trial, and nothing is deleted before that is over", trial.deployment);
        return Err(CommandError::refused(what).hint("reboot into it; `ast good` and `ast bad` decide at once"));
    }
    let memory = updates::load(store.layout()).map_err(StoreError::from)?;
    Ok(retain::look(store, &memory, keep)?)
}

fn text(found: &Retention) -> String {
    let snapshots = found.snapshots.iter().map(|j| format!("snapshot {} {}\n", j.id, j.fate));
    let vars = found.vars.iter().map(|d| format!("the /var kept when deployment {d} was armed goes\n"));
    snapshots.chain(vars).collect()
}

fn document(found: &Retention) -> Value {
    let snapshots: Vec<_> = found
        .snapshots
        .iter()
        .map(|j| json!({ "snapshot": j.id, "goes": matches!(j.fate, Fate::Goes(_)), "why": j.fate.to_string() }))
        .collect();
    json!({ "snapshots": snapshots, "vars": found.vars })
}
