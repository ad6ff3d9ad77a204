//! `boot-update --grub`: the GRUB of a snapshot in the place of the one that starts the machine, with real ones, killed at every step.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use ast::boot::medium::Medium;
use ast::grub::install::write_script;
use ast::grub::{ScriptConfig, Serial};
use ast::id::DeployId;
use ast::install::{Boot, Target, Terminal, table::Scheme};
use ast::layout::{self, Part};
use ast::loader::{self, Loader, Stage};
use ast::store::document;
use ast::store::machine::{Block, Firmware};
use ast::sys::{btrfs, file, mount};
use ast_tests::decide::disk::grub;
use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::grub::Suite;
use ast_tests::lab::repo::{self, State};

use crate::bed::sh;
use crate::machine::{Machine, Said, skipped};

/// Files of the GRUB packages that the lab's machines have: the real tool with its libraries' names, and the modules.
fn unpack(package: &str, to: &std::path::Path) {
    let from = repo::build(&cache_dir(), State::V1).expect("v1");
    sh(&format!("tar --zstd -xf {}/{package}-[0-9]*.pkg.tar.zst -C {} usr/bin/grub-mkimage usr/lib/grub", from.display(), to.display()));
}

/// A machine of 2.06 whose default has 2.14 in its packages, and a disk or an ESP that starts it.
struct Bed {
    machine: Machine,
    boot: Boot,
    old: Vec<u8>,
    _dir: tempfile::TempDir,
    disk: PathBuf,
}

impl Bed {
    fn new(boot: Boot) -> Self {
        let machine = Machine::new();
        let layout = machine.layout();
        let grub_dir = machine.root.join("boot/grub");
        // On the filesystem of the snapshots, as @boot is.
        let boot_subvolume = layout.snapshots().join("boot-of-this-test");
        btrfs::create_subvolume(&boot_subvolume).expect("subvolume");
        mount::bind(&boot_subvolume, &grub_dir).expect("mounted");
        fs::create_dir_all(grub_dir.join("ast")).expect("dir");

        let esp = machine.root.join("efi");
        fs::create_dir_all(&esp).expect("dir");
        let block = machine.store().block().expect("a block");
        Medium::Mounted { dir: esp.clone() }.create(&block).expect("created");
        let path = layout.document(layout::MACHINE);
        let mut about = document::load::<ast::store::machine::Machine>(&path).expect("machine").body;
        about.firmware = if boot == Boot::Efi { Firmware::Efi } else { Firmware::Bios };
        about.block = Block::Files { uuid: "ABCD-1234".into() };
        about.grub_version = Some("2.06".into());
        document::save(&path, &about).expect("saved");

        let root = layout.deployment_part(DeployId::new(1), Part::Root);
        btrfs::set_read_only(&root, false).expect("opened");
        unpack("grub", &root);
        btrfs::set_read_only(&root, true).expect("sealed");

        let serial = Some(Serial { unit: 0, speed: 115_200 });
        let config = ScriptConfig { fs_uuid: about.fs_uuid.clone(), block: about.block.clone().into(), serial };
        write_script(&grub_dir, &config).expect("script");
        let grub = grub(Suite::G206, boot);
        let old = grub.install_to(boot, &grub_dir, &about.fs_uuid, &[], Terminal::Serial).expect("a core image");
        let dir = tempfile::tempdir().expect("dir");
        let disk = dir.path().join("disk");
        if boot == Boot::Efi {
            for name in ["EFI/ast/grubx64.efi", "EFI/BOOT/BOOTX64.EFI"] {
                fs::create_dir_all(esp.join(name).parent().expect("a directory")).expect("dir");
                fs::write(esp.join(name), &old).expect("written");
            }
        } else {
            fs::File::create(&disk).and_then(|f| f.set_len(3 << 30)).expect("image");
            let target = Target::whole(&disk).expect("target");
            grub.embed(&target, &Scheme::new(boot, &target).expect("scheme"), &old).expect("embedded");
        }
        let bed = Self { machine, boot, old, _dir: dir, disk };
        bed.booted("");
        bed
    }

