//! Messages: into the kernel's log, which shows them on the console by their level.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// Most bytes of one message: the kernel refuses records of about 1,000.
const MAX_BYTES: usize = 900;

/// How loud a message is, as in syslog.
#[derive(Debug, Clone, Copy)]
pub enum Level {
    /// On the console of a machine that boots with `quiet`.
    Error = 3,
    /// On the console of others.
    Warning = 4,
    /// In the log.
    Info = 6,
}

/// The only way in which this program speaks.
#[derive(Debug)]
pub struct Voice {
    kmsg: PathBuf,
}

impl Voice {
    /// Speaks into `kmsg`.
    pub fn new(kmsg: PathBuf) -> Self {
        Self { kmsg }
    }

    /// The kernel's log has this line; without it, standard error has.
    pub fn say(&self, level: Level, text: &str) {
        let line = record(level, text);
        // Opened for each message: the kernel drops all but ten of an open file in five seconds, and reports success.
        let written = OpenOptions::new().append(true).open(&self.kmsg).and_then(|mut file| file.write_all(line.as_bytes()));
        if written.is_err() {
            eprintln!("{}", line.trim_end());
        }
    }

    /// Something is wrong, and somebody in front of the machine should see it.
    pub fn error(&self, text: &str) {
        self.say(Level::Error, text);
    }

    /// Something is not as it should be, and the boot goes on.
    pub fn warn(&self, text: &str) {
        self.say(Level::Warning, text);
    }
}

/// The bytes of one record.
fn record(level: Level, text: &str) -> String {
    let mut line = format!("<{}>ast: {}", level as u8, text.replace(char::is_control, " "));
    while line.len() >= MAX_BYTES {
        line.pop();
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_that_the_kernel_takes() {
        assert_eq!(record(Level::Warning, "a\nb\u{1b}[2J"), "<4>ast: a b [2J\n");
        for text in ["ä".repeat(2000), format!("a{}", "ä".repeat(2000)), "a".repeat(2000)] {
            let length = record(Level::Error, &text).len();
            assert!(length <= MAX_BYTES && length > MAX_BYTES - 3, "{length} bytes");
        }
    }
}
