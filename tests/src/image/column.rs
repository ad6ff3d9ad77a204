//! The columns of the test table: firmware, GRUB, with them where the boot block is, and the kind of initramfs.

use crate::lab::grub::{Platform, Suite};
use ast::install::Boot;
use std::fmt;
use std::str::FromStr;

/// One kind of machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// BIOS, GRUB 2.14, raw blocks.
    Bios214Raw,
    /// BIOS, GRUB 2.06, blocks on the small FAT partition.
    Bios206Gap,
    /// EFI, GRUB 2.14, blocks on the ESP.
    Efi214,
    /// EFI, GRUB 2.06, the same.
    Efi206,
    /// As [`Self::Efi214`], with systemd in the initramfs; the others have busybox there.
    Efi214Systemd,
    /// As [`Self::Efi214`], its btrfs in LUKS2: GRUB and the initramfs unlock it, each with a key that it has inside.
    Efi214Luks,
    /// The same with systemd in the initramfs.
    Efi214LuksSystemd,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Bios214Raw, Self::Bios206Gap, Self::Efi214, Self::Efi206, Self::Efi214Systemd];

    /// Those of a few tests of their own.
    pub const OTHERS: [Self; 2] = [Self::Efi214Luks, Self::Efi214LuksSystemd];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios214Raw => "bios214-raw",
            Self::Bios206Gap => "bios206-gap",
            Self::Efi214 => "efi214",
            Self::Efi206 => "efi206",
            Self::Efi214Systemd => "efi214-systemd",
            Self::Efi214Luks => "efi214-luks",
            Self::Efi214LuksSystemd => "efi214-luks-systemd",
        }
    }

    /// How its firmware starts GRUB, and where the boot block is.
    pub fn boot(self) -> Boot {
        match self {
            Self::Bios214Raw => Boot::BiosRaw,
            Self::Bios206Gap => Boot::BiosGap,
            Self::Efi214 | Self::Efi206 | Self::Efi214Systemd | Self::Efi214Luks | Self::Efi214LuksSystemd => Boot::Efi,
        }
    }

    /// Its GRUB.
    pub fn grub(self) -> Suite {
        match self {
            Self::Bios214Raw | Self::Efi214 | Self::Efi214Systemd | Self::Efi214Luks | Self::Efi214LuksSystemd => Suite::G214,
            Self::Bios206Gap | Self::Efi206 => Suite::G206,
        }
    }

    /// What that GRUB is made for.
    pub fn platform(self) -> Platform {
        if self.is_efi() { Platform::Efi } else { Platform::Bios }
    }

    /// Whether its firmware is EFI.
    pub fn is_efi(self) -> bool {
        self.boot() == Boot::Efi
    }

    /// Whether its btrfs is in LUKS.
    pub fn is_encrypted(self) -> bool {
        matches!(self, Self::Efi214Luks | Self::Efi214LuksSystemd)
    }

    /// The packages that only this column has.
    pub fn packages(self) -> impl Iterator<Item = &'static str> {
        let initramfs = match self {
            Self::Efi214Systemd => Some("initramfs-systemd"),
            Self::Efi214Luks => Some("initramfs-encrypt"),
            Self::Efi214LuksSystemd => Some("initramfs-sd-encrypt"),
            _ => None,
        };
        self.grub().package().into_iter().chain(initramfs)
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Column {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(Self::name).join(" ");
        Self::ALL.into_iter().chain(Self::OTHERS).find(|c| c.name() == text).ok_or_else(|| format!("no column {text}; there are: {}", names()))
    }
}
