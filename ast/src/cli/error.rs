//! What went wrong, as a person and a script see it: one place for kinds, exit codes, hints and print.

use std::fmt::{Display, Write as _};
use std::process::ExitCode;

use super::terminal::{Paint, Tone};

/// Kind of a failure; its exit code is part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// pacman, a disk, the kernel: something outside failed.
    World,
    /// The words do not make a command.
    Usage,
    /// A rule of the tree forbids it.
    Refused,
    /// Another ast is at work.
    Locked,
    /// Done, but somebody should look.
    Attention,
    /// Our mistake.
    Bug,
}

impl Kind {
    /// The exit code: 1, 2, 3, 4, 5 or 70.
    pub fn code(self) -> u8 {
        match self {
            Self::World => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Locked => 4,
            Self::Attention => 5,
            Self::Bug => 70,
        }
    }
}

/// A command that did not end well: what, why, and the way out.
#[derive(Debug)]
pub struct CommandError {
    /// Which exit code.
    pub kind: Kind,
    /// The object and the cause.
    pub message: String,
    /// What to do next, one per line.
    pub hints: Vec<String>,
}

/// Characters of a line of a message: more than any path has. An error of a parser quotes a line of its file, which may be megabytes.
const LINE: usize = 4096;

fn shortened(text: &str) -> String {
    let short = |line: &str| match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default().trim_end()),
        None => line.to_owned(),
    };
    text.split('\n').map(short).collect::<Vec<_>>().join("\n")
}

impl CommandError {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Display) -> Self {
        Self { kind, message: shortened(&message.to_string()), hints: Vec::new() }
    }

    /// A failure outside, from an error with its sources.
    pub fn world(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(Kind::World, chain(error))
    }

    /// A rule that forbids it.
    pub fn refused(message: impl Display) -> Self {
        Self::new(Kind::Refused, message)
    }

    /// The same with a way out.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Prints to standard error and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let paint = Paint::stderr();
        let tone = if self.kind == Kind::Attention { Tone::Notice } else { Tone::Bad };
        let mut text = format!("{} {}\n", paint.tone(tone, "ast:"), self.message);
        for hint in &self.hints {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "{} {hint}", paint.tone(Tone::Strong, "hint:"));
        }
        eprint!("{text}");
        ExitCode::from(self.kind.code())
    }
}

/// An error and its sources on one line, none said twice.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

impl From<crate::sys::SysError> for CommandError {
    fn from(error: crate::sys::SysError) -> Self {
        Self::world(&error)
    }
}
