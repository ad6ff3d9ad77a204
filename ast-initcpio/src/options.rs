//! The few arguments of this program. No library for them: it would double the size of what GRUB has to load.

use std::path::PathBuf;
use std::time::Duration;

use ast::layout::SNAPSHOTS_MOUNT;

/// How long to wait for the root's device, in seconds: slow disks on USB or behind a controller take up to a minute.
const DEVICE_WAIT: u64 = 90;

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
    /// Status of the watchdog at this start.
    pub bootstatus: PathBuf,
    /// Where the running system sees `@.snapshots`.
    pub snapshots: PathBuf,
    /// How long to wait for the root's device.
    pub wait: Duration,
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
            bootstatus: "/sys/class/watchdog/watchdog0/bootstatus".into(),
            snapshots: SNAPSHOTS_MOUNT.into(),
            wait: Duration::from_secs(DEVICE_WAIT),
            no_restart: false,
        }
    }
}

/// The command in these arguments, or how it is used.
pub fn parse(arguments: &[String]) -> Result<Command, &'static str> {
    const USAGE: &str = "usage: ast-initcpio mount DIRECTORY | ast-initcpio evidence TEXT | ast-initcpio restart\n\
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
            "--bootstatus" => options.bootstatus = value()?.into(),
            "--snapshots" => options.snapshots = value()?.into(),
            "--wait" => options.wait = Duration::from_secs(value()?.parse().map_err(|_| USAGE)?),
            "--no-restart" => options.no_restart = true,
            option if option.starts_with("--") => return Err(USAGE),
            word => words.push(word),
        }
    }
    match words.as_slice() {
        ["mount", new_root] => Ok(Command::Mount { new_root: (*new_root).into(), options }),
        ["evidence", what @ ..] if !what.is_empty() => Ok(Command::Evidence { what: what.join(" "), options }),
        ["restart"] => Ok(Command::Restart { options }),
        _ => Err(USAGE),
    }
}
