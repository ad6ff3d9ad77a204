//! Dual boot: another Linux on a second disk, found by the real `os-prober`, is in the menu and starts; and what a person wrote into
//! `/etc/default/grub` of a snapshot holds once it is deployed.
#![allow(clippy::disallowed_methods, reason = "throw-away files and programs of the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ast_tests::columns;
use ast_tests::image::{Column, worked};
use ast_tests::scenario::Scenario;
use ast_tests::vm::offline::Offline;
use ast_tests::vm::{Disk, cache_dir};

/// Time for a menu to be painted, and for a kernel to say its word, emulated.
const MENU: Duration = Duration::from_secs(60);
const KERNEL: Duration = Duration::from_secs(120);

/// As the README has it: chroot, edit, deploy.
const WORK: &str = r#"
$ast new kiosk
$ast install 1 os-prober
printf '%s\n' 'sed -i "s/^GRUB_TIMEOUT=.*/GRUB_TIMEOUT=7/; s/^\(GRUB_CMDLINE_LINUX=.*\)\"$/\1 from.chroot\"/" /etc/default/grub' \
  'echo GRUB_DISABLE_OS_PROBER=false >> /etc/default/grub' 'echo GRUB_COLOR_NORMAL=yellow/black >> /etc/default/grub' 'exit 0' | $ast chroot 1
$ast deploy --no-trial 1
"#;

/// A disk with one partition, on it a small Linux with a hostile name, a kernel of the lab and an initramfs that says that it runs.
const OTHER: &str = r#"
set -e
cd "$1"; kernel=$2
mkdir -p initrd/bin root/etc root/usr/lib root/boot/grub
cp "$(command -v busybox)" initrd/bin/busybox
cat > initrd/init <<'I'
#!/bin/busybox sh
/bin/busybox mkdir -p /proc; /bin/busybox mount -t proc proc /proc
echo "OTHER SYSTEM RUNS: $(/bin/busybox cat /proc/cmdline) END"
/bin/busybox poweroff -f
I
chmod 755 initrd/init
(cd initrd; find . | cpio -o -H newc --quiet) > root/boot/initrd.img-1
cp "$kernel" root/boot/vmlinuz-1
: > root/usr/lib/ld-linux.so.2
cat > root/etc/os-release <<'I'
NAME="Other"
PRETTY_NAME="Other Linux '; reboot; ' $(reboot) }"
I
cat > root/boot/grub/grub.cfg <<'I'
menuentry 'Other Linux' {
  linux /boot/vmlinuz-1 root=LABEL=other ro console=ttyS0,115200 panic=5 word="a b"
  initrd /boot/initrd.img-1
}
I
truncate -s 95M part; mkfs.ext4 -q -L other -d root part
truncate -s 96M disk; echo 'start=2048, type=83' | sfdisk -q disk
dd if=part of=disk bs=1M seek=1 conv=notrunc status=none
"#;

fn other_disk(scenario: &Scenario) -> PathBuf {
    let offline = Offline::open(scenario.disk()).expect("the disk");
    let system = offline.partitions().iter().max_by_key(|p| p.len).expect("a partition").number;
    let top = offline.mount(system, "subvolid=5,ro").expect("mounted");
    let kernel = top.path("@.snapshots/sets/0.1/boot/vmlinuz-linux");
    let made = Command::new("sh").args(["-c", OTHER, "sh"]).args([scenario.dir(), Path::new(&kernel)]).output().expect("a shell");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    top.unmount().expect("unmounted");
    offline.close().expect("closed");
    scenario.dir().join("disk")
}

fn dual_boot(column: Column) {
    let scenario = Scenario::on("dual_boot", column, &worked(&cache_dir(), column, WORK).unwrap()).unwrap();
    let other = other_disk(&scenario);
    let mut vm = ast_tests::vm::Vm::start(scenario.config().disk(Disk::raw(&other))).unwrap();
    vm.wait_shell(ast_tests::scenario::BOOT).unwrap();
    // Chroot, edit, deploy.
    assert!(vm.sh("cat /proc/cmdline").unwrap().contains(" from.chroot"));
    let menu = "cat /boot/grub/ast/menu.cfg";
    let before = vm.sh(menu).unwrap();
    assert!(before.contains("set timeout=7\n") && before.contains("set menu_color_normal='yellow/black'") && !before.contains("Other:"), "{before}");
    // Where there is no grub-mount, os-prober looks at what is mounted.
    vm.sh("mount -o ro /dev/vdb1 /mnt").unwrap();
    let said = vm.run("ast boot-update --menu 2>&1", MENU).unwrap();
    assert!(said.status == 0 && said.stdout.contains("the menu lists Other Linux"), "{said:?}");
    let after = vm.sh(menu).unwrap();
    assert_eq!(after.matches("menuentry 'Other: ").count(), 1, "our own machine is no other system:\n{after}");
    // A deploy asks nobody, and forgets nothing.
    vm.sh("umount /mnt && ast unpin 1 && ast pin 1 && sync").unwrap();
    assert_eq!(vm.sh(menu).unwrap(), after);
    vm.reboot(Duration::from_secs(90)).unwrap();
    vm.menu_choose("Other: Other Linux '; reboot; '", MENU).unwrap();
    let seen = vm.expect("OTHER SYSTEM RUNS: (.*) END", KERNEL).unwrap();
    // GRUB puts its quotes around the whole word, which the kernel takes for the same.
    assert!(seen.text.contains("root=LABEL=other ro") && seen.text.contains("\"word=a b\""), "{}", seen.text);
}

columns!(dual_boot_through_os_prober(dual_boot); test: bios214_raw; full: bios206_gap, efi214, efi206, efi214_systemd);