    /// The words of the command; on a BIOS with the disk, which nothing tells here.
    fn words<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let disk = self.disk.to_str().expect("text");
        let named: &[&str] = if self.boot == Boot::Efi { &[] } else { &["--disk", disk] };
        [&["boot-update", "--grub"][..], more, if more.contains(&"--undo") { &[] } else { named }].concat()
    }

    fn loader(&self) -> Loader {
        loader::load(&self.machine.layout()).expect("readable")
    }

    /// The next start was by this GRUB (none: the old one), and the initramfs says so.
    fn booted(&self, grub: &str) {
        let grub = if grub.is_empty() { String::new() } else { format!("grub={grub}\n") };
        fs::write(self.machine.root.join("run/ast/booted"), format!("d=1\nset=0.1\nwhy=good\nenv=ok\n{grub}")).expect("written");
    }

    /// As if that start were another one than that in which it was switched.
    fn another_start(&self) {
        let mut loader = self.loader();
        loader.update.as_mut().expect("an update").switched_in = Some("another".into());
        document::save(&self.machine.layout().document(layout::GRUB), &loader).expect("saved");
    }

    fn word(&self) -> Option<String> {
        Medium::Mounted { dir: self.machine.root.join("efi") }.asked().expect("read").map(|id| id.to_string())
    }

    /// GRUB takes its word away before it tries.
    fn tried(&self) {
        Medium::Mounted { dir: self.machine.root.join("efi") }.ask(None).expect("taken away");
    }

    /// Which GRUB the firmware starts: the old one (`false`) or the build of the document. It is whole, with its modules; so is the build that
    /// the old one is asked to try, and the rest of the disk is as it was.
    fn judge(&self, when: &str) -> bool {
        let loader = self.loader();
        let builds: Vec<_> = loader.current.iter().chain(loader.update.iter().map(|u| &u.build)).map(|b| b.id.to_string()).collect();
        let core = |id: &str| {
            let dir = self.machine.root.join("boot/grub/builds").join(id);
            assert!(dir.join(self.boot.platform()).join("normal.mod").is_file(), "{when}: {id} has no modules");
            sh(&format!("cd {} && sha256sum --check --status core.sums", dir.display()));
            fs::read(dir.join("core.img")).expect("an image")
        };
        if let Some(id) = self.word() {
            assert!(builds.contains(&id), "{when}: {id} is asked for, and nobody knows it");
            drop(core(&id));
        }
        let starts = |there: &[u8], when: &str| -> bool {
            if there == self.old {
                assert!(self.machine.root.join("boot/grub").join(self.boot.platform()).join("normal.mod").is_file(), "{when}: its modules");
                return false;
            }
            assert!(builds.iter().any(|id| core(id) == there), "{when}: neither the old one nor one of {builds:?}");
            true
        };
        if self.boot == Boot::Efi {
            let read = |name: &str| fs::read(self.machine.root.join("efi/EFI").join(name)).expect(name);
            let own = starts(&read("ast/grubx64.efi"), when);
            let fallback = starts(&read("BOOT/BOOTX64.EFI"), when);
            assert!(own || !fallback, "{when}: the path that firmware falls back to came first");
            return fallback;
        }
        let disk = fs::File::open(&self.disk).expect("the disk");
        let read = |sector: u64, len: usize| {
            use std::os::unix::fs::FileExt as _;
            let mut bytes = vec![0; len];
            disk.read_exact_at(&mut bytes, sector * 512).expect("read");
            bytes
        };
        let mbr = read(0, 512);
        assert_eq!((&mbr[510..], mbr[446 + 4], mbr[462 + 4]), (&[0x55, 0xaa][..], 0x83, 1), "{when}: the table is another");
        let sector = u64::from_le_bytes(mbr[0x5c..0x64].try_into().expect("eight"));
        let first = read(sector, 512);
        let (start, len) = (u64::from_le_bytes(first[500..508].try_into().expect("eight")), u16::from_le_bytes([first[508], first[509]]));
        assert_eq!(start, sector + 1, "{when}: no core image is there");
        let mut there = read(sector, 512 * (usize::from(len) + 1));
        there[500..508].copy_from_slice(&2u64.to_le_bytes());
        let cut = |core: &[u8]| there.get(..core.len()).filter(|_| there.len() < core.len() + 512).map(<[u8]>::to_vec);
        let known = std::iter::once(self.old.clone()).chain(builds.iter().map(|id| core(id)));
        let there = known.into_iter().find(|core| cut(core).as_ref() == Some(core)).unwrap_or_else(|| panic!("{when}: garbage would start"));
        starts(&there, when)
    }

    /// Runs the command until the stop point; the name of the point, or `None` when it came to its end.
    fn killed(&self, words: &[&str], at: usize) -> Option<String> {
        let out = self.machine.command(words).env("AST_STOP_AT", at.to_string()).output().expect("ast");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        if out.status.signal() == Some(9) {
            return said.lines().find_map(|l| l.split_once(": ").filter(|(at, _)| at.starts_with("stop point")).map(|(_, name)| name.to_owned()));
        }
        assert!(out.status.success(), "{words:?} at {at}: {said}");
        None
    }

    fn ok(&self, words: &[&str]) -> Said {
        self.machine.ok(words)
    }
}

