//! The scenarios of unattended updates that succeed, or have nothing to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast_tests::columns;
use ast_tests::image::Column;
use ast_tests::lab::repo::State;
use ast_tests::scenario::{BOOT, Scenario, judged, status, update, update_without_restart};
use ast_tests::vm::Vm;

/// What a device's owner has and an update must keep.
const EDITS: &str = "sed -i '$a # edited by hand' /etc/default/useradd 2>/dev/null || echo '# edited by hand' >> /etc/fstab; echo mine > /etc/mine.conf; chmod 640 /etc/mine.conf";

/// Everything on disk that an update which finds nothing must leave alone.
fn everything(vm: &mut Vm) -> String {
    vm.sh("ls /.snapshots/sets /.snapshots/deploy /.snapshots/work; sha256sum /.snapshots/ast/tree.json; ast --json tree").unwrap()
}

/// Scenario 2: v2 appears; the machine has it after one restart, and everything of its owner's is still there.
fn scenario_02_03(column: Column) {
    let scenario = Scenario::new("scenario_02", column).unwrap();
    let mut vm = scenario.boot().unwrap();
    judged(&mut vm).unwrap();
    let identity = vm.sh("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key").unwrap();
    vm.sh(EDITS).unwrap();
    let kernel = vm.sh("uname -r").unwrap();
    assert_eq!(vm.sh("pacman -Q hello").unwrap(), "hello 1-1\n");

    scenario.offer(State::V2).unwrap();
    update(&mut vm).unwrap();
    judged(&mut vm).unwrap();

    let now = status(&mut vm).unwrap();
    assert_eq!(now["booted"]["deployment"], 2, "{now:#}");
    assert_eq!(now["default"]["deployment"], 2, "not promoted: {now:#}\n{}", vm.sh("journalctl -b --no-pager -u ast-health -u ast-autoupdate").unwrap());
    assert_eq!(now["fallback"]["deployment"], 1, "{now:#}");
    assert!(now["trial"].is_null(), "{now:#}");
    assert_eq!(vm.sh("pacman -Q hello").unwrap(), "hello 2-1\n");
    assert_ne!(vm.sh("uname -r").unwrap(), kernel);
    assert_eq!(vm.sh("cat /etc/machine-id /etc/ssh/ssh_host_ed25519_key").unwrap(), identity);
    assert_eq!(vm.sh("stat -c %a /etc/mine.conf; cat /etc/mine.conf").unwrap(), "640\nmine\n");
    assert!(vm.sh("grep -rl '^# edited by hand' /etc").unwrap().lines().count() == 1);

    // Scenario 3: the mirror has nothing new: nothing is created, nothing restarts.
    let before = everything(&mut vm);
    assert_eq!(update_without_restart(&mut vm).unwrap(), 0, "{}", vm.sh("journalctl -b --no-pager -u ast-autoupdate").unwrap());
    assert_eq!(everything(&mut vm), before);

    // The old snapshot still starts from the menu.
    vm.sh("sync").unwrap();
    vm.reboot(std::time::Duration::from_secs(60)).unwrap();
    vm.menu_choose("[Ss]napshots", std::time::Duration::from_secs(40)).unwrap();
    vm.menu_choose("base", std::time::Duration::from_secs(40)).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh("uname -r").unwrap(), kernel);
    let booted = vm.sh("cat /run/ast/booted").unwrap();
    assert!(booted.contains("why=chosen") && booted.contains("volatile=1") && booted.contains("set=0.1"), "{booted}");
}

/// A machine whose clock says 2001 verifies signatures, since it starts with the last time that it knew; without that it does not.
fn c3(column: Column) {
    const VERIFY: &str = "rm -rf /tmp/c3; mkdir -p /tmp/c3/db /tmp/c3/cache; pacman -Syw --noconfirm --dbpath /tmp/c3/db --cachedir /tmp/c3/cache hello";
    let scenario = Scenario::new("c3", column).unwrap();
    let mut config = scenario.config();
    config.extra_args.extend(["-rtc".to_owned(), "base=2001-02-03T04:05:06".to_owned()]);
    let mut vm = Vm::start(config).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let floor = "[ $(date +%s) -ge $(stat -c %Y /.snapshots/ast/machine.json) ]";
    vm.sh(floor).unwrap();
    // Not by unit: who has ended before the journal looks at him has none.
    assert!(vm.sh("journalctl -b --no-pager").unwrap().contains("the clock was before"));
    vm.sh(VERIFY).unwrap();

    vm.sh("date -s 2001-02-03").unwrap();
    let said = vm.run(VERIFY, std::time::Duration::from_secs(60)).unwrap();
    assert!(said.status != 0, "a signature of the future was valid: {}", said.stdout);
    vm.sh(&format!("/usr/lib/ast/ast-autoupdate first-boot && {floor}")).unwrap();
    vm.sh(VERIFY).unwrap();
}

columns!(c3_a_machine_without_a_clock_verifies_signatures(c3); test: bios214_raw; full: bios206_gap, efi214, efi206, efi214_systemd);

columns!(scenario_02_03_an_update_is_tried_and_promoted(scenario_02_03); test: bios206_gap; full: bios214_raw, efi214, efi206, efi214_systemd);
