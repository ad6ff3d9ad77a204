//! `ast-initcpio` against a real btrfs in a private mount namespace (root): mounts, fallbacks, trials, volatile /etc.
#![allow(clippy::disallowed_methods)]

#[path = "initcpio/fixture.rs"]
mod fixture;

use ast::boot::{BootBlock, Mode, Trial};
use ast::cmdline::Why;
use ast::id::{ArmId, DeployId};
use fixture::{Disk, sh};

/// The one word of every mount at the root and below, as `PATH ro|rw SUBVOLUME`.
const MOUNTS: &str = r#"awk -v r="$R" 'index($5, r) == 1 { split($6, o, ","); p = substr($5, length(r) + 1); print (p == "" ? "/" : p), o[1], $4 }' /proc/self/mountinfo | sort"#;

#[test]
fn a_deployment_is_mounted_as_the_interface_says() {
    let disk = Disk::new();
    let look = format!(
        "{MOUNTS}; cat $R/usr/lib/name $R/etc/name $R/boot/vmlinuz-linux $R/boot/grub/grub.cfg; touch $R/x 2>&1 | grep -o Read-only; touch $R/boot/x 2>&1 | grep -o Read-only; echo edit > $R/etc/edited; echo v > $R/var/v; grep \"$R\" /proc/self/mounts | grep -c noatime"
    );
    let started = disk.start("ast.d=6 ast.why=good ast.env=ok ast.arm=4.", &look);
    let mut lines = started.seen.lines();
    let expected = [
        "/ ro /@.snapshots/deploy/6/root",
        "/.snapshots rw /@.snapshots",
        "/boot ro /@.snapshots/deploy/6/boot",
        "/boot/grub rw /@boot/grub",
        "/etc rw /@.snapshots/deploy/6/etc",
        "/home rw /@home",
        "/root rw /@root",
        "/var rw /@var",
        "/var/cache/pacman/pkg rw /@cache",
        "d6",
        "d6",
        "kernel-d6",
        "menu",
        "Read-only",
        "Read-only",
        "9",
    ];
    for want in expected {
        assert_eq!(lines.next(), Some(want), "{started:?}");
    }
    assert_eq!(lines.next(), None, "{started:?}");
    assert_eq!((started.status, started.booted.d, started.booted.why), (0, Some(DeployId::new(6)), Some(Why::Good)));
    assert_eq!(started.booted.set, "3.2".parse().ok(), "the set that it was cloned from");
    assert!(!started.booted.volatile && started.booted.wanted.is_none() && started.booted.env == Some(true));
    assert_eq!(started.said, "<6>ast: deployment 6 is the root (good)\n");
    // What was written is there after the next start.
    assert_eq!(disk.start("ast.d=6", "cat $R/etc/edited $R/var/v").seen, "edit\nv\n");
}

#[test]
fn b11_any_set_boots_with_this_machines_identity_and_leaves_nothing_behind() {
    let disk = Disk::new();
    let sums = || {
        disk.change(|top| {
            sh(&format!(
                "cd {}; find . -path ./@var -prune -o -type f -print | sort | xargs sha256sum; find . | sort | sha256sum",
                top.display()
            ))
        })
    };
    // Directories that a first start makes in the shared subvolumes are made once.
    disk.start("ast.d=6", "true");
    let before = (sums(), disk.block());
    for words in ["ast.set=3.2 ast.why=chosen", "ast.snapshot=3", "ast.d=6 ast.snapshot=3", "ast.d=7 ast.volatile ast.why=chosen"] {
        let look = "cd $R/etc; cat name machine-id ssh/ssh_host_rsa_key ssh/sshd_config systemd/network/10-lan.network; stat -c %a ssh/ssh_host_rsa_key; echo x > new; rm name; touch $R/x 2>&1 | grep -o Read-only; ls /run/ast";
        let started = disk.start(words, look);
        let want = if words.contains("volatile") {
            "d7\nid-d7\nkey-d7\nconfig-d7\nnet-d7\n600\nRead-only\nbooted\n"
        } else {
            "s3\nid-d6\nkey-d6\nconfig-s3\nnet-d6\n600\nRead-only\nbooted\n"
        };
        assert_eq!(started.seen, want, "{words}: {started:?}");
        assert!(started.booted.volatile && !started.booted.on_trial(), "{words}: {started:?}");
        assert_eq!((sums(), disk.block()), before, "{words} wrote something");
    }
}

