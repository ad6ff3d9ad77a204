//! Sessions of a person: an editor on the settings, a shell that is left, `^C` and signals in the middle, and what clears up after them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use ast::layout::Part;
use ast::sys::file;
use common::{Machine1, command, n, set, skipped, text, write};

/// A process that starts is there by then, and one that is killed gone, on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Exit code, and everything that was said.
fn said(out: &Output) -> (i32, String) {
    let text = [out.stdout.as_slice(), &out.stderr].concat();
    (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&text).into())
}

fn ast(machine: &Machine1, words: &[&str]) -> (i32, String) {
    said(&command(machine, words).output().expect("ast"))
}

/// The same on a terminal of its own, with what a person types.
fn on_terminal(machine: &Machine1, words: &str, env: &[(&str, &str)]) -> Child {
    // The shell around it gets what is typed too, and has to live to tell the code. Whether it would die of ^C otherwise depends
    // on who started the tests: in the background of a shell SIGINT is ignored, elsewhere it is not.
    let line = format!("trap : INT; {} --sysroot {} {words}; echo \"code $?\"", env!("CARGO_BIN_EXE_ast"), machine.root.display());
    let mut script = Command::new("script");
    script.args(["--quiet", "--flush", "--command", &line, "/dev/null"]).env_remove("VISUAL").env_remove("NO_COLOR").env("TERM", "xterm").envs(env.iter().copied());
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("script is installed")
}

fn in_snapshot(machine: &Machine1, part: Part, path: &str) -> PathBuf {
    machine.layout().set_part(machine.store().set_of(n(1)).expect("a set"), part).join(path)
}

