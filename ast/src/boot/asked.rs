//! The word that asks GRUB to try another GRUB once, beside the boot block: GRUB takes it away before it does.

use std::path::{Path, PathBuf};

use super::block::{BLOCK_SIZE, encode_env, parse_env};
use super::medium::{Medium, MediumError, SECTOR, Which};
use crate::id::CoreId;
use crate::layout::{FILE_TRY, RAW_TRY_SECTOR};
use crate::sys::file;
use crate::sys::mount::MsFlags;

/// GRUB's name of the word.
const KEY: &str = "ast_grub_try";

impl Medium {
    /// Whether GRUB can take the word away here.
    pub const fn asks(&self) -> bool {
        !matches!(self, Self::Local { .. })
    }

    /// The build that GRUB tries at its next start. What is no word of ours asks for nothing.
    pub fn asked(&self) -> Result<Option<CoreId>, MediumError> {
        if !self.asks() {
            return Ok(None);
        }
        let open = self.open(MsFlags::MS_RDONLY)?;
        let (path, at) = self.place_of_word(open.dir());
        let bytes = if at == 0 { file::read_if_exists(&path)?.unwrap_or_default() } else { file::read_at(&path, at, BLOCK_SIZE)? };
        open.close()?;
        Ok(word(&bytes))
    }

    /// GRUB tries this build at its next start, once; with `None` it tries none. Nothing is done where it could not take the word away.
    ///
    /// If interrupted: it asks for what it did, or for this.
    pub fn ask(&self, build: Option<&CoreId>) -> Result<(), MediumError> {
        if !self.asks() {
            return Ok(());
        }
        let bytes = encode_env(&[(KEY.to_owned(), build.map(CoreId::to_string).unwrap_or_default())], BLOCK_SIZE)?;
        let open = self.open(MsFlags::empty())?;
        let (path, at) = self.place_of_word(open.dir());
        if at == 0 && file::read_if_exists(&path)?.is_none_or(|there| there.len() != BLOCK_SIZE) {
            file::make_dirs(path.parent().unwrap_or(Path::new("/")))?;
            file::replace(&path, &bytes)?;
        } else {
            file::write_in_place(&path, at, &bytes)?;
        }
        let back = file::read_at_from_device(&path, at, BLOCK_SIZE)?;
        open.close()?;
        if back == bytes { Ok(()) } else { Err(MediumError::ReadBack(Which::A, path)) }
    }

    /// What `work` makes of the directory where the FAT filesystem is seen meanwhile; `None` on a medium without one.
    ///
    /// Errors: those of `work` come first; what it wrote is on the device.
    pub fn in_files<T, E: From<MediumError>>(&self, write: bool, work: impl FnOnce(&Path) -> Result<T, E>) -> Result<Option<T>, E> {
        let open = self.open(if write { MsFlags::empty() } else { MsFlags::MS_RDONLY })?;
        let done = open.dir().map(work).transpose();
        let closed = open.close();
        let done = done?;
        closed?;
        Ok(done)
    }

    fn place_of_word(&self, dir: Option<&Path>) -> (PathBuf, u64) {
        match dir {
            Some(dir) => (dir.join(FILE_TRY), 0),
            None => (self.path().to_owned(), RAW_TRY_SECTOR * SECTOR),
        }
    }
}

fn word(bytes: &[u8]) -> Option<CoreId> {
    let pairs = parse_env(bytes, Some(BLOCK_SIZE)).ok()?;
    pairs.iter().find(|(key, _)| key == KEY)?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::block::BootBlock;
    use crate::id::DeployId;

    #[test]
    fn c1_the_word_is_beside_the_block_and_asks_for_nothing_at_first() {
        let dir = tempfile::tempdir().expect("dir");
        let image = dir.path().join("image");
        file::replace(&image, &vec![0; 1 << 20]).expect("image");
        let build: CoreId = "0123456789abcdef".parse().expect("a build");
        for medium in [Medium::Raw { device: image }, Medium::Mounted { dir: dir.path().join("esp") }] {
            let block = BootBlock::new(DeployId::new(1));
            medium.create(&block).expect("created");
            assert_eq!(medium.asked().expect("read"), None);
            medium.ask(Some(&build)).expect("asked");
            assert_eq!(medium.asked().expect("read"), Some(build.clone()));
            assert!(medium.read().agree() && medium.read().a.is_ok_and(|a| a == block), "the block is as it was");
            medium.ask(None).expect("taken back");
            assert_eq!(medium.asked().expect("read"), None);
        }
        let local = Medium::Local { path: dir.path().join("bootblock") };
        assert!(!local.asks() && local.asked().expect("nothing to read").is_none());
    }

    #[test]
    fn r7_garbage_asks_for_nothing() {
        let env = |value: &str| encode_env(&[(KEY.to_owned(), value.to_owned())], BLOCK_SIZE).expect("a block");
        for bytes in [vec![], vec![0; 512], env("../../x"), env(""), env("0123456789abcdef")[..511].to_vec()] {
            assert_eq!(word(&bytes), None);
        }
    }
}
