//! Entries of the menu for what is not ours: other systems, by their own loader or their own kernel.
//!
//! All of it comes from other disks, so nothing of it becomes script: what is not a plain UUID, path or word is refused, titles are cleaned.

use serde::{Deserialize, Serialize};

use super::GrubError;
use super::install::ORIGINAL_MENU;
use super::menu::{LONGEST_DESCRIPTION, clean, push, quote};

/// Characters of a path, and of all kernel arguments: what is longer is no system's (the kernel takes 2,048).
const LONGEST: usize = 2048;

/// Another system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherSystem {
    /// An EFI program on the filesystem with this UUID.
    Efi {
        /// What the menu calls it.
        title: String,
        /// UUID (or FAT serial) of its filesystem.
        fs_uuid: String,
        /// Path of the program there.
        path: String,
    },
    /// The boot sector of the partition with this UUID.
    Bios {
        /// What the menu calls it.
        title: String,
        /// UUID (or NTFS or FAT serial) of its filesystem.
        fs_uuid: String,
    },
    /// A Linux, by its own kernel.
    Linux {
        /// What the menu calls it.
        title: String,
        /// UUID of the filesystem with its kernel.
        fs_uuid: String,
        /// Path of the kernel there.
        kernel: String,
        /// Paths of its images there, in their order; there may be none.
        initrd: Vec<String>,
        /// Its kernel arguments.
        args: Vec<String>,
    },
    /// The menu that the original Python program left on a machine that was its.
    Original,
    /// The setup program of the firmware (EFI only).
    FirmwareSetup,
}

impl OtherSystem {
    /// What the menu calls it.
    pub fn title(&self) -> &str {
        match self {
            Self::Efi { title, .. } | Self::Bios { title, .. } | Self::Linux { title, .. } => title,
            Self::Original => "The original ast and its menu",
            Self::FirmwareSetup => "Firmware setup",
        }
    }

    /// What its entry is called, in one line for a menu. Behind a word of ours no name can be taken for an option.
    pub fn entry_title(&self) -> String {
        let name = clean(self.title(), LONGEST_DESCRIPTION);
        format!("Other: {}", if name.is_empty() { "a system without a name" } else { &name })
    }

    /// The text of its entry.
    ///
    /// Refuses: UUIDs, paths and arguments that cannot stand in a script.
    pub fn entry(&self) -> Result<String, GrubError> {
        let named = || quote(&self.entry_title());
        let mut text = String::new();
        match self {
            Self::Efi { fs_uuid, path, .. } => push(
                &mut text,
                format_args!(
                    "menuentry {} --class os {{\n  insmod chain\n  if {}; then\n    if chainloader {}; then boot; fi\n  fi\n}}\n",
                    named(),
                    found(fs_uuid)?,
                    at(path)?
                ),
            ),
            Self::Bios { fs_uuid, .. } => push(
                &mut text,
                format_args!(
                    "menuentry {} --class os {{\n  insmod chain\n  if {}; then\n    set root=\"$ast_other_root\"\n    if chainloader +1; then boot; fi\n  fi\n}}\n",
                    named(),
                    found(fs_uuid)?
                ),
            ),
            Self::Linux { fs_uuid, kernel, initrd, args, .. } => {
                push(&mut text, format_args!("menuentry {} --class os {{\n  if {}; then\n", named(), found(fs_uuid)?));
                push(&mut text, format_args!("    if linux {}", at(kernel)?));
                for arg in args {
                    push(&mut text, format_args!(" {}", quote(word(arg)?)));
                }
                // An image that cannot be read is no reason to start without it: GRUB would.
                match initrd.iter().map(|path| at(path)).collect::<Result<Vec<_>, _>>()?.join(" ") {
                    images if images.is_empty() => text.push_str("; then boot; fi\n"),
                    images => push(&mut text, format_args!("; then\n      if initrd {images}; then boot; fi\n    fi\n")),
                }
                text.push_str("  fi\n}\n");
            }
            Self::Original => push(
                &mut text,
                format_args!(
                    "menuentry 'The original ast and its menu' --id ast-original --class ast {{\n  configfile \"($ast_root)/@boot/grub/{ORIGINAL_MENU}\"\n}}\n"
                ),
            ),
            Self::FirmwareSetup => text.push_str(
                "if [ \"$grub_platform\" = efi ]; then\n  menuentry 'Firmware setup' --id uefi-firmware --class efi { fwsetup }\nfi\n",
            ),
        }
        Ok(text)
    }
}

