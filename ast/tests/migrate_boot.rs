//! The second half of `migrate`: our boot script in the place of the original's menu, the way back, and giving up what the original had.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[allow(unused)]
mod common;
mod original;

use std::path::{Path, PathBuf};

use ast::boot::block::BootBlock;
use ast::boot::medium::Medium;
use ast::layout::Part;
use ast::store::machine::{Block, Machine, Migration};
use ast::store::{document, machine};
use ast::sys::{btrfs, file};
use ast::volumes::MountEntry;
use common::{d, skipped, text, write};
use original::{Original, same, shell};

/// What stands in its `grub.cfg`.
const MENU: &str = "menuentry 'astOS Linux snapshot 4' {\n  linux /@.snapshots/boot/boot-tmp0/vmlinuz-linux\n}\n";

/// An original with a GRUB of this platform, whose modules say that they are of this release, and its own `/boot` as it mounts it.
struct Booted {
    machine: Original,
    top: PathBuf,
}

impl Booted {
    fn new(platform: &str, release: &str) -> Self {
        let machine = Original::new();
        let device = MountEntry::of(&machine.at("")).expect("read").expect("mounted").source;
        let (top, boot) = (machine.root.join("top"), machine.root.join("boot"));
        file::make_dirs(&top).expect("dir");
        file::make_dirs(&boot).expect("dir");
        let (from, on) = (device.to_string_lossy(), |path: &Path| path.to_string_lossy().into_owned());
        shell("mount", &["-o", "subvolid=5", &from, &on(&top)]);
        shell("mount", &["-o", "subvol=@.snapshots/boot/boot-tmp0", &from, &on(&boot)]);
        let grub = top.join("@boot/grub");
        file::make_dirs(&grub).expect("dir");
        write(&grub.join("grub.cfg"), MENU);
        shell("cp", &["-r", &format!("/usr/lib/grub/{platform}"), &on(&grub)]);
        let module = grub.join(platform).join("normal.mod");
        let bytes = file::read(&module).expect("a module");
        let at = bytes.windows(5).position(|w| w == b"2.06-").expect("its release");
        let other: Vec<u8> = [&bytes[..at], release.as_bytes(), &bytes[at + 4..]].concat();
        file::replace(&module, &other).expect("another release");
        write(&machine.at("ast/root/.bashrc"), "of root");
        Self { machine, top }
    }

    fn grub(&self, name: &str) -> PathBuf {
        self.top.join("@boot/grub").join(name)
    }

    fn is_ours(&self) -> bool {
        text(&self.grub("grub.cfg")).contains("set ast_fs=")
    }

    fn document(&self) -> Machine {
        document::load(&self.machine.layout().document("machine.json")).expect("a document").body
    }

    fn medium(&self) -> Medium {
        match self.document().block {
            Block::Files { .. } => unreachable!("no test here has an ESP"),
            Block::Raw => Medium::Raw { device: MountEntry::of(&self.top).expect("read").expect("mounted").source },
            Block::Local => Medium::Local { path: self.machine.at("ast/bootblock") },
        }
    }

    fn block(&self) -> BootBlock {
        self.medium().read().current().expect("a block").1.clone()
    }
}

