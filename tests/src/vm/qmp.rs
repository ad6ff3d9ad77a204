//! The emulator's monitor (QMP, <https://www.qemu.org/docs/master/interop/qmp-spec.html>): commands out, events in.
use super::{VmError, console::Console, error::at};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    process::Child,
    sync::{Arc, Condvar, Mutex, MutexGuard, mpsc},
    time::{Duration, Instant},
};

/// How long the emulator may take from its start to connecting its monitor.
const CONNECT: Duration = Duration::from_secs(20);
/// How long a monitor command may take; `savevm` of a machine of 512 MB takes a few seconds.
const COMMAND: Duration = Duration::from_secs(120);
/// Said so often that they would hide the rest, and of no meaning here.
const NOISE: [&str; 2] = ["RTC_CHANGE", "NIC_RX_FILTER_CHANGED"];

/// Something the emulator told by itself.
#[derive(Debug, Clone)]
pub struct Event {
    /// `RESET`, `SHUTDOWN`, `WATCHDOG`, `GUEST_PANICKED` …
    pub name: String,
    /// Its data, or null.
    pub data: Value,
    /// Since the start of the machine.
    pub at: Duration,
    /// How long the console's text was then.
    pub position: usize,
}

/// A connection to one emulator's monitor.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    answers: mpsc::Receiver<Value>,
    events: Arc<(Mutex<Vec<Event>>, Condvar)>,
}

impl Qmp {
    /// Waits for `child` to connect to `listener`, and makes the monitor ready.
    pub(crate) fn accept(
        listener: &UnixListener,
        socket: &Path,
        child: &mut Child,
        console: &Arc<Console>,
        started: Instant,
    ) -> Result<Qmp, VmError> {
        at(socket, listener.set_nonblocking(true))?;
        let deadline = Instant::now() + CONNECT;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(e) => return at(socket, Err(e)),
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(VmError::Start { reason: status.to_string(), stderr: String::new() });
            }
            if Instant::now() > deadline {
                return Err(VmError::Start { reason: "its monitor did not connect".into(), stderr: String::new() });
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        at(socket, stream.set_nonblocking(false))?;
        let reading = at(socket, stream.try_clone())?;
        let (sender, answers) = mpsc::channel();
        let events = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let (theirs, console) = (Arc::clone(&events), Arc::clone(console));
        std::thread::spawn(move || {
            for line in BufReader::new(reading).lines() {
                let Some(message) = line.ok().and_then(|line| serde_json::from_str::<Value>(&line).ok()) else {
                    break;
                };
                match message.get("event").and_then(Value::as_str) {
                    Some(name) if NOISE.contains(&name) => {}
                    Some(name) => {
                        if name == "RESET" {
                            console.clear_screen();
                        }
                        let data = message.get("data").cloned().unwrap_or(Value::Null);
                        let event = Event { name: name.into(), data, at: started.elapsed(), position: console.position() };
                        lock(&theirs.0).push(event);
                        theirs.1.notify_all();
                    }
                    // The greeting is no answer; and whoever reads answers is gone when the machine is dropped.
                    None if message.get("QMP").is_some() => {}
                    None => drop(sender.send(message)),
                }
            }
        });
        let mut qmp = Qmp { stream, answers, events };
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Runs a monitor command and returns its result.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, VmError> {
        let refused = |message: String| VmError::Monitor { command: command.into(), message };
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        self.stream.write_all(format!("{request}\n").as_bytes()).map_err(|e| refused(e.to_string()))?;
        let answer = self.answers.recv_timeout(COMMAND).map_err(|e| refused(format!("no answer: {e}")))?;
        match answer.get("error") {
            Some(error) => Err(refused(error["desc"].as_str().unwrap_or("refused").into())),
            None => Ok(answer.get("return").cloned().unwrap_or(Value::Null)),
        }
    }

    /// Runs a command of the human monitor; whatever it says other than nothing is an error.
    pub fn human(&mut self, line: &str) -> Result<(), VmError> {
        let said = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        match said.as_str().map(str::trim) {
            None | Some("") => Ok(()),
            Some(message) => Err(VmError::Monitor { command: line.into(), message: message.into() }),
        }
    }

    /// All events so far.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.events.0).clone()
    }

    /// Waits until there are more than `seen` events of this name, and returns the next one.
    pub(crate) fn wait_event(&self, name: &str, seen: usize, patience: Duration) -> Option<Event> {
        let deadline = Instant::now() + patience;
        let mut events = lock(&self.events.0);
        loop {
            if let Some(event) = events.iter().filter(|e| e.name == name).nth(seen) {
                return Some(event.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            events = match self.events.1.wait_timeout(events, left) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
