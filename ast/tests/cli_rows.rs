//! More rows of bad input: every verb that the program has, with files that are none, hostile names, a disk that takes no write, and one that is full.
#![cfg(feature = "cli")]
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use ast::layout;
use ast::store::machine::Block;
use ast::sys::file;
use common::*;

/// Rows that there are at least, besides those of `cli_refuses`.
const ROWS: usize = 300;

/// A file of each kind that is none of what is wanted: its name, and what is in it.
fn bad_files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("empty", Vec::new()),
        ("zeroes", vec![0; 4096]),
        ("not-utf8", vec![b'a', 0xff, 0xfe, b'\n', 0x80]),
        ("ten-megabytes", b"x".repeat(10 << 20)),
        ("one-line-of-many", b"hello \n".repeat(100_000)),
        ("brace", b"{".to_vec()),
        ("json", b"{\"version\":1}\n".to_vec()),
        ("toml-cut", b"[packages\ninstall = [\"he".to_vec()),
        ("toml-unknown", b"[nonsense]\nkey = 1\n".to_vec()),
        ("toml-types", b"packages = 7\nusers = \"x\"\n".to_vec()),
        ("shell", b"$(reboot)\n`reboot`\n; reboot\n".to_vec()),
        ("option", b"-Rdd\n--config=/x\n".to_vec()),
        ("climbs", b"../../../etc/passwd\n/etc/shadow\n".to_vec()),
        ("quotes", b"a'b\n\"c\"\n".to_vec()),
    ]
}

/// Verbs that read a file, which `@` stands for.
const WITH_FILE: &[&[&str]] = &[
    &["apply", "@", "1"],
    &["apply", "@", "1", "--diff"],
    &["import", "@"],
    &["-n", "import", "@"],
    &["import", "@", "--key", "@"],
    &["export", "1", "/tmp/never-made", "--key", "@"],
    &["install", "1", "-P", "@"],
    &["bootstrap", "/nowhere/disk", "--answers", "@"],
    &["--yes", "bootstrap", "/nowhere/disk", "--profile", "@"],
];

/// Verbs that change something, as they are well formed on the machine below. `ro`: what they say of a disk that takes no write.
const WRITES: &[&[&str]] = &[
    &["desc", "1", "x"],
    &["new"],
    &["clone", "0"],
    &["clone-tree", "1"],
    &["branch", "1"],
    &["cbranch", "1"],
    &["ubranch", "1", "0"],
    &["--yes", "del", "2"],
    &["pin", "1"],
    &["install", "1", "hello"],
    &["remove", "1", "hello"],
    &["upgrade", "1"],
    &["refresh", "1"],
    &["base-update"],
    &["run", "1", "true"],
    &["tree-run", "1", "true"],
    &["tree-upgrade", "1"],
    &["tree-rmpkg", "1", "hello"],
    &["sync", "1"],
    &["force-sync", "1"],
    &["deploy", "1"],
    &["boot-update", "1"],
    &["rollback", "--previous"],
    &["export", "1", "-"],
];

/// Words that make no command, for verbs that take something else than a snapshot.
const NO_COMMANDS: &[&[&str]] = &[
    &["which"],
    &["which", "a", "b"],
    &["diff"],
    &["diff", "1"],
    &["diff", "1", "x"],
    &["diff", "x", "1"],
    &["diff", "1", "2", "3"],
    &["diff", "1", "2", "--nonsense"],
    &["apply"],
    &["apply", "/dev/null", "x"],
    &["apply", "/dev/null", "1", "2"],
    &["etc-update", "1"],
    &["live-chroot", "1"],
    &["base-update", "1"],
    &["boot-update", "x"],
    &["check", "x"],
    &["auto-upgrade", "x"],
    &["good", "1"],
    &["bad", "1"],
    &["ast-sync", "1"],
    &["bootstrap"],
    &["bootstrap", "/nowhere/disk", "more"],
    &["bootstrap", "/nowhere/disk", "--boot", "floppy"],
    &["migrate", "x"],
    &["migrate", "--undo", "--boot"],
    &["migrate", "--undo", "--finish"],
    &["migrate", "--boot", "--finish"],
    &["man", "--nonsense"],
    &["tmp", "1"],
    &["unlock"],
    &["clean", "1"],
    &["clean", "--older-than", "x"],
    &["clean", "--min-free", "lots"],
    &["list"],
    &["info"],
    &["chroot"],
    &["edit-conf"],
    &["upgrade"],
    &["refresh"],
    &["sync"],
    &["force-sync"],
    &["cbranch"],
    &["branch"],
    &["clone-tree"],
    &["unpin"],
    &["pin"],
    &["tree-rmpkg", "1"],
    &["tree-upgrade"],
];

