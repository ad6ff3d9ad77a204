//! The real grub-mkconfig runs our generator among its own.
#![allow(clippy::disallowed_methods, reason = "drives the host's own grub-mkconfig in a private mount namespace")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]

use ast::grub::parser::{entries, parse};
use std::path::Path;
use std::process::Command;

/// `/etc/grub.d` and `/boot` are these directories, for grub-mkconfig alone.
const RUN: &str = "mount --make-rprivate / && mount --bind \"$1\" /etc/grub.d && mount --bind \"$2\" /boot && exec grub-mkconfig";

#[test]
fn a_plain_grub_mkconfig_writes_the_fixed_script() {
    if !nix_is_root() {
        println!("skipped: a private mount namespace needs root");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let documents = dir.path().join("root/.snapshots/ast");
    std::fs::create_dir_all(&documents).expect("a directory");
    let body = serde_json::json!({
        "fs_uuid": "12345678-1234-1234-1234-123456789abc", "firmware": "bios", "block": "raw", "esp_uuid": null, "grub_version": "2.14"
    });
    ast::store::document::save(&documents.join("machine.json"), &body).expect("saved");
    let boot = dir.path().join("boot");
    std::fs::create_dir_all(boot.join("grub")).expect("a directory");
    let generators = dir.path().join("grub.d");
    let copied = Command::new("cp").args(["-a", "/etc/grub.d"]).arg(&generators).status().expect("cp");
    assert!(copied.success());
    let ours = generators.join("10_ast");
    let sysroot = dir.path().join("root");
    // What ast wrote before is vouched for; the new one is not.
    let sums = sysroot.join("boot/grub/ast/grub.sums");
    std::fs::create_dir_all(sums.parent().unwrap()).expect("a directory");
    std::fs::write(&sums, "sums of the old one\n").expect("written");
    std::fs::write(&ours, format!("#!/bin/sh\nexec {} {}\n", env!("CARGO_BIN_EXE_10_ast"), sysroot.display())).expect("written");
    make_executable(&ours);

    let out = Command::new("unshare").args(["-m", "sh", "-euc", RUN, "sh"]).args([&generators, &boot]).output().expect("grub-mkconfig");
    let (text, said) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
    assert!(!sums.exists());
    let alone = Command::new(env!("CARGO_BIN_EXE_10_ast")).arg(&sysroot).output().expect("10_ast");
    assert!(alone.status.success());
    assert!(text.contains(&*String::from_utf8_lossy(&alone.stdout)), "our script is not in it as it is");
    let script = parse(&text).expect("GRUB's language");
    assert_eq!(entries(&script).iter().filter(|e| e.depth == 0).take(3).filter(|e| e.title.is_none()).count(), 3, "ours come first");
    let file = dir.path().join("grub.cfg");
    std::fs::write(&file, text.as_bytes()).expect("written");
    assert!(Command::new("grub-script-check").arg(&file).status().expect("grub-script-check").success());
}

fn make_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    assert!(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).is_ok(), "not made executable");
}

fn nix_is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() == 0)
}
