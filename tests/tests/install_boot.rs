//! What the core image that the installer makes does when the disk behind it is not as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast_tests::columns;
use ast_tests::image::Column;
use ast_tests::scenario::{BOOT, Scenario};
use ast_tests::vm::Offline;
use ast_tests::vm::offline::{Damage, Mounted};
use std::time::Duration;

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

columns!(c1_without_a_whole_grub_cfg(c1_without_a_whole_grub_cfg_the_good_one_starts); test: bios206_gap, efi206; full: bios214_raw, efi214);
columns!(b5_without_its_filesystem(b5_without_its_filesystem_it_starts_again); test: bios214_raw; full: bios206_gap, efi214, efi206);
