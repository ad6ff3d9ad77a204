//! What GRUB starts, asked of the real GRUB: every column that a machine can have, every state of the block and of the files.
#![allow(clippy::disallowed_methods, reason = "throw-away files")]

use ast::boot::block::BootBlock;
use ast::cmdline::BlockPlace;
use ast::install::Boot;
use ast_tests::decide::disk::{DecisionDisk, Wish, grub, initramfs};
use ast_tests::decide::questions::{Column, as_the_model_says, block_fixtures, core, good, more, on_trial, reads_alike, settled};
use ast_tests::decide::Decider;
use ast_tests::lab::grub::Suite;
use std::time::Duration;

/// Longest that a menu or a message may take; machines share two cores with builds.
const SOON: Duration = Duration::from_secs(120);

fn disk(boot: Boot, suite: Suite, wish: &Wish) -> DecisionDisk {
    DecisionDisk::make(boot, &grub(suite, boot), wish)
}

/// Nothing can be written: no trial, but the good one.
fn cannot_write(name: &'static str, disk: &DecisionDisk) {
    let mut column = Column { name, disk, ask: Decider::start(name, disk, true) };
    column.with("the disk cannot be written", &on_trial(7, 3), "6 nosave 4.11 fail");
    column.with("the disk cannot be written", &settled(), "6 good 4. fail");
    assert_eq!(column.block(), settled());
    column.with("not even the five starts", &BootBlock { starts: 5, ..settled() }, "5 starts 4. fail");
}

fn column(name: &'static str, boot: Boot, suite: Suite, all: bool) {
    let disk = disk(boot, suite, &Wish::default());
    let mut column = Column { name, disk: &disk, ask: Decider::start(name, &disk, false) };
    core(&mut column);
    if all {
        more(&mut column);
        as_the_model_says(&mut column, 12);
    } else {
        as_the_model_says(&mut column, 3);
    }
    drop(column);
    cannot_write(name, &disk);
}

#[test]
fn b1_b2_b4_b5_b6_b13_b16_decisions_bios_raw_2_14() {
    column("decisions_bios_raw_2_14", Boot::BiosRaw, Suite::G214, true);
}

#[test]
fn b1_b2_b4_b5_b6_b13_b16_decisions_bios_gap_2_06() {
    column("decisions_bios_gap_2_06", Boot::BiosGap, Suite::G206, true);
}

#[test]
fn b1_b2_b4_b5_b13_decisions_efi_2_14() {
    column("decisions_efi_2_14", Boot::Efi, Suite::G214, false);
}

#[test]
fn b1_b2_b4_b5_b13_decisions_efi_2_06() {
    column("decisions_efi_2_06", Boot::Efi, Suite::G206, false);
}

/// What a GRUB with `LoadFile2` leaves of a kernel that the firmware refused must not end it when the next one cannot be read.
#[test]
fn b1_an_unreadable_kernel_behind_a_refused_one_is_passed_over() {
    let disk = disk(Boot::Efi, Suite::G214, &Wish::default());
    disk.garble_compressed();
    let name = "b1_an_unreadable_kernel_behind_a_refused_one_is_passed_over";
    let mut column = Column { name, disk: &disk, ask: Decider::start(name, &disk, false) };
    column.with("refused, and nothing before it", &good(17, None), "6 load 4. ok");
    column.with("refused, then unreadable", &good(17, Some(16)), "6 load 4. ok");
}

/// 2.06 reads raw sectors and cannot save there: nothing is tried, the good one starts. That is what the small FAT partition is for.
#[test]
fn raw_blocks_on_2_06_are_never_counted() {
    let disk = disk(Boot::BiosRaw, Suite::G206, &Wish::default());
    let name = "raw_blocks_on_2_06_are_never_counted";
    let mut column = Column { name, disk: &disk, ask: Decider::start(name, &disk, false) };
    column.with("no save", &on_trial(7, 3), "6 nosave 4.11 fail");
    assert_eq!(column.block(), on_trial(7, 3));
}

/// Behind the header of a stock grub-mkconfig, and before its other entries, ours decides and nothing else.
#[test]
fn what_grub_mkconfig_puts_around_ours_changes_nothing() {
    let stock = include_str!("../fixtures/grub/stock-2.06.cfg");
    let (before, behind) = stock.split_once("### BEGIN /etc/grub.d/10_linux ###").expect("generators");
    assert!(before.contains("load_env") && behind.contains("menuentry"));
    let wish = Wish { around: Some([before.into(), behind.into()]), ..Wish::default() };
    let disk = disk(Boot::BiosGap, Suite::G206, &wish);
    let name = "what_grub_mkconfig_puts_around_ours_changes_nothing";
    let mut column = Column { name, disk: &disk, ask: Decider::start(name, &disk, false) };
    column.with("a trial", &on_trial(7, 3), "7 trial 4.11 ok");
    column.with("none", &settled(), "6 good 4. ok");
}

