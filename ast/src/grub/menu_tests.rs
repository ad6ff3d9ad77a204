use super::*;
use crate::id::Generation;
use crate::grub::parser::parse;

fn line(n: u32, description: &str, bootable: bool) -> SnapshotLine {
    SnapshotLine {
        set: SetId { snapshot: SnapshotId::new(n), generation: Generation::new(2) },
        description: description.to_owned(),
        kernel: Some("6.12.9-arch1-1".into()),
        created: None,
        health: None,
        state: vec!["default".into()],
        bootable,
    }
}

#[test]
fn b7_every_snapshot_is_one_line_with_a_stable_id() {
    let input = MenuInput { snapshots: vec![line(4, "kiosk", true), line(5, "no kernel", false)], ..MenuInput::default() };
    assert_eq!(
        snapshots(&input),
        "ast_snapshot 4 4.2 '4  kiosk  6.12.9-arch1-1  (default)'\nast_unbootable 5 '5  no kernel  6.12.9-arch1-1  (default, not bootable)'\n"
    );
    assert_eq!(snapshot_entry(SnapshotId::new(4)), "ast-s4");
}

#[test]
fn a_line_tells_date_and_health_and_keeps_to_its_width() {
    let of = |description: &str, health, state: &[&str]| {
        let state = state.iter().map(|s| (*s).to_owned()).collect();
        let line = SnapshotLine { created: Some(1_795_000_000), health: Some(health), state, ..line(4999, description, true) };
        let text = snapshots(&MenuInput { snapshots: vec![line], ..MenuInput::default() });
        text.trim_end().trim_start_matches("ast_snapshot 4999 4999.2 ").trim_matches('\'').to_owned()
    };
    assert_eq!(of("kiosk", Health::Well, &["default"]), "4999  kiosk  6.12.9-arch1-1  2026-11-18  (default, booted well)");
    let long = "a kiosk with a very long description, longer than any line of any menu is";
    assert_eq!(of(long, Health::Never, &[]), "4999  a kiosk with a very long description,  2026-11-18  (never booted)");
    // Not even then more than eight columns over, and the description is there.
    let all = of(long, Health::Failed, &["default", "on trial", "pinned"]);
    assert_eq!(all, "4999  a kiosk with a very long  2026-11-18  (default, on trial, pinned, failed)");
    for (description, health) in [("é".repeat(200), Health::Failed), (long.to_owned(), Health::Well)] {
        let title = of(&description, health, &["pinned"]);
        assert!(title.chars().count() <= WIDTH && title.contains("2026-11-18"), "{title}");
    }
    // A clock gone mad.
    assert_eq!(date(u64::MAX), "9999-12-31");
    assert_eq!(date(0), "1970-01-01");
}

#[test]
fn r7_a_hostile_description_stays_inside_its_quotes() {
    let hostile = "'; reboot; echo '\n}\nmenuentry x { halt }\r$(x) \"${prefix}\" \\' `a` \u{202e}evil";
    let input = MenuInput { snapshots: vec![line(4, hostile, true)], ..MenuInput::default() };
    let text = snapshots(&input);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("ast_snapshot 4 4.2 '4  '\\''; reboot; echo '\\'' } menuentry x"), "{text}");
    assert!(!text.contains('\u{202e}'));
}

#[test]
fn settings_come_from_etc_default_grub() {
    let defaults = Defaults::parse(
        "GRUB_TIMEOUT=0\nGRUB_TIMEOUT_STYLE=hidden\nGRUB_TERMINAL=\"serial gfxterm\"\nGRUB_SERIAL_COMMAND=\"serial --unit=0\"\nGRUB_THEME=/boot/grub/themes/a/theme.txt\nGRUB_COLOR_NORMAL=light-blue/black\nGRUB_DISABLE_OS_PROBER=false\nAST_GRUB_USER=root\nAST_GRUB_PASSWORD=grub.pbkdf2.sha512.10000.AB.CD\n",
    );
    let settings = MenuSettings::from_defaults(&defaults).expect("plain settings");
    assert_eq!(settings.timeout, 0);
    assert_eq!(settings.style, TimeoutStyle::Hidden);
    assert_eq!(settings.input, ["serial", "console"]);
    assert_eq!(settings.output, ["serial", "gfxterm"]);
    assert_eq!(settings.theme.as_deref(), Some("themes/a/theme.txt"));
    assert_eq!(settings.colour.as_deref(), Some("light-blue/black"));
    assert!(settings.others && !MenuSettings::from_defaults(&Defaults::parse("GRUB_DISABLE_OS_PROBER=0")).expect("plain").others);
    assert_eq!(settings.password.as_ref().map(|p| p.user.as_str()), Some("root"));
    for (text, name) in [
        ("GRUB_TIMEOUT=soon", "GRUB_TIMEOUT"),
        ("GRUB_TIMEOUT_STYLE=never", "GRUB_TIMEOUT_STYLE"),
        ("GRUB_TERMINAL='serial; reboot'", "GRUB_TERMINAL"),
        ("GRUB_TIMEOUT=$(date)", "GRUB_TIMEOUT"),
        ("GRUB_GFXMODE='a b'", "GRUB_GFXMODE"),
        ("AST_GRUB_USER='a b'\nAST_GRUB_PASSWORD=grub.pbkdf2.sha512.1", "AST_GRUB_USER"),
    ] {
        let error = MenuSettings::from_defaults(&Defaults::parse(text)).expect_err(text).to_string();
        assert!(error.contains(name) && error.contains("line 1"), "{error}");
    }
}

