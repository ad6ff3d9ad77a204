//! Commands on the root shell of the guest's console, with exact output and exit status.
//!
//! The console is shared: the shell echoes what is typed and wraps it, and the kernel writes into the middle of lines. So a command is sent
//! encoded, its output goes to files in the guest, is shown between marks that no echo can contain, and is believed only if its hash agrees;
//! otherwise it is asked for again, encoded.
use super::{Vm, VmError, console::NoResult, patience, watch::line_regex};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

/// Bytes of an encoded command that fit into one line with the rest: busybox's shell reads lines up to 1024.
const SHORT: usize = 300;
/// For a command that should be quick; generous, since the machine is emulated and shared.
const QUICK: Duration = Duration::from_secs(60);
/// How long a shell that shows its prompt may take to answer.
const PROBE: Duration = Duration::from_secs(10);
/// How often a damaged answer is asked for again.
const ASK_AGAIN: usize = 8;
/// Where a command and its output live in the guest; one of them is writable in an initramfs and in a read-only root.
const GUEST_DIR: &str = "d=/run/.lab;mkdir -p $d 2>/dev/null||{ d=/tmp/.lab;mkdir -p $d;}";

/// What a command in the guest did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status as the shell tells it: 128 and more are signals.
    pub status: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

static NONCE: AtomicU32 = AtomicU32::new(1);

fn nonce() -> String {
    format!("{:x}x{:x}", std::process::id(), NONCE.fetch_add(1, Ordering::Relaxed))
}

