//! `boot-update`: the initramfs of a snapshot anew.

use std::fs;

use ast::layout::Part;

use crate::machine::{Machine, skipped};

#[test]
fn b2_a_new_initramfs_is_part_of_its_snapshot_and_counted_when_it_is_deployed() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.ok(&["clone", "0"]);
    let image = |n: u32| fs::metadata(machine.part(n, Part::Boot).join("initramfs-linux.img")).expect("an image");
    let before = image(1);
    // A file of the snapshot that its image takes along.
    machine.write_etc(1, "mkinitcpio.conf.d/more.conf", "FILES+=(/etc/more)\n");
    machine.write_etc(1, "more", &"something new ".repeat(1000));
    let said = machine.ok(&["--json", "boot-update", "1"]);
    assert_eq!(said.json()["snapshot"], 1, "{said:?}");
    assert!(image(1).modified().expect("a time") > before.modified().expect("a time"));
    let sums = fs::read_to_string(machine.part(1, Part::Boot).join("ast.sums")).expect("sums");
    assert!(sums.contains("initramfs-linux.img"), "{sums}");
    machine.ok(&["deploy", "1"]);
    let block = machine.store().block().expect("a block");
    assert_eq!(block.trial.map(|t| t.tries), Some(3), "{block:?}");

    // One that cannot be built changes nothing; without a number the default's is meant, which is the base here.
    machine.write_etc(1, "mkinitcpio.conf.d/more.conf", "HOOKS=(base no-such-hook)\n");
    let sets = machine.sets();
    let said = machine.ast(&["boot-update", "1"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("mkinitcpio failed in snapshot 1") && said.err.contains("as it was"), "{said:?}");
    assert_eq!(machine.sets(), sets);
    assert_eq!(machine.ast(&["boot"]).code, 3);
}
