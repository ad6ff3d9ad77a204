//! One block of the disk that cannot be read (S10): with the profile `single` a bad sector of a file of ours, or one whose checksum does not fit, is an EIO
//! for ever. While its twin can be read, or it can be made anew, that is damage like any other: told, mended, and no end of anything.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::path::{Path, PathBuf};

use ast::boot::block::BootBlock;
use ast::boot::medium::{Medium, Which};
use ast::deploy::{self, Etc, How};
use ast::layout::{self, Part};
use ast::store::document::{self, DocumentError};
use ast::store::machine::{Block, Machine};
use ast::sys::{btrfs, file};
use ast::updates::{self, Updates};
use common::*;

/// A machine with snapshots 1 and 2, whose short files can be spoilt.
fn machine() -> Machine1 {
    with_two(Machine1::new(Block::Raw))
}

fn with_two(machine: Machine1) -> Machine1 {
    machine.keep_short_files_apart();
    for description in ["one", "two"] {
        ok(&machine, &["new", description]);
    }
    machine
}

fn document_at(machine: &Machine1, name: &str) -> PathBuf {
    machine.layout().document(name)
}

/// The verb did what it should, and told of this.
fn did(machine: &Machine1, words: &[&str], told: &[&str]) {
    let said = ast(machine, words);
    eprintln!("{words:?}: {}{}", said.out, said.err);
    assert!(matches!(said.code, 0 | 5), "{words:?}: {said:?}");
    for part in told {
        assert!(said.err.contains(part), "{words:?} does not say {part:?}: {}", said.err);
    }
}

/// What `doctor` finds wrong.
fn found(machine: &Machine1) -> String {
    ast(machine, &["doctor"]).out
}

/// Nothing is wrong any more: the next repair has nothing to do and may delete.
fn assert_well(machine: &Machine1) {
    let locked = machine.lock();
    let repaired = locked.repaired();
    assert!(repaired.problems.is_empty() && repaired.mended.is_empty(), "{repaired:?}");
    assert!(locked.may_delete());
}

#[test]
fn s3_a_tree_that_cannot_be_read_is_that_of_its_older_copy() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::TREE);
    let (older, kept) = (file::old_copy(&path).expect("a name"), path.with_extension("json.damaged"));
    for cut in [false, true] {
        let before = machine.store().tree().expect("a tree").clone();
        machine.spoil(&[&path]);
        if cut {
            // The power went when it had its second name and no successor yet.
            file::set_aside(&path).expect("set aside");
        }
        // All that is there is seen, and that something is wrong.
        assert_eq!(machine.store().tree().expect("a tree").nodes().count(), before.nodes().count());
        assert!(found(&machine).contains("tree.json is damaged: it cannot be read"), "{}", found(&machine));
        let sets = machine.on_disk();
        did(&machine, &["--yes", "desc", "1", if cut { "cut" } else { "described" }], &["repaired: the tree was rebuilt", "Input/output error"]);
        assert_eq!(machine.on_disk(), sets, "something was deleted on the word of an older copy");
        for path in [&path, &older] {
            assert!(document::load::<ast::tree::Tree>(path).is_ok_and(|tree| tree.damage.is_none()), "{} is not whole", path.display());
        }
        assert!(file::read(&kept).expect_err("it was mended by nobody").is_unreadable(), "the unreadable one is kept, and its sector with it");
        assert_well(&machine);
    }
    did(&machine, &["--yes", "del", "2"], &[]);
    assert!(!machine.on_disk().contains(&"set 2.1".to_owned()), "nothing is deleted any more");
}

#[test]
fn s3_both_copies_that_cannot_be_read_are_an_error_of_the_disk() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::TREE);
    let older = file::old_copy(&path).expect("a name");
    machine.spoil(&[&path, &older]);
    let on_disk = machine.on_disk();
    assert!(matches!(document::load::<ast::tree::Tree>(&path), Err(DocumentError::Sys(_))));
    let said = ast(&machine, &["--yes", "desc", "1", "described"]);
    assert!(said.code == 1 && said.err.contains("tree.json: Input/output error"), "{said:?}");
    assert_eq!(machine.on_disk(), on_disk);
}

#[test]
fn s13_what_a_newer_ast_wrote_is_not_written_over_when_it_cannot_be_read() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::UPDATES);
    let newer = String::from_utf8(document::encode(&path, &Updates::default()).expect("bytes")).expect("text");
    file::replace(&path, newer.as_bytes()).expect("written");
    file::replace(&file::old_copy(&path).expect("a name"), newer.replace("\"min_writer\": 1", "\"min_writer\": 2").as_bytes()).expect("written");
    machine.spoil(&[&path]);
    let refused = document::save(&path, &Updates::default());
    assert!(matches!(refused, Err(DocumentError::NewerToWrite { needs: 2, .. })), "{refused:?}");
}