/// Rules: well formed, and not allowed on the machine below. With a word that has to be in the message.
const REFUSED: &[(&[&str], &str)] = &[
    (&["diff", "1", "77"], "77"),
    (&["diff", "77", "1"], "77"),
    (&["apply", "/dev/null", "77"], "77"),
    (&["etc-update"], "booted"),
    (&["live-chroot"], "booted"),
    (&["install", "--live", "1", "hello"], "booted"),
    (&["good"], "booted"),
    (&["migrate"], "original"),
    (&["migrate", "--boot"], "original"),
    (&["migrate", "--finish", "--yes"], "original"),
    (&["migrate", "--undo", "--yes"], "original"),
    (&["rollback", "--previous"], "no other deployment"),
    (&["boot-update", "77"], "77"),
    (&["ubranch", "1", "77"], "77"),
    (&["ubranch", "77", "1"], "77"),
    (&["del", "2"], "--yes"),
];

/// Hostile names of packages, for verbs that only read.
const NO_PACKAGES: &[&str] = &["", "-Rdd", "a b", "a\nb", "$(reboot)", "../../x", "a;b", "`id`", "a'b", "a\"b", "a|b"];

struct Table {
    machine: Machine1,
    before: String,
    rows: usize,
    verbs: BTreeSet<String>,
    /// Every row that is not as it should be: all are told at once.
    wrong: Vec<String>,
}

impl Table {
    /// Snapshots 0, 1 and 2 below 1; deployment 1 of the base boots.
    fn new() -> Self {
        let machine = Machine1::new(Block::Local);
        ok(&machine, &["new", "one"]);
        ok(&machine, &["branch", "1"]);
        let mut table = Self { machine, before: String::new(), rows: 0, verbs: BTreeSet::new(), wrong: Vec::new() };
        table.before = table.state();
        table
    }

    fn state(&self) -> String {
        let documents = [layout::TREE, layout::MACHINE, layout::NUMBERS].map(|name| self.machine.layout().document(name));
        let texts = documents.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect::<Vec<_>>();
        format!("{:?} {texts:?} {:?}", self.machine.on_disk(), self.machine.store().block().ok())
    }

    /// Words, the exit codes that are right, and what the message has to name; nothing has changed.
    fn row(&mut self, words: &[&str], codes: &[i32], names: &str) {
        let said = Said::of(command(&self.machine, words).env("EDITOR", "true"));
        let shown: Vec<String> = words.iter().map(|word| word.chars().take(60).collect()).collect();
        let now = self.state();
        let wrong = [
            (!codes.contains(&said.code), "another exit code"),
            (!said.err.contains(names), "it is not named"),
            (said.err.trim().is_empty(), "not a word"),
            (said.err.len() > 10_000, "too many words"),
            (said.err.contains("panicked") || said.err.contains("a bug"), "a bug"),
            (said.err.contains('\u{1b}'), "drives the terminal"),
            (now != self.before, "something has changed"),
        ];
        let told: String = said.err.chars().take(300).collect();
        self.wrong.extend(
            wrong
                .iter()
                .filter(|(is, _)| *is)
                .map(|(_, what)| format!("ast {shown:?}: {what}: {} instead of {codes:?}: {told}", said.code)),
        );
        self.rows += 1;
        self.verbs.extend(words.iter().find(|word| !word.starts_with('-')).map(|word| (*word).to_owned()));
    }

