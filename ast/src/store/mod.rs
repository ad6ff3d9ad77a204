//! The machine's state on disk.
pub mod document;
pub mod history;
pub mod machine;