#[test]
fn b11_a_full_disk_boots_any_snapshot() {
    let disk = Disk::of_size("200M");
    disk.change(|top| {
        sh(&format!("dd if=/dev/zero of={}/@var/fill bs=1M 2> /dev/null || true; sync", top.display()));
        assert!(std::fs::write(top.join("@var/more"), vec![7; 1 << 20]).is_err(), "the disk is not full");
    });
    assert_eq!(disk.start("ast.set=3.2", "cat $R/etc/machine-id").seen, "id-d6\n");
    assert_eq!(disk.start("ast.d=6 ast.why=good", "cat $R/etc/machine-id").seen, "id-d6\n");
}

#[test]
fn s9_var_is_exchanged_once_when_the_deployment_that_it_waits_for_starts_as_the_good_one() {
    let disk = Disk::new();
    disk.change(|top| {
        sh(&format!(
            "cd {}; for d in 5 6; do mkdir -p @.snapshots/vars/$d; btrfs -q subvolume snapshot @var kept; echo before $d > kept/log; touch kept/.ast-kept; mv kept @.snapshots/vars/$d/swap; done > /dev/null; echo now > @var/log",
            top.display()
        ));
    });
    let log = "cat $R/var/log; echo more >> $R/var/log; cat $R/.snapshots/vars/*/swap/log";
    // Not for another one, nor for one that is not the good one, nor where nothing may be written.
    assert_eq!(disk.start("ast.d=7 ast.why=chosen", log).seen, "now\nbefore 5\nbefore 6\n");
    assert_eq!(disk.start("ast.d=5 ast.why=load", "cat $R/var/log").seen, "now\nmore\n");
    assert_eq!(disk.start("ast.d=6 ast.volatile", "cat $R/var/log").seen, "now\nmore\n");
    let started = disk.start("ast.d=6 ast.why=good", log);
    assert_eq!(started.seen, "before 6\nbefore 5\nnow\nmore\n", "{started:?}");
    assert!(started.said.contains("/var is given back as it was"), "{started:?}");
    // Once: what was /var until then does not come back by itself.
    let started = disk.start("ast.d=6 ast.why=good", "cat $R/var/log");
    assert_eq!((started.seen.as_str(), started.said.lines().count()), ("before 6\nmore\n", 1), "{started:?}");
    // Cut between the exchange and the rest: the mark goes before anything else, so that nothing changes places twice.
    disk.change(|top| sh(&format!("touch {}/@var/.ast-kept", top.display())));
    let started = disk.start("ast.d=6 ast.why=good", "cat $R/var/log; ls -A $R/var");
    assert_eq!(started.seen, "before 6\nmore\ncache\nlog\n", "{started:?}");
}

/// A way to break deployment 6, and what the reason says of it.
const DAMAGES: [(&str, &str); 9] = [
    ("btrfs -q property set root ro false; btrfs -q subvolume delete root > /dev/null", "not there"),
    ("btrfs -q subvolume delete etc > /dev/null", "not there"),
    ("mv root away; mkdir root", "not there"),
    ("rmdir root/var", "no directory var"),
    ("rm root/usr/lib/systemd/systemd", "no init"),
    (": > root/usr/lib/systemd/systemd", "no init"),
    ("chmod 644 root/usr/lib/systemd/systemd", "no init"),
    ("rm root/usr/lib/os-release", "no usr/lib/os-release"),
    ("rm -r root/usr/lib/modules/*", "no modules for kernel"),
];

