//! GRUB's core image: made with everything that the fixed script needs inside, so that a damaged module directory stops nothing;
//! put where the firmware looks for it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::fat::Fat;
use super::table::{Boot, SECTOR, Scheme, random_id};
use super::{InstallError, Result, Target, tool};
use crate::exec::Program;
use crate::grub::script;
use crate::{layout, sys};

/// Name of the script inside the core image.
const INSIDE: &str = "boot.cfg";
/// Goes on with `grub.cfg` if that is as ast wrote it: GRUB checks nothing that btrfs reads, and half a script is worse than none. One without
/// sums is grub-mkconfig's, and whether that came to its end shows in `default`: our last line sets it to the entry that was decided for, its own
/// header to something else. In any other case the copy in the image starts the machine; and where that cannot, another start may find what
/// this one did not, and a prompt helps no one.
const INSIDE_SCRIPT: &str = "\
set ast_default=
if [ -s \"$prefix/ast/grub.sums\" ]; then
  if hashsum --hash sha256 --check \"$prefix/ast/grub.sums\" --prefix \"$prefix\"; then source \"$prefix/grub.cfg\"; fi
elif [ -s \"$prefix/grub.cfg\" ]; then
  source \"$prefix/grub.cfg\"
fi
if [ -z \"$ast_default\" -o \"$default\" != \"$ast_default\" ]; then
  echo \"ast: $prefix/grub.cfg is missing or damaged\"
  if [ -s (memdisk)/grub.cfg ]; then source (memdisk)/grub.cfg; fi
fi
if [ -z \"$ast_default\" -o \"$default\" != \"$ast_default\" ]; then
  echo \"ast: the next attempt is in 10 seconds\"
  sleep 10
  reboot
fi
";
/// What goes before it where the disk is encrypted: `@FS@` and `@UNLOCK@` are filled in. Nothing may be read of the boot block before the disk is
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

impl Boot {
    /// GRUB's name of the platform.
    pub const fn platform(self) -> &'static str {
        match self {
            Self::BiosRaw | Self::BiosGap => "i386-pc",
            Self::Efi => "x86_64-efi",
        }
    }
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
        let platform = boot.platform();
        let (from, to) = (&self.modules, grub_dir.join(platform));
        sys::file::make_dirs(&to)?;
        for name in sys::file::names(from)? {
            let path = from.join(&name);
            let wanted = path.extension().is_some_and(|e| e == "mod" || e == "lst") || path.ends_with("boot.img");
            if wanted {
                fs::copy(&path, to.join(name)).map_err(|e| InstallError::io(&path, e))?;
            }
        }
        let (early, image, new) = (to.join("load.cfg"), to.join("core.img"), to.join("core.img.new"));
        let archive = to.join("memdisk.tar");
        let key = !luks.is_empty() && grub_dir.join(LUKS_KEY).is_file();
        if key {
            // The image has the key inside; of it and the archive users of the machine see nothing.
            fs::set_permissions(&to, fs::Permissions::from_mode(0o700)).map_err(|e| InstallError::io(&to, e))?;
        }
        sys::file::replace(&to.join(INSIDE), inside_script(fs_uuid, luks).as_bytes())?;
        let options = ["--create", "--format=ustar", "--owner=0", "--group=0", "--mtime=@0", "--file"].map(OsStr::new);
        let inside =
            ["--directory".as_ref(), to.as_os_str(), INSIDE.as_ref(), "--directory".as_ref(), grub_dir.as_os_str(), "grub.cfg".as_ref()];
        let inside = inside.into_iter().chain(key.then_some(OsStr::new(LUKS_KEY)));
        tool::run(Program::Tar, options.into_iter().chain([archive.as_os_str()]).chain(inside), None)?;
        sys::file::replace(&early, early_config(fs_uuid, luks, key, terminal).as_bytes())?;
        let mut args: Vec<OsString> = vec!["--directory".into(), from.clone().into()];
        args.extend(["--format", platform, "--prefix", &prefix(), "--config"].map(Into::into));
        args.extend([early.into(), "--memdisk".into(), archive.into()]);
        args.extend(["memdisk", "tar"].map(Into::into));
        args.extend(script::MODULES.map(Into::into));
        if !luks.is_empty() {
            args.extend(script::LUKS_MODULES.map(Into::into));
        }
        if boot != Boot::Efi {
            args.push("biosdisk".into());
        }
        args.extend(["--output".into(), new.clone().into()]);
        tool::run_path(&self.mkimage, args)?;
        let core = sys::file::read(&new)?;
        sys::file::replace(&image, &core)?;
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

/// GRUB's directory from the top level.
fn prefix() -> String {
    format!("/{}/grub", layout::BOOT_SUBVOL)
}

fn early_config(fs_uuid: &str, luks: &[String], key: bool, terminal: Terminal) -> String {
    let serial = match terminal {
        Terminal::Screen => "",
        Terminal::Serial => "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n",
    };
    let how = if key { format!(" --key-file (memdisk)/{LUKS_KEY}") } else { String::new() };
    let unlock = unlock(luks, &how);
    // GRUB reads these lines with a parser that knows no `if`; the rest is a script inside the image.
    format!("{serial}{unlock}search.fs_uuid {fs_uuid} root\nset prefix=($root){}\nnormal (memdisk)/{INSIDE}\n", prefix())
}

/// A line for each container. GRUB writes their UUIDs without dashes, and before 2.12 reads them so only.
fn unlock(luks: &[String], how: &str) -> String {
    luks.iter().map(|uuid| format!("cryptomount{how} --uuid {}\n", uuid.replace('-', ""))).collect()
}

/// The script inside the core image.
pub(super) fn inside_script(fs_uuid: &str, luks: &[String]) -> String {
    if luks.is_empty() {
        return INSIDE_SCRIPT.to_owned();
    }
    let unlock: String = unlock(luks, "").lines().map(|line| format!("  {line}\n")).collect();
    INSIDE_LOCKED.replace("@FS@", fs_uuid).replace("@UNLOCK@", &unlock).replace("@PREFIX@", &prefix()) + INSIDE_SCRIPT
}

/// The first sector of a core image ends in a list of where the rest lies: `grub-mkimage` writes one stretch beginning at sector 2,
/// which is where it is when the image lies at sector 1. Source: `struct grub_pc_bios_boot_blocklist` in GRUB's `boot/pc` headers.
fn check_blocklist(core: &[u8]) -> Result<()> {
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