    fn remount(&self, how: &str) {
        for at in [".snapshots", "boot", "var"] {
            let status =
                Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.machine.root.join(at)).status().expect("mount");
            assert!(status.success());
        }
    }
}

/// The verbs that the program says it has.
fn verbs(machine: &Machine1) -> BTreeSet<String> {
    let help = ok(machine, &["--help"]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    lines
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn r7_every_verb_refuses_bad_files_names_and_words_and_changes_nothing() {
    if skipped() {
        return;
    }
    let mut table = Table::new();
    let dir = tempfile::tempdir().expect("dir");
    for (name, bytes) in bad_files() {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        for words in WITH_FILE {
            let path = path.to_string_lossy();
            let words: Vec<&str> = words.iter().map(|word| if *word == "@" { &path } else { *word }).collect();
            // A profile may be text of any kind, so it can be packages that nobody has, too.
            table.row(&words, &[1, 2, 3], "");
        }
    }
    for path in ["/nowhere/at/all", "/", "/dev/null", "/proc/self/mem"] {
        for words in WITH_FILE {
            let words: Vec<&str> = words.iter().map(|word| if *word == "@" { path } else { *word }).collect();
            table.row(&words, &[1, 2, 3], "");
        }
    }
    for words in NO_COMMANDS {
        table.row(words, &[2], "");
    }
    for (words, names) in REFUSED {
        table.row(words, &[2, 3], names);
    }
    for bad in NO_PACKAGES {
        for words in [&["which", "--", bad][..], &["install", "1", "--live", "--", bad]] {
            table.row(words, &[2, 3], "");
        }
    }
    assert!(!Path::new("/tmp/never-made").exists());
    writes_that_cannot_be(&mut table);
    let missing: Vec<_> = verbs(&table.machine).into_iter().filter(|verb| !table.verbs.contains(verb)).collect();
    // These only read and print, and take words that `cli_refuses` has rows for.
    const READ: [&str; 7] = ["tree", "current", "status", "history", "doctor", "completions", "help"];
    let without: Vec<_> = missing.iter().filter(|verb| !READ.contains(&verb.as_str())).collect();
    table.wrong.extend(without.iter().map(|verb| format!("no row has {verb}")));
    assert!(table.wrong.is_empty(), "{} rows are wrong:\n{}", table.wrong.len(), table.wrong.join("\n"));
    eprintln!("{} rows, {} verbs", table.rows, table.verbs.len());
    assert!(table.rows >= ROWS, "{} rows", table.rows);
}

/// On a disk that is read-only, and on one that is full.
fn writes_that_cannot_be(table: &mut Table) {
    table.remount("ro");
    for words in WRITES {
        for options in [&[][..], &["--json"], &["--yes"], &["-q"]] {
            table.row(&[options, words].concat(), &[1, 2, 3], "");
        }
    }
    table.remount("rw");
    let fill = table.machine.root.join(".snapshots/fill");
    let (_, free) = ast::sys::btrfs::space(&table.machine.root.join(".snapshots")).expect("space");
    file::reserve(&fill, free.saturating_sub(24 << 20)).expect("filled");
    file::syncfs(&fill).expect("synced");
    for words in WRITES.iter().filter(|words| ["new", "clone", "clone-tree", "branch", "cbranch", "ubranch", "deploy"].contains(&words[0]))
    {
        table.row(words, &[1], "MiB");
        table.row(&[&["--json"], *words].concat(), &[1], "MiB");
    }
    file::remove_if_exists(&fill).expect("removed");
    // The space comes back with the next commits.
    file::syncfs(&table.machine.root.join(".snapshots")).expect("synced");
    file::syncfs(&table.machine.root.join(".snapshots")).expect("synced");
    let said = ast(&table.machine, &["clone", "0"]);
    assert_eq!(said.code, 0, "with space again: {}", said.err);
    ok(&table.machine, &["--yes", "del", "3"]);
    drop(table.machine.lock());
    table.before = table.state();
}
