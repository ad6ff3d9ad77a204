//! Interrupts from the keyboard, while a program has the terminal.
#![allow(unsafe_code)]

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// What a keyboard sends to everybody in the foreground.
const OF_KEYBOARD: [Signal; 2] = [Signal::SIGINT, Signal::SIGQUIT];

/// While it lives, `^C` and `^\` end the program that has the terminal and not us: they reach both, and we have to clear up after it.
///
/// The handlers do nothing, and unlike an ignored signal they are not inherited by what is started.
///
/// To be held by the thread that the program was asked for in, not by one made to run it: the kernel gives a signal to whichever
/// thread it likes, first of all to the main one, and a program can end of it before that thread has come around to its own. One
/// that has waited for the other since has taken it.
#[derive(Debug)]
#[must_use = "interrupts end us again when this is dropped"]
pub struct LeftToProgram {
    before: Vec<(Signal, SigAction)>,
}

impl LeftToProgram {
    /// From now on. What cannot be set stays as it is: then `^C` ends us too, and what is left is cleared by the next command.
    pub fn begin() -> Self {
        let nothing = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing, so it may run at any point.
        let set = |signal| unsafe { sigaction(signal, &nothing) }.ok().map(|before| (signal, before));
        Self { before: OF_KEYBOARD.into_iter().filter_map(set).collect() }
    }
}

impl Drop for LeftToProgram {
    fn drop(&mut self) {
        for (signal, before) in &self.before {
            // SAFETY: it is what was set before, by whoever set it.
            unsafe { sigaction(*signal, before) }.ok();
        }
    }
}

extern "C" fn nothing(_: nix::libc::c_int) {}
