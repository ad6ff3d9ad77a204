//! The command line against a real tree on a loop btrfs: words, exit codes, messages, and that what is refused changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use ast::store::machine::Block;
use common::{Machine1, Said, ast, command, ok, skipped};

fn run(machine: &Machine1, words: &[&std::ffi::OsStr], user: Option<u32>) -> Said {
    let mut command = command(machine, words);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Said::of(&mut command)
}

#[test]
fn the_tree_is_shaped_and_drawn_as_in_the_readme() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    assert_eq!(ok(&machine, &["clone", "0", "-d", "multiuser system"]), "snapshot 1\n");
    assert_eq!(ok(&machine, &["branch", "1", "-d", "applications"]), "snapshot 2\n");
    assert_eq!(ok(&machine, &["branch", "2", "-d", "MATE full desktop"]), "snapshot 3\n");
    assert_eq!(ok(&machine, &["cbranch", "3", "-d", "Plasma full desktop"]), "snapshot 4\n");
    assert_eq!(ok(&machine, &["ubranch", "1", "3", "--description", "copied"]), "snapshot 5\n");
    ok(&machine, &["del", "5", "--yes"]);
    assert_eq!(
        ok(&machine, &["tree"]),
        "root - root\n├── 0*- base snapshot\n└── 1 - multiuser system\n    └── 2 - applications\n        ├── 3 - MATE full desktop\n        └── 4 - Plasma full desktop\n"
    );
    // S6: the number of a deleted snapshot is not given again.
    assert_eq!(ok(&machine, &["new", "a", "new", "tree"]), "snapshot 6\n");
    ok(&machine, &["desc", "6", "two", "words"]);
    assert!(ok(&machine, &["info", "6"]).contains("two words"));
    assert_eq!(ok(&machine, &["clone-tree", "2"]).lines().count(), 3);
    let json: serde_json::Value = serde_json::from_str(&ok(&machine, &["--json", "tree"])).expect("JSON");
    assert_eq!(json["snapshots"].as_array().map(Vec::len), Some(9));
    assert!(ok(&machine, &["history"]).contains("describe 6"));
}

#[test]
fn what_is_refused_says_why_and_changes_nothing() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    ok(&machine, &["clone", "0", "-d", "one"]);
    ok(&machine, &["pin", "1"]);
    let before = (ok(&machine, &["--json", "tree"]), machine.on_disk());
    // words, exit code, what the message names
    let table: &[(&[&str], i32, &str)] = &[
        (&[], 2, "which command"),
        (&["frobnicate"], 2, "frobnicate"),
        (&["clone"], 2, "SNAPSHOT"),
        (&["clone", "one"], 2, "one"),
        (&["clone", "-1"], 2, "-1"),
        (&["clone", "01"], 2, "01"),
        (&["clone", "4294967296"], 2, "4294967296"),
        (&["clone", "../1"], 2, "../1"),
        (&["clone", "1", "2"], 2, "2"),
        (&["deploy", "1", "--once", "--no-trial"], 2, "--no-trial"),
        (&["desc", "1"], 2, "TEXT"),
        (&["run", "1"], 2, "COMMAND"),
        (&["help", "frobnicate"], 2, "frobnicate"),
        (&["clone", "9"], 3, "9"),
        (&["clone-tree", "9"], 3, "9"),
        (&["branch", "9"], 3, "9"),
        (&["cbranch", "9"], 3, "9"),
        (&["ubranch", "9", "1"], 3, "9"),
        (&["ubranch", "1", "9"], 3, "9"),
        (&["desc", "9", "text"], 3, "9"),
        (&["info", "9"], 3, "9"),
        (&["pin", "9"], 3, "9"),
        (&["del", "9", "--yes"], 3, "9"),
        (&["del", "0", "--yes"], 3, "base"),
        (&["del", "1", "--yes"], 3, "pinned"),
        (&["deploy", "9"], 3, "9"),
        (&["rollback", "9"], 3, "9"),
        (&["rollback"], 3, "booted"),
        (&["rollback", "--previous"], 3, "no other deployment"),
        (&["good"], 3, "booted"),
        (&["bad"], 3, "booted"),
        (&["current"], 3, "booted"),
        (&["deploy", "1", "--keep-etc"], 3, "/etc"),
        (&["run", "9", "true"], 3, "9"),
        (&["run", "0", "true"], 3, "base"),
        (&["chroot", "0"], 3, "base"),
    ];
    for (words, code, names) in table {
        let said = ast(&machine, words);
        assert_eq!(said.code, *code, "ast {words:?}: {}{}", said.out, said.err);
        assert!(said.err.contains(names), "ast {words:?} does not name {names:?}: {}", said.err);
        assert!(!said.err.contains("os error") || said.err.contains(": "), "a bare errno: {}", said.err);
        assert!(!said.err.contains("panicked") && !said.err.contains("RUST_BACKTRACE"), "{}", said.err);
    }
    assert_eq!((ok(&machine, &["--json", "tree"]), machine.on_disk()), before);
}

