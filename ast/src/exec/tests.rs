//! The runner with real programs: what `sh` and `sleep` of this machine do.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::*;

fn sh(script: &str) -> Invocation {
    Invocation::words(["/bin/sh", "-c", script]).expect("words")
}

#[test]
fn r1_words_reach_the_program_untouched() {
    let hostile = ["a && b", ";", "$(reboot)", "`id`", "|", "*", "", "\n", "'\"\\", "> /tmp/x"];
    let words = ["/usr/bin/printf", "%s\\0"].into_iter().chain(hostile);
    let ended = run(&Invocation::words(words).expect("words"), Options::capture()).expect("printf runs");
    let got: Vec<&[u8]> = ended.stdout.strip_suffix(b"\0").expect("a list").split(|b| *b == 0).collect();
    assert_eq!(got, hostile.map(str::as_bytes));
}

#[test]
fn words_that_are_none_are_refused() {
    assert!(matches!(Invocation::words(Vec::<String>::new()), Err(ExecError::BadWords)));
    assert!(matches!(Invocation::words([""]), Err(ExecError::BadWords)));
    assert!(matches!(Invocation::words(["ls", "a\0b"]), Err(ExecError::BadWords)));
}

#[test]
fn the_command_line_reads_as_a_shell_would_need_it() {
    let line = Invocation::words(["a b", "it's", "", "x\n"]).expect("words").display();
    assert_eq!(line, r"'a b' 'it'\''s' '' 'x\n'");
}

#[test]
fn a_failure_carries_the_tail_of_what_it_said_and_no_escape_sequence() {
    let error =
        run(&sh("echo out; printf '\\033[31mred\\n' >&2; exit 3"), Options::capture()).expect("runs").success().expect_err("status 3");
    let text = error.to_string();
    assert!(text.contains("exit status: 3") && text.contains("[31mred") && !text.contains('\x1b'), "{text:?}");
}

#[test]
fn lines_are_handed_over_as_they_come() {
    let mut seen = Vec::new();
    let mut each = |line: &str| seen.push(line.to_owned());
    let ended = run(&sh("echo one; printf 'half\\rtwo\\nend'"), Options::new(Streams::Lines(&mut each))).expect("runs");
    assert!(ended.status.success());
    assert_eq!(seen, ["one", "half", "two", "end"]);
}

#[test]
fn much_output_on_both_streams_does_not_block() {
    let ended = run(&sh("head -c 3000000 /dev/zero | tee /dev/stderr"), Options::capture()).expect("runs");
    assert!(ended.status.success() && ended.stdout.len() >= 1 << 20 && ended.stderr.len() >= 1 << 20);
}

#[test]
fn a_time_limit_kills_the_whole_group() {
    let started = Instant::now();
    let marker = format!("61.{}", std::process::id());
    let script = format!("sleep {marker} & sleep {marker}");
    let error = run(&sh(&script), Options::capture().timeout(Duration::from_millis(300))).expect_err("too slow");
    assert!(matches!(error, ExecError::TimedOut { .. }), "{error}");
    // The signal is sent; dying takes a moment on a busy machine.
    while is_running(&marker) {
        assert!(started.elapsed() < Duration::from_secs(5), "a child outlived its group");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn cancelling_kills() {
    let cancel = AtomicBool::new(true);
    let options = Options { cancel: Some(&cancel), ..Options::capture() };
    assert!(matches!(run(&sh("sleep 60"), options), Err(ExecError::Cancelled { .. })));
}

#[test]
fn a_daemon_that_holds_the_pipe_does_not_hold_us() {
    let started = Instant::now();
    let ended = run(&sh("sleep 30 & echo done"), Options::capture()).expect("runs");
    assert_eq!(ended.text(), "done\n");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_missing_command_is_named() {
    let error = run(&Invocation::words(["no-such-program-here"]).expect("words"), Options::capture()).expect_err("none");
    assert_eq!(error.to_string(), "no-such-program-here: no such command");
}

#[test]
fn the_environment_is_cleared() {
    let ended = run(&sh("env"), Options::capture().env("ADDED", "yes")).expect("runs");
    let text = ended.text();
    assert!(text.contains("ADDED=yes") && text.contains("HOME=/root") && !text.contains("CARGO"), "{text}");
}

fn is_running(word: &str) -> bool {
    std::fs::read_dir("/proc").expect("proc").flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).split('\0').any(|w| w == word))
    })
}
