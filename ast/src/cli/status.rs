//! `status`, `current`: what runs, and what the next reboot will do.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::change::opened;
use super::context::{Global, print};
use super::error::CommandError;
use super::terminal::{Paint, Tone};
use crate::boot::booted::{NO_WATCHDOG, SOFT_WATCHDOG};
use crate::deploy::{Status, status};
use crate::id::DeployId;
use crate::care;
use crate::loader::{self, Look};
use crate::store::Store;
use crate::updates::{self, Summary};

/// `ast status` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// `ast current` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct CurrentArgs {}

/// The number of the booted snapshot is on standard output.
///
/// Refuses: a machine that does not run.
pub(super) fn current(_: &CurrentArgs, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let booted = store.booted_snapshot().ok_or_else(|| CommandError::refused("no snapshot of this machine is booted"))?;
    if global.json { global.print_json(&json!({ "snapshot": booted })) } else { print(&format!("{booted}\n")) }
}

/// What runs, what is on trial, what the next reboot does, and what became of the updates, is on standard output.
pub(super) fn run(_: &Args, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let status = status(&store);
    let updates = updates(&store);
    // What the initramfs had to do, and what was counted; without root that cannot be read.
    let mut disk = store.booted().map(|booted| booted.disk.clone()).unwrap_or_default();
    disk.extend(care::complaints(store.layout()));
    if global.json {
        let mut document = serde_json::to_value(&status).unwrap_or(Value::Null);
        if let Value::Object(fields) = &mut document {
            fields.insert("updates".into(), serde_json::to_value(&updates).unwrap_or(Value::Null));
            fields.insert("disk".into(), json!(disk));
            fields.insert("grub".into(), json!(loader::look(&store)));
        }
        return global.print_json(&document);
    }
    print(&text(&status, &loader::look(&store), updates.as_ref(), &disk))
}

/// How the updates are doing, as far as that can be read.
fn updates(store: &Store) -> Option<Summary> {
    updates::load(store.layout()).ok().as_ref().map(Summary::of)
}

fn text(status: &Status, grub: &Look, updates: Option<&Summary>, disk: &[String]) -> String {
    let (mut out, paint) = (String::new(), Paint::stdout());
    let mut told = |tone: Option<Tone>, name: &str, value: String| {
        let name = format!("{name:<10}");
        let painted = |tone| format!("{} {}", paint.tone(tone, &name), paint.tone(tone, &value));
        // Writing into a String cannot fail.
        let _ = writeln!(out, "{}", tone.map_or_else(|| format!("{name} {value}"), painted));
    };
    let shown = |d: &Option<crate::deploy::DeploymentStatus>| d.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    match (&status.booted, &status.booted_set) {
        (None, Some(set)) => told(Some(Tone::Notice), "booted", format!("snapshot {} (set {set}), chosen by hand; its /etc ends with this boot", set.snapshot)),
        (booted, _) => {
            let why = status.why.as_ref().map(|w| format!(", started as {w}")).unwrap_or_default();
            let volatile = if status.volatile { "; its /etc ends with this boot" } else { "" };
            told(None, "booted", format!("{}{why}{volatile}", shown(booted)));
        }
    }
    if let Some(instead) = &status.instead_of {
        told(Some(Tone::Bad), "instead of", instead.clone());
    }
    told(status.default.as_ref().map(|_| Tone::Well), "default", shown(&status.default));
    if let Some(trial) = &status.trial {
        told(Some(Tone::Notice), "on trial", format!("{trial}, {} starts left", status.tries.unwrap_or(0)));
    }
    told(None, "fallback", shown(&status.fallback));
    told(None, "next boot", status.next.to_string());
    if status.counting == Some(false) {
        told(Some(Tone::Notice), "counting", "GRUB cannot write here: a kernel that panics on trial is not counted".to_owned());
    }
    if let Some((tone, watchdog)) = status.watchdog_armed.as_deref().map(watchdog) {
        told(tone, "watchdog", watchdog);
    } else if status.watchdog == Some(false) {
        told(Some(Tone::Notice), "watchdog", "none here: a kernel that hangs on trial stands still until somebody switches it off and on".to_owned());
    }
    if grub.version.is_some() || grub.state.is_some() {
        told(grub.state.map(|_| Tone::Notice), "GRUB", grub.to_string());
    }
    if let Some(list) = kept(&status.kept_vars) {
        told(None, "kept /var", list);
    }
    for text in updates.map(update_lines).unwrap_or_default() {
        // What is said first of a machine that came back.
        let tone = text.starts_with("degraded: ").then_some(Tone::Notice);
        told(tone, "updates", text);
    }
    for text in disk {
        told(Some(Tone::Bad), "disk", super::context::clean(text));
    }
    for problem in &status.problems {
        told(Some(Tone::Bad), "problem", problem.clone());
    }
    out
}

/// What the watchdog of this trial notices.
fn watchdog(name: &str) -> (Option<Tone>, String) {
    let still = "stands still until somebody switches it off and on";
    match name {
        NO_WATCHDOG => (Some(Tone::Notice), format!("none armed for this trial: if it hangs, it {still}")),
        SOFT_WATCHDOG => (Some(Tone::Notice), format!("one in software for this trial: if its kernel hangs, it {still}")),
        name => (None, format!("{} for this trial", super::context::clean(name))),
    }
}

/// Which `/var` can be given back.
fn kept(vars: &[DeployId]) -> Option<String> {
    let of: Vec<String> = vars.iter().map(ToString::to_string).collect();
    (!of.is_empty()).then(|| format!("as it was before deployment {} (`ast rollback --with-var`)", of.join(", ")))
}

/// What a person wants to know of the updates here: whether one failed, how the last cycle ended, what is blocked.
fn update_lines(updates: &Summary) -> Vec<String> {
    let degraded = updates.degraded.as_ref().map(|why| format!("degraded: {why}"));
    let blocked = updates.blocked.iter().map(|b| format!("blocked: {} ({})", b.suspects, b.cause));
    let last = updates.last.iter().filter(|_| degraded.is_none()).cloned();
    let undeleted = updates.undeleted.iter().map(|line| format!("not deleted: {line}"));
    degraded.iter().cloned().chain(updates.pause()).chain(last).chain(blocked).chain(undeleted).map(|line| super::context::clean(&line)).collect()
}
