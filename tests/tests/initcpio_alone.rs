//! Where the initramfs counts alone (`ast.block=local`): GRUB starts what the block says for as long as it says so, whatever becomes of it. Against
//! a real btrfs in a private mount namespace (root).
#![allow(clippy::disallowed_methods)]

#[path = "initcpio/fixture.rs"]
mod fixture;

use ast::boot::booted::Booted;
use ast::boot::medium::Medium;
use ast::boot::{BootBlock, Mode, Trial};
use ast::cmdline::Why;
use ast::id::{ArmId, DeployId};
use fixture::{Disk, Started, sh};

const MODULES_GO: &str = "mv root/usr/lib/modules/* root/usr/lib/modules/1.2.3";

/// A machine with 7 armed in a block that GRUB only reads.
fn machine(size: &str, mode: Mode, tries: u8) -> Disk {
    let disk = Disk::of_size(size);
    let trial = Some(Trial { deployment: DeployId::new(7), mode, tries });
    let block = BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(4), trial, ..BootBlock::new(DeployId::new(6)) };
    disk.change(|top| local(top).create(&block).expect("a block"));
    disk
}

fn local(top: &std::path::Path) -> Medium {
    Medium::Local { path: top.join("@.snapshots/ast/bootblock") }
}

fn block(disk: &Disk) -> BootBlock {
    disk.change(|top| local(top).read().current().expect("a whole copy").1.clone())
}

/// GRUB: what the block says, and that nobody has counted it.
fn grub_starts(disk: &Disk, look: &str) -> Started {
    let block = block(disk);
    let words = match block.trial {
        Some(trial) if trial.tries > 0 => {
            format!("ast.d={} ast.why={} ast.arm={}.{}", trial.deployment, trial.mode, block.arm, "1".repeat(trial.tries.into()))
        }
        Some(_) => format!("ast.d={} ast.why=exhausted ast.arm={}.", block.good, block.arm),
        None => format!("ast.d={} ast.why=good ast.arm={}.", block.good, block.arm),
    };
    disk.start(&format!("{words} ast.env=fail ast.block=local"), look)
}

/// The good one runs, is no trial, and says why.
fn good_runs(started: &Started, reason: &str) {
    assert_eq!((started.status, started.seen.lines().next()), (0, Some("d6")), "{started:?}");
    let Booted { d, why, wanted, reason: told, .. } = &started.booted;
    assert_eq!((*d, *why, wanted.as_deref()), (Some(DeployId::new(6)), Some(Why::NoSave), Some("deployment 7")), "{started:?}");
    assert!(told.as_deref().is_some_and(|told| told.contains("its start cannot be counted") && told.contains(reason)), "{started:?}");
    assert!(started.said.lines().count() <= 8, "{started:?}");
}

#[test]
fn b1_alone_a_trial_that_cannot_be_counted_is_not_started() {
    for (fault, mend, reason) in [
        // The block alone: its extents, its inode.
        ("chattr +i bootblock", "chattr -i bootblock", "overwrite in place"),
        ("mv bootblock away", "mv away bootblock", "cannot be read"),
        // Everything: the mark of the start, too.
        ("chattr +i bootblock .", "chattr -i bootblock .", "overwrite in place"),
    ] {
        let disk = machine("400M", Mode::Trial, 3);
        disk.change(|top| sh(&format!("mkdir -p {0}/@boot/grub/ast; cd {0}/@.snapshots/ast; {fault}", top.display())));
        // GRUB's own word for the good one, where the block does not tell.
        let baked = ast::boot::block::encode_env(&[("ast_baked_good".into(), "6".into()), ("ast_end".into(), "1".into())], 512).expect("fits");
        disk.change(|top| std::fs::write(top.join("@boot/grub/ast/good.cfg"), baked).expect("good.cfg"));
        let words = "ast.d=7 ast.why=trial ast.arm=4.111 ast.env=fail ast.block=local";
        for _ in 0..2 {
            good_runs(&disk.start(words, "cat $R/etc/name; ls /run/systemd 2> /dev/null"), reason);
        }
        // When it can be counted again it is, and begins with all its tries.
        disk.change(|top| sh(&format!("cd {}/@.snapshots/ast; {mend}", top.display())));
        let started = grub_starts(&disk, "cat $R/etc/name");
        assert_eq!((started.seen.as_str(), started.booted.on_trial(), started.booted.left), ("d7\n", true, Some(2)), "{fault}: {started:?}");
    }
}

#[test]
fn b1_alone_a_trial_on_a_full_disk_is_not_started() {
    let disk = machine("200M", Mode::Trial, 3);
    let full = disk.change(|top| {
        // Small files are in the metadata, which a write needs a place in.
        sh(&format!(
            "cd {}/@var; mkdir small; dd if=/dev/zero of=fill bs=1M 2> /dev/null || true; sync; i=0
             while head -c 1500 /dev/zero > small/$i 2> /dev/null; do i=$((i+1)); done; sync
             while head -c 1500 /dev/zero > small/$i 2> /dev/null; do i=$((i+1)); done; echo $i",
            top.display()
        ));
        let block = local(top).read().current().expect("whole").1.clone();
        local(top).write(&block).is_err()
    });
    // What btrfs keeps back may be enough for this one write: then it was counted, which is as good.
    let started = grub_starts(&disk, "cat $R/etc/name");
    println!("full: {full}, {started:?}");
    match started.seen.as_str() {
        "d6\n" => good_runs(&started, "overwrite in place"),
        _ => assert_eq!((started.seen.as_str(), block(&disk).trial.map(|t| t.tries)), ("d7\n", Some(2)), "{started:?}"),
    }
}

