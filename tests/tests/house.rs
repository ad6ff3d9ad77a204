//! The house rules that a compiler does not check: which room may use which, what the initramfs links, how long a file is.

#![allow(clippy::disallowed_methods, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

const GROUND: [&str; 6] = ["id", "layout", "cmdline", "fstab", "boot", "sys"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ast/src")
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).expect("directory") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// Rooms that a file names as `crate::room`.
fn doors(text: &str) -> Vec<String> {
    text.lines()
        .filter(|l| !l.trim_start().starts_with("//"))
        .flat_map(|l| l.split("crate::").skip(1).map(str::to_owned).collect::<Vec<_>>())
        .map(|rest| rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect())
        .filter(|room: &String| !room.is_empty())
        .collect()
}

fn room_of(path: &Path) -> String {
    let inside = path.strip_prefix(source()).expect("below src");
    inside.components().next().expect("a part").as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

#[test]
fn no_forbidden_door_is_open() {
    let mut bad = Vec::new();
    for path in rust_files(&source()) {
        let room = room_of(&path);
        for door in doors(&std::fs::read_to_string(&path).expect("text")) {
            let below = GROUND.contains(&room.as_str()) && !GROUND.contains(&door.as_str());
            let above = door == "cli" && room != "cli" && room != "main";
            let sideways = room == "sys" && door != "sys";
            if below || above || sideways {
                bad.push(format!("{} uses crate::{door}", path.display()));
            }
        }
    }
    assert!(bad.is_empty(), "forbidden doors:\n{}", bad.join("\n"));
}

#[test]
fn unsafe_lives_in_one_room() {
    for path in rust_files(&source()).into_iter().filter(|p| room_of(p) != "sys") {
        let text = std::fs::read_to_string(&path).expect("text");
        let words =
            text.lines().filter(|l| !l.trim_start().starts_with("//")).any(|l| l.contains("unsafe {") || l.contains("unsafe_code)"));
        assert!(!words, "{} has unsafe code", path.display());
    }
}

/// U4: nothing that an update needs waits for an orderly end, which a device that is switched off at the wall never has.
#[test]
fn u4_no_unit_does_its_work_when_the_machine_is_shut_down() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let mut seen = 0;
    for unit in std::fs::read_dir(&units).expect("units").flatten().map(|e| e.path()).filter(|p| p.is_file()) {
        let text = std::fs::read_to_string(&unit).expect("text");
        for line in text.lines() {
            let late = line.starts_with("ExecStop") || line.starts_with("WantedBy=") && ["shutdown", "reboot", "poweroff", "halt"].iter().any(|w| line.contains(w));
            assert!(!late, "{}: {line}", unit.display());
        }
        seen += 1;
    }
    assert!(seen >= 4, "{seen} units in {}", units.display());
}

/// What the initramfs links, by name. A new line here is a decision: every byte is read by GRUB on every boot.
#[test]
fn the_initramfs_links_only_what_is_listed() {
    const LISTED: [&str; 14] = [
        "ast-initcpio",
        "ast",
        "nix",
        "thiserror",
        "bitflags",
        "cfg-if",
        "libc",
        "memoffset",
        "kernlog",
        "log",
        "autocfg",
        "cfg_aliases",
        "thiserror-impl",
        "proc-macro2",
    ];
    let out = Command::new(env!("CARGO"))
        .args(["tree", "-p", "ast-initcpio", "-e", "normal,no-proc-macro", "--prefix", "none", "--offline", "-f", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo tree");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout);
    let names: std::collections::BTreeSet<_> = text.lines().filter_map(|l| l.split_whitespace().next()).collect();
    let new: Vec<_> = names.iter().filter(|n| !LISTED.contains(n)).collect();
    assert!(names.len() > 4 && new.is_empty(), "new in the initramfs: {new:?}");
}
