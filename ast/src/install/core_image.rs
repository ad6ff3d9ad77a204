//! GRUB's core image: made with everything that the fixed script needs inside, so that a damaged module directory stops nothing;
//! put where the firmware looks for it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use super::fat::Fat;
use super::table::{Boot, SECTOR, Scheme, random_id};
use super::{InstallError, Result, Target, tool};
use crate::exec::Program;
use crate::grub::{Serial, script};
use crate::id::CoreId;
use crate::{layout, sys};

/// Name of the script inside the core image.
const INSIDE: &str = "boot.cfg";
/// What it is packed in, and the lines that come first.
const ARCHIVE: &str = "memdisk.tar";
const EARLY: &str = "load.cfg";
/// The name of the image.
pub const CORE: &str = "core.img";
/// The name of the image while it is made.
pub const CORE_NEW: &str = "core.img.new";
/// Goes on with `grub.cfg` if that is as ast wrote it: GRUB checks nothing that btrfs reads, and half a script is worse than none. One without
/// sums is grub-mkconfig's, and whether that came to its end shows in `default`: our last line sets it to the entry that was decided for, its own
/// header to something else. In any other case the copy in the image starts the machine; and where that cannot, another start may find what
/// this one did not, and a prompt helps no one.
const INSIDE_SCRIPT: &str = "\
set ast_default=
if [ -s \"$ast_boot/ast/grub.sums\" ]; then
  if hashsum --hash sha256 --check \"$ast_boot/ast/grub.sums\" --prefix \"$ast_boot\"; then source \"$ast_boot/grub.cfg\"; fi
elif [ -s \"$ast_boot/grub.cfg\" ]; then
  source \"$ast_boot/grub.cfg\"
fi
if [ -z \"$ast_default\" -o \"$default\" != \"$ast_default\" ]; then
  echo \"ast: $ast_boot/grub.cfg is missing or damaged\"
  if [ -s (memdisk)/grub.cfg ]; then source (memdisk)/grub.cfg; fi
fi
if [ -z \"$ast_default\" -o \"$default\" != \"$ast_default\" ]; then
  echo \"ast: the next attempt is in 10 seconds\"
  sleep 10
  reboot
fi
";
/// What goes before it where the disk is encrypted: what stands between `@` is filled in. Nothing may be read of the boot block before the disk is
/// unlocked, or a passphrase mistyped would cost a trial its try. Whoever is there may type it; whoever is not gets another start, which finds a
/// disk that was not ready, or a key that could not be read.
const INSIDE_LOCKED: &str = "\
set ast_unlocked=
search --no-floppy --fs-uuid --set=ast_unlocked @FS@
if [ -z \"$ast_unlocked\" ]; then
  echo \"ast: the disk is not unlocked; ESC asks for its passphrase, the next attempt is in 10 seconds\"
  if sleep --interruptible 10; then reboot; fi
@UNLOCK@  search --no-floppy --fs-uuid --set=ast_unlocked @FS@
  if [ -z \"$ast_unlocked\" ]; then reboot; fi
  set root=\"$ast_unlocked\"
  set prefix=\"($root)@PREFIX@\"
  set ast_boot=\"($root)@BOOT@\"
fi
";
/// Name of a key for LUKS containers in GRUB's directory, which is on the encrypted disk itself, and inside the core image. It is there if GRUB is to
/// unlock them without asking.
pub(super) const LUKS_KEY: &str = "luks.key";
/// The first release of GRUB whose `cryptomount` takes a key file.
const TAKES_KEYS: (u32, u32) = (2, 12);
/// Where the ESP holds our copy; the firmware's entry names it.
const EFI_OWN: &str = "EFI/ast/grubx64.efi";
/// Where firmware looks when its entries are lost (C1).
const EFI_FALLBACK: &str = "EFI/BOOT/BOOTX64.EFI";

/// A release of GRUB: its programs and its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grub {
    /// `grub-mkimage`.
    pub mkimage: PathBuf,
    /// The directory with its modules and images for the platform: `…/i386-pc` or `…/x86_64-efi`.
    pub modules: PathBuf,
    /// Its version, as 2.06.
    pub version: String,
}

/// What GRUB does with the serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Leave it alone.
    Screen,
    /// Menu and keys on the first serial port too (115200 8N1).
    Serial,
}

impl Terminal {
    /// The serial line, if it is one.
    pub const fn serial(self) -> Option<Serial> {
        match self {
            Self::Screen => None,
            Self::Serial => Some(Serial { unit: 0, speed: 115_200 }),
        }
    }
}

impl Boot {
    /// GRUB's name of the platform.
    pub const fn platform(self) -> &'static str {
        match self {
            Self::BiosRaw | Self::BiosGap => "i386-pc",
            Self::Efi => "x86_64-efi",
        }
    }
}

/// What is inside a core image beside GRUB's own code.
#[derive(Debug, Clone)]
pub struct Inside<'a> {
    /// GRUB's name of the platform.
    pub platform: &'static str,
    /// UUID of the btrfs where it finds the rest.
    pub fs_uuid: &'a str,
    /// The LUKS containers that the btrfs is in, by their UUIDs.
    pub luks: &'a [String],
    /// A file with a key for them, which becomes part of the image; without it GRUB asks for a passphrase.
    pub key: Option<&'a Path>,
    /// The serial line that it talks on.
    pub serial: Option<Serial>,
    /// Its build, which the kernel's command line names, with modules in a directory of their own. `None`: they are in GRUB's directory.
    pub build: Option<&'a CoreId>,
}

impl Inside<'_> {
    /// What makes `grub-mkimage` build it from the modules in `modules`, with its parts and `core.img` in `dir`, which holds what
    /// [`Inside::write_parts`] wrote. Both paths are those that `grub-mkimage` sees.
    pub fn arguments(&self, modules: &Path, dir: &Path) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["--directory".into(), modules.into()];
        args.extend(["--format", self.platform, "--prefix", &self.prefix(), "--config"].map(Into::into));
        args.extend([dir.join(EARLY).into(), "--memdisk".into(), dir.join(ARCHIVE).into(), "--output".into(), dir.join(CORE_NEW).into()]);
        args.extend(["memdisk", "tar"].map(Into::into));
        args.extend(script::MODULES.map(Into::into));
        if !self.luks.is_empty() {
            args.extend(script::LUKS_MODULES.map(Into::into));
        }
        // Another GRUB is started by this one, when it is to be tried.
        args.push(if self.platform == Boot::Efi.platform() { "chain" } else { "biosdisk" }.into());
        args
    }

    /// `dir` has everything that is packed into the image: the first lines, and an archive with our script and `grub_cfg`.
    pub fn write_parts(&self, dir: &Path, grub_cfg: &Path) -> Result<()> {
        sys::file::make_dirs(dir)?;
        if self.key.is_some() {
            // The image has the key inside; of it and the archive users of the machine see nothing.
            sys::file::only_for_root(dir)?;
        }
        sys::file::replace(&dir.join(INSIDE), self.script().as_bytes())?;
        sys::file::replace(&dir.join(EARLY), self.first_lines().as_bytes())?;
        let (archive, from) = (dir.join(ARCHIVE), grub_cfg.parent().unwrap_or(Path::new("/")));
        let options = ["--create", "--format=ustar", "--owner=0", "--group=0", "--mtime=@0", "--file"].map(OsStr::new);
        let files = ["--directory".as_ref(), dir.as_os_str(), INSIDE.as_ref(), "--directory".as_ref(), from.as_os_str(), "grub.cfg".as_ref()];
        let key: Vec<&OsStr> = match self.key.and_then(|key| key.parent().zip(key.file_name())) {
            Some((dir, name)) => vec!["--directory".as_ref(), dir.as_os_str(), name],
            None => Vec::new(),
        };
        tool::run(Program::Tar, options.into_iter().chain([archive.as_os_str()]).chain(files).chain(key), None).map(drop)
    }

    /// The lines that GRUB reads first, by a parser that knows no `if`; the rest is a script inside the image.
    pub fn first_lines(&self) -> String {
        let serial = self.serial.map(|Serial { unit, speed }| {
            format!("serial --unit={unit} --speed={speed}\nterminal_input serial console\nterminal_output serial console\n")
        });
        let build = self.build.map(|id| format!("set ast_core={id}\n")).unwrap_or_default();
        let how = if self.key.is_some() { format!(" --key-file (memdisk)/{LUKS_KEY}") } else { String::new() };
        let (unlock, serial, fs_uuid) = (unlock(self.luks, &how), serial.unwrap_or_default(), self.fs_uuid);
        let (prefix, boot) = (self.prefix(), layout::BOOT_SUBVOL);
        format!(
            "{serial}{build}{unlock}search.fs_uuid {fs_uuid} root\nset prefix=($root){prefix}\nset ast_boot=($root)/{boot}/grub\nnormal (memdisk)/{INSIDE}\n"
        )
    }

    /// The script inside, which those lines end with.
    pub(super) fn script(&self) -> String {
        if self.luks.is_empty() {
            return INSIDE_SCRIPT.to_owned();
        }
        let unlock: String = unlock(self.luks, "").lines().map(|line| format!("  {line}\n")).collect();
        let boot = format!("/{}/grub", layout::BOOT_SUBVOL);
        let locked = [("@FS@", self.fs_uuid), ("@UNLOCK@", &unlock), ("@PREFIX@", &self.prefix()), ("@BOOT@", &boot)];
        locked.iter().fold(INSIDE_LOCKED.to_owned(), |text, (mark, with)| text.replace(mark, with)) + INSIDE_SCRIPT
    }

    /// Where its modules are, from the top level.
    fn prefix(&self) -> String {
        let dir = format!("/{}/grub", layout::BOOT_SUBVOL);
        self.build.map_or(dir.clone(), |id| format!("{dir}/{}/{id}", layout::GRUB_BUILDS))
    }
}

