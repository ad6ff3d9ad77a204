//! After a boot: what was on trial becomes the good one, or is not tried any more; the good one reports well.

use super::{follow_up, made_good};
use crate::boot::block::{BootBlock, Mode, Trial};
use crate::boot::booted::Booted;
use crate::cmdline::Why;
use crate::id::{ArmId, DeployId};
use crate::plan::{Commit, Plan, Step};
use crate::store::{Store, StoreError};

/// The booted trial is the good one; `None` when it is already.
///
/// Refuses: unless the block still carries the deployment and the arming of this boot (B15), and a boot that was none of a trial.
pub fn plan_promote(store: &Store, booted: &Booted) -> Result<Option<Plan>, StoreError> {
    let before = store.block()?;
    let d = booted.d.ok_or(StoreError::NotBooted("what is booted is no deployment"))?;
    if before.good == d {
        return Ok(None);
    }
    if !booted.on_trial() {
        return Err(StoreError::NotBooted("what is booted is not on trial"));
    }
    let arm = booted.arm.ok_or(StoreError::NotBooted("the boot loader did not say which arming this is"))?;
    match before.trial {
        Some(Trial { deployment, mode: Mode::Trial, .. }) if deployment == d && before.arm == arm => {}
        _ => return Err(StoreError::Superseded { d, arm }),
    }
    let after = made_good(store, &before, d, None);
    Ok(Some(plan(format!("promote deployment {d}"), Some(d), before, after)))
}

/// The running system reported well: the starts of the good one count from zero, one that was booted in its place is the one before
/// it again, and a single start is used up. `None` when there is nothing to write.
pub fn plan_report_well(store: &Store, booted: &Booted) -> Result<Option<Plan>, StoreError> {
    let before = store.block()?;
    // A set booted by hand says nothing about any deployment (B11).
    let Some(d) = booted.d.filter(|_| !booted.volatile) else { return Ok(None) };
    let mut after = before.clone();
    if before.good == d {
        after.starts = 0;
    } else if matches!(booted.why, Some(Why::Starts | Why::Load)) && before.prev.is_none_or(|prev| prev == d) {
        // The good one stays the good one: GRUB left it for one start (B2).
        (after.prev, after.starts) = (Some(d), 0);
    }
    // One start is used up when it was this one, or when it came to nothing and something else runs. Where GRUB cannot write, it is not GRUB
    // that took it then.
    let failed = matches!(booted.why, Some(Why::Hash | Why::Load | Why::NoSave)) && booted.arm == Some(before.arm);
    after.trial = before.trial.filter(|t| t.mode != Mode::Once || (t.tries > 0 && t.deployment != d && !failed));
    let proven = after.good == d || after.prev == Some(d);
    let known = store.layout().deployment_well(d).exists();
    if after == before && (known || !proven) {
        return Ok(None);
    }
    let mut plan = plan(format!("deployment {d} reported well"), proven.then_some(d), before, after);
    // Every boot does this: no news for the history.
    plan.after.retain(|step| !matches!(step, Step::Record(_)));
    Ok(Some(plan))
}

/// What arming `arm` put on trial is not tried any more; `None` when it is not on trial now.
pub fn plan_fail_trial(store: &Store, d: DeployId, arm: ArmId, reason: &str) -> Result<Option<Plan>, StoreError> {
    let before = store.block()?;
    let carries = before.trial.is_some_and(|t| t.deployment == d) && before.arm == arm;
    if !carries {
        return Ok(None);
    }
    // The arming number stays: a spent one is never armed again.
    let after = BootBlock { trial: None, ..before.clone() };
    Ok(Some(plan(format!("deployment {d} failed its trial: {reason}"), None, before, after)))
}

fn plan(what: String, well: Option<DeployId>, before: BootBlock, after: BootBlock) -> Plan {
    // After the commit: a disk without space must not keep a good system from being promoted.
    let after_steps = well.map(Step::MarkWell).into_iter().chain(follow_up(&what)).collect();
    Plan { what, prepare: Vec::new(), commit: Commit::Boot { before, after }, after: after_steps }
}
