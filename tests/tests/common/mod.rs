//! A tiny system to try the lab itself on: Debian's cloud kernel, busybox, GRUB of the host; no pacman.
#![allow(dead_code, missing_docs, clippy::disallowed_methods, reason = "each test uses its part")]
use ast_tests::{
    lab::{
        pool::Pool,
        recipe::{Recipes, Suite},
    },
    vm::{Kernel, Offline, cache_dir, tool::tool},
};
use std::{
    fs,
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Modules of the guest, with what they need.
const MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "btrfs"];
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev; mount -t tmpfs run /run
modprobe -a virtio_pci virtio_blk btrfs
n=0; while [ ! -b /dev/vda2 ] && [ $n -lt 20 ]; do usleep 50000; n=$((n+1)); done
mount -t btrfs /dev/vda2 /mnt
cd /root
while :; do setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1; done
"#;
const GRUB_CFG: &str = "set timeout=60
menuentry 'first' { linux /vmlinuz console=ttyS0 lab.entry=first; initrd /initramfs; }
menuentry 'second one' { linux /vmlinuz console=ttyS0 lab.entry=second; initrd /initramfs; }
submenu 'more' { menuentry 'deep' { linux /vmlinuz console=ttyS0 lab.entry=deep; initrd /initramfs; } }
";
/// In the core image: the serial line from the first moment.
const GRUB_EARLY: &str = "serial --unit=0 --speed=115200\nterminal_input serial\nterminal_output serial\n";
const GRUB_MODULES: [&str; 13] =
    ["part_msdos", "fat", "btrfs", "normal", "linux", "serial", "terminal", "configfile", "test", "echo", "sleep", "search", "reboot"];
/// Bytes: the ESP from 1 MiB on, then btrfs.
const ESP: (u64, u64) = (1 << 20, 33 << 20);
const BTRFS: (u64, u64) = (34 << 20, 160 << 20);

pub fn sh(command: &str) {
    tool("sh", &["-euc", command]).unwrap();
}

/// The tiny system's folder in the cache, built once: `disk.img`, `vmlinuz`, `initramfs`.
pub fn tiny() -> PathBuf {
    let dir = cache_dir().join("tiny-4");
    fs::create_dir_all(cache_dir()).unwrap();
    let lock = fs::File::create(cache_dir().join("tiny.lock")).unwrap();
    let _lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    if dir.join("disk.img").exists() {
        return dir;
    }
    let new = tempfile::tempdir_in(cache_dir()).unwrap();
    build(new.path());
    fs::rename(new.path(), &dir).unwrap();
    dir
}

pub fn kernel(dir: &Path) -> Kernel {
    Kernel { image: dir.join("vmlinuz"), initrd: Some(dir.join("initramfs")), append: "console=ttyS0 panic=10".into() }
}

fn build(dir: &Path) {
    let d = dir.display();
    let recipes = Recipes::load().unwrap();
    let pool = Pool::open(&cache_dir(), &recipes).unwrap();
    let kernel = pool.suite(Suite::Trixie).find(|deb| deb.package.starts_with("linux-image-")).unwrap();
    sh(&format!(
        "cd {d}; dpkg-deb -x {} k; cp k/boot/vmlinuz-* vmlinuz; mkdir -p i/bin i/proc i/sys i/dev i/run i/mnt i/root i/tmp; cp /bin/busybox i/bin/",
        pool.path(kernel).display()
    ));
    let modules = fs::read_dir(dir.join("k/usr/lib/modules"))
        .or_else(|_| fs::read_dir(dir.join("k/lib/modules")))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let version = modules.file_name().unwrap().to_str().unwrap().to_owned();
    // busybox's modprobe in the guest reads this list of dependencies; the modules of its lines are all that is needed.
    sh(&format!(
        "cd {d}; mkdir -p r/lib/modules i/lib/modules/{version}; mv {} r/lib/modules/; cd r/lib/modules/{version}
        find kernel/drivers/virtio kernel/drivers/block kernel/fs/btrfs kernel/lib kernel/crypto kernel/arch -name '*.ko.xz' | xargs unxz
        busybox depmod -b {d}/r {version}; cp modules.dep {d}/i/lib/modules/{version}/
        grep -E '/({})[.]ko:' modules.dep | tr ': ' '\n\n' | sort -u | grep . | cpio --quiet -pdm {d}/i/lib/modules/{version}",
        modules.display(),
        MODULES.join("|")
    ));
    let init = dir.join("i/init");
    fs::write(&init, INIT).unwrap();
    sh(&format!("cd {d}/i; chmod +x init; find . | cpio --quiet -o -H newc -R 0:0 | gzip -1 > ../initramfs"));
    sh(&format!(
        "cd {d}; rm -rf k i r; mkdir -p b/grub b/data; cp vmlinuz initramfs b/; truncate -s {} btrfs.img; truncate -s {} esp.img",
        BTRFS.1, ESP.1
    ));
    fs::write(dir.join("b/grub/grub.cfg"), GRUB_CFG).unwrap();
    fs::write(dir.join("early.cfg"), GRUB_EARLY).unwrap();
    let modules = GRUB_MODULES.join(" ");
    sh(&format!(
        "cd {d}; mkfs.btrfs -q --rootdir b btrfs.img
        grub-mkimage -O i386-pc -o core.img -c early.cfg -p '(hd0,msdos2)/grub' biosdisk {modules}
        grub-mkimage -O x86_64-efi -o bootx64.efi -c early.cfg -p '(hd0,msdos2)/grub' {modules}
        mkfs.vfat -F 32 esp.img >/dev/null 2>&1; mmd -i esp.img ::/EFI ::/EFI/BOOT; mcopy -i esp.img bootx64.efi ::/EFI/BOOT/BOOTX64.EFI
        truncate -s {} new.img",
        BTRFS.0 + BTRFS.1
    ));
    let image = dir.join("new.img");
    let mut sfdisk = Command::new("sfdisk").arg("-q").arg(&image).stdin(Stdio::piped()).spawn().unwrap();
    let sector = |(start, len): (u64, u64)| format!("start={}, size={}", start / 512, len / 512);
    write!(sfdisk.stdin.take().unwrap(), "label: dos\n{}, type=ef\n{}, type=83, bootable\n", sector(ESP), sector(BTRFS)).unwrap();
    assert!(sfdisk.wait().unwrap().success());
    sh(&format!(
        "cd {d}; dd status=none conv=notrunc,sparse bs=1M seek={} if=esp.img of=new.img; dd status=none conv=notrunc,sparse bs=1M seek={} if=btrfs.img of=new.img",
        ESP.0 >> 20,
        BTRFS.0 >> 20
    ));
    // What grub-bios-setup does for the gap after an MBR: boot.img without its table, core.img from the second sector.
    let disk = fs::File::options().write(true).open(&image).unwrap();
    disk.write_all_at(&fs::read("/usr/lib/grub/i386-pc/boot.img").unwrap()[..440], 0).unwrap();
    disk.write_all_at(&fs::read(dir.join("core.img")).unwrap(), 512).unwrap();
    // The image opens, and has what was put in: a tiny system that is wrong is not cached.
    let offline = Offline::open(&image).unwrap();
    assert_eq!(offline.partitions().len(), 2);
    offline.close().unwrap();
    sh(&format!("cd {d}; rm -rf b *.cfg core.img bootx64.efi esp.img btrfs.img; mv new.img disk.img"));
}