#[test]
fn b9_a_broken_root_is_replaced_by_the_one_before_it_if_that_has_the_modules() {
    for (damage, reason) in DAMAGES {
        let disk = Disk::new();
        disk.damage(6, damage);
        let before = disk.block();
        let started = disk.start("ast.d=6 ast.why=good", "cat $R/etc/name");
        assert_eq!((started.status, started.seen.as_str(), started.booted.d), (0, "d5\n", Some(DeployId::new(5))), "{damage}: {started:?}");
        assert_eq!(started.booted.wanted.as_deref(), Some("deployment 6"));
        assert!(started.booted.reason.as_deref().is_some_and(|r| r.contains(reason)), "{damage}: {started:?}");
        assert!(started.said.lines().count() <= 8 && started.said.starts_with("<3>ast: deployment 6 cannot be the root"), "{started:?}");
        assert_eq!(disk.block(), before, "{damage}: booting changed the block");
    }
}

#[test]
fn b9_without_modules_the_next_one_is_armed_once_and_the_machine_restarts() {
    let disk = Disk::new();
    disk.damage(6, "rm root/usr/lib/os-release");
    disk.damage(5, "mv root/usr/lib/modules/* root/usr/lib/modules/1.2.3");
    let started = disk.start("ast.d=6 ast.why=good", "ls $R");
    assert_eq!((started.status, started.seen.as_str()), (3, ""), "{started:?}");
    let once = Trial { deployment: DeployId::new(5), mode: Mode::Once, tries: 1 };
    let want = BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(5), trial: Some(once), ..BootBlock::new(DeployId::new(6)) };
    assert_eq!(disk.block(), want);
    assert!(started.said.contains("deployment 5 is started next"), "{started:?}");
}

#[test]
fn b9_when_nothing_is_whole_the_unattended_restart_and_the_attended_get_a_shell() {
    let disk = Disk::new();
    for d in [5, 6] {
        disk.damage(d, "rm root/usr/lib/os-release");
    }
    let before = disk.block();
    let alone = disk.start("ast.d=6 ast.why=good", "ls $R");
    assert_eq!((alone.status, alone.seen.as_str()), (3, ""), "{alone:?}");
    assert_eq!(disk.start("ast.d=6 ast.why=good ast.attended", "ls $R").status, 1);
    assert_eq!(disk.block(), before);
    // A damaged block, and no good one to fall back to.
    disk.damage(7, "rm root/usr/lib/os-release");
    ast::sys::file::write_in_place(disk.device.as_ref(), 1024 * 512, &[0; 512]).expect("A");
    ast::sys::file::write_in_place(disk.device.as_ref(), 1536 * 512, &[0; 512]).expect("B");
    assert_eq!(disk.start("ast.d=7", "ls $R").status, 3);
    assert_eq!(disk.start("", "ls $R").status, 3);
}

#[test]
fn b5_a_lost_block_keeps_nothing_from_booting() {
    let disk = Disk::new();
    ast::sys::file::write_in_place(disk.device.as_ref(), 1024 * 512, &[0; 512]).expect("A");
    ast::sys::file::write_in_place(disk.device.as_ref(), 1536 * 512, &[0; 512]).expect("B");
    for words in ["ast.d=6 ast.why=baked", "ast.set=3.2", "ast.d=7 ast.why=trial ast.arm=4.11 ast.env=ok"] {
        let started = disk.start(words, "cat $R/usr/lib/name");
        assert_eq!(started.status, 0, "{words}: {started:?}");
    }
}

fn armed(disk: &Disk, tries: u8) {
    let trial = Trial { deployment: DeployId::new(7), mode: Mode::Trial, tries };
    let block = BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(4), trial: Some(trial), ..BootBlock::new(DeployId::new(6)) };
    disk.medium().write(&block).expect("armed");
}

