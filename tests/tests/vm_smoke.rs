//! The canary of the machine driver: boots a tiny system directly, through GRUB on BIOS and on EFI, talks to it, cuts its power, damages its disk.
#![allow(clippy::disallowed_methods, reason = "throw-away files")]
mod common;

use ast_tests::cut::{Strategy, WriteLog, replay};
use ast_tests::vm::{
    Disk, Firmware, Offline, Vm, VmConfig, VmError,
    disk::copy,
    efi_vars,
    offline::{Damage, Scheme},
    overlay,
};
use std::time::Duration;

const BOOT: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(20);

/// Output, status and standard error arrive exactly, whatever the console does to them.
#[test]
fn commands_in_the_guest() {
    let tiny = common::tiny();
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Disk::raw(copy(&tiny.join("disk.img"), dir.path()).unwrap());
    disk.write_log = Some(dir.path().join("log"));
    let image = disk.path.clone();
    let mut config = VmConfig::new("commands_in_the_guest").disk(disk);
    config.kernel = Some(common::kernel(&tiny));
    config.mem_mb = 256;
    let mut vm = Vm::start(config).unwrap();
    vm.wait_shell(BOOT).unwrap();

    let out = vm.run("echo out; echo err >&2; exit 7", SOON).unwrap();
    assert_eq!((out.status, out.stdout.as_str(), out.stderr.as_str()), (7, "out\n", "err\n"));
    assert_eq!(vm.sh("printf 'no end of line'").unwrap(), "no end of line");
    assert_eq!(vm.sh("printf '\\033[31mred\\r\\n\\n'").unwrap(), "\x1b[31mred\r\n\n");
    // Longer than a line of the terminal, of the shell's editor, of the kernel's terminal buffer.
    let long = format!("cat <<'E' | wc -c\n{}\nE", "0123456789'\"$`\\ ".repeat(600));
    assert_eq!(vm.sh(&long).unwrap().trim(), (16 * 600 + 1).to_string());
    // The kernel talks into the middle of it.
    let noise = "i=0; while [ $i -lt 60 ]; do echo noise $i >/dev/kmsg; i=$((i+1)); usleep 4000; done &";
    vm.sh(&format!("({noise}) 2>/dev/null; dmesg -n 8")).unwrap();
    let numbers: String = (1..=400).map(|n| format!("line {n}\n")).collect();
    assert_eq!(vm.sh("seq -f 'line %.0f' 400 2>/dev/null || for i in $(seq 400); do echo line $i; done").unwrap(), numbers);

    assert!(matches!(vm.sh("false"), Err(VmError::Guest { status: 1, .. })));
    let error = vm.run("echo before; sleep 100", Duration::from_secs(2));
    assert!(matches!(error, Err(VmError::Timeout { .. })), "{error:?}");
    vm.forgive();
    assert_eq!(vm.sh("echo alive").unwrap(), "alive\n");

    // The writes of a machine can be replayed too.
    vm.sh("echo one > /mnt/data/file; sync; echo two > /mnt/data/file").unwrap();
    vm.quit().unwrap();
    let offline = Offline::open(&image).unwrap();
    let place = offline.partition(2).unwrap();
    offline.close().unwrap();
    let log = WriteLog::read(&dir.path().join("log"), &tiny.join("disk.img"), (place.start, place.len)).unwrap();
    log.verify(&image).unwrap();
    let report = replay(&log, Strategy::EveryFlush, |state| {
        let root = state.mount("").map_err(|e| e.to_string())?;
        Ok(std::fs::read_to_string(root.join("data/file")).unwrap_or_else(|_| "none".into()))
    });
    let report = report.unwrap();
    assert!(report.is_clean() && report.outcomes.keys().eq(["none", "one\n"]), "{report}");
}