#[test]
fn s3_what_is_said_of_the_machine_is_taken_from_the_older_copy() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::MACHINE);
    let older = file::old_copy(&path).expect("a name");
    // The same in other bytes, so that only one of the two is spoilt.
    let value: serde_json::Value = serde_json::from_slice(&file::read(&path).expect("read")).expect("JSON");
    file::replace(&older, value.to_string().as_bytes()).expect("written");
    // The installer wrote it, into the metadata.
    file::replace(&path, &file::read(&path).expect("read")).expect("written");
    machine.spoil(&[&path]);
    assert!(found(&machine).contains("machine.json is damaged: it cannot be read"), "{}", found(&machine));
    did(&machine, &["--yes", "desc", "1", "described"], &["repaired: machine.json was written anew", "Input/output error"]);
    assert!(document::load::<Machine>(&path).is_ok_and(|machine| machine.damage.is_none()));
    assert_well(&machine);
    // An older copy that cannot be read is told, and written anew as well.
    file::replace(&path, value.to_string().as_bytes()).expect("written");
    machine.spoil(&[&older]);
    assert!(found(&machine).contains("machine.json.old: Input/output error"), "{}", found(&machine));
    did(&machine, &["--yes", "desc", "1", "again"], &[]);
    assert!(document::load::<Machine>(&older).is_ok());
}

#[test]
fn u9_a_memory_of_updates_that_cannot_be_read_ends_no_cycle() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::UPDATES);
    let layout = machine.layout();
    updates::pause(&layout, None).expect("kept");
    updates::resume(&layout).expect("kept");
    machine.spoil(&[&path]);
    assert!(found(&machine).contains("updates.json is damaged: it cannot be read"), "{}", found(&machine));
    // Nothing is deleted while one of the two says what happened last, and the other cannot be asked.
    assert!(!machine.lock().may_delete());
    assert!(updates::load(&layout).expect("the older copy").pause.is_some());
    did(&machine, &["auto-upgrade", "--resume"], &["updates.json is damaged: it cannot be read: Input/output error"]);
    assert!(document::load::<Updates>(&path).is_ok_and(|memory| memory.damage.is_none() && memory.body.pause.is_none()));
    assert_well(&machine);
    // Without any copy it begins with nothing: a machine that cannot remember must still update itself.
    machine.spoil(&[&path, &file::old_copy(&path).expect("a name")]);
    let mut memory = updates::load(&layout).expect("an empty memory");
    updates::save(&layout, &mut memory).expect("kept");
    assert!(document::load::<Updates>(&path).is_ok_and(|memory| memory.damage.is_none()));
}

#[test]
fn s6_numbers_that_cannot_be_read_end_no_deploy_and_are_not_given_twice() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::NUMBERS);
    let deployed = |machine: &Machine1| {
        let mut locked = machine.lock();
        let (plan, d) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan");
        drop(locked.run(plan).expect("committed"));
        d
    };
    // The first one leaves no older copy.
    let mut last = deployed(&machine);
    for _ in 0..2 {
        machine.spoil(&[&path]);
        assert!(found(&machine).contains("numbers.json"), "{}", found(&machine));
        assert!(!machine.lock().may_delete());
        let next = deployed(&machine);
        assert!(next > last, "{next} after {last}");
        assert!(machine.lock().may_delete());
        last = deployed(&machine);
    }
}

#[test]
fn b5_a_copy_of_the_boot_block_that_cannot_be_read_is_written_from_the_other() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::MACHINE);
    let about = document::load::<Machine>(&path).expect("machine").body;
    Machine { block: Block::Files { uuid: "ABCD-1234".into() }, ..about }.save(&machine.layout()).expect("saved");
    // The directory is in the btrfs, where it can be spoilt, and the disk is taken out and put in.
    file::make_dirs(&machine.root.join("var/efi")).expect("made");
    std::os::unix::fs::symlink("var/efi", machine.root.join("efi")).expect("linked");
    let files = Medium::Mounted { dir: machine.root.join("efi") };
    files.create(&BootBlock::new(d(1))).expect("created");
    assert_eq!(machine.medium(), files);
    for (which, name, copy) in [(Which::A, "A", layout::FILE_BLOCK_A), (Which::B, "B", layout::FILE_BLOCK_B)] {
        // As GRUB leaves it: it counts in the one that it reads.
        let block = BootBlock { cap: 1, ..machine.store().block().expect("a block") };
        files.write_one(which, &block).expect("written");
        let file = machine.root.join("efi").join(copy);
        machine.spoil(&[&file]);
        assert!(found(&machine).contains(&format!("copy {name}: cannot read")), "{}", found(&machine));
        did(&machine, &["--yes", "desc", "1", name], &[&format!("repaired: copy {name} of the boot block")]);
        assert!(files.read().agree());
        assert_well(&machine);
        files.write(&BootBlock { cap: 0, ..block }).expect("written");
    }
}

