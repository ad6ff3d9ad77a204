//! `boot-update`: the initramfs of a snapshot anew.

use std::fs;

use ast::layout::Part;
use ast::sys::btrfs;
use ast::work::check_sums;

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

#[test]
fn s8_what_changes_nothing_makes_no_generation_and_a_boot_that_nobody_wrote_to_keeps_its_sums() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.ok(&["clone", "0"]);
    let sets = machine.sets();
    let said = machine.ok(&["run", "1", "sh", "-c", "cat /etc/* /boot/* /usr/bin/pacman /var/lib/* > /dev/null 2>&1; ls -lR /etc > /dev/null"]);
    assert!(said.err.contains("nothing was changed: snapshot 1 stays at generation 1"), "{said:?}");
    assert_eq!(machine.sets(), sets);
    assert_eq!(machine.ok(&["--json", "run", "1", "true"]).json()["set"], "1.1");

    // What has rotted is found by whoever deploys it, whatever was saved since: nobody sums it up anew.
    let boot = machine.part(1, Part::Boot);
    btrfs::set_read_only(&boot, false).expect("opened");
    let kernel = boot.join("vmlinuz-linux");
    let whole = fs::read(&kernel).expect("a kernel");
    let mut bytes = whole.clone();
    let last = bytes.last_mut().expect("bytes");
    *last = !*last;
    fs::write(&kernel, bytes).expect("rotten");
    btrfs::set_read_only(&boot, true).expect("sealed");
    for (change, generation) in [("/usr/new", 2), ("/etc/new", 3), ("/var/lib/new", 4)] {
        machine.ok(&["run", "1", "touch", change]);
        assert!(machine.sets().contains(&format!("1.{generation}")), "{change}: {:?}", machine.sets());
        let boot = machine.part(1, Part::Boot);
        assert_eq!(check_sums(&boot).expect("read"), [boot.join("vmlinuz-linux")], "{change}");
    }
    let said = machine.ast(&["deploy", "1"]);
    assert!(said.code != 0 && said.err.contains("vmlinuz-linux: it does not match ast.sums"), "{said:?}");

    // Where something else in there is written, what has rotted is refused: saved, it would be told by no one.
    let sets = machine.sets();
    for words in [&["run", "1", "touch", "/boot/more"][..], &["run", "1", "sh", "-c", "echo 'GRUB_CMDLINE_LINUX=\"new=1\"' > /etc/default/grub"]] {
        let said = machine.ast(words);
        let told = ["/boot/vmlinuz-linux: it does not match ast.sums", "`ast install N linux`"].iter().all(|word| said.err.contains(word));
        assert!(said.code != 0 && told, "{words:?}: {said:?}");
        assert_eq!(machine.sets(), sets, "{words:?}");
    }
    // The way out: the kernel is made anew out of what its package keeps beside its modules, and the images after it.
    machine.ok(&["clone", "1"]);
    let said = machine.ok(&["boot-update", "2"]);
    assert!(said.err.contains("/boot/vmlinuz-linux of snapshot 2 had rotted on disk"), "{said:?}");
    let boot = machine.part(2, Part::Boot);
    assert!(check_sums(&boot).expect("read").is_empty() && fs::read(boot.join("vmlinuz-linux")).expect("a kernel") == whole);
    // Another: whoever writes it anew may save it, in the same size and with the old time, too.
    machine.ok(&["run", "1", "sh", "-c", "cd /boot; cp -p vmlinuz-linux new; mv new vmlinuz-linux"]);
    let boot = machine.part(1, Part::Boot);
    assert!(check_sums(&boot).expect("read").is_empty());

    // How to start it follows from /etc, and is summed up where that changes.
    machine.ok(&["run", "1", "sh", "-c", "echo 'GRUB_CMDLINE_LINUX=\"new=1\"' > /etc/default/grub"]);
    let boot = machine.part(1, Part::Boot);
    let env = fs::read_to_string(boot.join("ast.env")).expect("ast.env");
    assert!(env.contains("new=1"), "{env}");
}
