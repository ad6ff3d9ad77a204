//! Questions to a person at a terminal, each with what is taken when only Enter is pressed.

use std::io::{BufRead, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::termios::{self, LocalFlags, SetArg, SpecialCharacterIndices, Termios};

use super::error::{CommandError, Kind, chain};
use crate::exec::{ExecError, Invocation, Options, Program, run};

/// What `^C` is as a character, where it is no signal.
const INTERRUPT: u8 = 3;

/// What `parse` makes of the answer, asked for until it makes something of it. Nothing but Enter is `usual`.
///
/// Refuses: to go on when the input ends.
pub(super) fn ask<T>(question: &str, usual: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<T, CommandError> {
    loop {
        let line = line(&if usual.is_empty() { format!("{question}: ") } else { format!("{question} [{usual}]: ") })?;
        let text = if line.trim().is_empty() { usual } else { line.trim() };
        match parse(text) {
            Ok(value) => return Ok(value),
            Err(why) => eprintln!("{}", super::context::clean(&why)),
        }
    }
}

/// A password, typed twice and not shown, as a hash; `None` for an empty one.
pub(super) fn password(of_whom: &str) -> Result<Option<String>, CommandError> {
    loop {
        let first = secret(&format!("Password of {of_whom} (not shown; empty for none): "))?;
        if first.is_empty() {
            return Ok(None);
        }
        if first == secret("The same again: ")? {
            return hash(&first).map(Some).map_err(|error| {
                CommandError::new(Kind::World, format!("cannot make a hash of the password: {}", chain(&error)))
            });
        }
        eprintln!("these were two different passwords");
    }
}

/// As crypt(5) has it, with SHA-512: every system's libcrypt knows it.
fn hash(password: &str) -> Result<String, ExecError> {
    let invocation = Invocation::new(Program::Openssl).args(["passwd", "-6", "-stdin"]);
    let ended = run(&invocation, Options::capture().input(format!("{password}\n").as_bytes()))?.success()?;
    Ok(ended.text().trim().to_owned())
}

fn line(prompt: &str) -> Result<String, CommandError> {
    eprint!("{prompt}");
    let mut bytes = Vec::new();
    std::io::stderr().flush().and_then(|()| read(&mut bytes)).map_err(|error| CommandError::new(Kind::World, format!("cannot read the answer: {error}")))?;
    match bytes.pop() {
        Some(b'\n') => String::from_utf8(bytes).map_err(|_| CommandError::new(Kind::Usage, "the answer is no text (UTF-8)")),
        // The end of the input, or ^C.
        _ => {
            eprintln!();
            Err(CommandError::refused("left as it was"))
        }
    }
}

/// Up to the end of the line, `^C` or the end of the input.
fn read(into: &mut Vec<u8>) -> std::io::Result<()> {
    let mut stdin = std::io::stdin().lock();
    loop {
        let buffer = stdin.fill_buf()?;
        let end = buffer.iter().position(|byte| matches!(*byte, b'\n' | INTERRUPT)).map(|at| at + 1);
        let taken = end.unwrap_or(buffer.len());
        into.extend_from_slice(&buffer[..taken]);
        stdin.consume(taken);
        if end.is_some() || taken == 0 {
            return Ok(());
        }
    }
}

fn secret(prompt: &str) -> Result<String, CommandError> {
    let quiet = Quiet::begin().map_err(|errno| CommandError::new(Kind::World, format!("cannot keep what is typed off the screen: {errno}")))?;
    let typed = line(prompt);
    drop(quiet);
    eprintln!();
    typed
}

/// While it lives, what is typed is not shown. `^C` is a character that ends the line then: a signal would leave the terminal so.
struct Quiet {
    terminal: OwnedFd,
    before: Termios,
}

impl Quiet {
    fn begin() -> nix::Result<Self> {
        let terminal = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| nix::errno::Errno::EBADF)?;
        let before = termios::tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        if let Some(end) = quiet.control_chars.get_mut(SpecialCharacterIndices::VEOL as usize) {
            *end = INTERRUPT;
        }
        termios::tcsetattr(&terminal, SetArg::TCSADRAIN, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        termios::tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before).ok();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_password_becomes_a_hash_that_declarations_take() {
        let one = super::hash("it's \"$ecret\" ü").expect("openssl is here");
        assert!(one.starts_with("$6$"), "{one}");
        crate::apply::PasswordHash::try_from(one.clone()).expect("a hash");
        assert_ne!(one, super::hash("it's \"$ecret\" ü").expect("again"), "there is no salt in it");
    }
}
