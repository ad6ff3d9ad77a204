use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::id::DeployId;
use crate::sys::file;

const LIMIT: Duration = Duration::from_millis(400);

/// A root with these checks: directory, name, script.
fn root(checks: &[(&str, &str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().expect("dir");
    for (dir, name, script) in checks {
        let dir = root.path().join(dir);
        file::make_dirs(&dir).expect("dirs");
        file::replace(&dir.join(name), format!("#!/bin/sh\n{script}\n").as_bytes()).expect("script");
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o755)).expect("mode");
    }
    root
}

const REQUIRED: &str = "etc/ast/health.d/required.d";
const WANTED: &str = "usr/lib/ast/health.d/wanted.d";
const SHIPPED: &str = "usr/lib/ast/health.d/required.d";

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn run_all(root: &Path) -> Vec<Ran> {
    find(root).expect("checks").iter().map(|c| run(c, LIMIT, in_a_minute())).collect()
}

#[test]
fn u3_required_checks_fail_the_start_and_wanted_ones_warn() {
    let root = root(&[
        (REQUIRED, "10-good", "exit 0"),
        (REQUIRED, "20-bad", "echo no web server >&2; exit 3"),
        (SHIPPED, "30-talks", "echo on stdout; exit 1"),
        (WANTED, "10-wanted", "exit 9"),
    ]);
    let checks = run_all(root.path());
    let names: Vec<_> = checks.iter().map(|r| r.check.name()).collect();
    assert_eq!(names, ["10-good", "20-bad", "30-talks", "10-wanted"]);
    let report = judge(&Seen { reached: true, checks, ..Seen::default() });
    assert!(!report.healthy);
    assert_eq!(
        report.evidence,
        ["required check 20-bad: exit status: 3: no web server", "required check 30-talks: exit status: 1: on stdout"]
    );
    assert_eq!(report.warnings, ["wanted check 10-wanted: exit status: 9"]);
}

#[test]
fn u3_a_hung_check_is_killed_with_its_children() {
    let root = root(&[(REQUIRED, "10-hangs", "echo $$ > \"$0.pid\"; sleep 1000 & echo $! > \"$0.child\"; wait")]);
    let started = Instant::now();
    let ran = run_all(root.path());
    assert_eq!(ran[0].outcome, Outcome::TimedOut(LIMIT));
    assert!(started.elapsed() < LIMIT * 4, "{:?}", started.elapsed());
    for name in ["10-hangs.pid", "10-hangs.child"] {
        let pid = fs::read_to_string(root.path().join(REQUIRED).join(name)).expect("a process was started");
        let state = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let ended = || Some(state()).is_some_and(|state| state.is_empty() || state.contains(") Z "));
        // The signal is sent; on a busy machine it takes a moment to be heard.
        let patience = Instant::now() + Duration::from_secs(5);
        while !ended() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(ended(), "process {pid} of {name} is alive: {}", state());
    }
}

#[test]
fn u3_the_deadline_ends_the_gate_whatever_each_check_may_take() {
    let root = root(&[(REQUIRED, "10-slow", "sleep 20"), (REQUIRED, "20-never", "exit 0")]);
    let deadline = Instant::now() + Duration::from_millis(200);
    let hour = Duration::from_secs(3600);
    let ran: Vec<_> = find(root.path()).expect("checks").iter().map(|c| run(c, hour, deadline)).collect();
    assert!(matches!(ran[0].outcome, Outcome::TimedOut(after) if after <= Duration::from_millis(200)), "{:?}", ran[0]);
    assert_eq!(ran[1].outcome, Outcome::NotReached);
    assert!(!judge(&Seen { reached: true, checks: ran, ..Seen::default() }).healthy);
}

