//! A root inside LUKS: what its header says, whether GRUB can read that, and which device it is on.
//!
//! GRUB reads kernel and initramfs from the same filesystem as everything else, so it unlocks the disk before anything of ours runs. The
//! initramfs unlocks it a second time, by the hooks of the distribution (`encrypt`, `sd-encrypt`), before ours.

mod header;
mod stack;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use header::{Header, Kdf, Slot, parse};
pub use stack::{Container, under};

use crate::sys::SysError;

/// Why GRUB would not unlock a container, or what is wrong with its header.
#[derive(Debug, thiserror::Error)]
pub enum LuksError {
    /// It begins like LUKS, and neither copy of the header is whole.
    #[error("neither copy of its LUKS header is whole: {0}")]
    Damaged(&'static str),
    /// No key slot that GRUB can use.
    #[error(
        "GRUB cannot use any of its key slots ({}): before 2.14 it knows PBKDF2 only, and since then it needs as much memory as each asks for, which \
         firmware does not promise; `cryptsetup luksConvertKey --pbkdf pbkdf2 DEVICE` changes one", slots(.0)
    )]
    KeySlots(Vec<Slot>),
    /// A cipher that is not in our core image.
    #[error("its cipher is {0}, and GRUB as ast installs it reads aes only; `cryptsetup reencrypt --cipher aes-xts-plain64 DEVICE` changes it")]
    Cipher(String),
    /// Several segments, or none.
    #[error("its data is in {0} segments: a `cryptsetup reencrypt` has not come to its end, and GRUB cannot read it until then")]
    Segments(usize),
    /// It could not be read.
    #[error(transparent)]
    Sys(#[from] SysError),
}

fn slots(slots: &[Slot]) -> String {
    let words: Vec<String> = slots.iter().map(|slot| format!("{}: {}", slot.number, slot.kdf)).collect();
    if words.is_empty() { "there are none".to_owned() } else { words.join(", ") }
}

/// The container that the filesystem on `node` is in, with its header; `None` when it is in none.
///
/// Refuses: a header that cannot be read.
pub fn of(node: &Path) -> Result<Option<(PathBuf, Header)>, LuksError> {
    let Some(container) = under(node) else { return Ok(None) };
    Ok(Header::read(&container.device)?.map(|header| (container.device, header)))
}
