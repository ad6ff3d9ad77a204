//! The same asked of GRUB as a program of this system (`grub-emu`): the real script, with the real file systems, saves and sums, and no machine. An
//! answer takes a twentieth of a second. It loads no kernel: what stands for `linux` and `initrd` looks whether they could be loaded, and says what it
//! was given. And its heap is the C library's, which ends a program that damages it.

use super::disk::DecisionDisk;
use super::{Asked, Started};
use std::path::Path;
use std::process::{Command, Stdio};

/// Before the script: what a core image sets, and what stands for commands that this GRUB does not have. A command that there is would come before a
/// function of its name. `progress` writes past its line where a terminal is wider than it thinks.
const BEFORE: &str = r#"
set enable_progress_indicator=0
function linux {
  if file --is-x86-linux32 "$1"; then set emulated=1; else return 1; fi
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
function multiboot { return 1; }
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
        self.says(LIMIT)
    }

    /// What it says in one start of at most so many seconds.
    fn says(&self, seconds: &str) -> String {
        let dir: &Path = self.dir.path();
        // It draws on a terminal, or ends.
        let line = format!("stty cols 240 rows 60; exec timeout -s KILL {seconds} grub-emu -m {d}/device.map -d {d}", d = dir.display());
        let out = Command::new("script").args(["-qec", &line, "/dev/null"]).env("TERM", "vt100").env("SHELL", "/bin/sh").stdin(Stdio::null()).output();
        String::from_utf8_lossy(&out.expect("script").stdout).replace('\r', "")
    }
}

impl Asked for Emulated {
    fn ask(&mut self) -> Started {
        let said = self.says(LIMIT);
        let (before, behind) = said.rsplit_once("\ninitrd\n").unwrap_or_else(|| panic!("nothing was started:\n{said}"));
        let (_, words) = before.rsplit_once("\nlinux\n").unwrap_or_else(|| panic!("no kernel:\n{said}"));
        let mut words = words.lines().filter_map(|line| line.strip_prefix("word ")).map(|word| word.trim_end().to_owned());
        let kernel = words.next().unwrap_or_default();
        let (images, _) = behind.split_once("\nboot").unwrap_or_else(|| panic!("not loaded:\n{said}"));
        Started { words: words.collect(), kernel, initramfs: images.lines().map(str::trim_end).collect() }
    }

    fn comes_to_nothing(&mut self) {
        let said = self.says(LAST_RESORT);
        assert!(said.contains("nothing here can be started"), "{said}");
        assert!(!said.contains("\nboot\n"), "{said}");
    }
}
