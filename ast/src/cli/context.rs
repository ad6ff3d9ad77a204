//! What every verb shares: where the machine is, how to print, what may be asked.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::error::{CommandError, Kind};

/// The flags that stand before or after any verb.
#[derive(Debug, Clone, clap::Args)]
pub struct Global {
    /// Work on an astOS whose /.snapshots is at DIR/.snapshots (a live USB, an image on a loop device)
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    pub sysroot: PathBuf,
    /// Print one JSON document instead of text; /usr/share/doc/ast/json.md describes each
    #[arg(long, global = true)]
    pub json: bool,
    /// Ask nothing
    #[arg(short, long, global = true)]
    pub yes: bool,
    /// Print the plan, step by step, and change nothing
    #[arg(short = 'n', long, global = true)]
    pub dry_run: bool,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more; twice shows every command line that is run
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Work although this looks like the inside of a chroot
    #[arg(long = "chroot", global = true)]
    pub in_chroot: bool,
}

impl Global {
    /// Whether this process may write: root, and not inside a working copy.
    ///
    /// Refuses: anybody but root; a chroot, unless `--chroot` says so.
    pub fn may_write(&self) -> Result<(), CommandError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(CommandError::new(Kind::World, "this changes the system, and only root may").hint("run it with sudo"));
        }
        if self.sysroot == Path::new("/") && !self.in_chroot && inside_chroot() {
            return Err(CommandError::refused("this is the inside of a chroot, where ast would damage the system")
                .hint("leave it with `exit 0` (save) or `exit 1` (discard); `--chroot` overrides"));
        }
        Ok(())
    }

    /// Whether the person agrees to `question`.
    ///
    /// Refuses: to guess where nobody can be asked.
    pub fn confirm(&self, question: &str) -> Result<(), CommandError> {
        if self.yes || self.dry_run {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(CommandError::refused(format!("{question} Nobody can be asked here")).hint("add --yes to go on without a question"));
        }
        eprint!("{question} [y/N] ");
        let asked = std::io::stderr().flush().and_then(|()| {
            let mut line = String::new();
            std::io::stdin().read_line(&mut line).map(|_| line)
        });
        match asked.map(|l| l.trim().to_ascii_lowercase()) {
            Ok(answer) if answer == "y" || answer == "yes" => Ok(()),
            _ => Err(CommandError::refused("left as it was")),
        }
    }

    /// A line for people, on standard error, unless they want less.
    pub fn say(&self, line: impl std::fmt::Display) {
        if !self.quiet {
            // A terminal that is gone is no reason to stop.
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }

    /// What would be done, on standard output.
    pub fn plan(&self, text: &str) -> Result<(), CommandError> {
        if self.json { self.print_json(&json!({ "changed": false, "plan": text })) } else { print(text) }
    }

    /// Why nothing was changed: a line for people, a document for programs.
    pub fn nothing(&self, why: &str) -> Result<(), CommandError> {
        self.say(why);
        if self.json { self.print_json(&json!({ "changed": false, "why": why })) } else { Ok(()) }
    }

    /// A result for programs, on standard output.
    pub fn print_json(&self, document: &serde_json::Value) -> Result<(), CommandError> {
        print(&format!("{document:#}\n"))
    }
}

/// `text` is on standard output. A reader who left early is no error.
pub fn print(text: &str) -> Result<(), CommandError> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(CommandError::new(Kind::World, format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Whether our root is another one than that of process 1, or a working copy says so.
fn inside_chroot() -> bool {
    use std::os::unix::fs::MetadataExt;
    if Path::new("/run/ast/working-copy").exists() {
        return true;
    }
    match (std::fs::metadata("/"), std::fs::metadata("/proc/1/root/.")) {
        (Ok(ours), Ok(init)) => (ours.dev(), ours.ino()) != (init.dev(), init.ino()),
        _ => false,
    }
}

/// `seconds` since 1970 as `2026-11-23T06:07:52Z`.
pub fn utc(seconds: u64) -> String {
    // The last second that the format can hold, for a clock or a document gone mad.
    const LAST: u64 = 253_402_300_799;
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds.min(LAST))).to_string()
}

/// `text` on one line and without control characters, so that no document can drive a terminal.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
