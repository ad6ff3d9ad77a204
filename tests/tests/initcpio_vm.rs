//! `ast-initcpio` in a machine whose kernel is started directly, so that the test plays GRUB: counting on FAT, the watchdog's way
//! to systemd, emergencies, a root that never comes.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast::boot::medium::Which;
use ast::boot::stage::Stage;
use ast::boot::{BootBlock, Mode, Trial};
use ast::id::{ArmId, DeployId};
use ast::layout::{FILE_BLOCK_A, FILE_BLOCK_B};
use ast::sys::btrfs::{Access, snapshot};
use ast_tests::image::{self, Column};
use ast_tests::lab::repo::State;
use ast_tests::scenario::BOOT;
use ast_tests::vm::{Disk, Kernel, Offline, Vm, VmConfig, cache_dir, initramfs, overlay};
use std::path::PathBuf;
use std::time::Duration;

/// Time for something that a running machine does at once.
const SOON: Duration = Duration::from_secs(30);
/// Says whether the watchdog runs, by a shell alone.
const WATCHDOG: &str = "read state < /sys/class/watchdog/watchdog0/state; echo $state";

/// A machine whose GRUB is this test.
struct Bench {
    dir: tempfile::TempDir,
    disk: PathBuf,
    /// Numbers of the partitions with the block's files and with the btrfs.
    fat: u32,
    btrfs: u32,
    /// `root=… ast.block=…` of this machine.
    words: String,
}

impl Bench {
    /// A fresh machine with deployment 1 (good) and its clone 2, armed with two tries as arming 9.
    fn new(column: Column) -> Self {
        let image = image::build(&cache_dir(), column, State::V1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let disk = overlay(&image, dir.path()).unwrap();
        let offline = Offline::open(&disk).unwrap();
        let shown = offline.path().to_owned();
        let of = |number: u32| {
            let part = offline.partition(number).unwrap();
            let file = std::fs::File::open(&shown).unwrap();
            let window = dir.path().join("window");
            // The first megabyte holds both kinds of superblock.
            let mut bytes = vec![0; 1 << 20];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, part.start).unwrap();
            std::fs::write(&window, bytes).unwrap();
            (number, ast::sys::device::uuid_of(&window))
        };
        let parts: Vec<_> = offline.partitions().iter().map(|p| of(p.number)).collect();
        let find = |length: usize| parts.iter().find_map(|(n, uuid)| uuid.clone().filter(|u| u.len() == length).map(|u| (*n, u)));
        let ((fat, serial), (btrfs, uuid)) = (find(9).expect("a FAT partition"), find(36).expect("a btrfs partition"));
        let mounted = offline.mount(btrfs, "subvolid=5").unwrap();
        let deploy = mounted.path("@.snapshots/deploy");
        for name in ["vmlinuz-linux", "initramfs-linux.img"] {
            std::fs::copy(deploy.join("1/boot").join(name), dir.path().join(name)).unwrap();
        }
        std::fs::create_dir(deploy.join("2")).unwrap();
        for (part, access) in [("root", Access::ReadOnly), ("etc", Access::Writable), ("boot", Access::ReadOnly)] {
            snapshot(&deploy.join("1").join(part), &deploy.join("2").join(part), access).unwrap();
        }
        // A gate that takes its time, so that no start here is promoted meanwhile.
        let gate = deploy.join("2/etc/systemd/system/ast-health.service.d");
        std::fs::create_dir_all(&gate).unwrap();
        std::fs::write(gate.join("50-test.conf"), "[Service]\nExecStart=\nExecStart=/bin/sleep 1000\n").unwrap();
        // An owner's settings that sort behind most others.
        std::fs::create_dir_all(deploy.join("2/etc/systemd/system.conf.d")).unwrap();
        let owner = "[Manager]\nRuntimeWatchdogSec=0\nWatchdogDevice=/dev/watchdog7\n";
        std::fs::write(deploy.join("2/etc/systemd/system.conf.d/zz-owner.conf"), owner).unwrap();
        // An fstab with everything: options, a subvolume, one that is gone, and a mount because of which the systemd of an initramfs reads all its own anew.
        ast::sys::btrfs::create_subvolume(&mounted.path("@extra")).unwrap();
        let options = "rw,relatime,compress=zstd:2,compress-force=zstd:4,noexec";
        let fstab = format!(
            "UUID={uuid} / btrfs {options} 0 0\nUUID={uuid} /mnt btrfs subvol=@extra,nosuid,x-initrd.mount 0 0\nUUID={uuid} /home/gone btrfs subvol=@gone,x-initrd.mount 0 0\n\
             proc /proc proc hidepid=1 0 0\nearly /srv tmpfs x-initrd.mount 0 0\n"
        );
        std::fs::write(deploy.join("2/etc/fstab"), fstab).unwrap();
        mounted.unmount().unwrap();
        let trial = Some(Trial { deployment: DeployId::new(2), mode: Mode::Trial, tries: 2 });
        let block = BootBlock { trial, arm: ArmId::new(9), ..BootBlock::new(DeployId::new(1)) };
        for path in [FILE_BLOCK_A, FILE_BLOCK_B] {
            offline.fat(fat).unwrap().write(&format!("/{path}"), &block.encode().unwrap()).unwrap();
        }
        offline.close().unwrap();
        Self { dir, disk, fat, btrfs, words: format!("root=UUID={uuid} ast.block=files:{serial}") }
    }

