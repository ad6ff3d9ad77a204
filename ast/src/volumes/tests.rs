use std::path::{Path, PathBuf};

use super::*;

#[test]
fn a_mountinfo_line_is_understood() {
    let line =
        "36 35 0:31 /@.snapshots/deploy/1/root /mnt/a\\040b ro,noatime shared:1 master:2 - btrfs /dev/sda rw,subvolid=258,subvol=/x,y";
    let entry = MountEntry::parse(line).expect("an entry");
    let expected = MountEntry {
        device: "0:31".into(),
        root: PathBuf::from("/@.snapshots/deploy/1/root"),
        target: PathBuf::from("/mnt/a b"),
        fstype: "btrfs".into(),
        source: PathBuf::from("/dev/sda"),
        subvolume: Some(258),
    };
    assert_eq!(entry, expected);
    let without_tags = "21 1 8:1 / / rw - ext4 /dev/root rw";
    assert_eq!(MountEntry::parse(without_tags).map(|e| (e.subvolume, e.target)), Some((None, PathBuf::from("/"))));
    for bad in ["", "1 2 3", "36 35 0:31 / / rw shared:1", " - ", "36 35 0:31 - btrfs"] {
        assert_eq!(MountEntry::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn every_path_has_a_mount() {
    let entry = MountEntry::of(Path::new("/proc/self")).expect("readable").expect("mounted");
    assert_eq!(entry.fstype, "proc");
}
