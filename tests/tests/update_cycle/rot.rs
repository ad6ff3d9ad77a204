//! Updates of a machine that something has gone wrong with which only an update mends.

use std::fs;
use std::path::Path;

use ast::deploy;
use ast::id::{DeployId, SnapshotId};
use ast::layout::Part;
use ast::sys::btrfs;
use ast::updates::Cause;
use ast::work::Parts;
use ast_tests::lab::repo::State;

use super::bed::{Bed, skipped};
use super::years::promoted;

/// What rots or is meddled with in a sealed subvolume.
fn in_sealed(subvolume: &Path, work: impl FnOnce()) {
    btrfs::set_read_only(subvolume, false).expect("opened");
    work();
    btrfs::set_read_only(subvolume, true).expect("sealed");
}

#[test]
fn b2_b9_where_the_default_has_rotted_what_runs_is_updated_and_its_etc_goes_along() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let first = DeployId::new(1);
    fs::write(bed.layout().deployment_well(first), "1\n").expect("it has booted well");
    let (rotten, d) = promoted(&bed);
    let layout = bed.layout();
    let etc = |d: DeployId, name: &str| layout.deployment_part(d, Part::Etc).join(name);
    fs::write(etc(d, "of-the-rotten"), "x").expect("file");
    // Its set has no init any more; the initramfs has started the one before.
    let root = layout.set_part(bed.store().set_of(rotten).expect("whole"), Part::Root);
    in_sealed(&root, || fs::remove_dir_all(root.join("usr/lib/systemd")).expect("rotten"));
    bed.booted(&format!("d={first}\nset=0.1\nwhy=once\nwanted=deployment {d}\nreason=it has no init\nenv=ok\n"));
    fs::write(etc(first, "while-it-stood-in"), "mine").expect("file");

    bed.offer(State::V3);
    let said = bed.cycle();
    let block = bed.store().block().expect("block");
    let trial = block.trial.unwrap_or_else(|| panic!("nothing is tried: {said}")).deployment;
    let new = bed.store().snapshot_of(trial).expect("a record");
    assert_eq!(bed.store().tree().expect("tree").get(new).expect("there").parent, Some(SnapshotId::BASE));
    assert_eq!(fs::read_to_string(etc(trial, "while-it-stood-in")).expect("merged"), "mine");
    assert!(!etc(trial, "of-the-rotten").exists());
    assert!(bed.updates().blocked.is_empty());

    // At its first start the same /etc is asked again.
    fs::write(etc(first, "while-it-stood-in"), "mine, later").expect("file");
    bed.booted(&format!("d={trial}\nset={new}.1\nwhy=trial\narm={}\nleft=2\nenv=ok\nblock=raw\n", block.arm));
    assert!(bed.run(&["first-boot"], None).status.success());
    assert_eq!(fs::read_to_string(etc(trial, "while-it-stood-in")).expect("merged"), "mine, later");
    assert!(!etc(trial, "of-the-rotten").exists());

    // Where the default is whole, and only what runs is another one, it is what is updated.
    let store = bed.store();
    let plan = deploy::plan_fail_trial(&store, trial, block.arm, "test").expect("planned").expect("a trial");
    drop(store.lock(ast::sys::lock::Wait::No).expect("locked").run(plan).expect("cleared"));
    in_sealed(&root, || {
        let source = layout.set_part("0.1".parse().expect("set"), Part::Root).join("usr/lib/systemd");
        super::bed::sh(&format!("cp -a {} {}", source.display(), root.join("usr/lib").display()));
    });
    bed.booted(&format!("d={first}\nset=0.1\nwhy=once\nwanted=deployment {d}\nreason=it has no init\nenv=ok\n"));
    fs::remove_file(layout.document(ast::layout::UPDATES)).expect("forgotten");
    fs::remove_file(layout.document(&format!("{}.old", ast::layout::UPDATES))).expect("forgotten");
    bed.run(&["run", "--now"], None);
    let trial = bed.store().block().expect("block").trial.expect("a trial").deployment;
    let new = bed.store().snapshot_of(trial).expect("a record");
    assert_eq!(bed.store().tree().expect("tree").get(new).expect("there").parent, Some(rotten));
}

