//! An Ansible playbook: the machine's own ansible-playbook, whose every task happens inside the working copy.
//!
//! ```text
//!  ansible-playbook (namespaces of its own) ── connection.py ── socket ── Server::answer ── copy.run_with(sh -c …)
//! ```
//!
//! Which host a playbook names and how it wants to reach it is overruled: there is one host, and one way to it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::ApplyError;
use super::files::is_there;
use crate::exec::{Invocation, Options, Program, Streams};
use crate::sys::{At, file};
use crate::work::{Bind, WorkingCopy, run_beside};

/// Our connection plugin.
const PLUGIN: &str = include_str!("connection.py");
/// The one host: `hosts: all` and `hosts: localhost` both mean it.
const INVENTORY: &str = "localhost ansible_connection=ast_copy\n";
/// Where Ansible keeps its files inside: the same for all tasks of a run, while `/tmp` is new for each.
const REMOTE: &str = "/run/ast-ansible";
/// What Ansible runs its modules with.
const PYTHON: &str = "/usr/bin/python3";
/// Longest command or input of one task (256 MiB): what a module may copy, not what fills memory.
const LONGEST: u32 = 256 << 20;
/// How often the server looks whether the run is over (100 ms: not felt).
const TICK: u16 = 100;
/// A task of a playbook that takes longer has stopped.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
/// What ansible-playbook says when it does nothing, and ends with 0.
const NO_HOST: &str = "no hosts matched";

/// The tasks of `playbook` have run inside the copy. `ansible` is another ansible-playbook than the machine's; `each` gets its lines.
///
/// If interrupted: some of it is done; the copy is garbage by its name, and nothing of Ansible runs any more.
/// Refuses: a snapshot without Python; a playbook that fails, or means none of our hosts.
pub fn play(copy: &WorkingCopy, playbook: &Path, ansible: Option<&Path>, each: &mut (dyn FnMut(&str) + Send)) -> Result<(), ApplyError> {
    if !is_there(copy, Path::new(PYTHON))? {
        return Err(ApplyError::Impossible {
            object: PYTHON.into(),
            reason: "Ansible needs it in the snapshot: install python first".into(),
        });
    }
    // Read here, so that a missing one is told as any missing file.
    File::open(playbook).at("read", playbook)?;
    let server = Server::open(copy)?;
    let invocation = match ansible {
        Some(program) => Invocation::words([program])?,
        None => Invocation::new(Program::AnsiblePlaybook),
    };
    let forced = format!(r#"{{"ansible_connection":"ast_copy","ansible_python_interpreter":"{PYTHON}","ansible_become":false}}"#);
    let invocation = invocation.arg("--inventory").arg(server.dir.join("inventory")).args(["--extra-vars", &forced, "--"]).arg(playbook);
    let mut no_host = false;
    let mut lines = |line: &str| {
        no_host |= line.contains(NO_HOST);
        each(line);
    };
    let place = |name: &str| server.dir.join(name);
    let options = Options::new(Streams::Lines(&mut lines)).timeout(LIMIT);
    let options = options.env("AST_APPLY", &server.dir).env("ANSIBLE_CONNECTION_PLUGINS", place("plugins"));
    let options = options.env("ANSIBLE_HOME", place("home")).env("ANSIBLE_LOCAL_TEMP", place("home")).env("HOME", place("home"));
    let options = options.env("ANSIBLE_REMOTE_TMP", REMOTE).env("ANSIBLE_PIPELINING", "1").env("ANSIBLE_FORKS", "1");
    let options = options.env("ANSIBLE_RETRY_FILES_ENABLED", "0").env("ANSIBLE_NOCOLOR", "1").env("PYTHONDONTWRITEBYTECODE", "1");
    let over = AtomicBool::new(false);
    let ended = std::thread::scope(|scope| {
        let serving = scope.spawn(|| server.serve(copy, &over));
        let ended = run_beside(&invocation, options);
        over.store(true, Ordering::Relaxed);
        let served = serving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        served.and(ended.map_err(ApplyError::from))
    })?;
    if !ended.status.success() {
        // Ansible tells failures of tasks on its output.
        let tail = if ended.tail().is_empty() { String::new() } else { ended.tail() };
        return Err(ApplyError::Command { command: "ansible-playbook".into(), status: ended.status, tail });
    }
    if no_host {
        let reason = "it has plays for none of the hosts here: `hosts: all` or `hosts: localhost` is the snapshot".to_owned();
        return Err(ApplyError::Impossible { object: playbook.display().to_string(), reason });
    }
    Ok(())
}

/// Where the tasks come in.
struct Server {
    dir: PathBuf,
    listener: UnixListener,
}

impl Server {
    /// A directory of the copy's, which nobody but root can enter, with everything that a run needs.
    fn open(copy: &WorkingCopy) -> Result<Self, ApplyError> {
        let dir = copy.dir().join("play");
        std::fs::DirBuilder::new().mode(0o700).create(&dir).at("make the directory", &dir)?;
        for name in ["plugins", "home", "remote"] {
            file::make_dirs(&dir.join(name))?;
        }
        file::replace(&dir.join("plugins/ast_copy.py"), PLUGIN.as_bytes())?;
        file::replace(&dir.join("inventory"), INVENTORY.as_bytes())?;
        // By way of the directory: the path may be longer than an address can be.
        let handle = File::open(&dir).at("open", &dir)?;
        let listener = UnixListener::bind(format!("/proc/self/fd/{}/socket", handle.as_raw_fd())).at("make a socket in", &dir)?;
        Ok(Self { dir, listener })
    }

    /// Answers until the run is over.
    fn serve(&self, copy: &WorkingCopy, over: &AtomicBool) -> Result<(), ApplyError> {
        while !over.load(Ordering::Relaxed) {
            let mut ready = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
            match nix::poll::poll(&mut ready, PollTimeout::from(TICK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => continue,
                other => other.at("wait at the socket in", &self.dir)?,
            };
            let (stream, _) = self.listener.accept().at("answer at the socket in", &self.dir)?;
            if let Err(error) = self.answer(copy, stream) {
                // The other side sees the connection end, and fails with its task.
                tracing::warn!(target: "ast::apply", error = %error, "a task could not be answered");
            }
        }
        Ok(())
    }

    /// One command, carried out.
    fn answer(&self, copy: &WorkingCopy, mut stream: UnixStream) -> Result<(), ApplyError> {
        const TALK: &str = "talk at the socket in";
        let command = take(&mut stream).at(TALK, &self.dir)?;
        let input = take(&mut stream).at(TALK, &self.dir)?;
        let words = ["/bin/sh".into(), "-c".into(), std::os::unix::ffi::OsStringExt::from_vec(command)] as [std::ffi::OsString; 3];
        let bind = Bind { source: self.dir.join("remote"), target: REMOTE.into(), read_only: false };
        let options = Options::capture().input(&input).timeout(LIMIT).env("PYTHONDONTWRITEBYTECODE", "1");
        let ended = copy.run_with(&[bind], &Invocation::words(words)?, options)?;
        let status = ended.status.code().unwrap_or_else(|| 128 + ended.status.signal().unwrap_or(0));
        let mut reply = status.to_be_bytes().to_vec();
        for part in [&ended.stdout, &ended.stderr] {
            reply.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
            reply.extend(part);
        }
        stream.write_all(&reply).at(TALK, &self.dir)?;
        Ok(())
    }
}

/// A length and so many bytes.
fn take(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut bytes)?;
    if bytes.len() == length as usize { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}
