//! `etc-update`, and what `deploy` says about the booted `/etc`, on a real btrfs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use ast::deploy::{self, Etc, How};
use ast::layout::Part;
use ast::store::machine::Block;
use ast::sys::{btrfs, file};
use common::{Machine1, Said, d, n, set, skipped, text, write};

/// Exit code, standard output, standard error.
fn ast(machine: &Machine1, words: &[&str]) -> (i32, String, String) {
    let Said { code, out, err } = common::ast(machine, words);
    (code, out, err)
}

fn json(machine: &Machine1, words: &[&str]) -> serde_json::Value {
    let (code, out, err) = ast(machine, words);
    assert_eq!(code, 0, "{words:?}: {out}{err}");
    serde_json::from_str(&out).expect("one document")
}

/// Snapshot 1 with some files in its /etc, deployed as deployment 2, and booted.
fn booted() -> Machine1 {
    let machine = Machine1::new(Block::Local);
    let etc = machine.layout().set_part(set("0.1"), Part::Etc);
    change(&etc, |etc| {
        for name in ["hosts", "motd", "gone", "sysctl.conf", "ast.conf"] {
            write(&etc.join(name), "packaged\n");
        }
        write(&etc.join("machine-id"), "uninitialized\n");
        file::make_dirs(&etc.join("ssh")).expect("dir");
    });
    let mut locked = machine.lock();
    let (plan, _) = locked.plan_new("one").expect("a plan");
    drop(locked.run(plan).expect("committed"));
    let (plan, _) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    drop(locked);
    machine.booted("d=2\nset=1.1\nwhy=good\nenv=ok\n");
    machine
}

/// A sealed subvolume is changed, as a package would.
fn change(sealed: &std::path::Path, how: impl FnOnce(&std::path::Path)) {
    btrfs::set_read_only(sealed, false).expect("opened");
    how(sealed);
    btrfs::set_read_only(sealed, true).expect("sealed");
}

/// The running /etc.
fn running(machine: &Machine1, name: &str) -> PathBuf {
    machine.layout().deployment_part(d(2), Part::Etc).join(name)
}

/// That of snapshot 1 as it is now.
fn saved(machine: &Machine1, name: &str) -> PathBuf {
    machine.layout().set_part(machine.store().set_of(n(1)).expect("whole"), Part::Etc).join(name)
}

fn generation(machine: &Machine1) -> String {
    machine.store().set_of(n(1)).expect("whole").to_string()
}

#[test]
fn u7_etc_update_saves_what_was_changed_here_and_no_identity() {
    if skipped() {
        return;
    }
    let machine = booted();
    let (code, out, err) = ast(&machine, &["etc-update"]);
    assert!(code == 0 && err.contains("nothing to do") && out.is_empty(), "{out}{err}");
    assert_eq!(generation(&machine), "1.1", "nothing to save, nothing made");

    write(&running(&machine, "hosts"), "mine\n");
    write(&running(&machine, "ast.conf"), "aur::True\n");
    write(&running(&machine, "machine-id"), "0123456789abcdef0123456789abcdef\n");
    write(&running(&machine, "ssh/ssh_host_ed25519_key"), "secret\n");
    fs::remove_file(running(&machine, "gone")).expect("deleted");
    fs::set_permissions(running(&machine, "motd"), fs::Permissions::from_mode(0o600)).expect("mode");
    let (code, out, err) = ast(&machine, &["--dry-run", "etc"]);
    assert!(code == 0 && out.contains("/etc/hosts: kept") && out.contains("  * seal it"), "{out}{err}");
    assert_eq!(generation(&machine), "1.1", "a dry run");

    let said = json(&machine, &["--json", "etc-update"]);
    assert_eq!(said["set"], "1.2");
    assert_eq!(said["etc"]["kept"], serde_json::json!(["/etc/ast.conf", "/etc/gone", "/etc/hosts", "/etc/motd"]), "{said:#}");
    assert_eq!((text(&saved(&machine, "hosts")), text(&saved(&machine, "ast.conf"))), ("mine\n".into(), "aur::True\n".into()));
    assert!(!saved(&machine, "gone").exists());
    assert_eq!(fs::metadata(saved(&machine, "motd")).expect("there").mode() & 0o7777, 0o600);
    assert_eq!(text(&saved(&machine, "machine-id")), "uninitialized\n", "a snapshot is no machine");
    assert!(!saved(&machine, "ssh/ssh_host_ed25519_key").exists(), "a host key in a snapshot");
    assert!(btrfs::is_read_only(&machine.layout().deployment_etc_saved(d(2))).expect("flags"));
    assert!(ast(&machine, &["etc"]).2.contains("nothing to do"), "twice is nothing to do");
    assert_eq!(generation(&machine), "1.2");
    assert_eq!(file::names(&machine.layout().work()).expect("list").len(), 0);

    // What is taken back here after it was saved is taken back there.
    write(&running(&machine, "hosts"), "packaged\n");
    assert_eq!(ast(&machine, &["etc"]).0, 0);
    assert_eq!((text(&saved(&machine, "hosts")), text(&saved(&machine, "ast.conf"))), ("packaged\n".into(), "aur::True\n".into()));
}

