//! The command line: one file per verb, errors mapped to exit codes in one place.

mod context;
mod error;

pub use context::Global;
pub use error::{CommandError, Kind};
