//! The few arguments of this program. No library for them: it would double the size of what GRUB has to load.

use std::path::PathBuf;
use std::time::Duration;

use ast::layout::SNAPSHOTS_MOUNT;

/// How long to wait for the root's device, in seconds: as long as systemd waits for a device (systemd-system.conf(5),
/// `DefaultDeviceTimeoutSec`). Linux itself gives a disk up that has not answered for a minute (drivers/ata/libata-eh.c,
/// `ata_eh_reset_timeouts`: 10, 10, 35 and 5 seconds), and its controller may have to come first.
const DEVICE_WAIT: u64 = 90;
/// How long to wait for the other devices of its filesystem once one is there, in seconds: that minute. All of them got their power
/// at once, and a disk that is left out because it is slow is one that has to be mended.
const OTHERS_WAIT: u64 = 60;

/// What to do.
#[derive(Debug)]
pub enum Command {
    /// Mount a root.
    Mount {
        /// Where.
        new_root: PathBuf,
        /// With these.
        options: Options,
    },
    /// Write down that this start of a trial failed. For units of a trial, in the running system.
    Evidence {
        /// Why, in words.
        what: String,
        /// With these.
        options: Options,
    },
    /// The machine restarts, because the initramfs cannot go on. For the emergency of a systemd initramfs.
    Restart {
        /// With these.
        options: Options,
    },
    /// The watchdog stands still, if this program armed it. For the shell of a systemd initramfs.
    Disarm {
        /// With these.
        options: Options,
    },
}

/// What the kernel offers, and where. Tests replace single ones; nothing that mounts is ever replaced.
#[derive(Debug, Clone)]
pub struct Options {
    /// The kernel command line.
    pub cmdline: PathBuf,
    /// Where messages go.
    pub kmsg: PathBuf,
    /// The hardware watchdog.
    pub watchdog: PathBuf,
    /// Where pstore is mounted to be looked at; tests name a directory that holds records.
    pub pstore: Option<PathBuf>,
    /// Whether the firmware keeps no records of crashes, as the kernel's configuration may have it.
    pub pstore_switch: PathBuf,
    /// Status of the watchdog at this start.
    pub bootstatus: PathBuf,
    /// Where the running system sees `@.snapshots`.
    pub snapshots: PathBuf,
    /// Where udev puts its links to disks.
    pub disks: PathBuf,
    /// How long to wait for the root's device.
    pub wait: Duration,
    /// How long to wait, after that, for the others of its filesystem.
    pub wait_others: Duration,
    /// Say `restart` and end with status 3 instead of restarting.
    pub no_restart: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cmdline: "/proc/cmdline".into(),
            kmsg: "/dev/kmsg".into(),
            watchdog: "/dev/watchdog".into(),
            pstore: None,
            pstore_switch: "/sys/module/efi_pstore/parameters/pstore_disable".into(),
            bootstatus: "/sys/class/watchdog/watchdog0/bootstatus".into(),
            snapshots: SNAPSHOTS_MOUNT.into(),
            disks: "/dev/disk".into(),
            wait: Duration::from_secs(DEVICE_WAIT),
            wait_others: Duration::from_secs(OTHERS_WAIT),
            no_restart: false,
        }
    }
}

impl Options {
    /// Devices are awaited for so many seconds: the root's, and then the others of its filesystem.
    pub fn wait_for(&mut self, seconds: u64) {
        self.wait = Duration::from_secs(seconds);
        self.wait_others = self.wait;
    }
}

/// The command in these arguments, or how it is used.
pub fn parse(arguments: &[String]) -> Result<Command, &'static str> {
    const USAGE: &str = "usage: ast-initcpio mount DIRECTORY | ast-initcpio evidence TEXT | ast-initcpio restart | ast-initcpio disarm\n\
                         Called by the hooks and units of ast, not by people.";
    let mut options = Options::default();
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or(USAGE);
        match word.as_str() {
            "--cmdline" => options.cmdline = value()?.into(),
            "--kmsg" => options.kmsg = value()?.into(),
            "--watchdog" => options.watchdog = value()?.into(),
            "--pstore" => options.pstore = Some(value()?.into()),
            "--pstore-switch" => options.pstore_switch = value()?.into(),
            "--bootstatus" => options.bootstatus = value()?.into(),
            "--snapshots" => options.snapshots = value()?.into(),
            "--disks" => options.disks = value()?.into(),
            "--wait" => options.wait_for(value()?.parse().map_err(|_| USAGE)?),
            "--no-restart" => options.no_restart = true,
            option if option.starts_with("--") => return Err(USAGE),
            word => words.push(word),
        }
    }
    match words.as_slice() {
        ["mount", new_root] => Ok(Command::Mount { new_root: (*new_root).into(), options }),
        ["evidence", what @ ..] if !what.is_empty() => Ok(Command::Evidence { what: what.join(" "), options }),
        ["restart"] => Ok(Command::Restart { options }),
        ["disarm"] => Ok(Command::Disarm { options }),
        _ => Err(USAGE),
    }
}
