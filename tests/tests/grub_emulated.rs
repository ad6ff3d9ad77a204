//! What GRUB starts, asked of GRUB without a machine: the questions of `grub_decisions`, and more of those that nobody thought of.

use ast::boot::block::BootBlock;
use ast::install::Boot;
use ast_tests::decide::disk::{DecisionDisk, Wish, grub};
use ast_tests::decide::emulated::Emulated;
use ast_tests::decide::questions::{Column, as_the_model_says, block_fixtures, core, more, odd_blocks, on_trial, reads_alike};
use ast_tests::lab::grub::Suite;
use std::time::Duration;

/// States out of the model.
const QUESTIONS: u64 = 60;

/// Blocks with values that nobody wrote.
const ODD: usize = 1000;

fn column(name: &'static str, boot: Boot) {
    let disk = DecisionDisk::make(boot, &grub(Suite::G206, boot), &Wish::default());
    let mut column = Column { name, disk: &disk, ask: Emulated::of(&disk) };
    core(&mut column);
    more(&mut column);
    as_the_model_says(&mut column, QUESTIONS);
}

#[test]
fn b1_b2_b4_b5_b6_b13_b16_decisions_with_the_block_on_a_fat_partition() {
    column("emulated, BIOS", Boot::BiosGap);
}

#[test]
fn b1_b2_b4_b5_b6_b13_b16_decisions_with_the_block_on_the_esp() {
    column("emulated, EFI", Boot::Efi);
}

/// C4: nothing is shown, ESC opens the menu, and one that nobody touches goes on by itself; without a menu, too, no other key does anything.
#[test]
fn c4_a_menu_that_was_opened_returns() {
    /// Well inside the time in which keys are looked at.
    const SOON: Duration = Duration::from_secs(2);
    let defaults = Some("GRUB_TIMEOUT=4\nGRUB_TIMEOUT_STYLE=hidden".to_owned());
    let disk = DecisionDisk::make(Boot::BiosGap, &grub(Suite::G206, Boot::BiosGap), &Wish { defaults, ..Wish::default() });
    let ask = Emulated::of(&disk);
    let typed = |keys: &str, shown: bool| {
        disk.set_both(&on_trial(7, 3));
        let (said, started) = ask.after(SOON, keys);
        assert_eq!(started.short(), "7 trial 4.11 ok", "{keys:?}");
        assert_eq!(said.contains("the one before"), shown, "{keys:?}:\n{said}");
    };
    typed("\x1b", true);
    typed("4006381333931\r", false);
    disk.garble(b"ast_menu=4/hidden/");
    disk.garble(b"set timeout=4\nset timeout_style=hidden\n");
    typed("4006381333931\r", false);
}

#[test]
fn b5_a_block_is_read_by_the_same_rule() {
    let read = [block_fixtures(), odd_blocks(ODD)].concat();
    assert!(read.iter().filter(|(_, bytes)| BootBlock::parse(bytes).is_ok()).count() > ODD / 10, "too few whole ones");
    let disk = DecisionDisk::make(Boot::BiosGap, &grub(Suite::G206, Boot::BiosGap), &Wish { read: read.clone(), ..Wish::default() });
    reads_alike(&read, &Emulated::of(&disk).reads());
}
