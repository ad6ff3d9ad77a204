//! A person at the machine's console.
use super::{Vm, VmError, error::at};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr},
};
use std::{
    io::{self, IsTerminal, Stdin},
    os::fd::AsFd,
    time::Duration,
};

/// Ctrl-], as telnet has it.
const LEAVE: u8 = 0x1d;
/// Milliseconds after which the end of the machine is noticed.
const LOOK: u16 = 200;

impl Vm {
    /// What is typed at this terminal goes to the machine and what it says is shown, until Ctrl-] is pressed or the machine ends.
    pub fn attach(&mut self) -> Result<(), VmError> {
        let raw = RawTerminal::enter()?;
        self.console.state().raw_to_stdout = true;
        let result = self.forward();
        self.console.state().raw_to_stdout = false;
        drop(raw);
        self.skip();
        result
    }

    fn forward(&mut self) -> Result<(), VmError> {
        let input = io::stdin();
        let mut open = true;
        let mut bytes = [0; 256];
        while !self.console.state().closed {
            if !open {
                // Nobody can type: just look on.
                std::thread::sleep(Duration::from_millis(LOOK.into()));
                continue;
            }
            match poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], PollTimeout::from(LOOK)) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(e) => return at("/dev/stdin", Err(e.into())),
            }
            // Not through std's buffer: what waits there is not seen by poll.
            let n = at("/dev/stdin", nix::unistd::read(&input, &mut bytes).map_err(Into::into))?;
            let typed = bytes[..n].split(|byte| *byte == LEAVE).next().unwrap_or_default();
            self.send_bytes(typed)?;
            if typed.len() < n {
                break;
            }
            open = n > 0;
        }
        Ok(())
    }
}

/// The terminal passes every key on; as it was again on drop.
struct RawTerminal {
    input: Stdin,
    before: Option<Termios>,
}

impl RawTerminal {
    fn enter() -> Result<RawTerminal, VmError> {
        let input = io::stdin();
        if !input.is_terminal() {
            return Ok(RawTerminal { input, before: None });
        }
        let before = at("/dev/stdin", tcgetattr(&input).map_err(Into::into))?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        at("/dev/stdin", tcsetattr(&input, SetArg::TCSANOW, &raw).map_err(Into::into))?;
        Ok(RawTerminal { input, before: Some(before) })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            tcsetattr(&self.input, SetArg::TCSANOW, before).ok();
        }
    }
}
