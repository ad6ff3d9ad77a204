//! `ast-sync`: ast alone, in every snapshot.

use ast::layout::Part;

use crate::bed::sh;
use crate::machine::{Machine, rows, skipped};

#[test]
fn ast_alone_is_renewed_in_every_snapshot_where_that_is_all_it_takes() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.offer("note", "1", &[]);
    for words in [&["clone", "0"][..], &["refresh", "1"], &["install", "1", "note"], &["branch", "1"], &["branch", "1"]] {
        machine.ok(words);
    }
    let old = machine.packages(0).version("ast").expect("installed").to_owned();
    let sets = machine.sets();
    let all_newest = machine.ok(&["--json", "ast-sync"]);
    assert_eq!(all_newest.rows(), rows(&[(0, "nothing"), (1, "nothing"), (2, "nothing"), (3, "nothing")]));
    assert_eq!(machine.sets(), sets);
    assert!(machine.ok(&["-n", "ast-sync"]).out.contains("next generation of snapshot 0"));

    // 2 asks a mirror that is not there, 3 trusts nobody.
    machine.write_etc(2, "pacman.d/mirrorlist", "Server = http://127.0.0.1:9/\n");
    machine.ok(&["run", "3", "sh", "-c", "rm -r /etc/pacman.d/gnupg && mkdir /etc/pacman.d/gnupg"]);
    // A newer ast and a newer note: only the one may come.
    machine.offer("note", "2", &[]);
    machine.offer_again("ast", "99", "");
    let before = [2, 3].map(|n| machine.part(n, Part::Root));
    let databases = |n| sh(&format!("cd {}/usr/share/ast/db/sync && sha256sum *", machine.part(n, Part::Root).display()));
    let database = databases(1);
    let said = machine.ast(&["--json", "ast-sync"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(said.rows(), rows(&[(0, "saved"), (1, "saved"), (2, "failed"), (3, "failed")]), "{said:?}");
    assert_eq!(said.json()["rows"][1]["change"]["changed"][0], serde_json::json!(["ast", old, "99-1"]));
    assert!(said.json()["rows"][2]["error"].as_str().expect("an error").contains("mirror"), "{said:?}");
    assert!(said.json()["rows"][3]["error"].as_str().expect("an error").contains("key"), "{said:?}");
    assert_eq!(machine.versions("ast", [0, 1, 2, 3]), ["99-1", "99-1", &old, &old]);
    assert_eq!(machine.versions("note", [1, 2]), ["1-1", "1-1"], "another package came along");
    assert_eq!([2, 3].map(|n| machine.part(n, Part::Root)), before, "what failed was saved");
    assert_eq!(databases(1), database, "the databases are new: a partial upgrade waits to happen");
    machine.ok(&["run", "1", "ast", "--version"]);
    let names = sh(&format!("ls {}", machine.layout().work().display()));
    assert!(names.is_empty(), "{names}");
}

#[test]
fn an_ast_that_needs_more_or_does_not_start_is_refused_with_the_way_out() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.offer("note", "1", &[]);
    machine.offer_again("ast", "99", "depend = note\\n");
    let sets = machine.sets();
    let said = machine.ast(&["--json", "ast-sync"]);
    assert_eq!((said.code, said.rows()), (1, rows(&[(0, "failed")])), "{said:?}");
    assert!(said.err.contains("needs more than is here: note") && said.err.contains("ast upgrade 0"), "{said:?}");
    assert_eq!(machine.sets(), sets);
    // One that pacman installs well, and whose program is not there or cannot find its libraries.
    machine.offer("ast", "100", &[]);
    let said = machine.ast(&["--json", "ast-sync"]);
    assert_eq!((said.code, said.rows()), (1, rows(&[(0, "failed")])), "{said:?}");
    assert!(said.err.contains("the new ast does not start") && said.err.contains("ast upgrade 0"), "{said:?}");
    assert_eq!(machine.sets(), sets);
}
