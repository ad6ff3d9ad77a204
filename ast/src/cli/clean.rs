//! `clean`: what unattended updates left and the policy does not keep.

use std::time::Duration;

use serde_json::{Value, json};

use super::change::{attention_to, locked, opened, unfinished};
use super::context::{Global, print};
use super::error::CommandError;
use crate::config::autoupdate::{self, Keep};
use crate::config::space::Space;
use crate::id::SnapshotId;
use crate::retain::{self, Fate, Retention};
use crate::store::{Store, StoreError};
use crate::updates::{self, Updates};

/// What `--help` adds.
const HELP: &str = "An update goes when it is neither one of the newest COUNT nor younger than AGE; the newest that failed stays, for a look. \
While less than SPACE is free, the oldest of those that would stay follow, one after the other. What is pinned, booted, on trial, the default, its \
fallback, or whatever a person made, described or changed never goes. Package files in the machine's cache that no snapshot has installed go, too. Without an option the settings in /etc/ast/autoupdate.toml hold: \
keep_updates (3), keep_days (0) and min_free (\"0\"), as they do for the unattended updater.";

/// How much of it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// How many of the newest updates stay, besides what runs, the default and its fallback [default: as autoupdate.toml says]
    #[arg(short, long, value_name = "COUNT")]
    keep: Option<u32>,
    /// Only what is older goes: 12h, 30days, 2weeks; 0s for any age [default: as autoupdate.toml says]
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// What should be free of the disk: 500M, 2G, 10% [default: as autoupdate.toml says]
    #[arg(long, value_name = "SPACE")]
    min_free: Option<Space>,
}

impl Args {
    /// The words of the person over those of the machine's owner.
    fn keep(&self, global: &Global) -> Keep {
        let set = autoupdate::load(&global.sysroot).0.keep;
        Keep {
            updates: self.keep.unwrap_or(set.updates),
            within: self.older_than.unwrap_or(set.within),
            min_free: self.min_free.or(set.min_free),
        }
    }
}

/// What the policy does not keep is gone; each snapshot and its fate is on standard output.
///
/// If interrupted: what was deleted is gone, each snapshot whole or not at all.
/// Refuses: while something is on trial, and while a document cannot be read.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    if !global.dry_run {
        global.may_write()?;
    }
    let keep = args.keep(global);
    let store = opened(global)?;
    let memory = memory(&store)?;
    let found = retain::look(&store, &memory, &keep)?;
    if global.dry_run || found.is_empty() {
        if !global.dry_run {
            locked(global)?.clean_cache()?;
        }
        let plan = found.plan(&store)?.map_or_else(|| "nothing to do\n".to_owned(), |plan| plan.to_string());
        return if global.json { global.print_json(&document(&found, &[])) } else { print(&format!("{}{plan}", text(&found))) };
    }
    if let Some(question) = question(&found) {
        global.confirm(&question)?;
    }
    let mut locked = locked(global)?;
    if !locked.may_delete() {
        return Err(CommandError::refused("nothing is deleted while a document cannot be read").hint("`ast doctor` says which"));
    }
    // An update may have failed, or a trial begun, while somebody was asked.
    let memory = self::memory(&locked)?;
    let now = retain::look(&locked, &memory, &keep)?;
    // How much is free is another number each time.
    if (now.going(), &now.vars) != (found.going(), &found.vars) {
        return Err(StoreError::Stale("the tree has changed").into());
    }
    let (mut gone, mut stuck, mut first) = (Vec::new(), Vec::new(), true);
    let left = retain::carry_out(&mut locked, &memory, &keep, |round, _, done| {
        let going = round.going();
        if !global.json {
            // A terminal that is gone is no reason to stop.
            drop(print(&if first { text(round) } else { lines(round, |j| going.contains(&j.id)) }));
        }
        first = false;
        gone.extend(going);
        stuck.extend(done.unfinished);
    })?;
    if global.json {
        global.print_json(&document(&Retention { short: left.short, next: left.next.clone(), ..found }, &gone))?;
    } else {
        for line in left.held() {
            global.say(line);
        }
    }
    unfinished(&stuck)?;
    attention_to(&locked)
}

/// What became of the updates.
///
/// Refuses: while something is on trial.
fn memory(store: &Store) -> Result<Updates, CommandError> {
    if let Some(trial) = store.block()?.trial {
        let what = format!("deployment {} is on trial, and nothing is deleted before that is over", trial.deployment);
        return Err(CommandError::refused(what).hint("reboot into it; `ast good` and `ast bad` decide at once"));
    }
    Ok(updates::load(store.layout()).map_err(StoreError::from)?)
}

/// What a person is asked; nothing when only a kept `/var` goes.
fn question(found: &Retention) -> Option<String> {
    let list = |ids: &[SnapshotId]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let going = found.going();
    let next = if found.next.is_empty() { String::new() } else { format!(", and then, until enough is free, {}", list(&found.next)) };
    match going.is_empty() {
        false => Some(format!("Delete snapshot {}{next}?", list(&going))),
        true if next.is_empty() => None,
        true => Some(format!("Delete, until enough is free, snapshot {}?", list(&found.next))),
    }
}

fn lines(found: &Retention, which: impl Fn(&retain::Judged) -> bool) -> String {
    found.snapshots.iter().filter(|j| which(j)).map(|j| format!("snapshot {} {}\n", j.id, j.fate)).collect()
}

fn text(found: &Retention) -> String {
    let mut text = lines(found, |_| true);
    text.extend(found.vars.iter().map(|d| format!("the /var kept when deployment {d} was armed goes\n")));
    if let Some(short) = found.short {
        text.push_str(&format!("{} MiB are free, and {} MiB should be", short.free >> 20, short.wanted >> 20));
        let next: Vec<String> = found.next.iter().map(ToString::to_string).collect();
        text.push_str(&if next.is_empty() {
            "\n".to_owned()
        } else {
            format!(": until then these go next, one after the other: {}\n", next.join(", "))
        });
    }
    text
}

fn document(found: &Retention, gone: &[SnapshotId]) -> Value {
    let snapshots: Vec<_> = found
        .snapshots
        .iter()
        .map(|j| json!({ "snapshot": j.id, "goes": matches!(j.fate, Fate::Goes(_)), "why": j.fate.to_string() }))
        .collect();
    let short = found.short.map(|short| json!({ "free": short.free, "wanted": short.wanted }));
    json!({ "snapshots": snapshots, "vars": found.vars, "short": short, "next": found.next, "deleted": gone })
}