/// Whatever block of `grub.cfg` or of its sums the disk lost: the copy inside the core image decides, and all is as it was.
#[test]
fn a_block_lost_from_grub_cfg_changes_nothing() {
    /// What a disk loses at once, at the smallest.
    const SECTOR: usize = 512;
    let disk = disk(Boot::BiosRaw, Suite::G214, &Wish::default());
    let name = "a_block_lost_from_grub_cfg_changes_nothing";
    let mut column = Column { name, disk: &disk, ask: Decider::start(name, &disk, false) };
    column.with("all is well", &on_trial(7, 3), "7 trial 4.11 ok");
    assert!(!column.ask.vm.console().text_from(0).contains("missing or damaged"));
    let sums = ast::grub::menu::sums("grub.cfg", disk.script());
    let blocks = disk.script().chunks(SECTOR).chain([sums.as_bytes()]);
    // Every third: they are alike, and each costs a start.
    for (n, block) in blocks.enumerate().filter(|(n, block)| n % 3 == 1 || *block == sums.as_bytes()) {
        let from = column.ask.vm.console().position();
        let undo = disk.lose(block, if n % 2 == 0 { 0 } else { 0xa7 });
        column.with(&format!("block {n} is lost"), &on_trial(7, 3), "7 trial 4.11 ok");
        assert!(column.ask.vm.console().text_from(from).contains("missing or damaged"), "block {n}: GRUB did not say so");
        disk.restore(undo);
    }
}

/// Where no GRUB can write, it reads the file and leaves counting to the initramfs.
#[test]
fn a_local_block_is_read_and_left_to_the_initramfs() {
    let block = on_trial(7, 3).encode().expect("a block");
    let wish = Wish { place: Some(BlockPlace::Local), local: [block, block].concat(), ..Wish::default() };
    let disk = disk(Boot::BiosRaw, Suite::G214, &wish);
    let name = "a_local_block_is_read_and_left_to_the_initramfs";
    let mut column = Column { name, disk: &disk, ask: Decider::start(name, &disk, false) };
    let started = column.gives("the local block", "7 trial 4.111 fail");
    assert_eq!(started.get("ast.block"), Some("local"));
    let places = disk.garble(b"ast_try=7\nast_mode=trial\nast_tries=111");
    // Both copies are damaged; half of them undone leaves A or B whole.
    column.gives("both copies damaged", "6 baked - fail");
    disk.restore(places);
    column.gives("the initramfs did not count", "7 trial 4.111 fail");
}

/// Keys of GRUB's menu that are one byte each, so that none is taken apart on its way: to the top, down, start.
fn keys(down: usize) -> String {
    format!("\x01{}\r", "\x0e".repeat(down))
}

/// B11, B15: what a person chooses writes nothing and costs the trial nothing.
#[test]
fn b11_b15_what_a_person_chooses_writes_nothing() {
    let disk = disk(Boot::BiosRaw, Suite::G214, &Wish { timeout: 60, ..Wish::default() });
    let trial = on_trial(7, 3);
    disk.set_both(&trial);
    let name = "b11_b15_what_a_person_chooses_writes_nothing";
    let mut column = Column { name, disk: &disk, ask: Decider::start(name, &disk, false) };
    let choose = |column: &mut Column<'_, Decider<'_>>, lines: &[usize]| {
        column.ask.reset();
        column.ask.vm.expect("will be executed automatically", SOON).expect("the menu");
        for (level, down) in lines.iter().enumerate() {
            if level > 0 {
                column.ask.vm.expect("previous menu", SOON).expect("a submenu");
                column.ask.vm.expect("not bootable", SOON).expect("its first line");
            }
            column.ask.vm.send(&keys(*down)).expect("keys");
        }
    };
    choose(&mut column, &[0]);
    assert_eq!(column.ask.answer().short(), "6 chosen - -", "the good one during a trial");
    choose(&mut column, &[2]);
    assert_eq!(column.ask.answer().short(), "5 chosen - -", "the one before");
    choose(&mut column, &[3, 2]);
    let snapshot = column.ask.answer();
    assert_eq!(snapshot.short(), "3.4 chosen - -", "a snapshot");
    assert_eq!(snapshot.initramfs, format!("ucode+{}", initramfs("set 3.4")));
    choose(&mut column, &[3, 1]);
    column.ask.vm.expect("ast.set=2.1 has no initramfs-linux.img", SOON).expect("refused");
    column.ask.vm.wait_reset(SOON).expect("another start by itself");
    column.ask.fresh();
    assert_eq!(column.block(), trial, "a choice was written");
    choose(&mut column, &[3, 0]);
    column.ask.vm.expect("no kernel or no initramfs", SOON).expect("said so");
    choose(&mut column, &[1]);
    assert_eq!(column.ask.answer().short(), "7 trial 4.11 ok", "the trial by hand counts");
    assert_eq!(column.tries(), Some(2));
}

/// What the script's reader makes of every fixture of a block, against the host's and the initramfs's reader.
fn same_rule(name: &'static str, suite: Suite) {
    let read = block_fixtures();
    let disk = disk(Boot::BiosRaw, suite, &Wish { read: read.clone(), ..Wish::default() });
    let mut ask = Decider::start(name, &disk, false);
    let said = ask.vm.expect("all read", SOON).expect("an end");
    drop(said);
    reads_alike(&read, &ask.vm.console().text_from(0));
}

#[test]
fn grub_2_14_reads_a_block_by_the_same_rule() {
    same_rule("grub_2_14_reads_a_block_by_the_same_rule", Suite::G214);
}

#[test]
fn grub_2_06_reads_a_block_by_the_same_rule() {
    same_rule("grub_2_06_reads_a_block_by_the_same_rule", Suite::G206);
}
