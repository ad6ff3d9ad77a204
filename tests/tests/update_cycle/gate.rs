//! The gate under a real systemd: deployments of an installed machine started in a container. The wrapper plays the boot loader, so a
//! restart is the container's exit status 133.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use ast::boot::block::BootBlock;
use ast::boot::stage::{Reached, Stage};
use ast::deploy::{self, Etc, How};
use ast::id::{ArmId, DeployId, SetId, SnapshotId};
use ast::layout::{self, Part};
use ast::store::document;
use ast::store::machine::{Block, Machine};
use ast::sys::btrfs;
use ast::sys::lock::Wait;
use ast::updates::{Candidate, Changes, State, TrialResult};

use super::bed::{Bed, sh, skipped};

/// Status of a container whose init rebooted it.
const REBOOTED: i32 = 133;
/// Statuses that our unit ends it with: boot-complete.target was reached, or not.
const COMPLETE: i32 = 7;
const INCOMPLETE: i32 = 8;

/// In /run of a trial, as the initramfs writes it.
const DROP_IN: &str = "[Unit]\nFailureAction=reboot-force\n";
const END: &str = "[Unit]\nDefaultDependencies=no\nAfter=ast-health.service boot-complete.target\n[Service]\nType=exec\n\
    ExecStart=/bin/sh -c 'systemctl show -P FailureAction ast-health.service > /var/failure-action; systemctl -q is-active boot-complete.target && exec systemctl exit 7; exec systemctl exit 8'\n";
const SETTINGS: &str = "[health]\ncheck_seconds = 2\nsettle_seconds = 1\n";

/// A machine whose block is a file, so that a container can write it without a device.
fn bed() -> Bed {
    let bed = Bed::new();
    let path = bed.layout().document(layout::MACHINE);
    let machine: Machine = document::load(&path).expect("machine").body;
    document::save(&path, &Machine { block: Block::Local, ..machine }).expect("saved");
    bed.store().medium().expect("medium").create(&BootBlock::new(DeployId::new(1))).expect("block");
    bed
}

/// A trial of the base, with these health checks and units of its own.
fn trial(bed: &Bed, checks: &[(&str, &str)], units: &[(&str, &str)]) -> (DeployId, ArmId) {
    let store = bed.store();
    let (plan, d) = deploy::plan_deploy(&store, SnapshotId::BASE, How::Trial, Etc::OfSnapshot).expect("planned");
    drop(store.lock(Wait::No).expect("locked").run(plan).expect("deployed"));
    prepare(bed, d, checks, units);
    let arm = bed.store().block().expect("block").arm;
    let stage = Stage { arm: Some(arm), left: 2, ..Stage::default() };
    fs::write(bed.layout().document(layout::STAGE), stage.to_string()).expect("stage");
    (d, arm)
}

fn prepare(bed: &Bed, d: DeployId, checks: &[(&str, &str)], units: &[(&str, &str)]) {
    let etc = bed.layout().deployment_part(d, Part::Etc);
    fs::write(etc.join("ast/autoupdate.toml"), SETTINGS).expect("settings");
    let dir = etc.join("ast/health.d/required.d");
    fs::create_dir_all(&dir).expect("dir");
    for (name, script) in checks {
        fs::write(dir.join(name), format!("#!/bin/sh\n{script}\n")).expect("check");
        fs::set_permissions(dir.join(name), Permissions::from_mode(0o755)).expect("mode");
    }
    let wants = etc.join("systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).expect("dir");
    for (name, text) in units.iter().chain(&[("end-of-test.service", END)]) {
        fs::write(etc.join("systemd/system").join(name), text).expect("unit");
        symlink(format!("../{name}"), wants.join(name)).expect("link");
    }
}

/// Starts the deployment in a container; its status when it ended, and its console.
fn start(bed: &Bed, d: DeployId, record: &str, on_trial: bool) -> (i32, String) {
    let layout = bed.layout();
    let (booted, drop_in) = (bed.root.join("booted"), bed.root.join("drop-in"));
    fs::write(&booted, record).expect("record");
    fs::create_dir_all(&drop_in).expect("dir");
    fs::write(drop_in.join(layout::TRIAL_DROP_IN), DROP_IN).expect("drop-in");
    let bind = |from: &Path, to: &str| format!("--bind={}:{to}", from.display());
    // The real program of this tree, not the one that the image was made with.
    let program: PathBuf = bed.program.clone();
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "120", "systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit", "--private-network"]);
    command.args(["--console=pipe", "--resolv-conf=off", "--timezone=off", "--link-journal=no", "--read-only", "--machine=gate", "-D"]);
    command.arg(layout.deployment_part(d, Part::Root));
    command.arg(bind(&layout.deployment_part(d, Part::Etc), "/etc"));
    command.args([bind(&bed.root.join("var"), "/var"), bind(layout.snapshots(), "/.snapshots"), bind(&bed.root.join("boot"), "/boot")]);
    command.args([bind(&booted, "/run/ast/booted"), bind(&program, "/usr/lib/ast/ast-autoupdate")]);
    if on_trial {
        command.arg(bind(&drop_in, "/run/systemd/system/ast-health.service.d"));
    }
    let out = command.stdin(std::process::Stdio::null()).output().expect("systemd-nspawn");
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    (out.status.code().unwrap_or(-1), text)
}

