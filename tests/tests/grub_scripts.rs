//! Everything that is rendered for GRUB, against GRUB's own checker; and our reader of its language against that checker.
#![allow(clippy::disallowed_methods, reason = "throw-away files")]

use ast::cmdline::BlockPlace;
use ast::grub::menu::{Health, MenuInput, MenuSettings, OtherSystem, Password, SnapshotLine, TimeoutStyle, menu, snapshots};
use ast::id::DeployId;
use ast::grub::{ScriptConfig, Serial, parser, script};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn checker_takes(text: &[u8]) -> bool {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let mut command = Command::new("grub-script-check");
    command.arg(file.path()).stderr(Stdio::null()).status().expect("grub-script-check of package grub-common").success()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/grub")
}

fn configs() -> Vec<ScriptConfig> {
    let serial = [None, Some(Serial { unit: 0, speed: 115_200 })];
    [BlockPlace::Raw, BlockPlace::Files("ABCD-1234".into()), BlockPlace::Local]
        .into_iter()
        .flat_map(|block| {
            serial.map(|serial| ScriptConfig { fs_uuid: "12345678-1234-1234-1234-123456789abc".into(), block: block.clone(), serial })
        })
        .collect()
}

fn input(description: &str) -> MenuInput {
    let line = |set: &str, bootable| SnapshotLine {
        set: set.parse().expect("a set"),
        description: description.into(),
        kernel: Some(description.into()),
        created: Some(u64::MAX),
        health: Some(Health::Failed),
        state: vec![description.into()],
        bootable,
    };
    let efi = OtherSystem::Efi { title: description.into(), fs_uuid: "ABCD-1234".into(), path: "/EFI/Microsoft/Boot/bootmgfw.efi".into() };
    let linux = OtherSystem::Linux {
        title: description.into(),
        fs_uuid: "12345678-1234-1234-1234-123456789abc".into(),
        kernel: "/boot/vmlinuz-6.1.0".into(),
        initrd: vec!["/boot/ucode.img".into(), "/boot/initrd.img-6.1.0".into()],
        // What cannot be carried drops the entry, not the menu; what can is quoted.
        args: description.split_whitespace().filter(|w| !w.contains('\\') && !w.chars().any(char::is_control)).map(str::to_owned).collect(),
    };
    let bios = OtherSystem::Bios { title: description.into(), fs_uuid: "0123456789ABCDEF".into() };
    MenuInput {
        settings: MenuSettings {
            timeout: 3,
            style: TimeoutStyle::Hidden,
            input: vec!["console".into()],
            output: vec!["gfxterm".into(), "serial".into()],
            serial: vec!["--unit=0".into()],
            gfxmode: Some("1024x768,auto".into()),
            theme: Some("themes/a/theme.txt".into()),
            colour: Some("light-gray/black".into()),
            highlight: Some("black/light-gray".into()),
            password: Some(Password { user: "root".into(), hash: "grub.pbkdf2.sha512.10000.AB.CD".into() }),
            others: true,
        },
        snapshots: vec![line("4.1", true), line("12.3", false)],
        others: vec![efi, bios, linux, OtherSystem::FirmwareSetup],
        titles: vec![(DeployId::new(6), description.into()), (DeployId::new(4_000_000_000), "Arch Linux (6.12)".into())],
    }
}

#[test]
fn grub_takes_the_fixed_script() {
    for config in configs() {
        let text = script::render(&config).expect("a script");
        assert!(checker_takes(text.as_bytes()), "{config:?}");
        parser::parse(&text).expect("our reader takes it too");
    }
}

#[test]
fn fixtures_are_as_their_names_say() {
    let mut seen = 0;
    for entry in std::fs::read_dir(fixtures()).expect("fixtures") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        assert_eq!(checker_takes(&std::fs::read(&path).expect("bytes")), !name.starts_with("bad-"), "{name}");
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} fixtures");
}

/// What lies in `fixtures/grub/ours-*.cfg` is what is rendered now; `AST_BLESS=1` writes it anew.
#[test]
fn ours_are_the_fixtures() {
    let config = configs().swap_remove(2);
    let input = input("kiosk");
    let rendered = [
        ("ours-grub.cfg", script::render(&config).expect("a script")),
        ("ours-menu.cfg", menu(&input).expect("a menu")),
        ("ours-snapshots.cfg", snapshots(&input)),
    ];
    for (name, text) in rendered {
        let path = fixtures().join(name);
        if std::env::var_os("AST_BLESS").is_some() {
            std::fs::write(&path, &text).expect("written");
        }
        assert_eq!(std::fs::read_to_string(&path).expect(name), text, "{name} changed: look, then AST_BLESS=1");
    }
}

#[test]
fn r7_hostile_words_neither_inject_nor_break() {
    let hostile = [
        "'",
        "\"",
        "}",
        "{",
        "$(reboot)",
        "${prefix}",
        "`x`",
        "\\",
        "\\'",
        "'\\''",
        "\n}\nreboot\n",
        "\r",
        "\0",
        ";halt",
        "--id=x",
        "-",
        "#",
        "é\u{301}",
        "\u{202e}",
        "a\u{2028}b",
        "'; menuentry x { halt }; echo '",
        "$menuentry_id_option",
        "|&<>",
        "*?[a]",
        "%s%n",
    ];
    for words in hostile.iter().map(|s| (*s).to_owned()).chain([hostile.concat(), hostile.concat().repeat(40)]) {
        let input = input(&words);
        let (menu, lines) = (menu(&input).expect("titles are never refused"), snapshots(&input));
        assert!(checker_takes(menu.as_bytes()) && checker_takes(lines.as_bytes()), "{words:?}:\n{menu}\n{lines}");
        let found = parser::entries(&parser::parse(&menu).expect("our reader takes it too"));
        assert_eq!(found.len(), 5, "{words:?}: {found:?}");
        assert_eq!(lines.lines().count(), 2, "{words:?}");
        let dir = tempfile::tempdir().expect("a directory");
        ast::grub::install::write_menu(dir.path(), &input).expect("reads back as it was made");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever our reader takes, GRUB takes: it is what stands between our writer and the disk.
    #[test]
    fn what_we_take_grub_takes(
        parts in proptest::collection::vec(prop_oneof![
            Just("if a; then b; fi\n"), Just("menuentry 'x' { a; }\n"), Just("function f { a\n}\n"), Just("for i in a b; do c; done\n"),
            Just("if "), Just("; then "), Just(" fi\n"), Just("{ "), Just("}"), Just("'"), Just("\""), Just("$"), Just("${a}"), Just("\\\n"), Just("\\"), Just("\n"),
            Just(" # c\n"), Just(";"), Just("while a; do b; done"), Just("[ \"$a\" = 1 ]"), Just("]]"), Just("in"), Just("a=b"), Just("$\"t\""), Just(" "),
        ], 1..8)
    ) {
        let text = parts.concat();
        if parser::parse(&text).is_ok() {
            // The checker refuses a file that does nothing, which a function alone is.
            prop_assert!(checker_takes(format!("{text}\ntrue\n").as_bytes()), "{text:?}");
        }
    }
}
