//! `refresh`: new databases never lead to a partial upgrade.

use crate::machine::{Machine, skipped};

#[test]
fn after_refresh_an_install_finds_new_packages_and_is_no_partial_upgrade() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.ok(&["clone", "0"]);
    machine.offer("note", "1", &[]);
    machine.offer("app", "1", &["note"]);
    let said = machine.ast(&["install", "1", "note"]);
    assert!(said.code == 1 && said.err.contains("`ast refresh N`"), "{said:?}");
    assert_eq!(machine.ok(&["--json", "refresh", "1"]).json()["set"], "1.2");
    machine.ok(&["install", "1", "note"]);
    let sets = machine.sets();
    let said = machine.ok(&["--json", "ref", "1"]);
    assert!(said.json()["set"].is_null() && said.json()["pending"]["changed"] == serde_json::json!([]), "{said:?}");
    assert!(machine.ok(&["refresh", "1"]).err.contains("nothing to do"));

    // The mirror moves on: what is installed is old now, so the databases stay old with it.
    machine.offer("note", "2", &[]);
    machine.offer("app", "2", &["note>=2"]);
    machine.offer("other", "1", &["note>=2"]);
    let said = machine.ok(&["--json", "refresh", "1"]);
    assert_eq!(said.json()["pending"]["changed"], serde_json::json!([["note", "1-1", "2-1"]]));
    assert!(said.json()["set"].is_null(), "{said:?}");
    let said = machine.ok(&["refresh", "1"]);
    assert!(said.out.contains("note 1-1 -> 2-1") && said.err.contains("`ast upgrade`"), "{said:?}");
    assert_eq!(machine.sets(), sets, "a trap was saved");
    assert_eq!(machine.ast(&["install", "1", "other"]).code, 1, "it is of the new databases");
    machine.ok(&["install", "1", "app"]);
    let versions = |name| machine.versions(name, [1])[0].clone();
    assert_eq!((versions("note"), versions("app")), ("1-1".into(), "1-1".into()));
    machine.ok(&["run", "1", "pacman", "-Dk"]);

    machine.ok(&["upgrade", "1"]);
    machine.ok(&["install", "1", "other"]);
    assert_eq!((versions("note"), versions("app"), versions("other")), ("2-1".into(), "2-1".into(), "1-1".into()));
    machine.ok(&["run", "1", "pacman", "-Dk"]);
    // Nobody answers, and nothing is left of the try.
    machine.write_etc(1, "pacman.d/mirrorlist", "Server = http://127.0.0.1:9/\n");
    let sets = machine.sets();
    let said = machine.ast(&["refresh", "1"]);
    assert!(said.code == 1 && said.err.contains("mirror cannot be reached"), "{said:?}");
    assert_eq!((machine.ast(&["refresh", "0"]).code, machine.ast(&["refresh", "9"]).code, machine.sets()), (3, 3, sets));
}
