//! What GRUB starts, asked of the real GRUB: every column that a machine can have, every state of the block and of the files.
#![allow(clippy::disallowed_methods, reason = "throw-away files")]

use ast::boot::block::{BootBlock, Mode, Trial};
use ast::cmdline::BlockPlace;
use ast::id::{ArmId, DeployId};
use ast::install::{Boot, Grub};
use ast_tests::decide::disk::{Copy, DecisionDisk, Wish, initramfs};
use ast_tests::decide::model::{self, Files, Seen};
use ast_tests::decide::{Decider, Started};
use ast_tests::lab::grub::{Platform, Suite, build};
use proptest::strategy::{Strategy as _, ValueTree as _};
use std::time::Duration;

/// Longest that a menu or a message may take; machines share two cores with builds.
const SOON: Duration = Duration::from_secs(120);

fn grub(suite: Suite, boot: Boot) -> Grub {
    let found = build(&ast_tests::lab::cache::cache_dir(), suite).expect("a GRUB");
    let platform = if boot == Boot::Efi { Platform::Efi } else { Platform::Bios };
    let mkimage = found.tool("grub-mkimage").expect("a tool").remove(0).into();
    Grub { mkimage, modules: found.modules_dir(platform), version: suite.version().into() }
}

fn disk(boot: Boot, suite: Suite, wish: &Wish) -> DecisionDisk {
    DecisionDisk::make(boot, &grub(suite, boot), wish)
}

/// Good 6, before it 5, nothing on trial, arming 4.
fn settled() -> BootBlock {
    BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(4), ..BootBlock::new(DeployId::new(6)) }
}

fn trying(d: u32, mode: Mode, tries: u8) -> BootBlock {
    BootBlock { trial: Some(Trial { deployment: DeployId::new(d), mode, tries }), ..settled() }
}

fn on_trial(d: u32, tries: u8) -> BootBlock {
    trying(d, Mode::Trial, tries)
}

fn good(d: u32, prev: Option<u32>) -> BootBlock {
    BootBlock { good: DeployId::new(d), prev: prev.map(DeployId::new), ..settled() }
}

/// A machine and its disk, with questions that name themselves when the answer is wrong.
struct Column<'a> {
    name: &'static str,
    ask: Decider<'a>,
}

impl Column<'_> {
    /// GRUB starts `wanted` (deployment, why, arm, env) for the reason `because`.
    fn gives(&mut self, because: &str, wanted: &str) -> Started {
        let started = self.ask.ask();
        assert_eq!(started.short(), wanted, "{}: {because}: {started:?}", self.name);
        started
    }

    /// The same with this block in both copies.
    fn with(&mut self, because: &str, block: &BootBlock, wanted: &str) -> Started {
        self.ask.disk.set_both(block);
        self.gives(because, wanted)
    }

    /// The block that a reader takes now; both copies are the same.
    fn block(&self) -> BootBlock {
        let (a, b) = (self.ask.disk.get(Copy::A), self.ask.disk.get(Copy::B));
        assert_eq!(String::from_utf8_lossy(&a), String::from_utf8_lossy(&b), "{}: A and B differ", self.name);
        BootBlock::parse(&a).expect("a block")
    }

    fn tries(&self) -> Option<u8> {
        self.block().trial.map(|t| t.tries)
    }
}

