//! The scenarios of updates that are bad, or that something happens to: an update on trial, powered off, is damaged, and the machine
//! must come back by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast_tests::columns;
use ast_tests::image::{Column, armed};
use ast_tests::lab::repo::State;
use ast_tests::scenario::{BOOT, Scenario, judged, restarted, start_update, status};
use ast_tests::vm::offline::{Damage, Mounted, Offline};
use ast_tests::vm::{Vm, cache_dir};
use std::time::Duration;

/// GRUB's word when it starts the good one instead of the trial.
const FELL_BACK: &str = "ast: ast.d=1 \\((good|exhausted|hash|load)\\)";
/// Three starts, each with its reset.
const FALL_BACK: Duration = Duration::from_secs(450);

/// A machine with the update to `state` on trial as deployment 2, powered off.
fn machine(name: &str, column: Column, state: State) -> Scenario {
    let image = armed(&cache_dir(), column, state).unwrap();
    let scenario = Scenario::on(name, column, &image).unwrap();
    scenario.offer(state).unwrap();
    scenario
}

/// The btrfs top level is changed while the machine is off.
fn change(scenario: &Scenario, how: impl FnOnce(&Mounted)) {
    let offline = Offline::open(scenario.disk()).unwrap();
    let number = offline.partitions().iter().max_by_key(|p| p.len).unwrap().number;
    let mounted = offline.mount(number, "subvolid=5").unwrap();
    how(&mounted);
    mounted.unmount().unwrap();
    offline.close().unwrap();
}

fn damage(scenario: &Scenario, path: &str, how: Damage) {
    change(scenario, |top| top.damage(path, how).unwrap());
}

/// The good deployment runs, the bad one is told of, blocked, and not tried again: not at once, and not by the next cycle.
fn came_back(vm: &mut Vm, cause: &str) {
    judged(vm).unwrap();
    let now = status(vm).unwrap();
    assert_eq!(now["booted"]["deployment"], 1, "{now:#}");
    assert_eq!(now["default"]["deployment"], 1, "{now:#}");
    assert!(now["trial"].is_null(), "still on trial: {now:#}");
    let text = vm.sh("ast status || [ $? = 5 ]").unwrap();
    assert!(text.contains("degraded") && text.contains(cause), "status does not tell of {cause:?}:\n{text}");
    let blocked = vm.sh("cat /.snapshots/ast/updates.json").unwrap();
    assert!(blocked.contains("\"blocked\""), "{blocked}");
    let resets = vm.resets();
    let again = vm.run("systemctl start ast-autoupdate.service; while systemctl is-active ast-autoupdate.service | grep -qx 'active\\|activating'; do sleep 0.5; done; journalctl -b --no-pager -o cat -u ast-autoupdate", Duration::from_secs(300)).unwrap();
    assert!(again.stdout.contains("not trying"), "{}", again.stdout);
    assert_eq!(vm.resets(), resets);
    assert!(status(vm).unwrap()["trial"].is_null());
}

fn scenario_04(column: Column, file: &str, how: Damage) {
    let scenario = machine("scenario_04", column, State::V2);
    damage(&scenario, &format!("@.snapshots/deploy/2/boot/{file}"), how);
    let mut vm = scenario.boot().unwrap();
    came_back(&mut vm, "deployment 2");
}

columns!(scenario_04_kernel_missing(|c| scenario_04(c, "vmlinuz-linux", Damage::Delete)); test: bios214_raw; full: bios206_gap, efi214, efi206, efi214_systemd);
columns!(scenario_04_kernel_empty(|c| scenario_04(c, "vmlinuz-linux", Damage::Empty)); full: bios206_gap, bios214_raw, efi214, efi206, efi214_systemd);
columns!(scenario_04_kernel_truncated(|c| scenario_04(c, "vmlinuz-linux", Damage::Truncate)); full: efi214, bios214_raw, bios206_gap, efi206, efi214_systemd);
columns!(scenario_04_kernel_zeroed(|c| scenario_04(c, "vmlinuz-linux", Damage::ZeroMiddle)); test: efi206; full: bios214_raw, bios206_gap, efi214, efi214_systemd);
columns!(scenario_04_initramfs_missing(|c| scenario_04(c, "initramfs-linux.img", Damage::Delete)); test: bios206_gap; full: bios214_raw, efi214, efi206, efi214_systemd);
columns!(scenario_04_initramfs_truncated(|c| scenario_04(c, "initramfs-linux.img", Damage::Truncate)); test: efi214_systemd; full: bios214_raw, bios206_gap, efi214, efi206);

