//! Our files on the EFI system partition. A file is exchanged with the one beside it: FAT has no rename that replaces in one step, but an
//! exchange frees nothing, so whichever of the two directory entries reached the disk, each of them leads to a whole file (Linux 6.0 on).

use std::path::{Path, PathBuf};

use super::{LoaderError, Result};
use crate::store::stop_point;
use crate::sys::file;

/// Where firmware looks when its own entries are lost, below the ESP.
const FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";
/// The ending of what lies beside a file of ours: no firmware looks at it.
const BESIDE: &str = "ast";
/// Bytes: no GRUB is this large, and what is larger (a kernel with its initramfs) is not read.
const LARGEST: u64 = 8 << 20;

/// The files in `esp` that start the GRUB of this machine, the one that firmware looks for by itself last.
///
/// Refuses: an ESP without any.
pub(super) fn ours(esp: &Path, fs_uuid: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let efi = esp.join("EFI");
    for dir in file::names(&efi)?.into_iter().map(|name| efi.join(name)).filter(|dir| dir.is_dir()) {
        for path in file::names(&dir)?.into_iter().map(|name| dir.join(name)) {
            let is_efi = path.extension().is_some_and(|end| end.eq_ignore_ascii_case("efi"));
            let small = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= LARGEST);
            if is_efi && small && is_ours(&file::read(&path)?, fs_uuid) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(LoaderError::NothingOnEsp);
    }
    let is_fallback = |path: &PathBuf| path.strip_prefix(esp).is_ok_and(|path| path.as_os_str().eq_ignore_ascii_case(FALLBACK));
    found.sort_by_key(|path| (is_fallback(path), path.clone()));
    Ok(found)
}

/// Whether this is a GRUB that looks for our filesystem and our directory on it: what it reads first stands in its image as it is.
fn is_ours(image: &[u8], fs_uuid: &str) -> bool {
    let has = |text: &str| memmem(image, text.as_bytes());
    has(&format!("search.fs_uuid {fs_uuid} ")) && has(&format!("/{}/grub", crate::layout::BOOT_SUBVOL))
}

fn memmem(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// What lies beside `path`.
fn beside(path: &Path) -> PathBuf {
    path.with_extension(BESIDE)
}

/// Bytes that [`switch`] needs on the ESP for an image of this size.
pub(super) fn needed(esp: &Path, fs_uuid: &str, size: u64) -> Result<u64> {
    let there = ours(esp, fs_uuid)?;
    let missing = u64::from(!esp.join(FALLBACK).exists());
    // A directory or two, and what clusters round up.
    Ok((there.len() as u64 + missing) * (size + (64 << 10)))
}

/// Every file of ours is `image`, and what it was lies beside it; there is one at the place where firmware looks by itself.
///
/// If interrupted: each of them is the old or the new one, whole.
/// Refuses: to go on where what was written does not read back.
pub(super) fn switch(esp: &Path, fs_uuid: &str, image: &[u8]) -> Result<()> {
    for path in ours(esp, fs_uuid)? {
        if file::read(&path)? == image {
            continue;
        }
        let other = beside(&path);
        stop_point("grub: write beside");
        file::replace(&other, image)?;
        file::syncfs(esp)?;
        if file::read_at_from_device(&other, 0, image.len())? != image {
            return Err(LoaderError::ReadBack { what: other.display().to_string() });
        }
        stop_point("grub: exchange");
        file::exchange(&path, &other)?;
        file::syncfs(esp)?;
    }
    let fallback = esp.join(FALLBACK);
    if !fallback.exists() {
        stop_point("grub: the other path");
        file::make_dirs(fallback.parent().unwrap_or(esp))?;
        file::replace(&fallback, image)?;
        file::syncfs(esp)?;
    }
    Ok(())
}

/// Every file that is `image` is what lies beside it again, where that is a GRUB of ours.
///
/// If interrupted: as [`switch`].
pub(super) fn switch_back(esp: &Path, fs_uuid: &str, image: &[u8]) -> Result<()> {
    // The other way round: where firmware falls back to is never newer than what it starts.
    for path in ours(esp, fs_uuid)?.into_iter().rev() {
        let other = beside(&path);
        let old = file::read_if_exists(&other)?.filter(|old| is_ours(old, fs_uuid));
        if old.is_some() && file::read(&path)? == image {
            stop_point("grub: exchange back");
            file::exchange(&path, &other)?;
            file::syncfs(esp)?;
        }
    }
    // One that was made where there was none.
    let fallback = esp.join(FALLBACK);
    let mut others = ours(esp, fs_uuid)?.into_iter().filter(|path| *path != fallback);
    if let Some(old) = others.next().map(|path| file::read(&path)).transpose()?
        && old != image
        && file::read_if_exists(&fallback)?.is_some_and(|there| there == image)
    {
        file::replace(&fallback, &old)?;
        file::syncfs(esp)?;
    }
    Ok(())
}

/// Nothing of ours lies beside any file.
pub(super) fn clean(esp: &Path, fs_uuid: &str) -> Result<()> {
    for path in ours(esp, fs_uuid)? {
        file::remove_if_exists(&beside(&path))?;
    }
    Ok(file::syncfs(esp)?)
}

/// Whether firmware that has lost its entries finds a GRUB of ours.
pub(super) fn has_fallback(esp: &Path, fs_uuid: &str) -> Result<bool> {
    Ok(file::read_if_exists(&esp.join(FALLBACK))?.is_some_and(|image| is_ours(&image, fs_uuid)))
}