/// GRUB: takes one try, starts the trial.
fn start_trial(disk: &Disk, more: &str, look: &str) -> Option<fixture::Started> {
    let mut block = disk.block();
    let trial = block.trial.as_mut().expect("armed");
    trial.tries = trial.tries.checked_sub(1)?;
    let left = "1".repeat(trial.tries.into());
    disk.medium().write(&block).expect("counted");
    Some(disk.start_with(more, &format!("ast.d=7 ast.why=trial ast.arm=4.{left} ast.env=ok"), look))
}

#[test]
fn b3_power_cuts_after_the_initramfs_cost_no_try_five_times() {
    let disk = Disk::new();
    armed(&disk, 3);
    let mut left = Vec::new();
    while let Some(started) = start_trial(&disk, "", "cat $R/etc/name") {
        assert_eq!((started.status, started.seen.as_str(), started.booted.on_trial()), (0, "d7\n", true), "{started:?}");
        let tries = disk.block().trial.expect("trial").tries;
        assert_eq!((started.booted.left, started.booted.arm), (Some(tries), Some(ArmId::new(4))), "{started:?}");
        left.push(tries);
    }
    assert_eq!(left, [2, 2, 2, 2, 2, 2, 1, 0]);
    let stage = disk.stage().expect("stage");
    assert_eq!((stage.back, stage.evidence.len()), (5, 0));
}

#[test]
fn b3_evidence_keeps_the_try() {
    let disk = Disk::new();
    armed(&disk, 3);
    let directory = tempfile::tempdir().expect("dir");
    let more = format!("--pstore {}", directory.path().display());
    // Written by the program itself in the running system, as the units of a trial do.
    let look = format!("{} evidence gate: x --snapshots $R/.snapshots --kmsg /dev/null", fixture::program().display());
    start_trial(&disk, &more, &look).expect("first");
    assert_eq!(disk.stage().expect("stage").evidence, ["gate: x"]);
    start_trial(&disk, &more, "true").expect("second");
    assert_eq!(disk.block().trial.expect("trial").tries, 1, "given back in spite of the gate's verdict");
    std::fs::write(directory.path().join("dmesg-efi-1"), "panic").expect("record");
    start_trial(&disk, &more, "true").expect("third");
    assert_eq!(disk.block().trial.expect("trial").tries, 0, "given back in spite of a recorded panic");
    assert!(disk.stage().expect("stage").earlier.iter().any(|l| l.starts_with("pstore: dmesg-efi-1")));
    assert!(start_trial(&disk, &more, "true").is_none());
}

#[test]
fn b3_on_a_trial_the_firmware_keeps_records_of_a_panic_though_the_kernel_was_built_not_to_ask_it() {
    let disk = Disk::new();
    armed(&disk, 3);
    let switch = tempfile::NamedTempFile::new().expect("file");
    let set = |value: &str| std::fs::write(switch.path(), value).expect("set");
    let is = || std::fs::read_to_string(switch.path()).expect("read");
    let more = format!("--pstore-switch {}", switch.path().display());
    set("Y\n");
    disk.start_with(&more, "ast.d=6 ast.why=good ast.arm=4. ast.env=ok", "true");
    assert_eq!(is(), "Y\n", "only on a trial");
    let started = start_trial(&disk, &more, "true").expect("first");
    // A file keeps what an attribute of sysfs does not.
    assert!(is().starts_with('N') && started.booted.on_trial(), "{started:?}");
}

#[test]
fn b4_one_start_counts_once_however_often_the_program_runs() {
    let disk = Disk::new();
    let program = fixture::program().display();
    let again = format!(
        "umount -R $R; {program} mount $R --cmdline cmdline --kmsg /dev/null --watchdog /nowhere --pstore /nowhere --no-restart; cat $R/etc/name; grep left /run/ast/booted"
    );
    // By GRUB, which gave a try back at the start before.
    armed(&disk, 3);
    start_trial(&disk, "", "true").expect("first");
    let started = start_trial(&disk, "", &again).expect("second");
    assert_eq!((started.seen.as_str(), disk.block().trial.map(|t| t.tries)), ("d7\nleft=2\n", Some(2)), "{started:?}");
    assert_eq!(disk.stage().expect("stage").back, 1);
    // By the initramfs alone.
    let disk = Disk::new();
    armed(&disk, 3);
    let started = disk.start("ast.d=7 ast.why=trial ast.arm=4.111 ast.env=fail", &again);
    assert_eq!((started.seen.as_str(), disk.block().trial.map(|t| t.tries)), ("d7\nleft=2\n", Some(2)), "{started:?}");
    // And where it is spent, the trial is not started.
    armed(&disk, 0);
    let spent = disk.start("ast.d=7 ast.why=trial ast.arm=4. ast.env=fail", "cat $R/etc/name");
    assert_eq!((spent.status, spent.seen.as_str(), spent.booted.on_trial()), (0, "d6\n", false), "{spent:?}");
}

