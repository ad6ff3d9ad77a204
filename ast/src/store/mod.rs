//! The machine's state on disk: opened for reading by anybody, written by one at a time, after a repair that leaves nothing half done.
//!
//! ```text
//! Store::open ── read only ──► tree(), copies(), booted() …            plans are made out of it
//!      │ lock
//!      ▼
//!   Locked ── repair ── run(plan): prepare ─► commit ─► after          the only way to change anything
//! ```

mod collect;
mod derive;
pub mod document;
mod error;
pub mod history;
mod lines;
pub mod machine;
mod open;
mod repair;
mod run;
mod stop;
pub mod vars;
mod verbs;

pub use error::{Need, RoomError, StoreError};
pub use open::{Locked, Store};
pub use repair::{Mended, Repaired};
pub use run::{Done, Verify, now};
pub use stop::point as stop_point;
