//! Mounting the top level, also when the filesystem has been damaged: what can be repaired without losing what was synced is, and what cannot
//! is mounted read-only, since a machine that starts and says so can be reached.

use std::cell::RefCell;
use std::path::Path;

use ast::sys::mount::{Mounted, MsFlags};
use ast::sys::superblock;

use crate::disks::Disks;
use crate::error::Failure;
use crate::voice::Voice;

/// Ways into a damaged filesystem, the more trusting ones first. Source: btrfs(5), `rescue=`.
const RESCUES: [&str; 3] = ["nologreplay", "usebackuproot", "all"];

/// The filesystem is mounted though devices of it are not there. Source: btrfs(5).
const DEGRADED: &str = ",degraded";

/// The top level, and how it came to be mounted.
#[derive(Debug)]
pub struct Top {
    /// The mount.
    pub mounted: Mounted,
    /// Whether it can only be read.
    pub read_only: bool,
    /// What had to be done, a line each; nothing where all was well.
    pub done: Vec<String>,
}

/// The top level of the btrfs on `disks` is mounted at `at`, without those of its devices that are not there.
///
/// If interrupted: see [`superblock`]; the next start begins anew.
pub fn mount(disks: &Disks, at: &Path, voice: &Voice) -> Result<Top, Failure> {
    let (device, source) = (disks.first(), disks.first().to_string_lossy());
    let all = disks.options();
    let with = |flags, more: &str| Mounted::new(&source, at, "btrfs", MsFlags::MS_NOATIME | flags, &format!("subvolid=5{all}{more}"));
    let writable = |more: &str| with(MsFlags::empty(), more);

    let done = RefCell::new(Vec::new());
    let say = |text: String| {
        voice.error(&text);
        done.borrow_mut().push(text);
    };
    let top = |mounted, read_only| Top { mounted, read_only, done: done.take() };

    let failed = match writable(if disks.lack_some() { DEGRADED } else { "" }) {
        Ok(mounted) => return Ok(top(mounted, false)),
        Err(error) => error,
    };
    voice.error(&format!("{source}: {failed}"));
    // The kernel may take a device for missing that we see: one that was replaced while it was away.
    let lack = if disks.are_several() { DEGRADED } else { "" };
    let mut again = disks.are_several() && !disks.lack_some();
    for node in disks.nodes() {
        match superblock::restore(node) {
            Ok(true) => {
                say(format!("{}: its first superblock was damaged and is a copy of the second now", node.display()));
                again = true;
            }
            Ok(false) => {}
            Err(error) => voice.warn(&error.to_string()),
        }
    }
    if again && let Ok(mounted) = writable(lack) {
        return Ok(top(mounted, false));
    }
    let readable = |rescue: &str| with(MsFlags::MS_RDONLY, &format!("{lack}{rescue}"));
    if let Ok(mounted) = readable("") {
        say(format!("{source}: it is mounted read-only: what is written now is lost"));
        return Ok(top(mounted, true));
    }
    if log_is_in_the_way(device, &readable) {
        match superblock::drop_log(device) {
            Ok(()) => {
                say(format!(
                    "{source}: its log was damaged and is dropped: what was written in the last seconds before the power went may be lost"
                ));
                if let Ok(mounted) = writable(lack) {
                    return Ok(top(mounted, false));
                }
            }
            Err(error) => voice.warn(&error.to_string()),
        }
    }
    for rescue in RESCUES {
        if let Ok(mounted) = readable(&format!(",rescue={rescue}")) {
            say(format!("{source}: it is damaged, and mounted read-only with rescue={rescue}: what is written now is lost"));
            return Ok(top(mounted, true));
        }
    }
    Err(failed.into())
}

/// Whether a log is all that keeps a filesystem from being read: it can be without, and could not be with it.
fn log_is_in_the_way(device: &Path, readable: &dyn Fn(&str) -> ast::sys::Result<Mounted>) -> bool {
    superblock::has_log(device) && readable(",rescue=nologreplay").is_ok_and(|top| top.unmount().is_ok())
}
