//! `grub.json`: which build of GRUB starts this machine, and which one is to.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Result;
use crate::id::CoreId;
use crate::layout::{self, Layout};
use crate::store::document;
use crate::tree::Later;

/// A build: a core image and its modules, in a directory of its own below GRUB's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// It.
    pub id: CoreId,
    /// GRUB's version, as its modules say.
    pub version: String,
    /// GRUB's name of the platform.
    pub platform: String,
    /// Sum of the core image, as it came from `grub-mkimage`.
    pub sha256: String,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The old GRUB is asked to try it, or was.
    Try,
    /// It has started the machine well, and takes the place of the old one.
    Proven,
    /// The firmware starts it, or is about to; the old one is still there.
    Switched,
}

/// An update under way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The new build.
    pub build: Build,
    /// How far it is.
    pub stage: Stage,
    /// BIOS, once it is switched: the first sector of the old core image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_core: Option<u64>,
    /// The start of the machine in which it was switched: the next one is the first by the firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_in: Option<String>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

/// The document. A machine whose GRUB was never updated has none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loader {
    /// The build that starts the machine; `None`: what the installer or `grub-install` put there.
    pub current: Option<Build>,
    /// The update under way.
    pub update: Option<Update>,
    /// The disk that was named as the one that starts this machine, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<PathBuf>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

/// What the document says; the default where there is none.
///
/// Refuses: one that is damaged with its older copy, or only a newer ast can read.
pub fn load(layout: &Layout) -> Result<Loader> {
    Ok(document::load_if_exists::<Loader>(&layout.document(layout::GRUB))?.map(|loaded| loaded.body).unwrap_or_default())
}

/// It says this, also after a power cut.
pub(super) fn save(layout: &Layout, loader: &Loader) -> Result<()> {
    document::save(&layout.document(layout::GRUB), loader)?;
    Ok(crate::sys::file::syncfs(layout.snapshots())?)
}
