//! The same asked of GRUB as a program of this system (`grub-emu`): the real script, with the real file systems, saves and sums, and no machine. An
//! answer takes a twentieth of a second. It loads no kernel: what stands for `linux` and `initrd` looks whether they could be loaded, and says what it
//! was given. And its heap is the C library's, which ends a program that damages it.

use super::disk::DecisionDisk;
use super::{Asked, Started};
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Before the script: what a core image sets, and what stands for commands that this GRUB does not have. A command that there is would come before a
/// function of its name. As on EFI, GRUB is at its end where a kernel cannot be read behind one that was unloaded. `progress` writes past its line where a terminal is wider than it thinks.
const BEFORE: &str = r#"
set enable_progress_indicator=0
function linux {
  if file --is-x86-linux32 "$1"; then set emulated=1; else return 1; fi
  if hashsum --hash sha256 "$1"; then set emulated=1; elif [ -n "$emulated_unloaded" ]; then echo "freed twice"; halt; else return 1; fi
  echo "linux"
  for emulated in "$@"; do echo "word $emulated"; done
}
function initrd {
  for emulated in "$@"; do
    if hashsum --hash sha256 "$emulated"; then set emulated_ok=1; else return 1; fi
  done
  echo "initrd"
  for emulated in "$@"; do cat "$emulated"; done
  echo "boot"
  halt
}
function multiboot { set emulated_unloaded=1; return 1; }
search --no-floppy --fs-uuid --set=root @FS@
set prefix="($root)/@boot/grub"
set ast_boot="$prefix"
source "$ast_boot/grub.cfg"
"#;

/// Seconds after which it waits for something that does not come.
const LIMIT: &str = "60";
/// Longest that the last resort waits before it starts again: this long it is watched.
const LAST_RESORT: &str = "5";

/// GRUB without a machine.
#[derive(Debug)]
pub struct Emulated {
    dir: tempfile::TempDir,
}

impl Emulated {
    /// GRUB that knows this disk and no other.
    pub fn of(disk: &DecisionDisk) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let script = String::from_utf8_lossy(disk.script()).into_owned();
        let uuid = script.split("set ast_fs='").nth(1).and_then(|rest| rest.split('\'').next()).expect("the UUID in the script");
        std::fs::write(dir.path().join("device.map"), format!("(hd0) {}\n", disk.path().display())).expect("written");
        std::fs::write(dir.path().join("grub.cfg"), BEFORE.replace("@FS@", uuid)).expect("written");
        Self { dir }
    }

    /// What it says in one start that asks for nothing to be started.
    pub fn reads(&self) -> String {
        self.says(LIMIT, None)
    }

    /// What it says, and starts, if these keys are pressed so long after it was started.
    pub fn after(&self, wait: Duration, keys: &str) -> (String, Started) {
        let said = self.says(LIMIT, Some((wait, keys)));
        let started = started(&said);
        (said, started)
    }

    /// What it says in one start of at most so many seconds.
    fn says(&self, seconds: &str, typed: Option<(Duration, &str)>) -> String {
        let dir: &Path = self.dir.path();
        // It draws on a terminal, or ends.
        let line = format!("stty cols 240 rows 60; exec timeout -s KILL {seconds} grub-emu -m {d}/device.map -d {d}", d = dir.display());
        let mut command = Command::new("script");
        command.args(["-qec", &line, "/dev/null"]).env("TERM", "vt100").env("SHELL", "/bin/sh").stdout(Stdio::piped());
        let mut child = command.stdin(if typed.is_some() { Stdio::piped() } else { Stdio::null() }).spawn().expect("script");
        // Held until the end: the end of what is typed would be a key of its own.
        let mut input = child.stdin.take();
        if let (Some(input), Some((wait, keys))) = (&mut input, typed) {
            std::thread::sleep(wait);
            input.write_all(keys.as_bytes()).and_then(|()| input.flush()).expect("keys");
        }
        let out = child.wait_with_output();
        drop(input);
        String::from_utf8_lossy(&out.expect("script").stdout).replace('\r', "")
    }
}

/// What is started, in what it said.
fn started(said: &str) -> Started {
    let (before, behind) = said.rsplit_once("\ninitrd\n").unwrap_or_else(|| panic!("nothing was started:\n{said}"));
    let (_, words) = before.rsplit_once("\nlinux\n").unwrap_or_else(|| panic!("no kernel:\n{said}"));
    let mut words = words.lines().filter_map(|line| line.strip_prefix("word ")).map(|word| word.trim_end().to_owned());
    let kernel = words.next().unwrap_or_default();
    let (images, _) = behind.split_once("\nboot").unwrap_or_else(|| panic!("not loaded:\n{said}"));
    Started { words: words.collect(), kernel, initramfs: images.lines().map(str::trim_end).collect() }
}

impl Asked for Emulated {
    fn ask(&mut self) -> Started {
        started(&self.says(LIMIT, None))
    }

    fn comes_to_nothing(&mut self) {
        let said = self.says(LAST_RESORT, None);
        assert!(said.contains("nothing here can be started"), "{said}");
        assert!(!said.contains("\nboot\n"), "{said}");
    }
}