fn copies(machine: &Machine1) -> Vec<String> {
    file::names(&machine.layout().work()).expect("list").into_iter().map(|name| name.into_string().expect("text")).collect()
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "not {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The copy of a session that has touched `/usr/started`.
fn started(machine: &Machine1) -> String {
    let find = || copies(machine).into_iter().find(|name| machine.layout().work_copy(name).join("root/usr/started").exists());
    wait_until("started", || find().is_some());
    find().expect("it was there")
}

/// Lines of any process's mount table that speak of `token`, and processes that have `word` among their words.
fn traces(token: &str, word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("proc").flatten() {
        let read = |name: &str| String::from_utf8_lossy(&fs::read(entry.path().join(name)).unwrap_or_default()).into_owned();
        found.extend(read("mountinfo").lines().filter(|line| line.contains(token)).map(str::to_owned));
        found.extend(read("cmdline").split('\0').filter(|w| *w == word).map(|w| format!("{:?} {w}", entry.file_name())));
    }
    found
}

/// An editor: a script of ours that is given the file.
fn editor(dir: &Path, script: &str) -> String {
    let path = dir.join("editor");
    write(&path, &format!("#!/bin/sh\nset -e\n{script}\n"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
    path.to_string_lossy().into_owned()
}

#[test]
fn edit_conf_saves_what_it_understands_and_nothing_else() {
    if skipped() {
        return;
    }
    let (machine, dir) = (Machine1::with_busybox(), tempfile::tempdir().expect("dir"));
    let edit =
        |script: &str, words: &[&str]| said(&command(&machine, words).env("EDITOR", editor(dir.path(), script)).output().expect("ast"));
    // The words of EDITOR are an argument vector, and none of it goes through a shell.
    let mut with_words = command(&machine, &["edit-conf", "1"]);
    with_words
        .env("EDITOR", format!("{} --wait ;$(id)", editor(dir.path(), "test \"$1 $2\" = '--wait ;$(id)'; echo aur::True > $3; touch $3~")));
    let (code, text_said) = said(&with_words.output().expect("ast"));
    assert_eq!(code, 0, "{text_said}");
    assert_eq!(text(&in_snapshot(&machine, Part::Etc, "ast.conf")), "aur::True\n");
    assert!(!in_snapshot(&machine, Part::Etc, "ast.conf~").exists(), "an editor's litter is in the snapshot");
    assert_eq!(machine.store().set_of(n(1)).expect("set"), set("1.2"));

    let (code, text_said) = edit("printf '# mine\\naur::perhaps\\n' > $1", &["edit", "1"]);
    assert_eq!(code, 3, "{text_said}");
    assert!(text_said.contains("line 2") && text_said.contains("\"perhaps\" is neither True nor False"), "{text_said}");
    let (code, text_said) = edit("exit 3", &["edit", "1"]);
    assert!(code == 1 && text_said.contains("the editor") && text_said.contains("exit status: 3"), "{text_said}");
    let (code, text_said) = edit(":", &["edit", "1"]);
    assert!(code == 0 && text_said.contains("nothing was changed"), "{text_said}");
    let (code, text_said) = said(&command(&machine, &["edit", "1"]).env("EDITOR", "no-such-editor").output().expect("ast"));
    assert!(code == 1 && text_said.contains("no-such-editor") && text_said.contains("EDITOR=nano"), "{text_said}");
    assert_eq!((edit(":", &["edit", "0"]).0, edit(":", &["edit", "9"]).0), (3, 3));
    assert_eq!(machine.store().set_of(n(1)).expect("set"), set("1.2"), "only the first was saved");

    // VISUAL comes first; a terminal is asked, and the second try is saved, with the mode that the file had.
    let script = editor(
        dir.path(),
        &format!("if [ -e {0}/once ]; then echo AUR::off > $1; else touch {0}/once; echo junk > $1; fi", dir.path().display()),
    );
    let mut asked = on_terminal(&machine, "edit-conf 1", &[("EDITOR", "false"), ("VISUAL", &script)]);
    asked.stdin.take().expect("a pipe").write_all(b"y\n").expect("typed");
    let (_, text_said) = said(&asked.wait_with_output().expect("ended"));
    assert!(text_said.contains("\"junk\" is not of the form key::value") && text_said.contains("code 0"), "{text_said}");
    assert_eq!(text(&in_snapshot(&machine, Part::Etc, "ast.conf")), "AUR::off\n");
    assert!(copies(&machine).is_empty());
}

#[test]
fn edit_conf_keeps_the_mode_and_follows_no_link_out_of_the_snapshot() {
    if skipped() {
        return;
    }
    let (machine, dir) = (Machine1::with_busybox(), tempfile::tempdir().expect("dir"));
    let outside = dir.path().join("outside");
    write(&outside, "not mine\n");
    let etc = in_snapshot(&machine, Part::Etc, "");
    let set_up = |how: &dyn Fn(&Path)| {
        ast::sys::btrfs::set_read_only(&etc, false).expect("opened");
        how(&etc.join("ast.conf"));
        ast::sys::btrfs::set_read_only(&etc, true).expect("sealed");
    };
    let edit = || said(&command(&machine, &["edit", "1"]).env("EDITOR", editor(dir.path(), "echo aur::yes > $1")).output().expect("ast"));
    set_up(&|path| symlink(&outside, path).expect("link"));
    let (code, text_said) = edit();
    assert!(code == 3 && text_said.contains("no plain file"), "{text_said}");
    assert_eq!(text(&outside), "not mine\n");
    set_up(&|path| {
        fs::remove_file(path).expect("gone");
        write(path, "# private\n");
        fs::set_permissions(path, fs::Permissions::from_mode(0o640)).expect("mode");
        std::os::unix::fs::chown(path, Some(0), Some(10)).expect("owner");
    });
    assert_eq!(edit().0, 0);
    let meta = fs::metadata(in_snapshot(&machine, Part::Etc, "ast.conf")).expect("there");
    assert_eq!((meta.mode() & 0o7777, meta.gid()), (0o640, 10));
}

#[test]
fn s7_tmp_and_unlock_clear_what_is_dead_and_nothing_else() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    for words in [&["tmp"][..], &["tmpclear"], &["unlock", "1"]] {
        let (code, text_said) = ast(&machine, words);
        assert!(code == 0 && text_said.contains("nothing to clear"), "{words:?}: {text_said}");
    }
    assert_eq!(ast(&machine, &["unlock", "9"]).0, 3);
    let mut alive = command(&machine, &["run", "1", "sh", "-c", "touch /usr/started; sleep 5151"]).spawn().expect("ast");
    let of_alive = started(&machine);
    // What a session of an earlier boot left: real subvolumes under a name whose owner is gone.
    let dead = "4194305-1-00000000-0";
    let dir = machine.layout().work_copy(dead);
    file::make_dirs(&dir).expect("dir");
    for part in Part::ALL {
        ast::sys::btrfs::snapshot(&machine.layout().set_part(set("1.1"), part), &dir.join(part.name()), ast::sys::btrfs::Access::Writable)
            .expect("copied");
    }
    let (code, text_said) = ast(&machine, &["--dry-run", "tmp"]);
    assert!(code == 0 && text_said.contains(dead) && !text_said.contains(&of_alive), "{text_said}");
    assert!(dir.exists(), "a dry run");
    let (code, text_said) = ast(&machine, &["--json", "unlock", "1"]);
    let document: serde_json::Value = serde_json::from_str(&text_said).expect("one document");
    assert_eq!((code, document), (0, serde_json::json!({ "cleared": [dead], "left": [], "alive": [of_alive] })));
    assert_eq!(copies(&machine), std::slice::from_ref(&of_alive));
    assert!(ast(&machine, &["tmp"]).1.contains(&format!("{of_alive} belongs to a live process")));
    alive.kill().expect("killed");
    alive.wait().expect("dead");
    assert!(ast(&machine, &["tmp"]).1.contains("cleared working copy"), "now it is dead");
    assert!(copies(&machine).is_empty());
}

#[test]
fn r2_a_signal_in_the_middle_leaves_the_old_state_and_no_process_mount_or_lock() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    for (number, verb) in [(2, "run"), (15, "run"), (1, "run"), (15, "chroot")] {
        let script = "touch /usr/started; sleep 6161";
        let words: &[&str] = if verb == "run" { &["run", "1", "sh", "-c", script] } else { &["chroot", "1"] };
        let mut child = command(&machine, words).stdin(Stdio::piped()).spawn().expect("ast");
        child.stdin.as_mut().expect("a pipe").write_all(format!("{script}\n").as_bytes()).expect("typed");
        let token = started(&machine);
        assert!(traces(&token, "6161").len() > 1, "the test sees what it looks for");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a number"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::try_from(number).expect("a signal")).expect("sent");
        let status = child.wait().expect("ended");
        assert_eq!(status.signal(), Some(number), "{verb}: {status}");
        wait_until("gone", || traces(&token, "6161").is_empty());
        let (code, text_said) = ast(&machine, &["tmp"]);
        assert!(code == 0 && text_said.contains(&token), "no lock, and the copy is cleared: {text_said}");
        assert_eq!(machine.store().set_of(n(1)).expect("set"), set("1.1"), "{verb} after signal {number}");
        assert!(copies(&machine).is_empty());
    }
}

#[test]
fn r2_ctrl_c_on_a_terminal_ends_the_command_and_is_cleared_up_at_once() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    let mut script = on_terminal(&machine, "run 1 sh -c 'touch /usr/started; sleep 7171; touch /usr/late'", &[]);
    let token = started(&machine);
    let mut keyboard = script.stdin.take().expect("a pipe");
    keyboard.write_all(b"\x03").expect("typed");
    keyboard.flush().expect("typed");
    wait_until("gone", || traces(&token, "7171").is_empty());
    wait_until("ended", || script.try_wait().expect("asked").is_some());
    drop(keyboard);
    let (_, text_said) = said(&script.wait_with_output().expect("ended"));
    assert!(text_said.contains("code 1") && text_said.contains("the snapshot is as it was"), "{text_said}");
    assert!(copies(&machine).is_empty(), "the copy was left for the next command");
    assert_eq!(machine.store().set_of(n(1)).expect("set"), set("1.1"));
}

