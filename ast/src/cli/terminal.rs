//! What only a person at a terminal sees: colours, and which step is done now.

use std::io::{IsTerminal, Stderr, Stdout, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};

use super::context::Global;
use crate::progress::{self, Step};

/// Work that is over before is not worth a line: half a screen of steps would hide what was asked for.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What something is, which its colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Well,
    /// Somebody should know.
    Notice,
    /// Somebody should do something.
    Bad,
    /// What this is about.
    Strong,
    /// Beside the point.
    Faint,
}

impl Tone {
    const fn style(self) -> Style {
        let plain = Style::new();
        match self {
            Self::Well => plain.fg_color(Some(anstyle::Color::Ansi(AnsiColor::Green))),
            Self::Notice => plain.fg_color(Some(anstyle::Color::Ansi(AnsiColor::Yellow))),
            Self::Bad => plain.fg_color(Some(anstyle::Color::Ansi(AnsiColor::Red))).bold(),
            Self::Strong => plain.bold(),
            Self::Faint => plain.dimmed(),
        }
    }
}

/// Whether and how something is coloured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paint(bool);

impl Paint {
    /// For standard output.
    pub(super) fn stdout() -> Self {
        Self(wanted::<Stdout>(&std::io::stdout()))
    }

    /// For standard error.
    pub(super) fn stderr() -> Self {
        Self(wanted::<Stderr>(&std::io::stderr()))
    }

    /// Whether there are colours.
    pub(super) const fn is_on(self) -> bool {
        self.0
    }

    /// The text in its colour, or as it is.
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        if !self.0 || text.is_empty() {
            return text.to_owned();
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }
}

/// Whether colours are for this stream: a terminal that has them, and a person who did not say no (no-color.org).
fn wanted<T: IsTerminal>(stream: &T) -> bool {
    stream.is_terminal() && !anstyle_query::no_color() && anstyle_query::term_supports_color()
}

/// From here on the steps of long work are on standard error, if that is a terminal and less was not asked for.
pub(super) fn show_steps(global: &Global) {
    if global.quiet || !std::io::stderr().is_terminal() {
        return;
    }
    began();
    progress::watch(show);
}

fn began() -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    *BEGAN.get_or_init(Instant::now)
}

fn show(step: Step<'_>) {
    if step.long || began().elapsed() >= at_once() {
        let line = Paint::stderr().tone(Tone::Faint, &super::context::clean(&step.to_string()));
        // A terminal that is gone is no reason to stop in the middle of it.
        drop(writeln!(std::io::stderr(), "{line}"));
    }
}

/// [`AT_ONCE`], or in a debug build what a test says: it has no slow disk.
fn at_once() -> Duration {
    let shorter = std::env::var("AST_AT_ONCE").ok().filter(|_| cfg!(debug_assertions));
    shorter.and_then(|millis| millis.parse().ok()).map_or(AT_ONCE, Duration::from_millis)
}
