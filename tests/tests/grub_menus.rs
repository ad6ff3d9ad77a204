//! What a person in front of GRUB's menu sees and may do, in the real GRUB: tries left, a hidden menu, a password.
#![allow(clippy::disallowed_methods, reason = "throw-away files and programs of the test")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use ast::boot::block::{BootBlock, Mode, Trial};
use ast::id::{ArmId, DeployId};
use ast::install::Boot;
use ast_tests::decide::Decider;
use ast_tests::decide::disk::{DecisionDisk, Wish, grub};
use ast_tests::lab::grub::Suite;
use ast_tests::vm::{Key, Offline};

/// Longest that a menu or a message may take; machines share two cores with builds.
const SOON: Duration = Duration::from_secs(120);
/// Who may do everything, and the word for it.
const OWNER: (&str, &str) = ("owner", "correct-horse");

fn disk(suite: Suite, defaults: &str) -> DecisionDisk {
    disk_by(Boot::BiosGap, suite, defaults)
}

fn disk_by(boot: Boot, suite: Suite, defaults: &str) -> DecisionDisk {
    DecisionDisk::make(boot, &grub(suite, boot), &Wish { defaults: Some(defaults.to_owned()), modules: true, ..Wish::default() })
}

/// Good 6, before it 5, 7 on trial with so many tries left.
fn block(mode: Mode, tries: u8) -> BootBlock {
    let trial = Some(Trial { deployment: DeployId::new(7), mode, tries });
    BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(4), trial, ..BootBlock::new(DeployId::new(6)) }
}

