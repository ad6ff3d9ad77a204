//! What starts a working copy, made anew where it has rotted on disk. Everything in `/boot` of Arch comes out of the rest of a system.

use std::fs;
use std::path::{Path, PathBuf};

use super::boot::{sha256, unwritten};
use super::{WorkError, WorkingCopy};
use crate::exec::{Invocation, Options, Program, Streams};
use crate::sys::file;

/// Where packages keep kernels, below a root, a directory for each release.
const MODULES: &str = "usr/lib/modules";

/// Files in `/boot` that nobody wrote to since the copy was made, and that are not what their snapshot's list of checksums says: rotten. Kernels
/// among them are made anew out of what their package keeps beside its modules; what `mkinitcpio -P` makes is left to [`renew_boot`].
///
/// One that cannot be made anew stays, and whoever looks whether the copy is whole finds it.
pub fn renew_kernels(copy: &WorkingCopy) -> Result<Vec<String>, WorkError> {
    let (boot, rotten) = (&copy.parts().boot, rotten(copy)?);
    for (name, kernel) in rotten.iter().filter_map(|name| Some((name, kernel_of(&copy.parts().root, name)?))) {
        tracing::warn!(target: "ast::work", "{name} has rotted: made anew out of {}", kernel.display());
        file::replace(&boot.join(name), &file::read(&kernel)?)?;
    }
    Ok(rotten)
}

/// The same, and the images are built anew where anything had rotted. What had, and no longer is: microcode comes out of nothing that is here.
///
/// Refuses: images that cannot be built.
pub fn renew_boot(copy: &WorkingCopy) -> Result<Vec<String>, WorkError> {
    let mut renewed = renew_kernels(copy)?;
    if !renewed.is_empty() {
        copy.run(&Invocation::new(Program::Mkinitcpio).arg("-P"), Options::new(Streams::Capture))?.success().map(drop)?;
        let left = rotten(copy)?;
        renewed.retain(|name| !left.contains(name));
    }
    Ok(renewed)
}

fn rotten(copy: &WorkingCopy) -> Result<Vec<String>, WorkError> {
    let Some(source) = copy.source() else { return Ok(Vec::new()) };
    let boot = &copy.parts().boot;
    // What cannot be read has rotted, too: the disk says so itself.
    let is_rotten = |(name, sum): &(String, String)| !sha256(&boot.join(name)).is_ok_and(|is| is == *sum);
    Ok(unwritten(boot, &source.boot)?.into_iter().filter(is_rotten).map(|(name, _)| name).collect())
}

/// The file of a package that `/boot/NAME` is a copy of: NAME is `vmlinuz-`, and what `pkgbase` beside the file says.
fn kernel_of(root: &Path, name: &str) -> Option<PathBuf> {
    let wanted = name.strip_prefix("vmlinuz-")?;
    let releases = file::names(&root.join(MODULES)).ok()?;
    let of = |release: &PathBuf| fs::read_to_string(release.join("pkgbase")).is_ok_and(|base| base.trim() == wanted);
    releases.into_iter().map(|release| root.join(MODULES).join(release)).find(of).map(|release| release.join("vmlinuz"))
}