#[test]
fn a_long_session_is_not_thrown_away_without_a_question() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    let session = |long: &str, name: &str, answer: &str| {
        let mut script = on_terminal(&machine, "chroot 1", &[("AST_LONG_SESSION", long)]);
        let mut keyboard = script.stdin.take().expect("a pipe");
        keyboard.write_all(format!("touch /usr/started /usr/{name}\n").as_bytes()).expect("typed");
        started(&machine);
        keyboard.write_all(format!("exit 7\n{answer}").as_bytes()).expect("typed");
        wait_until("ended", || script.try_wait().expect("asked").is_some());
        drop(keyboard);
        said(&script.wait_with_output().expect("ended")).1
    };
    let there = |name: &str| in_snapshot(&machine, Part::Root, &format!("usr/{name}")).exists();
    let asked = session("0", "refused", "n\n");
    assert!(asked.contains("exit status: 7 after") && asked.contains("code 1") && !there("refused"), "{asked}");
    let asked = session("0", "kept", "y\n");
    assert!(asked.contains("Save its changes all the same?") && asked.contains("code 0") && there("kept"), "{asked}");
    let asked = session("60", "short", "");
    assert!(!asked.contains("all the same") && asked.contains("code 1") && !there("short"), "{asked}");
}

/// What a person sees who only looks.
fn seen(machine: &Machine1, words: &str, env: &[(&str, &str)]) -> String {
    let mut script = on_terminal(machine, words, env);
    let keyboard = script.stdin.take().expect("a pipe");
    wait_until("ended", || script.try_wait().expect("asked").is_some());
    drop(keyboard);
    said(&script.wait_with_output().expect("ended")).1.replace("\r\n", "\n")
}