/// A disk whose image is a file of another btrfs: where that one is spoilt, the disk has a bad sector, and a write mends it.
struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn of(image: &Path) -> Self {
        let host = Self { dir: tempfile::tempdir_in("/dev/shm").expect("dir") };
        std::fs::File::create(host.image()).and_then(|file| file.set_len(600 << 20)).expect("image");
        host.run("mkfs.btrfs", &["-q", "-f", &host.image().to_string_lossy()]);
        std::fs::create_dir(host.dir.path().join("seen")).expect("dir");
        host.mount();
        host.run("cp", &["--sparse=always", &image.to_string_lossy(), &host.disk().to_string_lossy()]);
        host
    }

    fn image(&self) -> PathBuf {
        self.dir.path().join("image")
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("seen/disk")
    }

    fn run(&self, program: &str, args: &[&str]) {
        let out = std::process::Command::new(program).args(args).output().expect(program);
        assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    fn mount(&self) {
        self.run("mount", &["-o", "loop", &self.image().to_string_lossy(), &self.dir.path().join("seen").to_string_lossy()]);
    }

    fn unmount(&self) {
        let seen = self.dir.path().join("seen");
        // The kernel gives up a loop device a moment after its last user.
        for _ in 0..500 {
            if ast::sys::mount::unmount(&seen).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{} stays mounted", seen.display());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(ast::sys::mount::unmount_lazy(&self.dir.path().join("seen")));
    }
}

#[test]
fn b5_a_raw_copy_that_cannot_be_read_is_written_without_being_read() {
    if skipped() {
        return;
    }
    let mut host = None;
    let mut machine = with_two(Machine1::behind(Block::Raw, |image| host.insert(Host::of(image)).disk()));
    let host = host.expect("a host");
    for (which, name, sector) in [(Which::A, "A", layout::RAW_BLOCK_A_SECTOR), (Which::B, "B", layout::RAW_BLOCK_B_SECTOR)] {
        let block = BootBlock { cap: sector as u32, ..machine.store().block().expect("a block") };
        machine.medium().write_one(which, &block).expect("written");
        machine.unplug();
        // Its loop device is gone before anything else sees it.
        file::syncfs(&host.disk()).expect("synced");
        host.unmount();
        spoil_in(&host.image(), &block.encode().expect("bytes"));
        host.mount();
        assert!(file::read_at(&host.disk(), sector * 512, 512).expect_err("it can be read").is_unreadable());
        machine.plug();
        assert!(machine.medium().prove().is_err());
        assert!(found(&machine).contains(&format!("copy {name}: cannot read")), "{}", found(&machine));
        did(&machine, &["--yes", "desc", "1", name], &[&format!("repaired: copy {name} of the boot block")]);
        assert!(machine.medium().read().agree());
        machine.medium().prove().expect("it keeps what is written");
        assert_well(&machine);
        machine.plug_again();
        assert!(machine.medium().read().agree(), "it was in memory only");
    }
}

#[test]
fn b16_a_file_of_the_menu_that_cannot_be_read_is_made_anew() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let dir = machine.root.join("boot/grub/ast");
    // Two generations of the baked entry.
    drop(ok(&machine, &["desc", "1", "described"]));
    file::replace(&dir.join("good.prev.cfg"), &[file::read(&dir.join("good.cfg")).expect("read").as_slice(), b"\n"].concat()).expect("written");
    for (at, name) in ["snapshots.cfg", "snapshots.sums", "snapshots.prev.cfg", "menu.cfg", "menu.sums", "menu.prev.sums", "good.cfg", "good.prev.cfg"].iter().enumerate() {
        let file = dir.join(name);
        ok(&machine, &["new", name]);
        let new = format!("set {}.1", at + 3);
        assert!(machine.on_disk().contains(&new));
        machine.spoil(&[&file]);
        assert!(found(&machine).contains(&format!("{name}: Input/output error")), "{name}: {}", found(&machine));
        did(&machine, &["--yes", "del", &(at + 3).to_string()], &["repaired: a file of the menu was made anew", &format!("{name}: Input/output error")]);
        assert!(file::read(&file).is_ok_and(|bytes| !bytes.is_empty()), "{name} is not made anew");
        assert!(!machine.on_disk().contains(&new), "{name}: nothing is deleted any more");
        assert_well(&machine);
    }
}

