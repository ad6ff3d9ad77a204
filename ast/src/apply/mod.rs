//! A snapshot as a file says it should be: packages, users, files, services, kernel arguments, commands, or an Ansible playbook.
//!
//! ```text
//!  FILE ─ Declaration::load ─ carry_out(copy) ─ differences(source, copy) ─┬─ none: nothing to do, the copy is dropped
//!        (refused with        (each step acts only where the copy          └─ some: one seal
//!         line and name)       is not as declared)
//! ```
//!
//! Everything happens in one working copy, so it is there whole or not at all. What counts as a change is not what a step says of itself, but
//! what the copy differs in from its source in the end: so also a command or a playbook that did nothing makes no generation.

mod checked;
mod declaration;
mod differ;
mod files;
mod kernel;
mod playbook;
mod show;
mod steps;
mod system;
mod users;

use std::path::{Path, PathBuf};

use crate::config::snapshot::LoadError;
use crate::exec::ExecError;
use crate::grub::defaults::DefaultsError;
use crate::pacman::PacmanError;
use crate::sys::SysError;
use crate::work::WorkError;

pub use checked::{AccountName, HostName, Keymap, Locale, PackageName, PasswordHash, SshKey, Zone};
pub use declaration::{Declaration, User};
pub use differ::{Difference, Kind, differences};
pub use playbook::play;
pub use show::unified;
pub use steps::carry_out;

/// Why a snapshot is not as the file says.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file cannot be understood; the text says where.
    #[error("{}: {reason}", file.display())]
    Unclear {
        /// The file.
        file: PathBuf,
        /// Where and why.
        reason: String,
    },
    /// What the file says cannot be.
    #[error("{object}: {reason}")]
    Impossible {
        /// Of what it is said.
        object: String,
        /// Why not.
        reason: String,
    },
    /// Packages of the AUR in a snapshot that may not have any.
    #[error("{0} is to come from the AUR, which the snapshot's /etc/ast.conf does not allow")]
    AurOff(String),
    /// A command of the file failed.
    #[error("{command} failed ({status}){}", after_line(tail))]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// Its last words.
        tail: String,
    },
    /// A service is not as it should be.
    #[error("the service {unit} cannot be {wish}: it is {state}{}", after_line(tail))]
    Service {
        /// Its unit.
        unit: String,
        /// `enabled`, `disabled`, `masked`.
        wish: &'static str,
        /// What systemctl calls it now.
        state: String,
        /// What systemctl said.
        tail: String,
    },
    /// Packages.
    #[error(transparent)]
    Pacman(#[from] PacmanError),
    /// The working copy.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// A program.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A system call.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// `/etc/default/grub`.
    #[error(transparent)]
    Defaults(#[from] DefaultsError),
    /// `/etc/ast.conf`.
    #[error(transparent)]
    Config(#[from] LoadError),
}

fn after_line(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("\n{tail}") }
}

/// The directories that hold `path`, an absolute path inside, and its name there.
fn place<'a>(parts: &'a crate::work::Parts, path: &Path) -> Option<(&'a Path, PathBuf)> {
    use crate::layout::Part;
    for part in [Part::Etc, Part::Var, Part::Boot] {
        if let Ok(rest) = path.strip_prefix(part.mount_point()) {
            return parts.get(part).map(|dir| (dir, rest.to_owned()));
        }
    }
    path.strip_prefix("/").ok().map(|rest| (parts.root.as_path(), rest.to_owned()))
}

#[cfg(test)]
mod tests;
