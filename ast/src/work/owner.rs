//! Whose a working copy is: its name says it, so there is no moment at which a live copy looks like garbage (S7).

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::{SysError, file};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Digits of the boot id that are kept: enough that two boots of one machine differ.
const BOOT_DIGITS: usize = 8;

/// Name of a working copy: `PID-STARTTIME-BOOT-NUMBER`, its owner and a number that the owner counts.
///
/// A process id alone may be used again; with the time at which its process started and the boot it is unique.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pid: u32,
    /// Clock ticks between boot and the start of the process.
    started: u64,
    boot: String,
    number: u32,
}

impl Token {
    /// A name for the next working copy of this process.
    pub fn next() -> Result<Self, SysError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let started = start_time(pid)?.ok_or_else(|| SysError {
            action: "read the start time in",
            path: stat_path(pid).into(),
            source: std::io::ErrorKind::InvalidData.into(),
        })?;
        Ok(Self { pid, started, boot: boot_id()?, number: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Whether the owner still runs. When in doubt (its record cannot be read), yes: garbage is kept rather than work lost.
    pub fn is_alive(&self) -> bool {
        match (boot_id(), start_time(self.pid)) {
            (Ok(boot), _) if boot != self.boot => false,
            (_, Ok(started)) => started == Some(self.started),
            _ => true,
        }
    }

    /// The process that made it.
    pub const fn pid(&self) -> u32 {
        self.pid
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.pid, self.started, self.boot, self.number)
    }
}

/// A name in `work/` that is not one of ours.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the name of a working copy")]
pub struct ParseTokenError(String);

impl FromStr for Token {
    type Err = ParseTokenError;
    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let bad = || ParseTokenError(text.chars().take(60).collect());
        let mut words = text.split('-');
        let mut next = || words.next().ok_or_else(bad);
        let token = Self {
            pid: next()?.parse().map_err(|_| bad())?,
            started: next()?.parse().map_err(|_| bad())?,
            boot: next()?.to_owned(),
            number: next()?.parse().map_err(|_| bad())?,
        };
        // Written back it is the same text: no signs, leading zeros or more words.
        if token.to_string() == text { Ok(token) } else { Err(bad()) }
    }
}

fn stat_path(pid: u32) -> String {
    format!("/proc/{pid}/stat")
}

/// Start time of a process in clock ticks after boot; `None` when there is no such process.
fn start_time(pid: u32) -> Result<Option<u64>, SysError> {
    // proc(5): the name in parentheses may hold anything; the start time is field 22, the 20th after it.
    let stat = match file::read_if_exists(Path::new(&stat_path(pid))) {
        Err(error) if error.errno() == Some(nix::errno::Errno::ESRCH) => None,
        other => other?,
    };
    Ok(stat.and_then(|stat| {
        let text = String::from_utf8_lossy(&stat).into_owned();
        let (_, after) = text.rsplit_once(')')?;
        after.split_whitespace().nth(19)?.parse().ok()
    }))
}

fn boot_id() -> Result<String, SysError> {
    let text = String::from_utf8_lossy(&file::read(Path::new(BOOT_ID))?).into_owned();
    Ok(text.chars().take(BOOT_DIGITS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_a_live_owner_is_known_by_its_name() {
        let mine = Token::next().expect("a token");
        assert!(mine.is_alive());
        assert_ne!(mine, Token::next().expect("another"));
        assert_eq!(mine.to_string().parse(), Ok(mine.clone()));
        assert!(!Token { boot: "00000000".into(), ..mine.clone() }.is_alive(), "another boot");
        assert!(!Token { started: mine.started + 1, ..mine.clone() }.is_alive(), "the process id was used again");
        assert!(!Token { pid: 4_194_305, ..mine }.is_alive(), "above the largest process id");
    }

    #[test]
    fn other_names_are_no_tokens() {
        for text in ["", "1-2-abc", "1-2-abc-4-5", "+1-2-abc-4", "01-2-abc-4", "1-2-abc-x", "../1-2-3"] {
            assert!(text.parse::<Token>().is_err(), "{text:?}");
        }
    }
}
