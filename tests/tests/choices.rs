//! The scenarios in which a person, a bad sector or a full disk has a say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast::boot::block::BootBlock;
use ast::id::DeployId;
use ast_tests::columns;
use ast_tests::image::{Column, armed, promoted};
use ast_tests::lab::repo::State;
use ast_tests::scenario::{BOOT, Scenario, booted, judged, status, update, update_without_restart};
use ast_tests::vm::offline::{Damage, Offline};
use ast_tests::vm::{Key, Vm, cache_dir};
use std::time::Duration;

/// From power on to GRUB's word about what it starts.
const GRUB: Duration = Duration::from_secs(90);
/// Time for a menu to be painted, emulated.
const MENU: Duration = Duration::from_secs(60);

fn on(name: &str, column: Column, image: &std::path::Path) -> Scenario {
    Scenario::on(name, column, image).unwrap()
}

/// Partition numbers: of the system, and of the FAT with the boot block if there is one.
fn parts(offline: &Offline) -> (u32, Option<u32>) {
    let system = offline.partitions().iter().max_by_key(|p| p.len).unwrap().number;
    (system, offline.partitions().iter().map(|p| p.number).find(|n| *n != system))
}

/// The disk is changed while the machine is off. The path is below the btrfs top level.
fn damage(scenario: &Scenario, path: &str, how: Damage) {
    let offline = Offline::open(scenario.disk()).unwrap();
    let mounted = offline.mount(parts(&offline).0, "subvolid=5").unwrap();
    mounted.damage(path, how).unwrap();
    mounted.unmount().unwrap();
    offline.close().unwrap();
}

/// Both copies of the boot block are these bytes (`None`: left as it is).
fn write_blocks(scenario: &Scenario, a: Option<&[u8]>, b: Option<&[u8]>) {
    let offline = Offline::open(scenario.disk()).unwrap();
    let (system, fat) = parts(&offline);
    match fat {
        Some(number) => {
            let fat = offline.fat(number).unwrap();
            for (name, bytes) in [("/ast/a/block", a), ("/ast/b/block", b)] {
                if let Some(bytes) = bytes {
                    fat.write(name, bytes).unwrap();
                }
            }
        }
        None => {
            let start = offline.partition(system).unwrap().start;
            for (sector, bytes) in [(1024, a), (1536, b)] {
                if let Some(bytes) = bytes {
                    offline.write(start + sector * 512, &bytes[..bytes.len().min(512)]).unwrap();
                }
            }
        }
    }
    offline.close().unwrap();
}

/// What GRUB says that it starts; the machine is switched off then.
fn grub_starts(scenario: &Scenario) -> String {
    let mut vm = scenario.start().unwrap();
    let seen = vm.expect("ast: (ast\\.[a-z]+=[0-9.]+ \\([a-z]+\\))", GRUB).unwrap();
    let said = seen.groups.get(1).cloned().flatten().unwrap_or_default();
    // Not killed: the emulator would lose what GRUB wrote but its own format has not.
    vm.quit().unwrap();
    said
}