#[test]
fn the_original_menu_gives_way_to_our_script_and_comes_back() {
    if skipped() {
        return;
    }
    let booted = Booted::new("i386-pc", "2.14");
    let machine = &booted.machine;
    let before = machine.theirs();
    let said = machine.ast(&["migrate", "--boot"]);
    assert!(said.code == 3 && said.err.contains("migrate"), "before the first step: {} {}", said.code, said.err);
    machine.ok(&["migrate"]);
    let plan = machine.ok(&["migrate", "--boot", "--dry-run"]);
    assert!(plan.contains("in two sectors of the disk") && !booted.is_ours() && !booted.top.join("@root").exists(), "{plan}");
    let said = machine.ast(&["migrate", "--finish", "--yes"]);
    assert!(said.code == 3 && said.err.contains("--boot"), "{} {}", said.code, said.err);

    let said = machine.ok(&["--json", "migrate", "--boot"]);
    let document: serde_json::Value = serde_json::from_str(&said).expect("one document");
    assert_eq!((&document["firmware"], &document["grub_version"]), (&"bios".into(), &"2.14-13+deb12u2".into()), "{document}");
    let now = booted.document();
    assert_eq!((now.migration, now.firmware, &now.block), (Some(Migration::Boot), machine::Firmware::Bios, &Block::Raw));
    assert_eq!(booted.block().good, d(1));
    assert!(booted.is_ours() && text(&booted.grub("grub.cfg")).contains(&now.fs_uuid));
    assert_eq!(text(&booted.grub("ast/original.cfg")), MENU);
    let good = text(&booted.grub("ast/good.cfg"));
    assert!(good.contains("rootflags=subvol=@.snapshots/rootfs/snapshot-tmp0") && good.contains("ast_baked_good=1"), "{good}");
    assert!(text(&booted.grub("ast/menu.cfg")).contains("--id ast-original"));
    assert_eq!(text(&booted.top.join("@root/.bashrc")), "of root");
    assert!(["@root", "@cache", "@home", "@var"].iter().all(|name| btrfs::is_subvolume(&booted.top.join(name))));
    same(machine, &before, "with our script");

    // Its own system runs: what is done there arrives where GRUB reads.
    machine.ok(&["clone", "4", "-d", "mine"]);
    assert!(text(&booted.grub("ast/snapshots.cfg")).contains("7  mine"));
    assert!(!machine.at("boot/boot-tmp0/grub/ast").exists());
    let said = machine.ast(&["doctor"]);
    assert!(said.code == 0 && !said.out.contains("WRONG"), "{}{}", said.out, said.err);
    assert!(machine.ok(&["migrate", "--boot"]).contains("our boot script"), "twice is once");
    // grub-mkconfig puts our script into a text of its own: that is no menu of the original's.
    let ours = text(&booted.grub("grub.cfg"));
    write(&booted.grub("grub.cfg"), &format!("# grub-mkconfig\n{ours}"));
    machine.ok(&["migrate", "--boot"]);
    assert_eq!(text(&booted.grub("ast/original.cfg")), MENU);
    let said = machine.ast(&["migrate", "--finish", "--yes"]);
    assert!(said.code == 3 && said.err.contains("two deployments"), "{} {}", said.code, said.err);

    // A GRUB that sees what no ast has written yet is no reason to lose the menu: nothing is written beside the one that it reads.
    shell("umount", &[&machine.root.join("boot/grub").to_string_lossy()]);
    machine.ok(&["desc", "7", "seen again"]);
    assert!(text(&booted.grub("ast/snapshots.cfg")).contains("7  seen again"));

    let medium = booted.medium();
    machine.ok(&["migrate", "--undo", "--yes"]);
    assert_eq!(text(&booted.grub("grub.cfg")), MENU);
    assert!(!booted.grub("ast/original.cfg").exists() && !machine.at("ast/tree.json").exists());
    same(machine, &before, "given back");
    // A copy of the menu that an interrupted attempt left is older than what the original writes.
    machine.ok(&["migrate"]);
    file::make_dirs(&booted.grub("ast")).expect("dir");
    write(&booted.grub("ast/original.cfg"), "older\n");
    machine.ok(&["migrate", "--undo", "--yes"]);
    assert_eq!(text(&booted.grub("grub.cfg")), MENU);
    // And forward again, over the block that the first time left.
    medium.write(&BootBlock::new(d(9))).expect("written");
    machine.ok(&["migrate"]);
    machine.ok(&["migrate", "--boot"]);
    assert_eq!((booted.block().good, booted.is_ours()), (d(1), true));
}

