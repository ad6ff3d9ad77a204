//! `migrate` on disks laid out as the original Python program does, broken ones included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[allow(unused)]
mod common;
mod original;

use std::process::Command;

use ast::layout::Part;
use ast::sys::{btrfs, file};
use common::{set, skipped, text, write};
use original::{Original, TREE, same, shell};

#[test]
fn a_machine_is_taken_over_in_place_and_given_back() {
    if skipped() {
        return;
    }
    let machine = Original::new();
    let before = machine.theirs();
    // Nothing but migrate works on it, and says why.
    for words in [&["tree"][..], &["clone", "0"], &["deploy", "4"], &["status"]] {
        let said = machine.ast(words);
        assert!(
            said.code == 3 && said.err.contains("original ast") && said.err.contains("migrate"),
            "{words:?}: {} {}",
            said.code,
            said.err
        );
    }
    let said = machine.ast(&["migrate", "--dry-run"]);
    assert!(said.code == 0 && said.out.contains("sets/4.1/root") && said.out.contains("+6.1"), "{}{}", said.out, said.err);
    assert!(!machine.at("sets").exists() && !machine.at("ast/lock").exists());

    assert_eq!(machine.ok(&["migrate"]), "5 snapshots are taken over\n");
    same(&machine, &before, "migrate");
    let drawn = "root - root\n├── 0 - base snapshot\n└── 1 - multiuser system\n    └── 4*- applications\n        ├── 2 - Plasma  [31mfull desktop\n        └── 6 -\n";
    assert_eq!(machine.ok(&["tree"]), drawn);
    let layout = machine.layout();
    for number in ["0", "1", "2", "4", "6"] {
        let made = set(&format!("{number}.1"));
        assert!(ast::volumes::is_whole_set(&layout, made));
        for part in [Part::Root, Part::Etc, Part::Boot] {
            assert_eq!(text(&layout.set_part(made, part).join("word")), number);
        }
        // What its package put into the shared /var, and nothing of the user's.
        let var = layout.set_part(made, Part::Var);
        let found = shell("bash", &["-c", "cd \"$0\" && find . | sort", &var.to_string_lossy()]);
        assert_eq!(found, ".\n./lib\n./lib/hello\n./lib/hello/conf\n./lib/hello/empty\n./run");
    }
    // What its installer mounts is left to the initramfs, also where ast starts the machine.
    for etc in
        [layout.set_part(set("4.1"), Part::Etc), layout.deployment_part(common::d(1), Part::Etc), layout.deployment_etc_base(common::d(1))]
    {
        let fstab = text(&etc.join("fstab"));
        assert!(
            fstab.lines().filter(|line| line.starts_with("# ast migrate: ")).count() == 3
                && fstab.ends_with("\nUUID=ABCD-1234 /boot/efi vfat umask=0077 0 2\n"),
            "{fstab}"
        );
    }
    // The original's system is the good deployment, as it will start, changed /etc included.
    let etc = layout.deployment_part(common::d(1), Part::Etc);
    assert_eq!((text(&etc.join("hostname")).as_str(), text(&etc.join("word")).as_str()), ("kiosk", "4"));
    let env = text(&layout.deployment_part(common::d(1), Part::Boot).join("ast.env"));
    assert!(env.contains("loglevel=3 quiet rootflags=subvol=@.snapshots/rootfs/snapshot-tmp0"), "{env}");
    assert!(ast::work::check_sums(&layout.deployment_part(common::d(1), Part::Boot)).expect("read").is_empty());
    assert!(btrfs::is_stored_plain(&layout.deployment_part(common::d(1), Part::Boot).join("vmlinuz-linux")).expect("mapped"));

    let said = machine.ast(&["doctor"]);
    assert!(said.code == 0 && !said.out.contains("WRONG"), "{}{}", said.out, said.err);

    // It can be worked with: new numbers are above all that were ever used, and what boots is left alone.
    assert_eq!(machine.ok(&["clone", "4", "-d", "mine"]), "snapshot 7\n");
    machine.ok(&["del", "6", "--yes"]);
    let said = machine.ast(&["deploy", "7"]);
    assert!(said.code == 3 && said.err.contains("boot loader of the original"), "{} {}", said.code, said.err);
    assert!(machine.ast(&["migrate"]).err.contains("already"));
    same(&machine, &before, "here");
    let names =
        |dir: &str| file::names(&machine.at(dir)).expect("names").into_iter().map(|n| n.to_string_lossy().into_owned()).collect::<Vec<_>>();
    assert!(names("rootfs").contains(&"snapshot-7".to_owned()) && names("var").contains(&"var-4".to_owned()));

    // And back: the original finds what it left.
    let said = machine.ast(&["migrate", "--undo"]);
    assert!(said.code == 3 && said.err.contains("--yes"), "{}", said.err);
    machine.ok(&["migrate", "--undo", "--yes"]);
    let taken: serde_json::Value = serde_json::from_str(&machine.ok(&["--json", "migrate"])).expect("one document");
    assert_eq!((taken["snapshots"].as_array().map(Vec::len), &taken["survivors"]), (Some(5), &serde_json::json!([])), "{taken:#}");
    machine.ok(&["migrate", "--undo", "--yes"]);
    same(&machine, &before, "here");
    assert!(!names("rootfs").contains(&"snapshot-7".to_owned()) && names("var").is_empty() && names("work").is_empty());
    assert!(!machine.at("sets").exists() && !machine.at("deploy").exists() && !machine.at("ast/tree.json").exists());
    assert_eq!(machine.ok(&["migrate"]), "5 snapshots are taken over\n");
    assert_eq!(machine.ok(&["tree"]), drawn);
}

