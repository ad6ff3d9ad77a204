//! `updates.json` on disk.

use std::path::Path;

use super::Updates;
use crate::layout::{Layout, UPDATES};
use crate::store::document::{self, DocumentError};

/// What is remembered; an empty memory when there never was one.
///
/// Refuses: a document of a newer ast that this one cannot read, and one that is damaged together with its older copy.
pub fn load(layout: &Layout) -> Result<Updates, DocumentError> {
    Ok(document::load_if_exists(&layout.document(UPDATES))?.map(|loaded| loaded.body).unwrap_or_default())
}

/// `updates` is remembered, now and after a power cut.
///
/// If interrupted: the memory is whole, old or new.
pub fn save(layout: &Layout, updates: &Updates) -> Result<(), DocumentError> {
    let path: &Path = &layout.document(UPDATES);
    document::save(path, updates)
}
