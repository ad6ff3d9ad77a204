//! Another GRUB, tried once by the one that is there (C1): asked of the real ones.
#![allow(clippy::disallowed_methods, reason = "throw-away files")]

use ast::boot::block::BootBlock;
use ast::id::{ArmId, CoreId, DeployId};
use ast::install::Boot;
use ast_tests::decide::Decider;
use ast_tests::decide::disk::{DecisionDisk, Other, Wish, grub};
use ast_tests::lab::grub::Suite;
use ast_tests::vm::offline::Damage;

const BUILD: &str = "0123456789abcdef";
/// What the good one is started with: deployment 6, arming 4 with nothing left of it.
const GOOD: &str = "6 good 4. ok";

fn disk(boot: Boot, old: Suite, new: Suite, lost: bool) -> DecisionDisk {
    let other = Other { id: BUILD.parse::<CoreId>().expect("an id"), grub: grub(new, boot), lost };
    let disk = DecisionDisk::make(boot, &grub(old, boot), &Wish { other: Some(other), ..Wish::default() });
    disk.set_both(&BootBlock { arm: ArmId::new(4), ..BootBlock::new(DeployId::new(6)) });
    disk
}

/// The new one starts the machine once, by its own word for itself; what cannot start, or starts nothing, leaves the old one.
fn c1_another_grub_is_tried_once(boot: Boot, old: Suite, new: Suite) {
    let name = format!("tried-{}-{}-{}", boot.platform(), old.version(), new.version());
    let with = disk(boot, old, new, false);
    let mut ask = Decider::start(&name, &with, false);
    let started = ask.ask();
    assert_eq!((started.short().as_str(), started.get("ast.grub")), (GOOD, None), "nothing is asked for: {started:?}");

    with.ask_for_other();
    let started = ask.ask();
    assert_eq!((started.short().as_str(), started.get("ast.grub")), (GOOD, Some(BUILD)), "{started:?}");
    assert!(!with.asks(), "it would be tried again");
    let started = ask.ask();
    assert_eq!((started.short().as_str(), started.get("ast.grub")), (GOOD, None), "the next start is the old one's: {started:?}");

    drop(ask);

    // Where the word cannot be taken away nothing is tried, for it would be tried for ever.
    with.ask_for_other();
    let mut ask = Decider::start(&name, &with, true);
    let started = ask.ask();
    assert_eq!((started.get("ast.grub"), started.get("ast.d"), with.asks()), (None, Some("6"), true), "{started:?}");
    drop(ask);

    // A damaged image is not started; the word is taken away all the same.
    damage(&with, boot);
    let mut ask = Decider::start(&name, &with, false);
    let started = ask.ask();
    assert_eq!((started.short().as_str(), started.get("ast.grub"), with.asks()), (GOOD, None, false), "{started:?}");
    drop(ask);

    // One that finds nothing restarts the machine by itself, and the old one goes on.
    let with = disk(boot, old, new, true);
    with.ask_for_other();
    let mut ask = Decider::start(&name, &with, false);
    let started = ask.ask();
    let said = ask.vm.console().text_from(0);
    assert!(said.contains("another GRUB is tried") && said.contains("the next attempt is in 10 seconds"), "{said}");
    assert_eq!((started.short().as_str(), started.get("ast.grub"), with.asks()), (GOOD, None, false), "{started:?}");
}

/// The other GRUB's image has a hole.
fn damage(disk: &DecisionDisk, boot: Boot) {
    let offline = ast_tests::vm::Offline::open(disk.path()).expect("the disk");
    let top = offline.mount(if boot == Boot::Efi { 2 } else { 1 }, "subvolid=5").expect("mounted");
    top.damage(format!("@boot/grub/builds/{BUILD}/core.img"), Damage::ZeroMiddle).expect("damaged");
    top.unmount().expect("unmounted");
    offline.close().expect("closed");
}

#[test]
fn c1_another_grub_is_tried_once_by_206_on_a_bios() {
    c1_another_grub_is_tried_once(Boot::BiosGap, Suite::G206, Suite::G214);
}

#[test]
fn c1_another_grub_is_tried_once_by_214_on_a_bios() {
    // An older one could not write the block where this machine has it, and is refused.
    c1_another_grub_is_tried_once(Boot::BiosRaw, Suite::G214, Suite::G214);
}

#[test]
fn c1_another_grub_is_tried_once_by_206_on_efi() {
    c1_another_grub_is_tried_once(Boot::Efi, Suite::G206, Suite::G214);
}

#[test]
#[ignore = "others decide; ./dev test --full runs this one too"]
fn c1_another_grub_is_tried_once_by_all_others() {
    use Suite::{G206, G212, G214};
    for (old, new) in [(G206, G212), (G212, G206), (G212, G214), (G214, G206)] {
        c1_another_grub_is_tried_once(Boot::BiosGap, old, new);
        c1_another_grub_is_tried_once(Boot::Efi, old, new);
    }
    c1_another_grub_is_tried_once(Boot::Efi, G214, G212);
}