#[test]
fn whatever_an_interrupted_original_left_is_made_the_best_of() {
    if skipped() {
        return;
    }
    // what is broken; what must be said; the tree; the word in the root of a set
    let table: Vec<(&str, fn(&Original), &str, &str, (&str, &str))> = vec![
        ("an empty tree file", |m| write(&m.at("ast/fstree"), ""), "is no tree", "├── 4*- applications\n└── 6 -\n", ("4.1", "4")),
        ("a cut tree file", |m| write(&m.at("ast/fstree"), &TREE[..60]), "is no tree", "├── 4*- applications\n└── 6 -\n", ("4.1", "4")),
        ("no tree file", |m| std::fs::remove_file(m.at("ast/fstree")).expect("removed"), "is no tree", "├── 4*- app", ("6.1", "6")),
        (
            "not even text",
            |m| file::replace(&m.at("ast/fstree"), &[0xff, 0, 0x80]).expect("written"),
            "is no tree",
            "├── 4*- app",
            ("6.1", "6"),
        ),
        (
            "a root deleted before it was replaced",
            |m| {
                m.snapshot("chr4", "4 changed");
                m.remove("rootfs/snapshot-4");
            },
            "snapshot 4 is taken from its working copy",
            "    └── 4*- applications",
            ("4.1", "4 changed"),
        ),
        (
            "a snapshot of which only the copy is left",
            |m| {
                m.snapshot("chr6", "6 changed");
                ["rootfs/snapshot-6", "etc/etc-6", "boot/boot-6"].iter().for_each(|name| m.remove(name));
            },
            "snapshot 6 is taken from its working copy",
            "        └── 6 -",
            ("6.1", "6 changed"),
        ),
        (
            "an open working copy beside a whole snapshot",
            |m| m.snapshot("chr6", "half done"),
            "a working copy of snapshot 6 is left",
            "        └── 6 -",
            ("6.1", "6"),
        ),
        (
            "a snapshot in the middle that is lost",
            |m| ["rootfs/snapshot-4", "etc/etc-4"].iter().for_each(|name| m.remove(name)),
            "snapshot 4 is not whole",
            "└── 1 - multiuser system\n    ├── 2 - Plasma",
            ("2.1", "2"),
        ),
        (
            "no base",
            |m| ["rootfs/snapshot-0", "etc/etc-0", "boot/boot-0"].iter().for_each(|name| m.remove(name)),
            "snapshot 0 is in the tree file",
            "├── 0 - multiuser system\n└── 1 - multiuser",
            ("0.1", "1"),
        ),
        (
            "no deployment",
            |m| {
                shell("btrfs", &["subvolume", "set-default", "5", &m.at("").to_string_lossy()]);
                ["rootfs/snapshot-tmp", "rootfs/snapshot-tmp0"].iter().for_each(|name| m.remove(name));
            },
            "",
            "├── 0*- base snapshot\n",
            ("4.1", "4"),
        ),
        ("a deployment without its /etc", |m| m.remove("etc/etc-tmp0"), "", "    └── 4*- applications", ("4.1", "4")),
        (
            "the older layout, with a /var for each snapshot and one inside the deployment",
            |m| {
                for number in ["0", "1", "2", "4", "6"] {
                    let path = m.at(&format!("var/var-{number}"));
                    btrfs::create_subvolume(&path).expect("subvolume");
                    write(&path.join("word"), &format!("var {number}"));
                    btrfs::set_read_only(&path, true).expect("sealed");
                }
                btrfs::create_subvolume(&m.at("rootfs/snapshot-tmp0/var")).expect("subvolume");
                write(&m.at("rootfs/snapshot-tmp0/var/word"), "running");
            },
            "",
            "    └── 4*- applications",
            ("4.1", "4"),
        ),
        (
            "names that are nothing of the original's",
            |m| {
                for name in ["rootfs/snapshot-", "rootfs/snapshot-07", "rootfs/snapshot-chr", "rootfs/snapshot-1.1", "rootfs/other"] {
                    btrfs::create_subvolume(&m.at(name)).expect("subvolume");
                }
                file::make_dirs(&m.at("rootfs/snapshot-8")).expect("a plain directory");
            },
            "",
            "    └── 4*- applications",
            ("4.1", "4"),
        ),
    ];
    for (what, spoil, says, tree, (made, word)) in table {
        let machine = Original::new();
        spoil(&machine);
        let before = machine.theirs();
        let said = machine.ast(&["migrate"]);
        assert!(said.code == 0 && said.err.contains(says), "{what}: {} {}", said.code, said.err);
        same(&machine, &before, what);
        let drawn = machine.ok(&["tree"]);
        assert!(drawn.contains(tree), "{what}:\n{drawn}");
        assert_eq!(text(&machine.layout().set_part(set(made), Part::Root).join("word")), word, "{what}");
        if what.contains("older layout") {
            assert_eq!(text(&machine.layout().set_part(set("4.1"), Part::Var).join("word")), "var 4");
        }
        assert!(machine.ok(&["clone", "0"]).starts_with("snapshot 7") || what.contains("names"), "{what}");
    }
}