#[test]
fn colours_are_for_a_terminal_and_for_nobody_who_said_no() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    let mut locked = machine.lock();
    let (plan, two) = locked.plan_new("two").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let (plan, _) = ast::deploy::plan_deploy(&locked, n(1), ast::deploy::How::Trial, ast::deploy::Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let part = locked.layout().set_part(locked.set_of(two).expect("a set"), Part::Var);
    drop(locked);
    ast::volumes::remove(&part, &ast::volumes::Mounts::default()).expect("removed");

    let (green, yellow, red, off) = ("\u{1b}[32m", "\u{1b}[33m", "\u{1b}[1m\u{1b}[31m", "\u{1b}[0m");
    let cases = [
        ("tree", vec![format!("{green}0*{off}- base snapshot"), format!("one [{yellow}on trial{off}]"), format!("two [{red}broken{off}]"), "* default: ".into()]),
        ("status", vec![format!("{green}default   {off} "), format!("{yellow}on trial  {off} ")]),
        ("doctor", vec![format!("{green}ok     {off} S2 "), format!("{red}WRONG  {off} S1 "), format!("{yellow}ast:{off} ")]),
        ("info 9", vec![format!("{red}ast:{off} there is no snapshot 9"), "\u{1b}[1mhint:\u{1b}[0m ".into()]),
    ];
    for (words, expected) in cases {
        let shown = seen(&machine, words, &[]);
        for part in expected {
            assert!(shown.contains(&part), "{words}: no {part:?} in {shown:?}");
        }
        let plain = ast(&machine, &words.split(' ').collect::<Vec<_>>()).1;
        for said_no in [("NO_COLOR", "1"), ("TERM", "dumb")] {
            let shown = seen(&machine, words, &[said_no]);
            assert!(!shown.contains('\u{1b}'), "{said_no:?} {words}: {shown:?}");
            // But for the legend it is what a pipe gets.
            let lines = |text: &str| text.lines().filter(|line| !line.starts_with("* default") && !line.starts_with("code ")).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(lines(&shown), lines(&plain), "{said_no:?} {words}");
        }
        // Wherever it is not a terminal, and whatever the terminal around it can do: logs, too.
        let mut piped = command(&machine, &[&["-vv"], words.split(' ').collect::<Vec<_>>().as_slice()].concat());
        let (_, text_said) = said(&piped.env("TERM", "xterm").env("CLICOLOR_FORCE", "1").output().expect("ast"));
        assert!(!text_said.contains('\u{1b}'), "{words}: {text_said:?}");
    }
    // A log line is coloured where a person reads it.
    let logged = "--verbose pin 1";
    assert!(seen(&machine, logged, &[]).contains("\u{1b}[32m INFO"), "{:?}", seen(&machine, "--verbose unpin 1", &[]));
}

