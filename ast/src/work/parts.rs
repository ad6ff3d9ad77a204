//! The directories that make a system, whoever holds them: a set, a deployment, a working copy.

use std::path::{Path, PathBuf};

use crate::id::{DeployId, SetId};
use crate::layout::{Layout, Part};

/// Root, `/etc`, `/boot`, and `/var` where there is one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// `/`.
    pub root: PathBuf,
    /// `/etc`.
    pub etc: PathBuf,
    /// What packages put into `/var`; a deployment has none, it shares the machine's.
    pub var: Option<PathBuf>,
    /// `/boot`.
    pub boot: PathBuf,
}

impl Parts {
    /// The four of a directory that has them under their own names.
    pub fn below(dir: &Path) -> Self {
        Self {
            root: dir.join(Part::Root.name()),
            etc: dir.join(Part::Etc.name()),
            var: Some(dir.join(Part::Var.name())),
            boot: dir.join(Part::Boot.name()),
        }
    }

    /// Those of a set.
    pub fn of_set(layout: &Layout, set: SetId) -> Self {
        Self::below(&layout.set(set))
    }

    /// Those of a deployment.
    pub fn of_deployment(layout: &Layout, d: DeployId) -> Self {
        Self { var: None, ..Self::below(&layout.deployment(d)) }
    }

    /// Where `part` is.
    pub fn get(&self, part: Part) -> Option<&Path> {
        match part {
            Part::Root => Some(&self.root),
            Part::Etc => Some(&self.etc),
            Part::Var => self.var.as_deref(),
            Part::Boot => Some(&self.boot),
        }
    }
}