#[test]
fn a_question_that_nobody_answers_is_a_refusal() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    ok(&machine, &["clone", "0"]);
    let said = ast(&machine, &["del", "1"]);
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("--yes"), "{}", said.err);
    assert!(ok(&machine, &["tree"]).contains("1 - "));
}

#[test]
fn a_dry_run_prints_the_plan_and_changes_nothing() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let before = (machine.on_disk(), ok(&machine, &["--json", "status"]));
    for words in [&["-n", "clone", "0"][..], &["-n", "deploy", "0"], &["--dry-run", "new", "x"], &["-n", "run", "0", "true"]] {
        let said = ast(&machine, words);
        if words.contains(&"run") {
            assert_eq!(said.code, 3, "{}", said.err);
            continue;
        }
        assert_eq!(said.code, 0, "ast {words:?}: {}", said.err);
        assert!(said.out.contains("  * commit"), "ast {words:?} prints no commit: {}", said.out);
    }
    assert_eq!((machine.on_disk(), ok(&machine, &["--json", "status"])), before);
}

#[test]
fn r7_a_hostile_description_stays_on_its_line() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    for text in ["a\nb", "$(reboot)", "'; reboot; '", "\u{1b}[31mred", "}\nmenuentry x { reboot }", "\u{202e}backwards"] {
        let n = ok(&machine, &["clone", "0", "-d", text]).trim_start_matches("snapshot ").trim().to_owned();
        let tree = ok(&machine, &["tree"]);
        assert_eq!(tree.lines().filter(|l| l.contains(&format!(" {n} - "))).count(), 1, "{tree}");
        assert!(!tree.contains('\u{1b}'), "{tree:?}");
    }
    let lines = ok(&machine, &["tree"]).lines().count();
    assert_eq!(lines, 8);
    let not_utf8 = std::ffi::OsStr::from_bytes(b"\xff\xfe");
    let said = run(&machine, &["clone".as_ref(), "0".as_ref(), "-d".as_ref(), not_utf8], None);
    assert_eq!(said.code, 2, "{}", said.err);
}

#[test]
fn only_root_writes_and_says_so_in_one_line() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    for words in [&["clone", "0"][..], &["deploy", "0"], &["del", "1", "--yes"], &["run", "1", "true"]] {
        let words: Vec<_> = words.iter().map(|w| std::ffi::OsStr::new(*w)).collect();
        let said = run(&machine, &words, Some(65534));
        // The tests' directory belongs to root alone, so `del` may already be stopped by not seeing the tree.
        assert_eq!(said.code, 1, "{words:?}: {}", said.err);
    }
}

#[test]
fn a_second_writer_is_told_with_its_own_exit_code() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let _held = machine.lock();
    let said = ast(&machine, &["clone", "0"]);
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("another ast"), "{}", said.err);
    // Reading needs no lock.
    ok(&machine, &["tree"]);
}

/// What `doctor` finds on the machine.
fn findings(machine: &Machine1) -> Vec<String> {
    let said = ast(machine, &["--json", "doctor"]);
    let checks: serde_json::Value = serde_json::from_str(&said.out).expect("JSON");
    let found = checks["checks"].as_array().expect("checks").iter().flat_map(|check| check["found"].as_array().expect("a list").clone());
    found.map(|text| text.to_string()).collect()
}

