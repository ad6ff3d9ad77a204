//! What the installing machine has to have, asked before anything is written.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::core_image::Grub;
use super::machine::{SCRATCH, in_own_mounts};
use super::staging::Packages;
use super::{Boot, InstallError, Result, tool};
use crate::exec::Program;
use crate::sys::file;
use crate::sys::mount::{self, MsFlags};

/// Programs that an installation runs here, with the package that has them; the last column: only on EFI machines, or where there is a
/// small FAT partition.
const NEEDED: [(Program, &str, bool); 10] = [
    (Program::Pacman, "pacman", false),
    (Program::GrubMkimage, "grub", false),
    (Program::MkfsBtrfs, "btrfs-progs", false),
    (Program::Losetup, "util-linux", false),
    (Program::Sfdisk, "util-linux", false),
    (Program::Tar, "tar", false),
    (Program::MkfsFat, "dosfstools", true),
    (Program::Mmd, "mtools", true),
    (Program::Mdir, "mtools", true),
    (Program::Mcopy, "mtools", true),
];

/// The programs are here.
///
/// Refuses: to begin without one of them, naming its package.
pub fn check_programs(boot: Boot) -> Result<()> {
    let fat = boot != Boot::BiosRaw;
    match NEEDED.iter().find(|(program, _, only_fat)| (fat || !only_fat) && program.find().is_err()) {
        Some((program, package, _)) => Err(InstallError::NoProgram { program: program.name(), package }),
        None => Ok(()),
    }
}

/// How many packages the wanted ones are with what they need: the repositories can be reached, their databases are signed as the
/// configuration wants it, and have them all.
///
/// If interrupted: nothing is left; the databases were in memory.
pub fn check_packages(packages: &Packages) -> Result<usize> {
    let listed = in_own_mounts(|| {
        mount::mount("tmpfs", Path::new(SCRATCH), "tmpfs", MsFlags::empty(), "mode=0755")?;
        let (root, database) = (Path::new(SCRATCH).join("root"), Path::new(SCRATCH).join("db"));
        file::make_dirs(&root)?;
        file::make_dirs(&database)?;
        let paths = [("--root", root.as_os_str()), ("--dbpath", database.as_os_str()), ("--config", packages.config.as_os_str())];
        let words = ["--noconfirm", "--noprogressbar", "-Sy", "--print", "--print-format", "%n", "--"].map(OsStr::new);
        let names = packages.names.iter().map(OsStr::new);
        tool::run(Program::Pacman, paths.into_iter().flat_map(|(option, path)| [OsStr::new(option), path]).chain(words).chain(names), None)
    })?;
    Ok(String::from_utf8_lossy(&listed).lines().filter(|line| !line.is_empty() && !line.contains(' ')).count())
}

/// The version of the `grub-mkimage` that is here, as 2.06.
pub fn grub_version() -> Result<String> {
    let no_grub = |_| InstallError::NoProgram { program: Program::GrubMkimage.name(), package: "grub" };
    Program::GrubMkimage.find().map_err(no_grub)?;
    let said = tool::run(Program::GrubMkimage, ["--version"], None)?;
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    version_in(&said).ok_or(InstallError::GrubVersion { said })
}

/// `grub-mkimage (GRUB) 2:2.14-1` and `grub-mkimage (GRUB) 2.06-13+deb12u2`: without epoch and release.
fn version_in(said: &str) -> Option<String> {
    let last = said.rsplit(' ').next()?;
    let version = last.rsplit_once(':').map_or(last, |(_, rest)| rest).split(['-', '+']).next()?;
    version.starts_with(|c: char| c.is_ascii_digit()).then(|| version.to_owned())
}

/// That GRUB, with its modules for `boot` in `dir`.
///
/// Refuses: a directory without them.
pub fn grub(dir: &Path, boot: Boot, version: String) -> Result<Grub> {
    let modules = dir.join(boot.platform());
    let sign = if boot == Boot::Efi { "normal.mod" } else { "boot.img" };
    if !modules.join(sign).is_file() {
        return Err(InstallError::NoGrubModules { dir: modules });
    }
    let mkimage: PathBuf = Program::GrubMkimage.find()?;
    Ok(Grub { mkimage, modules, version })
}

#[cfg(test)]
mod tests {
    use super::super::answers::BootWish;
    use super::*;

    #[test]
    fn the_version_is_found_in_what_distributions_print() {
        for (said, version) in [
            ("grub-mkimage (GRUB) 2:2.14-1", "2.14"),
            ("grub-mkimage (GRUB) 2.06-13+deb12u2", "2.06"),
            ("grub-mkimage (GRUB) 2.12", "2.12"),
            ("grub2-mkimage (GRUB) 2.14~rc1", "2.14~rc1"),
        ] {
            assert_eq!(version_in(said).as_deref(), Some(version), "{said}");
        }
        assert_eq!((version_in("no GRUB at all"), version_in("")), (None, None));
    }

    #[test]
    fn raw_sectors_are_for_those_that_can_write_them() {
        for (wish, version, boot) in [
            (BootWish::Bios, "2.06", Some(Boot::BiosGap)),
            (BootWish::Bios, "2.12", Some(Boot::BiosGap)),
            (BootWish::Bios, "2.14", Some(Boot::BiosRaw)),
            (BootWish::Bios, "2.14~rc1", Some(Boot::BiosRaw)),
            (BootWish::Bios, "3.0", Some(Boot::BiosRaw)),
            (BootWish::BiosGap, "2.14", Some(Boot::BiosGap)),
            (BootWish::BiosRaw, "2.12", None),
            (BootWish::Efi, "2.06", Some(Boot::Efi)),
        ] {
            assert_eq!(wish.with_grub(version).ok(), boot, "{wish:?} {version}");
        }
    }
}
