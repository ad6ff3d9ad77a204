//! `machine.json`: what the installer found and proved about this machine.

use serde::{Deserialize, Serialize};

use super::document::{self, DocumentError};
use crate::cmdline::BlockPlace;
use crate::layout::{self, Layout};
use crate::tree::Later;

/// How the firmware starts GRUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// From the boot sector.
    Bios,
    /// From a file on the ESP.
    Efi,
}

/// Where the boot block is, as the document writes it: `"raw"`, `"local"` or `{"files":{"uuid":"ABCD-1234"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Block {
    /// Two sectors of the btrfs device.
    Raw,
    /// Two files on the FAT filesystem with this serial.
    Files {
        /// The serial, as `ABCD-1234`.
        uuid: String,
    },
    /// One file beside the documents, which GRUB does not see.
    Local,
}

impl From<Block> for BlockPlace {
    fn from(block: Block) -> Self {
        match block {
            Block::Raw => Self::Raw,
            Block::Files { uuid } => Self::Files(uuid),
            Block::Local => Self::Local,
        }
    }
}

/// How far a machine of the original Python program is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Migration {
    /// Its snapshots are in the tree; what starts is the original's boot loader and system.
    Tree,
    /// Our boot loader starts; the original's subvolumes are still there.
    Boot,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// UUID of the btrfs with everything.
    pub fs_uuid: String,
    /// How GRUB is started.
    pub firmware: Firmware,
    /// Where the boot block is.
    pub block: Block,
    /// Serial of the ESP, on EFI.
    pub esp_uuid: Option<String>,
    /// UUIDs of the LUKS containers that the btrfs is in, one for each of its devices: GRUB's core image and the initramfs unlock them. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub luks: Vec<String>,
    /// Version of the GRUB that was installed.
    pub grub_version: Option<String>,
    /// Whether and how far it was the original program's; `None` on every other, and when nothing of that is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

impl Machine {
    /// `machine.json` says this, and its older copy too: one that named another boot block would be worse than none.
    ///
    /// If interrupted: the document is whole, old or new; the next repair makes its older copy.
    pub fn save(&self, layout: &Layout) -> Result<(), DocumentError> {
        let path = layout.document(layout::MACHINE);
        document::save(&path, self)?;
        document::save_older_copy(&path)
    }
}

/// `numbers.json`: the lowest numbers never given out. Written before a number is used; a crash only skips some (S6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbers {
    /// For the next deployment.
    pub next_deployment: u32,
    /// For the next arming.
    pub next_arm: u32,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}
