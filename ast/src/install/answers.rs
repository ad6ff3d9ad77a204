//! What somebody who installs a machine decides, beside what a declaration says of any snapshot: a table `[install]` of it, and profiles.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

use super::{Boot, InstallError, Result};
use crate::apply::{ApplyError, Declaration};

/// The profiles that ast brings; the same files are in `/usr/share/ast/profiles`, for copying.
pub const PROFILES: [(&str, &str); 4] = [
    ("minimal", include_str!("../../../packaging/profiles/minimal.toml")),
    ("gnome", include_str!("../../../packaging/profiles/gnome.toml")),
    ("kde", include_str!("../../../packaging/profiles/kde.toml")),
    ("mate", include_str!("../../../packaging/profiles/mate.toml")),
];
/// The one that is taken when nothing is said.
pub const USUAL_PROFILE: &str = "minimal";

/// The table `[install]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Install {
    /// A profile of ast's, or a declaration, relative to the answers.
    pub profile: Option<String>,
    /// How the machine starts; found out when nothing is said.
    pub boot: Option<BootWish>,
    /// Whether GRUB's menu is on the first serial port too.
    pub serial: bool,
    /// Whether GRUB's menu is shown only to whoever asks for it, as on a machine that nobody visits (C4).
    pub hidden_menu: bool,
}

/// How a machine is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum BootWish {
    /// EFI.
    Efi,
    /// BIOS; where the boot block lies follows from GRUB's version.
    Bios,
    /// BIOS with the block in raw sectors.
    BiosRaw,
    /// BIOS with the block on a small FAT partition.
    BiosGap,
}

impl BootWish {
    /// As it is written, and what it is.
    pub const ALL: [(&str, Self); 4] =
        [("efi", Self::Efi), ("bios", Self::Bios), ("bios-raw", Self::BiosRaw), ("bios-gap", Self::BiosGap)];

    /// How this machine itself was started.
    pub fn of_this_machine() -> Self {
        if Path::new("/sys/firmware/efi").is_dir() { Self::Efi } else { Self::Bios }
    }

    /// What it comes to with a GRUB of this version.
    ///
    /// Refuses: raw sectors with a GRUB that cannot write them.
    pub fn with_grub(self, version: &str) -> Result<Boot> {
        /// The first GRUB that saves to `($root)1024+1`.
        const RAW_SINCE: (u32, u32) = (2, 14);
        let mut numbers = version.split(['.', '~', '-']).map(|part| part.parse().unwrap_or(0));
        let raw = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= RAW_SINCE;
        match self {
            Self::Efi => Ok(Boot::Efi),
            Self::BiosRaw if !raw => Err(InstallError::GrubTooOld { version: version.to_owned() }),
            Self::BiosRaw => Ok(Boot::BiosRaw),
            Self::Bios if raw => Ok(Boot::BiosRaw),
            Self::Bios | Self::BiosGap => Ok(Boot::BiosGap),
        }
    }
}

impl FromStr for BootWish {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, wish)| wish).ok_or_else(|| format!("{text:?} is none of {}", Self::ALL.map(|(name, _)| name).join(", ")))
    }
}

impl TryFrom<String> for BootWish {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Efi => "efi",
            Self::BiosRaw => "bios-raw",
            Self::BiosGap => "bios-gap",
        })
    }
}

/// The profile of this name, or the declaration in this file (a name with a slash or that ends with `.toml`), relative to `dir`.
///
/// Refuses: names that ast has no profile of.
pub fn profile(name: &str, dir: &Path) -> Result<Declaration, ApplyError> {
    if name.contains('/') || name.ends_with(".toml") {
        return Declaration::load(&dir.join(name));
    }
    let Some((_, text)) = PROFILES.iter().find(|(known, _)| *known == name) else {
        let known = PROFILES.map(|(name, _)| name).join(", ");
        return Err(ApplyError::Impossible {
            object: format!("the profile {name:?}"),
            reason: format!("ast brings {known}; another one is a file, as ./{name}.toml"),
        });
    };
    Declaration::parse(text).map_err(|reason| ApplyError::Unclear { file: PathBuf::from(name), reason })
}
