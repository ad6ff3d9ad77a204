//! A machine's life: start, reset, states, power cut, end.
use super::{VmConfig, VmError, console::Console, error::at, keep, lock::VmLock, patience, qmp::Qmp, scratch::scratch, tool};
use serde_json::{Value, json};
use std::{
    fs::File,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

/// A running machine. Dropping it kills the emulator.
///
/// The emulator also dies with the thread that started it, so that nothing outlives a killed test: keep a machine in the thread that made it.
#[derive(Debug)]
pub struct Vm {
    pub(crate) config: VmConfig,
    pub(crate) console: Arc<Console>,
    pub(crate) qmp: Qmp,
    pub(crate) input: ChildStdin,
    /// Everything before this place of the console's text was consumed by an `expect` or a command.
    pub(crate) cursor: usize,
    /// Resets already answered for by `wait_reset`.
    pub(crate) resets_seen: usize,
    /// Something awaited did not come: keep the evidence.
    pub(crate) failed: bool,
    child: Child,
    status: Option<ExitStatus>,
    started: Instant,
    log: PathBuf,
    /// Console log and monitor socket; removed at the end.
    _dir: tempfile::TempDir,
    /// Last: released only when the emulator is gone.
    lock: Option<VmLock>,
}

impl Vm {
    /// A machine runs; its console is being read and its monitor answers.
    pub fn start(config: VmConfig) -> Result<Vm, VmError> {
        let lock = VmLock::take(&config.name)?;
        let dir = scratch("vm")?;
        let (log, socket, stderr) = (dir.path().join("console.log"), dir.path().join("qmp"), dir.path().join("stderr"));
        for log in config.disks.iter().filter_map(|disk| disk.write_log.as_ref()) {
            at(log, File::create(log).and_then(|file| file.set_len(crate::cut::LOG_SPACE)))?;
        }
        let listener = at(&socket, UnixListener::bind(&socket))?;
        // The child dies with this thread: `unsafe` is not needed when a program sets it.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]).args(config.arguments());
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        command.args(["-qmp", &format!("unix:{},server=off", socket.display())]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(at(&stderr, File::create(&stderr))?);
        let started = Instant::now();
        let fail = |reason: String| {
            let said = std::fs::read(&stderr).unwrap_or_default();
            VmError::Start { reason, stderr: format!("{}\n{}", tool::argv(&command_line(&config)), tool::tail(&said, 2000)) }
        };
        let mut child = command.spawn().map_err(|e| fail(e.to_string()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(fail("no pipes".into()));
        };
        let echo = std::env::var_os("AST_LAB_ECHO").is_some_and(|v| v != "0");
        let console = Arc::new(Console::start(output, &log, started, echo)?);
        match Qmp::accept(&listener, &socket, &mut child, &console, started) {
            Ok(qmp) => Ok(Vm {
                config,
                console,
                qmp,
                input,
                cursor: 0,
                resets_seen: 0,
                failed: false,
                child,
                status: None,
                started,
                log,
                _dir: dir,
                lock: Some(lock),
            }),
            Err(error) => {
                child.kill().and_then(|()| child.wait()).ok();
                Err(match error {
                    VmError::Start { reason, .. } | VmError::Monitor { message: reason, .. } => fail(reason),
                    other => other,
                })
            }
        }
    }

    /// The configuration it was started with, to start it again after a power cut.
    pub fn config(&self) -> &VmConfig {
        &self.config
    }

    /// Its console.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// Its monitor, for what has no function of its own.
    pub fn monitor(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// Time since it was started.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The power is cut: the emulator gets SIGKILL and is gone. Completed writes stay, whatever the cache mode: a weak power cut.
    pub fn power_cut(&mut self) {
        self.child.kill().ok();
        self.reap();
    }

    /// Resets the machine as its button would.
    pub fn reset(&mut self) -> Result<(), VmError> {
        self.resets_seen = self.resets();
        self.qmp.execute("system_reset", Value::Null)?;
        self.wait_reset(Duration::from_secs(10)).map(drop)
    }

    /// Ends the emulator in good order (its images are flushed); the guest is not asked.
    pub fn quit(&mut self) -> Result<(), VmError> {
        // The answer may be lost with the emulator that ends.
        self.qmp.execute("quit", Value::Null).ok();
        self.wait_exit(Duration::from_secs(20)).map(drop)
    }

    /// Waits until the emulator ended (power off, or a reboot with `no_reboot`).
    pub fn wait_exit(&mut self, time: Duration) -> Result<ExitStatus, VmError> {
        let deadline = Instant::now() + patience(time);
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                self.reap();
            } else if Instant::now() > deadline {
                return Err(self.timeout("end of the machine", time));
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Switches off through the guest: `poweroff -ff` in its shell after `sync`, then the end.
    pub fn power_off(&mut self, time: Duration) -> Result<(), VmError> {
        self.send("sync; poweroff -f\r")?;
        self.wait_exit(time).map(drop)
    }

    /// Waits for the next reset (reboot, panic, watchdog, triple fault) and drops console text before it. Returns when it came.
    pub fn wait_reset(&mut self, time: Duration) -> Result<Duration, VmError> {
        let Some(event) = self.qmp.wait_event("RESET", self.resets_seen, patience(time)) else {
            return Err(self.timeout("reset", time));
        };
        self.resets_seen += 1;
        self.cursor = self.cursor.max(event.position);
        Ok(event.at)
    }

    /// How often the machine was reset since its start.
    pub fn resets(&self) -> usize {
        self.qmp.events().iter().filter(|event| event.name == "RESET").count()
    }

    /// Reboots through the guest's shell and returns once the machine was reset; follow with `wait_shell` or `expect`.
    pub fn reboot(&mut self, time: Duration) -> Result<(), VmError> {
        self.resets_seen = self.resets();
        self.send("reboot\r")?;
        self.wait_reset(time).map(drop)
    }

    /// The whole machine is stored as `tag` in its qcow2 disks; every writable disk must be one.
    pub fn savevm(&mut self, tag: &str) -> Result<(), VmError> {
        self.qmp.human(&format!("savevm {tag}"))
    }

    /// The machine is again as `savevm` stored it. Console text said before is consumed.
    pub fn loadvm(&mut self, tag: &str) -> Result<(), VmError> {
        self.qmp.human(&format!("loadvm {tag}"))?;
        self.cursor = self.console.position();
        Ok(())
    }

    /// Copies console log and disks to the cache's `kept/` at once, and returns the place.
    pub fn keep(&self) -> Result<PathBuf, VmError> {
        let images: Vec<&Path> = self.config.disks.iter().filter(|d| !d.read_only).map(|d| d.path.as_path()).collect();
        keep::keep(&self.config.name, &self.log, &images, &tool::argv(&command_line(&self.config)))
    }

    /// Says that a failed wait was meant: nothing is kept for it.
    pub fn forgive(&mut self) {
        self.failed = false;
    }

    pub(crate) fn timeout(&mut self, what: &str, time: Duration) -> VmError {
        self.failed = true;
        VmError::Timeout { what: what.into(), secs: patience(time).as_secs_f64(), tail: self.console.tail() }
    }

    pub(crate) fn monitor_key(&mut self, qcode: &str) -> Result<(), VmError> {
        let key = json!({ "keys": [{ "type": "qcode", "data": qcode }] });
        self.qmp.execute("send-key", key).map(drop)
    }

    fn reap(&mut self) {
        if let Ok(status) = self.child.wait() {
            self.status = Some(status);
        }
        // The reader ends by itself: the last writer of its pipe is gone.
        self.console.wait(Duration::from_secs(5), |state| state.closed.then_some(())).ok();
        self.lock = None;
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.power_cut();
        }
        if self.failed || std::thread::panicking() {
            match self.keep() {
                Ok(place) => eprintln!("{}: console log and disks are kept in {}", self.config.name, place.display()),
                Err(error) => eprintln!("{}: nothing could be kept: {error}", self.config.name),
            }
        }
    }
}

/// The command that a person would use to start this machine by hand.
fn command_line(config: &VmConfig) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(config.arguments()).args(["-serial", "mon:stdio"]);
    command
}
