//! The machine's cache of package files, which all snapshots share and pacman never cleans.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::PackageSet;
use crate::sys::{SysError, file};

/// What pacman's temporary directories begin with; one that is cut off leaves its own behind.
const DOWNLOAD: &str = "download-";

/// What is in `cache` and of no use: package files, with their signatures, of what none of `installed` has, and what broken downloads
/// left. Files of any other name are not ours to judge.
pub fn spare_files(cache: &Path, installed: &[PackageSet]) -> Result<Vec<PathBuf>, SysError> {
    let used: BTreeSet<String> = installed.iter().flat_map(PackageSet::iter).map(|p| format!("{}-{}", p.name, p.version)).collect();
    let names = file::names(cache)?;
    let spare = |name: &str| name.starts_with(DOWNLOAD) || package(name).is_some_and(|package| !used.contains(package));
    Ok(names.iter().filter(|name| name.to_str().is_some_and(spare)).map(|name| cache.join(name)).collect())
}

/// Name and version in the name of a package file: `hello-1:2.1-3` of `hello-1:2.1-3-x86_64.pkg.tar.zst` and of its `.sig`.
fn package(file_name: &str) -> Option<&str> {
    let (stem, _) = file_name.split_once(".pkg.tar")?;
    stem.rsplit_once('-').map(|(package, _architecture)| package)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pacman::Package;

    #[test]
    fn only_what_no_snapshot_has_is_spare() {
        let set = |name: &str, version: &str| -> PackageSet {
            [Package { name: name.into(), version: version.into(), explicit: true }].into_iter().collect()
        };
        let dir = tempfile::tempdir().expect("dir");
        let kept =
            ["a-1:2.1-3-x86_64.pkg.tar.zst", "a-1:2.1-3-x86_64.pkg.tar.zst.sig", "b-b-1-1-any.pkg.tar", "notes", "a-9.tar", ".pkg.tar"];
        let spare = ["a-1:2.1-4-x86_64.pkg.tar.zst", "a-2.1-3-x86_64.pkg.tar.zst", "b-1-1-any.pkg.tar", "b-b-1-2-any.pkg.tar.zst.part"];
        for name in kept.iter().chain(&spare) {
            file::replace(&dir.path().join(name), b"x").expect("file");
        }
        file::make_dirs(&dir.path().join("download-x1")).expect("dir");
        let mut found = spare_files(dir.path(), &[set("a", "1:2.1-3"), set("b-b", "1-1")]).expect("readable");
        found.sort();
        let mut expected: Vec<_> = spare.iter().chain(&["download-x1"]).map(|name| dir.path().join(name)).collect();
        expected.sort();
        assert_eq!(found, expected);
        assert!(spare_files(&dir.path().join("none"), &[]).expect("no cache").is_empty());
    }
}
