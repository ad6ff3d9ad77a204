//! Questions that every scenario asks of a running machine, and what it does with one.

use super::{BOOT, ScenarioError};
use crate::vm::Vm;
use serde_json::Value;
use std::time::Duration;

/// An update: databases, packages, an initramfs, a deployment, then the restart; emulated on a busy machine.
pub const UPDATE: Duration = Duration::from_secs(420);
/// From the shell to the verdict of the gate.
pub const GATE: Duration = Duration::from_secs(180);

/// What `ast status` says, as its JSON document.
pub fn status(vm: &mut Vm) -> Result<Value, ScenarioError> {
    // Exit code 5 asks for a look; the document is whole all the same.
    let text = vm.sh("ast --json status || [ $? = 5 ]")?;
    Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The gate has said its word about this start.
pub fn judged(vm: &mut Vm) -> Result<(), ScenarioError> {
    vm.run("systemctl is-system-running --wait; while systemctl is-active -q ast-health.service || systemctl list-jobs | grep -q ast-health; do systemctl list-jobs | grep -q ast-health || break; sleep 0.5; done", GATE)?;
    Ok(())
}

/// The update service runs until the machine restarts; then its shell is waited for.
///
/// Errors: when the service ended without a restart, with all it said.
pub fn update(vm: &mut Vm) -> Result<(), ScenarioError> {
    start_update(vm)?;
    restarted(vm)?;
    vm.wait_shell(BOOT)?;
    Ok(())
}

/// The update service is started; when it ends, its journal is shown on the console behind the word `UPDATE-ENDED`.
pub fn start_update(vm: &mut Vm) -> Result<(), ScenarioError> {
    vm.sh("systemctl start --no-block ast-autoupdate.service")?;
    vm.sh("(sleep 1; while systemctl is-active ast-autoupdate.service | grep -qx 'active\\|activating'; do sleep 1; done; journalctl -b --no-pager -o cat -u ast-autoupdate -n 40; echo UPDATE-'ENDED') >/dev/ttyS0 2>&1 &")?;
    Ok(())
}

/// The machine restarts, as a started update makes it.
///
/// Errors: when the service ended without a restart.
pub fn restarted(vm: &mut Vm) -> Result<(), ScenarioError> {
    let deadline = std::time::Instant::now() + crate::vm::patience(UPDATE);
    let before = vm.resets();
    loop {
        if vm.resets() > before {
            vm.wait_reset(Duration::from_secs(1))?;
            return Ok(());
        }
        // Not the word of an update before this one.
        let ended = vm.console().text_from(vm.cursor).contains("UPDATE-ENDED");
        if ended || std::time::Instant::now() > deadline {
            // The last seconds before a restart look the same: give it those.
            vm.wait_reset(Duration::from_secs(if ended { 30 } else { 1 }))?;
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// The update service runs to its end, without a restart. Its exit status.
pub fn update_without_restart(vm: &mut Vm) -> Result<i32, ScenarioError> {
    let before = vm.resets();
    let out = vm.run("systemctl start ast-autoupdate.service; while systemctl is-active -q ast-autoupdate.service; do sleep 0.5; done; systemctl show -P ExecMainStatus ast-autoupdate.service", UPDATE)?;
    assert_eq!(vm.resets(), before, "the machine restarted");
    Ok(out.stdout.trim().parse().unwrap_or(-1))
}

/// The deployment that runs.
pub fn booted(vm: &mut Vm) -> Result<u64, ScenarioError> {
    Ok(status(vm)?["booted"]["deployment"].as_u64().unwrap_or(0))
}