/// The steps in a text, as their number and of how many.
fn steps(text: &str) -> Vec<(usize, usize)> {
    let step = |line: &str| {
        let (number, of) = line.trim_start_matches("\u{1b}[2m").strip_prefix('[')?.split_once(']')?.0.split_once('/')?;
        Some((number.parse().ok()?, of.parse().ok()?))
    };
    text.lines().filter_map(step).collect()
}

#[test]
fn long_work_says_at_a_terminal_which_step_is_done_of_how_many() {
    if skipped() {
        return;
    }
    let machine = Machine1::with_busybox();
    let all = |of: usize| (1..=of).map(|number| (number, of)).collect::<Vec<_>>();
    // Each step of a plan, when it takes its time; none, when it is over at once.
    let at_once = |millis: &'static str| [("AST_AT_ONCE", millis)];
    let shown = seen(&machine, "clone 1", &at_once("0"));
    let of = steps(&shown).first().expect("a step").1;
    assert_eq!(steps(&shown), all(of), "{shown}");
    assert!(of > 6 && shown.contains("] commit the tree") && shown.contains("snapshot 2"), "{shown}");
    assert_eq!(steps(&seen(&machine, "clone 1", &at_once("600000"))), []);
    // What is known to take its time says so in any case.
    let shown = seen(&machine, "run 1 touch /usr/new", &at_once("600000"));
    assert_eq!(steps(&shown), [(2, 3), (3, 3)], "{shown}");
    assert!(shown.contains("[2/3] run touch /usr/new in snapshot 1"), "{shown}");
    let file = machine.root.join("one.ast").to_string_lossy().into_owned();
    let shown = seen(&machine, &format!("export 1 {file}"), &at_once("600000"));
    assert_eq!(steps(&shown), all(5), "{shown}");
    assert!(shown.contains("[1/5] send root of set 1.2") && shown.contains("[5/5] write /"), "{shown}");
    ast(&machine, &["--yes", "del", "1"]);
    let key = machine.root.join("etc/ast/export.pub");
    let import = format!("import {file} --key {}", key.display());
    assert_eq!(steps(&seen(&machine, &format!("--quiet {import}"), &at_once("0"))), []);
    ast(&machine, &["--yes", "del", "4"]);
    let shown = seen(&machine, &import, &at_once("600000"));
    assert_eq!(steps(&shown), all(4), "{shown}");
    assert!(shown.contains("[4/4] receive boot"), "{shown}");
    // A walk says which snapshot it is in, also where nobody watches; its steps only here.
    let walk = "tree-run 2 touch /usr/new";
    let shown = seen(&machine, walk, &at_once("600000"));
    assert!(shown.contains("== run touch /usr/new in snapshot 2 (1 of 1)") && steps(&shown).len() == 2, "{shown}");
    for words in [walk, "clone 2", &format!("export 2 {file}"), "run 2 touch /usr/other"] {
        let out = command(&machine, &words.split(' ').collect::<Vec<_>>()).env("AST_AT_ONCE", "0").output().expect("ast");
        assert_eq!((out.status.code(), steps(&said(&out).1)), (Some(0), vec![]), "{words}");
    }
}