/// What the trial says on the console when its own systemd begins, in either kind of image.
const USERSPACE: &str = "scenario: userspace";

/// Scenario 7: the light goes out after the initramfs, four times; the update is good and is promoted in the end.
fn scenario_07(column: Column) {
    let scenario = machine("scenario_07", column, State::V2);
    change(&scenario, |top| {
        let units = "@.snapshots/deploy/2/etc/systemd/system";
        // By the kernel and before anybody logs in: a getty throws away what is on its way to the terminal. Twenty times in four seconds:
        // said once, one word in some twenty was not seen on a busy machine.
        let word = format!("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo \"<2>{USERSPACE}\" > /dev/kmsg; sleep 0.2; done");
        let text = format!("[Unit]\nDefaultDependencies=no\nBefore=sysinit.target\n[Service]\nType=exec\nExecStart=/bin/sh -c '{word}'\n");
        top.put(format!("{units}/scenario-word.service"), text.as_bytes()).unwrap();
        let wants = top.path(format!("{units}/sysinit.target.wants"));
        std::fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink("../scenario-word.service", wants.join("scenario-word.service")).unwrap();
    });
    for cut in 1..=4 {
        // A killed emulator keeps what the machine has flushed, no more.
        let mut config = scenario.config();
        config.disks.iter_mut().for_each(|disk| disk.cache = "writeback");
        let mut vm = Vm::start(config).unwrap();
        vm.expect("ast: .*\\(trial\\)", BOOT).unwrap();
        vm.expect(USERSPACE, BOOT).unwrap();
        std::thread::sleep(Duration::from_secs(3));
        vm.power_cut();
        eprintln!("cut {cut}");
    }
    let mut vm = scenario.boot().unwrap();
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!((now["booted"]["deployment"].as_u64(), now["default"]["deployment"].as_u64()), (Some(2), Some(2)), "{now:#}");
}

columns!(scenario_07_power_cuts_in_a_good_trial(scenario_07); test: bios206_gap; full: bios214_raw, efi214, efi206, efi214_systemd);

/// Three starts of a trial that resets itself, then the good one: with no human.
fn falls_back_by_itself(scenario: &Scenario) -> Vm {
    let mut vm = scenario.start().unwrap();
    vm.expect(FELL_BACK, FALL_BACK).unwrap();
    vm.wait_shell(BOOT).unwrap();
    vm
}

fn scenario_05_or_06(name: &str, column: Column, state: State, cause: &str) {
    let scenario = machine(name, column, state);
    if matches!(state, State::V2HungCheck) {
        // As its owner may set it: three starts of a whole minute would be most of what this takes.
        change(&scenario, |top| {
            let dir = "@.snapshots/deploy/2/etc/ast/autoupdate.d";
            std::fs::create_dir_all(top.path(dir)).unwrap();
            top.put(format!("{dir}/50-test.toml"), b"[health]\ncheck_seconds = 15\n").unwrap();
        });
    }
    let mut vm = falls_back_by_itself(&scenario);
    came_back(&mut vm, cause);
}

columns!(scenario_05_panic_before_init(|c| scenario_05_or_06("scenario_05", c, State::V2Panic, "deployment 2")); test: efi214_systemd; full: bios214_raw, bios206_gap, efi214, efi206);
columns!(scenario_06_required_check_fails(|c| scenario_05_or_06("scenario_06", c, State::V2BadCheck, "50-fail")); test: efi206; full: bios214_raw, bios206_gap, efi214, efi214_systemd);
columns!(scenario_06_check_never_returns(|c| scenario_05_or_06("scenario_06", c, State::V2HungCheck, "50-")); full: bios206_gap, bios214_raw, efi214, efi206, efi214_systemd);

/// What an init of the root says that then does nothing any more.
const HANGS: &str = "scenario: init hangs";

