//! The baseline on disk.

use ast::health::{BASELINE, Baseline, Failed};
use ast::id::DeployId;
use ast::layout::Layout;
use ast::store::document;

use crate::error::Error;

/// The baseline; `None` when there is none that can be read.
pub fn load(layout: &Layout) -> Option<Baseline> {
    document::load_if_exists(&layout.document(BASELINE)).ok().flatten().map(|loaded| loaded.body)
}

/// These units fail on the good deployment `d`. Written only when that is news.
pub fn see(layout: &Layout, d: DeployId, failed: &[Failed]) -> Result<(), Error> {
    let before = load(layout);
    let after = Baseline::seen(before.clone(), d, failed);
    if before.as_ref() != Some(&after) {
        document::save(&layout.document(BASELINE), &after)?;
    }
    Ok(())
}