/// `to` has the modules of `from`, their lists and `boot.img`.
///
/// If interrupted: some of them. The caller commits with `syncfs`.
pub fn copy_modules(from: &Path, to: &Path) -> Result<()> {
    sys::file::make_dirs(to)?;
    for name in sys::file::names(from)? {
        let path = from.join(&name);
        let wanted = path.extension().is_some_and(|e| e == "mod" || e == "lst") || path.ends_with("boot.img");
        // A link would lead wherever the snapshot's maker wished.
        if wanted && path.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            fs::copy(&path, to.join(name)).map_err(|e| InstallError::io(&path, e))?;
        }
    }
    Ok(())
}

impl Grub {
    /// Whether its core image can hold a key for LUKS containers.
    pub fn takes_keys(&self) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= TAKES_KEYS
    }

    /// `grub_dir/PLATFORM` holds the modules, for whatever is loaded later, and a core image, which is returned: it unlocks the LUKS containers with
    /// these UUIDs, finds `grub_dir` by the btrfs's UUID and goes on with `grub.cfg` there, which has to exist already: a copy of it is in the image.
    ///
    /// If interrupted: the directory holds some of them; nothing that starts the machine was changed.
    pub fn install_to(&self, boot: Boot, grub_dir: &Path, fs_uuid: &str, luks: &[String], terminal: Terminal) -> Result<Vec<u8>> {
        let key = luks_key(grub_dir, luks);
        let inside = Inside { platform: boot.platform(), fs_uuid, luks, key: key.as_deref(), serial: terminal.serial(), build: None };
        let to = grub_dir.join(inside.platform);
        copy_modules(&self.modules, &to)?;
        inside.write_parts(&to, &grub_dir.join("grub.cfg"))?;
        tool::run_path(&self.mkimage, inside.arguments(&self.modules, &to))?;
        let new = to.join(CORE_NEW);
        let core = sys::file::read(&new)?;
        sys::file::replace(&to.join(CORE), &core)?;
        sys::file::remove_if_exists(&new)?;
        Ok(core)
    }

    /// The BIOS starts this core image from `disk`: it lies after the MBR, and the MBR's code loads it.
    ///
    /// If interrupted: the old MBR still starts what of the old core image is left; so this is never done by the way (C1).
    /// Refuses: a core image that does not fit before whatever comes next on the disk, or that is not laid out as expected.
    pub fn embed(&self, disk: &Target, scheme: &Scheme, core: &[u8]) -> Result<()> {
        if core.len() as u64 > scheme.core_room() {
            return Err(InstallError::CoreTooBig { size: core.len() as u64, room: scheme.core_room() });
        }
        check_blocklist(core)?;
        let boot_img = self.modules.join("boot.img");
        let mut code = sys::file::read(&boot_img)?;
        patch_boot_code(&mut code).ok_or(InstallError::BootCode(boot_img))?;
        disk.write_at(SECTOR, core)?;
        disk.write_at(0, &scheme.mbr(&code, random_id()?))
    }

    /// EFI firmware starts this core image, with and without an entry of its own.
    pub fn place_on_esp(&self, esp: &Fat, core: &[u8]) -> Result<()> {
        for path in [EFI_OWN, EFI_FALLBACK] {
            if let Some((dir, _)) = path.rsplit_once('/') {
                esp.make_dir(dir)?;
            }
            esp.write(path, core)?;
        }
        Ok(())
    }
}

