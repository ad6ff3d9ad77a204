//! `sync`, `force-sync`: what a parent has arrives below it, and never as a mixture of old and new.

use ast::layout::Part;

use crate::machine::{Machine, rows, skipped};

#[test]
fn force_sync_installs_the_very_files_of_the_parent_without_a_mirror() {
    if skipped() {
        return;
    }
    let mut machine = Machine::new();
    machine.offer("lib", "1", &[]);
    machine.offer("app", "1", &["lib"]);
    for words in [&["clone", "0"][..], &["refresh", "1"], &["branch", "1"], &["branch", "2"], &["install", "1", "app"]] {
        machine.ok(words);
    }
    // Edited in the parent: pristine below; touched below; of no package; accounts.
    let script =
        "echo parent >> /etc/profile; echo parent >> /etc/hosts; echo parent > /etc/own.conf; echo parent:x:9:9::/: >> /etc/passwd";
    machine.ok(&["run", "1", "sh", "-c", script]);
    machine.ok(&["run", "2", "sh", "-c", "echo child >> /etc/hosts"]);
    machine.stop_mirror();
    let sets = machine.sets();
    let plan = machine.ok(&["--dry-run", "force-sync", "1"]).out;
    assert!(plan.contains("install app 1-1 of snapshot 1") && !plan.contains("install lib"), "{plan}");
    assert_eq!(machine.sets(), sets);

    let said = machine.ok(&["--json", "force-sync", "1"]);
    assert_eq!(said.rows(), rows(&[(1, "nothing"), (2, "saved"), (3, "saved")]));
    let row = &said.json()["rows"][1];
    assert_eq!(row["etc"], serde_json::json!(["/etc/own.conf", "/etc/profile"]));
    assert_eq!(row["left"], serde_json::json!(["/etc/hosts"]));
    assert_eq!(
        (machine.versions("app", [1, 2, 3]), machine.versions("lib", [1, 2, 3])),
        (["1-1"; 3].map(Into::into), ["1-1"; 3].map(Into::into))
    );
    for n in [2, 3] {
        let packages = machine.packages(n);
        assert_eq!(["app", "lib"].map(|name| packages.get(name).expect("there").explicit), [true, false], "in {n}");
        assert_eq!([machine.etc(n, "profile"), machine.etc(n, "own.conf")], [machine.etc(1, "profile"), "parent\n".into()], "in {n}");
        assert!(machine.etc(n, "hosts").ends_with("child\n") && !machine.etc(n, "hosts").contains("parent"), "in {n}");
        assert!(!machine.etc(n, "passwd").contains("parent"), "in {n}");
        // Its own database, which fits what is there.
        machine.ok(&["run", &n.to_string(), "sh", "-c", "pacman -Dk && pacman -Qkk app lib"]);
    }
    let sets = machine.sets();
    let said = machine.ok(&["fsync", "1"]);
    assert_eq!(said.out.matches("nothing  it lacks nothing").count(), 3, "{said:?}");
    assert_eq!(machine.sets(), sets);
    // A package whose file is gone cannot come that way, and nothing else of that snapshot changes.
    machine.ok(&["remove", "3", "app"]);
    std::fs::remove_file(machine.cache().join("lib-1-1-any.pkg.tar.zst")).expect("cached");
    let before = machine.part(3, Part::Root);
    let said = machine.ast(&["force-sync", "2"]);
    assert!(said.code == 1 && said.err.contains("lib 1-1 is not in the cache") && said.err.contains("`ast sync N`"), "{said:?}");
    assert_eq!(machine.part(3, Part::Root), before);
}

#[test]
fn a_sync_never_mixes_old_and_new() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.keep("own-build", "1");
    machine.offer("lib", "1", &[]);
    for words in [&["clone", "0"][..], &["refresh", "1"], &["install", "1", "lib"], &["branch", "1"], &["branch", "1"], &["branch", "2"]] {
        machine.ok(words);
    }
    machine.offer("lib", "2", &[]);
    machine.offer("tool", "1", &["lib>=2"]);
    machine.ok(&["upgrade", "1"]);
    machine.ok(&["install", "1", "tool"]);
    machine.ok(&["run", "1", "pacman", "-U", "--noconfirm", "/var/cache/pacman/pkg/own-build-1-1-any.pkg.tar.zst"]);
    let sets = machine.sets();
    let said = machine.ast(&["--json", "force-sync", "1"]);
    assert_eq!((said.code, said.rows()), (1, rows(&[(1, "nothing"), (2, "failed"), (4, "nothing"), (3, "failed")])));
    let error = &said.json()["rows"][1]["error"];
    assert!(error.as_str().expect("text").contains("lib is 1-1 here and 2-1 in the snapshot above"), "{said:?}");
    assert_eq!(machine.sets(), sets, "something was saved");

    // The mirror has lost the file that the parent was made of: it is fetched once for all.
    machine.lose("tool");
    machine.write_etc(3, "pacman.d/mirrorlist", "Server = http://127.0.0.1:9/\n");
    let said = machine.ast(&["--json", "sync", "1"]);
    assert_eq!((said.code, said.rows()), (1, rows(&[(1, "nothing"), (2, "saved"), (4, "saved"), (3, "failed")])), "{said:?}");
    assert_eq!(machine.versions("lib", [1, 2, 3, 4]), ["2-1", "2-1", "1-1", "2-1"]);
    assert_eq!(machine.versions("tool", [1, 2, 3, 4]), ["1-1", "1-1", "", "1-1"]);
    assert_eq!(machine.versions("own-build", [1, 2, 3, 4]), ["1-1", "1-1", "", "1-1"]);
    machine.ok(&["run", "4", "pacman", "-Dk"]);
    let sets = machine.sets();
    assert_eq!(machine.ok(&["--json", "tree-sync", "2"]).rows(), rows(&[(2, "nothing"), (4, "nothing")]));
    assert_eq!(machine.sets(), sets);
    assert_eq!((machine.ast(&["sync", "0"]).code, machine.ast(&["sync", "9"]).code, machine.ast(&["sync"]).code), (3, 3, 2));
}