#[test]
fn u1_an_upgrade_that_pacman_refuses_is_remembered_with_its_cause() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let before = bed.subvolumes();
    // Somebody's file is where the new kernel puts one.
    let root = bed.layout().set_part("0.1".parse().expect("set"), Part::Root);
    let modules = new_modules(&bed);
    in_sealed(&root, || {
        fs::create_dir_all(root.join(&modules)).expect("dir");
        fs::write(root.join(&modules).join("modules.builtin"), "mine").expect("file");
    });
    bed.offer(State::V2);
    let out = bed.run(&["run"], None);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "somebody should look: {said}");
    let updates = bed.updates();
    assert_eq!(updates.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [Cause::Rejected], "{said}");
    assert!(updates.degraded.as_ref().is_some_and(|why| why.contains("exists in filesystem")), "{:?}", updates.degraded);
    assert!(bed.cycle().contains("not trying"));
    assert_eq!(bed.subvolumes(), before, "nothing is left");
}

/// Where version 2 of the kernel has its modules.
fn new_modules(bed: &Bed) -> String {
    bed.offer(State::V2);
    let packages = fs::read_dir(bed.link.join("")).expect("the mirror").flatten().map(|entry| entry.path());
    let kernel = packages.into_iter().find(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("linux-") && name.ends_with(".pkg.tar.zst") && !name.starts_with("linux-api")
    });
    let list = super::bed::sh(&format!("tar -tf {}", kernel.expect("a kernel").display()));
    let line = list.lines().find(|line| line.ends_with("/modules.builtin")).expect("modules");
    line.trim_end_matches("/modules.builtin").to_owned()
}

#[test]
fn b2_s12_a_kernel_or_an_image_that_rots_is_made_anew_with_the_next_update() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let layout = bed.layout();
    let sealed = |part: Part| layout.set_part("0.1".parse().expect("set"), part);
    let boot = sealed(Part::Boot);
    let read = |name: &str| fs::read(boot.join(name)).expect("there");
    let kernel = read("vmlinuz-linux");
    in_sealed(&boot, || {
        for name in ["vmlinuz-linux", "initramfs-linux.img"] {
            let mut bytes = read(name);
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(boot.join(name), bytes).expect("rotten");
        }
    });
    // An update without a kernel.
    let etc = sealed(Part::Etc).join("pacman.conf");
    let conf = fs::read_to_string(&etc).expect("pacman.conf");
    in_sealed(&sealed(Part::Etc), || fs::write(&etc, conf.replace("[options]", "[options]\nIgnorePkg = linux")).expect("written"));
    bed.offer(State::V2);
    let said = bed.cycle();
    assert!(said.contains("had rotted on disk, and was made anew: initramfs-linux.img, vmlinuz-linux"), "{said}");
    let d = bed.assert_armed("2-1");
    let armed = layout.deployment_part(d, Part::Boot);
    assert!(fs::read(armed.join("vmlinuz-linux")).expect("there") == kernel, "the very kernel of the package");
    assert_eq!(ast::work::check_sums(&armed).expect("readable"), Vec::<std::path::PathBuf>::new());
    assert!(ast::verify::check(&Parts::of_deployment(&layout, d), ast::verify::Disk::of(&layout)).is_empty(), "with an image that starts it");
}

#[test]
fn u1_s12_an_update_that_cannot_be_armed_gives_way_to_the_next() {
    if skipped() {
        return;
    }
    let bed = Bed::new();
    let layout = bed.layout();
    bed.offer(State::V2);
    // The /etc that runs cannot be merged into anything: something is in the way where a directory has to be.
    let base = layout.deployment_etc_base(DeployId::new(1));
    let away = base.with_file_name("away");
    fs::rename(&base, &away).expect("gone");
    for attempt in 1..=5 {
        let out = bed.run(&["run", "--now"], None);
        assert!(!out.status.success(), "attempt {attempt}: {}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(bed.updates().state.name(), "deploying", "attempt {attempt}");
    }
    fs::rename(&away, &base).expect("back");
    bed.offer(State::V3);
    bed.run(&["run", "--now"], None);
    bed.assert_armed("3-1");
}
