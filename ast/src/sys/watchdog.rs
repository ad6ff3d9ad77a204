//! A hardware watchdog: opened it runs, and resets the machine unless somebody feeds it.
//! Source of numbers: Linux `include/uapi/linux/watchdog.h`.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use super::{At, Result};

nix::ioctl_read!(
    /// `WDIOC_KEEPALIVE`
    keep_alive, b'W', 5, i32);
nix::ioctl_readwrite!(
    /// `WDIOC_SETTIMEOUT`, in seconds
    set_timeout, b'W', 6, i32);
nix::ioctl_read!(
    /// `WDIOC_GETTIMEOUT`, in seconds
    get_timeout, b'W', 7, i32);

/// A running watchdog. Dropped it runs on: the next to open it, systemd, takes it over.
#[derive(Debug)]
pub struct Watchdog {
    file: File,
    path: PathBuf,
}

impl Watchdog {
    /// The watchdog at `node` runs.
    ///
    /// If interrupted: it may run already, with its own timeout.
    pub fn arm(node: &Path) -> Result<Self> {
        let file = OpenOptions::new().write(true).open(node).at("arm the watchdog", node)?;
        Ok(Self { file, path: node.to_owned() })
    }

    /// It now resets the machine after `seconds` without food, or after the longest time below that the hardware knows. Gives that time.
    pub fn set_seconds(&self, seconds: i32) -> Result<i32> {
        let mut wanted = seconds;
        loop {
            let mut value = wanted;
            // SAFETY: the kernel reads and writes one int, which lives through the call.
            match unsafe { set_timeout(self.file.as_raw_fd(), &raw mut value) } {
                Ok(_) => return Ok(value),
                // Half as long, until the hardware takes it: there is no call that tells its limit.
                Err(nix::errno::Errno::EINVAL) if wanted > 1 => wanted /= 2,
                Err(error) => {
                    // SAFETY: as above.
                    let result = unsafe { get_timeout(self.file.as_raw_fd(), &raw mut value) };
                    return result.map(|_| value).map_err(|_| error).at("set the time of the watchdog", &self.path);
                }
            }
        }
    }

    /// Its time begins anew.
    pub fn feed(&self) -> Result<()> {
        let mut nothing = 0;
        // SAFETY: the kernel writes at most one int, which lives through the call.
        unsafe { keep_alive(self.file.as_raw_fd(), &raw mut nothing) }.map(drop).at("feed the watchdog", &self.path)
    }

    /// It stands still, unless the driver was loaded with `nowayout`.
    pub fn disarm(mut self) -> Result<()> {
        // The letter before closing is the kernel's sign that this is not a crash.
        self.file.write_all(b"V").at("disarm the watchdog", &self.path)
    }
}
