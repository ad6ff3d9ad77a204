//! The boot block of a new machine, and the proof that its medium keeps it (B12).

use super::fat::Fat;
use super::{InstallError, Result, Target};
use crate::boot::block::{BLOCK_SIZE, BootBlock};
use crate::boot::medium::{Medium, Which};
use crate::layout::{FILE_BLOCK_A, FILE_BLOCK_B};

/// Both copies are `block`, on the FAT filesystem if there is one, else in the raw sectors of the btrfs, and read back so.
///
/// If interrupted: one copy or none is there.
pub(super) fn write(block: &BootBlock, btrfs: &Target, fat: Option<&Fat>) -> Result<()> {
    let Some(fat) = fat else {
        let attached = btrfs.attach()?;
        let medium = Medium::Raw { device: attached.device().to_owned() };
        medium.create(block)?;
        return match medium.read() {
            copies if copies.agree() && copies.current() == Some((Which::A, block)) => Ok(()),
            copies => Err(InstallError::Proof { which: if copies.a.is_ok() { 'B' } else { 'A' } }),
        };
    };
    let bytes = block.encode()?;
    for (which, path) in [('B', FILE_BLOCK_B), ('A', FILE_BLOCK_A)] {
        if let Some((dir, _)) = path.rsplit_once('/') {
            fat.make_dir(dir)?;
        }
        fat.write(path, &bytes)?;
        let back = fat.read(path)?;
        if back.len() != BLOCK_SIZE || BootBlock::parse(&back).ok().as_ref() != Some(block) {
            return Err(InstallError::Proof { which });
        }
    }
    Ok(())
}
