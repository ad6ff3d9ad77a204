//! What makes a machine of the lab out of a plain one: a console that a test can talk to, fixed identity, no surprises by timers.

use super::{Column, luks};
use ast::install::staging::Staging;
use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;

/// Kernel arguments that make an emulated machine faster or its console quieter; none changes what is booted.
const FAST: &str = "quiet loglevel=3 systemd.show_status=0 mitigations=off nokaslr tsc=reliable no_timer_check audit=0 cryptomgr.notests";
/// Every machine of the lab is the same one, so that a test can see whether an update kept its identity.
const MACHINE_ID: &str = "0123456789abcdef0123456789abcdef\n";
/// Stands for a host key: a file of the machine's own that no package knows. Nothing reads it.
const HOST_KEY: (&str, &str) = ("etc/ssh/ssh_host_ed25519_key", "not a key, but as dear as one\n");
/// At once, without waiting for a window or users.
const UPDATES: &str = "reboot = \"immediately\"\nignore_users = [\"root\"]\n";

/// The lab's own settings are in the new root.
pub fn settle(staging: &Staging, column: Column) -> Result<(), Box<dyn Error + Send + Sync>> {
    let write = |path: &str, text: &str| -> std::io::Result<()> {
        let path = staging.inside(path);
        path.parent().map(fs::create_dir_all).transpose()?;
        fs::write(&path, text)
    };
    write("etc/machine-id", MACHINE_ID)?;
    write(HOST_KEY.0, HOST_KEY.1)?;
    write("etc/hostname", "lab\n")?;
    write("etc/ast/autoupdate.toml", UPDATES)?;
    let defaults = fs::read_to_string(staging.inside("etc/default/grub"))?;
    let unlock = match column {
        Column::Efi214Luks => format!(" cryptdevice=UUID={}:ast cryptkey=rootfs:{}", luks::UUID, luks::KEY),
        Column::Efi214LuksSystemd => format!(" rd.luks.name={}=ast rd.luks.key={}", luks::UUID, luks::KEY),
        _ => String::new(),
    };
    let lines = defaults.lines().map(|line| match line.split_once('=') {
        Some(("GRUB_CMDLINE_LINUX_DEFAULT", _)) => format!("GRUB_CMDLINE_LINUX_DEFAULT=\"{FAST}{unlock}\""),
        Some(("GRUB_CMDLINE_LINUX", _)) => "GRUB_CMDLINE_LINUX=\"console=ttyS0,115200\"".to_owned(),
        Some(("GRUB_TIMEOUT", _)) => "GRUB_TIMEOUT=1".to_owned(),
        _ => line.to_owned(),
    });
    write("etc/default/grub", &(lines.collect::<Vec<_>>().join("\n") + "\n"))?;
    // Tests start the service themselves.
    let masked = staging.inside("etc/systemd/system/ast-autoupdate.timer");
    fs::create_dir_all(staging.inside("etc/systemd/system"))?;
    symlink("/dev/null", masked)?;
    Ok(())
}
