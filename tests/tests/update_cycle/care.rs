//! Care over years (C2): the real filesystem is scrubbed and balanced, and what is set aside brings an update through on a full disk.

use std::fs;

use ast::care;
use ast::layout;
use ast::sys::btrfs;
use ast::updates::{self, Age};
use ast_tests::lab::repo::State;

use super::bed::{Bed, sh, skipped};
use super::fill;

fn care(bed: &Bed) -> (bool, String) {
    let out = bed.run(&["care"], None);
    (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
}

fn reserve(bed: &Bed) -> u64 {
    fs::metadata(bed.layout().document(layout::RESERVE)).map_or(0, |meta| meta.len())
}

#[test]
fn c2_what_was_set_aside_brings_an_update_through_on_a_full_disk() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let (well, text) = care(&bed);
    assert!(well && text.contains("are set aside"), "{text}");
    let set_aside = reserve(&bed);
    assert!(set_aside > 64 << 20, "{set_aside}");
    let (_, text) = care(&bed);
    assert!(!text.contains("set aside"), "once: {text}");

    // Too full to begin anything (see `s10_…`, without a reserve): whatever fills /var, the update that may mend it comes through.
    bed.offer(State::V2);
    let full = bed.root.join("var/full");
    fill(&bed, &full, 8);
    let out = bed.run(&["run", "--now"], None);
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(text.contains("what was set aside for updates is used now"), "{text}");
    bed.assert_armed("2-1");
    assert_eq!(reserve(&bed), 0);

    // Never in a trial, nor while the disk is full; then it is there again.
    fs::remove_file(&full).expect("removed");
    care(&bed);
    assert_eq!(reserve(&bed), 0, "in a trial");
    bed.reset();
    // What was in /var when the trial was armed is kept, the file that filled it included.
    let kept = bed.layout().vars();
    ast::volumes::remove(&kept, &ast::volumes::Mounts::default()).expect("removed");
    sh(&format!("for n in 1 2 3; do btrfs filesystem sync {0}; btrfs subvolume sync {0}; sleep 0.3; done", bed.layout().snapshots().display()));
    fill(&bed, &full, (set_aside >> 20) + 40);
    care(&bed);
    assert_eq!(reserve(&bed), 0, "on a full disk");
    fs::remove_file(&full).expect("removed");
    sh(&format!("btrfs filesystem sync {}", bed.root.join("var").display()));
    care(&bed);
    assert_eq!(reserve(&bed), set_aside);
}

#[test]
fn c2_on_a_disk_without_room_for_a_document_an_update_comes_through() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    care(&bed);
    let set_aside = reserve(&bed);
    // A memory of some age is no longer stored beside its metadata.
    let mut memory = bed.updates();
    memory.degraded = Some("x".repeat(20_000));
    updates::save(&bed.layout(), &mut memory).expect("saved");
    fill(&bed, &bed.root.join("var/full"), 0);
    // To the last byte, as a log does that nobody stops.
    sh(&format!("cat /dev/zero > {} 2>/dev/null || true; sync", bed.root.join("var/log.1").display()));

    let text = bed.cycle();
    assert!(text.contains("is used now") && text.contains("up to date"), "{text}");
    assert!(reserve(&bed) > set_aside / 2, "{} of {set_aside} are set aside again", reserve(&bed));
    bed.offer(State::V2);
    let text = bed.cycle();
    assert!(text.contains("is used now"), "{text}");
    bed.assert_armed("2-1");
}

#[test]
fn c2_rot_is_found_by_a_scrub_and_told() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let layout = bed.layout();
    // Data that compression leaves alone, with a mark to find it by on the disk.
    let mark = "c2-here-is-what-will-rot";
    let file = bed.root.join("var/rots");
    sh(&format!("head -c 65536 /dev/urandom > {0}; printf {mark} | dd of={0} bs=1 seek=4096 conv=notrunc status=none; sync", file.display()));
    care(&bed);
    assert_eq!(care::load(&layout).scrubbed, None, "a new machine has just written everything");

    // A month of running time later.
    let age_by = |seconds: u64| {
        let mut memory = bed.updates();
        memory.clock.before = Age(memory.clock.before.0 + seconds);
        updates::save(&layout, &mut memory).expect("saved");
    };
    age_by(31 * 24 * 3600);
    let (well, text) = care(&bed);
    assert!(well && text.contains("comparing it with its checksums"), "{text}");
    assert!(care::load(&layout).scrubbed.is_some() && !care::load(&layout).damaged);
    let (_, text) = care(&bed);
    assert!(!text.contains("comparing"), "once a month: {text}");

    let disk = bed.disk();
    let at: u64 = sh(&format!("LC_ALL=C grep -obUaF -m1 {mark} {} | head -1 | cut -d: -f1", disk.display())).parse().expect("on the disk");
    sh(&format!("printf rotten | dd of={} bs=1 seek={at} conv=notrunc status=none; sync; echo 3 > /proc/sys/vm/drop_caches", disk.display()));
    age_by(31 * 24 * 3600);
    let (well, text) = care(&bed);
    assert!(!well && text.contains("damage that it could not mend") && text.contains("corruption"), "{text}");
    let counted = btrfs::devices(layout.snapshots()).expect("devices");
    assert!(counted[0].errors[3] > 0, "{counted:?}");
}

