//! `--json`: every command prints one document, with the keys that `docs/json.md` has and no others.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::io::Write as _;
use std::process::Stdio;

use ast::layout::Part;
use ast::sys::file;
use common::documents::{self, ELSEWHERE, WITH_SYSTEM, documented_verbs};
use common::{Machine1, Said, command, n, skipped, write};

/// Keys that nothing here fills, and where they are.
const NOT_HERE: [&str; 21] = [
    // Chosen by hand in the menu; other ways to start: ast/tests/store_deploy.rs, ast/src/deploy.
    "status next.then",
    "status next.trial",
    "status next.instead_of",
    // Deployments with a kept /var and disks that counted errors: ast/tests/store_deploy.rs, tests/care.
    "status kept_vars[]",
    "status disk[]",
    "status problems[]",
    // Updates that failed: ast/src/updates has them as documents.
    "status updates.blocked[]",
    "status updates.undeleted[]",
    "status updates.trials[]",
    "check blocked[]",
    "check undeleted[]",
    "check trials[]",
    "clean vars[]",
    "tmp left[]",
    "unlock left[]",
    // Rows of its sisters, and packages: tests/across.
    "tree-run rows[].change.",
    "tree-run rows[].hints[]",
    "tree-run rows[].why",
    "tree-run rows[].etc",
    "tree-run rows[].left",
    "etc-update etc.",
];

fn json(machine: &Machine1, words: &[&str]) -> serde_json::Value {
    let words = [&["--json", "--yes"], words].concat();
    let said = common::ast(machine, &words);
    serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{words:?}: {error}: {said:?}"))
}

#[test]
fn each_command_with_a_document_has_a_test_that_reads_it() {
    let across = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests/across");
    let sources: String = std::fs::read_dir(across).expect("tests").flatten().map(|entry| common::text(&entry.path())).collect();
    for verb in WITH_SYSTEM {
        // `Machine::ast` of these tests compares each document with the documentation.
        assert!(sources.contains(&format!("\"--json\", \"{verb}\"")), "{verb}");
    }
    let verbs = documented_verbs();
    assert!(WITH_SYSTEM.iter().chain(&ELSEWHERE).all(|verb| verbs.contains(*verb)), "{verbs:?}");
}

#[test]
fn a_plan_and_what_there_is_nothing_to_do_for_are_documents_too() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    let file = machine.root.join("one.ast").to_string_lossy().into_owned();
    let key = machine.root.join("etc/ast/export.pub").to_string_lossy().into_owned();
    common::ok(&machine, &["export", "1", &file]);
    common::ok(&machine, &["clone", "1"]);
    machine.booted("d=1\nwhy=good\nenv=ok\n");
    let declared = machine.root.join("declared.toml");
    write(&declared, "[services]\nenable = [\"sshd.service\"]\n");
    let declared = declared.to_string_lossy().into_owned();
    let tree = || (common::text(&machine.layout().document(ast::layout::TREE)), file::names(&machine.layout().work()).expect("list"));
    let before = tree();
    let plans: &[&[&str]] = &[
        &["new", "two"],
        &["clone", "1"],
        &["clone-tree", "1"],
        &["branch", "1"],
        &["cbranch", "1"],
        &["ubranch", "1", "2"],
        &["desc", "1", "words"],
        &["pin", "1"],
        &["pin", "2"],
        &["del", "2"],
        &["unpin", "1"],
        &["install", "1", "hello"],
        &["remove", "1", "hello"],
        &["upgrade", "1"],
        &["refresh", "1"],
        &["base-update"],
        &["sync", "1"],
        &["tree-upgrade", "1"],
        &["tree-rmpkg", "1", "hello"],
        &["run", "1", "true"],
        &["tree-run", "1", "true"],
        &["chroot", "1"],
        &["edit-conf", "1"],
        &["apply", &declared, "1"],
        &["ast-sync"],
        &["tmp"],
        &["unlock", "1"],
        &["auto-upgrade"],
        &["export", "1", "/nowhere/one.ast"],
        &["rollback"],
    ];
    for words in plans {
        let document = json(&machine, &[&["--dry-run"], *words].concat());
        assert_eq!(document["changed"], false, "{words:?}: {document}");
        assert!(document["plan"].as_str().is_some_and(|plan| !plan.is_empty()), "{words:?}: {document}");
        assert_eq!(tree(), before, "{words:?}");
    }
    common::ok(&machine, &["pin", "1"]);
    for words in [&["pin", "1"][..], &["unpin", "2"]] {
        let document = json(&machine, words);
        assert_eq!(document, serde_json::json!({ "changed": false, "why": "nothing to do" }), "{words:?}");
    }
    // Not "nothing": what is asked for is there, and has a name.
    assert_eq!(json(&machine, &["import", &file, "--key", &key])["new"], false);
}

