//! What a person in front of GRUB's menu sees and may do, in the real GRUB: tries left, a hidden menu, a password.
#![allow(clippy::disallowed_methods, reason = "throw-away files and programs of the test")]

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use ast::boot::block::{BootBlock, Mode, Trial};
use ast::id::{ArmId, DeployId};
use ast::install::{Boot, Grub};
use ast_tests::decide::Decider;
use ast_tests::decide::disk::{DecisionDisk, Wish};
use ast_tests::lab::grub::{Platform, Suite, build};
use ast_tests::vm::Key;

/// Longest that a menu or a message may take; machines share two cores with builds.
const SOON: Duration = Duration::from_secs(120);
/// Who may do everything, and the word for it.
const OWNER: (&str, &str) = ("owner", "correct-horse");

fn disk(suite: Suite, defaults: &str) -> DecisionDisk {
    let found = build(&ast_tests::lab::cache::cache_dir(), suite).expect("a GRUB");
    let mkimage = found.tool("grub-mkimage").expect("a tool").remove(0).into();
    let grub = Grub { mkimage, modules: found.modules_dir(Platform::Bios), version: suite.version().into() };
    DecisionDisk::make(Boot::BiosGap, &grub, &Wish { defaults: Some(defaults.to_owned()), modules: true, ..Wish::default() })
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
