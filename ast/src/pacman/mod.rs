//! The package manager inside a snapshot: what is installed, transactions in a working copy, and a look for updates that touches nothing.
//!
//! With `aur::True` in its `ast.conf` the copy also gets what only the AUR has: [`install`] and [`upgrade`] see to it.
//!
//! A transaction is judged by the package sets before and after it (R4): pacman ends with 0 when a hook of it failed.

mod aur;
mod cache;
mod cause;
mod check;
mod local;
mod pristine;
mod profile;
mod refresh;
mod renew;
mod set;
mod share;
mod transaction;
mod version;

pub use aur::{AurError, BuildCause, SrcInfoError};
pub use cache::spare_files;
pub use cause::Cause;
pub use check::{Update, answers, check_updates, update_fingerprint};
pub use local::held;
pub use pristine::owned_in_etc;
pub use profile::{ProfileError, load_profile};
pub use renew::{Renewed, renew};
pub use refresh::{Refreshed, refresh};
pub use set::{Change, Package, PackageSet, installed};
pub use share::{install_as_in, lacking, older_than_offered, share, share_from_cache};
pub use transaction::{Feed, check_names, install, remove, upgrade};
pub use version::compare_versions;

use crate::config::snapshot::LoadError;
use crate::exec::ExecError;
use crate::sys::SysError;
use crate::work::WorkError;

/// Why packages are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum PacmanError {
    /// The database of a root cannot be read.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// pacman could not be run.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// pacman did not end in time, or could not be started.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// pacman refused or failed.
    #[error("{command} failed: {cause}{}", if tail.is_empty() { String::new() } else { format!("\n{tail}") })]
    Failed {
        /// The command line, for reading.
        command: String,
        /// What it means.
        cause: Cause,
        /// Its last words.
        tail: String,
    },
    /// pacman ended well, and the package is not there.
    #[error("pacman ended well, but {0} is not installed")]
    NotInstalled(String),
    /// pacman ended well, and the package is still there.
    #[error("pacman ended well, but {0} is still installed")]
    StillInstalled(String),
    /// pacman ended well, and the package is still old.
    #[error("pacman ended well, but {0} still has an older version than the repository")]
    StillOld(String),
    /// The AUR, or what was built from it.
    #[error(transparent)]
    Aur(#[from] AurError),
    /// The snapshot's settings cannot be read.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// Packages of different ages would be mixed: a partial upgrade.
    #[error("{name} is {here} here and {parent} in the snapshot above, so that a package from there would be a partial upgrade")]
    Mixture {
        /// A package that is needed.
        name: String,
        /// Its version here.
        here: String,
        /// Its version in the snapshot above.
        parent: String,
    },
    /// The file that a package was installed from is gone.
    #[error("the package file of {name} {version} is not in the cache any more")]
    NotCached {
        /// The package.
        name: String,
        /// Its version.
        version: String,
    },
    /// A package that cannot be renewed without others.
    #[error("the newest {name} needs more than is here: {}", needs.join(", "))]
    NotAlone {
        /// The package.
        name: String,
        /// What would be installed or changed with it.
        needs: Vec<String>,
    },
    /// A word that pacman would take for an option.
    #[error("{0:?} is no name of a package")]
    BadName(String),
}

impl PacmanError {
    /// What the failure means, where pacman said so.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Failed { cause, .. } => Some(cause),
            _ => None,
        }
    }

    /// Whether it is for want of space.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Failed { cause, .. } => *cause == Cause::Space,
            Self::Work(error) => error.is_out_of_space(),
            Self::Sys(error) => error.is_out_of_space(),
            _ => false,
        }
    }

    /// What pacman said, a line each, if it is the packages themselves that do not go together with what is there: the same ones fail the
    /// same way tomorrow, unlike a mirror, a disk or a key ring.
    pub fn rejection(&self) -> Option<Vec<String>> {
        match self {
            Self::Failed { cause: cause @ (Cause::FileConflict | Cause::Dependency), tail, .. } => {
                Some(std::iter::once(cause.to_string()).chain(tail.lines().map(str::to_owned)).collect())
            }
            _ => None,
        }
    }
}