#[test]
fn b3_a_reset_by_the_watchdog_is_evidence() {
    let disk = Disk::new();
    armed(&disk, 3);
    let status = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(status.path(), "32\n").expect("status");
    let more = format!("--bootstatus {}", status.path().display());
    start_trial(&disk, &more, "true").expect("first");
    start_trial(&disk, &more, "true").expect("second");
    assert_eq!(disk.block().trial.expect("trial").tries, 1);
    std::fs::write(status.path(), "0\n").expect("status");
    start_trial(&disk, &more, "true").expect("third");
    assert_eq!(disk.block().trial.expect("trial").tries, 1, "a start after that one was only switched off");
}

#[test]
fn b1_a_trial_that_cannot_be_the_root_leaves_evidence_and_the_good_one_is_mounted() {
    let disk = Disk::new();
    armed(&disk, 3);
    disk.damage(7, "rm root/usr/lib/systemd/systemd");
    let started = start_trial(&disk, "", "cat $R/etc/name; find /run/systemd -type f 2> /dev/null").expect("started");
    assert_eq!((started.status, started.seen.as_str(), started.booted.on_trial()), (0, "d6\n", false), "{started:?}");
    assert_eq!(disk.stage().expect("stage").evidence, ["initramfs: deployment 7: it has no init"]);
    // Where the good one does not have this kernel's modules, GRUB has to start it.
    disk.damage(6, "mv root/usr/lib/modules/* root/usr/lib/modules/1.2.3");
    disk.damage(5, "mv root/usr/lib/modules/* root/usr/lib/modules/1.2.3");
    let started = start_trial(&disk, "", "ls $R").expect("started");
    assert_eq!((started.status, started.seen.as_str()), (3, ""), "{started:?}");
    assert_eq!(
        disk.block().trial,
        Some(Trial { deployment: DeployId::new(7), mode: Mode::Trial, tries: 1 }),
        "only GRUB counts a failed trial"
    );
    assert_eq!(disk.stage().expect("stage").evidence.len(), 1);
}

#[test]
fn b10_what_restarts_by_itself_exists_only_on_a_trial() {
    let disk = Disk::new();
    armed(&disk, 3);
    let look = "cd /run; find systemd -type f -o -type l | sort; cat systemd/system/*.d/* systemd/system/*.service | grep -E 'Timeout|Action|evidence' | sort -u";
    let started = start_trial(&disk, "", look).expect("started");
    // B14: no watchdog here, which is said; should one come later, systemd finds it.
    assert!(started.said.contains("this machine has no watchdog") && started.booted.watchdog.as_deref() == Some("none"), "{started:?}");
    for want in [
        "systemd/system.conf.d/zzz-ast-trial.conf\n",
        "systemd/system/emergency.service.d/99-ast-trial.conf\n",
        "systemd/system/rescue.service.d/99-ast-trial.conf\n",
        "systemd/system/ast-health.service.d/99-ast-trial.conf\n",
        "systemd/system/multi-user.target.d/99-ast-trial.conf\n",
        "systemd/system/sysinit.target.wants/ast-trial-deadline.timer\n",
        "JobTimeoutAction=reboot-force\n",
        "JobTimeoutSec=960\n",
        "FailureAction=reboot-force\n",
    ] {
        assert!(started.seen.contains(want), "{want} is missing: {}", started.seen);
    }
    for words in [
        "ast.d=6 ast.why=good",
        "ast.d=6 ast.why=exhausted ast.arm=4.",
        "ast.d=7 ast.why=once ast.arm=4.",
        "ast.d=7 ast.why=chosen",
        "ast.set=3.2",
    ] {
        assert_eq!(disk.start(words, "ls /run/systemd").seen, "ls: cannot access '/run/systemd': No such file or directory\n", "{words}");
    }
}

