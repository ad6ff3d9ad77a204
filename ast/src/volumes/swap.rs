//! Swap files: btrfs refuses to snapshot a subvolume as long as one in it is in use (`ETXTBSY`). Source: btrfs(5), "SWAPFILE SUPPORT".

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::fstab::unescape;
use crate::sys::{SysError, file};

/// What is in use as swap. Source: `proc_swaps(5)`.
const SWAPS: &str = "/proc/swaps";

/// A swap file in use in the subvolume at `dir`, if there is one.
pub fn swap_file(dir: &Path) -> Result<Option<PathBuf>, SysError> {
    Ok(in_use(&String::from_utf8_lossy(&file::read_if_exists(Path::new(SWAPS))?.unwrap_or_default()), dir))
}

/// The same, by the kernel's list. Each subvolume of a btrfs is another device for whoever looks at its files.
fn in_use(swaps: &str, dir: &Path) -> Option<PathBuf> {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|meta| meta.dev());
    let files = swaps.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (path, kind) = (words.next()?, words.next()?);
        (kind == "file").then(|| PathBuf::from(unescape(path)))
    });
    let here = device(dir)?;
    files.into_iter().find(|path| device(path) == Some(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_a_swap_file_is_found_in_its_subvolume_and_nowhere_else() {
        let dir = tempfile::tempdir().expect("dir");
        let swap = dir.path().join("swap file");
        file::replace(&swap, b"").expect("written");
        let list = |path: &str, kind: &str| format!("Filename\t\tType\t\tSize\tUsed\tPriority\n{path} {kind}\t1024\t0\t-2\n");
        let named = swap.to_string_lossy().replace(' ', "\\040");
        assert_eq!(in_use(&list(&named, "file"), dir.path()), Some(swap));
        assert_eq!(in_use(&list(&named, "partition"), dir.path()), None);
        assert_eq!(in_use(&list("/proc/version", "file"), dir.path()), None, "of another filesystem");
        assert_eq!(in_use(&list("/nowhere", "file"), dir.path()), None);
        assert_eq!(in_use("", dir.path()), None);
    }
}
