//! The one runner: cleared environment, streams, a time limit, cancelling, and the tail of what it said.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read, Seek as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::{ExecError, Invocation};
use crate::sys::namespace;
use crate::sys::signal::LeftToProgram;

/// How much of each captured stream is kept, its end (1 MiB: the whole of any list that we ask for, not of a runaway).
const KEPT: usize = 1 << 20;
/// Lines and bytes of error output that an error message carries.
const TAIL_LINES: usize = 12;
const TAIL_BYTES: usize = 2048;
/// How often time limit and cancelling are looked at while nothing else happens (100 ms: not felt, not busy).
const TICK: Duration = Duration::from_millis(100);
/// The `PATH` of everything that we start.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Variables that are passed on when set: the terminal's, the user's editor, the way out to the network.
const PASSED: [&str; 15] = [
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "EDITOR",
    "VISUAL",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "FTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
];

/// Where a program's streams go.
pub enum Streams<'a> {
    /// All three are the caller's: for a shell. Nothing is kept.
    Terminal,
    /// Output is the caller's (so progress bars work), error output is shown and kept; no input.
    Show,
    /// Both are kept and nothing is shown; no input.
    Capture,
    /// As `Capture`, and each line of either stream is handed over when it is complete: proof of progress.
    Lines(&'a mut (dyn FnMut(&str) + Send)),
}

impl Streams<'_> {
    /// Of a shell or an editor: what is typed is meant for it.
    pub fn left_to_program(&self) -> Option<LeftToProgram> {
        (matches!(self, Self::Terminal) && io::stdin().is_terminal()).then(LeftToProgram::begin)
    }
}

impl fmt::Debug for Streams<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminal => "Terminal",
            Self::Show => "Show",
            Self::Capture => "Capture",
            Self::Lines(_) => "Lines",
        })
    }
}

/// How one program is run.
#[derive(Debug)]
pub struct Options<'a> {
    /// Where its streams go.
    pub streams: Streams<'a>,
    /// After this it is killed with all it started; `None`: never.
    pub timeout: Option<Duration>,
    /// When this becomes true it is killed with all it started.
    pub cancel: Option<&'a AtomicBool>,
    /// Variables on top of the cleared environment.
    pub env: Vec<(OsString, OsString)>,
    /// What it reads, in the place of the input that [`Streams`] names.
    pub input: Option<Vec<u8>>,
    /// What it reads from, in the place of both: a pipe that somebody else fills.
    pub stdin: Option<OwnedFd>,
    /// What it writes to, in the place of the output that [`Streams`] names: a pipe that somebody else empties.
    pub stdout: Option<OwnedFd>,
}

impl Options<'_> {
    /// Streams as given, no limit, nothing else.
    pub const fn new(streams: Streams<'_>) -> Options<'_> {
        Options { streams, timeout: None, cancel: None, env: Vec::new(), input: None, stdin: None, stdout: None }
    }

    /// Both streams kept.
    pub const fn capture() -> Self {
        Options::new(Streams::Capture)
    }

    /// With one more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// With something to read.
    #[must_use]
    pub fn input(mut self, bytes: &[u8]) -> Self {
        self.input = Some(bytes.to_owned());
        self
    }

    /// Reading from this.
    #[must_use]
    pub fn stdin(mut self, from: OwnedFd) -> Self {
        self.stdin = Some(from);
        self
    }

    /// Writing to this.
    #[must_use]
    pub fn stdout(mut self, to: OwnedFd) -> Self {
        self.stdout = Some(to);
        self
    }

    /// With a time limit.
    #[must_use]
    pub const fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Some(limit);
        self
    }
}

/// Whether the program runs in the caller's namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Yes.
    None,
    /// The calling thread has left its namespaces ([`namespace::unshare`]): the program becomes the
    /// child of the new PID namespace's init, which mounts `/proc`.
    Namespaces,
}

/// A program that has ended.
#[derive(Debug)]
#[must_use]
pub struct Ended {
    /// The command line, for reading.
    pub command: String,
    /// Its status. In a namespace a death by signal S is exit status 128 + S, as in a shell.
    pub status: ExitStatus,
    /// What it wrote, at most the last MiB; empty unless kept.
    pub stdout: Vec<u8>,
    /// What it wrote to the error stream, the same.
    pub stderr: Vec<u8>,
}