#[test]
fn u7_a_newer_generation_is_merged_and_not_overwritten() {
    if skipped() {
        return;
    }
    let machine = booted();
    let sealed = machine.layout().set_part(set("1.1"), Part::Etc);
    // As an upgrade of the snapshot leaves it, while the machine runs on.
    change(&sealed, |etc| {
        write(&etc.join("hosts"), "of the upgrade\n");
        write(&etc.join("sysctl.conf"), "of the upgrade\n");
        write(&etc.join("new"), "of the upgrade\n");
    });
    write(&running(&machine, "motd"), "mine\n");
    write(&running(&machine, "sysctl.conf"), "mine\n");
    let (code, out, err) = ast(&machine, &["etc-update"]);
    assert_eq!(code, 5, "a conflict wants a look: {out}{err}");
    assert!(err.contains("/etc/sysctl.conf: changed here and by a package"), "{err}");
    let all = ["hosts", "new", "motd", "sysctl.conf", "sysctl.conf.pacnew"].map(|name| text(&saved(&machine, name)));
    assert_eq!(all, ["of the upgrade\n", "of the upgrade\n", "mine\n", "mine\n", "of the upgrade\n"]);
    assert_eq!(text(&running(&machine, "hosts")), "packaged\n", "the running one is only read");
}

#[test]
fn s8_links_owners_and_attributes_survive_being_saved() {
    if skipped() {
        return;
    }
    let machine = booted();
    write(&running(&machine, "one"), "linked\n");
    fs::hard_link(running(&machine, "one"), running(&machine, "two")).expect("linked");
    symlink("nowhere/at all", running(&machine, "link")).expect("link");
    std::os::unix::fs::chown(running(&machine, "one"), Some(12), Some(34)).expect("owner");
    // user::rw- user:12:r-- group::r-- mask::r-- other::---, as setfacl writes it.
    let acl = [2u32, 0x0006_0001, u32::MAX, 0x0004_0002, 12, 0x0004_0004, u32::MAX, 0x0004_0010, u32::MAX, 0x0000_0020, u32::MAX];
    let acl: Vec<u8> = acl.iter().flat_map(|word| word.to_le_bytes()).collect();
    xattr::set(running(&machine, "motd"), "system.posix_acl_access", &acl).expect("an ACL");
    xattr::set(running(&machine, "hosts"), "user.note", b"kept").expect("attribute");
    file::make_dirs(&running(&machine, "empty.d")).expect("dir");
    assert_eq!(ast(&machine, &["etc-update"]).0, 0);
    let (one, two) = (fs::metadata(saved(&machine, "one")).expect("one"), fs::metadata(saved(&machine, "two")).expect("two"));
    assert_eq!((one.ino(), one.uid(), one.gid()), (two.ino(), 12, 34));
    assert_eq!(fs::read_link(saved(&machine, "link")).expect("link"), PathBuf::from("nowhere/at all"));
    assert_eq!(xattr::get(saved(&machine, "motd"), "system.posix_acl_access").expect("read"), Some(acl));
    assert_eq!(xattr::get(saved(&machine, "hosts"), "user.note").expect("read").as_deref(), Some(&b"kept"[..]));
    assert!(saved(&machine, "empty.d").is_dir());
}

