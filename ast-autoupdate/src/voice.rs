//! What people see: the unit's status line, the journal with message ids, and proof of life for the watchdog (U10).

use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;

/// Where journald listens; its protocol is `systemd.io/JOURNAL_NATIVE_PROTOCOL`.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Least time between two proofs of life (1 s): pacman can write thousands of lines.
const PING_EVERY: Duration = Duration::from_secs(1);

/// What a message is about: an id of the journal that never changes (`journalctl MESSAGE_ID=…`), and a priority of syslog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// A step of a cycle.
    Step,
    /// A cycle ended as it should.
    Ended,
    /// A cycle ended and somebody should look.
    Attention,
    /// A trial was armed.
    Armed,
    /// A trial was promoted.
    Promoted,
    /// A start is not well.
    Unhealthy,
    /// A start is well.
    Healthy,
    /// The machine is about to restart.
    Restart,
    /// Something to be seen that changes nothing.
    Warning,
}

impl Message {
    const fn id(self) -> &'static str {
        match self {
            Self::Step => "f6af91bd36a5420898d026e23faf3250",
            Self::Ended => "17c564f0812d4084937579dee100662e",
            Self::Attention => "9055986acf33448392991de3035d9185",
            Self::Armed => "fa02ace4c97343a8b5c945614814cd63",
            Self::Promoted => "e62d0bc989634e80b9d9ebc679714584",
            Self::Unhealthy => "ffc46c32031a4997a213ae7f23bbf8bf",
            Self::Healthy => "932e70eaaa1c4142b6993c6d8a0532ea",
            Self::Restart => "d9aecd1334204a85be9e5296c2a8004e",
            Self::Warning => "9e1f5cad5f0a437a96f9b2612aa11c73",
        }
    }

    /// 3 error, 4 warning, 5 notice, 6 info.
    const fn priority(self) -> u8 {
        match self {
            Self::Unhealthy => 3,
            Self::Attention | Self::Warning => 4,
            Self::Armed | Self::Promoted | Self::Restart => 5,
            Self::Step | Self::Ended | Self::Healthy => 6,
        }
    }
}

/// The way to people. Nothing here can fail the work: who cannot be told is not told.
#[derive(Debug)]
pub struct Voice {
    journal: Option<UnixDatagram>,
    pinged: Mutex<Option<Instant>>,
}

impl Voice {
    /// The journal if it listens, the error output otherwise.
    pub fn new() -> Self {
        let journal = UnixDatagram::unbound().and_then(|socket| socket.connect(JOURNAL).map(|()| socket)).ok();
        Self { journal, pinged: Mutex::new(None) }
    }

    /// The journal has `text`.
    pub fn say(&self, message: Message, text: &str) {
        let sent = self.journal.as_ref().is_some_and(|socket| socket.send(&record(message, text)).is_ok());
        if !sent {
            // The journal reads the level from the prefix when it captures this.
            writeln!(std::io::stderr(), "<{}>{text}", message.priority()).ok();
        }
    }

    /// The unit is up: a cycle may take hours, and nobody waits for it.
    pub fn ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// The unit's status line is `text`, which is progress.
    pub fn status(&self, text: &str) {
        notify(&[NotifyState::Status(&one_line(text))]);
        self.alive();
    }

    /// Something moved.
    pub fn alive(&self) {
        let mut pinged = self.pinged.lock().unwrap_or_else(PoisonError::into_inner);
        if pinged.is_none_or(|last| last.elapsed() >= PING_EVERY) {
            *pinged = Some(Instant::now());
            notify(&[NotifyState::Watchdog]);
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to notify.
    sd_notify::notify(false, states).ok();
}

/// `text` on one line: in both protocols a line break begins another assignment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// One record of the journal's native protocol.
fn record(message: Message, text: &str) -> Vec<u8> {
    let text = one_line(text);
    let fields =
        format!("MESSAGE={text}\nMESSAGE_ID={}\nPRIORITY={}\nSYSLOG_IDENTIFIER=ast-autoupdate\n", message.id(), message.priority());
    fields.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_forge_a_field_of_the_journal() {
        let record = String::from_utf8(record(Message::Ended, "well\nPRIORITY=0\nMESSAGE_ID=1")).expect("text");
        assert_eq!(record.lines().count(), 4);
        assert!(record.starts_with("MESSAGE=well PRIORITY=0 MESSAGE_ID=1\n"), "{record}");
    }

    #[test]
    fn every_message_has_its_own_id() {
        use Message::*;
        let all = [Step, Ended, Attention, Armed, Promoted, Unhealthy, Healthy, Restart, Warning];
        let ids: std::collections::BTreeSet<_> = all.iter().map(|m| m.id()).collect();
        assert_eq!(ids.len(), all.len());
        assert!(ids.iter().all(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())));
    }

    #[test]
    fn u10_the_ids_are_those_that_are_documented() {
        use Message::*;
        let documented = include_str!("../../docs/updates.md");
        let rows = documented.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(id, _)| id).filter(|id| id.len() == 32);
        let ours = [Armed, Promoted, Unhealthy, Healthy, Restart, Attention, Ended, Warning, Step].map(Message::id);
        assert_eq!(rows.collect::<Vec<_>>(), ours, "what is written there never changes, and nothing else is sent");
    }
}