#[test]
fn a_root_without_shared_subvolumes_still_comes_up() {
    let disk = Disk::new();
    disk.change(|top| sh(&format!("cd {}; for s in @var @home @root @cache @boot; do btrfs -q subvolume delete $s; done", top.display())));
    let started = disk.start("ast.d=6 ast.why=good", "cat $R/etc/name; echo x > $R/var/x; cat $R/var/x");
    assert_eq!((started.status, started.seen.as_str()), (0, "d6\nx\n"), "{started:?}");
    assert!(started.said.lines().count() <= 8, "{started:?}");
}

/// The byte on a disk with single metadata at which the block with this logical address is.
fn physical(image: &str, logical: u64) -> u64 {
    let chunks = sh(&format!("btrfs inspect-internal dump-tree -t chunk {image} | grep -E 'CHUNK_ITEM|length|stripe 0'"));
    let number = |line: &str, after: &str| -> u64 {
        let text = line.split(after).nth(1).and_then(|rest| rest.trim_start().split([' ', ')']).next()).expect(after);
        text.parse().expect(after)
    };
    let lines: Vec<&str> = chunks.lines().collect();
    let mut found = lines.chunks(3).filter_map(|chunk| {
        let [key, length, stripe] = chunk else { return None };
        let (start, length) = (number(key, "CHUNK_ITEM"), number(length, "length"));
        (start..start + length).contains(&logical).then(|| number(stripe, "offset") + logical - start)
    });
    found.next().expect("a chunk")
}

/// A number out of the superblock.
fn superblock(image: &str, field: &str) -> u64 {
    sh(&format!("btrfs inspect-internal dump-super {image} | awk '$1 == \"{field}\" {{ print $2 }}'")).parse().expect(field)
}

#[test]
fn b9_a_log_that_cannot_be_replayed_is_dropped_and_the_machine_starts() {
    let disk = Disk::new();
    let crashed = disk.image().with_extension("crashed");
    // The power goes behind an fsync: the disk is copied as it is at that moment.
    disk.change(|top| {
        let top = top.display();
        sh(&format!("echo synced > {top}/@var/synced; btrfs filesystem sync {top} > /dev/null; dd if=/dev/zero of={top}/@var/last bs=4k count=9 conv=fsync status=none"));
        sh(&format!("cp --sparse=always {} {}", disk.image().display(), crashed.display()));
    });
    let crashed = crashed.display().to_string();
    let log = superblock(&crashed, "log_root");
    assert_ne!(log, 0, "nothing was logged");
    let at = physical(&crashed, log);
    let put_back = format!("dd if={crashed} of={} bs=1M conv=notrunc,fsync status=none", disk.device);

    // A whole log is replayed, and nobody says a word.
    sh(&put_back);
    let started = disk.start("ast.d=6 ast.why=good", "cat $R/var/synced; stat -c %s $R/var/last");
    assert_eq!((started.status, started.seen.as_str()), (0, "synced\n36864\n"), "{started:?}");
    assert!(!started.said.contains("log"), "{started:?}");

    // A damaged one would keep this machine from starting for ever, whatever deployment is chosen.
    sh(&put_back);
    sh(&format!("dd if=/dev/urandom of={} bs=1 seek={at} count=16384 conv=notrunc,fsync status=none", disk.device));
    let started = disk.start("ast.d=6 ast.why=good", "cat $R/var/synced; touch $R/var/new $R/etc/new && echo writable");
    assert_eq!((started.status, started.seen.as_str()), (0, "synced\nwritable\n"), "{started:?}");
    assert!(started.said.contains("its log was damaged and is dropped") && !started.booted.volatile, "{started:?}");
    let told = |started: &fixture::Started, what: &str| matches!(started.booted.disk.as_slice(), [line] if line.contains(what));
    assert!(told(&started, "its log was damaged and is dropped"), "{started:?}");
    sh(&format!("btrfs check --readonly {} > /dev/null 2>&1", disk.device));
    // Once is enough.
    let started = disk.start("ast.d=6 ast.why=good", "ls $R/var/new");
    assert!(started.status == 0 && started.said == "<6>ast: deployment 6 is the root (good)\n", "{started:?}");
    assert!(started.booted.disk.is_empty(), "{started:?}");
}