#[test]
fn an_etc_that_ends_with_this_boot_is_not_saved() {
    if skipped() {
        return;
    }
    let machine = booted();
    let before = (generation(&machine), machine.on_disk());
    // record, what the refusal says
    let table = [
        ("set=1.1\nwhy=chosen\nvolatile=1\n", "in memory"),
        ("d=2\nset=1.1\nwhy=good\nvolatile=1\n", "in memory"),
        ("why=good\n", "in memory"),
        ("d=1\nset=0.1\nwhy=good\nenv=ok\n", "base"),
    ];
    for (record, says) in table {
        machine.booted(record);
        let (code, _, err) = ast(&machine, &["etc-update"]);
        assert!(code == 3 && err.contains(says) && err.contains("hint: "), "{record:?}: {code} {err}");
        if !record.starts_with("d=1") {
            let (code, _, err) = ast(&machine, &["deploy", "1", "--keep-etc"]);
            assert!(code == 3 && err.contains("no /etc to keep"), "{record:?}: {code} {err}");
        }
    }
    fs::remove_file(machine.root.join("run/ast/booted")).expect("gone");
    assert_eq!(ast(&machine, &["etc-update"]).0, 3);
    assert_eq!((generation(&machine), machine.on_disk()), before);
}

#[test]
fn u7_deploy_warns_of_what_would_be_left_behind_and_keeps_it_when_told() {
    if skipped() {
        return;
    }
    let machine = booted();
    let quiet = ast(&machine, &["--dry-run", "deploy", "1"]);
    assert!(quiet.0 == 0 && !quiet.2.contains("warning"), "{}", quiet.2);
    for name in ["a", "b", "c", "d", "e", "f", "hosts"] {
        write(&running(&machine, name), "mine\n");
    }
    write(&running(&machine, "resolv.conf"), "always carried\n");
    let (code, out, err) = ast(&machine, &["--dry-run", "deploy", "1"]);
    assert!(code == 0 && out.contains("  * commit"), "{out}{err}");
    assert!(err.contains("/etc/a, /etc/b, /etc/c, /etc/d, /etc/e and 2 more") && err.contains("--keep-etc"), "{err}");
    assert!(!err.contains("resolv"), "{err}");
    let (_, out, err) = ast(&machine, &["--dry-run", "deploy", "1", "--keep-etc"]);
    assert!(!err.contains("warning") && out.contains("merge the changes made in"), "{out}{err}");

    let mut locked = machine.lock();
    let (plan, made) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::MergedFrom(d(2))).expect("a plan");
    let done = locked.run(plan).expect("committed");
    let report = done.etc.expect("it was merged");
    assert!(report.kept.contains(&"hosts".into()) && report.to_look_at().is_empty(), "{report:?}");
    let of = |name: &str| text(&machine.layout().deployment_part(made, Part::Etc).join(name));
    assert_eq!((of("hosts"), of("resolv.conf"), of("motd")), ("mine\n".into(), "always carried\n".into(), "packaged\n".into()));
    drop(locked);
    // Where it cannot be told, that is said, and the deploy goes on.
    let (base, aside) = (machine.layout().deployment_etc_base(d(2)), machine.layout().deployment(d(2)).join("aside"));
    file::rename(&base, &aside).expect("aside");
    let (code, out, err) = ast(&machine, &["--dry-run", "deploy", "1"]);
    assert!(code == 0 && out.contains("  * commit") && err.contains("not known what was changed"), "{out}{err}");
    file::rename(&aside, &base).expect("back");
    // Saved, there is nothing to warn of any more.
    assert_eq!(ast(&machine, &["etc-update"]).0, 0);
    let (_, _, err) = ast(&machine, &["--dry-run", "deploy", "1"]);
    assert!(!err.contains("warning"), "{err}");
}