#[test]
fn where_a_bios_starts_it_the_block_goes_where_that_grub_can_write() {
    if skipped() {
        return;
    }
    for (release, block) in [("2.06", Block::Local), ("2.14", Block::Raw)] {
        let booted = Booted::new("i386-pc", release);
        booted.machine.ok(&["migrate"]);
        let said = booted.machine.ast(&["migrate", "--boot"]);
        assert_eq!((said.code, said.err.contains("a kernel that panics is not covered")), (0, block == Block::Local), "{}", said.err);
        assert_eq!((&booted.document().block, booted.block().good), (&block, d(1)));
        assert!(booted.is_ours(), "{release}");
    }
    // Without a place for the block nothing is done; with one it is in the tests that start machines, since not every kernel here knows FAT.
    let booted = Booted::new("x86_64-efi", "2.14");
    booted.machine.ok(&["migrate"]);
    let said = booted.machine.ast(&["migrate", "--boot"]);
    assert!(said.code == 3 && said.err.contains("boot/efi") && !booted.is_ours(), "{} {}", said.code, said.err);
    // Half a GRUB is none.
    let booted = Booted::new("i386-pc", "2.14");
    booted.machine.ok(&["migrate"]);
    std::fs::remove_file(booted.grub("i386-pc/hashsum.mod")).expect("removed");
    let said = booted.machine.ast(&["migrate", "--boot"]);
    assert!(said.code == 3 && said.err.contains("hashsum.mod") && said.err.contains("grub-install"), "{} {}", said.code, said.err);
    assert!(!booted.is_ours());
}

#[test]
fn s2_killed_at_any_point_the_menu_is_the_originals_or_ours() {
    if skipped() {
        return;
    }
    let booted = Booted::new("i386-pc", "2.14");
    let machine = &booted.machine;
    machine.ok(&["migrate"]);
    let before = machine.theirs();
    let mut points = 0;
    for at in 0..60 {
        let out =
            machine.command(&["migrate", "--boot"]).env("AST_STOP_AT", at.to_string()).env("AST_STOP_SHOW", "1").output().expect("ast");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let last = said.lines().rfind(|l| l.starts_with("stop point")).unwrap_or_default().to_owned();
        // Whichever it is, the machine starts the original's system by it, and what it was is kept.
        match booted.is_ours() {
            true => {
                assert_eq!(text(&booted.grub("ast/original.cfg")), MENU, "at {last}");
                assert!(text(&booted.grub("ast/good.cfg")).contains("ast_baked_good=1"), "at {last}");
                let medium = Medium::Raw { device: MountEntry::of(&booted.top).expect("read").expect("mounted").source };
                assert_eq!(medium.read().current().expect("a block").1.good, d(1), "at {last}");
                assert!(booted.top.join("@root/.bashrc").exists() && booted.top.join("@cache").exists(), "at {last}");
            }
            false => assert_eq!(text(&booted.grub("grub.cfg")), MENU, "at {last}"),
        }
        same(machine, &before, &last);
        points = at;
        if out.status.success() {
            break;
        }
        // The way back is killed, too, then gone to its end; and the first step done again.
        machine.command(&["migrate", "--undo", "--yes"]).env("AST_STOP_AT", (at % 5).to_string()).output().expect("ast");
        if machine.at("ast/tree.json").exists() {
            machine.ok(&["migrate", "--undo", "--yes"]);
        }
        assert_eq!(text(&booted.grub("grub.cfg")), MENU, "after the way back from {last}");
        machine.ok(&["migrate"]);
    }
    assert!(points > 6 && points < 59, "{points} points");
    // Killed and simply done again.
    machine.ok(&["migrate", "--undo", "--yes"]);
    machine.ok(&["migrate"]);
    for at in 0..points {
        machine.command(&["migrate", "--boot"]).env("AST_STOP_AT", at.to_string()).output().expect("ast");
    }
    machine.ok(&["migrate", "--boot"]);
    assert_eq!((booted.document().migration, text(&booted.grub("ast/original.cfg")).as_str()), (Some(Migration::Boot), MENU));
}