#[test]
fn s7_a_hundred_at_once_take_turns_or_are_told_and_nobody_sees_half() {
    const WRITERS: u32 = 50;
    const READERS: usize = 50;
    // Deleted by some of the writers; 1 is described and copied by others.
    const VICTIMS: std::ops::RangeInclusive<u64> = 2..=11;
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    for _ in 1..=*VICTIMS.end() {
        let (plan, _) = locked.plan_new("before").expect("a plan");
        drop(locked.run(plan).expect("committed"));
    }
    drop(locked);
    let (found, lines) = (findings(&machine), ok(&machine, &["history", "-l", "1000"]).lines().count());
    let start = |words: &[&str]| {
        let mut command = command(&machine, words);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("ast")
    };
    let words = |writer: u32| {
        let text = format!("by {writer}");
        match writer % 5 {
            0 => vec!["desc".to_owned(), "1".into(), text],
            1 => vec!["clone".to_owned(), "1".into(), "-d".into(), text],
            2 => vec!["--yes".to_owned(), "del".into(), (2 + writer / 5).to_string()],
            3 => vec!["new".to_owned(), text],
            _ => vec!["branch".to_owned(), "1".into(), "-d".into(), text],
        }
    };
    let reads: [&[&str]; 4] = [&["--json", "tree"], &["--json", "status"], &["--json", "info", "1"], &["--json", "history"]];
    let mut writers = Vec::new();
    let mut readers = Vec::new();
    for (writer, read) in (0..WRITERS).zip((0..READERS).map(|reader| reads[reader % 4])) {
        let words = words(writer);
        writers.push((writer, start(&words.iter().map(String::as_str).collect::<Vec<_>>())));
        readers.push((read, start(read)));
    }

    // Each reader saw one state, and each writer did what it was told to or nothing.
    let (mut trees, mut made, mut deleted, mut described, mut done) = (Vec::new(), Vec::new(), Vec::new(), vec!["before".to_owned()], 0);
    for (read, reader) in readers {
        let out = reader.wait_with_output().expect("ended");
        assert!(out.status.success(), "{read:?}: {}", String::from_utf8_lossy(&out.stderr));
        let document: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one document");
        match read[1] {
            "tree" => trees.push(document["snapshots"].as_array().expect("a list").clone()),
            "status" => assert_eq!((&document["problems"], &document["default"]["deployment"]), (&serde_json::json!([]), &1.into())),
            _ => {}
        }
    }
    for (writer, child) in writers {
        let out = child.wait_with_output().expect("ended");
        let (code, err) = (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned());
        if code == Some(4) {
            assert!(err.contains("another ast"), "{writer}: {err}");
            continue;
        }
        assert_eq!(code, Some(0), "{:?}: {err}", words(writer));
        done += 1;
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        match writer % 5 {
            0 => described.push(format!("by {writer}")),
            2 => deleted.push(u64::from(2 + writer / 5)),
            _ => made.push((said.trim_start_matches("snapshot ").trim().parse::<u64>().expect("a number"), format!("by {writer}"))),
        }
    }
    made.sort();
    eprintln!("{done} of {WRITERS} writers had their turn, {} trees were seen", trees.len());
    assert!(done > 0 && trees.len() == READERS.div_ceil(4));
    let last: serde_json::Value = serde_json::from_str(&ok(&machine, &["--json", "tree"])).expect("JSON");
    trees.push(last["snapshots"].as_array().expect("a list").clone());
    for tree in &trees {
        let ids: Vec<u64> = tree.iter().map(|node| node["id"].as_u64().expect("a number")).collect();
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), ids.len(), "one twice: {ids:?}");
        assert!(tree.iter().all(|node| node["parent"].is_null() || ids.contains(&node["parent"].as_u64().expect("a number"))), "{tree:?}");
        // Numbers are given in the order of the commits, and no new one is deleted: whoever sees one sees all before it.
        let mut new: Vec<(u64, String)> = tree
            .iter()
            .filter(|node| node["id"].as_u64() > Some(*VICTIMS.end()))
            .map(|node| (node["id"].as_u64().expect("a number"), node["description"].as_str().expect("text").to_owned()))
            .collect();
        new.sort();
        assert_eq!(new, made[..new.len()], "what no order of commits has");
        let one = tree.iter().find(|node| node["id"] == 1).expect("1 stays");
        assert!(described.contains(&one["description"].as_str().expect("text").to_owned()), "{one}");
        assert!(VICTIMS.filter(|victim| !ids.contains(victim)).all(|gone| deleted.contains(&gone)), "{ids:?}, {deleted:?}");
    }
    let ids: Vec<u64> = trees[trees.len() - 1].iter().map(|node| node["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids.len(), 2 + VICTIMS.count() - deleted.len() + made.len(), "all that was told is there, and nothing else");
    assert_eq!(ok(&machine, &["history", "-l", "1000"]).lines().count(), lines + done, "each commit has its line");
    assert!(machine.lock().repaired().mended.is_empty());
    assert_eq!(machine.on_disk().len(), ids.len() + 1, "each snapshot has its set, beside the deployment: {:?}", machine.on_disk());
    assert_eq!(findings(&machine), found);
}

#[test]
fn doctor_finds_what_is_wrong_and_mends_it() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    ok(&machine, &["clone", "0"]);
    let link = machine.layout().link(common::n(1), ast::layout::Part::Etc);
    std::fs::remove_file(&link).expect("a link");
    let said = ast(&machine, &["doctor"]);
    assert_eq!(said.code, 5, "{}{}", said.out, said.err);
    assert!(said.out.contains("WRONG") && said.out.contains("etc-1"), "{}", said.out);
    drop(ast(&machine, &["doctor", "--fix"]));
    assert!(link.exists());
    assert!(!ast(&machine, &["doctor"]).out.contains("etc-1"));
}