/// Scenario 9: whatever becomes of the boot block, the good one boots, and userspace mends both copies.
fn scenario_09(column: Column) {
    let image = ast_tests::image::build(&cache_dir(), column, State::V1).unwrap();
    let valid = BootBlock::new(DeployId::new(1)).encode().unwrap();
    let garbage: Vec<u8> = (0..512u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut torn = valid.to_vec();
    torn[200..].fill(0);
    let hostile = |line: &str| {
        let mut bytes = b"# GRUB Environment Block\n".to_vec();
        bytes.extend_from_slice(format!("ast_v=1\nast_good=1\nast_prev=\nast_try=\nast_mode=\nast_tries=\nast_arm=0\nast_starts=\nast_cap=0\n{line}\nast_end=1\n").as_bytes());
        bytes.resize(512, b'#');
        bytes
    };
    let evil_good = String::from_utf8(hostile("ast_x=1")).unwrap().replace("ast_good=1", "ast_good=$(reboot)/../9");
    // name, A, B, what GRUB may start
    type Case<'a> = (&'a str, Option<&'a [u8]>, Option<&'a [u8]>, &'a str);
    let (prefix, superusers) = (hostile("prefix=(hd9)/evil"), hostile("superusers=root"));
    let cases: [Case<'_>; 7] = [
        ("A torn", Some(&torn), None, "ast.d=1 (good)"),
        ("B garbage", None, Some(&garbage), "ast.d=1 (good)"),
        ("both garbage", Some(&garbage), Some(&garbage), "ast.d=1 (baked)"),
        ("both zero", Some(&[0; 512]), Some(&[0; 512]), "ast.d=1 (baked)"),
        ("hostile number", Some(evil_good.as_bytes()), Some(evil_good.as_bytes()), "ast.d=1 (baked)"),
        ("hostile prefix", Some(&prefix), None, "ast.d=1 (good)"),
        ("hostile superusers", Some(&superusers), None, "ast.d=1 (good)"),
    ];
    for (name, a, b, starts) in cases {
        let scenario = on("scenario_09", column, &image);
        write_blocks(&scenario, a, b);
        assert_eq!(grub_starts(&scenario), starts, "{column}: {name}");
    }
    if column.is_efi() {
        for (name, change) in [
            ("other size", (|fat| ["/ast/a/block", "/ast/b/block"].iter().for_each(|f| fat.write(f, &[b'#'; 700]).unwrap())) as fn(&ast_tests::vm::offline::Fat<'_>)),
            ("both deleted", |fat| ["/ast/a/block", "/ast/b/block"].iter().for_each(|f| fat.delete(f).unwrap())),
        ] {
            let scenario = on("scenario_09", column, &image);
            let offline = Offline::open(scenario.disk()).unwrap();
            change(&offline.fat(parts(&offline).1.unwrap()).unwrap());
            offline.close().unwrap();
            assert_eq!(grub_starts(&scenario), "ast.d=1 (baked)", "{column}: {name}");
        }
    }
    let scenario = on("scenario_09", column, &image);
    damage(&scenario, "@boot/grub/ast/menu.cfg", Damage::Garbage(9));
    damage(&scenario, "@boot/grub/ast/snapshots.cfg", Damage::Garbage(10));
    assert_eq!(grub_starts(&scenario), "ast.d=1 (good)", "{column}: garbage in the menu");
    // All of it at once, and through to userspace, which mends it.
    write_blocks(&scenario, Some(&garbage), Some(&torn));
    let mut vm = scenario.boot().unwrap();
    judged(&mut vm).unwrap();
    drop(vm.run("ast doctor --fix", Duration::from_secs(60)).unwrap());
    let doctor = vm.run("ast doctor", Duration::from_secs(60)).unwrap();
    assert!(!doctor.stdout.contains("copy A:") && !doctor.stdout.contains("copy B:"), "{}", doctor.stdout);
    assert_eq!(booted(&mut vm).unwrap(), 1);
}

columns!(scenario_09_hostile_blocks(scenario_09); test: bios214_raw; full: bios206_gap, efi214, efi206, efi214_systemd);

/// Scenario 10, from the disliked one: `ast rollback --previous`, with the /var of that time (S9).
fn scenario_10_previous(column: Column) {
    let scenario = on("scenario_10", column, &promoted(&cache_dir(), column, State::V2).unwrap());
    let mut vm = scenario.boot().unwrap();
    assert_eq!((booted(&mut vm).unwrap(), vm.sh("pacman -Q hello").unwrap().as_str()), (2, "hello 2-1\n"));
    judged(&mut vm).unwrap();
    vm.sh("echo migrated > /var/lib/era && ast rollback --previous --with-var && cat /var/lib/era && sync").unwrap();
    vm.reboot(Duration::from_secs(90)).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!((booted(&mut vm).unwrap(), vm.sh("pacman -Q hello").unwrap().as_str()), (1, "hello 1-1\n"));
    let era = vm.sh("ls /var/lib/era /var/.ast-kept 2>&1 | grep -c 'No such file'; cat /.snapshots/vars/1/swap/lib/era").unwrap();
    assert_eq!(era, "2\nmigrated\n", "/var is as it was, and what it was until then is kept");
    let now = status(&mut vm).unwrap();
    assert_eq!(now["default"]["deployment"], 1, "{now:#}");
}

columns!(scenario_10_rollback_previous(scenario_10_previous); test: efi214; full: bios214_raw, bios206_gap, efi206, efi214_systemd);

/// Scenario 10, as the README tells it: the old one is chosen in the menu, then `ast rollback`.
fn scenario_10_menu(column: Column) {
    let scenario = on("scenario_10", column, &promoted(&cache_dir(), column, State::V2).unwrap());
    let mut vm = scenario.start().unwrap();
    vm.menu_choose("the one before", MENU).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh("pacman -Q hello").unwrap(), "hello 1-1\n");
    vm.sh("echo kept > /etc/kept-by-rollback; sync").unwrap();
    let said = vm.sh("ast rollback").unwrap();
    assert!(said.contains("is the default from the next boot on"), "{said}");
    vm.reboot(Duration::from_secs(90)).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh("pacman -Q hello; cat /etc/kept-by-rollback").unwrap(), "hello 1-1\nkept\n");
    assert!(vm.sh("ast tree").unwrap().contains("rollback"));
    let now = status(&mut vm).unwrap();
    assert_eq!(now["booted"]["deployment"], now["default"]["deployment"], "{now:#}");
    assert!(now["trial"].is_null(), "{now:#}");
}

columns!(scenario_10_rollback_from_the_menu(scenario_10_menu); test: bios206_gap; full: bios214_raw, efi214, efi206, efi214_systemd);

/// Scenario 11: a snapshot chosen in the menu starts with a volatile /etc, and nothing is written.
fn scenario_11(column: Column) {
    let scenario = on("scenario_11", column, &promoted(&cache_dir(), column, State::V2).unwrap());
    let mut vm = scenario.start().unwrap();
    vm.menu_choose("Snapshots", MENU).unwrap();
    if column.is_efi() {
        // Its firmware steals a key now and then, and an entry that is edited is not looked at again before it starts.
        vm.menu_choose("^ *\\*?0 ", MENU).unwrap();
        vm.wait_shell(BOOT).unwrap();
    } else {
        // Kernel parameters for this start go between the quotes of `set ast_more=""`; GRUB puts a line with the title above.
        vm.menu_select("^ *\\*?0 ", MENU).unwrap();
        vm.send("e").unwrap();
        vm.expect("ast_chosen", MENU).unwrap();
        // A long title takes two rows, of which the first ends in a backslash.
        let screen = vm.screen();
        let row = |what: &str| screen.iter().position(|row| row.contains(what)).unwrap();
        let down = screen[row("setparams")..row("ast_more")].iter().filter(|row| !row.trim_end_matches([' ', '|']).ends_with('\\')).count();
        vm.send_keys(&vec![Key::Ctrl('n'); down]).unwrap();
        vm.send_keys(&[Key::Ctrl('e'), Key::Ctrl('b')]).unwrap();
        vm.send("ast.deadline=77 lab.word").unwrap();
        vm.send_keys(&[Key::Ctrl('x')]).unwrap();
        vm.wait_shell(BOOT).unwrap();
        let line = vm.sh("cat /proc/cmdline").unwrap();
        assert!(line.ends_with(" ast.deadline=77 lab.word\n"), "{line}");
    }
    judged(&mut vm).unwrap();
    let record = vm.sh("cat /run/ast/booted").unwrap();
    assert!(record.contains("why=chosen") && record.contains("volatile=1") && record.contains("set=0.1"), "{record}");
    let text = vm.sh("ast status || [ $? = 5 ]").unwrap();
    assert!(text.contains("chosen by hand") && text.contains("/etc ends with this boot"), "{text}");
    assert_eq!(vm.sh("cat /etc/machine-id").unwrap(), "0123456789abcdef0123456789abcdef\n", "B11: this machine's id");
    vm.sh("echo gone > /etc/gone; sync").unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!((now["default"]["deployment"].as_u64(), now["starts"].as_u64()), (Some(2), Some(0)), "{now:#}");
    vm.reboot(Duration::from_secs(90)).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(booted(&mut vm).unwrap(), 2);
    assert_eq!(vm.sh("find /.snapshots/sets /.snapshots/deploy -name gone").unwrap(), "");
}

columns!(scenario_11_any_snapshot_from_the_menu(scenario_11); test: bios214_raw; full: bios206_gap, efi214, efi206, efi214_systemd);

/// Scenario 12: a full disk stops an update with a clear word, the machine goes on, and the space comes back.
fn scenario_12(column: Column) {
    let scenario = Scenario::new("scenario_12", column).unwrap();
    let mut vm = scenario.boot().unwrap();
    judged(&mut vm).unwrap();
    scenario.offer(State::V2).unwrap();
    let free = "df --output=avail -B1M /var | tail -1";
    let before: u64 = vm.sh(free).unwrap().trim().parse().unwrap();
    // Before: nothing is begun. During: pacman runs into it.
    for left in [10, 60] {
        vm.run(&format!("rm -f /var/filler; fallocate -l $(( $({free}) - {left} ))M /var/filler; sync"), Duration::from_secs(60)).unwrap();
        update_without_restart(&mut vm).unwrap();
        let journal = vm.sh("journalctl -b --no-pager -o cat -u ast-autoupdate -n 30").unwrap();
        assert!(journal.contains("free") || journal.contains("full") || journal.contains("space"), "left {left} MiB: {journal}");
        assert!(status(&mut vm).unwrap()["trial"].is_null());
    }
    vm.sh("rm -f /var/filler; sync; btrfs filesystem sync /").unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(vm.sh("ls /.snapshots/work").unwrap(), "");
    let after: u64 = vm.sh(free).unwrap().trim().parse().unwrap();
    assert!(after + 120 > before, "{before} MiB were free, {after} are");
    vm.reboot(Duration::from_secs(90)).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(booted(&mut vm).unwrap(), 1);
}

columns!(scenario_12_disk_full(scenario_12); test: bios214_raw; full: bios206_gap, efi214, efi206, efi214_systemd);

/// Scenario 13: what failed is not tried again with an unrelated package beside it; the repaired one is.
fn scenario_13(column: Column) {
    let scenario = on("scenario_13", column, &armed(&cache_dir(), column, State::V2).unwrap());
    scenario.offer(State::V2Plus).unwrap();
    damage(&scenario, "@.snapshots/deploy/2/boot/vmlinuz-linux", Damage::Delete);
    let mut vm = scenario.boot().unwrap();
    judged(&mut vm).unwrap();
    update_without_restart(&mut vm).unwrap();
    let journal = vm.sh("journalctl -b --no-pager -o cat -u ast-autoupdate -n 30").unwrap();
    assert!(journal.contains("waiting"), "{journal}");
    scenario.offer(State::V3).unwrap();
    update(&mut vm).unwrap();
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!(vm.sh("pacman -Q hello").unwrap(), "hello 3-1\n");
    assert_eq!(now["booted"]["deployment"], now["default"]["deployment"], "{now:#}");
    assert_ne!(now["booted"]["deployment"], 1, "{now:#}");
}

columns!(scenario_13_the_next_good_update(scenario_13); test: bios206_gap; full: bios214_raw, efi214, efi206, efi214_systemd);

/// Scenario 14: the kernel of the promoted default rots. Missing: the one before it, at once. Zeroed inside: after five starts.
fn scenario_14(column: Column) {
    let image = promoted(&cache_dir(), column, State::V2).unwrap();
    let scenario = on("scenario_14", column, &image);
    damage(&scenario, "@.snapshots/deploy/2/boot/vmlinuz-linux", Damage::ZeroMiddle);
    for start in 1..=5 {
        assert_eq!(grub_starts(&scenario), "ast.d=2 (good)", "start {start}");
    }
    assert_eq!(grub_starts(&scenario), "ast.d=1 (starts)");

    let scenario = on("scenario_14", column, &image);
    damage(&scenario, "@.snapshots/deploy/2/boot/vmlinuz-linux", Damage::Delete);
    let mut vm = scenario.start().unwrap();
    vm.expect("ast: ast.d=1 \\(load\\)", GRUB).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    assert_eq!(booted(&mut vm).unwrap(), 1);
}

columns!(scenario_14_a_promoted_kernel_rots(scenario_14); test: efi214; full: bios214_raw, bios206_gap, efi206, efi214_systemd);

/// Scenario 15: another entry picked by hand costs a trial no try, and a person's deploy wins over it.
fn scenario_15(column: Column) {
    let scenario = on("scenario_15", column, &armed(&cache_dir(), column, State::V2).unwrap());
    let mut vm: Vm = scenario.start().unwrap();
    vm.menu_choose("Arch Linux", MENU).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!((now["booted"]["deployment"].as_u64(), now["trial"]["deployment"].as_u64(), now["tries"].as_u64()), (Some(1), Some(2), Some(3)), "{now:#}");
    vm.sh("ast deploy 0 && sync").unwrap();
    vm.reboot(Duration::from_secs(90)).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!((now["booted"]["deployment"].as_u64(), now["default"]["deployment"].as_u64()), (Some(3), Some(3)), "{now:#}");
    assert!(now["trial"].is_null(), "{now:#}");
    assert_eq!(vm.sh("pacman -Q hello").unwrap(), "hello 1-1\n");
}

columns!(scenario_15_a_person_during_a_trial(scenario_15); test: efi206; full: bios214_raw, bios206_gap, efi214, efi214_systemd);
