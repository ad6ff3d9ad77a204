//! Does the replay of power cuts find what it must find? Workloads with known bugs must be caught, the same without the bug must pass.
#![allow(clippy::disallowed_methods, reason = "the workloads do by hand, and wrongly, what the house's own seams do right")]
mod common;

use ast_tests::cut::{GrubError, Recording, Seed, State, Strategy, WriteLog, new_btrfs, replay};
use common::sh;
use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::{LazyLock, mpsc},
};

/// Bytes of the disk.
const SIZE: u64 = 160 << 20;
/// Of a payload: larger than a page, so that a state can have a part of it.
const PAYLOAD: usize = 300_000;

fn seed() -> u64 {
    std::env::var("AST_CUT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// The payload of a version: not compressible, and unlike every other.
fn payload(version: u64) -> &'static [u8] {
    static PAYLOADS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..4).map(noise).collect());
    PAYLOADS.get(version as usize).map_or(&[], Vec::as_slice)
}

fn noise(seed: u64) -> Vec<u8> {
    let mut seed = Seed::new(seed);
    std::iter::repeat_with(|| seed.number().to_le_bytes()).flatten().take(PAYLOAD).collect()
}

/// Snapshots `s0`, `s1` …, each whole or not; `state` names one, the default subvolume is another pointer.
fn base(dir: &Path) -> std::path::PathBuf {
    let image = dir.join("base.img");
    new_btrfs(&image, SIZE, |root| {
        sh(&format!("cd {}; btrfs -q subvolume create s0", root.display()));
        fs::write(root.join("s0/blob"), payload(0)).unwrap();
        fs::write(root.join("s0/version"), "0").unwrap();
        fs::write(root.join("state"), "s0").unwrap();
        sh(&format!("cd {}; btrfs subvolume set-default $(btrfs inspect rootid s0) .", root.display()));
    })
    .unwrap();
    image
}

fn record(image: &Path, workload: impl FnOnce(&Path, &mut Recording)) -> WriteLog {
    let mut recording = Recording::new(image, 0).unwrap();
    let root = recording.mount("subvolid=5").unwrap().to_owned();
    workload(&root, &mut recording);
    let log = recording.finish().unwrap();
    assert!(log.flushes() > 0 && log.bytes() > 0, "nothing was recorded");
    log
}

/// The pointers name whole snapshots, and what was confirmed is not taken back.
fn check_pointers(state: &mut State<'_>) -> Result<String, String> {
    let top = state.mount("subvolid=5").map_err(|e| e.to_string())?;
    let default = state.mount("").map_err(|e| e.to_string())?;
    let named = fs::read_to_string(top.join("state")).map_err(|e| format!("state: {e}"))?;
    let (named, booted) = (whole(&top.join(&named))?, whole(&default)?);
    let confirmed = state.marks().last().map_or(0, |mark| mark.parse::<u64>().unwrap());
    if booted < confirmed {
        return Err(format!("deploy {confirmed} had returned, {booted} would boot"));
    }
    Ok(format!("state {named}, default {booted}"))
}

fn whole(snapshot: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(snapshot.join("version")).map_err(|e| format!("{}: {e}", snapshot.display()))?;
    let version = text.parse().map_err(|_| format!("{}: version {text:?}", snapshot.display()))?;
    let blob = fs::read(snapshot.join("blob")).map_err(|e| e.to_string())?;
    if blob == payload(version) { Ok(version) } else { Err(format!("{}: blob of version {version} is damaged", snapshot.display())) }
}

fn prepare(root: &Path, n: u64) {
    sh(&format!("cd {}; btrfs -q subvolume snapshot s{} s{n}", root.display(), n - 1));
    fs::write(root.join(format!("s{n}/blob")), payload(n)).unwrap();
    fs::write(root.join(format!("s{n}/version")), n.to_string()).unwrap();
}

fn commit(root: &Path) {
    sh(&format!("btrfs filesystem sync {}", root.display()));
}

fn flip(root: &Path, n: u64) {
    sh(&format!("cd {}; btrfs subvolume set-default $(btrfs inspect rootid s{n}) .", root.display()));
}

fn point(root: &Path, n: u64) {
    fs::write(root.join(".state"), format!("s{n}")).unwrap();
    fs::File::open(root.join(".state")).unwrap().sync_all().unwrap();
    fs::rename(root.join(".state"), root.join("state")).unwrap();
}