#[test]
fn s10_a_history_that_cannot_be_read_is_begun_anew() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let path = document_at(&machine, layout::HISTORY);
    machine.spoil(&[&path]);
    did(&machine, &["--yes", "desc", "1", "described"], &["history.jsonl: Input/output error"]);
    assert!(ok(&machine, &["history"]).contains("described"));
    assert!(path.with_extension("jsonl.damaged").exists());
    did(&machine, &["--yes", "del", "2"], &[]);
    assert_eq!(ok(&machine, &["history"]).lines().count(), 2);
    assert_well(&machine);
}

#[test]
fn u7_a_file_of_etc_that_cannot_be_read_fails_no_deploy() {
    if skipped() {
        return;
    }
    let mut machine = machine();
    let layout = machine.layout();
    let etc_of = |name: &str| layout.set_part(set(name), Part::Etc);
    let write_into = |etc: &Path, files: &[(&str, &str)]| {
        btrfs::set_read_only(etc, false).expect("opened");
        for (name, text) in files {
            file::replace(&etc.join(name), text.as_bytes()).expect("written");
        }
        btrfs::set_read_only(etc, true).expect("sealed");
    };
    write_into(&etc_of("1.1"), &[("cache", "cache of one"), ("hosts", "hosts of one"), ("same", "same in both"), ("gone", "gone here"), ("passwd", "root:x:0:0::/:\n")]);
    write_into(&etc_of("2.1"), &[("cache", "cache of two"), ("hosts", "hosts of two"), ("gone", "gone of two"), ("bad", "bad of two"), ("passwd", "root:x:0:0::/:\n")]);
    let merged = |machine: &Machine1, of: u32, etc| {
        let mut locked = machine.lock();
        let (plan, new) = deploy::plan_deploy(&locked, n(of), How::NoTrial, etc).expect("a plan");
        locked.run(plan).map(|done| (new, done.etc))
    };
    let (from, _) = merged(&machine, 1, Etc::OfSnapshot).expect("deployed");
    let here = layout.deployment_part(from, Part::Etc);
    let base = layout.deployment_etc_base(from);
    for (name, text) in [("hosts", "hosts of mine"), ("own", "own of mine"), ("bad", "bad of mine")] {
        file::replace(&here.join(name), text.as_bytes()).expect("edited");
    }
    file::remove_if_exists(&here.join("gone")).expect("removed");
    machine.spoil(&[&here.join("cache"), &here.join("own"), &here.join("same"), &base.join("hosts"), &base.join("gone"), &etc_of("2.1").join("bad")]);
    let (new, report) = merged(&machine, 2, Etc::MergedFrom(from)).expect("deployed");
    let into = layout.deployment_part(new, Part::Etc);
    let told = report.expect("a report").to_look_at();
    for name in ["cache", "own", "bad", "same"] {
        let line = format!("/etc/{name}: cannot be read");
        assert!(told.iter().any(|told| told.starts_with(&line)), "{name}: {told:?}");
    }
    assert_eq!(text(&into.join("cache")), "cache of two");
    assert_eq!(text(&into.join("bad")), "bad of mine");
    // Its own base alone: it was edited, or it would share those blocks.
    assert_eq!((text(&into.join("hosts")), text(&into.join("hosts.pacnew"))), ("hosts of mine".into(), "hosts of two".into()));
    assert!(!into.join("own").exists() && !into.join("gone").exists());
    // It is a clone in all three of them.
    let (same, report) = merged(&machine, 1, Etc::MergedFrom(from)).expect("deployed");
    assert!(layout.deployment_part(same, Part::Etc).join("same").exists());
    assert!(report.expect("a report").to_look_at().iter().any(|line| line.starts_with("/etc/same: cannot be read")));
    // Nobody is locked out by what packages bring.
    let here = layout.deployment_part(same, Part::Etc);
    file::replace(&here.join("passwd"), b"root:x:0:0::/:\nme:x:1000:1000::/:\n").expect("edited");
    machine.spoil(&[&here.join("passwd")]);
    let error = merged(&machine, 2, Etc::MergedFrom(same)).expect_err("deployed without its accounts");
    assert!(error.to_string().contains("passwd"), "{error}");
    assert_eq!(machine.store().block().expect("a block").good, same);
}
