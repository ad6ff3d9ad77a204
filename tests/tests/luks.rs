//! A machine whose system is in LUKS2: GRUB unlocks it, then the initramfs does.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast::boot::block::{BootBlock, Mode, Trial};
use ast::id::{ArmId, DeployId};
use ast::install::Boot;
use ast_tests::decide::Decider;
use ast_tests::decide::disk::{Copy, DecisionDisk, Key, Wish, grub};
use ast_tests::image::{self, Column, armed};
use ast_tests::lab::grub::Suite;
use ast_tests::lab::repo::State;
use ast_tests::scenario::{BOOT, Scenario, judged, status};
use ast_tests::vm::{Firmware, Kernel, Offline, Vm, cache_dir, initramfs, tool};
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// Longest that firmware and GRUB may take to a message; machines share two cores with builds.
const SOON: Duration = Duration::from_secs(180);
/// The key of the lab, as a person types it.
const PASSPHRASE: &str = include_str!("../lab/overlay/initramfs-encrypt/etc/luks.key");

/// A disk on which deployment 7 is on trial, 6 is the good one, and GRUB has this key.
fn disk(boot: Boot, suite: Suite, key: Key) -> DecisionDisk {
    let disk = DecisionDisk::make(boot, &grub(suite, boot), &Wish { luks: Some(key), ..Wish::default() });
    disk.set_both(&trial());
    disk
}

fn trial() -> BootBlock {
    let trial = Some(Trial { deployment: DeployId::new(7), mode: Mode::Trial, tries: 3 });
    BootBlock { trial, arm: ArmId::new(4), prev: Some(DeployId::new(5)), ..BootBlock::new(DeployId::new(6)) }
}

#[test]
#[ignore = "another one of this file decides; ./dev test --full runs this one too"]
fn b1_b4_grub_unlocks_with_the_key_in_its_core_image_and_counts() {
    let disk = disk(Boot::Efi, Suite::G214, Key::Inside);
    let mut ask = Decider::start("luks_key", &disk, false);
    assert_eq!(ask.ask().short(), "7 trial 4.11 ok");
    assert_eq!(ask.ask().short(), "7 trial 4.1 ok");
}

#[test]
fn b1_a_disk_that_is_not_unlocked_ends_in_a_restart_and_costs_a_trial_nothing() {
    let disk = disk(Boot::Efi, Suite::G214, Key::Wrong);
    let mut ask = Decider::start("luks_wrong", &disk, false);
    ask.vm.expect("ast: the disk is not unlocked", SOON).unwrap();
    ask.vm.wait_reset(SOON).unwrap();
    assert_eq!(BootBlock::parse(&disk.get(Copy::A)).unwrap(), trial(), "a try was spent");
    // A person who is there gets another chance.
    ask.vm.expect("ast: the disk is not unlocked", SOON).unwrap();
    ask.vm.send("\x1b").unwrap();
    ask.vm.expect("Enter passphrase", SOON).unwrap();
    ask.vm.send(&format!("{PASSPHRASE}\r")).unwrap();
    assert_eq!(ask.answer().short(), "7 trial 4.11 ok");
}

#[test]
#[ignore = "another one of this file decides; ./dev test --full runs this one too"]
fn b1_b4_an_older_grub_asks_for_the_passphrase_and_counts() {
    let disk = disk(Boot::BiosGap, Suite::G206, Key::Typed);
    let mut ask = Decider::start("luks_typed", &disk, false);
    ask.vm.expect("Enter passphrase", SOON).unwrap();
    ask.vm.send("not it\r").unwrap();
    ask.vm.expect("ast: the disk is not unlocked", SOON).unwrap();
    ask.vm.wait_reset(SOON).unwrap();
    assert_eq!(BootBlock::parse(&disk.get(Copy::A)).unwrap(), trial(), "a try was spent");
    ask.vm.expect("Enter passphrase", SOON).unwrap();
    ask.vm.send(&format!("{PASSPHRASE}\r")).unwrap();
    assert_eq!(ask.answer().short(), "7 trial 4.11 ok");
}