#[test]
fn a_good_deploy_survives_every_cut() {
    let dir = tempfile::tempdir().unwrap();
    let log = record(&base(dir.path()), |root, recording| {
        for n in 1..=3 {
            prepare(root, n);
            commit(root);
            point(root, n);
            flip(root, n);
            commit(root);
            recording.mark(&n.to_string()).unwrap();
        }
    });
    for strategy in [Strategy::EveryFlush, Strategy::EveryWrite, Strategy::Subsets { seed: seed(), per_flush: 6 }] {
        let report = replay(&log, strategy, check_pointers).unwrap();
        eprintln!("{report}");
        assert!(report.is_clean(), "{report}");
        // All from 0 to 3 were seen.
        assert!(report.outcomes.len() >= 4, "too few outcomes: {report}");
    }
}

#[test]
fn a_deploy_that_flips_before_its_data_is_durable_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let log = record(&base(dir.path()), |root, _| {
        for n in 1..=2 {
            sh(&format!("cd {}; btrfs -q subvolume snapshot s{} s{n}", root.display(), n - 1));
            flip(root, n);
            commit(root);
            fs::write(root.join(format!("s{n}/blob")), payload(n)).unwrap();
            commit(root);
            fs::write(root.join(format!("s{n}/version")), n.to_string()).unwrap();
            point(root, n);
            commit(root);
        }
    });
    for strategy in [Strategy::EveryFlush, Strategy::Subsets { seed: seed(), per_flush: 3 }] {
        let report = replay(&log, strategy, check_pointers).unwrap();
        eprintln!("{report}");
        assert!(report.violations.iter().any(|v| v.message.contains("is damaged")), "not caught: {report}");
    }
}

#[test]
fn a_deploy_that_returns_before_its_commit_is_caught() {
    let dir = tempfile::tempdir().unwrap();
    let log = record(&base(dir.path()), |root, recording| {
        prepare(root, 1);
        commit(root);
        flip(root, 1);
        recording.mark("1").unwrap();
    });
    let report = replay(&log, Strategy::Subsets { seed: seed(), per_flush: 8 }, check_pointers).unwrap();
    assert!(report.violations.iter().any(|v| v.message.contains("had returned")), "not caught: {report}");
}

/// A file in place of an old one, in one piece, by fsync and rename. `commit` or not is what GRUB sees.
fn replace(root: &Path, committed: bool) {
    let (new, old) = (root.join("boot/.menu"), root.join("boot/menu"));
    fs::write(&new, "new").unwrap();
    fs::File::open(&new).unwrap().sync_all().unwrap();
    fs::rename(&new, &old).unwrap();
    fs::File::open(&old).unwrap().sync_all().unwrap();
    if committed {
        commit(root);
    }
}

#[test]
fn grub_does_not_see_what_only_fsync_made_durable() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("base.img");
    new_btrfs(&image, SIZE, |root| {
        sh(&format!("btrfs -q subvolume create {}/boot", root.display()));
        fs::write(root.join("boot/menu"), "old").unwrap();
    })
    .unwrap();
    for committed in [false, true] {
        let log = record(&image, |root, recording| {
            replace(root, committed);
            recording.mark("replaced").unwrap();
        });
        let report = replay(&log, Strategy::EveryFlush, |state| {
            let grub = state.grub_view("/boot/menu").map_err(|e| e.to_string())?;
            assert!(matches!(state.grub_view("/boot/none"), Err(GrubError::Missing(_))));
            let root = state.mount("subvolid=5").map_err(|e| e.to_string())?;
            let kernel = fs::read(root.join("boot/menu")).map_err(|e| e.to_string())?;
            let seen = format!("GRUB {}, kernel {}", String::from_utf8_lossy(&grub), String::from_utf8_lossy(&kernel));
            if state.passed("replaced") && grub != b"new" { Err(seen) } else { Ok(seen) }
        })
        .unwrap();
        eprintln!("{report}");
        if committed {
            assert!(report.is_clean() && report.outcomes.contains_key("GRUB new, kernel new"), "{report}");
            assert!(report.outcomes.contains_key("GRUB old, kernel new"), "the log tree was never the only place: {report}");
        } else {
            assert!(report.violations.iter().any(|v| v.message == "GRUB old, kernel new"), "not caught: {report}");
        }
    }
}

