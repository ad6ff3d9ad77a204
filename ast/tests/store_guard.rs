//! What is never deleted, never overwritten, never done by two at once: on a real btrfs.

#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod common;

use std::process::Stdio;

use ast::boot::booted::Booted;
use ast::boot::medium::Which;
use ast::deploy::{self, Etc, How};
use ast::id::{ArmId, SnapshotId};
use ast::layout::{self, Part};
use ast::store::machine::Block;
use ast::store::{Locked, Mended, Need, Store, StoreError};
use ast::sys::lock::Wait;
use ast::sys::mount::{MsFlags, mount, unmount};
use ast::sys::{btrfs, file};
use common::*;

fn run(locked: &mut Locked, plan: ast::plan::Plan) {
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

fn new(locked: &mut Locked) -> SnapshotId {
    let (plan, id) = locked.plan_new("new").expect("a plan");
    run(locked, plan);
    id
}

#[test]
fn child() {
    let Some((root, what)) = child_task() else { return };
    let store = Store::open(&root).expect("a store");
    match what.as_str() {
        "hold" => {
            let _locked = store.lock(Wait::No).expect("the lock");
            println!("held");
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        "many" => {
            for _ in 0..5 {
                let mut locked = locked(Store::open(&root).expect("a store"));
                new(&mut locked);
            }
        }
        other => panic!("no task {other:?}"),
    }
}

#[test]
fn s7_two_writers_take_turns() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let writers: Vec<_> = (0..2).map(|_| machine.spawn("child", "many", Stdio::null())).collect();
    for writer in writers {
        let out = writer.wait_with_output().expect("ended");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    }
    let store = machine.store();
    assert_eq!(store.tree().expect("tree").nodes().count(), 11);
    assert_eq!(store.tree().expect("tree").next_snapshot(), n(11));
}

#[test]
fn s7_the_lock_ends_with_its_holder() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut holder = machine.spawn("child", "hold", Stdio::piped());
    let mut line = String::new();
    let out = holder.stdout.take().expect("a pipe");
    let mut out = std::io::BufReader::new(out);
    while !line.contains("held") {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut out, &mut line).expect("a line") > 0, "the holder ended");
    }
    let error = machine.store().lock(Wait::No).expect_err("held");
    assert!(error.is_locked() && error.to_string().contains(&holder.id().to_string()), "{error}");
    // Reading goes on meanwhile.
    assert!(machine.store().block().is_ok());
    holder.kill().expect("killed");
    holder.wait().expect("ended");
    drop(machine.lock());
}

#[test]
fn s7_only_the_working_copies_of_the_dead_are_cleared() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let layout = machine.layout();
    let boot: String = text(std::path::Path::new("/proc/sys/kernel/random/boot_id")).chars().take(8).collect();
    let stat = text(std::path::Path::new("/proc/self/stat"));
    let start = stat.rsplit_once(')').expect("stat").1.split_whitespace().nth(19).expect("start").to_owned();
    let pid = std::process::id();
    let alive = format!("{pid}-{start}-{boot}-0");
    let dead = [format!("{pid}-1-{boot}-0"), format!("{pid}-{start}-00000000-0"), format!("4194305-{start}-{boot}-0")];
    for token in dead.iter().chain([&alive]) {
        file::make_dirs(&layout.work_copy(token)).expect("dir");
        let root = layout.work_copy(token).join("root");
        btrfs::snapshot(&layout.set_part(set("0.1"), Part::Root), &root, btrfs::Access::Writable).expect("copied");
        // What tmpfiles makes: a subvolume inside (C5), in a subvolume that is read-only by now.
        btrfs::create_subvolume(&root.join("nested")).expect("nested");
        btrfs::create_subvolume(&root.join("nested/deeper")).expect("nested");
        btrfs::set_read_only(&root, true).expect("read-only");
    }
    let locked = machine.lock();
    assert_eq!(locked.repaired().mended.iter().filter(|m| matches!(m, Mended::Deleted(_))).count(), 3);
    assert_eq!(ast::volumes::work_copies(&layout).expect("copies"), [alive]);
}