/// What every column must decide right.
fn core(column: &mut Column<'_>) {
    // B1, B2: three tries, each spent before it starts; then the good one.
    let first = column.with("a new trial", &on_trial(7, 3), "7 trial 4.11 ok");
    assert_eq!(column.tries(), Some(2));
    let cap = column.block().cap;
    assert_eq!(first.get("systemd.watchdog_sec"), None, "B14: an initramfs's systemd that has the watchdog hands it over to nobody");
    assert_eq!((first.get("panic"), first.get("rd.systemd.gpt_auto")), (Some("10"), Some("0")));
    assert_eq!((first.get("made.for"), first.get("acpi_osi")), (Some("deployment-7"), Some("!*")));
    assert!(first.words.iter().any(|w| w == "ro") && first.get("root").is_some_and(|r| r.starts_with("UUID=")), "{first:?}");
    assert!(first.kernel.ends_with(")/@.snapshots/deploy/7/boot/vmlinuz-linux"), "{first:?}");
    assert_eq!(first.initramfs, format!("ucode+{}", initramfs("deployment 7")));
    column.gives("the second try", "7 trial 4.1 ok");
    assert_ne!(column.block().cap, cap, "the proof is not renewed");
    column.gives("the last try", "7 trial 4. ok");
    column.gives("no tries left", "6 exhausted 4. ok");
    assert_eq!((column.tries(), column.block().starts), (Some(0), 1));

    column.with("one start", &trying(7, Mode::Once, 1), "7 once 4. ok");
    column.gives("it was one start", "6 good 4. ok");

    // B13.
    column.with("a kernel that is not as it was", &on_trial(8, 3), "6 hash 4.11 ok");
    assert_eq!(column.tries(), Some(2), "the try was spent");

    // B2: a good one that stops reporting.
    column.with("the fifth start without a report", &BootBlock { starts: 4, ..settled() }, "6 good 4. ok");
    assert_eq!(column.block().starts, 5);
    column.gives("five starts without a report", "5 starts 4. ok");
    let block = column.block();
    assert_eq!((block.good.get(), block.prev, block.starts), (6, settled().prev, 0), "whenever the power goes now, the block names both");
    column.gives("and only once", "6 good 4. ok");

    // B5.
    let whole = on_trial(7, 3).encode().expect("a block");
    column.ask.disk.set(Copy::A, &whole[..100]);
    column.ask.disk.set(Copy::B, &whole);
    column.gives("A torn", "7 trial 4.11 ok");
    let b = BootBlock::parse(&column.ask.disk.get(Copy::B)).expect("B");
    assert_eq!(b.trial.map(|t| t.tries), Some(2), "counted in the copy that was read");
    column.ask.disk.set(Copy::B, b"\xff\xfe\x00garbage");
    column.gives("A and B torn", "6 baked - fail");
}

/// What is the same script's work on every column, asked of those that answer fast.
fn more(column: &mut Column<'_>) {
    column.with("sums are empty", &on_trial(13, 3), "6 hash 4.11 ok");
    column.with("a trial that is not there", &on_trial(14, 1), "6 hash 4. ok");
    column.with("a trial whose ast.env is garbage", &on_trial(11, 3), "6 load 4.11 ok");
    column.with("a trial whose kernel is none", &on_trial(12, 3), "6 load 4.11 ok");
    column.with("the good one asked for once", &trying(6, Mode::Once, 1), "6 good 4.1 ok");
    column.with("the one before, once", &trying(5, Mode::Once, 1), "5 once 4. ok");
    column.with("no kernel, nothing before", &good(9, None), "6 load 4. ok");
    column.with("no kernel", &good(9, Some(5)), "5 load 4. ok");
    column.with("no initramfs", &good(10, Some(5)), "5 load 4. ok");
    disk_damage(column);
    column.with("two that do not load", &good(9, Some(10)), "6 load 4. ok");
    column.with("five starts and nothing before", &BootBlock { starts: 5, ..good(6, None) }, "6 good 4. ok");
    column.with("five starts, but the one before does not load", &BootBlock { starts: 5, ..good(6, Some(9)) }, "6 good 4. ok");

    // A wins over B, and B follows.
    column.ask.disk.set(Copy::A, &settled().encode().expect("a block"));
    column.ask.disk.set(Copy::B, &on_trial(7, 3).encode().expect("a block"));
    column.gives("A has no trial, B has", "6 good 4. ok");
    assert_eq!(column.block().starts, 1);

    // Hostile values are data, and not ours.
    let text = String::from_utf8(settled().encode().expect("a block").to_vec()).expect("text");
    column.ask.disk.set(Copy::B, text.as_bytes());
    let hostile =
        text.replacen("ast_good=6", "ast_good=5;reboot", 1).replacen("ast_end=1\n", "ast_end=1\nprefix=(hd9)/x\nsuperusers=x\n", 1);
    column.ask.disk.set(Copy::A, hostile.trim_end_matches('#').as_bytes());
    column.gives("hostile values in A", "6 good 4. ok");

    let more_names = text.replacen("ast_end=1\n", "ast_fs=evil\nast_store=(hd9)/x\nast_number=.*\ntimeout=-1\nast_end=1\n", 1);
    column.ask.disk.set(Copy::A, format!("{:#<512}", more_names.trim_end_matches('#')).as_bytes());
    let started = column.gives("names of the script's own variables in A", "6 good 4. ok");
    assert!(started.get("root").is_some_and(|r| r.len() == "UUID=".len() + 36), "{started:?}");

    // The copies of how the good one starts.
    let disk = column.ask.disk;
    let own = disk.garble(b"deployment 6\nast_end=1");
    column.with("its own ast.env is garbage", &settled(), "6 good 4. ok");
    let baked = disk.garble(b"deployment 6\nast_baked_good=6");
    column.with("the baked copy too", &settled(), "5 load 4. ok");
    disk.set(Copy::A, b"x");
    disk.set(Copy::B, b"x");
    column.gives("and both blocks", "5 baked - fail");
    let before = disk.garble(b"deployment 5\nast_baked_good=5");
    column.ask.reset();
    column.ask.vm.expect("nothing here can be started", SOON).expect("the last resort");
    column.ask.vm.wait_reset(SOON).expect("another start by itself");
    disk.set_both(&settled());
    [own, baked, before].into_iter().for_each(|undo| disk.restore(undo));
    assert_eq!(column.ask.answer().short(), "6 good 4. ok", "after the last resort");

    // B16. The second menu has a resolution, the one before has not.
    let menu = disk.garble(b"set gfxmode='640x480'\n");
    column.with("menu.cfg is garbage", &settled(), "6 good 4. ok");
    disk.restore(menu);
    let menus = disk.garble(b"set timeout=0\nset timeout_style=menu\n");
    assert_eq!(menus.len() % 2, 0, "menu.cfg and menu.prev.cfg");
    column.with("no menu is whole", &settled(), "6 good 4. ok");
    disk.restore(menus);
}

