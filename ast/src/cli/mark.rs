//! `good`, `bad`: the verdict of a person on what is booted.

use std::path::Path;

use serde_json::json;

use super::change;
use super::context::Global;
use super::error::CommandError;
use crate::deploy::{Var, plan_fail_trial, plan_promote, plan_report_well, plan_rollback_previous};
use crate::health;
use crate::loader;
use crate::store::StoreError;

/// A verdict has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// The booted deployment is a good one: promoted when it was on trial.
pub(super) fn good(_: &Args, global: &Global) -> Result<(), CommandError> {
    let mut on_trial = false;
    change::planned(global, |store| {
        let booted = store.booted().ok_or(StoreError::NotBooted("it is not known what is booted"))?;
        on_trial = booted.on_trial();
        let plan = if on_trial { plan_promote(store, booted)? } else { plan_report_well(store, booted)? };
        Ok(plan.map(|plan| (plan, "the booted deployment is good\n".to_owned(), json!({ "deployment": booted.d }))))
    })?;
    if on_trial
        && !global.dry_run
        && global.sysroot == Path::new("/")
        && let Err(error) = health::end_trial()
    {
        global.say(format_args!("until the next start {}", super::error::chain(&error)));
    }
    if global.dry_run || loader::load(change::opened(global)?.layout())?.update.is_none() {
        return Ok(());
    }
    // A new GRUB that started it goes a step on (C1).
    if let Some(settled) = loader::reported_well(&change::locked(global)?)? {
        global.say(settled);
    }
    Ok(())
}

/// The booted deployment is not tried again when it was on trial; the one before it is the default otherwise.
pub(super) fn bad(_: &Args, global: &Global) -> Result<(), CommandError> {
    change::planned(global, |store| {
        let booted = store.booted().ok_or(StoreError::NotBooted("it is not known what is booted"))?;
        if let (true, Some(d), Some(arm)) = (booted.on_trial(), booted.d, booted.arm) {
            let plan = plan_fail_trial(store, d, arm, "a person called it bad")?;
            return Ok(
                plan.map(|plan| (plan, format!("deployment {d} is not tried again: reboot to go back\n"), json!({ "deployment": d })))
            );
        }
        let (plan, d) = plan_rollback_previous(store, Var::AsItIs)?;
        Ok(Some((
            plan,
            format!("deployment {d}, which ran well before, is the default from the next boot on\n"),
            json!({ "deployment": d }),
        )))
    })
}