/// The command that finds the filesystem with this UUID.
fn found(uuid: &str) -> Result<String, GrubError> {
    let plain = (4..=36).contains(&uuid.len()) && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match plain {
        true => Ok(format!("search --no-floppy --fs-uuid --set=ast_other_root {uuid}")),
        false => Err(GrubError::Uuid(uuid.chars().take(40).collect())),
    }
}

/// The word for a file on the filesystem that was found.
fn at(path: &str) -> Result<String, GrubError> {
    let plain = path.starts_with('/') && path.len() <= LONGEST && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._+-~@, ".contains(&b));
    match plain {
        true => Ok(format!("\"($ast_other_root)\"{}", quote(path))),
        false => Err(GrubError::Setting(path.chars().take(80).collect(), "the path of a program")),
    }
}

/// A kernel argument: anything that can be seen, since it is quoted.
fn word(arg: &str) -> Result<&str, GrubError> {
    let plain = !arg.is_empty() && arg.len() <= LONGEST && !arg.chars().any(|c| c.is_control() || c == '\\');
    if plain { Ok(arg) } else { Err(GrubError::Setting(arg.chars().take(80).collect(), "a kernel argument")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linux(kernel: &str, initrd: &[&str], args: &[&str]) -> OtherSystem {
        let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect();
        OtherSystem::Linux {
            title: "Debian '12'".into(),
            fs_uuid: "12345678-1234-1234-1234-123456789abc".into(),
            kernel: kernel.into(),
            initrd: owned(initrd),
            args: owned(args),
        }
    }

    #[test]
    fn a_linux_starts_with_its_own_kernel_images_and_words() {
        let text = linux("/boot/vmlinuz-6.1", &["/boot/ucode.img", "/boot/initrd.img-6.1"], &["root=UUID=1", "x='a b'"]).entry();
        assert_eq!(
            text.expect("plain"),
            "menuentry 'Other: Debian '\\''12'\\''' --class os {\n  if search --no-floppy --fs-uuid --set=ast_other_root 12345678-1234-1234-1234-123456789abc; then\n    \
             if linux \"($ast_other_root)\"'/boot/vmlinuz-6.1' 'root=UUID=1' 'x='\\''a b'\\'''; then\n      \
             if initrd \"($ast_other_root)\"'/boot/ucode.img' \"($ast_other_root)\"'/boot/initrd.img-6.1'; then boot; fi\n    fi\n  fi\n}\n"
        );
        let bare = linux("/vmlinuz", &[], &["ro"]).entry().expect("plain");
        assert!(bare.contains("'/vmlinuz' 'ro'; then boot; fi\n"), "{bare}");
    }

    #[test]
    fn what_has_no_name_is_called_so() {
        for name in ["", " \t", "\u{200b}\u{1b}"] {
            let entry = OtherSystem::Bios { title: name.into(), fs_uuid: "ABCD-1234".into() }.entry().expect("plain");
            assert!(entry.starts_with("menuentry 'Other: a system without a name' "), "{entry}");
        }
    }

    #[test]
    fn r7_what_is_no_path_and_no_word_is_refused() {
        for bad in ["vmlinuz", "/a\nb", "/a'b", "/a\"b", "/$x", "/a;b", "/é"] {
            assert!(linux(bad, &[], &[]).entry().is_err(), "{bad:?}");
            assert!(linux("/k", &[bad], &[]).entry().is_err(), "{bad:?}");
        }
        for bad in ["", "a\nb", "a\\", "\u{7}"] {
            assert!(linux("/k", &[], &[bad]).entry().is_err(), "{bad:?}");
        }
    }
}