/// An update on trial is counted by GRUB on the ESP, started from the encrypted disk, and promoted; what covers what is told. Then nobody but a
/// person at the keyboard can unlock the disk any more, and the rule that says so finds it.
fn unlocks(column: Column) {
    let image = armed(&cache_dir(), column, State::V2Plus).unwrap();
    let scenario = Scenario::on(column.name(), column, &image).unwrap();
    let mut vm = scenario.start().unwrap();
    vm.expect("ast: ast.d=2 \\(trial\\)", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    let seen = vm.sh("cat /run/ast/booted; cat /sys/block/dm-0/dm/uuid; findmnt -no SOURCE /").unwrap();
    for line in ["d=2", "why=trial", "arm=1", "left=2", "env=ok", "CRYPT-LUKS2-aaaaaaaabbbb4ccc8dddeeeeeeeeeeee-ast"] {
        assert!(seen.lines().any(|l| l == line), "{line} is not in:\n{seen}");
    }
    assert!(seen.lines().last().is_some_and(|source| source.starts_with("/dev/dm-0") || source.starts_with("/dev/mapper/ast")), "{seen}");
    if column == Column::Efi214LuksSystemd {
        // We begin to wait for the root when it is unlocked: a person may need longer for a passphrase than a disk may take.
        let units = vm.sh("journalctl -b -o cat UNIT=systemd-cryptsetup@ast.service UNIT=ast-root.service").unwrap();
        let at = |words: &str| units.lines().position(|line| line.starts_with(words)).unwrap_or_else(|| panic!("{words}: {units}"));
        assert!(at("Finished systemd-cryptsetup@ast.service") < at("Starting ast-root.service"), "{units}");
    }
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!((now["booted"]["deployment"].as_u64(), now["default"]["deployment"].as_u64()), (Some(2), Some(2)), "{now:#}");
    assert_eq!(now["counting"], true, "{now:#}");
    let key = vm.sh("stat -c %a /boot/grub/luks.key /boot/grub/x86_64-efi /etc/luks.key").unwrap();
    assert_eq!(key, "600\n700\n600\n");

    let doctor = |vm: &mut ast_tests::vm::Vm| {
        let said: serde_json::Value = serde_json::from_str(&vm.sh("ast --json doctor || [ $? = 5 ]").unwrap()).unwrap();
        let wrong = said["checks"].as_array().unwrap().iter().filter(|row| row["ok"] == false);
        wrong.map(|row| format!("{}: {}", row["promise"].as_str().unwrap(), row["found"])).collect::<Vec<_>>()
    };
    assert_eq!(doctor(&mut vm), Vec::<String>::new());
    vm.sh("cryptsetup luksConvertKey --batch-mode --key-file /etc/luks.key --pbkdf argon2id --pbkdf-memory 32 --pbkdf-force-iterations 4 --pbkdf-parallel 1 /dev/vda2").unwrap();
    let found = doctor(&mut vm);
    assert!(found.len() == 1 && found[0].starts_with("C1: ") && found[0].contains("argon2id") && found[0].contains("luksConvertKey --pbkdf pbkdf2"), "{found:#?}");
}

#[test]
fn c1_b4_luks_a_trial_is_counted_and_promoted_on_an_encrypted_disk() {
    unlocks(Column::Efi214Luks);
}

#[test]
fn c1_b4_luks_of_systemd_a_trial_is_counted_and_promoted_on_an_encrypted_disk() {
    unlocks(Column::Efi214LuksSystemd);
}

/// systemd asks for a passphrase when the key in the image opens nothing. With nobody there that is a restart when the root's time is over, also of the
/// good one; a person's word goes on.
#[test]
#[ignore = "the emergency of systemd's image decides; ./dev test --full runs this one too"]
fn b1_b9_luks_of_systemd_a_passphrase_that_nobody_types_ends_in_a_restart() {
    let column = Column::Efi214LuksSystemd;
    let image = image::build(&cache_dir(), column, State::V1).unwrap();
    let scenario = Scenario::on("luks_passphrase", column, &image).unwrap();
    // The same machine before it was encrypted shows what GRUB would start.
    let offline = Offline::open(scenario.disk()).unwrap();
    let start = offline.partitions().iter().max_by_key(|p| p.len).unwrap().start + image::luks::DATA_OFFSET;
    offline.close().unwrap();
    let plain = image.with_file_name("plain.raw");
    let mut first = vec![0; 1 << 20];
    std::fs::File::open(&plain).unwrap().read_exact_at(&mut first, start).unwrap();
    std::fs::write(scenario.dir().join("first"), first).unwrap();
    let uuid = ast::sys::device::uuid_of(&scenario.dir().join("first")).expect("a btrfs");
    let line = format!(
        "mkdir boot; mount -o ro,loop,offset={start},subvol=@.snapshots/deploy/1/boot {} boot; cp boot/vmlinuz-linux boot/initramfs-linux.img .; umount boot
         mkdir -p tree/etc; echo not it > tree/etc/luks.key",
        plain.display()
    );
    tool::output(std::process::Command::new("sh").args(["-ec", &line]).current_dir(scenario.dir())).unwrap();
    initramfs::append(&scenario.dir().join("initramfs-linux.img"), &scenario.dir().join("tree")).unwrap();

    let mut config = scenario.config();
    config.firmware = Firmware::Bios;
    let words = format!("root=UUID={uuid} rd.luks.name={}=ast rd.luks.key={} ast.d=1 ast.why=good", image::luks::UUID, image::luks::KEY);
    config.kernel = Some(Kernel {
        image: scenario.dir().join("vmlinuz-linux"),
        initrd: Some(scenario.dir().join("initramfs-linux.img")),
        append: format!("console=ttyS0,115200 panic=10 rd.systemd.gpt_auto=0 systemd.show_status=0 quiet {words}"),
    });
    let mut waits = config.clone();
    // Its clock jumps to the next alarm when it idles: minutes of nothing are over at once.
    waits.extra_args = ["-icount", "shift=4,sleep=off"].map(String::from).into();
    let mut vm = Vm::start(waits).unwrap();
    vm.expect("passphrase for disk", BOOT).unwrap();
    vm.expect("the initramfs cannot go on", BOOT).unwrap();
    vm.wait_reset(SOON).unwrap();
    vm.power_cut();

    let mut vm = Vm::start(config).unwrap();
    vm.expect("passphrase for disk", BOOT).unwrap();
    vm.send(&format!("{PASSPHRASE}\r")).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh("grep -x d=1 /run/ast/booted; cat /sys/block/dm-0/dm/name").unwrap(), "d=1\nast\n");
}