#[test]
fn the_owner_replaces_and_switches_off_checks_of_packages() {
    let root = root(&[(SHIPPED, "10-network", "exit 1"), (SHIPPED, "20-web", "exit 1"), (REQUIRED, "20-web", "exit 0")]);
    symlink("/dev/null", root.path().join(REQUIRED).join("10-network")).expect("link");
    let ran = run_all(root.path());
    assert_eq!(ran.iter().map(|r| (r.check.name(), r.outcome.clone())).collect::<Vec<_>>(), [("20-web".into(), Outcome::Passed)]);
}

#[test]
fn what_cannot_be_started_is_no_pass() {
    let root = root(&[(REQUIRED, "10-plain", "exit 0"), (REQUIRED, "30-interpreter", ""), (REQUIRED, "40-web.pacnew", "exit 1")]);
    let dir = root.path().join(REQUIRED);
    fs::set_permissions(dir.join("10-plain"), Permissions::from_mode(0o644)).expect("mode");
    symlink("/nowhere/at/all", dir.join("20-dangling")).expect("link");
    file::replace(&dir.join("30-interpreter"), b"#!/no/such/interpreter\n").expect("script");
    fs::set_permissions(dir.join("30-interpreter"), Permissions::from_mode(0o755)).expect("mode");
    let ran = run_all(root.path());
    assert_eq!(ran.len(), 3);
    assert!(ran.iter().all(|r| matches!(r.outcome, Outcome::NotStarted(_))), "{ran:?}");
}

#[test]
fn no_directory_means_no_checks() {
    let root = root(&[]);
    assert_eq!(find(root.path()).expect("none"), []);
}

/// Recorded from systemd 257 with one failed service, one that is restarted again and again, and none.
#[test]
fn what_systemd_says_is_understood() {
    let text = include_str!("recorded/list-units-257.json");
    let units = parse(text).expect("recorded");
    let pairs: Vec<_> = units.iter().map(|f| (f.unit.as_str(), f.state.as_str())).collect();
    assert_eq!(pairs, [("broken.service", "failed"), ("crashing.service", "auto-restart")]);
    assert_eq!(parse("[]").expect("none"), []);
    assert!(parse("").is_err() && parse("0 loaded units listed.").is_err());
}

fn failed(unit: &str) -> Failed {
    Failed { unit: unit.into(), state: "failed".into() }
}

#[test]
fn u3_only_units_that_worked_before_count_and_only_on_a_trial() {
    let baseline = Some(Baseline::seen(None, DeployId::new(1), &[failed("old.service")]));
    let seen = Seen {
        on_trial: true,
        reached: true,
        failed: ["old.service", "new.service", "noise.service", "ast-autoupdate.service", "systemd-networkd-wait-online.service"].map(failed).into(),
        baseline,
        ignored: vec!["noise.service".into()],
        ..Seen::default()
    };
    let report = judge(&seen);
    assert_eq!(report.evidence, ["unit new.service: failed, and it worked before this update"]);
    let outside = "unit systemd-networkd-wait-online.service: failed, which waits for a network";
    assert_eq!(report.warnings, ["unit old.service: failed, as before", outside], "a router that is off is nobody's update");
    assert!(judge(&Seen { on_trial: false, ..seen.clone() }).healthy, "the good one is not left for a unit");
    assert!(judge(&Seen { baseline: None, ..seen.clone() }).healthy, "nobody knows whether it is new");
    assert!(!judge(&Seen { reached: false, failed: vec![], ..seen }).healthy);
}

#[test]
fn the_baseline_grows_on_one_deployment_and_begins_anew_on_the_next() {
    let first = Baseline::seen(None, DeployId::new(1), &[failed("a")]);
    let more = Baseline::seen(Some(first), DeployId::new(1), &[failed("b")]);
    assert_eq!(more.units.iter().collect::<Vec<_>>(), ["a", "b"]);
    let next = Baseline::seen(Some(more), DeployId::new(2), &[failed("c")]);
    assert_eq!(next.units.iter().collect::<Vec<_>>(), ["c"]);
}
