//! The fixed `grub.cfg`: the same for good and bad deployments, written together with the boot loader only.
//!
//! What it does is in `ast.cfg` beside this file; here its few blanks are filled in. Everything that changes from
//! deployment to deployment is read by it out of files (`ast.env`, `good.cfg`, the boot block) as checked data.

use super::GrubError;
use crate::cmdline::BlockPlace;
use crate::layout::{FILE_BLOCK_A, FILE_BLOCK_B, RAW_BLOCK_A_SECTOR, RAW_BLOCK_B_SECTOR};

/// The script with its blanks.
const TEMPLATE: &str = include_str!("ast.cfg");

/// Modules that must be inside GRUB's core image: a command that is missing counts as true in a script,
/// so none of these may depend on a file that can be damaged.
pub const MODULES: [&str; 25] = [
    "part_gpt",
    "part_msdos",
    "btrfs",
    "fat",
    "normal",
    "search",
    "search_fs_uuid",
    "loadenv",
    "test",
    "regexp",
    "hashsum",
    "gcry_sha256",
    "gcry_sha512",
    "linux",
    "boot",
    "echo",
    "sleep",
    "reboot",
    "configfile",
    "terminal",
    "serial",
    "loopback",
    "minicmd",
    "gzio",
    "multiboot",
];

/// A serial line that GRUB talks on beside the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial {
    /// 0 is the first port.
    pub unit: u8,
    /// Bits per second.
    pub speed: u32,
}

/// What differs between machines; it is found out when the boot loader is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptConfig {
    /// UUID of the btrfs filesystem.
    pub fs_uuid: String,
    /// Where the boot block is.
    pub block: BlockPlace,
    /// Whether GRUB uses a serial line before the menu's settings are known. Never on a kiosk: noise is keys (C4).
    pub serial: Option<Serial>,
}

/// The text of `grub.cfg` for this machine.
///
/// Refuses: UUIDs with anything but hexadecimal digits and dashes, as they become part of a script.
pub fn render(config: &ScriptConfig) -> Result<String, GrubError> {
    uuid(&config.fs_uuid)?;
    let (block, fat) = match &config.block {
        BlockPlace::Raw => ("raw".to_owned(), ""),
        BlockPlace::Files(fat) => (format!("files:{}", uuid(fat)?), fat.as_str()),
        BlockPlace::Local => ("local".to_owned(), ""),
    };
    let place = match config.block {
        BlockPlace::Raw => format!("set ast_a=\"($ast_root){RAW_BLOCK_A_SECTOR}+1\"\nset ast_b=\"($ast_root){RAW_BLOCK_B_SECTOR}+1\"\n"),
        BlockPlace::Files(_) => format!(
            "regexp --set=1:ast_disk '^([^,]+)' \"$ast_root\"\n\
             if search --no-floppy --fs-uuid --set=ast_fat_root --hint=\"$ast_disk,\" \"$ast_fat\"; then\n  \
             set ast_a=\"($ast_fat_root)/{FILE_BLOCK_A}\"\n  set ast_b=\"($ast_fat_root)/{FILE_BLOCK_B}\"\nfi\n"
        ),
        BlockPlace::Local => "insmod loopback\nif loopback astlocal \"$ast_store/ast/bootblock\"; then\n  \
             set ast_a=\"(astlocal)0+1\"\n  set ast_b=\"(astlocal)1+1\"\nfi\n"
            .to_owned(),
    };
    let count = match config.block {
        // No GRUB can write to a file on btrfs: the initramfs counts alone, and is told so.
        BlockPlace::Local => {
            "# The initramfs counts: GRUB cannot write here.\n\
             function ast_count {\n  set ast_env=fail\n  return 0\n}\n"
        }
        _ => {
            "# A try is counted by a save that reads back.\n\
              function ast_count {\n  if ast_save; then return 0; fi\n  return 1\n}\n"
        }
    };
    let terminal = config.serial.map(|serial| {
        let Serial { unit, speed } = serial;
        format!(
            "insmod serial\ninsmod terminal\nif serial --unit={unit} --speed={speed}; then\n  \
             terminal_input serial console\n  terminal_output serial console\nfi\n"
        )
    });
    Ok(TEMPLATE
        .replace("@FS_UUID@", &config.fs_uuid)
        .replace("@BLOCK@", &block)
        .replace("@FAT_UUID@", fat)
        .replace("@TERMINAL@\n", &terminal.unwrap_or_default())
        .replace("@PLACE@\n", &place)
        .replace("@COUNT@\n", count))
}

/// The UUID (or FAT serial) itself, if it may stand in a script.
fn uuid(text: &str) -> Result<&str, GrubError> {
    let plain = (4..=36).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if plain { Ok(text) } else { Err(GrubError::Uuid(text.chars().take(40).collect())) }
}
