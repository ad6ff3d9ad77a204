//! The fixed `grub.cfg`: the same for good and bad deployments, written together with the boot loader only.
//!
//! What it does is in `ast.cfg` beside this file; here its few blanks are filled in. Everything that changes from
//! deployment to deployment is read by it out of files (`ast.env`, `good.cfg`, the boot block) as checked data.

use super::GrubError;
use super::defaults::Defaults;
use crate::cmdline::BlockPlace;
use crate::layout::{FILE_BLOCK_A, FILE_BLOCK_B, FILE_TRY, RAW_BLOCK_A_SECTOR, RAW_BLOCK_B_SECTOR, RAW_TRY_SECTOR};

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

/// What else must be inside where the disk is encrypted: both versions of LUKS, AES, and the hashes of key slots.
pub const LUKS_MODULES: [&str; 7] = ["cryptodisk", "luks", "luks2", "pbkdf2", "afsplitter", "gcry_rijndael", "gcry_sha1"];

/// A serial line that GRUB talks on beside the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Serial {
    /// 0 is the first port.
    pub unit: u8,
    /// Bits per second.
    pub speed: u32,
}

impl Serial {
    /// The serial line that `/etc/default/grub` asks for: `serial` among the terminals, `GRUB_SERIAL_COMMAND` for its unit and speed.
    ///
    /// Refuses: values that only a shell could tell.
    pub fn from_defaults(defaults: &Defaults) -> Result<Option<Self>, GrubError> {
        let mut wanted = false;
        for name in ["GRUB_TERMINAL", "GRUB_TERMINAL_INPUT", "GRUB_TERMINAL_OUTPUT"] {
            wanted |= defaults.get(name)?.is_some_and(|v| v.split_ascii_whitespace().any(|w| w.starts_with("serial")));
        }
        let command = defaults.get("GRUB_SERIAL_COMMAND")?.unwrap_or_default();
        let option = |name: &str| command.split_ascii_whitespace().find_map(|w| w.strip_prefix(name));
        let unit = option("--unit=").and_then(|v| v.parse().ok()).unwrap_or(0);
        // What GRUB itself takes when nothing is said.
        let speed = option("--speed=").and_then(|v| v.parse().ok()).unwrap_or(9600);
        Ok(wanted.then_some(Self { unit, speed }))
    }
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

/// Whether a `grub.cfg` is the fixed script, or has it in it as `grub-mkconfig` puts it there.
pub fn is_in(text: &str) -> bool {
    text.lines().any(|line| line.trim_start().starts_with("set ast_fs="))
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
        BlockPlace::Raw => [("a", RAW_BLOCK_A_SECTOR), ("b", RAW_BLOCK_B_SECTOR), ("m", RAW_TRY_SECTOR)]
            .map(|(name, sector)| format!("set ast_{name}=\"($ast_root){sector}+1\"\n"))
            .concat(),
        BlockPlace::Files(_) => format!(
            "regexp --set=1:ast_disk '^=([^,]+)' \"=$ast_root\"\n\
             if search --no-floppy --fs-uuid --set=ast_fat_root --hint=\"$ast_disk,\" \"$ast_fat\"; then\n  \
             set ast_a=\"($ast_fat_root)/{FILE_BLOCK_A}\"\n  set ast_b=\"($ast_fat_root)/{FILE_BLOCK_B}\"\n  \
             if [ -s \"($ast_fat_root)/{FILE_TRY}\" ]; then set ast_m=\"($ast_fat_root)/{FILE_TRY}\"; fi\nfi\n"
        ),
        BlockPlace::Local => "insmod loopback\nif loopback astlocal \"$ast_store/ast/bootblock\"; then\n  \
             set ast_a=\"(astlocal)0+1\"\n  set ast_b=\"(astlocal)1+1\"\nfi\n"
            .to_owned(),
    };
    let count = match config.block {
        // No GRUB can write to a file on btrfs: the initramfs counts alone, and is told so.
        BlockPlace::Local => {
            "# The initramfs counts: GRUB cannot write here.\n\
             function ast_count {\n  set ast_env=fail\n  set ast_arm_word=\"ast.arm=$my_arm.1$my_tries\"\n  return 0\n}\n"
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
    let text = TEMPLATE
        .replace("@FS_UUID@", &config.fs_uuid)
        .replace("@BLOCK@", &block)
        .replace("@FAT_UUID@", fat)
        .replace("@TERMINAL@\n", &terminal.unwrap_or_default())
        .replace("@PLACE@\n", &place)
        .replace("@COUNT@\n", count);
    Ok(bare(&text))
}

/// Whoever presses `e` in the menu writes between these quotes: they stay in a line of their own.
const EDITED: &str = "set ast_more=\"\"";

/// The same with each function, entry and `if` at the top in one line of its own, and with no comment but the first line: GRUB takes its time for each
/// line and each character, in every start. Nothing in it is quoted over the end of a line.
fn bare(text: &str) -> String {
    let mut out: String = text.lines().take(1).map(|line| format!("{line}\n")).collect();
    let mut depth = 0_usize;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let opens = line.ends_with('{') || (line.starts_with("if ") && !line.ends_with("fi")) || (line.starts_with("for ") && !line.ends_with("done"));
        let closes = ["}", "fi", "done"].contains(&line);
        depth = (depth + usize::from(opens)).saturating_sub(usize::from(closes));
        let edited = line == EDITED;
        if edited && out.ends_with(' ') {
            out.pop();
            out.push('\n');
        }
        out.push_str(line);
        let goes_on = ["{", "then", "else", "do"].iter().any(|word| line.ends_with(word));
        out.push_str(match depth {
            0 => "\n",
            _ if edited => "\n",
            _ if goes_on => " ",
            _ => "; ",
        });
    }
    out
}

/// The UUID (or FAT serial) itself, if it may stand in a script.
fn uuid(text: &str) -> Result<&str, GrubError> {
    let plain = (4..=36).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if plain { Ok(text) } else { Err(GrubError::Uuid(text.chars().take(40).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grub::parser::{What, parse};

    fn config(block: BlockPlace) -> ScriptConfig {
        let serial = Some(Serial { unit: 0, speed: 115_200 });
        ScriptConfig { fs_uuid: "12345678-1234-1234-1234-123456789abc".into(), block, serial }
    }

    #[test]
    fn every_place_gives_a_script_without_blanks() {
        for block in [BlockPlace::Raw, BlockPlace::Files("ABCD-1234".into()), BlockPlace::Local] {
            let text = render(&config(block.clone())).expect("a script");
            assert!(!text.contains('@') || !text.split('@').skip(1).any(|t| t.starts_with(|c: char| c.is_ascii_uppercase())), "{block:?}");
            let script = parse(&text).expect("GRUB's language");
            let functions = script.iter().filter(|s| matches!(s.what, What::Function { .. })).count();
            let written = text.lines().filter(|line| line.starts_with("function ")).count();
            assert!(written > 10 && functions == written, "{block:?}: {functions} of {written} functions");
        }
    }

    #[test]
    fn r7_what_is_no_uuid_does_not_get_into_a_script() {
        for bad in ["", "'; reboot; '", "1234\n5678", "$(x)", "12 34"] {
            assert!(matches!(render(&config(BlockPlace::Files(bad.into()))), Err(GrubError::Uuid(_))), "{bad:?}");
            let config = ScriptConfig { fs_uuid: bad.into(), ..config(BlockPlace::Raw) };
            assert!(matches!(render(&config), Err(GrubError::Uuid(_))), "{bad:?}");
        }
    }

    /// What GRUB gets is what is written here, for a reader of its language.
    #[test]
    fn the_bare_script_says_the_same() {
        let said = |text: &str| {
            let script = format!("{:?}", parse(text).expect("GRUB's language"));
            script.split("span: ").map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')).collect::<String>()
        };
        let text = TEMPLATE.lines().filter(|line| !line.starts_with('@')).map(|line| format!("{line}\n")).collect::<String>();
        let bare = bare(&text);
        assert_eq!(said(&bare), said(&text));
        assert!(bare.lines().count() * 3 < text.lines().count(), "{} lines of {}", bare.lines().count(), text.lines().count());
        assert_eq!(bare.lines().filter(|line| *line == EDITED).count(), text.lines().filter(|line| line.trim() == EDITED).count());
        // What runs at the top stays in lines of its own, as `is_in` looks for it.
        assert!(bare.contains("\nset ast_fs="), "{bare}");
    }

    /// GRUB drops lines that begin with `#` before it reads them; behind blanks it reads a quote in a comment as a quote.
    #[test]
    fn comments_stand_at_the_beginning_of_their_lines() {
        for line in TEMPLATE.lines().filter(|l| l.contains('#') && !l.starts_with('#')) {
            assert!(!line.contains(" #"), "{line}");
        }
    }

    /// More than three times `--set=` is more than GRUB has room for: its heap is damaged, and nobody sees it (`grub_emulated` did).
    #[test]
    fn options_given_more_than_once_have_their_values_behind_a_space() {
        for line in TEMPLATE.lines() {
            assert!(line.matches("--set=").count() <= 1, "{line}");
        }
    }

    /// What begins with `-` is an option for GRUB, and `-h` or `--usage` is answered with help, and with true. `test` has no options.
    #[test]
    fn r7_no_value_is_taken_for_an_option() {
        for block in [BlockPlace::Raw, BlockPlace::Files("ABCD-1234".into()), BlockPlace::Local] {
            let text = render(&config(block)).expect("a script");
            let commands: Vec<&str> = text.split("regexp ").skip(1).filter_map(|rest| rest.split([';', '\n']).next()).collect();
            assert!(commands.len() > 15, "{commands:?}");
            for command in commands {
                let value = command.split(' ').next_back().expect("a word");
                assert!(value.starts_with("\"=$"), "regexp {command}");
            }
        }
    }

    #[test]
    fn the_serial_line_is_taken_from_the_settings() {
        let serial = |text: &str| Serial::from_defaults(&Defaults::parse(text)).expect("settings");
        assert_eq!(serial("GRUB_TERMINAL=console"), None);
        assert_eq!(
            serial("GRUB_TERMINAL='serial console'\nGRUB_SERIAL_COMMAND='serial --unit=1 --speed=115200'"),
            Some(Serial { unit: 1, speed: 115_200 })
        );
        assert_eq!(serial("GRUB_TERMINAL_OUTPUT=serial"), Some(Serial { unit: 0, speed: 9600 }));
    }
}
