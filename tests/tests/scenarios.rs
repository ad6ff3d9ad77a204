//! The scenarios: machines of the lab that boot, update and heal themselves. See `tests/src/scenario`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use ast_tests::columns;
use ast_tests::image::Column;
use ast_tests::scenario::{BOOT, Scenario, boot_times};
use std::time::Duration;

/// Scenario 1: a fresh image boots into its deployment.
fn scenario_01(column: Column) {
    let scenario = Scenario::new("scenario_01", column).unwrap();
    let mut vm = scenario.start().unwrap();
    vm.wait_shell(BOOT).unwrap();
    let shell = vm.elapsed();
    let state = vm.run("systemctl is-system-running --wait", Duration::from_secs(120)).unwrap();
    let failed = vm.sh("systemctl --failed --plain --no-legend").unwrap();
    assert_eq!((state.stdout.trim(), failed.as_str()), ("running", ""));
    eprintln!("{column}: {}", boot_times(&mut vm, shell).unwrap());
    assert_eq!(vm.sh("systemctl is-active multi-user.target").unwrap().trim(), "active");

    // `/` is the deployment's root, read-only; the others are where they belong and can be written.
    let source = |vm: &mut ast_tests::vm::Vm, path: &str| vm.sh(&format!("findmnt -no FSROOT {path}")).unwrap().trim().to_owned();
    for (path, subvolume) in [
        ("/", "/@.snapshots/deploy/1/root"),
        ("/etc", "/@.snapshots/deploy/1/etc"),
        ("/boot", "/@.snapshots/deploy/1/boot"),
        ("/boot/grub", "/@boot/grub"),
        ("/var", "/@var"),
        ("/var/cache/pacman/pkg", "/@cache"),
        ("/home", "/@home"),
        ("/root", "/@root"),
        ("/.snapshots", "/@.snapshots"),
    ] {
        assert_eq!(source(&mut vm, path), subvolume, "{path}");
    }
    for (path, status) in [("/", 1), ("/usr", 1), ("/boot", 1), ("/etc", 0), ("/var", 0), ("/home", 0), ("/root", 0)] {
        let out = vm.run(&format!("touch {path}/.written && rm {path}/.written"), Duration::from_secs(20)).unwrap();
        assert_eq!(out.status, status, "writing to {path}: {}", out.stderr);
        assert!(status == 0 || out.stderr.contains("Read-only"), "{path}: {}", out.stderr);
    }

    let booted = vm.sh("cat /run/ast/booted").unwrap();
    for line in ["d=1", "set=0.1", "why=good", "env=ok"] {
        assert!(booted.lines().any(|l| l == line), "{line} is not in:\n{booted}");
    }
    let status = vm.sh("ast status").unwrap();
    assert!(status.contains("deployment 1"), "{status}");
    vm.power_off(Duration::from_secs(60)).unwrap();
}

columns!(scenario_01_fresh_image(scenario_01); test: bios214_raw, efi214_systemd; full: bios206_gap, efi214, efi206);