#[test]
fn what_the_original_had_is_given_up_when_nothing_needs_it() {
    if skipped() {
        return;
    }
    let booted = Booted::new("i386-pc", "2.14");
    let machine = &booted.machine;
    machine.ok(&["migrate"]);
    machine.ok(&["migrate", "--boot"]);
    let layout = machine.layout();
    // Two deployments of ours have booted well; the second runs.
    for number in [2, 3] {
        file::make_dirs(&layout.deployment(d(number))).expect("dir");
        for part in [Part::Root, Part::Etc, Part::Boot] {
            btrfs::snapshot(&layout.deployment_part(d(1), part), &layout.deployment_part(d(number), part), btrfs::Access::ReadOnly)
                .expect("a copy");
        }
        btrfs::snapshot(&layout.deployment_etc_base(d(1)), &layout.deployment_etc_base(d(number)), btrfs::Access::ReadOnly)
            .expect("a copy");
        let mut record: ast::deploy::record::Record = ast::deploy::record::load(&layout, d(1)).expect("a record");
        record.d = d(number);
        document::save(&layout.deployment_record(d(number)), &record).expect("saved");
        write(&layout.deployment_well(d(number)), "");
        let block = BootBlock { prev: (number > 2).then(|| d(number - 1)), ..BootBlock::new(d(number)) };
        booted.medium().write(&block).expect("written");
        file::make_dirs(&machine.root.join("run/ast")).expect("dir");
        write(&machine.root.join("run/ast/booted"), &format!("d={number}\nset=4.1\nwhy=good\n"));
        let said = machine.ast(&["migrate", "--undo", "--yes"]);
        assert!(said.code == 3 && said.err.contains("has taken its place"), "{} {}", said.code, said.err);
        machine.ok(&["desc", "4", &format!("by {number}")]);
    }
    let said = machine.ast(&["migrate", "--finish"]);
    assert!(said.code == 3 && said.err.contains("--yes"), "{} {}", said.code, said.err);
    let plan = machine.ok(&["migrate", "--finish", "--dry-run"]);
    assert!(plan.contains("delete rootfs/snapshot-tmp0") && plan.contains("delete boot/boot-4"), "{plan}");
    // /boot of the original is mounted here: nothing of it may go.
    let said = machine.ast(&["migrate", "--finish", "--yes"]);
    assert!(said.code == 1 && said.err.contains("boot-tmp0") && said.err.contains("mounted"), "{} {}", said.code, said.err);
    assert!(machine.at("boot/boot-tmp0/vmlinuz-linux").exists());
    shell("umount", &[&machine.root.join("boot/grub").to_string_lossy()]);
    shell("umount", &[&machine.root.join("boot").to_string_lossy()]);
    shell("mount", &["--bind", &booted.top.join("@boot").to_string_lossy(), &machine.root.join("boot").to_string_lossy()]);
    let deleted = machine.ok(&["--json", "migrate", "--finish", "--yes"]);
    assert!(deleted.contains("\"etc/etc-tmp\""), "{deleted}");

    assert_eq!(booted.document().migration, None);
    for name in ["rootfs/snapshot-tmp0", "etc/etc-tmp", "boot/boot-tmp", "ast/fstree", "ast/part", "ast/snapshots"] {
        assert!(!machine.at(name).exists(), "{name}");
    }
    for part in ["rootfs/snapshot-4", "etc/etc-4", "boot/boot-4", "var/var-4"] {
        assert!(machine.at(part).is_symlink() && machine.at(part).join(".").is_dir(), "{part}");
    }
    assert_eq!(text(&machine.at("rootfs/snapshot-4/word")), "4");
    assert!(!text(&booted.grub("ast/menu.cfg")).contains("ast-original") && !booted.grub("ast/original.cfg").exists());
    assert!(machine.ok(&["tree"]).contains("4*- by 3"));
    let said = machine.ast(&["doctor"]);
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    assert!(machine.ast(&["migrate", "--finish", "--yes"]).err.contains("nothing of the original"));
}