#[test]
fn s14_what_is_mounted_anywhere_stays() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let one = new(&mut locked);
    let at = machine.root.join("mnt");
    file::make_dirs(&at).expect("dir");
    let device = machine.device.to_string_lossy().into_owned();
    mount(&device, &at, "btrfs", MsFlags::MS_RDONLY, "subvol=@.snapshots/sets/1.1/etc").expect("mounted");
    // A process in another mount namespace has it too, and keeps it when it is unmounted here.
    let mut other = std::process::Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", "echo ready; exec sleep 60"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("another namespace");
    let mut line = String::new();
    let out = other.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("ready");
    let (plan, _) = locked.plan_del(one).expect("a plan");
    run(&mut locked, plan);
    assert!(machine.on_disk().contains(&"set 1.1".to_owned()), "mounted here");
    assert_eq!(text(&at.join("word")), "base etc");
    drop(locked);
    unmount(&at).expect("unmounted");
    drop(machine.lock());
    assert!(machine.on_disk().contains(&"set 1.1".to_owned()), "mounted there");
    // S6: its number is still on disk, and is not given again.
    let (_, next) = machine.store().plan_new("next").expect("a plan");
    assert_eq!(next, n(2));
    other.kill().expect("killed");
    other.wait().expect("ended");
    drop(machine.lock());
    assert!(!machine.on_disk().contains(&"set 1.1".to_owned()), "mounted nowhere");
}

#[test]
fn s14_what_is_needed_is_named_and_refused() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let (one, two) = (new(&mut locked), new(&mut locked));
    let (plan, below) = locked.plan_branch(two, "below").expect("a plan");
    run(&mut locked, plan);
    let plan = locked.plan_pin(below, true).expect("a plan").expect("a change");
    run(&mut locked, plan);
    assert!(matches!(locked.plan_del(two), Err(StoreError::Needed { id, need: Need::Pinned }) if id == below));
    assert!(locked.plan_pin(below, true).expect("a plan").is_none());
    let (plan, _) = deploy::plan_deploy(&locked, one, How::Trial, Etc::OfSnapshot).expect("a plan");
    run(&mut locked, plan);
    let error = locked.plan_del(one).expect_err("on trial");
    assert!(matches!(error, StoreError::Needed { need: Need::Trial, .. }) && error.is_refusal());
    assert!(locked.plan_del(n(0)).expect_err("the base").is_refusal());
    assert!(locked.plan_del(n(77)).expect_err("unknown").is_refusal());
}

#[test]
fn s2_nothing_is_deleted_while_a_document_or_the_menu_cannot_be_read() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let layout = machine.layout();
    let garbage = || make_set(&layout, set("9.1"), "garbage");
    let live = layout.deployment(d(1)).join("live-1-1-00000000-0.root");
    btrfs::create_subvolume(&live).expect("left by a live change");
    let stays = |what: &str| {
        let locked = machine.lock();
        assert!(!locked.repaired().problems.is_empty() && locked.repaired().needs_attention(), "{what}");
        drop(locked);
        assert!(machine.on_disk().contains(&"set 9.1".to_owned()) && live.exists(), "{what}");
    };
    garbage();
    for name in [layout::NUMBERS, layout::UPDATES, layout::MACHINE] {
        let path = layout.document(name);
        let whole = file::read_if_exists(&path).expect("readable");
        // With its older copy: from that alone machine.json is mended.
        let older = file::old_copy(&path).expect("name");
        file::replace(&path, b"{").expect("damaged");
        file::replace(&older, b"{").expect("damaged");
        stays(name);
        file::remove_if_exists(&older).expect("gone");
        match whole {
            Some(bytes) => file::replace(&path, &bytes).expect("mended"),
            None => file::remove_if_exists(&path).expect("gone"),
        }
    }
    let (grub, aside) = (machine.root.join("boot/grub"), machine.root.join("boot/aside"));
    file::rename(&grub, &aside).expect("aside");
    stays("no menu");
    assert!(!grub.exists(), "nothing was made where the menu should be mounted");
    file::rename(&aside, &grub).expect("back");
    let block = text_bytes(&layout.document(layout::LOCAL_BLOCK));
    file::replace(&layout.document(layout::LOCAL_BLOCK), &block[..600]).expect("cut");
    file::remove_if_exists(&layout.document("numbers.json")).expect("gone");
    drop(machine.store().lock(Wait::No));
    file::replace(&layout.document(layout::LOCAL_BLOCK), &block).expect("back");
    drop(machine.lock());
    assert!(!machine.on_disk().contains(&"set 9.1".to_owned()) && !live.exists(), "everything can be read again");
}

