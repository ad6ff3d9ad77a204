//! What differs between a deployment and a copy of it, where it decides about starting the machine (S14).

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::layout::{BOOT_ENV, BOOT_SUMS};
use crate::sys::{At, SysError, file};
use crate::work::Parts;

/// Where the kernel's modules are, below the root.
const MODULES: &str = "usr/lib/modules";
/// What ast itself writes into /boot when it seals, and where GRUB's own files are mounted.
const OURS: [&str; 3] = [BOOT_ENV, BOOT_SUMS, "grub"];

/// Paths of the kernel, its images and its modules that are not the same in both.
pub(super) fn of_boot(before: &Parts, after: &Parts) -> Result<BTreeSet<String>, SysError> {
    let mut found = BTreeSet::new();
    differences(&before.boot, &after.boot, "/boot", &OURS, &mut found)?;
    differences(&before.root.join(MODULES), &after.root.join(MODULES), "/usr/lib/modules", &[], &mut found)?;
    Ok(found)
}

/// Whether anything below the two is another one.
pub(super) fn differ(a: &Path, b: &Path) -> Result<bool, SysError> {
    let mut found = BTreeSet::new();
    differences(a, b, "", &[], &mut found)?;
    Ok(!found.is_empty())
}

fn differences(a: &Path, b: &Path, shown: &str, but: &[&str], found: &mut BTreeSet<String>) -> Result<(), SysError> {
    let names: BTreeSet<_> = file::names(a)?.into_iter().chain(file::names(b)?).collect();
    for name in names.into_iter().filter(|name| !but.iter().any(|but| name == but)) {
        let (one, other) = (a.join(&name), b.join(&name));
        let here = format!("{shown}/{}", name.to_string_lossy());
        match (look(&one)?, look(&other)?) {
            (Some(x), Some(y)) if x.is_dir() && y.is_dir() => differences(&one, &other, &here, &[], found)?,
            (Some(x), Some(y)) if same(&one, &x, &other, &y)? => {}
            _ => drop(found.insert(here)),
        }
    }
    Ok(())
}

fn look(path: &Path) -> Result<Option<Metadata>, SysError> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).at("look at", path),
    }
}

/// Whether two paths that are no directories both are the same. A snapshot keeps inode numbers and times: what nobody has touched is not read.
fn same(one: &Path, x: &Metadata, other: &Path, y: &Metadata) -> Result<bool, SysError> {
    if x.mode() != y.mode() || x.len() != y.len() {
        return Ok(false);
    }
    if (x.ino(), x.ctime(), x.ctime_nsec()) == (y.ino(), y.ctime(), y.ctime_nsec()) {
        return Ok(true);
    }
    if x.is_symlink() {
        return Ok(fs::read_link(one).at("read the link", one)? == fs::read_link(other).at("read the link", other)?);
    }
    Ok(!x.is_file() || file::same_content(one, other)?)
}