#[test]
fn c2_a_device_that_was_away_is_read_through_once_when_all_are_there() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let layout = bed.layout();
    let starts = |more: &str| {
        fs::write(bed.root.join("run/ast/booted"), format!("d=1\nwhy=good\nenv=ok\n{more}")).expect("booted");
        assert!(bed.run(&["first-boot"], None).status.success());
    };
    let scrubs = || care(&bed).1.contains("comparing it with its checksums");
    starts("");
    assert!(!scrubs());
    // A start from a menu's snapshot writes nothing down.
    starts("volatile=1\nmissing=2\n");
    assert!(!care::load(&layout).behind);
    // Nothing tells at the second start that the device was behind at the first.
    starts("behind=2\n");
    starts("");
    assert!(scrubs(), "{:?}", care::load(&layout));
    assert!(!scrubs(), "once: {:?}", care::load(&layout));
}

#[test]
fn c2_a_scrub_that_was_cut_off_goes_on_where_it_was() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let layout = bed.layout();
    let mut memory = bed.updates();
    memory.clock.before = Age(31 * 24 * 3600);
    updates::save(&layout, &mut memory).expect("saved");
    let uuid = btrfs::filesystem_uuid(layout.snapshots()).expect("uuid");
    let speed = format!("/sys/fs/btrfs/{uuid}/devinfo/1/scrub_speed_max");
    let status = || sh(&format!("btrfs scrub status -R {}", layout.snapshots().display()));
    // A slow disk, and the machine is switched off after some seconds: btrfs notes every five how far it is.
    fs::write(&speed, "8000000").expect("slow");
    let killed = "timeout -s KILL 12 \"$0\" --sysroot \"$1\" care; exit 0";
    let out = std::process::Command::new("setsid").args(["sh", "-c", killed]).arg(&bed.program).arg(&bed.root).output().expect("sh");
    assert!(out.status.success());
    sh(&format!("btrfs scrub cancel {} || true; sleep 1", layout.snapshots().display()));
    fs::write(&speed, "0").expect("fast");
    assert!(care::load(&layout).scrubbing && care::load(&layout).scrubbed.is_none(), "{:?} {}", care::load(&layout), status());
    let (well, text) = care(&bed);
    assert!(well, "{text}");
    assert!(status().contains("Scrub resumed:") && status().contains("finished"), "{}", status());
    assert!(care::load(&layout).scrubbed.is_some() && !care::load(&layout).scrubbing);
    // The next month's begins at the beginning.
    memory.clock.before = Age(70 * 24 * 3600);
    updates::save(&layout, &mut memory).expect("saved");
    assert!(care(&bed).0);
    assert!(status().contains("Scrub started:"), "{}", status());
}

#[test]
fn c2_space_that_belongs_to_no_chunk_comes_back() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let layout = bed.layout();
    let unallocated = || btrfs::devices(layout.snapshots()).expect("devices").iter().map(btrfs::Device::unallocated).sum::<u64>();
    // Every chunk is data, and nearly all of it is deleted again: a hole between any two files.
    let dir = bed.root.join("var/many");
    let (_, free) = btrfs::space(layout.snapshots()).expect("space");
    let files = (free >> 20).saturating_sub(24) / 8;
    sh(&format!(
        "mkdir {0}; for n in $(seq {files}); do fallocate -l 8M {0}/$n; done; sync; for n in $(seq {files}); do [ $((n % 12)) = 0 ] || rm {0}/$n; done; sync; btrfs filesystem sync {0}",
        dir.display()
    ));
    let before = unallocated();
    let (well, text) = care(&bed);
    assert!(well && text.contains("are unallocated"), "{before}: {text}");
    assert!(unallocated() > before, "{before} before, {} after: {text}", unallocated());
}
