//! Units that fail on the good deployment too: no update is to blame for them (U3).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::units::Failed;
use crate::id::DeployId;

/// What failed when the good deployment was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// The good deployment.
    pub d: DeployId,
    /// The units.
    #[serde(default)]
    pub units: BTreeSet<String>,
}

impl Baseline {
    /// In memory only: these units fail on the good deployment `d`. What failed on it before still counts, since some fail only
    /// now and then; what failed on another one no longer does.
    pub fn seen(before: Option<Self>, d: DeployId, failed: &[Failed]) -> Self {
        let mut units = before.filter(|b| b.d == d).map(|b| b.units).unwrap_or_default();
        units.extend(failed.iter().map(|f| f.unit.clone()));
        Self { d, units }
    }
}