/// From the word to the last of the old one, each command killed at every point; whatever is found then is given up and begun anew.
fn killed_anywhere(boot: Boot) {
    if skipped() {
        return;
    }
    let bed = Bed::new(boot);
    let mut seen = BTreeSet::new();
    assert!(!bed.judge("at first"));

    // Begun, and killed at every step: the old one starts. What was begun can be given up.
    let begin = bed.words(&[]);
    let mut at = 0;
    while let Some(point) = bed.killed(&begin, at) {
        assert!(!bed.judge(&point), "{point}");
        if bed.loader().update.is_some() {
            bed.ok(&bed.words(&["--undo"]));
        }
        assert!(!bed.judge(&point) && bed.word().is_none(), "{point}");
        seen.insert(point);
        at += 1;
    }
    let look = bed.ok(&["--json", "status"]).json()["grub"].clone();
    assert_eq!((&look["version"], &look["state"]), (&"2.06".into(), &"asked".into()), "{look}");
    let id = bed.loader().update.expect("an update").build.id.to_string();
    assert_eq!(bed.word(), Some(id.clone()));
    // Both at once are too much.
    let said = bed.machine.ast(&begin);
    assert!(said.code == 3 && said.err.contains("on trial already"), "{said:?}");

    // Tried and come to nothing: told, and nothing is switched by a start that was the old one's.
    bed.tried();
    bed.booted("");
    bed.machine.ast(&["good"]);
    assert!(!bed.judge("tried in vain"));
    let said = bed.machine.ast(&["doctor"]);
    assert!(said.out.contains("was tried and did not start this machine well"), "{said:?}");
    // Asked again, and started well by it: switched, killed at every step.
    let mut at = 0;
    loop {
        bed.ok(&begin);
        bed.tried();
        bed.booted(&id);
        let point = bed.killed(&["good"], at);
        let new = bed.judge(&format!("{point:?}"));
        let Some(point) = point else {
            assert!(new, "it is not switched");
            break;
        };
        if bed.loader().update.is_some_and(|update| update.stage == Stage::Proven) {
            // Whoever starts the machine next: the switch goes on.
            bed.booted("");
            bed.ok(&["good"]);
            assert!(bed.judge(&point), "{point}");
        }
        bed.ok(&bed.words(&["--undo"]));
        assert!(!bed.judge(&point), "{point}: not given up");
        seen.insert(point);
        at += 1;
    }
    let look = bed.ok(&["--json", "status"]).json()["grub"].clone();
    assert_eq!(look["state"], "switched", "{look}");
    assert!(bed.machine.ok(&["status"]).out.contains("2.06 is kept until 2.14"), "{look}");
    // The start in which it was switched says nothing about the firmware.
    bed.ok(&["good"]);
    assert_eq!(bed.loader().update.expect("an update").stage, Stage::Switched);

    // Given up after the switch, killed at every step.
    let undo = bed.words(&["--undo"]);
    let mut at = 0;
    while let Some(point) = bed.killed(&undo, at) {
        bed.judge(&point);
        seen.insert(point);
        at += 1;
        if bed.loader().update.is_none() {
            break;
        }
    }
    assert!(!bed.judge("given up"));

    // And to the end.
    bed.ok(&begin);
    bed.tried();
    bed.booted(&id);
    bed.ok(&["good"]);
    bed.another_start();
    let mut at = 0;
    while let Some(point) = bed.killed(&["good"], at) {
        assert!(bed.judge(&point), "{point}");
        seen.insert(point);
        at += 1;
        if bed.loader().update.is_none() {
            break;
        }
    }
    bed.machine.ast(&["good"]);
    assert!(bed.judge("at the end") && bed.loader().update.is_none());
    let look = bed.ok(&["--json", "status"]).json()["grub"].clone();
    assert!(look["version"].as_str().is_some_and(|v| v.contains("2.14")) && look["new"].is_null(), "{look}");
    let said = bed.ok(&begin);
    assert!(said.err.contains("nothing to do"), "{said:?}");
    let mut wanted = vec!["grub: the build", "grub: the document", "grub: the script", "grub: the word", "grub: begun", "grub: proven", "grub: switched"];
    wanted.extend(if boot == Boot::Efi {
        ["grub: write beside", "grub: exchange", "grub: exchange back"].as_slice()
    } else {
        ["grub: where the old one is", "grub: write the core image", "grub: the boot sector", "grub: the old boot sector"].as_slice()
    });
    let missed: Vec<_> = wanted.iter().filter(|name| !seen.contains(**name)).collect();
    assert!(missed.is_empty(), "never killed at {missed:?}, only at {seen:?}");
}

