//! Disks and ESPs as files: where core images go, and that every step leaves one that starts.

use std::fs::File;
use std::path::Path;

use super::bios::{Disk, sectors};
use super::{LoaderError, esp};
use crate::install::table::{SECTOR, Scheme};
use crate::install::{Boot, Target};
use crate::sys::file;

/// Sectors of a core image of 2.06 and of 2.14, as the installer makes them.
const OLD: u64 = 477;
const NEW: u64 = 508;

fn boot_img() -> Vec<u8> {
    let mut img: Vec<u8> = (0..512).map(|n| u8::try_from(n % 251).expect("small")).collect();
    img[510..].copy_from_slice(&[0x55, 0xaa]);
    img
}

/// A core image as `grub-mkimage` lays it out, of so many sectors less a few bytes.
fn core(mark: u8, sectors: u64) -> Vec<u8> {
    let mut core = vec![mark; usize::try_from(sectors * SECTOR - 7).expect("small")];
    core[476..512].fill(0);
    core[500] = 2;
    core[508..510].copy_from_slice(&u16::try_from(sectors - 1).expect("small").to_le_bytes());
    core
}

/// An installed disk that starts `core`.
fn disk(dir: &tempfile::TempDir, boot: Boot, core: &[u8]) -> Target {
    let path = dir.path().join("disk");
    File::create(&path).and_then(|f| f.set_len(3 << 30)).expect("image");
    let disk = Target::whole(&path).expect("target");
    let scheme = Scheme::new(boot, &disk).expect("scheme");
    let mut code = boot_img();
    code[0x5c..0x64].copy_from_slice(&1u64.to_le_bytes());
    code[0x64..0x68].copy_from_slice(&[0xff, 0, 0x90, 0x90]);
    disk.write_at(SECTOR, core).expect("core");
    disk.write_at(0, &scheme.mbr(&code, 0x1234_5678)).expect("MBR");
    disk
}

fn open(disk: &Target) -> Result<Disk, LoaderError> {
    Disk::find(Some(&disk.file), None, &[boot_img()])
}

#[test]
fn c1_core_images_take_turns_and_only_their_number_in_the_boot_sector_changes() {
    let dir = tempfile::tempdir().expect("dir");
    for (boot, limit) in [(Boot::BiosGap, 1024), (Boot::BiosRaw, 2048)] {
        let mut there = core(1, OLD);
        let target = disk(&dir, boot, &there);
        let before = target.read_at(0, 512).expect("MBR");
        for turn in 2..9 {
            let new = core(turn, NEW);
            let found = open(&target).expect("a disk");
            assert!(found.starts(&there).expect("read") && !found.starts(&new).expect("read"), "{boot:?} {turn}");
            let place = found.place(sectors(new.len() as u64)).expect("room");
            assert!(place >= 1 && place + NEW <= limit, "{boot:?} {turn}: {place}");
            found.write(place, &new).expect("written");
            // Cut here, the old one starts as before.
            assert!(open(&target).expect("a disk").starts(&there).expect("read"), "{boot:?} {turn}: the old one was overwritten");
            found.name(place).expect("named");
            assert!(open(&target).expect("a disk").starts(&new).expect("read"), "{boot:?} {turn}");
            there = new;
        }
        let after = target.read_at(0, 512).expect("MBR");
        let changed: Vec<usize> = (0..512).filter(|at| before[*at] != after[*at]).collect();
        assert!(changed.iter().all(|at| (0x5c..0x64).contains(at)), "{boot:?}: {changed:?}");
    }
}

#[test]
fn c1_what_cannot_be_left_in_its_place_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("dir");
    let target = disk(&dir, Boot::BiosGap, &core(1, OLD));
    let found = open(&target).expect("a disk");
    assert!(matches!(found.place(547), Err(LoaderError::NoRoom { needed: 547, free: 546, .. })));
    assert!(matches!(found.name(600), Err(LoaderError::OddCore { sector: 600, .. })), "no core image is there");
    let whole = target.read_at(0, 1024).expect("read");
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = whole.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        target.write_at(0, &changed).expect("written");
        let error = open(&target).map(drop);
        target.write_at(0, &whole).expect("as before");
        error.expect_err("refused")
    };
    // Another loader's code, no boot sector at all, a core image elsewhere, in two pieces, or one that reaches into a partition.
    assert!(matches!(with(0x100, b"LILO"), LoaderError::ForeignBootSector(_)));
    assert!(matches!(with(510, &[0, 0]), LoaderError::ForeignBootSector(_)));
    assert!(matches!(with(0x5c, &u64::MAX.to_le_bytes()), LoaderError::OddCore { .. } | LoaderError::Install(_)));
    assert!(matches!(with(512 + 500, &[9]), LoaderError::OddCore { .. }));
    assert!(matches!(with(512 + 496, &[1]), LoaderError::OddCore { .. }));
    assert!(matches!(with(512 + 508, &[0, 9]), LoaderError::OddCore { .. }));
    assert!(open(&target).is_ok());
}