fn text_bytes(path: &std::path::Path) -> Vec<u8> {
    file::read(path).expect("read")
}

#[test]
fn s3_a_damaged_tree_is_rebuilt_and_loses_no_snapshot() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let one = new(&mut locked);
    let (plan, two) = locked.plan_branch(one, "two").expect("a plan");
    run(&mut locked, plan);
    drop(locked);
    // The older copy does not know 2 yet.
    let path = machine.layout().document(layout::TREE);
    let bytes = file::read(&path).expect("read");
    file::replace(&path, &bytes[..bytes.len() / 2]).expect("torn");
    assert!(machine.store().tree().expect("readable").get(two).is_ok(), "reading takes what is on disk");
    let locked = machine.lock();
    assert!(matches!(locked.repaired().mended.first(), Some(Mended::Tree(_))), "{:?}", locked.repaired());
    assert_eq!(locked.tree().expect("tree").nodes().count(), 3);
    drop(locked);
    assert_eq!(machine.on_disk(), ["set 0.1", "set 1.1", "set 2.1", "deployment 1"]);
    assert!(machine.lock().repaired().mended.is_empty());
}

#[test]
fn s3_a_damaged_machine_document_is_written_anew_and_always_has_an_older_copy() {
    if skipped() {
        return;
    }
    // Laid out by an ast that left no older copy of it.
    let machine = Machine1::new(Block::Raw);
    let path = machine.layout().document(layout::MACHINE);
    let older = file::old_copy(&path).expect("name");
    let whole = text_bytes(&path);
    assert!(!older.exists());
    assert!(!machine.lock().repaired().needs_attention());
    assert_eq!(text_bytes(&older), whole);
    let before = machine.store().machine().cloned().expect("a machine");
    for damage in [&whole[..whole.len() / 2], &[0; 4096], b""] {
        file::replace(&path, damage).expect("damaged");
        // A deployment that nothing names any more: it goes, so deleting is not held.
        make_deployment(&machine.layout(), d(7), set("0.1"));
        let locked = machine.lock();
        let repaired = locked.repaired();
        assert!(matches!(repaired.mended.first(), Some(Mended::Machine(_))) && repaired.needs_attention(), "{repaired:?}");
        assert!(repaired.problems.is_empty() && locked.block().is_ok(), "{repaired:?}");
        drop(locked);
        assert_eq!((machine.store().machine().cloned(), text_bytes(&older)), (Some(before.clone()), text_bytes(&path)));
        assert_eq!(machine.on_disk(), ["set 0.1", "deployment 1"]);
        assert!(machine.lock().repaired().mended.is_empty());
    }
    std::fs::remove_file(&path).expect("gone");
    assert!(matches!(machine.lock().repaired().mended.first(), Some(Mended::Machine(_))));
    // The older copy never names another boot block than the document.
    let moved = ast::store::machine::Machine { block: Block::Local, ..before };
    moved.save(&machine.layout()).expect("saved");
    assert_eq!(text_bytes(&older), text_bytes(&path));
    file::replace(&older, b"{").expect("damaged");
    assert!(machine.store().lock(Wait::No).is_ok());
    assert_eq!(text_bytes(&older), text_bytes(&path));
}

