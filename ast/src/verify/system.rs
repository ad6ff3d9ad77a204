//! What the root needs to start once it is mounted.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{Finding, Lack};
use crate::layout::{MOUNT_POINTS, Part};
use crate::sys::inside;

/// What the initramfs starts, and what that has to be in the end.
const INIT: [&str; 2] = ["sbin/init", "usr/lib/systemd/systemd"];
/// What says which system this is; `/etc/os-release` is a link to it.
const OS_RELEASE: &str = "usr/lib/os-release";

/// What the root at `root` lacks.
pub(super) fn check(root: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    for name in MOUNT_POINTS {
        if !fs::symlink_metadata(root.join(name)).is_ok_and(|meta| meta.is_dir()) {
            found.push(Finding::new(Part::Root, name, Lack::NoMountPoint));
        }
    }
    if !names_a_system(root) {
        found.push(Finding::new(Part::Root, OS_RELEASE, Lack::NoOsRelease));
    }
    for name in INIT {
        if let Err(why) = program(root, name) {
            found.push(Finding::new(Part::Root, name, Lack::NoInit(why)));
        }
    }
    found
}

fn names_a_system(root: &Path) -> bool {
    let mut text = String::new();
    inside::open_in(root, Path::new(OS_RELEASE)).is_ok_and(|file| file.take(1 << 16).read_to_string(&mut text).is_ok())
        && text.lines().any(|line| line.strip_prefix("ID=").is_some_and(|id| !id.trim().is_empty()))
}

/// Whether `name`, links followed inside the root, is an executable ELF file.
fn program(root: &Path, name: &str) -> Result<(), &'static str> {
    let file: File = inside::open_in(root, Path::new(name)).map_err(|_| "it is missing")?;
    let executable = file.metadata().is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0);
    if !executable {
        return Err("it is not executable");
    }
    let mut magic = Vec::new();
    match file.take(4).read_to_end(&mut magic) {
        Ok(_) if magic == b"\x7fELF" => Ok(()),
        _ => Err("it is not a program"),
    }
}
