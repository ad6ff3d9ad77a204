//! The roads by which `ast-initcpio` finds the root's filesystem, on real loop devices in a private mount namespace (root): names, disks that
//! come late or never, a btrfs of several.
#![allow(clippy::disallowed_methods)]

#[path = "initcpio/fixture.rs"]
mod fixture;

use ast::boot::medium::Medium;
use ast::cmdline::BlockPlace;
use fixture::{Disk, sh};

#[test]
fn a_device_that_comes_late_is_awaited_and_one_that_never_comes_ends_in_a_restart() {
    let mut disk = Disk::new();
    sh(&format!("losetup -d {}", std::mem::take(&mut disk.device)));
    let started = disk.start("ast.d=6", "ls $R");
    assert_eq!((started.status, started.seen.as_str()), (3, ""), "{started:?}");
    let image = disk.image().display().to_string();
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(1500));
        sh(&format!("losetup -f --show {image}"))
    });
    let started = disk.start_with("--wait 20", "ast.d=6", "cat $R/etc/name");
    disk.device = late.join().expect("attached");
    assert_eq!((started.status, started.seen.as_str()), (0, "d6\n"), "{started:?}");
}

#[test]
fn a_root_is_found_by_whatever_names_it_and_a_wrong_name_says_what_is_there() {
    let disk = Disk::new();
    let links = tempfile::tempdir().expect("dir");
    sh(&format!("btrfs filesystem label {} 'roads-{}' > /dev/null", disk.device, disk.uuid));
    sh(&format!("cd {0}; mkdir by-partuuid by-id; ln -s {1} by-partuuid/1234abcd-02; ln -s {1} by-id/usb", links.path().display(), disk.device));
    let disks = format!("--disks {}", links.path().display());
    let uuid = disk.uuid.to_uppercase();
    for root in [format!("UUID={uuid}"), format!("LABEL=roads-{}", disk.uuid), "PARTUUID=1234ABCD-02".into(), disk.device.clone()] {
        let started = disk.start_with(&disks, &format!("root={root} ast.d=6 ast.why=good"), "cat $R/etc/name");
        assert_eq!((started.status, started.seen.as_str(), started.said.lines().count()), (0, "d6\n", 1), "{root}: {started:?}");
    }
    let here = format!("{} (btrfs {} roads-{2})", disk.device, disk.uuid, disk.uuid);
    for (root, what) in [
        ("UUID=00000000-1111", "no btrfs with UUID 00000000-1111 appeared within 0 seconds; seen: "),
        ("LABEL=other", "no btrfs with label other appeared within 0 seconds; seen: "),
        ("PARTUUID=1234abcd-03", "no btrfs with partition UUID 1234abcd-03 appeared"),
        ("PARTLABEL=other", "no btrfs with partition label other appeared"),
        ("/dev/none", "no btrfs with device /dev/none appeared"),
        // A character device is no disk, and a path out of /dev none at all.
        ("/dev/null", "no btrfs with device /dev/null appeared"),
        ("/dev/../etc", "names no root that is understood"),
        ("UUID=../../x", "names no root that is understood"),
        ("8:1", "names no root that is understood"),
    ] {
        let started = disk.start_with("--wait 0", &format!("root={root} ast.d=6"), "true");
        assert!(started.status == 3 && started.said.contains(what), "{root}: {started:?}");
        assert!(!what.ends_with("seen: ") || started.said.contains(&here), "{root}: {started:?}");
    }
    // A device that is there and holds something else.
    sh(&format!("dd if=/dev/zero of={} bs=4096 seek=16 count=1 conv=notrunc,fsync status=none", disk.device));
    let started = disk.start_with("--wait 0", &format!("root={} ast.d=6", disk.device), "true");
    assert!(started.said.contains(&format!("; {} is that, and holds none", disk.device)), "{started:?}");
}

#[test]
fn a_btrfs_of_several_devices_is_mounted_though_nobody_has_registered_them() {
    for profiles in ["-m raid1 -d raid1", "-m raid1 -d single", "-m raid0 -d raid0"] {
        let disk = Disk::of_two(profiles);
        // Whichever the name leads to.
        for root in [format!("UUID={}", disk.uuid), disk.device.clone(), disk.second.clone()] {
            let words = format!("root={root} ast.d=6 ast.why=good ast.env=ok ast.arm=4.");
            let started = disk.start(&words, "cat $R/etc/name; echo edit > $R/var/edit && echo written");
            assert_eq!((started.status, started.seen.as_str()), (0, "d6\nwritten\n"), "{profiles} {root}: {started:?}");
            assert_eq!(started.said, "<6>ast: deployment 6 is the root (good)\n", "{profiles} {root}");
            assert!(started.booted.missing.is_empty() && !started.booted.volatile);
            disk.forget();
        }
        // The block is found on the one that has it, whichever is asked.
        for device in [&disk.device, &disk.second] {
            let found = Medium::find(&BlockPlace::Raw, device.as_ref(), "/nowhere".as_ref()).expect("found");
            assert_eq!(found, disk.medium(), "{device}");
        }
    }
}