/// A machine keeps its disk over a power cut, shows damage done to it, and is found by its boot menu.
#[test]
fn power_cut_damage_and_both_firmwares() {
    let tiny = common::tiny();
    let dir = tempfile::tempdir().unwrap();
    let disk = overlay(&tiny.join("disk.img"), dir.path()).unwrap();
    let mut config = VmConfig::new("power_cut_damage_and_both_firmwares").disk(Disk::qcow2(&disk));
    config.mem_mb = 256;

    // BIOS, an entry chosen by keys.
    let mut vm = Vm::start(config.clone()).unwrap();
    let second = vm.menu_select("second", BOOT).unwrap();
    assert_eq!(second, "second one");
    match vm.menu_select("no such", SOON) {
        Err(VmError::NoEntry { seen, .. }) => assert_eq!(seen, ["first", "second one", "more"]),
        other => panic!("{other:?}"),
    }
    vm.forgive();
    vm.menu_choose("more", SOON).unwrap();
    vm.menu_choose("^deep$", SOON).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert!(vm.sh("cat /proc/cmdline").unwrap().contains("lab.entry=deep"));
    let stages = vm.stages(0, &[("grub", "GNU GRUB"), ("kernel", r"Linux version"), ("shell", r"# ")]).unwrap();
    assert!(stages.iter().all(|(_, time)| time.is_some()), "{stages:?}");
    eprintln!("BIOS: {stages:?}");

    // A state of the machine comes back with its memory.
    vm.sh("echo 1 > /run/x").unwrap();
    vm.savevm("here").unwrap();
    vm.sh("echo 2 > /run/x").unwrap();
    vm.loadvm("here").unwrap();
    assert_eq!(vm.sh("cat /run/x").unwrap(), "1\n");

    vm.sh("head -c 600000 /dev/urandom > /mnt/data/numbers; echo keep > /mnt/data/other; sync").unwrap();

    // A reboot is seen, and the menu after it is not the one before.
    vm.send("reboot -f\r").unwrap();
    vm.wait_reset(SOON).unwrap();
    assert_eq!(vm.menu_select("second", BOOT).unwrap(), "second one");
    vm.power_cut();

    let offline = Offline::open(&disk).unwrap();
    assert_eq!(offline.scheme(), Scheme::Mbr);
    let mounted = offline.mount(2, "").unwrap();
    let before = std::fs::metadata(mounted.path("data/numbers")).unwrap().len();
    mounted.damage("data/numbers", Damage::Truncate).unwrap();
    mounted.unmount().unwrap();
    offline.fat(1).unwrap().write("/note", b"by mtools").unwrap();
    offline.close().unwrap();

    // EFI, and the damage is there.
    config.firmware = Firmware::Efi { vars: efi_vars(dir.path()).unwrap() };
    let mut vm = Vm::start(config).unwrap();
    vm.menu_choose("second", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh("stat -c %s /mnt/data/numbers; cat /mnt/data/other").unwrap(), format!("{}\nkeep\n", before / 2));
    eprintln!("EFI: {:?}", vm.stages(0, &[("grub", "GNU GRUB"), ("kernel", r"Linux version"), ("shell", r"# ")]).unwrap());

    // A state of the machine outlives its emulator, also with EFI's variables.
    vm.sh("echo 1 > /run/x").unwrap();
    vm.savevm("efi").unwrap();
    vm.sh("echo 2 > /run/x").unwrap();
    let mut config = vm.config().clone();
    vm.power_cut();
    config.loadvm = Some("efi".into());
    let mut vm = Vm::start(config).unwrap();
    vm.wait_shell(SOON).unwrap();
    assert_eq!(vm.sh("cat /run/x").unwrap(), "1\n");
    eprintln!("loadvm and a command: {:?}", vm.elapsed());
    vm.reset().unwrap();
    vm.menu_select("first", BOOT).unwrap();
    vm.quit().unwrap();
    let offline = Offline::open(&disk).unwrap();
    assert_eq!(offline.fat(1).unwrap().read("/note").unwrap(), b"by mtools");
}