/// An initramfs that cannot be read, behind a kernel that is loaded already: the next one must not get what is left of it.
fn disk_damage(column: &mut Column<'_>) {
    column.ask.disk.garble_compressed();
    let next = column.with("the initramfs cannot be read", &good(15, Some(5)), "5 load 4. ok");
    assert_eq!(next.get("made.for"), Some("deployment-5"), "{next:?}");
    column.with("that of a trial", &on_trial(15, 3), "6 hash 4.11 ok");
}

/// Nothing can be written: no trial, but the good one.
fn cannot_write(name: &'static str, disk: &DecisionDisk) {
    let mut column = Column { name, ask: Decider::start(name, disk, true) };
    column.with("the disk cannot be written", &on_trial(7, 3), "6 nosave 4.11 fail");
    column.with("the disk cannot be written", &settled(), "6 good 4. fail");
    assert_eq!(column.block(), settled());
    column.with("not even the five starts", &BootBlock { starts: 5, ..settled() }, "5 starts 4. fail");
}

/// Files of the deployments of the disk, as `DEPLOYMENTS` there has them.
fn files(d: DeployId) -> Files {
    match d.get() {
        5..=7 => Files { as_summed: true, load: true },
        8 | 13 => Files { as_summed: false, load: true },
        11 | 12 => Files { as_summed: true, load: false },
        _ => Files { as_summed: false, load: false },
    }
}