    /// A shell does this on the disk, in this directory of its top level.
    fn on_disk(&self, dir: &str, line: &str) {
        let offline = Offline::open(&self.disk).unwrap();
        let mounted = offline.mount(self.btrfs, "subvolid=5").unwrap();
        let shell = std::process::Command::new("sh").args(["-ec", line]).current_dir(mounted.path(dir)).status().unwrap();
        assert!(shell.success(), "{line}");
        mounted.unmount().unwrap();
        offline.close().unwrap();
    }

    /// The image has one more hook behind ours, which is this script.
    fn late_hook(&self, script: &str) {
        let tree = tempfile::tempdir().unwrap();
        let image = self.dir.path().join("initramfs-linux.img");
        std::fs::create_dir(tree.path().join("hooks")).unwrap();
        std::fs::write(tree.path().join("hooks/late"), format!("#!/usr/bin/ash\nrun_latehook() {{\n{script}\n}}\n")).unwrap();
        let line = "zstd -qdc \"$0\" | cpio -i --quiet --to-stdout config > config; echo 'LATEHOOKS=\"$LATEHOOKS late\"' >> config; chmod 755 hooks/late";
        let done = std::process::Command::new("bash").args(["-o", "pipefail", "-ec", line]).arg(&image).current_dir(&tree).status().unwrap();
        assert!(done.success(), "{}", image.display());
        initramfs::append(&image, tree.path()).unwrap();
    }

    /// A start with these words.
    fn start(&self, words: &str) -> Vm {
        self.start_with(words, true)
    }

    /// The same, with or without a hardware watchdog in the machine.
    fn start_with(&self, words: &str, watchdog: bool) -> Vm {
        let mut config = VmConfig::new("vm_initcpio").disk(Disk::qcow2(&self.disk));
        config.kernel = Some(Kernel {
            image: self.dir.path().join("vmlinuz-linux"),
            initrd: Some(self.dir.path().join("initramfs-linux.img")),
            append: format!("console=ttyS0,115200 panic=10 rd.systemd.gpt_auto=0 systemd.show_status=0 quiet {} {words}", self.words),
        });
        config.watchdog = watchdog;
        Vm::start(config).unwrap()
    }

