//! The btrfs calls against a real filesystem on a loop device (root).
#![allow(clippy::disallowed_methods)]

use std::path::Path;
use std::process::Command;

use ast::sys::{btrfs, btrfs::Access, device, file, mount::Mounted, mount::MsFlags};

fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-ec", line]).output().expect("sh");
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

struct Loop(String);
impl Drop for Loop {
    fn drop(&mut self) {
        drop(Command::new("losetup").args(["-d", &self.0]).status());
    }
}

fn with_btrfs(options: &str, work: impl FnOnce(&Path, &str)) {
    let dir = tempfile::tempdir().expect("dir");
    let image = dir.path().join("image");
    sh(&format!("truncate -s 200M {0} && mkfs.btrfs -q {0}", image.display()));
    let device = Loop(sh(&format!("losetup -f --show {}", image.display())));
    let at = dir.path().join("m");
    std::fs::create_dir(&at).expect("mount point");
    let mounted = Mounted::new(&device.0, &at, "btrfs", MsFlags::empty(), options).expect("mounted");
    work(&at, &device.0);
    mounted.unmount().expect("unmounted");
}

#[test]
fn subvolumes_are_made_copied_listed_and_deleted() {
    with_btrfs("subvolid=5", |top, device| {
        let (a, b) = (top.join("a"), top.join("b"));
        btrfs::create_subvolume(&a).expect("made");
        file::replace(&a.join("f"), b"1").expect("written");
        btrfs::snapshot(&a, &b, Access::ReadOnly).expect("copied");
        assert!(btrfs::is_subvolume(&b) && btrfs::is_read_only(&b).expect("flag") && !btrfs::is_subvolume(top.join("none").as_path()));
        assert!(file::replace(&b.join("f"), b"2").is_err(), "a read-only snapshot was written");
        btrfs::set_read_only(&b, false).expect("opened");
        file::replace(&b.join("f"), b"2").expect("written");
        std::fs::create_dir(a.join("dir")).expect("dir");
        btrfs::create_subvolume(&a.join("dir/nested")).expect("nested");
        btrfs::create_subvolume(&a.join("other")).expect("nested");
        let mut nested = btrfs::nested_subvolumes(&a).expect("listed");
        nested.sort();
        assert_eq!(nested, [a.join("dir/nested"), a.join("other")]);
        assert!(btrfs::delete_subvolume(&a).is_err(), "one with nested subvolumes was deleted");
        for path in nested.into_iter().chain([a.clone(), b]) {
            btrfs::delete_subvolume(&path).expect("deleted");
        }
        assert!(!a.exists());
        file::syncfs(top).expect("syncfs");
        btrfs::commit(top).expect("commit");
        let uuid = sh(&format!("blkid -o value -s UUID {device}"));
        assert_eq!(btrfs::filesystem_uuid(top).expect("uuid"), uuid);
        assert_eq!(device::find_by_uuid(&uuid).expect("scan").as_deref(), Some(Path::new(device)));
        assert!(btrfs::subvolume_id(top).expect("id") == 5);
    });
}

#[test]
fn boot_files_are_stored_plain_when_asked_for() {
    with_btrfs("subvolid=5,compress=zstd", |top, _| {
        for (name, plain) in [("plain", true), ("packed", false)] {
            let subvolume = top.join(name);
            btrfs::create_subvolume(&subvolume).expect("made");
            if plain {
                btrfs::set_uncompressed(&subvolume).expect("property");
            }
            file::replace(&subvolume.join("kernel"), &b"easy to compress ".repeat(100_000)).expect("written");
            assert_eq!(btrfs::is_stored_plain(&subvolume.join("kernel")).expect("map"), plain, "{name}");
        }
    });
}

#[test]
fn a_device_that_is_not_there_is_told_and_counts_for_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let images = ["a", "b"].map(|name| dir.path().join(name));
    let [a, b] = &images;
    sh(&format!("truncate -s 200M {} {}", a.display(), b.display()));
    let attach = |image: &Path| Loop(sh(&format!("losetup -f --show {}", image.display())));
    let (first, second) = (attach(a), attach(b));
    sh(&format!(
        "mkfs.btrfs -q -m raid1 -d raid1 {0} {1}; btrfs device scan --forget {0}; btrfs device scan --forget {1}",
        first.0, second.0
    ));
    let uuid = sh(&format!("blkid -p -o value -s UUID {}", first.0));
    let found = device::members(&uuid).expect("members");
    let seen: Vec<_> = found.iter().map(|m| (m.node.to_string_lossy().into_owned(), m.id, m.devices)).collect();
    assert_eq!(seen, [(first.0.clone(), 1, 2), (second.0.clone(), 2, 2)]);
    drop(second);
    let at = dir.path().join("m");
    std::fs::create_dir(&at).expect("mount point");
    let options = format!("device={},degraded", first.0);
    let mounted = Mounted::new(&first.0, &at, "btrfs", MsFlags::empty(), &options).expect("mounted");
    let all = btrfs::devices(&at).expect("devices");
    mounted.unmount().expect("unmounted");
    sh(&format!("btrfs device scan --forget {}", first.0));
    let told: Vec<_> = all.iter().map(|d| (d.id, d.missing, d.unallocated() > 0)).collect();
    assert_eq!(told, [(1, false, true), (2, true, false)], "{all:?}");
}