/// A hang before userspace is up: nothing but the hardware watchdog ends it.
///
/// This machine's clock counts its instructions, and jumps to the next alarm when it idles, so that two minutes of nothing are over at once.
/// What it does meanwhile is what it always does. The good one starts on a machine with the usual clock.
fn scenario_06_hang(column: Column) {
    let scenario = machine("scenario_06", column, State::V2);
    change(&scenario, |top| {
        // In the root only: the initramfs has its own.
        let init = format!("#!/bin/sh\necho '<2>{HANGS}' > /dev/kmsg\nwhile :; do sleep 1000; done\n");
        top.put("@.snapshots/deploy/2/root/usr/lib/systemd/systemd", init.as_bytes()).unwrap();
        // As an owner may have it. The systemd of an initramfs reads all its settings anew then, while the watchdog runs.
        let fstab = "@.snapshots/deploy/2/etc/fstab";
        let text = std::fs::read_to_string(top.path(fstab)).unwrap() + "early /mnt tmpfs x-initrd.mount 0 0\n";
        top.put(fstab, text.as_bytes()).unwrap();
    });
    let mut config = scenario.config();
    // 16 ns for an instruction: about what an emulated one takes, so that nothing seems slow either.
    config.extra_args = ["-icount", "shift=4,sleep=off"].map(String::from).into();
    let mut vm = Vm::start(config).unwrap();
    let barks = |vm: &mut Vm| vm.monitor().events().iter().filter(|event| event.name == "WATCHDOG").count();
    for start in 0..3 {
        vm.expect(r"ast: ast\.d=2 \(trial\)", BOOT).unwrap();
        // More if the machine, whose clock jumps, is ahead of us who read what it said; how many there were in all is asked at the end.
        assert!(barks(&mut vm) >= start, "before start {start} of the trial");
    }
    vm.expect(r"ast: ast\.d=1 \(exhausted\)", BOOT).unwrap();
    assert_eq!(barks(&mut vm), 3);
    // What a start says now and then does not reach the console; what ended each of them is counted.
    let said = vm.console().text_from(0);
    assert!(said.contains("watchdog0: watchdog did not stop") && said.contains(HANGS), "{said}");
    vm.quit().unwrap();
    let mut vm = scenario.boot().unwrap();
    came_back(&mut vm, "watchdog: it reset the machine");
}

columns!(scenario_06_hang_before_userspace(scenario_06_hang); test: bios214_raw; full: bios206_gap, efi214, efi206, efi214_systemd);

/// B3: a start that panics after the initramfs, where only the firmware keeps a word of it. Its try does not come back.
fn scenario_05_record(column: Column) {
    let scenario = machine("scenario_05", column, State::V2);
    // The gate takes its time, so that the trial is not promoted before.
    change(&scenario, |top| {
        let dir = "@.snapshots/deploy/2/etc/systemd/system/ast-health.service.d";
        std::fs::create_dir_all(top.path(dir)).unwrap();
        top.put(format!("{dir}/50-test.conf"), b"[Service]\nExecStart=\nExecStart=/bin/sleep 1000\n").unwrap();
    });
    let mut vm = scenario.boot().unwrap();
    assert_eq!(vm.sh("cat /sys/module/efi_pstore/parameters/pstore_disable; grep -c . /.snapshots/ast/stage > /dev/null; grep -E '^(left|back)=' /.snapshots/ast/stage").unwrap(), "N\nleft=2\nback=0\n");
    vm.send("echo c > /proc/sysrq-trigger\r").unwrap();
    vm.expect(r"ast: ast\.d=2 \(trial\)", FALL_BACK).unwrap();
    vm.wait_shell(BOOT).unwrap();
    let stage = vm.sh("cat /.snapshots/ast/stage").unwrap();
    assert!(stage.contains("left=1\n") && stage.contains("back=0\n") && stage.contains("earlier=pstore: dmesg-efi"), "{stage}");
}

columns!(scenario_05_a_panic_that_only_the_firmware_recorded(scenario_05_record); full: efi214, efi206, efi214_systemd);

/// That a unit fails newly is known only on a machine whose gate has judged the start before: the real update, from its first boot.
fn scenario_06_unit(column: Column) {
    let scenario = Scenario::new("scenario_06", column).unwrap();
    let mut vm = scenario.boot().unwrap();
    judged(&mut vm).unwrap();
    scenario.offer(State::V2BadUnit).unwrap();
    start_update(&mut vm).unwrap();
    restarted(&mut vm).unwrap();
    vm.expect(FELL_BACK, FALL_BACK).unwrap();
    vm.wait_shell(BOOT).unwrap();
    came_back(&mut vm, "kiosk");
}

columns!(scenario_06_unit_newly_fails(scenario_06_unit); test: efi214; full: bios214_raw, bios206_gap, efi206, efi214_systemd);