    /// What is on the disk: copies A and B, and the stage file.
    fn look(&self) -> (BootBlock, BootBlock, Stage) {
        let offline = Offline::open(&self.disk).unwrap();
        let copy = |path: &str| BootBlock::parse(&offline.fat(self.fat).unwrap().read(&format!("/{path}")).unwrap()).unwrap();
        let (a, b) = (copy(FILE_BLOCK_A), copy(FILE_BLOCK_B));
        let mounted = offline.mount(self.btrfs, "subvolid=5").unwrap();
        let stage = std::fs::read_to_string(mounted.path("@.snapshots/ast/stage")).unwrap_or_default();
        mounted.unmount().unwrap();
        offline.close().unwrap();
        (a, b, Stage::parse(&stage))
    }

    /// What GRUB does before it starts a trial: the copy that it reads has one try less.
    fn take(&self, which: Which) {
        let (a, b, _) = self.look();
        let (mut block, path) = if which == Which::A { (a, FILE_BLOCK_A) } else { (b, FILE_BLOCK_B) };
        block.trial.as_mut().unwrap().tries -= 1;
        let offline = Offline::open(&self.disk).unwrap();
        offline.fat(self.fat).unwrap().write(&format!("/{path}"), &block.encode().unwrap()).unwrap();
        offline.close().unwrap();
    }
}

/// With busybox in the initramfs, and with systemd.
const BUSYBOX: Column = Column::Bios206Gap;
const SYSTEMD: Column = Column::Efi214Systemd;

#[test]
fn b3_b4_b14_vm_initcpio_a_trial_is_counted_watched_and_never_ends_in_a_shell() {
    trial(BUSYBOX);
}

#[test]
fn b3_b4_b14_vm_initcpio_of_systemd_a_trial_is_counted_watched_and_never_ends_in_a_shell() {
    trial(SYSTEMD);
}

