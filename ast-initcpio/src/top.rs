//! Mounting the top level, also when the filesystem has been damaged: what can be repaired without losing what was synced is, and what cannot
//! is mounted read-only, since a machine that starts and says so can be reached.

use std::path::Path;

use ast::sys::mount::{Mounted, MsFlags};
use ast::sys::superblock;

use crate::error::Failure;
use crate::voice::Voice;

/// Ways into a damaged filesystem, the more trusting ones first. Source: btrfs(5), `rescue=`.
const RESCUES: [&str; 3] = ["nologreplay", "usebackuproot", "all"];

/// The top level of the btrfs on `device` is mounted at `at`. Says whether it can only be read.
///
/// If interrupted: see [`superblock`]; the next start begins anew.
pub fn mount(device: &Path, at: &Path, voice: &Voice) -> Result<(Mounted, bool), Failure> {
    let source = device.to_string_lossy();
    let with = |flags, data: &str| Mounted::new(&source, at, "btrfs", MsFlags::MS_NOATIME | flags, data);
    let writable = || with(MsFlags::empty(), "subvolid=5");
    let readable = |rescue: &str| with(MsFlags::MS_RDONLY, &format!("subvolid=5{rescue}"));

    let say = |text: &str| voice.error(&format!("{source}: {text}"));

    let failed = match writable() {
        Ok(top) => return Ok((top, false)),
        Err(error) => error,
    };
    say(&failed.to_string());
    match superblock::restore(device) {
        Ok(true) => {
            say("its first superblock was damaged and is a copy of the second now");
            if let Ok(top) = writable() {
                return Ok((top, false));
            }
        }
        Ok(false) => {}
        Err(error) => voice.warn(&error.to_string()),
    }
    if let Ok(top) = readable("") {
        say("it is mounted read-only: what is written now is lost");
        return Ok((top, true));
    }
    if log_is_in_the_way(device, &readable) {
        match superblock::drop_log(device) {
            Ok(()) => {
                say("its log was damaged and is dropped: what was written in the last seconds before the power went may be lost");
                if let Ok(top) = writable() {
                    return Ok((top, false));
                }
            }
            Err(error) => voice.warn(&error.to_string()),
        }
    }
    for rescue in RESCUES {
        if let Ok(top) = readable(&format!(",rescue={rescue}")) {
            say(&format!("it is damaged, and mounted read-only with rescue={rescue}: what is written now is lost"));
            return Ok((top, true));
        }
    }
    Err(failed.into())
}

/// Whether a log is all that keeps a filesystem from being read: it can be without, and could not be with it.
fn log_is_in_the_way(device: &Path, readable: &dyn Fn(&str) -> ast::sys::Result<Mounted>) -> bool {
    superblock::has_log(device) && readable(",rescue=nologreplay").is_ok_and(|top| top.unmount().is_ok())
}
