//! A person at the guest's console.
use super::{Vm, VmError};
use nix::sys::termios::{self, SetArg};
use std::io::{IsTerminal, Read};
use std::time::Duration;

/// Ends the attachment: Ctrl-], as in telnet.
const END: u8 = 0x1d;

impl Vm {
    /// The caller's terminal is the machine's console until Ctrl-] is typed or the machine ends.
    pub fn attach(&mut self) -> Result<(), VmError> {
        let stdin = std::io::stdin();
        let before = stdin.is_terminal().then(|| termios::tcgetattr(&stdin)).and_then(Result::ok);
        if let Some(mut raw) = before.clone() {
            termios::cfmakeraw(&mut raw);
            termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok();
        }
        self.console.state().raw_to_stdout = true;
        let ended = self.relay();
        self.console.state().raw_to_stdout = false;
        if let Some(before) = before {
            termios::tcsetattr(&stdin, SetArg::TCSANOW, &before).ok();
        }
        ended
    }

    fn relay(&mut self) -> Result<(), VmError> {
        let (typed, keys) = std::sync::mpsc::channel();
        // The thread may stay behind in its read; the process ends soon after.
        std::thread::spawn(move || {
            let mut buffer = [0; 256];
            while let Ok(n @ 1..) = std::io::stdin().read(&mut buffer) {
                if typed.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        while !self.console.state().closed {
            match keys.recv_timeout(Duration::from_millis(100)) {
                Ok(bytes) if bytes.contains(&END) => break,
                Ok(bytes) => self.send(&String::from_utf8_lossy(&bytes))?,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
                // No terminal: just look on.
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_millis(100)),
            }
        }
        Ok(())
    }
}