fn trial(column: Column) {
    let bench = Bench::new(column);

    // The first start: somebody restarts the machine while the gate is at work.
    bench.take(Which::A);
    let mut vm = bench.start("ast.d=2 ast.why=trial ast.arm=9.1 ast.env=ok");
    vm.wait_shell(BOOT).unwrap();
    let booted = vm.sh("cat /run/ast/booted; ls -d /run/ast.alarm* 2> /dev/null || true").unwrap();
    assert!(!booted.contains("ast.alarm"), "an alarm of the hook is still set: {booted}");
    for line in ["d=2", "why=trial", "arm=9", "left=1", "env=ok", "watchdog=i6300ESB timer"] {
        assert!(booted.lines().any(|l| l == line), "{line} is not in:\n{booted}");
    }
    // What fstab says holds, systemd changes nothing of it, and what is not there is missed by nobody, neither in the initramfs nor here.
    let seen = vm.sh("findmnt -no OPTIONS /; findmnt -no OPTIONS /mnt; findmnt -no OPTIONS /proc; systemctl is-active local-fs.target systemd-remount-fs.service; systemctl --failed --plain --no-legend '*.mount' '*.target' 'systemd-*'; dmesg | grep -c 'ast: /etc/fstab: '").unwrap();
    let seen: Vec<&str> = seen.lines().collect();
    let [root, extra, proc, "active", "active", "1"] = seen.as_slice() else { panic!("{seen:#?}") };
    assert!(root.starts_with("ro,relatime,") && root.contains("compress=zstd:2") && !root.contains("force"), "{root}");
    assert!(extra.starts_with("rw,nosuid,relatime,") && extra.ends_with("subvol=/@extra") && proc.contains("hidepid="), "{extra} {proc}");
    // B14: the watchdog that the initramfs armed is the root's systemd's now, whatever the owner's settings are, and nobody had it in between.
    let watchdog = vm.sh("systemctl show -P RuntimeWatchdogUSec; cat /sys/class/watchdog/watchdog0/state; journalctl -b -o cat | grep -E 'sing hardware watchdog|did not stop'").unwrap();
    let told: Vec<&str> = watchdog.lines().collect();
    assert!(matches!(told[..], ["2min", "active", left, taken] if left.ends_with("did not stop!") && taken.starts_with("Using ")), "{watchdog}");
    let hung = vm.sh("systemctl show -P JobTimeoutUSec -P JobTimeoutAction multi-user.target; systemctl is-active ast-trial-deadline.timer").unwrap();
    assert_eq!(hung, "16min\nreboot-force\nactive\n");
    assert_eq!(vm.sh("systemctl is-active ast-health.service || true").unwrap(), "activating\n");
    vm.send("systemctl reboot\r").unwrap();
    vm.wait_reset(BOOT).unwrap();
    vm.power_cut();
    let (_, _, stage) = bench.look();
    assert_eq!((stage.arm, stage.left, stage.back, stage.evidence.len()), (Some(ArmId::new(9)), 1, 0, 0), "{stage:?}");

    // The second: its try comes back, in both copies. Then systemd gives up, and nobody gets a shell.
    bench.take(Which::A);
    let mut vm = bench.start_with("ast.d=2 ast.why=trial ast.arm=9. ast.env=ok", false);
    vm.wait_shell(BOOT).unwrap();
    // B14: a board without a watchdog has the one in software.
    let soft = vm.sh("grep watchdog /run/ast/booted; cat /sys/class/watchdog/watchdog0/state; systemctl show -P RuntimeWatchdogUSec; ast status | grep -c 'if its kernel hangs'").unwrap();
    assert_eq!(soft, "watchdog=Software Watchdog\nactive\n2min\n1\n");
    assert!(vm.sh("dmesg | grep 'ast:'").unwrap().contains("its try is given back (1 of 5)"));
    vm.send("systemctl emergency\r").unwrap();
    vm.wait_reset(BOOT).unwrap();
    vm.power_cut();
    let (a, b, stage) = bench.look();
    let tries = |block: &BootBlock| block.trial.map(|t| t.tries);
    assert_eq!((tries(&a), tries(&b), stage.back), (Some(1), Some(1), 1), "{stage:?}");
    assert!(stage.evidence.iter().any(|line| line.starts_with("emergency: ")), "{stage:?}");

    // The last: after that it is not given back. A gate that is hung leaves evidence, and the machine restarts.
    bench.take(Which::A);
    let mut vm = bench.start("ast.d=2 ast.why=trial ast.arm=9. ast.env=ok ast.deadline=3600");
    vm.wait_shell(BOOT).unwrap();
    let impatient = "mkdir -p /run/systemd/system/ast-health.service.d; printf '[Service]\\nTimeoutStartSec=2\\n' > /run/systemd/system/ast-health.service.d/60-test.conf";
    vm.sh(impatient).unwrap();
    // The machine restarts before this ends.
    vm.send("systemctl daemon-reload; systemctl stop ast-health.service; systemctl start --no-block ast-health.service\r").unwrap();
    vm.wait_reset(BOOT).unwrap();
    vm.power_cut();
    let (a, _, stage) = bench.look();
    assert_eq!((tries(&a), stage.back), (Some(0), 1), "{stage:?}");
    assert!(stage.evidence.iter().any(|line| line.contains("the gate ended with timeout")), "{stage:?}");
}

#[test]
fn vm_initcpio_any_set_boots_and_a_root_that_never_comes_is_no_end() {
    // Debian's busybox, which loads modules here, knows no zstd; mkinitcpio's images have kmod.
    any_set(BUSYBOX, "xz --check=crc32", |vm| {
        vm.expect("no root is mounted. Mount one at /new_root, or type 'exit' to try again", BOOT).unwrap();
    });
}

#[test]
fn vm_initcpio_of_systemd_any_set_boots_and_a_root_that_never_comes_is_no_end() {
    any_set(SYSTEMD, "zstd -q --rm", |vm| {
        // sulogin's words. Its shell asks for no password: whoever writes on the kernel command line has the machine anyway.
        vm.expect("Press Enter for", BOOT).unwrap();
        vm.send("\r").unwrap();
    });
}