/// The model that `counters` builds on says what the real GRUB does, in states that nobody thought of.
fn as_the_model_says(column: &mut Column<'_>, questions: u64) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let deployment = |numbers: &'static [u32]| proptest::sample::select(numbers).prop_map(DeployId::new);
    let trial = (deployment(&[5, 6, 7, 7, 7, 8, 9, 11, 12, 13, 14]), proptest::bool::weighted(0.8), 0..4u8)
        .prop_map(|(deployment, trial, tries)| Trial { deployment, mode: if trial { Mode::Trial } else { Mode::Once }, tries });
    let block = (deployment(&[5, 6, 6, 9]), proptest::option::of(deployment(&[5, 7, 9, 10])), proptest::option::of(trial), 0..7u8, 0..2u32)
        .prop_map(|(good, prev, trial, starts, cap)| BootBlock { prev, trial, starts, cap, arm: ArmId::new(4), ..BootBlock::new(good) });
    let copy = proptest::option::weighted(0.8, block);
    for n in 0..questions {
        let (a, b) = (copy.clone(), copy.clone()).new_tree(&mut runner).expect("a state").current();
        for (which, block) in [(Copy::A, &a), (Copy::B, &b)] {
            let bytes = block.as_ref().map_or_else(|| vec![b'x'; 512], |block| block.encode().expect("a block").to_vec());
            column.ask.disk.set(which, &bytes);
        }
        let seen = Seen { a: a.as_ref(), b: b.as_ref(), baked: Some(DeployId::new(6)), can_save: true, counts: true, files: &files };
        let (saved, decision) = model::start(&seen);
        let decision = decision.expect("the baked one can always be started");
        column.gives(&format!("question {n}: {a:?} {b:?}"), &decision.short());
        for (which, before) in [(Copy::A, &a), (Copy::B, &b)] {
            let last = saved.iter().rev().find(|(copy, _)| *copy == which).map(|(_, block)| block).or(before.as_ref());
            let found = BootBlock::parse(&column.ask.disk.get(which)).ok();
            assert_eq!(found.as_ref(), last, "{}: question {n}: {a:?} {b:?}: copy {which:?}", column.name);
        }
    }
}

fn column(name: &'static str, boot: Boot, suite: Suite, all: bool) {
    let disk = disk(boot, suite, &Wish::default());
    let mut column = Column { name, ask: Decider::start(name, &disk, false) };
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

/// 2.06 reads raw sectors and cannot save there: nothing is tried, the good one starts. That is what the small FAT partition is for.
#[test]
fn raw_blocks_on_2_06_are_never_counted() {
    let disk = disk(Boot::BiosRaw, Suite::G206, &Wish::default());
    let name = "raw_blocks_on_2_06_are_never_counted";
    let mut column = Column { name, ask: Decider::start(name, &disk, false) };
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
    let mut column = Column { name, ask: Decider::start(name, &disk, false) };
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
    let mut column = Column { name, ask: Decider::start(name, &disk, false) };
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
    let mut column = Column { name, ask: Decider::start(name, &disk, false) };
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
    let mut column = Column { name, ask: Decider::start(name, &disk, false) };
    let choose = |column: &mut Column<'_>, lines: &[usize]| {
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
    // What GRUB's commands cannot tell: the size of a file, what is behind the last line, a name that is there twice. All start what they name,
    // and what they name is counted or falls back like any other.
    const LAXER: [&str; 5] = ["size-1024", "size-511", "hostile-prefix-twice", "end-not-last", "torn-first-half"];
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/block");
    let files = std::fs::read_dir(dir).expect("fixtures").map(|e| e.expect("an entry").path());
    let read: Vec<(String, Vec<u8>)> =
        files.map(|p| (p.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&p).expect("bytes"))).collect();
    let disk = disk(Boot::BiosRaw, suite, &Wish { read: read.clone(), ..Wish::default() });
    let mut ask = Decider::start(name, &disk, false);
    let mut wrong = Vec::new();
    let said = ask.vm.expect("all read", SOON).expect("an end");
    drop(said);
    let text = ask.vm.console().text_from(0);
    for (file, bytes) in read {
        let ours = BootBlock::parse(&bytes).map(|b| format!("good {}", b.good)).unwrap_or_else(|_| "bad".into());
        let line = text.lines().find_map(|l| l.strip_prefix(&format!("ast_read {file} "))).unwrap_or("nothing");
        if line != ours && !LAXER.contains(&file.as_str()) {
            wrong.push(format!("{file}: GRUB {line}, host {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
}

#[test]
fn grub_2_14_reads_a_block_by_the_same_rule() {
    same_rule("grub_2_14_reads_a_block_by_the_same_rule", Suite::G214);
}

#[test]
fn grub_2_06_reads_a_block_by_the_same_rule() {
    same_rule("grub_2_06_reads_a_block_by_the_same_rule", Suite::G206);
}