/// What the real grub-mkpasswd-pbkdf2 makes of the owner's word; few rounds, since they are emulated.
fn hash() -> String {
    let mut command = Command::new("grub-mkpasswd-pbkdf2");
    let mut child = command.args(["-c", "100"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("grub-common");
    write!(child.stdin.take().expect("its input"), "{0}\n{0}\n", OWNER.1).expect("written");
    let text = String::from_utf8(child.wait_with_output().expect("its end").stdout).expect("text");
    text.split_whitespace().find(|word| word.starts_with("grub.pbkdf2.sha512.")).expect("a hash").to_owned()
}

/// The menu stands, its first line chosen.
fn menu(ask: &mut Decider<'_>) -> String {
    ask.reset();
    ask.vm.expect("will be executed automatically", SOON).expect("the menu");
    // Any key that only moves stops the time.
    ask.vm.send_keys(&[Key::Ctrl('a')]).expect("a key");
    std::thread::sleep(Duration::from_millis(500));
    ask.vm.screen().join("\n")
}

#[test]
fn b2_the_menu_says_how_many_tries_are_left() {
    let disk = disk(Suite::G214, "GRUB_TIMEOUT=30");
    let mut ask = Decider::start("b2_the_menu_says_how_many_tries_are_left", &disk, false);
    for (mode, tries, words) in [
        (Mode::Trial, 3, "(on trial, 3 tries left)"),
        (Mode::Trial, 1, "(on trial, 1 try left)"),
        (Mode::Trial, 16, "(on trial, 16 tries left)"),
        (Mode::Trial, 0, "(tried, did not report well)"),
        (Mode::Once, 1, "(for one start)"),
    ] {
        disk.set_both(&block(mode, tries));
        let screen = menu(&mut ask);
        assert!(screen.contains(words), "{mode:?} {tries}:\n{screen}");
    }
}

/// C4: nothing is shown, and a key opens the menu; without one the machine starts by itself.
#[test]
fn c4_a_hidden_menu_is_opened_by_a_key() {
    let disk = disk(Suite::G206, "GRUB_TIMEOUT=6\nGRUB_TIMEOUT_STYLE=hidden");
    disk.set_both(&block(Mode::Trial, 3));
    let mut ask = Decider::start("c4_a_hidden_menu_is_opened_by_a_key", &disk, false);
    let from = ask.vm.console().position();
    assert_eq!(ask.ask().short(), "7 trial 4.11 ok");
    let said = ask.vm.console().text_from(from);
    assert!(!said.contains("one before") && !said.contains("Snapshots"), "a menu was shown:\n{said}");
    let from = ask.vm.console().position();
    ask.reset();
    // GRUB looks at keys while the time runs, and only then.
    for _ in 0..300 {
        ask.vm.press(Key::Escape).expect("a key");
        std::thread::sleep(Duration::from_millis(200));
        if ask.vm.console().text_from(from).contains("the one before") {
            return;
        }
    }
    panic!("no key opened the menu:\n{}", ask.vm.screen().join("\n"));
}

/// The good one and the trial start for anybody; everything else, `e` and `c` want the password.
#[test]
fn what_does_not_start_by_itself_wants_the_password() {
    let settings = format!("GRUB_TIMEOUT=60\nAST_GRUB_USER={}\nAST_GRUB_PASSWORD={}", OWNER.0, hash());
    let disk = disk(Suite::G214, &settings);
    let mut ask = Decider::start("what_does_not_start_by_itself_wants_the_password", &disk, false);
    let reset = |ask: &mut Decider<'_>, tries| {
        disk.set_both(&block(Mode::Trial, tries));
        menu(ask);
    };
    let line = |ask: &mut Decider<'_>, keys: &str| ask.vm.send(keys).expect("keys");
    reset(&mut ask, 3);
    line(&mut ask, "\r");
    assert_eq!(ask.answer().short(), "6 chosen - -", "the good one");
    reset(&mut ask, 3);
    line(&mut ask, "\x0e\r");
    assert_eq!(ask.answer().short(), "7 trial 4.11 ok", "the trial");
    // One whose tries are used up is not the trial any more.
    for (tries, keys) in [(3, "e"), (3, "c"), (3, "\x0e\x0e\r"), (0, "\x0e\r"), (3, "\x0e\x0e\x0e\r")] {
        reset(&mut ask, tries);
        line(&mut ask, keys);
        ask.vm.expect("Enter username", SOON).unwrap_or_else(|e| panic!("{keys:?} wants no password: {e}"));
    }
    // Still asked about the submenu: a wrong word does not open it, the right one does.
    let answer = |ask: &mut Decider<'_>, word: &str| {
        for (text, wait) in [(OWNER.0, "Enter password"), (word, "")] {
            // One by one, as a person types: GRUB's serial driver has no buffer.
            for c in text.chars() {
                ask.vm.send(&c.to_string()).expect("a key");
                std::thread::sleep(Duration::from_millis(60));
            }
            ask.vm.send("\r").expect("a key");
            if !wait.is_empty() {
                ask.vm.expect(wait, SOON).expect("the next question");
            }
        }
    };
    answer(&mut ask, "wrong");
    ask.vm.expect("the one before", SOON).expect("the menu again");
    assert!(!ask.vm.screen().join("\n").contains("not bootable"), "opened");
    reset(&mut ask, 3);
    line(&mut ask, "\x0e\x0e\x0e\r");
    ask.vm.expect("Enter username", SOON).expect("asked");
    answer(&mut ask, OWNER.1);
    ask.vm.expect("previous menu", SOON).expect("the submenu");
    std::thread::sleep(Duration::from_millis(500));
    let screen = ask.vm.screen().join("\n");
    assert!(screen.contains("2  no initramfs  6.12.1  2023-11-14  (never booted)"), "{screen}");
}

/// A menu was held against its sums.
fn executed_in(said: &str) -> bool {
    ["menu.cfg: OK", "menu.prev.cfg: OK"].iter().any(|word| said.contains(word))
}