#[test]
fn c1_killed_anywhere_a_bios_starts_the_old_grub_or_the_new_one() {
    killed_anywhere(Boot::BiosGap);
}

#[test]
fn c1_killed_anywhere_efi_firmware_starts_the_old_grub_or_the_new_one() {
    killed_anywhere(Boot::Efi);
}

#[test]
fn c1_what_cannot_be_is_refused_before_anything_is_written() {
    if skipped() {
        return;
    }
    let bed = Bed::new(Boot::BiosGap);
    let before = || {
        let files = sh(&format!("cd {} && find boot efi -type f -not -path 'boot/grub/ast/*' | sort | xargs sha256sum", bed.machine.root.display()));
        let mut sectors = vec![0; 1 << 20];
        std::io::Read::read_exact(&mut fs::File::open(&bed.disk).expect("disk"), &mut sectors).expect("read");
        (files, sectors, bed.machine.layout().document(layout::GRUB).exists())
    };
    let refused = |words: &[&str], why: &str| {
        let there = before();
        for words in [words.to_vec(), [&["--dry-run"], words].concat()] {
            let said = bed.machine.ast(&words);
            assert!(said.code == 3 && said.err.contains(why), "{words:?}: {said:?}");
        }
        assert_eq!(before(), there, "{words:?}");
    };
    // A snapshot with an older release than the one that is there, and one without GRUB.
    bed.ok(&["clone", "0"]);
    let path = bed.machine.layout().document(layout::MACHINE);
    let mut about = document::load::<ast::store::machine::Machine>(&path).expect("machine").body;
    about.grub_version = Some("2.12".into());
    document::save(&path, &about).expect("saved");
    refused(&bed.words(&["1"]), "has GRUB 2.06");
    let said = bed.ok(&[&["--dry-run"][..], &bed.words(&["1", "--allow-older"])].concat());
    assert!(said.out.contains("GRUB 2.06"), "{said:?}");
    let root = bed.machine.part(1, Part::Root);
    btrfs::set_read_only(&root, false).expect("opened");
    file::remove_if_exists(&root.join("usr/lib/grub/i386-pc/normal.mod")).expect("removed");
    btrfs::set_read_only(&root, true).expect("sealed");
    refused(&bed.words(&["1"]), "has no GRUB for this machine");
    refused(&bed.words(&["--undo"]), "no other GRUB is on trial");

    // Somebody else's boot sector, another disk, a gap that is full.
    let target = Target::whole(&bed.disk).expect("target");
    let mbr = target.read_at(0, 512).expect("MBR");
    let mut foreign = mbr.clone();
    foreign[0x90..0x94].copy_from_slice(b"LILO");
    target.write_at(0, &foreign).expect("written");
    refused(&bed.words(&[]), "is not GRUB's");
    let mut early = mbr.clone();
    early[446 + 8..446 + 12].copy_from_slice(&700u32.to_le_bytes());
    target.write_at(0, &early).expect("written");
    let there = before();
    let said = bed.machine.ast(&bed.words(&[]));
    assert!(said.code == 3 && said.err.contains("free sectors"), "{said:?}");
    assert_eq!(before(), there);
    target.write_at(0, &mbr).expect("written");
    refused(&["boot-update", "--grub"], "is not GRUB's");

    // A deployment on trial, and a machine where GRUB could not take its word away.
    bed.ok(&["deploy", "0"]);
    refused(&bed.words(&[]), "is on trial");
    file::remove_if_exists(&path).expect("removed");
    about.block = Block::Local;
    document::save(&path, &about).expect("saved");
    let medium = bed.machine.store().medium().expect("a medium");
    medium.create(&ast::boot::block::BootBlock::new(DeployId::new(1))).expect("created");
    refused(&bed.words(&[]), "cannot try another GRUB");
    bed.ok(&bed.words(&["--untried"]));
    assert!(bed.judge("untried"), "it is not what the firmware starts");
    let said = bed.ok(&bed.words(&["--undo"]));
    assert!(said.out.contains("is given up") && !bed.judge("undone"), "{said:?}");
}
