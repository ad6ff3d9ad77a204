//! Processes that a health check has left behind, out of its process group: they become our children, and are ended.

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Rounds of killing: each ends a generation of those that had children of their own.
const ROUNDS: u32 = 16;

/// Orphans below this process become its children from now on.
pub fn adopt() -> bool {
    nix::sys::prctl::set_child_subreaper(true).is_ok()
}

/// This process has no children left.
pub fn end() {
    for _ in 0..ROUNDS {
        let children = children();
        if children.is_empty() {
            return;
        }
        for child in children {
            // It may have ended by itself.
            kill(child, Signal::SIGKILL).ok();
            while matches!(waitpid(child, Some(WaitPidFlag::empty())), Ok(WaitStatus::StillAlive)) {}
        }
    }
}

fn children() -> Vec<Pid> {
    let path = format!("/proc/self/task/{}/children", nix::unistd::gettid());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok().map(Pid::from_raw)).collect()
}