#[test]
fn u8_clean_says_what_goes_and_why_and_does_it_when_told() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    ok(&machine, &["clone", "0", "-d", "kiosk"]);
    assert!(ok(&machine, &["--yes", "clean"]).contains("nothing to do"));
    let mut locked = machine.lock();
    for below in 1..5 {
        common::update(&mut locked, common::n(below));
    }
    drop(locked);
    ok(&machine, &["pin", "3"]);
    let before = (ok(&machine, &["--json", "tree"]), machine.on_disk());
    let unchanged = || assert_eq!((ok(&machine, &["--json", "tree"]), machine.on_disk()), before);
    let dry = ok(&machine, &["--dry-run", "clean", "--keep", "1"]);
    for line in [
        "snapshot 1 stays: a person made it",
        "snapshot 2 goes: ",
        "snapshot 3 stays: it is pinned",
        "snapshot 5 stays: one of",
        "-2.1 -4.1",
    ] {
        assert!(dry.contains(line), "no {line:?} in\n{dry}");
    }
    let json: serde_json::Value = serde_json::from_str(&ok(&machine, &["--json", "--dry-run", "clean", "--keep", "1"])).expect("JSON");
    assert_eq!((&json["snapshots"][2]["goes"], &json["snapshots"][3]["goes"]), (&true.into(), &false.into()), "{json:#}");
    unchanged();
    // As many as there are stay by default; nobody can be asked here; nothing while something is on trial.
    assert!(ok(&machine, &["--yes", "clean"]).contains("nothing to do"));
    let said = ast(&machine, &["clean", "--keep", "1"]);
    assert!(said.code == 3 && said.err.contains("2, 4"), "{}", said.err);
    unchanged();
    let mut locked = machine.lock();
    let (plan, d) = ast::deploy::plan_deploy(&locked, common::n(1), ast::deploy::How::Trial, ast::deploy::Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let arm = locked.boot_block().expect("block").arm;
    drop(locked);
    let said = ast(&machine, &["--yes", "clean", "--keep", "1"]);
    assert!(said.code == 3 && said.err.contains("on trial"), "{}", said.err);
    let mut locked = machine.lock();
    let plan = ast::deploy::plan_fail_trial(&locked, d, arm, "test").expect("a plan").expect("a trial");
    drop(locked.run(plan).expect("committed"));
    drop(locked);
    unchanged();
    ok(&machine, &["--yes", "clean", "--keep", "1"]);
    assert_eq!(ok(&machine, &["tree"]).lines().count(), 5, "{}", ok(&machine, &["tree"]));
    assert!(ok(&machine, &["tree"]).contains("└── 3 - update") && ok(&machine, &["history"]).contains("retention: delete snapshots 2, 4"));
}

