//! How long each stage of a boot took, as the console and the guest tell it.

use super::ScenarioError;
use crate::vm::Vm;
use std::fmt;
use std::time::Duration;

/// Seconds of the stages of one boot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct BootTimes {
    /// From power on until GRUB hands over to the kernel: firmware, menu, loading.
    pub grub: f64,
    /// The kernel until it starts the initramfs.
    pub kernel: f64,
    /// The initramfs until systemd starts.
    pub initramfs: f64,
    /// systemd until everything that boot wants is up.
    pub systemd: f64,
    /// From power on to the root shell.
    pub shell: f64,
}

impl fmt::Display for BootTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grub, kernel, initramfs, systemd, shell } = self;
        write!(f, "grub {grub:.1} s, kernel {kernel:.1} s, initramfs {initramfs:.1} s, systemd {systemd:.1} s, shell after {shell:.1} s")
    }
}

/// The stages of the boot that `vm` has just done; `shell` is when its shell answered.
pub fn boot_times(vm: &mut Vm, shell: Duration) -> Result<BootTimes, ScenarioError> {
    let microseconds = |vm: &mut Vm, property: &str| -> Result<f64, ScenarioError> {
        let text = vm.sh(&format!("systemctl show --value --property {property}TimestampMonotonic"))?;
        Ok(text.trim().parse::<f64>().unwrap_or_default() / 1e6)
    };
    let userspace = microseconds(vm, "Userspace")?;
    let finish = microseconds(vm, "Finish")?;
    // The kernel says when it runs /init; its clock starts when GRUB ended.
    let said = vm.sh("dmesg | sed -n 's/^\\[ *\\([0-9.]*\\)\\] Run \\/init as init process.*/\\1/p'")?;
    let kernel = said.trim().parse().unwrap_or_default();
    let uptime = vm.sh("cat /proc/uptime")?;
    let now = uptime.split(' ').next().and_then(|t| t.parse::<f64>().ok()).unwrap_or_default();
    Ok(BootTimes {
        grub: (vm.elapsed().as_secs_f64() - now).max(0.0),
        kernel,
        initramfs: userspace - kernel,
        systemd: finish - userspace,
        shell: shell.as_secs_f64(),
    })
}
