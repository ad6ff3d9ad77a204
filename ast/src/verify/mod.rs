//! Is this whole, could it start (S12)? Asked before anything that boots it is armed, of what is on disk and not of what a program said:
//! mkinitcpio leaves a broken image in place of the old one, and pacman still ends with status 0.

mod cpio;
mod initramfs;
mod kernel;
mod system;
#[cfg(test)]
mod tests;
mod unlock;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::Path;

use initramfs::is_systemd;
pub use unlock::Disk;

use crate::grub::BootEnv;
use crate::layout::{BOOT_ENV, BOOT_SUMS, Part};
use crate::work::{Parts, check_sums};

/// One thing that is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// In which of the subvolumes.
    pub part: Part,
    /// Where in it; empty for the whole.
    pub path: String,
    /// What is the matter.
    pub lack: Lack,
}

/// What can be missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// No `vmlinuz-*` at all.
    #[error("there is no kernel; install one, as with `ast install N linux`")]
    NoKernel,
    /// Not a kernel image.
    #[error("{0}; reinstall the kernel's package")]
    BadKernel(&'static str),
    /// Modules of the kernel's version are not there.
    #[error("the kernel's version is {version}, and /usr/lib/modules/{version} is not there; reinstall the kernel's package")]
    NoModules {
        /// What the kernel says of itself.
        version: String,
    },
    /// The modules are there without their index.
    #[error("the index of modules is missing or empty; run `depmod {version}` in the snapshot")]
    NoModuleIndex {
        /// Whose modules.
        version: String,
    },
    /// A kernel without its image.
    #[error("there is no initramfs for the kernel {kernel}; run `mkinitcpio -P` in the snapshot")]
    NoInitramfs {
        /// File name of the kernel.
        kernel: String,
    },
    /// An image that cannot be read to its end.
    #[error("it cannot be read: {0}; run `mkinitcpio -P` in the snapshot")]
    BadInitramfs(String),
    /// Compressed in a way that cannot be looked into.
    #[error("it is compressed with {0}, which cannot be checked; set COMPRESSION=\"zstd\" in /etc/mkinitcpio.conf")]
    Compression(&'static str),
    /// An image without something that the boot needs.
    #[error("{0} is not in it; put `ast` last in HOOKS of /etc/mkinitcpio.conf and run `mkinitcpio -P` in the snapshot")]
    InitramfsLacks(&'static str),
    /// An image whose build did not come to its end.
    #[error("its build did not come to its end, so not all that the hook of ast adds is in it; run `mkinitcpio -P` in the snapshot and mend what that calls an error")]
    HalfBuilt,
    /// An image without what unlocks the disk.
    #[error("{0} is not in it, and the disk is encrypted; put `encrypt` (`sd-encrypt` where systemd starts) before `ast` in HOOKS of /etc/mkinitcpio.conf and run `mkinitcpio -P` in the snapshot")]
    CannotUnlock(&'static str),
    /// No word about which disk that is.
    #[error("the disk is encrypted, and no kernel argument says how it is unlocked; add `{0}…` to GRUB_CMDLINE_LINUX in /etc/default/grub of the snapshot")]
    NothingToUnlock(&'static str),
    /// A key that is named and is not there: the machine would ask for a passphrase, for ever.
    #[error("the key {0} that a kernel argument names is not in it; put it into FILES of /etc/mkinitcpio.conf and run `mkinitcpio -P` in the snapshot")]
    NoKeyFile(String),
    /// A module that is neither in the image nor in the kernel.
    #[error("the module {module} for kernel {version} is not in it; run `mkinitcpio -P` in the snapshot")]
    ModuleMissing {
        /// Which.
        module: &'static str,
        /// For which kernel.
        version: String,
    },
    /// What says which system this is.
    #[error("it is missing or names no system; reinstall the package `filesystem`")]
    NoOsRelease,
    /// The first program.
    #[error("{0}; reinstall the package `systemd`")]
    NoInit(&'static str),
    /// A directory that is mounted on.
    #[error("it is not a directory, and something has to be mounted there")]
    NoMountPoint,
    /// What says how to start it.
    #[error("it is missing, or names files that are not there; `ast chroot N` and `exit 0` write it anew")]
    NoBootEnv,
    /// A file that differs from its checksum, is missing, or is not listed.
    #[error("it does not match {BOOT_SUMS}; reinstall the package that it is of (`ast install N linux`), or run `mkinitcpio -P` in the snapshot if it is an initramfs")]
    Sum,
    /// It could not be looked at.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mount = self.part.mount_point().trim_end_matches('/');
        write!(f, "{mount}/{}: {}", self.path, self.lack)
    }
}

impl Finding {
    fn new(part: Part, path: impl Into<String>, lack: Lack) -> Self {
        Self { part, path: path.into(), lack }
    }

    /// Whether `other` is the same kind of lack at the same place, whatever version it speaks of.
    pub fn same_lack(&self, other: &Self) -> bool {
        self.part == other.part && self.path == other.path && std::mem::discriminant(&self.lack) == std::mem::discriminant(&other.lack)
    }
}

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// At everything.
    Whole,
    /// Not at what is in the images, but at the checksums: for images of which something that booted well has the very same.
    NotIntoTheImages,
    /// Not at what is in the images, nor at the checksums: for a `/boot` that nobody wrote to since it was looked at.
    NotTheImages,
}

/// Everything that keeps this from starting on a machine with such a disk; empty: it is whole. Changes nothing.
pub fn check(parts: &Parts, disk: Disk) -> Vec<Finding> {
    check_to(parts, disk, Depth::Whole)
}

/// The same, as far as is looked.
pub fn check_to(parts: &Parts, disk: Disk, depth: Depth) -> Vec<Finding> {
    let mut found = system::check(&parts.root);
    found.extend(check_boot(parts, disk, depth));
    found
}

/// The kernels with their images and modules, and the checksums.
fn check_boot(parts: &Parts, disk: Disk, depth: Depth) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut kernels: Vec<String> = fs::read_dir(&parts.boot)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("vmlinuz-"))
        .collect();
    kernels.sort();
    if kernels.is_empty() {
        found.push(Finding::new(Part::Boot, "", Lack::NoKernel));
        return found;
    }
    for name in &kernels {
        check_kernel(parts, name, disk, depth, &mut found);
    }
    if !has_boot_env(&parts.boot) {
        found.push(Finding::new(Part::Boot, BOOT_ENV, Lack::NoBootEnv));
    }
    if depth == Depth::NotTheImages {
        return found;
    }
    match check_sums(&parts.boot) {
        Ok(wrong) => found.extend(wrong.iter().map(|path| {
            let name = path.strip_prefix(&parts.boot).unwrap_or(path).to_string_lossy();
            Finding::new(Part::Boot, name, Lack::Sum)
        })),
        Err(error) => found.push(Finding::new(Part::Boot, BOOT_SUMS, Lack::Unreadable(error.to_string()))),
    }
    found
}

/// Whether the lists of checksums of two boot directories say that they hold the same kernels and images. How they are started may differ.
pub fn same_images(one: &Path, other: &Path) -> bool {
    let list = |boot: &Path| -> Option<BTreeSet<String>> {
        let text = crate::sys::file::read_if_exists(&boot.join(BOOT_SUMS)).ok()??;
        let lines = String::from_utf8(text).ok()?;
        Some(lines.lines().filter(|line| line.split_once("  ").is_none_or(|(_, name)| name != BOOT_ENV)).map(str::to_owned).collect())
    };
    list(one).is_some_and(|lines| !lines.is_empty() && list(other) == Some(lines))
}

/// Whether `ast.env` is there and names a kernel and images that are.
pub fn has_boot_env(boot: &Path) -> bool {
    let bytes = crate::sys::file::read(&boot.join(BOOT_ENV)).unwrap_or_default();
    let names_files = |env: BootEnv| {
        let mut names = env.initrd().iter().map(String::as_str).chain([env.linux()]);
        names.all(|name| has_content(&boot.join(name)))
    };
    BootEnv::parse(&bytes).is_ok_and(names_files)
}

/// One kernel, the modules of its version and the image of its name.
fn check_kernel(parts: &Parts, name: &str, disk: Disk, depth: Depth, found: &mut Vec<Finding>) {
    let version = match kernel::version(&parts.boot.join(name)) {
        Ok(version) => version,
        Err(lack) => return found.push(Finding::new(Part::Boot, name, lack)),
    };
    let modules = parts.root.join("usr/lib/modules").join(&version);
    let modules_name = format!("usr/lib/modules/{version}");
    if !modules.is_dir() {
        found.push(Finding::new(Part::Root, "usr/lib/modules", Lack::NoModules { version: version.clone() }));
    } else if !has_content(&modules.join("modules.dep")) {
        let lack = Lack::NoModuleIndex { version: version.clone() };
        found.push(Finding::new(Part::Root, format!("{modules_name}/modules.dep"), lack));
    }
    let image = format!("initramfs-{}.img", name.trim_start_matches("vmlinuz-"));
    let path = parts.boot.join(&image);
    if !path.is_file() {
        found.push(Finding::new(Part::Boot, image, Lack::NoInitramfs { kernel: name.to_owned() }));
        return;
    }
    if depth != Depth::Whole {
        return;
    }
    let env = BootEnv::parse(&crate::sys::file::read(&parts.boot.join(BOOT_ENV)).unwrap_or_default()).ok();
    let args = env.as_ref().map(BootEnv::args).unwrap_or_default();
    for lack in initramfs::check(&path, &version, parts, (disk == Disk::Encrypted).then_some(args)) {
        found.push(Finding::new(Part::Boot, image.clone(), lack));
    }
}

/// Whether `path` is a file with something in it.
fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0)
}
