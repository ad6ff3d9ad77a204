//! Makes, out of Debian's packages, everything a machine of the lab is installed from: signed pacman
//! repositories in several states (good and broken) and the GRUB trees of three releases.
//!
//! ```text
//!  packages.toml ─┐                                        ┌─ repo (states, signed) ── http
//!  apt ── pool ───┼─ unpack ── package (.pkg.tar.zst) ─────┤
//!  lab.lock ──────┘                                        └─ grub (tools, modules)
//! ```
//! Everything lives below one cache directory and is named by the hash of what it was made from.

pub mod apt;
pub mod cache;
pub mod error;
pub mod grub;
pub mod http;
pub mod lock;
pub mod own;
pub mod package;
pub mod pool;
pub mod recipe;
pub mod repo;
pub mod run;
pub mod sign;
pub mod stage;
pub mod unpack;

pub use error::{Error, Result};