fn record(d: DeployId, arm: ArmId) -> String {
    format!("d={d}\nset=0.1\nwhy=trial\narm={arm}\nleft=2\nenv=ok\nblock=local\n")
}

fn good(d: DeployId) -> String {
    format!("d={d}\nset=0.1\nwhy=good\nenv=ok\nblock=local\n")
}

fn stage(bed: &Bed) -> Stage {
    Stage::parse(&fs::read_to_string(bed.layout().document(layout::STAGE)).expect("stage"))
}

const FAILS: &str = "[Service]\nType=oneshot\nExecStart=/bin/false\n";
const CRASHES: &str = "[Service]\nExecStart=/bin/false\nRestart=always\nRestartSec=30\n";

#[test]
fn the_gate_under_a_real_systemd() {
    if skipped() {
        return;
    }
    let bed = bed();
    // The good one, with a unit that always fails: it reports well, and that unit is the baseline.
    prepare(&bed, DeployId::new(1), &[], &[("always.service", FAILS)]);
    let before = BootBlock { starts: 3, ..bed.store().block().expect("block") };
    bed.store().medium().expect("medium").write(&before).expect("written");
    let (status, text) = start(&bed, DeployId::new(1), &good(DeployId::new(1)), false);
    assert_eq!(status, COMPLETE, "{text}");
    assert_eq!(bed.store().block().expect("block").starts, 0, "it reported well: {text}");
    let baseline = fs::read_to_string(bed.layout().document(ast::health::BASELINE)).expect("a baseline");
    assert!(baseline.contains("always.service"), "{baseline}");

    // B10: the good one is not well: it stays up, nothing restarts it, nothing is reported.
    prepare_check(&bed, DeployId::new(1), "10-no", "exit 1");
    bed.store().medium().expect("medium").write(&before).expect("written");
    let (status, text) = start(&bed, DeployId::new(1), &good(DeployId::new(1)), false);
    assert_eq!(status, INCOMPLETE, "{text}");
    assert_eq!(bed.store().block().expect("block").starts, 3);

    // Trials that are not well: evidence first, then the restart; the block is as it was.
    type Files<'a> = &'a [(&'a str, &'a str)];
    let bad: [(&str, Files<'_>, Files<'_>); 4] = [
        ("required check 10-no: exit status: 3: no web server", &[("10-no", "echo no web server >&2; exit 3")], &[]),
        ("required check 10-hangs: did not end within 2 s", &[("10-hangs", "setsid sleep 1000 & sleep 1000")], &[]),
        ("unit new.service: failed, and it worked before", &[], &[("new.service", FAILS)]),
        ("unit crashing.service: auto-restart, and it worked before", &[], &[("crashing.service", CRASHES)]),
    ];
    for (evidence, checks, units) in bad {
        let (d, arm) = trial(&bed, checks, units);
        let armed = bed.store().block().expect("block");
        let (status, text) = start(&bed, d, &record(d, arm), true);
        assert_eq!(status, REBOOTED, "{evidence}: {text}");
        assert_eq!(bed.store().block().expect("block"), armed, "{evidence}");
        let stage = stage(&bed);
        assert_eq!(stage.reached, Reached::Userspace);
        assert!(stage.evidence.iter().any(|line| line.contains(evidence)), "{stage:?}");
        let updates = bed.updates();
        let verdict = updates.verdicts.last().expect("a verdict");
        assert_eq!((verdict.arm, verdict.result), (arm, TrialResult::StartFailed), "{evidence}");
        assert!(verdict.evidence.iter().any(|line| line.contains(evidence)), "{verdict:?}");
    }

    // One that is well, with the unit that always fails: promoted.
    let (d, arm) = trial(&bed, &[("10-yes", "exit 0")], &[("always.service", FAILS)]);
    let (status, text) = start(&bed, d, &record(d, arm), true);
    assert_eq!(status, COMPLETE, "{text}");
    let block = bed.store().block().expect("block");
    assert_eq!((block.good, block.prev, block.trial), (d, Some(DeployId::new(1)), None), "{text}");
    assert_eq!(bed.updates().verdicts.last().map(|v| v.result), Some(TrialResult::Promoted));
    // B10: what would restart it is gone with its being a trial, in systemd too.
    assert!(!bed.root.join("drop-in").join(layout::TRIAL_DROP_IN).exists(), "b10: {text}");
    assert_eq!(fs::read_to_string(bed.root.join("var/failure-action")).expect("b10"), "none\n", "b10: {text}");

    // B15: while a trial runs, a person puts another one in its place: nothing is promoted, nothing restarts.
    let (d, arm) = trial(&bed, &[], &[]);
    // It runs, so it is mounted, and stays.
    let held = bed.root.join("held");
    fs::create_dir_all(&held).expect("dir");
    sh(&format!("mount --bind {} {}", bed.layout().deployment_part(d, Part::Root).display(), held.display()));
    let (theirs, _) = trial(&bed, &[], &[]);
    let (status, text) = start(&bed, d, &record(d, arm), true);
    assert_eq!(status, COMPLETE, "{text}");
    assert_eq!(bed.store().block().expect("block").trial.map(|t| t.deployment), Some(theirs), "{text}");
}