#[test]
fn what_cannot_be_taken_over_is_refused() {
    if skipped() {
        return;
    }
    let machine = Original::new();
    for name in ["0", "1", "2", "4", "6"] {
        machine.remove(&format!("boot/boot-{name}"));
    }
    let said = machine.ast(&["migrate"]);
    assert!(said.code == 3 && said.err.contains("no snapshot"), "{} {}", said.code, said.err);
    assert!(!machine.at("sets").exists());
    // One of ours has nothing to migrate.
    let ours = common::Machine1::new(ast::store::machine::Block::Local);
    for words in [&["migrate"][..], &["migrate", "--undo", "--yes"], &["migrate", "--dry-run"]] {
        let out = Command::new(env!("CARGO_BIN_EXE_ast")).arg("--sysroot").arg(&ours.root).args(words).output().expect("ast");
        assert!(matches!(out.status.code(), Some(0 | 3)), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(words.contains(&"--dry-run") || out.status.code() == Some(3));
    }
    assert_eq!(ours.store().tree().expect("a tree").nodes().count(), 1);
}

#[test]
fn s2_killed_at_any_point_the_machine_is_the_originals_or_taken_over() {
    if skipped() {
        return;
    }
    let machine = Original::new();
    // As few as show everything: each of theirs is a handful of points.
    for name in ["2", "6", "tmp"] {
        ["rootfs/snapshot", "etc/etc", "boot/boot"].iter().for_each(|part| machine.remove(&format!("{part}-{name}")));
    }
    let before = machine.theirs();
    let mut points = 0;
    for at in 0..80 {
        let out = machine.command(&["migrate"]).env("AST_STOP_AT", at.to_string()).env("AST_STOP_SHOW", "1").output().expect("ast");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let last = said.lines().rfind(|l| l.starts_with("stop point")).unwrap_or_default().to_owned();
        same(&machine, &before, &last);
        let tree = machine.ast(&["tree"]);
        let taken = machine.at("ast/tree.json").exists();
        assert_eq!(tree.code, if taken { 0 } else { 3 }, "at {last}: {}{}", tree.out, tree.err);
        if taken {
            assert!(tree.out.contains("└── 1 - multiuser system\n    └── 4*- applications\n"), "at {last}: {}", tree.out);
            for number in [0, 1, 4] {
                assert!(ast::volumes::is_whole_set(&machine.layout(), set(&format!("{number}.1"))), "at {last}");
            }
            machine.ok(&["desc", "4", "described"]);
            // The way back is killed at a point, too, and gone to its end.
            machine.command(&["migrate", "--undo", "--yes"]).env("AST_STOP_AT", (at % 7).to_string()).output().expect("ast");
            same(&machine, &before, &last);
            if machine.at("ast/tree.json").exists() {
                machine.ok(&["migrate", "--undo", "--yes"]);
            }
        }
        points = at;
        if out.status.success() {
            break;
        }
    }
    assert!(points > 25 && points < 79, "{points} points");
    // Whatever all these left, the next one begins anew.
    machine.ok(&["migrate"]);
    assert_eq!(file::names(&machine.at("sets")).expect("names").len(), 3);
    assert!(file::names(&machine.at("work")).expect("names").is_empty());
    same(&machine, &before, "here");
}
