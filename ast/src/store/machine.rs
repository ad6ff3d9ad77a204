//! `machine.json`: what the installer found and proved about this machine.

use serde::{Deserialize, Serialize};

use crate::cmdline::BlockPlace;
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
    /// Version of the GRUB that was installed.
    pub grub_version: Option<String>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
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
