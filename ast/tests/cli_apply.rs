//! `ast apply` as a person meets it: words, exit codes, what is saved and what makes no generation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;


use ast::layout::{MOUNT_POINTS, PACMAN_DB, Part};
use ast::store::machine::Block;
use ast::sys::{btrfs, file};
use common::{Machine1, Said, n, set, skipped};

/// A machine whose snapshot 1 holds busybox and a list of no packages.
fn machine() -> Machine1 {
    let machine = Machine1::new(Block::Local);
    let root = machine.layout().set_part(set("0.1"), Part::Root);
    btrfs::set_read_only(&root, false).expect("opened");
    for dir in MOUNT_POINTS.into_iter().chain(["usr/bin", PACMAN_DB]) {
        std::fs::create_dir_all(root.join(dir)).expect("dir");
    }
    std::fs::create_dir_all(root.join(PACMAN_DB).join("local")).expect("dir");
    std::fs::write(root.join(PACMAN_DB).join("local/ALPM_DB_VERSION"), "9\n").expect("written");
    std::fs::copy("/bin/busybox", root.join("usr/bin/busybox")).expect("busybox-static is installed");
    for name in ["sh", "test"] {
        std::os::unix::fs::symlink("busybox", root.join("usr/bin").join(name)).expect("link");
    }
    btrfs::set_read_only(&root, true).expect("sealed");
    assert_eq!(ast(&machine, &["clone", "0", "-d", "one"]).0, 0);
    machine
}

/// Exit code, output, error output.
fn ast(machine: &Machine1, words: &[&str]) -> (i32, String, String) {
    let Said { code, out, err } = common::ast(machine, words);
    (code, out, err)
}

#[test]
fn a_declaration_is_applied_once_and_saved_once() {
    if skipped() {
        return;
    }
    let machine = machine();
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("kiosk.toml");
    let apply = |text: &str, words: &[&str]| {
        file::replace(&path, text.as_bytes()).expect("written");
        ast(&machine, &[&["apply", path.to_str().expect("text")], words].concat())
    };
    let now = || machine.store().set_of(n(1)).expect("a set");
    let first = now();

    // What is wrong with the words or the file is told before anything is made.
    for (text, words, code, names) in [
        ("", &[][..], 2, "does not say which snapshot"),
        ("surprise = 1\n", &["1"], 2, "unknown field `surprise`"),
        ("\n\n[packages]\nnever = []\n", &["1"], 2, "line 4"),
        ("snapshot = 9\n", &[], 3, "9"),
        ("", &["0"], 3, "base"),
        ("[packages]\naur = [\"x\"]\n", &["1"], 3, "aur::True"),
        ("[[command]]\nrun = [\"sh\", \"-c\", \"echo x > /usr/lost; exit 4\"]\n", &["1"], 1, "as it was"),
    ] {
        let (got, out, err) = apply(text, words);
        assert_eq!(got, code, "{text:?} {words:?}: {out}{err}");
        assert!(err.contains(names), "{text:?} {words:?}: {err}");
    }
    assert_eq!(now(), first, "something refused was saved");

    let text = "snapshot = 1\ndescription = \"kiosk in the hall\"\n\
        [[command]]\nrun = [\"sh\", \"-c\", \"echo made > /etc/note\"]\n\
        [[command]]\nrun = [\"sh\", \"-c\", \"echo once >> /etc/once\"]\ncreates = \"/etc/once\"\n\
        [[command]]\nrun = [\"sh\", \"-c\", \"echo once >> /etc/twice\"]\nunless = [\"test\", \"-e\", \"/etc/twice\"]\n";
    let (code, out, err) = apply(text, &["--dry-run"]);
    assert!(code == 0 && out.contains("run sh -c echo made > /etc/note\n") && out.contains("describe it as kiosk"), "{out}{err}");
    let (code, out, err) = apply(text, &["--diff"]);
    assert!(
        code == 0 && out.contains("--- /dev/null\n+++ /etc/note\n@@ -0,0 +1 @@\n+made\n") && out.contains("description: kiosk"),
        "{out}{err}"
    );
    assert_eq!(now(), first, "it was only to be shown");

    let (code, out, err) = apply(text, &["--json"]);
    assert_eq!(code, 0, "{out}{err}");
    let json: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(json["files"].as_array().map(Vec::len), Some(3), "{out}");
    let second = now();
    assert_eq!(second.generation.to_string(), "2");
    let etc = machine.layout().set_part(second, Part::Etc);
    let read = |name: &str| std::fs::read_to_string(etc.join(name)).expect(name);
    assert_eq!((read("note"), read("once"), read("twice")), ("made\n".into(), "once\n".into(), "once\n".into()));
    assert!(ast(&machine, &["tree"]).1.contains("1 - kiosk in the hall"));

    // The command that is run each time makes no generation when it changes nothing.
    let (code, _, err) = apply(text, &[]);
    assert!(code == 0 && err.contains("nothing to do"), "{err}");
    let (code, _, err) = apply(&text.replace("kiosk in the hall", "another"), &[]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(now(), second, "a description makes no generation");
    assert!(ast(&machine, &["tree"]).1.contains("1 - another"));
    assert!(file::names(&machine.layout().work()).expect("list").is_empty());
}