#[test]
fn u8_clean_goes_by_age_and_by_free_space() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    ok(&machine, &["clone", "0", "-d", "kiosk"]);
    let mut locked = machine.lock();
    for below in 1..5 {
        common::update(&mut locked, common::n(below));
    }
    drop(locked);
    for (option, words) in [
        ("--older-than", &["", "30", "1 fortnight", "-1d", "days"][..]),
        ("--min-free", &["", "G", "1.5G", "101%", "1 parsec"]),
        ("--keep", &["", "-1", "some"]),
    ] {
        for word in words {
            let said = ast(&machine, &["clean", &format!("{option}={word}")]);
            assert!(said.code == 2 && said.err.contains(option), "{option}={word}: {said:?}");
        }
    }
    let dry = |words: &[&str]| ok(&machine, &[&["--dry-run", "clean", "--keep", "0"], words].concat());
    assert!(dry(&["--older-than", "30days"]).contains("snapshot 2 stays: it is not old enough\n"));
    assert!(dry(&["--older-than", "0s"]).contains("snapshot 2 goes: "));
    let said = dry(&["--older-than", "2weeks", "--min-free", "100%"]);
    assert!(said.contains("snapshot 2 goes: the disk is too full") && said.contains("256 MiB should be: until then these go next, one after the other: 3, 4, 5"), "{said}");
    // The owner's settings hold where no word is said.
    let settings = machine.root.join("etc/ast/autoupdate.toml");
    ast::sys::file::make_dirs(settings.parent().expect("a directory")).expect("dir");
    common::write(&settings, "keep_updates = 0\nkeep_days = 1\nmin_free = \"100%\"\n");
    assert!(ok(&machine, &["-n", "clean"]).contains("snapshot 2 goes: the disk is too full"));
    assert!(ok(&machine, &["-n", "clean", "--min-free", "1M"]).contains("nothing to do"));
    let said = ast(&machine, &["clean"]);
    assert!(said.code == 3 && said.err.contains("Delete snapshot 2, and then, until enough is free, 3, 4, 5?"), "{said:?}");
    let said = ast(&machine, &["--yes", "clean", "--keep", "1"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.ends_with("snapshot 5 goes: the disk is too full, and it is the oldest that may go\n"), "{said:?}");
    assert!(said.err.contains("less than 256 MiB are free, and nothing more may go"), "{said:?}");
    assert_eq!(ok(&machine, &["tree"]).lines().count(), 3);
    let json: serde_json::Value = serde_json::from_str(&ok(&machine, &["--json", "--yes", "clean"])).expect("JSON");
    assert_eq!((&json["short"]["wanted"], &json["next"], &json["deleted"]), (&(256u64 << 20).into(), &serde_json::json!([]), &serde_json::json!([])));
}

#[test]
#[allow(clippy::disallowed_methods)]
fn a_real_bash_completes_commands() {
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_ast"));
    let line = "source <(ast completions bash); COMP_WORDS=(ast cl); COMP_CWORD=1; COMP_TYPE=9; _clap_complete_ast ast cl ast; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let path = format!("{}:/usr/bin:/bin", program.parent().expect("a directory").display());
    let out = Command::new("bash").args(["-ec", line]).env("PATH", path).output().expect("bash");
    let said = String::from_utf8_lossy(&out.stdout);
    let words: Vec<&str> = said.lines().map(str::trim).collect();
    assert!(words.contains(&"clone") && words.contains(&"clone-tree") && words.contains(&"clean"), "{out:?}");
    assert!(words.iter().all(|word| word.starts_with("cl")), "{words:?}");
}