/// The key for these LUKS containers that is to be part of a core image: a file in GRUB's directory, where there is one.
pub fn luks_key(grub_dir: &Path, luks: &[String]) -> Option<PathBuf> {
    let key = grub_dir.join(LUKS_KEY);
    (!luks.is_empty() && key.is_file()).then_some(key)
}

/// A line for each container. GRUB writes their UUIDs without dashes, and before 2.12 reads them so only.
fn unlock(luks: &[String], how: &str) -> String {
    luks.iter().map(|uuid| format!("cryptomount{how} --uuid {}\n", uuid.replace('-', ""))).collect()
}

/// The first sector of a core image ends in a list of where the rest lies: `grub-mkimage` writes one stretch beginning at sector 2,
/// which is where it is when the image lies at sector 1. Source: `struct grub_pc_bios_boot_blocklist` in GRUB's `boot/pc` headers.
pub(crate) fn check_blocklist(core: &[u8]) -> Result<()> {
    const LIST: usize = 512 - 12;
    let field = |from: usize, len: usize| {
        core.get(LIST + from..LIST + from + len)
            .map(|bytes| bytes.iter().rev().fold(0u64, |sum, b| sum << 8 | u64::from(*b)))
            .unwrap_or_default()
    };
    let (start, len) = (field(0, 8), field(8, 2));
    let rest = (core.len() as u64).div_ceil(SECTOR).saturating_sub(1);
    if start == 2 && len == rest { Ok(()) } else { Err(InstallError::Blocklist { start, len, rest }) }
}

/// What `grub-bios-setup` changes in `boot.img` for a hard disk: the core image is at sector 1, and the jump that skips the check of a
/// wrong drive number from the BIOS becomes two no-operations. Source: GRUB's `boot/i386/pc/boot.S`, `util/setup.c`.
fn patch_boot_code(code: &mut [u8]) -> Option<()> {
    /// Offset of the eight bytes with the core image's first sector.
    const KERNEL_SECTOR: usize = 0x5c;
    /// Offset of that jump.
    const DRIVE_CHECK: usize = 0x66;
    code.get_mut(KERNEL_SECTOR..KERNEL_SECTOR + 8)?.copy_from_slice(&1u64.to_le_bytes());
    let jump = code.get_mut(DRIVE_CHECK..DRIVE_CHECK + 2)?;
    // A short jump: anything else is not the boot.img that we know.
    (jump.first() == Some(&0xeb)).then(|| jump.copy_from_slice(&[0x90, 0x90]))
}
