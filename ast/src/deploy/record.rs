//! `deployment.json`: what a deployment was made from, written once.

use serde::{Deserialize, Serialize};

use crate::id::{DeployId, SetId};
use crate::layout::Layout;
use crate::store::document::{self, DocumentError};
use crate::tree::Later;

/// Where a deployment comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its number.
    pub d: DeployId,
    /// The set it was cloned from.
    pub set: SetId,
    /// When, in seconds since 1970, of a clock that may be wrong.
    pub created: u64,
    /// Which program made it, for which reason.
    pub by: String,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

/// The record of a deployment.
pub fn load(layout: &Layout, d: DeployId) -> Result<Record, DocumentError> {
    document::load(&layout.deployment_record(d)).map(|loaded| loaded.body)
}
