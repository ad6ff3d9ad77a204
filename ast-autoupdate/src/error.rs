//! Why the service could not do its work.

use ast::health::HealthError;
use ast::store::StoreError;
use ast::store::document::DocumentError;
use ast::sys::SysError;
use ast::sys::lock::LockError;
use ast::updates::Refused;

/// Why the service could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The memory of the updater.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The same, while somebody else writes it.
    #[error(transparent)]
    Keep(#[from] ast::updates::KeepError),
    /// Another cycle runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A file or the kernel.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// The health of the system cannot be seen.
    #[error(transparent)]
    Health(#[from] HealthError),
    /// A bug: an event came at a place where it cannot come.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// A working copy.
    #[error(transparent)]
    Work(#[from] ast::work::WorkError),
    /// pacman.
    #[error(transparent)]
    Pacman(#[from] ast::pacman::PacmanError),
    /// A program.
    #[error(transparent)]
    Exec(#[from] ast::exec::ExecError),
    /// A bug: an effect came without what it works on.
    #[error("a step came out of its order; the next cycle begins anew")]
    Lost,
}

impl Error {
    /// Whether it is for want of space.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Store(error) => matches!(error, StoreError::NoSpace { .. }),
            Self::Sys(error) => error.is_out_of_space(),
            Self::Work(error) => error.is_out_of_space(),
            Self::Pacman(error) => error.is_out_of_space(),
            _ => false,
        }
    }
}

/// The error and what caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        // A transparent wrapper says what its source says.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}