fn any_set(column: Column, compress: &str, shell: fn(&mut Vm)) {
    let bench = Bench::new(column);
    // The module for a volatile /etc is in no image: it comes out of the root, where distributions compress it.
    let line = format!("btrfs property set -ts . ro false; cd usr/lib/modules/*; {compress} kernel/fs/overlayfs/overlay.ko; chroot ../../../.. depmod ${{PWD##*/}}");
    bench.on_disk("@.snapshots/sets/0.1/root", &line);
    let mut vm = bench.start("ast.set=0.1 ast.why=chosen");
    vm.wait_shell(BOOT).unwrap();
    let seen = vm.sh("findmnt -no FSTYPE /etc; cat /etc/machine-id; cat /run/ast/booted; systemctl is-system-running --wait; systemctl --failed --plain --no-legend").unwrap();
    assert_eq!(seen, "overlay\n0123456789abcdef0123456789abcdef\nset=0.1\nwhy=chosen\nvolatile=1\nblock=".to_owned() + bench.words.split_once("ast.block=").unwrap().1 + "\nrunning\n");
    // systemd that crashes would stand still for ever, with nobody there to see it.
    vm.send("kill -SEGV 1\r").unwrap();
    vm.wait_reset(BOOT).unwrap();
    vm.power_cut();

    // The last root= counts: this one is nobody's.
    let nowhere = "root=UUID=00000000-0000-4000-8000-000000000000 rootdelay=2";
    let mut vm = bench.start(&format!("ast.d=1 ast.why=good {nowhere}"));
    vm.expect("no btrfs with UUID 00000000-0000-4000-8000-000000000000 appeared within 2 seconds", BOOT).unwrap();
    vm.wait_reset(SOON).unwrap();
    vm.power_cut();
    // B14: whoever is in a shell of a trial outlasts its watchdog.
    let mut vm = bench.start(&format!("ast.d=2 ast.why=trial ast.arm=9.1 ast.env=ok ast.attended {nowhere}"));
    vm.expect("watchdog did not stop", BOOT).unwrap();
    shell(&mut vm);
    vm.wait_shell(SOON).unwrap();
    assert_eq!(vm.sh(WATCHDOG).unwrap(), "inactive\n");
    vm.power_cut();
}

