//! Changing what is booted: in a working copy of the booted deployment first, and then at once and whole, or not at all.
//!
//! ```text
//!  Session::begin ── work in its copy ── finish() ── apply(): exchange deploy/D/root ── settle(): /etc, /var ── show(): bind over /usr …
//!        │                                  │                     │ (the commit)              └─ by repair, if it was cut off
//!        └── refused: nothing else that     └── refused: kernel,  └── cut off before: what is in `live-TOKEN.*` is garbage
//!            booted well, a trial               boot, a mixture
//! ```
//!
//! The deployment on disk is never half changed, however this ends: it is the one that starts when nothing else does. What runs keeps the old
//! root below the new directories until the next start; then it is deleted.

mod apply;
mod changes;
mod session;
mod settle;
mod show;

use std::collections::BTreeSet;

use crate::id::DeployId;
use crate::pacman::PacmanError;
use crate::store::StoreError;
use crate::sys::SysError;
use crate::volumes::VolumeError;
use crate::work::WorkError;

pub use apply::{Applied, apply};
pub use session::{Ready, Session, allowed};
pub use settle::settle;

/// Beginning of the names, in the directory of a deployment, of what a live change is made of.
const PREFIX: &str = "live-";
/// In the root of a deployment that was changed live: the token of the last change.
const MARK: &str = "usr/share/ast/live";

/// Why what is booted is not changed.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// It is not known what is booted, or it is no deployment of its own.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its test would say nothing about what it is afterwards.
    #[error("deployment {0} is on trial: what is tried is not changed")]
    OnTrial(DeployId),
    /// There would be no way back.
    #[error("no other deployment than {0} is known to have booted well, so there would be no way back")]
    NoOther(DeployId),
    /// The kernel or what starts it would be another one.
    #[error("it would change what starts the machine: {}", few(.0))]
    Boot(BTreeSet<String>),
    /// Packages of another time than the others.
    #[error("it would be a partial upgrade: {}", few(.0))]
    Partial(BTreeSet<String>),
    /// A document, the boot block or the menu cannot be read: then nothing is deleted, and an old root could not be (S2).
    #[error("not everything of this machine can be read, so what is booted is not changed")]
    Unread,
    /// Somebody else changed it live meanwhile, or another one is booted.
    #[error("deployment {0} was changed meanwhile")]
    Moved(DeployId),
    /// The copy.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// Its packages.
    #[error(transparent)]
    Pacman(#[from] PacmanError),
    /// A directory of subvolumes.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The kernel.
    #[error(transparent)]
    Sys(#[from] SysError),
}

impl LiveError {
    /// Whether a rule forbids it (exit code 3), rather than the world failing.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::OnTrial(_) | Self::NoOther(_) | Self::Boot(_) | Self::Partial(_) | Self::Moved(_) => true,
            Self::Store(error) => error.is_refusal(),
            Self::Pacman(PacmanError::Mixture { .. }) => true,
            _ => false,
        }
    }
}

/// The first few, and how many more there are.
fn few(all: &BTreeSet<String>) -> String {
    const FEW: usize = 4;
    let named = all.iter().take(FEW).map(String::as_str).collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(FEW) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
