//! The terminal around a shell in a working copy.

use std::io::{IsTerminal, stdin};
use std::path::PathBuf;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{Pid, getpgrp, tcsetpgrp};

/// The caller's terminal, if its input is one.
pub(super) fn of_caller() -> Option<PathBuf> {
    stdin().is_terminal().then(|| std::fs::read_link("/proc/self/fd/0").ok()).flatten()
}

/// Gives the terminal back to this process group when dropped: a shell that was killed did not.
#[derive(Debug)]
pub(super) struct GiveBack {
    group: Pid,
}

impl GiveBack {
    /// Remembers who has the terminal.
    pub(super) fn new() -> Option<Self> {
        stdin().is_terminal().then(|| Self { group: getpgrp() })
    }
}

impl Drop for GiveBack {
    fn drop(&mut self) {
        // From the background this call stops the caller, unless the signal for that is blocked.
        let mut stop = SigSet::empty();
        stop.add(Signal::SIGTTOU);
        let before = stop.thread_swap_mask(SigmaskHow::SIG_BLOCK);
        // Without a terminal any more there is nothing to give back.
        tcsetpgrp(stdin(), self.group).ok();
        if let Ok(before) = before {
            before.thread_set_mask().ok();
        }
    }
}