#[test]
fn c1_in_a_gpt_the_partition_for_grub_is_the_room() {
    let dir = tempfile::tempdir().expect("dir");
    let target = disk(&dir, Boot::BiosRaw, &core(1, OLD));
    // One partition at 2048 for GRUB, of a MiB; the protective entry covers the disk.
    let mut mbr = target.read_at(0, 512).expect("MBR");
    mbr[446..510].fill(0);
    mbr[450] = 0xee;
    mbr[454] = 1;
    mbr[0x5c..0x64].copy_from_slice(&2048u64.to_le_bytes());
    let (mut header, mut entry) = (vec![0; 512], vec![0; 128]);
    header[..8].copy_from_slice(b"EFI PART");
    header[72] = 2;
    header[80] = 4;
    header[84] = 128;
    entry[..16].copy_from_slice(b"Hah!IdontNeedEFI");
    entry[32..40].copy_from_slice(&2048u64.to_le_bytes());
    entry[40..48].copy_from_slice(&4095u64.to_le_bytes());
    for (sector, bytes) in [(0, &mbr), (1, &header), (2, &entry)] {
        target.write_at(sector * SECTOR, bytes).expect("written");
    }
    let mut old = core(1, OLD);
    old[500..508].copy_from_slice(&2049u64.to_le_bytes());
    target.write_at(2048 * SECTOR, &old).expect("written");
    let found = open(&target).expect("a disk");
    assert_eq!(found.place(NEW).expect("room"), 4096 - NEW);
    // The same core image behind a table without such a partition.
    entry[0] = 0;
    target.write_at(2 * SECTOR, &entry).expect("written");
    assert!(matches!(open(&target), Err(LoaderError::OddCore { .. })));
}

const UUID: &str = "12345678-1234-1234-1234-123456789abc";

fn image(mark: &str) -> Vec<u8> {
    format!("MZ {mark} search.fs_uuid {UUID} root\nset prefix=($root)/@boot/grub\n").into_bytes()
}

fn names(dir: &Path) -> Vec<String> {
    file::names(dir).expect("list").into_iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn c1_files_on_the_esp_are_exchanged_and_those_of_others_left_alone() {
    let dir = tempfile::tempdir().expect("dir");
    let (esp, read) = (dir.path(), |name: &str| file::read(&dir.path().join("EFI").join(name)).expect(name));
    let (old, new, windows) = (image("old"), image("new"), b"MZ something else".to_vec());
    let elsewhere = String::from_utf8(image("old")).expect("text").replace("1234-", "9999-").into_bytes();
    for (name, bytes) in
        [("ast/grubx64.efi", &old), ("BOOT/BOOTX64.EFI", &old), ("Microsoft/bootmgfw.efi", &windows), ("fedora/grubx64.efi", &elsewhere)]
    {
        let path = esp.join("EFI").join(name);
        file::make_dirs(path.parent().expect("a directory")).expect("dir");
        file::replace(&path, bytes).expect("written");
    }
    let order: Vec<_> = esp::ours(esp, UUID).expect("ours").iter().map(|p| p.strip_prefix(esp).expect("below").to_owned()).collect();
    assert_eq!(order, [Path::new("EFI/ast/grubx64.efi"), Path::new("EFI/BOOT/BOOTX64.EFI")], "the one that firmware falls back to is last");
    for _ in 0..2 {
        esp::switch(esp, UUID, &new).expect("switched");
        assert_eq!((read("ast/grubx64.efi"), read("BOOT/BOOTX64.EFI")), (new.clone(), new.clone()));
        assert_eq!((read("ast/grubx64.ast"), read("BOOT/BOOTX64.ast")), (old.clone(), old.clone()), "the old ones are kept");
        assert_eq!((read("Microsoft/bootmgfw.efi"), read("fedora/grubx64.efi")), (windows.clone(), elsewhere.clone()));
    }
    esp::switch_back(esp, UUID, &new).expect("back");
    assert_eq!((read("ast/grubx64.efi"), read("BOOT/BOOTX64.EFI")), (old.clone(), old.clone()));
    esp::clean(esp, UUID).expect("clean");
    assert_eq!((names(&esp.join("EFI/ast")), names(&esp.join("EFI/BOOT"))), (vec!["grubx64.efi".into()], vec!["BOOTX64.EFI".into()]));
    assert!(matches!(esp::ours(esp, "another"), Err(LoaderError::NothingOnEsp)));

    // Firmware's own path is there too from then on, and follows when the new one is given up.
    file::remove_if_exists(&esp.join("EFI/BOOT/BOOTX64.EFI")).expect("removed");
    assert!(!esp::has_fallback(esp, UUID).expect("read"));
    esp::switch(esp, UUID, &new).expect("switched");
    assert!(esp::has_fallback(esp, UUID).expect("read") && read("BOOT/BOOTX64.EFI") == new);
    esp::switch_back(esp, UUID, &new).expect("back");
    assert_eq!(read("BOOT/BOOTX64.EFI"), old);
}
