//! A snapshot that is made on one machine starts another one: through a signed file on a stick, between a machine with a BIOS and one with EFI.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast_tests::image::Column;
use ast_tests::scenario::{BOOT, Scenario, judged, status};
use ast_tests::vm::tool::tool;
use ast_tests::vm::{Disk, Vm};
use std::time::Duration;

/// Bytes of the stick.
const STICK: u64 = 1 << 30;
/// Longest that sending or receiving a whole system may take, emulated.
const LONG: Duration = Duration::from_secs(400);

/// A machine of this column with the stick in it.
fn machine(name: &str, column: Column, stick: &std::path::Path) -> (Scenario, Vm) {
    let scenario = Scenario::new(name, column).unwrap();
    let mut vm = Vm::start(scenario.config().disk(Disk::raw(stick))).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    vm.sh("mkdir -p /run/stick && mount /dev/vdb /run/stick").unwrap();
    (scenario, vm)
}

/// The command succeeds; what it said.
fn does(vm: &mut Vm, line: &str) -> String {
    let ended = vm.run(line, LONG).unwrap();
    assert_eq!(ended.status, 0, "{line}: {}{}", ended.stdout, ended.stderr);
    ended.stdout
}

#[test]
fn r7_s8_a_snapshot_of_one_machine_is_tried_and_promoted_on_another() {
    let dir = ast_tests::vm::scratch::scratch("stick").unwrap();
    let stick = dir.path().join("stick.raw");
    std::fs::File::create(&stick).unwrap().set_len(STICK).unwrap();
    tool("mkfs.btrfs", &["-q".as_ref(), stick.as_os_str()]).unwrap();

    let (one, mut vm) = machine("one_machine", Column::Bios214Raw, &stick);
    does(&mut vm, "ast clone 0 && ast -y run 1 sh -c 'echo made on one machine > /usr/share/made'");
    // What makes a machine this one is not for another: what takes it out is said, and does.
    let refused = vm.run("ast -y export 1 /run/stick/whole.ast 2>&1", LONG).unwrap();
    assert_eq!(refused.status, 3, "{}", refused.stdout);
    let hint = refused.stdout.split('`').nth(1).unwrap_or_default().replace("run N", "-y run 1");
    assert!(hint.starts_with("ast -y run 1 rm /etc/machine-id"), "{}", refused.stdout);
    does(&mut vm, &hint);
    does(&mut vm, "ast -y branch 1 && ast -y run 2 sh -c 'echo and changed >> /usr/share/made'");
    does(&mut vm, "ast -y export 1 /run/stick/whole.ast && ast -y export --parent 1 2 /run/stick/step.ast");
    does(&mut vm, "cp /etc/ast/export.pub /run/stick/one.pub && umount /run/stick");
    vm.power_off(BOOT).unwrap();
    drop((one, vm));

    let (_two, mut vm) = machine("other_machine", Column::Efi214, &stick);
    let before = does(&mut vm, "ast tree; ls /.snapshots/sets /.snapshots/work");
    // Nobody has said yet that it may be trusted.
    let refused = vm.run("ast -y import /run/stick/whole.ast 2>&1", LONG).unwrap();
    assert_eq!(refused.status, 3, "{}", refused.stdout);
    assert!(refused.stdout.contains("/etc/ast/trusted.d"), "the way out is not named: {}", refused.stdout);
    does(&mut vm, "mkdir -p /etc/ast/trusted.d && cp /run/stick/one.pub /etc/ast/trusted.d/");
    // A byte that is another one, and a step without what it is a step from.
    let damaged = "cd /run/stick; cp whole.ast bad.ast; printf x | dd of=bad.ast bs=1 seek=300000 conv=notrunc status=none; ast -y import bad.ast 2>&1";
    for (line, code, why) in [(damaged, 1, "damaged"), ("ast -y import /run/stick/step.ast 2>&1", 3, "import that one first")] {
        let refused = vm.run(line, LONG).unwrap();
        assert!(refused.status == code && refused.stdout.contains(why), "{line}: {} {}", refused.status, refused.stdout);
    }
    assert_eq!(does(&mut vm, "ast tree; ls /.snapshots/sets /.snapshots/work"), before, "something is left of what was refused");

    does(&mut vm, "ast -y import /run/stick/whole.ast && ast -y import /run/stick/step.ast");
    does(&mut vm, "umount /run/stick; ast -y deploy 2");
    vm.sh("cat /etc/machine-id > /home/id").unwrap();
    vm.reboot(BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!((now["booted"]["deployment"].as_u64(), now["default"]["deployment"].as_u64()), (Some(2), Some(2)), "{now:#}");
    assert_eq!(vm.sh("cat /usr/share/made").unwrap(), "made on one machine\nand changed\n");
    // It is still this machine.
    assert_eq!(vm.sh("cmp /etc/machine-id /home/id && echo same").unwrap(), "same\n");
}