#[test]
fn u1_u3_an_update_after_which_none_could_be_made_is_not_well() {
    if skipped() {
        return;
    }
    let bed = bed();
    let set: SetId = "0.1".parse().expect("set");
    // As the updater remembers one of its own. Its first start asks the /etc of the good one again, so that what ends the container has to be there.
    prepare(&bed, DeployId::new(1), &[], &[]);
    let ours = |bed: &Bed| {
        let (d, arm) = trial(bed, &[], &[]);
        let update = Candidate { parent: set, changes: Changes::default() };
        let mut memory = bed.updates();
        memory.state = State::AwaitingReboot { update, set, d, arm, since: memory.now() };
        ast::updates::save(&bed.layout(), &mut memory).expect("saved");
        (d, arm)
    };
    let (good, arm) = ours(&bed);
    let (status, text) = start(&bed, good, &record(good, arm), true);
    assert_eq!(status, COMPLETE, "{text}");
    assert_eq!(bed.store().block().expect("block").good, good, "{text}");

    let root = bed.layout().set_part(set, Part::Root);
    btrfs::set_read_only(&root, false).expect("opened");
    fs::write(root.join("usr/bin/pacman"), "#!/bin/sh\necho the database is of another version >&2\nexit 1\n").expect("broken");
    btrfs::set_read_only(&root, true).expect("sealed");
    let (d, arm) = ours(&bed);
    let (status, text) = start(&bed, d, &record(d, arm), true);
    assert_eq!(status, REBOOTED, "{text}");
    assert_eq!(bed.store().block().expect("block").good, good);
    let seen = stage(&bed).evidence.join("\n");
    assert!(seen.contains("the next update could not be made here") && seen.contains("of another version"), "{seen}");
    // What a person puts on trial is that person's choice.
    let (d, arm) = trial(&bed, &[], &[]);
    let (status, text) = start(&bed, d, &record(d, arm), true);
    assert_eq!(status, COMPLETE, "{text}");
}

/// What a kiosk boots to that needs nothing of multi-user.target.
const KIOSK: &str = "[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\nWants=end-of-test.service\n";

#[test]
fn b2_a_machine_that_boots_to_a_target_of_its_own_is_judged_by_that() {
    if skipped() {
        return;
    }
    let bed = bed();
    let (d, arm) = trial(&bed, &[], &[("kiosk.target", KIOSK)]);
    let etc = bed.layout().deployment_part(d, Part::Etc).join("systemd/system");
    symlink("kiosk.target", etc.join("default.target")).expect("default");
    // The unit and what pulls it in are those of this tree; the image may have been made with others.
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    fs::copy(packaging.join("ast-health.service"), etc.join("ast-health.service")).expect("unit");
    let wants: Vec<_> = fs::read_dir(&packaging).expect("units").flatten().map(|entry| entry.path()).collect();
    for dir in wants.iter().filter(|dir| dir.to_string_lossy().ends_with(".wants") && dir.join("ast-health.service").is_symlink()) {
        let dir = etc.join(dir.file_name().expect("a name"));
        fs::create_dir_all(&dir).expect("dir");
        symlink("../ast-health.service", dir.join("ast-health.service")).expect("link");
    }
    let (status, text) = start(&bed, d, &record(d, arm), true);
    assert_eq!(status, COMPLETE, "{text}");
    assert_eq!(bed.store().block().expect("block").good, d, "{text}");
    assert!(!text.contains("Multi-User System"), "{text}");
}

fn prepare_check(bed: &Bed, d: DeployId, name: &str, script: &str) {
    let path = bed.layout().deployment_part(d, Part::Etc).join("ast/health.d/required.d").join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("check");
    fs::set_permissions(&path, Permissions::from_mode(0o755)).expect("mode");
}