impl Vm {
    /// A root shell waits on the console. Looks only at what was said since the last reset and what was not consumed yet.
    pub fn wait_shell(&mut self, time: Duration) -> Result<(), VmError> {
        let deadline = Instant::now() + patience(time);
        let prompt = line_regex(&self.config.prompt)?;
        if self.config.loadvm.is_some() && self.console.position() == 0 {
            // The prompt was shown before the state was stored: ask for another.
            self.send("\r")?;
        }
        loop {
            if let Some(reset) = self.qmp.events().iter().rev().find(|event| event.name == "RESET") {
                self.cursor = self.cursor.max(reset.position);
            }
            let cursor = self.cursor;
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timeout("root shell", time));
            }
            // In slices, since a reset in between moves the cursor.
            match self.console.wait(left.min(Duration::from_secs(1)), |state| prompt.is_match(&state.text[cursor..]).then_some(())) {
                Ok(()) => {}
                Err(NoResult::Timeout) => continue,
                Err(NoResult::Closed) => {
                    return self.expect(&self.config.prompt.clone(), Duration::ZERO).map(drop);
                }
            }
            // Never type at anything that did not show a prompt: at a menu, Enter would choose.
            let nonce = nonce();
            self.send(&format!("echo @@\"\"{nonce}\r"))?;
            let answered = self.console.wait(patience(PROBE).min(left), |state| contains(&state.text[cursor..], &format!("@@{nonce}")));
            if answered.is_ok() {
                self.expect(&format!("@@{nonce}\n"), PROBE)?;
                return Ok(());
            }
        }
    }

    /// Runs a quick command and returns its standard output; a status other than 0 is an error with all it said.
    pub fn sh(&mut self, command: &str) -> Result<String, VmError> {
        let out = self.run(command, QUICK)?;
        if out.status == 0 {
            return Ok(out.stdout);
        }
        Err(VmError::Guest { command: command.into(), status: out.status, stdout: out.stdout, stderr: out.stderr })
    }

    /// Runs `command` (any shell text) in a subshell of the waiting root shell, without standard input.
    ///
    /// Errors: when it does not end in `time` it is interrupted, and what it had said goes into the kept log.
    pub fn run(&mut self, command: &str, time: Duration) -> Result<Output, VmError> {
        let id = nonce();
        let encoded = STANDARD.encode(command);
        let mut line = format!("{GUEST_DIR};printf %s {encoded}|base64 -d >$d/c;");
        if encoded.len() > SHORT {
            self.say(&format!("{GUEST_DIR};: >$d/b"))?;
            for chunk in encoded.as_bytes().chunks(2 * SHORT) {
                self.say(&format!("printf %s {} >>$d/b", String::from_utf8_lossy(chunk)))?;
            }
            line = "base64 -d <$d/b >$d/c;".into();
        }
        // `@@""ID` in what is typed, `@@ID` in what is answered: the echo cannot be taken for the answer.
        let mark = format!("echo @@\"\"{id}");
        self.send(&format!(
            "{line}(. $d/c) >$d/o 2>$d/e </dev/null;s=$?;{mark} O;cat $d/o;echo;{mark} E;cat $d/e;echo;{mark} S $s `md5sum <$d/o` `md5sum <$d/e`\r"
        ))?;
        let finished = self.await_text(&format!("@@{id} S"), time);
        if let Err(error @ VmError::Timeout { .. }) = finished {
            self.send("\x03\r").ok();
            self.send("tail -n 20 $d/o $d/e\r").ok();
            self.console.wait(Duration::from_secs(3), |_| None::<()>).ok();
            return Err(error);
        }
        finished?;
        let answer = format!(r"@@{id} O\n(?s:(.*?))\n@@{id} E\n(?s:(.*?))\n@@{id} S (\d+) ([0-9a-f]{{32}}) +- ([0-9a-f]{{32}}) +-\n");
        let shown = match self.expect(&answer, Duration::from_secs(5)) {
            Ok(seen) => seen.groups,
            // The kernel wrote into a mark.
            Err(VmError::Timeout { .. }) => {
                self.failed = false;
                Vec::new()
            }
            Err(other) => return Err(other),
        };
        let status = shown.get(3).cloned().flatten().and_then(|text| text.parse().ok());
        let plain = |text: usize, hash: usize| {
            let text = shown.get(text)?.clone()?;
            (md5(text.as_bytes()) == shown.get(hash)?.clone()?).then_some(text)
        };
        Ok(Output {
            status: match status {
                Some(status) => status,
                None => self.fetch("echo $s")?.trim().parse().unwrap_or(-1),
            },
            stdout: match plain(1, 4) {
                Some(text) => text,
                None => self.fetch("cat $d/o")?,
            },
            stderr: match plain(2, 5) {
                Some(text) => text,
                None => self.fetch("cat $d/e")?,
            },
        })
    }

    /// The standard output of `command`, encoded and checked, asked for until it arrives whole.
    fn fetch(&mut self, command: &str) -> Result<String, VmError> {
        let mut error = None;
        for _ in 0..ASK_AGAIN {
            let id = nonce();
            self.send(&format!("{command} >$d/f;echo @@\"\"{id} B;base64 <$d/f;echo @@\"\"{id} Z `md5sum <$d/f`\r"))?;
            let seen = match self.expect(&format!(r"@@{id} B\n([A-Za-z0-9+/=\n]*)@@{id} Z ([0-9a-f]{{32}}) +-\n"), Duration::from_secs(20))
            {
                Ok(seen) => seen,
                Err(e @ VmError::Timeout { .. }) => {
                    error = Some(e);
                    continue;
                }
                Err(e) => return Err(e),
            };
            let group = |index: usize| seen.groups.get(index).cloned().flatten().unwrap_or_default();
            if let Ok(bytes) = STANDARD.decode(group(1).replace('\n', "")) {
                if md5(&bytes) == group(2) {
                    self.failed = false;
                    return Ok(String::from_utf8_lossy(&bytes).into_owned());
                }
            }
        }
        Err(error.unwrap_or_else(|| self.timeout("undamaged answer", QUICK)))
    }

    /// Types a short command line and waits until it is done.
    fn say(&mut self, line: &str) -> Result<(), VmError> {
        let id = nonce();
        self.send(&format!("{line};echo @@\"\"{id}\r"))?;
        self.await_text(&format!("@@{id}"), QUICK)
    }

    /// Waits for plain text without consuming it.
    fn await_text(&mut self, text: &str, time: Duration) -> Result<(), VmError> {
        let cursor = self.cursor;
        match self.console.wait(patience(time), |state| contains(&state.text[cursor..], text)) {
            Ok(()) => Ok(()),
            Err(NoResult::Timeout) => Err(self.timeout(&format!("{text:?}"), time)),
            Err(NoResult::Closed) => {
                self.failed = true;
                Err(VmError::Ended { what: format!("{text:?}"), tail: self.console.tail() })
            }
        }
    }
}

fn contains(text: &[u8], wanted: &str) -> Option<()> {
    text.windows(wanted.len()).any(|window| window == wanted.as_bytes()).then_some(())
}

fn md5(bytes: &[u8]) -> String {
    use md5::{Digest, Md5};
    Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
