//! What differs between a deployment and a copy of it, where it decides about starting the machine (S14).

use std::collections::BTreeSet;
use std::path::Path;

use crate::compare::Comparison;
use crate::layout::{BOOT_ENV, BOOT_SUMS};
use crate::sys::SysError;
use crate::work::Parts;

/// Where the kernel's modules are, below the root.
const MODULES: &str = "usr/lib/modules";
/// What ast itself writes into /boot when it seals, and where GRUB's own files are mounted.
const OURS: [&str; 3] = [BOOT_ENV, BOOT_SUMS, "grub"];

/// Paths of the kernel, its images and its modules that are not the same in both.
pub(super) fn of_boot(before: &Parts, after: &Parts) -> Result<BTreeSet<String>, SysError> {
    let mut found = differences(&before.boot, &after.boot, Path::new("/boot"), &OURS)?;
    found.extend(differences(&before.root.join(MODULES), &after.root.join(MODULES), &Path::new("/").join(MODULES), &[])?);
    Ok(found)
}

/// Whether anything below the two is another one.
pub(super) fn differ(a: &Path, b: &Path) -> Result<bool, SysError> {
    Ok(!differences(a, b, Path::new("/"), &[])?.is_empty())
}

fn differences(a: &Path, b: &Path, seen_at: &Path, but: &[&str]) -> Result<BTreeSet<String>, SysError> {
    let left_out = |path: &Path, _: Option<&_>, _: Option<&_>| but.iter().any(|name| path == seen_at.join(name));
    let mut found = Vec::new();
    Comparison { left_out: &left_out, whole: false }.of(a, b, seen_at, &mut found)?;
    Ok(found.into_iter().map(|difference| difference.path.display().to_string()).collect())
}