#[test]
fn b5_the_boot_block_is_mended_from_its_copy_or_from_what_is_baked() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Raw);
    let mut locked = machine.lock();
    let one = new(&mut locked);
    let (plan, two) = deploy::plan_deploy(&locked, one, How::NoTrial, Etc::OfSnapshot).expect("a plan");
    run(&mut locked, plan);
    let whole = locked.block().expect("block");
    drop(locked);
    let tear = |sector: u64| file::write_in_place(&machine.device, sector * 512, &[0x55; 512]).expect("torn");
    for (sector, name) in [(layout::RAW_BLOCK_A_SECTOR, 'A'), (layout::RAW_BLOCK_B_SECTOR, 'B')] {
        tear(sector);
        let locked = machine.lock();
        assert_eq!(locked.repaired().mended, [Mended::Copy(name)]);
        assert_eq!(locked.block().expect("block"), whole);
    }
    // GRUB counts in the copy that it reads; that is the state, and no news.
    let counted = ast::boot::block::BootBlock { starts: 2, cap: 1, ..whole.clone() };
    machine.medium().write_one(Which::A, &counted).expect("counted");
    let locked = machine.lock();
    assert_eq!(locked.repaired().mended, [Mended::Counters]);
    assert!(!locked.repaired().needs_attention());
    drop(locked);
    tear(layout::RAW_BLOCK_A_SECTOR);
    tear(layout::RAW_BLOCK_B_SECTOR);
    let locked = machine.lock();
    assert!(matches!(locked.repaired().mended.first(), Some(Mended::Block(_))), "{:?}", locked.repaired());
    let block = locked.block().expect("block");
    assert_eq!((block.good, block.prev, block.trial), (two, Some(d(1)), None));
    assert!(block.arm > ArmId::new(0), "an arming that may have been spent is not armed again");
    drop(locked);
    assert!(machine.lock().repaired().mended.is_empty());
}

#[test]
fn s8_everything_about_a_file_survives() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let one = new(&mut locked);
    let layout = machine.layout();
    let dir = layout.work_copy("hand-made");
    file::make_dirs(&dir).expect("dir");
    for part in Part::ALL {
        btrfs::snapshot(&layout.set_part(set("1.1"), part), &dir.join(part.name()), btrfs::Access::Writable).expect("copied");
    }
    // 188 and 191 are setxattr and getxattr: perl is on every Debian, a program for attributes is not.
    let script = "cd \"$0\" && echo x > a && ln a b && ln -s a l && chown 12:34 a && chmod 4750 a && touch -d @99 a && \
        perl -e '$f=\"a\"; for ([\"user.k\",\"v\"],[\"security.capability\",pack(\"V5\",0x02000001,1024,0,0,0)]) { my ($k,$v)=@$_; syscall(188,$f,$k,$v,length $v,0) == 0 or die $! }' && \
        truncate -s 1M sparse && mkfifo p && touch .dot && rm word";
    let ok = std::process::Command::new("sh").args(["-c", script]).arg(dir.join("etc")).status().expect("sh");
    assert!(ok.success());
    let (plan, to) = locked.plan_seal(set("1.1"), &dir, "edit").expect("a plan");
    run(&mut locked, plan);
    let (plan, copy) = locked.plan_clone(one, "copy").expect("a plan");
    run(&mut locked, plan);
    let (plan, deployed) = deploy::plan_deploy(&locked, copy, How::Trial, Etc::OfSnapshot).expect("a plan");
    run(&mut locked, plan);
    let list = |dir: std::path::PathBuf| {
        let script = "cd \"$0\" && find . -printf '%p %M %U:%G %T@ %s %b %n %i %l\\n' | sort && \
            perl -e '$f=\"b\"; for (\"user.k\",\"security.capability\") { my $k=$_; $b=\" \"x99; $n=syscall(191,$f,$k,$b,99); print \"$k $n \",unpack(\"H*\",substr($b,0,$n)),\"\\n\" }'";
        let out = std::process::Command::new("sh").args(["-c", script]).arg(dir).output().expect("sh");
        String::from_utf8(out.stdout).expect("text")
    };
    let original = list(dir.join("etc"));
    assert!(
        original.contains("-rwsr-x--- 12:34 99.0") && original.contains("user.k 1 76") && original.contains("capability 20"),
        "{original}"
    );
    assert_eq!(list(layout.set_part(to, Part::Etc)), original);
    assert_eq!(list(layout.set_part(locked.set_of(copy).expect("whole"), Part::Etc)), original);
    assert_eq!(list(layout.deployment_part(deployed, Part::Etc)), original);
    // A second one to save the same snapshot comes too late.
    let late = locked.plan_seal(set("1.1"), &dir, "edit").expect_err("moved");
    assert!(matches!(late, StoreError::Moved { .. }) && late.is_refusal());
}