#[test]
fn b1_alone_on_a_disk_that_can_only_be_read_the_good_one_runs_with_the_modules_that_there_are() {
    let mut disk = machine("400M", Mode::Trial, 3);
    let image = disk.image().display().to_string();
    let read_only = |disk: &mut Disk, on: bool| {
        sh(&format!("losetup -d {}", disk.device));
        disk.device = sh(&format!("losetup {} -f --show {image}", if on { "-r" } else { "" }));
    };
    let words = "ast.d=7 ast.why=trial ast.arm=4.111 ast.env=fail ast.block=local";
    read_only(&mut disk, true);
    good_runs(&disk.start(words, "cat $R/etc/name; ls /run/systemd 2> /dev/null"), "can only be read");
    // Nobody can tell GRUB to start the good one with its own kernel.
    read_only(&mut disk, false);
    disk.damage(6, MODULES_GO);
    disk.damage(5, MODULES_GO);
    read_only(&mut disk, true);
    let look = "cat $R/etc/name; ls $R/usr/lib/modules; touch $R/usr/lib/modules/x 2>&1 | grep -o Read-only";
    let started = disk.start(words, look);
    good_runs(&started, "can only be read");
    assert_eq!(started.seen, format!("d6\n{}\nRead-only\n", fixture::release()), "{started:?}");
    assert!(started.said.contains("deployment 6 has no modules for this kernel, and gets those of deployment 7"), "{started:?}");
    // Not even those: still better than a restart for ever.
    read_only(&mut disk, false);
    disk.damage(7, "rm -r root/usr/lib");
    read_only(&mut disk, true);
    let started = disk.start(words, "cat $R/etc/name; ls $R/usr/lib/modules");
    good_runs(&started, "can only be read");
    assert_eq!(started.seen, "d6\n1.2.3\n", "{started:?}");
    // Attended, a person decides.
    assert_eq!(disk.start(&format!("{words} ast.attended"), "true").status, 1);
}

#[test]
fn b9_alone_where_grub_cannot_be_told_the_one_before_runs_with_the_modules_that_there_are() {
    let disk = machine("400M", Mode::Trial, 0);
    disk.damage(6, "rm root/usr/lib/os-release");
    disk.damage(5, MODULES_GO);
    disk.change(|top| sh(&format!("chattr +i {}/@.snapshots/ast/bootblock", top.display())));
    let started = grub_starts(&disk, "cat $R/etc/name; ls $R/usr/lib/modules");
    assert_eq!((started.status, started.seen.as_str()), (0, format!("d5\n{}\n", fixture::release()).as_str()), "{started:?}");
    assert_eq!((started.booted.d, started.booted.wanted.as_deref()), (Some(DeployId::new(5)), Some("deployment 6")), "{started:?}");
    // Where it can be, GRUB is told, and starts it with its own kernel.
    disk.change(|top| sh(&format!("chattr -i {}/@.snapshots/ast/bootblock", top.display())));
    assert_eq!(grub_starts(&disk, "true").status, 3);
    let once = Some(Trial { deployment: DeployId::new(5), mode: Mode::Once, tries: 1 });
    assert_eq!(block(&disk).trial, once);
    // GRUB was told, and could not count it: told again it could not either.
    let look = "cat $R/etc/name; ls $R/usr/lib/modules";
    let started = disk.start("ast.d=6 ast.why=nosave ast.arm=5.1 ast.env=fail", look);
    assert_eq!((started.status, started.seen.as_str()), (0, format!("d5\n{}\n", fixture::release()).as_str()), "{started:?}");
}

#[test]
fn b4_alone_one_start_asked_for_by_hand_is_one() {
    let disk = machine("400M", Mode::Once, 1);
    let started = grub_starts(&disk, "cat $R/etc/name; ls /run/systemd 2> /dev/null");
    assert_eq!((started.status, started.seen.lines().next(), started.booted.why), (0, Some("d7"), Some(Why::Once)), "{started:?}");
    assert!(!started.booted.on_trial() && disk.stage().is_none(), "{started:?}");
    assert_eq!(block(&disk).trial.map(|t| t.tries), Some(0));
    assert_eq!(grub_starts(&disk, "cat $R/etc/name").seen, "d6\n");
    // And none where nothing would count it.
    let disk = machine("400M", Mode::Once, 1);
    disk.change(|top| sh(&format!("chattr +i {}/@.snapshots/ast/bootblock", top.display())));
    good_runs(&grub_starts(&disk, "cat $R/etc/name"), "overwrite in place");
    disk.change(|top| sh(&format!("chattr -i {}/@.snapshots/ast/bootblock", top.display())));
    // Where GRUB counts, it has counted this one already.
    let disk = Disk::new();
    let before = disk.block();
    assert_eq!(disk.start("ast.d=7 ast.why=once ast.arm=4. ast.env=ok", "cat $R/etc/name").seen, "d7\n");
    assert_eq!(disk.block(), before);
}

#[test]
fn s4_alone_grub_sees_the_try_that_the_initramfs_has_taken() {
    let disk = machine("400M", Mode::Trial, 3);
    let image = disk.image().display();
    // The power goes: GRUB reads no log, so what a start has only fsynced did not happen for it.
    let started = grub_starts(&disk, &format!("cp --sparse=always {image} {image}.cut"));
    assert_eq!((started.status, started.booted.left), (0, Some(2)), "{started:?}");
    let cut = format!("{image}.cut");
    let bytes = ast_tests::cut::grub_view(cut.as_ref(), "loop0", "/@.snapshots/ast/bootblock").expect("GRUB reads it");
    let seen = BootBlock::parse(bytes.get(..512).expect("a block")).expect("whole");
    assert_eq!(seen.trial.map(|t| t.tries), Some(2));
}