/// Titles as the menu's data has them, and as the deployments' own files have them.
const FROM_MENU: [&str; 2] = ["Arch 6 of the menu [6]", "Arch 5 of the menu [5] (the one before)"];
const FROM_ENV: [&str; 2] = [r#"Arch '"};reboot;$(x)` deployment 6 [6]"#, "deployment 5 [5] (the one before)"];

/// The next start shows these titles, the submenu and the time, and was `executed`.
fn shows(ask: &mut Decider<'_>, because: &str, titles: [&str; 2], executed: bool) {
    let from = ask.vm.console().position();
    let screen = menu(ask);
    assert!(titles.iter().all(|title| screen.contains(title)) && screen.contains("Snapshots"), "{because}:\n{screen}");
    let said = ask.vm.console().text_from(from);
    assert_eq!(executed_in(&said), executed, "{because}: {said}");
    assert!(said.contains("automatically in 31s"), "{because}: {said}");
}

fn settled() -> BootBlock {
    BootBlock { prev: Some(DeployId::new(5)), ..BootBlock::new(DeployId::new(6)) }
}

/// B16: of a menu of few settings only its first lines are read, as data; where they are missing or damaged it is executed as ever.
#[test]
fn b16_a_plain_menu_is_data_and_a_damaged_one_is_executed() {
    let disk = disk(Suite::G206, "GRUB_TIMEOUT=31");
    disk.set_both(&settled());
    let mut ask = Decider::start("b16_a_plain_menu_is_data_and_a_damaged_one_is_executed", &disk, false);
    shows(&mut ask, "it is as it was written", FROM_MENU, false);
    let rest = disk.garble(b"set timeout=31\nset timeout_style=menu\n");
    shows(&mut ask, "what is executed of it is damaged", FROM_MENU, false);
    disk.restore(rest);
    let titles = disk.garble(b"ast_titles='6 ");
    shows(&mut ask, "its titles are damaged", FROM_ENV, false);
    disk.restore(titles);
    // The line of the menu before has no resolution.
    let line = disk.garble(b"ast_menu=31/menu/640x480//snapshots/\n");
    shows(&mut ask, "its line is damaged, the menu before is not", FROM_ENV, true);
    let before = disk.garble(b"ast_menu=31/menu///snapshots/\n");
    // C4: no menu says whether it may be shown, so none is.
    let from = ask.vm.console().position();
    let started = ask.ask();
    let said = ask.vm.console().text_from(from);
    assert_eq!((started.get("ast.d"), said.contains("the one before"), executed_in(&said)), (Some("6"), false, false), "both are: {said}");
    disk.restore(before);
    disk.restore(line);
    shows(&mut ask, "all is well again", FROM_MENU, false);
}

/// A script is as old as the boot loader, and the menu as young as the last change.
#[test]
fn b16_a_menu_of_an_older_ast_or_with_hostile_data_is_executed() {
    let older = |text: &str| text.split_inclusive('\n').skip_while(|line| !line.starts_with("# Menu")).collect::<String>();
    let hostile = |text: &str| format!("# GRUB Environment Block\nast_menu=0/menu/;reboot//snapshots/\nast_titles='6 --id=x\"''5 {{$x'\n# {}", older(text));
    for (n, change) in [&older as &dyn Fn(&str) -> String, &hostile].iter().enumerate() {
        let disk = disk(Suite::G214, "GRUB_TIMEOUT=31");
        disk.set_both(&settled());
        let offline = Offline::open(disk.path()).expect("the disk");
        let top = offline.mount(1, "subvolid=5").expect("mounted");
        let dir = top.path("@boot/grub/ast");
        let text = change(&std::fs::read_to_string(dir.join("menu.cfg")).expect("the menu"));
        std::fs::write(dir.join("menu.sums"), ast::grub::menu::sums("menu.cfg", text.as_bytes())).expect("written");
        std::fs::write(dir.join("menu.cfg"), text).expect("written");
        top.unmount().expect("unmounted");
        offline.close().expect("closed");
        let mut ask = Decider::start("b16_a_menu_of_an_older_ast_or_with_hostile_data_is_executed", &disk, false);
        shows(&mut ask, &format!("change {n}"), FROM_ENV, true);
    }
}

#[test]
fn the_menu_of_an_efi_machine_leads_to_its_firmware() {
    let disk = disk_by(Boot::Efi, Suite::G214, "GRUB_TIMEOUT=30\nGRUB_TERMINAL_INPUT=console");
    disk.set_both(&block(Mode::Trial, 3));
    let mut ask = Decider::start("the_menu_of_an_efi_machine_leads_to_its_firmware", &disk, false);
    let screen = menu(&mut ask);
    assert!(screen.contains("Firmware setup") && screen.contains("Snapshots"), "{screen}");
    assert!(!executed_in(&ask.vm.console().text_from(0)), "the menu was executed");
}