#[test]
fn a_document_that_is_not_as_documented_is_seen() {
    let json = |text: &str| serde_json::from_str(text).expect("JSON");
    let moved = r#""etc": { "kept": [], "merged": [], "conflicts": [{ "path": "/etc/x" }], "renumbered": [] }"#;
    let table: &[(&str, String, &[&str])] = &[
        ("pin", r#"{ "snapshot": 1, "pinned": true }"#.into(), &[]),
        ("pin", r#"{ "snapshot": 1 }"#.into(), &["pinned is documented and not printed"]),
        ("pin", r#"{ "snapshot": "1", "pinned": true, "more": 0 }"#.into(), &["more is printed and not documented", "snapshot is \"1\""]),
        ("del", r#"{ "deleted": [1, null] }"#.into(), &["deleted[] is null"]),
        ("current", r#"{ "snapshot": [] }"#.into(), &["snapshot is a list"]),
        ("deploy", r#"{ "snapshot": 1, "deployment": 2, "only_in_booted_etc": [] }"#.into(), &[]),
        (
            "deploy",
            format!(r#"{{ "snapshot": 1, "deployment": 2, "only_in_booted_etc": [], {moved} }}"#),
            &["etc.conflicts[].outcome is documented and not printed"],
        ),
        ("pin", r#"{ "changed": false, "why": "nothing to do" }"#.into(), &[]),
        ("pin", r#"{ "changed": false }"#.into(), &["neither why"]),
        ("pin", r#"{ "changed": true, "plan": "pin 1" }"#.into(), &["neither why"]),
        ("frobnicate", "{}".into(), &["has no table"]),
    ];
    for (verb, document, expected) in table {
        let wrong = documents::wrong(verb, &json(document));
        assert_eq!(wrong.len(), expected.len(), "{verb} {document}: {wrong:?}");
        assert!(expected.iter().all(|what| wrong.iter().any(|line| line.contains(what))), "{verb} {document}: {wrong:?}");
    }
}

#[test]
fn every_document_has_the_keys_that_are_documented_and_no_others() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    let verbs: Vec<String> = documented_verbs().into_iter().collect();
    let here: Vec<&str> =
        verbs.iter().map(String::as_str).filter(|verb| !WITH_SYSTEM.contains(verb) && !ELSEWHERE.contains(verb)).collect();
    let json = |words: &[&str]| json(&machine, words);

    for words in [&["new", "two"][..], &["clone", "1"], &["branch", "1"], &["cbranch", "2"], &["ubranch", "3", "1"], &["clone-tree", "1"]] {
        json(words);
    }
    for words in [
        &["desc", "2", "words"][..],
        &["pin", "2"],
        &["info", "2"],
        &["unpin", "2"],
        &["del", "5"],
        &["tree"],
        &["history"],
        &["doctor"],
        &["check"],
    ] {
        json(words);
    }
    json(&["info", "1"]);
    ast::sys::file::replace(&machine.layout().deployment_well(ast::id::DeployId::new(1)), b"1\n").expect("marked");
    assert_eq!(json(&["info", "0"])["booted_well"], serde_json::json!([1]));
    // What a link that is gone is for.
    let link = machine.layout().link(n(1), Part::Etc);
    std::fs::remove_file(&link).expect("a link");
    json(&["doctor", "--fix"]);

    assert_eq!(json(&["run", "1", "sh", "-c", "echo out; echo err >&2; touch /usr/new"])["stdout"], "out\n");
    json(&["tree-run", "1", "sh", "-c", "test ! -e /usr/other; echo said"]);
    let typed = |words: &[&str], text: &str| {
        let mut child = command(&machine, words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ast");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("typed");
        let out = child.wait_with_output().expect("ended");
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        documents::check(words, 0, &String::from_utf8_lossy(&out.stdout));
    };
    typed(&["--json", "chroot", "1"], "touch /usr/other\nexit 0\n");
    let failed = common::ast(&machine, &["--json", "tree-run", "1", "sh", "-c", "test ! -e /usr/other"]);
    assert_eq!(failed.code, 1, "{failed:?}");
    let editor = machine.root.join("editor");
    write(&editor, "#!/bin/sh\necho aur::True > $1\n");
    std::fs::set_permissions(&editor, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    let said = Said::of(command(&machine, &["--json", "edit-conf", "1"]).env("EDITOR", &editor));
    documents::check(&["--json", "edit-conf", "1"], said.code, &said.out);

    // A dead session, and one that lives.
    let dead = machine.layout().work_copy("4194305-1-00000000-0");
    let mut alive = command(&machine, &["run", "1", "sh", "-c", "touch /usr/started; sleep 60"]).spawn().expect("ast");
    let begun = std::time::Instant::now();
    let started = || {
        file::names(&machine.layout().work())
            .expect("list")
            .iter()
            .any(|name| machine.layout().work().join(name).join("root/usr/started").exists())
    };
    while !started() {
        assert!(begun.elapsed().as_secs() < 60, "it does not start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for verb in [&["tmp"][..], &["unlock", "1"]] {
        file::make_dirs(&dead).expect("dir");
        json(verb);
    }
    alive.kill().expect("killed");
    alive.wait().expect("dead");

    // Between machines, and what is here already.
    let file = machine.root.join("one.ast").to_string_lossy().into_owned();
    json(&["export", "1", &file]);
    let key = machine.root.join("etc/ast/export.pub").to_string_lossy().into_owned();
    assert_eq!(json(&["import", &file, "--key", &key])["new"], false);
    json(&["del", "1"]);
    assert_eq!(json(&["import", &file, "--key", &key])["new"], true);

    // What boots: content that nothing boots is whole for the library alone.
    let mut locked = machine.lock();
    let of = locked.tree().expect("tree").nodes().map(|node| node.id).max().expect("one");
    let (plan, two) = ast::deploy::plan_deploy(&locked, of, ast::deploy::How::Trial, ast::deploy::Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let arm = locked.boot_block().expect("block").arm;
    drop(locked);
    machine.booted(&format!("d={two}\nwhy=trial\narm={arm}\nleft=2\nenv=ok\n"));
    json(&["status"]);
    json(&["info", &of.to_string()]);
    json(&["good"]);
    json(&["current"]);
    json(&["status"]);
    write(&machine.layout().deployment_part(two, Part::Etc).join("edited"), "here\n");
    json(&["etc-update"]);
    machine.booted(&format!("d={two}\nwhy=good\nenv=ok\n"));
    json(&["bad"]);

    // Old updates, and a disk that is too full.
    let mut locked = machine.lock();
    let first = common::update(&mut locked, of);
    common::update(&mut locked, first);
    drop(locked);
    json(&["--dry-run", "clean", "--keep", "9", "--min-free", "100%"]);
    json(&["clean", "--keep", "9", "--min-free", "100%"]);

    let lacking = documents::not_shown(&here, &NOT_HERE);
    assert!(lacking.is_empty(), "documented, and shown by nothing here:\n{}", lacking.join("\n"));
}

#[test]
fn u6_updates_are_paused_for_a_time_and_resumed() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(ast::store::machine::Block::Local);
    let pause = |words: &[&str]| json(&machine, &[&["auto-upgrade"], words].concat());
    let document = pause(&["--pause", "7days"]);
    assert_eq!((&document["paused"], &document["paused_for"]), (&true.into(), &(7 * 24 * 3600).into()));
    let updates = || ast::updates::load(&machine.layout()).expect("a memory");
    assert!(updates().paused());
    for verb in ["check", "status"] {
        let said = common::ast(&machine, &[verb]);
        assert!(said.out.contains("updates are paused: 6 days") || said.out.contains("updates are paused: 7 days"), "{verb}: {}", said.out);
    }
    // U5: it ends by running time, whatever the wall clock says, and a cycle that has the memory open does not undo it.
    let mut open = updates();
    assert!(!{
        let mut later = updates();
        later.clock.uptime += 7 * 24 * 3600 + 1;
        later.paused()
    });
    pause(&["--pause", "forever"]);
    ast::updates::save(&machine.layout(), &mut open).expect("saved");
    let document = json(&machine, &["check"]);
    assert_eq!((&document["paused"], &document["paused_for"]), (&true.into(), &serde_json::Value::Null));
    assert!(common::ok(&machine, &["check"]).contains("--resume"));
    assert_eq!(json(&machine, &["--dry-run", "auto-upgrade", "--resume"])["changed"], false);
    assert!(updates().paused());
    pause(&["--resume"]);
    ast::updates::save(&machine.layout(), &mut open).expect("saved");
    assert!(!updates().paused());
    for wrong in [&["--pause"][..], &["--pause", "soon"], &["--pause", "1h", "--resume"]] {
        assert_eq!(common::ast(&machine, &[&["auto-upgrade"], wrong].concat()).code, 2, "{wrong:?}");
    }
}

#[test]
fn u9_two_writers_of_the_memory_never_write_one_file() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(ast::store::machine::Block::Local);
    let layout = machine.layout();
    // Each with a memory of its own length: two that wrote one temporary file would leave what is neither.
    let write = |length: usize| {
        for _ in 0..60 {
            let mut memory = ast::updates::Updates::default();
            memory.degraded = Some("x".repeat(length));
            ast::updates::save(&layout, &mut memory).expect("saved");
            let loaded = ast::store::document::load::<ast::updates::Updates>(&layout.document(ast::layout::UPDATES)).expect("whole");
            assert!(loaded.damage.is_none(), "{:?}", loaded.damage);
        }
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = [10, 100_000].map(|length| scope.spawn(move || write(length))).into();
        writers.into_iter().for_each(|writer| writer.join().expect("wrote"));
    });
}
