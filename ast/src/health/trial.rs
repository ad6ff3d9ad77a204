//! What the initramfs leaves in `/run` for a trial: all that restarts the machine by itself.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use super::HealthError;
use crate::exec::{self, Invocation, Options, Program};
use crate::layout::{TRIAL_DEADLINE, TRIAL_DROP_IN, TRIAL_UNITS};
use crate::sys::{SysError, file};

/// Reading all units anew takes a second; this is for a machine that still starts (60 s).
const PATIENCE: Duration = Duration::from_secs(60);

/// Nothing restarts this machine by itself any more (B10), as after any start of what is the default. A watchdog that was armed stays: systemd feeds it.
///
/// If interrupted: some of it is there until the next start.
pub fn end_trial() -> Result<(), HealthError> {
    let systemctl = |words: &[&str]| exec::run(&Invocation::new(Program::Systemctl).args(words), Options::capture().timeout(PATIENCE));
    // Before its file goes. One that is not loaded cannot be stopped, which is as good.
    drop(systemctl(&["stop", "--no-block", &format!("{TRIAL_DEADLINE}.timer")])?);
    remove_units(Path::new(TRIAL_UNITS)).map_err(HealthError::Trial)?;
    drop(systemctl(&["daemon-reload"])?.success()?);
    Ok(())
}

/// In the directory `units` is nothing of a trial.
fn remove_units(units: &Path) -> Result<(), SysError> {
    for name in file::names(units)?.into_iter().filter(|name| name.as_bytes().ends_with(b".d")) {
        file::remove_if_exists(&units.join(name).join(TRIAL_DROP_IN))?;
    }
    for unit in [format!("sysinit.target.wants/{TRIAL_DEADLINE}.timer"), format!("{TRIAL_DEADLINE}.timer"), format!("{TRIAL_DEADLINE}.service")] {
        file::remove_if_exists(&units.join(unit))?;
    }
    Ok(())
}
