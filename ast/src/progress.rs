//! Which step of long work is done now, for whoever watches: the one seam between the rooms that work and the command line that shows it.
//! Without somebody who watches (a service, a pipe, a test) nothing happens.

use std::fmt::Display;
use std::sync::OnceLock;

/// A step that begins.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Which, from 1.
    pub number: usize,
    /// Of how many.
    pub of: usize,
    /// In words, on one line.
    pub what: &'a dyn Display,
    /// Whether it is known to take longer than a moment.
    pub long: bool,
}

impl std::fmt::Debug for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}/{}] {}", self.number, self.of, self.what)
    }
}

static WATCHER: OnceLock<fn(Step<'_>)> = OnceLock::new();

/// From here on `watcher` is told of each step. The first one stays.
pub fn watch(watcher: fn(Step<'_>)) {
    // Set twice only by a second call in one process.
    WATCHER.get_or_init(|| watcher);
}

/// A step begins that is mostly over in a moment.
pub fn step(number: usize, of: usize, what: &dyn Display) {
    tell(Step { number, of, what, long: false });
}

/// A step begins that takes seconds, or minutes.
pub fn long_step(number: usize, of: usize, what: &dyn Display) {
    tell(Step { number, of, what, long: true });
}

fn tell(step: Step<'_>) {
    if let Some(watcher) = WATCHER.get() {
        watcher(step);
    }
}