#[test]
fn b9_a_disk_of_two_that_never_comes_is_left_out_and_the_machine_says_so() {
    let mut disk = Disk::of_two("-m raid1 -d raid1");
    disk.detach_second();
    let look = format!("cat $R/etc/name; for n in 1 2 3; do dd if=/dev/urandom of=$R/var/data bs=1M count=4 2> /dev/null; btrfs filesystem sync $R/var; done; sha256sum < $R/var/data; btrfs device ready {} && echo ready", disk.device);
    let alone = disk.start("ast.d=6 ast.why=good", &look);
    // Ready: what waits for the whole filesystem by udev's btrfs rule comes to an end.
    assert!(alone.status == 0 && alone.seen.starts_with("d6\n") && alone.seen.ends_with("\nready\n"), "{alone:?}");
    assert!(alone.said.contains("<4>ast: 1 of 2 devices") && alone.said.contains("<3>ast: device 2 of the root's filesystem is missing"), "{alone:?}");
    assert!(alone.said.lines().count() <= 8, "{alone:?}");
    assert_eq!((alone.booted.missing.as_slice(), alone.booted.volatile), ([2].as_slice(), false));

    // Back again it is behind: what it has is mended from the other one, whoever reads it.
    disk.forget();
    disk.attach_second();
    // And what was written meanwhile is there once only, until it is told to be there twice.
    let look = "sha256sum < $R/var/data; btrfs scrub start -B $R/var > /dev/null 2>&1; echo scrubbed $?; btrfs balance start -dconvert=raid1,soft -mconvert=raid1,soft $R/var > /dev/null 2>&1; echo balanced $?";
    let both = disk.start("ast.d=6 ast.why=good", look);
    assert_eq!(both.seen, format!("{}\nscrubbed 0\nbalanced 0\n", alone.seen.lines().nth(1).expect("a sum")), "{both:?}");
    assert!(both.said.contains("device 2") && both.said.contains("commits behind the others") && both.booted.missing.is_empty(), "{both:?}");
    assert!(both.booted.behind == [2] && matches!(both.booted.disk.as_slice(), [line] if line.contains("commits behind")), "{both:?}");
    disk.forget();
    let after = disk.start("ast.d=6 ast.why=good", "sha256sum < $R/var/data");
    assert_eq!(after.said, "<6>ast: deployment 6 is the root (good)\n");

    // And now it is the first that does not come: the one that was behind has everything.
    disk.forget();
    sh(&format!("losetup -d {}", std::mem::take(&mut disk.device)));
    let second = disk.start("ast.d=6 ast.why=good", "sha256sum < $R/var/data; echo more > $R/var/more && echo written");
    assert_eq!((second.seen.as_str(), second.booted.missing.as_slice()), (format!("{}written\n", after.seen).as_str(), [1].as_slice()), "{second:?}");
}

#[test]
fn b9_a_disk_that_held_the_only_copy_leaves_a_machine_that_can_be_read() {
    let mut disk = Disk::of_two("-m raid1 -d raid0");
    disk.detach_second();
    let started = disk.start("ast.d=6 ast.why=good", "cat $R/etc/name; touch $R/var/x $R/etc/x && echo memory");
    assert_eq!((started.status, started.seen.as_str()), (0, "d6\nmemory\n"), "{started:?}");
    assert!(started.said.contains("it is mounted read-only") && started.booted.volatile && started.booted.missing == [2], "{started:?}");
}

#[test]
fn a_disk_of_two_that_comes_late_is_not_left_out() {
    let mut disk = Disk::of_two("-m raid1 -d raid1");
    disk.detach_second();
    let image = disk.image().display().to_string();
    let late = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(3000));
        sh(&format!("losetup -f --show {image}.2"))
    });
    let begun = std::time::Instant::now();
    let started = disk.start("ast.d=6 ast.why=good rootdelay=20", "cat $R/etc/name");
    let took = begun.elapsed().as_secs();
    disk.second = late.join().expect("attached");
    assert!(started.status == 0 && started.seen == "d6\n" && started.booted.missing.is_empty(), "{started:?}");
    assert!(started.said.contains("1 of 2 devices") && !started.said.contains("missing") && (2..10).contains(&took), "{took} s: {started:?}");
}
