//! Looking at disks of machines that are off, and damaging them.
#![allow(clippy::disallowed_methods, reason = "throw-away files")]
mod common;

use ast_tests::{
    cut::GrubError,
    vm::{
        Offline,
        offline::{Damage, Scheme},
        overlay,
    },
};
use common::sh;
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// A GPT disk: 1 FAT, 2 btrfs with a sealed subvolume that holds `kernel` (1 MB of `k`), in a qcow2 overlay.
fn disk(dir: &Path) -> PathBuf {
    let image = dir.join("base.raw");
    fs::File::create(&image).unwrap().set_len(200 << 20).unwrap();
    let mut sfdisk = Command::new("sfdisk").arg("-q").arg(&image).stdin(Stdio::piped()).spawn().unwrap();
    sfdisk.stdin.take().unwrap().write_all(b"label: gpt\nstart=2048, size=69632, type=uefi\nstart=71680, type=linux\n").unwrap();
    assert!(sfdisk.wait().unwrap().success());
    let d = dir.display();
    sh(&format!(
        "cd {d}; mkdir b; head -c 1000000 /dev/zero | tr '\\0' k > b/kernel; truncate -s 34M fat; truncate -s 160M btrfs
        mkfs.vfat -F 32 fat >/dev/null; mkfs.btrfs -q btrfs; dd status=none conv=notrunc,sparse bs=1M seek=1 if=fat of=base.raw
        dd status=none conv=notrunc,sparse bs=1M seek=35 if=btrfs of=base.raw; rm fat btrfs"
    ));
    let image = overlay(&image, dir).unwrap();
    let offline = Offline::open(&image).unwrap();
    let mounted = offline.mount(2, "compress=no").unwrap();
    sh(&format!(
        "cd {}; btrfs -q subvolume create boot; cp {d}/b/kernel boot/; btrfs property set -ts boot ro true",
        mounted.root().display()
    ));
    mounted.unmount().unwrap();
    offline.close().unwrap();
    image
}

#[test]
fn files_of_a_sealed_subvolume_are_damaged_and_stay_so() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path());
    let whole = vec![b'k'; 1_000_000];
    let content = |image: &Path| {
        let offline = Offline::open(image).unwrap();
        let mounted = offline.mount(2, "ro").unwrap();
        let sealed = fs::write(mounted.path("boot/new"), "x").is_err();
        assert!(sealed);
        fs::read(mounted.path("/boot/kernel"))
    };
    assert_eq!(content(&image).unwrap(), whole);
    for damage in [Damage::ZeroMiddle, Damage::Truncate, Damage::Garbage(7), Damage::Empty, Damage::Delete] {
        let own = overlay(&image, dir.path()).unwrap();
        let offline = Offline::open(&own).unwrap();
        assert_eq!(offline.scheme(), Scheme::Gpt);
        let mounted = offline.mount(2, "").unwrap();
        mounted.damage("boot/kernel", damage).unwrap();
        // Sealed again.
        assert!(fs::write(mounted.path("boot/new"), "x").is_err(), "{damage:?}");
        mounted.unmount().unwrap();
        offline.close().unwrap();
        let now = content(&own);
        let zeroes = |bytes: &[u8]| bytes.iter().filter(|b| **b == 0).count();
        match damage {
            Damage::Delete => assert_eq!(now.unwrap_err().kind(), std::io::ErrorKind::NotFound),
            Damage::Empty => assert!(now.unwrap().is_empty()),
            Damage::Truncate => assert_eq!(now.unwrap(), whole[..500_000]),
            Damage::ZeroMiddle => {
                let now = now.unwrap();
                assert_eq!((now.len(), zeroes(&now), zeroes(&now[..300_000])), (1_000_000, 256 << 10, 0));
            }
            Damage::Garbage(_) => {
                let now = now.unwrap();
                assert!(now.len() == whole.len() && now.iter().filter(|b| **b == b'k').count() < 10_000);
            }
        }
        // The base did not change.
        assert_eq!(content(&image).unwrap(), whole);
    }
}

#[test]
fn rot_is_seen_by_the_kernel_and_not_by_grub() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path());
    let offline = Offline::open(&image).unwrap();
    assert!(!offline.grub_view(2, "/boot/kernel").unwrap().contains(&0));
    let bad = offline.rot(2, "boot/kernel").unwrap();
    assert_eq!(bad, 64 << 10);
    let read = offline.grub_view(2, "/boot/kernel").unwrap();
    assert_eq!((read.len(), read.iter().filter(|b| **b == 0).count() as u64), (1_000_000, bad));
    let mounted = offline.mount(2, "").unwrap();
    assert_eq!(fs::read(mounted.path("boot/kernel")).unwrap_err().raw_os_error(), Some(nix::errno::Errno::EIO as i32));
}

#[test]
fn fat_is_read_and_written() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path());
    let offline = Offline::open(&image).unwrap();
    let fat = offline.fat(1).unwrap();
    fat.create_dir("/ast").unwrap();
    fat.write("/ast/a.env", b"one").unwrap();
    fat.write("/ast/a.env", b"two\0two").unwrap();
    assert_eq!(fat.read("/ast/a.env").unwrap(), b"two\0two");
    assert_eq!(offline.grub_view(1, "/ast/a.env").unwrap(), b"two\0two");
    assert_eq!(fat.list("/").unwrap(), ["/ast/", "/ast/a.env"]);
    fat.delete("/ast/a.env").unwrap();
    assert!(matches!(offline.grub_view(1, "/ast/a.env"), Err(GrubError::Missing(_))));
}

#[test]
fn a_disk_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = disk(dir.path());
    let offline = Offline::open(&image).unwrap();
    let again = Offline::open(&image);
    assert!(again.is_err());
    drop(offline);
    Offline::open(&image).unwrap().close().unwrap();
}