#[test]
fn s10_a_full_disk_leaves_the_old_state_and_its_space_comes_back() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let one = new(&mut locked);
    let (plan, trial) = deploy::plan_deploy(&locked, one, How::Trial, Etc::OfSnapshot).expect("a plan");
    run(&mut locked, plan);
    let before = machine.on_disk();
    let filler = machine.root.join("var/filler");
    let (_, free) = btrfs::space(&machine.root.join("var")).expect("space");
    let ok =
        std::process::Command::new("fallocate").arg("-l").arg((free - (8 << 20)).to_string()).arg(&filler).status().expect("fallocate");
    assert!(ok.success());
    let (plan, _) = locked.plan_new("too much").expect("a plan");
    let error = locked.run(plan).expect_err("full");
    assert!(matches!(error, StoreError::NoSpace { .. }), "{error}");
    assert_eq!(machine.on_disk(), before);
    // A full disk keeps nobody from being promoted.
    let record = Booted::parse(&format!("d={trial}\nwhy=trial\narm=1\nleft=2\nenv=ok\n"));
    let plan = deploy::plan_promote(&locked, &record).expect("allowed").expect("needed");
    drop(locked.run(plan).expect("committed"));
    assert_eq!(locked.block().expect("block").good, trial);
    file::remove_if_exists(&filler).expect("removed");
    file::syncfs(&machine.root.join("var")).expect("synced");
    let (plan, _) = locked.plan_new("fits again").expect("a plan");
    run(&mut locked, plan);
}

#[test]
fn s13_a_newer_tree_is_left_alone_and_what_boots_is_judged_all_the_same() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let (plan, trial) = deploy::plan_deploy(&locked, n(0), How::Trial, Etc::OfSnapshot).expect("a plan");
    run(&mut locked, plan);
    drop(locked);
    let newer = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/documents/tree-newer.json");
    let path = machine.layout().document(layout::TREE);
    file::replace(&path, &file::read(&newer).expect("fixture")).expect("newer");
    make_set(&machine.layout(), set("9.1"), "what the newer tree may name");
    let mut locked = machine.lock();
    assert!(locked.plan_new("no").expect_err("newer").needs_newer());
    let record = Booted::parse(&format!("d={trial}\nwhy=trial\narm=1\nleft=2\nenv=ok\n"));
    let plan = deploy::plan_promote(&locked, &record).expect("allowed").expect("needed");
    drop(locked.run(plan).expect("committed"));
    assert_eq!(locked.block().expect("block").good, trial);
    assert!(machine.on_disk().contains(&"set 9.1".to_owned()));
    assert_eq!(file::read(&path).expect("read"), file::read(&newer).expect("fixture"));
}

#[test]
fn s12_what_would_not_boot_is_never_named() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let locked = machine.lock();
    let before = (machine.on_disk(), locked.block().expect("block"));
    drop(locked);
    // Judged for real: none of this is a system.
    let mut locked = machine.store().lock(Wait::No).expect("the lock");
    let (plan, _) = deploy::plan_deploy(&locked, n(0), How::Trial, Etc::OfSnapshot).expect("a plan");
    let error = locked.run(plan).expect_err("not whole");
    let StoreError::Verify { source, .. } = &error else { panic!("{error}") };
    for lack in ["/dev", "os-release", "/sbin/init", "vmlinuz-linux", "ast.sums"] {
        assert!(source.to_string().contains(lack), "no word of {lack}: {source}");
    }
    assert_eq!((machine.on_disk(), locked.block().expect("block")), before, "and nothing of it is left");
}

#[test]
fn a_stale_plan_is_refused() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let (first, _) = locked.plan_new("first").expect("a plan");
    let (second, _) = locked.plan_new("second").expect("a plan");
    run(&mut locked, first);
    assert!(matches!(locked.run(second), Err(StoreError::Stale(_))));
    assert_eq!(machine.on_disk(), ["set 0.1", "set 1.1", "deployment 1"]);
}
