//! The serial console: a thread that reads, timestamps and logs; a buffer that is searched.
use super::{VmError, clean::Cleaner, error::at};
use std::{
    fmt,
    fs::File,
    io::{Read, Write},
    num::NonZero,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Rows and columns of the terminal that is emulated to read menus; GRUB assumes 80×24 on a serial line.
const SCREEN: (NonZero<u16>, NonZero<u16>) = (NonZero::new(24).unwrap(), NonZero::new(80).unwrap());
/// The console comes a few bytes at a time; searching after each would cost more than the guest itself.
const GATHER: Duration = Duration::from_millis(10);
/// How many lines of the console an error shows.
const TAIL_LINES: usize = 30;

/// One machine's console output since it was started.
pub struct Console {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    grew: Condvar,
}

/// Everything the guest has said.
pub(crate) struct State {
    /// Plain text: no escape sequences, lines end in `\n`.
    pub text: Vec<u8>,
    /// When the text reached a length: (offset, time since start).
    marks: Vec<(usize, Duration)>,
    /// What a terminal would show now.
    pub screen: vt100::Parser,
    /// The emulator closed its end.
    pub closed: bool,
    /// Copy raw bytes to the driver's terminal, for `attach`.
    pub raw_to_stdout: bool,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("bytes", &self.state().text.len()).finish_non_exhaustive()
    }
}

/// A piece of console output that matched a pattern.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The whole match.
    pub text: String,
    /// Its groups; group 0 is the whole match.
    pub groups: Vec<Option<String>>,
    /// When its last byte came, since the start of the machine.
    pub at: Duration,
}

/// Why a wait ended without a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoResult {
    Timeout,
    Closed,
}

impl Console {
    /// Reads `output` until it ends, into memory and, with the time of each line, into the file `log`. `echo` copies the log to stderr.
    pub(crate) fn start(mut output: impl Read + Send + 'static, log: &Path, started: Instant, echo: bool) -> Result<Console, VmError> {
        let mut log_file = Log { file: at(log, File::options().create(true).append(true).open(log))?, echo };
        let state = State { text: Vec::new(), marks: Vec::new(), screen: terminal(), closed: false, raw_to_stdout: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), grew: Condvar::new() });
        let theirs = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut cleaner = Cleaner::default();
            let mut buffer = [0u8; 16384];
            let (mut line_start, mut line_time) = (0, Duration::ZERO);
            loop {
                let n = match output.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(n) => n,
                };
                let now = started.elapsed();
                let mut state = lock(&theirs.state);
                let before = state.text.len();
                cleaner.feed(&buffer[..n], &mut state.text);
                state.screen.process(&buffer[..n]);
                let after = state.text.len();
                state.marks.push((after, now));
                if state.raw_to_stdout {
                    let mut out = std::io::stdout();
                    out.write_all(&buffer[..n]).and_then(|()| out.flush()).ok();
                }
                if before == line_start {
                    line_time = now;
                }
                while let Some(len) = state.text[line_start..].iter().position(|b| *b == b'\n') {
                    log_file.line(line_time, &state.text[line_start..line_start + len]);
                    line_start += len + 1;
                    line_time = now;
                }
                theirs.grew.notify_all();
            }
            let mut state = lock(&theirs.state);
            log_file.line(line_time, &state.text[line_start..]);
            log_file.line(started.elapsed(), b"-- console closed --");
            state.closed = true;
            theirs.grew.notify_all();
        });
        Ok(Console { shared })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.state)
    }

    /// Length of the text so far: a place to search from later.
    pub fn position(&self) -> usize {
        self.state().text.len()
    }

    /// Everything the guest has said from `position` on.
    pub fn text_from(&self, position: usize) -> String {
        let state = self.state();
        String::from_utf8_lossy(&state.text[position.min(state.text.len())..]).into_owned()
    }

    /// The last lines, for messages.
    pub fn tail(&self) -> String {
        let text = self.text_from(0);
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// When the byte at `offset` came, since the start of the machine.
    pub fn time_of(&self, offset: usize) -> Duration {
        let state = self.state();
        let index = state.marks.partition_point(|(end, _)| *end <= offset);
        state.marks.get(index).or(state.marks.last()).map_or(Duration::ZERO, |(_, time)| *time)
    }

    /// The terminal is empty again, as after its power was off.
    pub(crate) fn clear_screen(&self) {
        self.state().screen = terminal();
    }

    /// Calls `look` on everything said so far, again whenever more was said, until it returns something.
    pub(crate) fn wait<T>(&self, patience: Duration, mut look: impl FnMut(&State) -> Option<T>) -> Result<T, NoResult> {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state) {
                return Ok(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if state.closed || left.is_zero() {
                return Err(if state.closed { NoResult::Closed } else { NoResult::Timeout });
            }
            state = match self.shared.grew.wait_timeout(state, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
            if !state.closed {
                drop(state);
                std::thread::sleep(GATHER);
                state = self.state();
            }
        }
    }
}

fn terminal() -> vt100::Parser {
    vt100::Parser::new(SCREEN.0, SCREEN.1, 0)
}

/// A poisoned lock only says that another thread failed; its text is still what the guest said.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Log {
    file: File,
    echo: bool,
}

impl Log {
    fn line(&mut self, time: Duration, line: &[u8]) {
        let line = String::from_utf8_lossy(line);
        if line.trim().is_empty() {
            return;
        }
        let line = format!("[{:8.3}] {}\n", time.as_secs_f64(), line.trim_end());
        self.file.write_all(line.as_bytes()).ok();
        if self.echo {
            eprint!("{line}");
        }
    }
}
