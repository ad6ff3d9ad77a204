//! GRUB's own update (C1) on a whole machine: asked for, tried, switched, started by the firmware, and the old one gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ast_tests::columns;
use ast_tests::image::Column;
use ast_tests::lab::repo::{self, State};
use ast_tests::scenario::{BOOT, Scenario, judged, status};
use ast_tests::vm::{Offline, Vm, cache_dir};

/// A build of GRUB, some three hundred files, and a shutdown; emulated.
const WORK: Duration = Duration::from_secs(180);
const TRIED: &str = "another GRUB is tried";

/// The files of GRUB 2.14 are in the root at `root`, as after an update of the package.
fn bring_214(root: &Path) {
    let packages = repo::build(&cache_dir(), State::V1).unwrap();
    ast::sys::btrfs::set_read_only(root, false).unwrap();
    let line = format!("tar --zstd -xf {}/grub-[0-9]*.pkg.tar.zst -C {} usr/bin/grub-mkimage usr/lib/grub", packages.display(), root.display());
    assert!(Command::new("sh").args(["-ec", &line]).status().unwrap().success());
    ast::sys::btrfs::set_read_only(root, true).unwrap();
}

fn grub(vm: &mut Vm) -> serde_json::Value {
    status(vm).unwrap()["grub"].clone()
}

fn c1_a_newer_grub_is_tried_and_comes_to_stay(column: Column) {
    let scenario = Scenario::new("grub-updated", column).unwrap();
    let disk = Offline::open(scenario.disk()).unwrap();
    let top = disk.mount(if column.is_efi() { 2 } else { 1 }, "subvolid=5,compress=zstd").unwrap();
    bring_214(&top.path("@.snapshots/deploy/1/root"));
    top.unmount().unwrap();
    disk.close().unwrap();

    let mut vm = scenario.boot().unwrap();
    judged(&mut vm).unwrap();
    let out = vm.run("ast boot-update --grub", WORK).unwrap();
    assert!(out.status == 0 && out.stdout.contains("the next start tries 2.14"), "{}{}", out.stdout, out.stderr);
    vm.reboot(WORK).unwrap();

    vm.expect(TRIED, BOOT).unwrap();
    vm.expect(r"ast: ast\.d=1 \(good\)", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let now = grub(&mut vm);
    assert_eq!(now["state"], "switched", "{now} {}", vm.sh("journalctl -b --no-pager -o cat -u ast-health").unwrap());
    assert!(vm.sh("cat /proc/cmdline /run/ast/booted").unwrap().contains("grub="));
    let said = vm.console().text_from(0).len();
    vm.reboot(WORK).unwrap();

    vm.expect(r"ast: ast\.d=1 \(good\)", BOOT).unwrap();
    assert!(!vm.console().text_from(said).contains(TRIED), "tried again");
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let now = grub(&mut vm);
    assert!(now["version"].as_str().is_some_and(|v| v.contains("2.14")) && now["new"].is_null(), "{now}");
    assert!(vm.sh("cat /run/ast/booted").unwrap().contains("grub="));
    let doctor = vm.sh("ast doctor || [ $? = 5 ]").unwrap();
    assert!(doctor.lines().any(|line| line.starts_with("ok") && line.contains(" C1 ")), "{doctor}");
}

columns!(c1_newer_grub(c1_a_newer_grub_is_tried_and_comes_to_stay); test: bios206_gap; full: efi206);