#[test]
fn c4_no_setting_waits_for_a_key_for_ever() {
    for (given, taken) in [("-1", 300), ("7", 7), ("99999999", 300)] {
        let settings = MenuSettings::from_defaults(&Defaults::parse(&format!("GRUB_TIMEOUT={given}"))).expect("a number");
        assert_eq!(settings.timeout, taken);
    }
}

#[test]
fn what_cannot_stand_in_a_script_is_refused() {
    let settings = |change: fn(&mut MenuSettings)| {
        let mut input = MenuInput::default();
        change(&mut input.settings);
        menu(&input)
    };
    assert!(settings(|s| s.serial = vec!["a;b".into()]).is_err());
    assert!(settings(|s| s.password = Some(Password { user: "a b".into(), hash: "x".into() })).is_err());
    assert!(settings(|s| s.password = Some(Password { user: "a".into(), hash: "x;y".into() })).is_err());
    let efi = |path: &str, uuid: &str| {
        menu(&MenuInput {
            others: vec![OtherSystem::Efi { title: "--id=x\n'".into(), fs_uuid: uuid.into(), path: path.into() }],
            ..MenuInput::default()
        })
    };
    assert!(efi("/EFI/Microsoft/Boot/bootmgfw.efi", "ABCD-1234").is_ok());
    assert!(efi("/EFI/$(x)", "ABCD-1234").is_err());
    assert!(efi("/EFI/x.efi", "ABCD; reboot").is_err());
}

#[test]
fn sums_are_what_sha256sum_prints() {
    assert_eq!(sums("x", b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  x\n");
}

#[test]
fn b16_a_menu_of_few_settings_is_data_and_a_script() {
    let settings = |text: &str| MenuSettings::from_defaults(&Defaults::parse(text)).expect("settings");
    let first = |input: &MenuInput| {
        let text = menu(input).expect("a menu");
        parse(&text).expect("a script");
        assert!(text.starts_with("# GRUB Environment Block\nast_"), "{text}");
        text.lines().nth(1).unwrap_or_default().to_owned()
    };
    let usual = "GRUB_TIMEOUT=5\nGRUB_TIMEOUT_STYLE=hidden\nGRUB_TERMINAL_INPUT=console\nGRUB_GFXMODE=1024x768,auto\n";
    let lines = |n: u32| (1..=n).map(|n| line(n, "kiosk", true)).collect::<Vec<_>>();
    let input = |text: &str, n: u32| MenuInput { settings: settings(text), snapshots: lines(n), ..MenuInput::default() };
    assert_eq!(first(&input(usual, 3)), "ast_menu=5/hidden/1024x768,auto/console/snapshots/");
    assert_eq!(first(&input("", 201)), "ast_menu=5/menu///groups/");
    let efi = MenuInput { others: vec![OtherSystem::FirmwareSetup], ..input("", 0) };
    assert_eq!(first(&efi), "ast_menu=5/menu////setup");
    // Whatever it cannot say, a password above all, makes it one that is executed.
    let more = [
        "AST_GRUB_USER=owner\nAST_GRUB_PASSWORD=grub.pbkdf2.sha512.10000.AB.CD",
        "GRUB_TERMINAL=serial",
        "GRUB_TERMINAL_OUTPUT=console",
        "GRUB_SERIAL_COMMAND='serial --unit=1'",
        "GRUB_THEME=/boot/grub/themes/a/theme.txt",
        "GRUB_COLOR_NORMAL=white/black",
        "GRUB_COLOR_HIGHLIGHT=white/black",
        "GRUB_GFXMODE=1024x768_a",
    ];
    for text in more {
        assert_eq!(first(&input(&format!("{usual}{text}"), 3)), "ast_titles=", "{text}");
    }
    let other = OtherSystem::Bios { title: "Windows".into(), fs_uuid: "0123456789ABCDEF".into() };
    assert_eq!(first(&MenuInput { others: vec![other, OtherSystem::FirmwareSetup], ..input(usual, 3) }), "ast_titles=");
}

/// A title that a script or a pattern could take for more than a title is not there, and GRUB reads it from `ast.env`.
#[test]
fn r7_only_plain_titles_are_in_the_data() {
    let titles = |titles: &[&str]| {
        let titles = titles.iter().zip(4..).map(|(title, d)| (DeployId::new(d), (*title).to_owned())).collect();
        let text = menu(&MenuInput { titles, ..MenuInput::default() }).expect("a menu");
        parse(&text).expect("a script");
        text.lines().find_map(|line| line.strip_prefix("ast_titles=")).map(str::to_owned)
    };
    assert_eq!(titles(&["Arch Linux (6.12) $(x) `y` {", "EndeavourOS"]).as_deref(), Some("'4 Arch Linux (6.12) $(x) `y` {''5 EndeavourOS'"));
    for bad in ["a 'b'", "--id=x", "a\nreboot", "a\\", "\u{e9}t\u{e9}", "", " a", "'; reboot; '"] {
        assert_eq!(titles(&[bad, "Arch"]).as_deref(), Some("'5 Arch'"), "{bad:?}");
    }
}
