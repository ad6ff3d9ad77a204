//! `tree-upgrade`, `tree-rmpkg`: packages in every snapshot of a tree.

use std::fs;

use ast::layout::Part;

use crate::machine::{Machine, rows, skipped};

#[test]
fn r4_a_tree_is_upgraded_but_for_the_snapshot_where_it_fails() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.offer("note", "1", &[]);
    for words in [&["clone", "0"][..], &["refresh", "1"], &["install", "1", "note"], &["branch", "1"], &["branch", "2"], &["branch", "1"]] {
        machine.ok(words);
    }
    assert_eq!(machine.versions("note", [1, 2, 3, 4]), ["1-1"; 4]);
    // The one in the middle asks a mirror that is not there.
    machine.write_etc(2, "pacman.d/mirrorlist", "Server = http://127.0.0.1:9/\n");
    machine.offer("note", "2", &[]);
    let before = machine.part(2, Part::Root);
    let said = machine.ast(&["--json", "tree-upgrade", "1"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.rows(), rows(&[(1, "saved"), (2, "failed"), (3, "saved"), (4, "saved")]));
    assert!(said.json()["rows"][1]["error"].as_str().expect("an error").contains("mirror cannot be reached"), "{said:?}");
    assert_eq!(said.json()["rows"][3]["change"]["changed"][0], serde_json::json!(["note", "1-1", "2-1"]));
    assert!(said.err.contains("1 of 4 snapshots failed and are as they were: 2"), "{said:?}");
    assert_eq!(machine.versions("note", [0, 1, 2, 3, 4]), ["", "2-1", "1-1", "2-1", "2-1"]);
    assert_eq!(machine.part(2, Part::Root), before, "it was saved");
    // What is new already is left as it is.
    let sets = machine.sets();
    let said = machine.ast(&["--json", "tupgrade", "4"]);
    assert_eq!((said.code, said.rows()), (0, rows(&[(4, "nothing")])));
    assert_eq!(machine.sets(), sets);
}

#[test]
fn a_snapshot_that_lacks_the_package_is_passed_over_by_tree_rmpkg() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.offer("note", "1", &[]);
    machine.offer_in_group("member", "1", "club");
    for words in [
        &["clone", "0"][..],
        &["refresh", "1"],
        &["--json", "install", "1", "note", "member"],
        &["branch", "1"],
        &["branch", "2"],
        &["--json", "remove", "2", "note", "member"],
        &["--yes", "pin", "2"],
    ] {
        machine.ok(words);
    }
    let before = machine.part(2, Part::Root);
    let said = machine.ok(&["--json", "tree-rmpkg", "1", "note"]);
    assert_eq!(said.rows(), rows(&[(1, "saved"), (2, "nothing"), (3, "saved")]));
    assert_eq!(machine.versions("note", [1, 2, 3]), ["", "", ""]);
    assert_eq!(machine.part(2, Part::Root), before);
    // A group is what is in it.
    let said = machine.ok(&["tremove", "1", "club"]);
    assert_eq!(machine.versions("member", [1, 2, 3]), ["", "", ""]);
    assert!(said.out.contains("3         saved    - member 1-1"), "{said:?}");
    // Nothing left to do, and what others need stays everywhere.
    let sets = machine.sets();
    assert_eq!(machine.ok(&["--json", "tree-rmpkg", "1", "note", "club"]).rows(), rows(&[(1, "nothing"), (2, "nothing"), (3, "nothing")]));
    let said = machine.ast(&["--json", "tree-rmpkg", "2", "glibc"]);
    assert_eq!((said.code, said.rows()), (1, rows(&[(2, "failed"), (3, "failed")])));
    assert_eq!(machine.sets(), sets);
}

#[test]
fn c2_package_files_that_no_snapshot_has_go_with_clean() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    let cache = machine.root.join("var/cache/pacman/pkg");
    let spare = cache.join("spare-1-1-any.pkg.tar.zst");
    fs::write(&spare, "x").expect("file");
    assert!(machine.ok(&["--dry-run", "clean"]).out.contains("nothing to do"));
    assert!(spare.exists(), "a dry run deletes nothing");
    machine.ok(&["--yes", "clean"]);
    assert!(!spare.exists());
}