impl Ended {
    /// Itself if the status is 0.
    pub fn success(self) -> Result<Self, ExecError> {
        if self.status.success() {
            return Ok(self);
        }
        let tail = tail(&self.stderr);
        Err(ExecError::Failed { command: self.command, status: self.status, tail })
    }

    /// Its output as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The last lines of the error output, control characters removed.
    pub fn tail(&self) -> String {
        tail(&self.stderr)
    }
}

/// The program has run and ended, with whatever status, and nothing it started in its process group or namespace is left.
///
/// Streams: see [`Streams`]. Errors: it did not start, was cancelled or took too long; a status is no error here.
/// If interrupted: the kernel kills the program when the calling thread dies.
pub fn run(invocation: &Invocation, options: Options<'_>) -> Result<Ended, ExecError> {
    let _left = options.streams.left_to_program();
    run_isolated(invocation, options, Isolation::None)
}

/// As [`run`], for a thread that may have left its namespaces; who waits for it has the keyboard ([`Streams::left_to_program`]).
pub fn run_isolated(invocation: &Invocation, mut options: Options<'_>, isolation: Isolation) -> Result<Ended, ExecError> {
    let command_line = invocation.display();
    tracing::debug!(target: "ast::exec", command = %command_line, "run");
    let mut command = build(invocation, &mut options)?;
    let own_group = matches!(options.streams, Streams::Capture | Streams::Lines(_));
    if own_group {
        command.process_group(0);
    }
    match isolation {
        Isolation::None => namespace::die_with_parent(&mut command),
        Isolation::Namespaces => namespace::as_child_of_init(&mut command),
    }
    .and_then(|guard| {
        let child = command.spawn()?;
        drop(guard);
        Ok(child)
    })
    .map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if invocation.is_words() => ExecError::NoSuchCommand { command: command_line.clone() },
        _ => ExecError::Start { command: command_line.clone(), source },
    })
    .and_then(|child| Watched { child, own_group, done: false }.watch(command_line, &mut options))
}