#[test]
fn b9_a_torn_superblock_is_replaced_by_its_copy() {
    let disk = Disk::new();
    // Of the eight sectors that were being written the last four are of another time.
    sh(&format!("dd if=/dev/urandom of={} bs=512 seek=132 count=4 conv=notrunc,fsync status=none", disk.device));
    let started = disk.start("ast.d=6 ast.why=good", "touch $R/var/new && echo writable");
    assert_eq!((started.status, started.seen.as_str()), (0, "writable\n"), "{started:?}");
    assert!(started.said.contains("its first superblock was damaged"), "{started:?}");
    assert!(matches!(started.booted.disk.as_slice(), [line] if line.contains("its first superblock was damaged")), "{started:?}");
    sh(&format!("btrfs check --readonly {} > /dev/null 2>&1", disk.device));
    let started = disk.start("ast.d=6 ast.why=good", "true");
    assert!(started.status == 0 && !started.said.contains("superblock"), "{started:?}");
}

#[test]
fn b9_a_tree_without_its_root_starts_read_only_by_an_older_one() {
    let disk = Disk::new();
    // The machine has been running for a while: what is needed is in older trees too.
    disk.change(|top| (0..4).for_each(|n| drop(sh(&format!("echo {n} > {0}/@var/n; btrfs filesystem sync {0}", top.display())))));
    let image = disk.image().display().to_string();
    let at = physical(&image, superblock(&image, "root"));
    sh(&format!("dd if=/dev/urandom of={} bs=1 seek={at} count=16384 conv=notrunc,fsync status=none", disk.device));
    let started = disk.start("ast.d=6 ast.why=good", "cat $R/usr/lib/name; touch $R/var/x $R/etc/x $R/home/x && echo writable");
    assert_eq!((started.status, started.seen.as_str()), (0, "d6\nwritable\n"), "{started:?}");
    assert!(started.said.contains("rescue=usebackuproot") && started.booted.volatile, "{started:?}");
    assert!(started.booted.disk.iter().any(|line| line.contains("rescue=usebackuproot")), "{started:?}");
}

#[test]
fn b9_a_disk_that_cannot_be_written_starts_and_is_left_as_it_is() {
    let mut disk = Disk::new();
    let image = disk.image().display().to_string();
    let sum = || sh(&format!("sha256sum < {image}"));
    let before = sum();
    // Not by `blockdev --setro`, which a loop device keeps for whoever gets it next.
    sh(&format!("losetup -d {}", disk.device));
    disk.device = sh(&format!("losetup -r -f --show {image}"));
    let look = "cat $R/var/log; for dir in var etc home root; do touch $R/$dir/x && echo $dir; done; touch $R/.snapshots/x 2>&1 | grep -o Read-only";
    let started = disk.start("ast.d=6 ast.why=good", look);
    assert_eq!((started.status, started.seen.as_str()), (0, "log\nvar\netc\nhome\nroot\nRead-only\n"), "{started:?}");
    assert!(started.said.contains("mounted read-only") && started.booted.volatile, "{started:?}");
    assert!(matches!(started.booted.disk.as_slice(), [line] if line.contains("mounted read-only")), "{started:?}");
    assert_eq!(sum(), before);
}