/// What fails is neither our mount nor anything that we look at, and the shell is mkinitcpio's own.
#[test]
fn b9_b14_vm_initcpio_another_hooks_failure_is_a_restart_and_evidence_or_a_shell_that_lasts() {
    let bench = Bench::new(BUSYBOX);
    let trial = "ast.d=2 ast.why=trial ast.arm=9.1 ast.env=ok";
    // A person asks for a shell with mkinitcpio's own word, when the watchdog runs already.
    let mut vm = bench.start(&format!("{trial} ast.attended break=postmount"));
    vm.expect("watchdog did not stop", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh(&format!("{WATCHDOG}; [ -x /new_root/sbin/init ] && echo mounted")).unwrap(), "inactive\nmounted\n");
    vm.power_cut();

    // The root has lost its init since we mounted it.
    bench.late_hook("mount -t tmpfs late /new_root/usr");
    let mut vm = bench.start(&format!("{trial} ast.attended"));
    vm.expect("watchdog did not stop", BOOT).unwrap();
    vm.expect("Root device mounted successfully, but /sbin/init does not exist", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(vm.sh(WATCHDOG).unwrap(), "inactive\n");
    vm.power_cut();

    // With nobody there it is no shell, and not a start that was only cut off.
    let mut vm = bench.start(trial);
    vm.expect("the initramfs cannot go on", BOOT).unwrap();
    vm.wait_reset(SOON).unwrap();
    vm.power_cut();
    let (_, _, stage) = bench.look();
    assert!(stage.evidence.iter().any(|line| line.starts_with("initramfs: it could not go on")), "{stage:?}");
}

/// The chain, by the real units: the wanted one and the good one are broken, then the one before it lacks the modules, then it is broken too.
#[test]
fn b9_vm_initcpio_of_systemd_the_whole_chain_is_gone_through() {
    let bench = Bench::new(SYSTEMD);
    // A third one, and what is wrong with each.
    let change = |line: &str| {
        bench.on_disk("@.snapshots/deploy", line);
        let offline = Offline::open(&bench.disk).unwrap();
        let block = BootBlock { prev: Some(DeployId::new(3)), arm: ArmId::new(9), ..BootBlock::new(DeployId::new(1)) };
        for path in [FILE_BLOCK_A, FILE_BLOCK_B] {
            offline.fat(bench.fat).unwrap().write(&format!("/{path}"), &block.encode().unwrap()).unwrap();
        }
        offline.close().unwrap();
    };
    change(
        "mkdir 3; for part in etc boot; do btrfs -q subvolume snapshot 1/$part 3/$part; done > /dev/null; btrfs -q subvolume snapshot 1/root 3/root > /dev/null
         for d in 1 2; do btrfs property set -ts $d/root ro false; chmod 644 $d/root/usr/lib/systemd/systemd; done",
    );
    let words = "ast.d=2 ast.why=chosen ast.arm=9. ast.env=ok";
    let mut vm = bench.start(words);
    vm.wait_shell(BOOT).unwrap();
    let booted = vm.sh("cat /run/ast/booted; findmnt -no FSROOT /; dmesg | grep -c 'ast: deployment [12] cannot be the root'").unwrap();
    for line in ["d=3", "wanted=deployment 2", "reason=it has no init", "/@.snapshots/deploy/3/root", "2"] {
        assert!(booted.lines().any(|l| l == line), "{line} is not in:\n{booted}");
    }
    vm.power_cut();

    change("mv 3/root/usr/lib/modules/* 3/root/usr/lib/modules/1.2.3");
    let mut vm = bench.start(words);
    vm.expect("deployment 3 is started next, with its own kernel", BOOT).unwrap();
    vm.wait_reset(SOON).unwrap();
    vm.power_cut();
    let (a, b, _) = bench.look();
    let once = Some(Trial { deployment: DeployId::new(3), mode: Mode::Once, tries: 1 });
    assert_eq!((a.trial, b.trial, a.arm), (once, once, ArmId::new(10)));

    change("chmod 644 3/root/usr/lib/systemd/systemd");
    let mut vm = bench.start(words);
    vm.expect("nothing can be mounted as the root", BOOT).unwrap();
    vm.wait_reset(SOON).unwrap();
    vm.power_cut();
    assert_eq!(bench.look().0.trial, None);
}

#[test]
fn b9_vm_initcpio_of_systemd_an_emergency_is_a_restart_and_evidence() {
    let bench = Bench::new(SYSTEMD);
    let mut vm = bench.start("ast.d=1 ast.why=good rd.systemd.unit=emergency.target");
    vm.expect("the initramfs cannot go on", BOOT).unwrap();
    vm.wait_reset(SOON).unwrap();
    vm.power_cut();

    // The root of a trial is there, and systemd cannot go to it.
    bench.take(Which::A);
    let mut vm = bench.start("ast.d=2 ast.why=trial ast.arm=9.1 ast.env=ok rd.systemd.mount-extra=/dev/nothere:/mnt:btrfs:x-systemd.device-timeout=20s");
    vm.expect("the initramfs cannot go on", BOOT).unwrap();
    vm.wait_reset(SOON).unwrap();
    vm.power_cut();
    let (_, _, stage) = bench.look();
    assert!(stage.evidence.iter().any(|line| line.starts_with("initramfs: it could not go on")), "{stage:?}");

    // B14: with somebody there it is a shell, and the watchdog that runs by then does not end it, though what fails does so before it is armed.
    let mut vm = bench.start("ast.d=2 ast.why=trial ast.arm=9.1 ast.env=ok ast.attended rd.systemd.mount-extra=/dev/nothere:/mnt:btrfs:x-systemd.device-timeout=1s");
    vm.expect("watchdog did not stop", BOOT).unwrap();
    vm.expect("Press Enter for", BOOT).unwrap();
    vm.send("\r").unwrap();
    vm.wait_shell(SOON).unwrap();
    assert_eq!(vm.sh(WATCHDOG).unwrap(), "inactive\n");
    vm.power_cut();
}