#[test]
fn a_log_that_is_not_the_disk_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut recording = Recording::new(&base(dir.path()), 0).unwrap();
    let root = recording.mount("subvolid=5").unwrap().to_owned();
    fs::write(root.join("file"), "x").unwrap();
    recording.tamper(|live| live.write_all_at(b"behind the log's back", SIZE - 512).unwrap());
    assert!(matches!(recording.finish(), Err(ast_tests::cut::CutError::Unfaithful { .. })));
}

/// Whoever looks for a file system opens every block device, and whoever makes a namespace copies every mount: other tests do both all the time.
#[test]
fn what_others_hold_does_not_reach_into_the_next_state() {
    // Where the others mount, since this thread leaves that place only now.
    let (ask, asked) = mpsc::channel::<()>();
    let (answer, answered) = mpsc::channel();
    let others = std::thread::spawn(move || {
        asked.iter().for_each(|()| answer.send(fs::read_to_string("/proc/thread-self/mountinfo").unwrap()).unwrap());
    });
    let dir = tempfile::tempdir().unwrap();
    let log = record(&base(dir.path()), |root, recording| {
        for n in 1..=2 {
            prepare(root, n);
            commit(root);
            point(root, n);
            flip(root, n);
            commit(root);
            recording.mark(&n.to_string()).unwrap();
        }
    });
    // Opened before the one before is closed: the device is never without a user, so the kernel never forgets by itself what was read from it.
    let (mut held, mut looks) = (None, 0);
    let report = replay(&log, Strategy::EveryFlush, |state| {
        let device = File::open(state.device()).unwrap();
        let (mut shown, mut seen) = (vec![0; SIZE as usize / 4], vec![0; SIZE as usize / 4]);
        File::open(state.image()).unwrap().read_exact_at(&mut shown, 0).unwrap();
        device.read_exact_at(&mut seen, 0).unwrap();
        if shown != seen {
            return Err("the device shows another state".into());
        }
        let grub = state.grub_view("/state").map_err(|e| e.to_string())?;
        // One digit: the order of the names is that of the deploys.
        if state.marks().last().is_some_and(|mark| grub < format!("s{mark}").into_bytes()) {
            return Err(format!("GRUB sees {} after {:?}", String::from_utf8_lossy(&grub), state.marks()));
        }
        held = Some(device).filter(|_| !state.passed("2"));
        // A mount makes the kernel forget, too: every other state is only read.
        looks += 1;
        if looks % 2 == 0 {
            return Ok("read".into());
        }
        let checked = check_pointers(state)?;
        ask.send(()).unwrap();
        if answered.recv().unwrap().contains(&*state.device().to_string_lossy()) {
            return Err("others see what is mounted".into());
        }
        Ok(checked)
    });
    drop((ask, held));
    others.join().unwrap();
    let report = report.unwrap();
    assert!(report.is_clean() && report.outcomes.len() >= 4, "{report}");
}

#[test]
fn what_lies_apart_is_there_before_what_was_only_sent() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("base.img");
    new_btrfs(&image, SIZE, |root| {
        sh(&format!("cd {}; touch file; chattr +C file; dd if=/dev/zero of=file bs=4096 count=1 status=none", root.display()));
    })
    .unwrap();
    // Overwritten in place and sent to the disk, which is not told to keep it; then the boot block, with a flush of its own.
    let apart = 512 << 10;
    let new_log = || {
        record(&image, |root, recording| {
            sh(&format!(
                "tr '\\0' n </dev/zero | dd of={}/file bs=4096 count=1 iflag=fullblock oflag=direct conv=notrunc status=none",
                root.display()
            ));
            let disk = File::options().write(true).open(recording.disk()).unwrap();
            disk.write_all_at(&[1; 512], apart).unwrap();
            disk.sync_all().unwrap();
        })
    };
    let lost = |log: &WriteLog| {
        let mut lost = 0;
        let report = replay(log, Strategy::Subsets { seed: seed(), per_flush: 1 }, |state| {
            let mut flag = [0];
            File::open(state.image()).and_then(|file| file.read_exact_at(&mut flag, apart)).unwrap();
            let root = state.mount("subvolid=5").map_err(|e| e.to_string())?;
            let old = fs::read(root.join("file")).map_err(|e| e.to_string())?.starts_with(&[0]);
            lost += usize::from(flag == [1] && old && state.tag().contains("its like"));
            Ok(format!("flag {flag:?}, old {old}"))
        });
        eprintln!("{}", report.unwrap());
        lost
    };
    assert_eq!(lost(&new_log()), 0);
    assert_eq!(lost(&new_log().apart(std::slice::from_ref(&(apart..apart + 512)))), 1);
}