/// The command with its streams and its cleared environment.
fn build(invocation: &Invocation, options: &mut Options<'_>) -> Result<Command, ExecError> {
    #[allow(clippy::disallowed_methods, reason = "this is the room that owns it")]
    let mut command = Command::new(invocation.executable()?);
    command.args(invocation.arguments()).env_clear().env("PATH", PATH).env("HOME", "/root").env("LANG", "C.UTF-8");
    for name in PASSED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    match options.streams {
        Streams::Terminal => {}
        Streams::Show => {
            command.stdin(Stdio::null()).stderr(Stdio::piped());
        }
        Streams::Capture | Streams::Lines(_) => {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
    }
    if let Some(bytes) = &options.input {
        let file = in_memory(bytes).map_err(|source| ExecError::Start { command: invocation.display(), source })?;
        command.stdin(file);
    }
    if let Some(from) = options.stdin.take() {
        command.stdin(from);
    }
    if let Some(to) = options.stdout.take() {
        command.stdout(to);
    }
    Ok(command)
}

/// A file of these bytes that has no name, to be read from its beginning: a pipe would need a thread to feed it.
fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(nix::sys::memfd::memfd_create(c"input", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// A started program, killed if it is dropped before its end was seen.
struct Watched {
    child: Child,
    own_group: bool,
    done: bool,
}

impl Watched {
    /// Kills it and everything in its process group; in a namespace the death of its init takes all the rest along.
    fn kill(&mut self) {
        if self.own_group
            && let Ok(group) = i32::try_from(self.child.id())
        {
            // Fails only when the group is gone already.
            killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
        self.done = true;
    }

    fn watch(mut self, command: String, options: &mut Options<'_>) -> Result<Ended, ExecError> {
        let started = Instant::now();
        let contact = |source: io::Error| ExecError::Contact { command: command.clone(), source };
        let mut out = Pipe::new(self.child.stdout.take());
        let mut err = Pipe::new(self.child.stderr.take());
        let status = loop {
            if out.is_open() || err.is_open() {
                wait_readable(&out, &err).map_err(contact)?;
            } else if options.timeout.is_none() && options.cancel.is_none() {
                break self.child.wait().map_err(contact)?;
            }
            let mut moved = out.take(&mut options.streams, false).map_err(contact)?;
            moved |= err.take(&mut options.streams, true).map_err(contact)?;
            if options.cancel.is_some_and(|flag| flag.load(Ordering::Relaxed)) {
                self.kill();
                return Err(ExecError::Cancelled { command });
            }
            if let Some(after) = options.timeout.filter(|limit| started.elapsed() > *limit) {
                self.kill();
                return Err(ExecError::TimedOut { command, after, tail: tail(&err.kept) });
            }
            if moved {
                continue;
            }
            // Nothing to read: either a tick has passed or all pipes are closed. A daemon that it left behind may
            // hold a pipe open for ever, so its own end counts, not theirs.
            if let Some(status) = self.child.try_wait().map_err(contact)? {
                break status;
            }
            if !out.is_open() && !err.is_open() {
                std::thread::sleep(TICK / 10);
            }
        };
        self.done = true;
        while out.take(&mut options.streams, false).map_err(contact)? {}
        while err.take(&mut options.streams, true).map_err(contact)? {}
        if self.own_group
            && let Ok(group) = i32::try_from(self.child.id())
        {
            // What it left in its group: a stray child is no reason to keep a working copy busy.
            killpg(Pid::from_raw(group), Signal::SIGKILL).ok();
        }
        out.finish(&mut options.streams);
        err.finish(&mut options.streams);
        tracing::debug!(target: "ast::exec", %command, %status, seconds = started.elapsed().as_secs_f32(), "ended");
        Ok(Ended { command, status, stdout: out.kept, stderr: err.kept })
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.done {
            self.kill();
        }
    }
}

/// Returns when one of the open pipes can be read, or after a tick.
fn wait_readable<A: AsFd, B: AsFd>(out: &Pipe<A>, err: &Pipe<B>) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = [out.fd(), err.fd()].into_iter().flatten().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    let tick = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
    match nix::poll::poll(&mut fds, tick) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// One of its output streams, our end.
struct Pipe<P> {
    pipe: Option<P>,
    kept: Vec<u8>,
    line: Vec<u8>,
}

impl<P> Pipe<P> {
    fn new(pipe: Option<P>) -> Self {
        Self { pipe, kept: Vec::new(), line: Vec::new() }
    }

    fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    fn keep(&mut self, bytes: &[u8], streams: &mut Streams<'_>, is_error: bool) {
        self.kept.extend_from_slice(bytes);
        if self.kept.len() > 2 * KEPT {
            self.kept.drain(..self.kept.len() - KEPT);
        }
        match streams {
            Streams::Show if is_error => {
                // Showing is a courtesy: a closed terminal must not fail a transaction.
                io::stderr().write_all(bytes).ok();
            }
            Streams::Lines(each) => {
                for &byte in bytes {
                    // Progress bars end their lines with a carriage return.
                    if byte == b'\n' || byte == b'\r' {
                        hand_over(&mut self.line, each);
                    } else if self.line.len() < TAIL_BYTES {
                        self.line.push(byte);
                    }
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, streams: &mut Streams<'_>) {
        if let Streams::Lines(each) = streams {
            hand_over(&mut self.line, each);
        }
    }
}

impl<P: AsFd> Pipe<P> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }
}

impl<P: AsFd + Read> Pipe<P> {
    /// Reads once if there is something to read; whether there was. Closes at the end of the stream.
    fn take(&mut self, streams: &mut Streams<'_>, is_error: bool) -> io::Result<bool> {
        let Some(pipe) = &mut self.pipe else { return Ok(false) };
        let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut ready, PollTimeout::ZERO) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(false),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut buffer = [0; 8192];
        let count = pipe.read(&mut buffer)?;
        if count == 0 {
            self.pipe = None;
            return Ok(false);
        }
        self.keep(&buffer[..count], streams, is_error);
        Ok(true)
    }
}

/// Gives `line` away, unless it is empty.
fn hand_over(line: &mut Vec<u8>, each: &mut dyn FnMut(&str)) {
    if !line.is_empty() {
        each(&clean(&String::from_utf8_lossy(line)));
        line.clear();
    }
}

/// `text` without control characters, so that a program cannot steer the terminal through our messages.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// The last lines of `bytes`, for an error message.
pub(super) fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL_BYTES)..]).into_owned();
    let lines: Vec<String> = text.lines().map(clean).filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
