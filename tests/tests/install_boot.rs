//! What the core image that the installer makes does when the disk behind it is not as it was; the core image of the distribution's grub-install;
//! and what `ast bootstrap` made, started.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use ast_tests::columns;
use ast_tests::image::Column;
use ast_tests::scenario::{BOOT, Scenario, judged, status};
use ast_tests::vm::offline::{Damage, Mounted};
use ast_tests::lab::repo::{self, State};
use ast_tests::lab::sign::Signer;
use ast_tests::vm::{Disk, Firmware, Offline, Vm, VmConfig, efi_vars};
use std::process::Command;
use std::time::Duration;

/// One step of moving to another disk, emulated.
const WORK: Duration = Duration::from_secs(120);

/// What happens to `grub.cfg`, whose path is given.
type Case = (&'static str, fn(&Mounted, &str));

/// A `grub.cfg` that is gone, empty, cut off or has a hole is replaced by the copy in the core image. So is what a grub-mkconfig left that
/// did not come to our part: its header sets `default`, too, and nobody vouches for it.
fn c1_without_a_whole_grub_cfg_the_good_one_starts(column: Column) {
    let damaged: [Case; 5] = [
        ("gone", |disk, cfg| disk.damage(cfg, Damage::Delete).unwrap()),
        ("empty", |disk, cfg| disk.damage(cfg, Damage::Empty).unwrap()),
        ("cut off", |disk, cfg| disk.damage(cfg, Damage::Truncate).unwrap()),
        ("a hole", |disk, cfg| disk.damage(cfg, Damage::ZeroMiddle).unwrap()),
        ("only grub-mkconfig's header", |disk, cfg| {
            disk.put(cfg, b"set default=\"0\"\nset timeout=-1\nfunction savedefault {\n").unwrap();
            disk.damage("@boot/grub/ast/grub.sums", Damage::Delete).unwrap();
        }),
    ];
    for (name, damage) in damaged {
        let scenario = Scenario::new("grub-cfg", column).unwrap();
        let disk = Offline::open(scenario.disk()).unwrap();
        let mounted = disk.mount(if column.is_efi() { 2 } else { 1 }, "subvolid=5").unwrap();
        damage(&mounted, "@boot/grub/grub.cfg");
        mounted.unmount().unwrap();
        disk.close().unwrap();
        let mut vm = scenario.start().unwrap();
        vm.expect("grub.cfg is missing or damaged", BOOT).unwrap_or_else(|e| panic!("{name}: {e}"));
        vm.expect(r"ast: ast\.d=1 \(good\)", BOOT).unwrap_or_else(|e| panic!("{name}: {e}"));
        vm.power_cut();
    }
}

/// A disk whose filesystem is not found (too slow, or another one) ends at no prompt: the machine starts again.
fn b5_without_its_filesystem_it_starts_again(column: Column) {
    /// Where a btrfs says that it is one: in its first superblock, 64 KiB into it.
    const MAGIC: u64 = 0x10040;
    let scenario = Scenario::new("no-filesystem", column).unwrap();
    let disk = Offline::open(scenario.disk()).unwrap();
    let start = disk.partition(if column.is_efi() { 2 } else { 1 }).unwrap().start;
    disk.write(start + MAGIC, b"notbtrfs").unwrap();
    disk.close().unwrap();
    let mut vm = scenario.start().unwrap();
    vm.expect("the next attempt is in 10 seconds", BOOT).unwrap();
    vm.wait_reset(Duration::from_secs(120)).unwrap();
    vm.expect("the next attempt is in 10 seconds", BOOT).unwrap();
    vm.power_cut();
    drop(vm);
    let disk = Offline::open(scenario.disk()).unwrap();
    disk.write(start + MAGIC, b"_BHRfS_M").unwrap();
    disk.close().unwrap();
    let mut vm = scenario.start().unwrap();
    vm.expect(r"ast: ast\.d=1 \(good\)", BOOT).unwrap();
    vm.power_cut();
}

/// The machine moves to a second, empty disk, by the guest's own programs: partitions, the filesystem with its UUID, and GRUB by the real
/// grub-install and grub-mkconfig. Started from that disk alone, it knows nothing of ast's core image, and goes by the same rules.
fn c1_the_distributions_grub_install_starts_by_our_rules(column: Column) {
    let scenario = Scenario::new("grub-install", column).unwrap();
    let second = scenario.dir().join("second.raw");
    std::fs::File::create(&second).and_then(|file| file.set_len(4 << 30)).unwrap();
    let mut vm = Vm::start(scenario.config().disk(Disk::raw(&second))).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    for line in if column.is_efi() { EFI } else { BIOS } {
        let start = std::time::Instant::now();
        let out = vm.run(line, WORK).unwrap();
        assert_eq!(out.status, 0, "{line}: {}{}", out.stdout, out.stderr);
        eprintln!("{:.1} s: {line}", start.elapsed().as_secs_f64());
    }
    vm.power_off(WORK).unwrap();

    let mut config = scenario.config();
    config.disks = vec![Disk::raw(&second)];
    let mut vm = Vm::start(config.clone()).unwrap();
    // Its boot block was not carried along: the baked one starts, and userspace makes a new block.
    vm.expect(r"ast: ast\.d=1 \(baked\)", BOOT).unwrap();
    assert!(!vm.console().text_from(0).contains("grub.cfg: OK"), "ast's core image started it");
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    // A trial: counted by that GRUB, proved, promoted.
    vm.sh("ast doctor --fix; ast deploy 0").unwrap();
    vm.power_off(WORK).unwrap();
    let mut vm = Vm::start(config).unwrap();
    vm.expect(r"ast: ast\.d=2 \(trial\)", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    let booted = vm.sh("cat /run/ast/booted").unwrap();
    assert!(booted.contains("left=2\n") && booted.contains("env=ok\n"), "{booted}");
    assert_eq!((now["booted"]["deployment"].as_u64(), now["default"]["deployment"].as_u64()), (Some(2), Some(2)), "{now:#}");
}

/// What is asked for of the machine below: a login on the serial line, where the lab's own machines let root in.
const ANSWERS: &str = r#"
[install]
boot = "efi"
serial = true
profile = "./lab.toml"

[system]
hostname = "hall"
timezone = "UTC"
locale = "C.UTF-8"
keymap = "us"

[kernel]
args = ["console=ttyS0,115200", "quiet", "loglevel=3", "systemd.show_status=0", "mitigations=off", "tsc=reliable", "no_timer_check", "cryptomgr.notests"]

[services]
mask = ["ast-autoupdate.timer"]

[[user]]
name = "kiosk"
password = "HASH"

[[file]]
path = "/etc/systemd/system/serial-getty@.service.d/autologin.conf"
content = """
[Service]
ExecStart=
ExecStart=-/usr/sbin/agetty -o '-p -- \\\\u' --noclear --noissue --keep-baud 115200 - dumb
"""
"#;

/// What the program makes of a disk with the answers in a file starts, and lets the user in who was asked for, with a home of their own.
#[test]
fn b12_what_bootstrap_installs_starts_counts_and_lets_its_user_in() {
    let cache = ast_tests::vm::cache_dir();
    let packages = repo::build(&cache, State::V1).unwrap();
    let dir = tempfile::tempdir_in(cache.join("run")).unwrap();
    let at = |name: &str| dir.path().join(name);
    let hash = Command::new("openssl").args(["passwd", "-6", "sesame"]).output().unwrap();
    let keys = Signer::open(&cache).unwrap().gpg_dir(&cache).unwrap();
    let conf = format!(
        "[options]\nArchitecture = x86_64\nSigLevel = Required DatabaseRequired TrustedOnly\nGPGDir = {}\n[{}]\nServer = file://{}\n",
        keys.display(), repo::NAME, packages.display()
    );
    for (name, text) in [
        ("pacman.conf", conf.as_str()),
        ("lab.toml", "[packages]\ninstall = [\"linux\", \"mkinitcpio\", \"btrfs-progs\", \"grub206\"]\n"),
        ("answers.toml", &ANSWERS.replace("HASH", String::from_utf8_lossy(&hash.stdout).trim())),
    ] {
        std::fs::write(at(name), text).unwrap();
    }
    let disk = at("disk.raw");
    std::fs::File::create(&disk).and_then(|file| file.set_len(4 << 30)).unwrap();
    let start = std::time::Instant::now();
    let mut ast = Command::new(ast_tests::lab::own::binaries().unwrap().join("ast"));
    ast.args(["--yes", "bootstrap"]).arg(&disk).arg("--answers").arg(at("answers.toml")).arg("--pacman-conf").arg(at("pacman.conf"));
    let out = ast.stdin(std::process::Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
    assert!(out.status.success() && said.contains("they were written and read back here"), "{said}");
    eprintln!("installed in {:.1} s", start.elapsed().as_secs_f64());

    let mut config = VmConfig::new("bootstrap").disk(Disk::raw(&disk));
    config.firmware = Firmware::Efi { vars: efi_vars(dir.path()).unwrap() };
    let mut vm = Vm::start(config).unwrap();
    vm.expect(r"ast: ast\.d=1 \(good\)", BOOT).unwrap();
    vm.expect("hall login: ", BOOT).unwrap();
    vm.send("kiosk\r").unwrap();
    vm.expect("Password: ", WORK).unwrap();
    vm.send("sesame\r").unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh("id -un; uname -n; cd; pwd; stat -c %U:%a .").unwrap(), "kiosk\nhall\n/home/kiosk\nkiosk:700\n");
    let booted = vm.sh("cat /run/ast/booted").unwrap();
    assert!(booted.contains("d=1\n") && booted.contains("why=good\n") && booted.contains("env=ok\n"), "{booted}");
    let id = vm.sh("cat /etc/machine-id").unwrap();
    assert!(id.trim().len() == 32 && id.trim().bytes().all(|byte| byte.is_ascii_hexdigit()), "no identity of its own: {id:?}");
    vm.power_cut();
}

/// How the machine moves where the BIOS starts it.
const BIOS: &[&str] = &[
    "echo 'start=2048, type=83, bootable' | sfdisk --quiet --label dos /dev/vdb",
    "btrfs replace start -B /dev/vda1 /dev/vdb1 /.snapshots",
    "grub-install --target=i386-pc /dev/vdb",
    "grub-mkconfig -o /boot/grub/grub.cfg && sync",
];
/// And where EFI does.
const EFI: &[&str] = &[
    "printf 'size=260MiB, type=uefi\\ntype=linux\\n' | sfdisk --quiet --label gpt /dev/vdb",
    "serial=$(blkid -o value -s UUID /dev/vda1 | tr -d -) && mkfs.fat -F 32 -i $serial /dev/vdb1",
    "mkdir -p /run/esp && mount /dev/vdb1 /run/esp",
    "btrfs replace start -B /dev/vda2 /dev/vdb2 /.snapshots",
    "grub-install --target=x86_64-efi --efi-directory=/run/esp --removable --no-nvram",
    "grub-mkconfig -o /boot/grub/grub.cfg && umount /run/esp && sync",
];

columns!(c1_without_a_whole_grub_cfg(c1_without_a_whole_grub_cfg_the_good_one_starts); test: bios206_gap, efi206; full: bios214_raw, efi214);
columns!(c1_grub_install(c1_the_distributions_grub_install_starts_by_our_rules); test: bios214_raw; full: efi214, efi206);
columns!(b5_without_its_filesystem(b5_without_its_filesystem_it_starts_again); test: bios214_raw, efi214_systemd; full: bios206_gap, efi214, efi206);
