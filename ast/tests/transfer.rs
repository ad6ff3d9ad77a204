//! `export` and `import` between two machines, each on a btrfs of its own: what arrives is what was sent, and what is bad leaves nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ast::deploy::{self, Etc, How};
use ast::id::SnapshotId;
use ast::layout::Part;
use ast::store::machine::Block;
use ast::sys::{btrfs, file};
use common::*;
use ed25519_dalek::{Signer, SigningKey};

/// Two machines, a directory for what travels, and a snapshot 1 on the first, whose key the second trusts.
fn two() -> (Machine1, Machine1, tempfile::TempDir) {
    let (from, to) = (Machine1::new(Block::Local), Machine1::new(Block::Local));
    let dir = tempfile::tempdir().expect("dir");
    ok(&from, &["clone", "0", "-d", "kiosk"]);
    change(&from, 1, "first");
    ok(&from, &["export", "1", &path(&dir, "first")]);
    std::fs::remove_file(dir.path().join("first")).expect("made");
    trust(&to, &from);
    (from, to, dir)
}

fn trust(machine: &Machine1, whom: &Machine1) {
    let dir = machine.root.join("etc/ast/trusted.d");
    file::make_dirs(&dir).expect("dir");
    std::fs::copy(whom.root.join("etc/ast/export.pub"), dir.join("other.pub")).expect("copied");
}

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_string_lossy().into_owned()
}

/// The snapshot in a next generation, with files of every kind in it.
fn change(machine: &Machine1, of: u32, word: &str) {
    let mut locked = machine.lock();
    let from = locked.set_of(n(of)).expect("whole");
    let dir = locked.layout().work_copy(&format!("{}-1-00000000-{of}", std::process::id()));
    file::make_dirs(&dir).expect("dir");
    for part in Part::ALL {
        btrfs::snapshot(&locked.layout().set_part(from, part), &dir.join(part.name()), btrfs::Access::Writable).expect("copied");
        write(&dir.join(part.name()).join(format!("word {word}")), &format!("{word} {}", part.name()));
    }
    let script = "
        echo $1 > linked; ln -f linked link; chmod 4755 linked; ln -sf nowhere dangling; touch .dot; chown 7:8 .dot
        truncate -s 9M sparse; printf x | dd of=sparse bs=1 seek=5M conv=notrunc status=none
        rm -f null pipe; mknod null c 1 3; mkfifo pipe
        head -c 6000000 /dev/urandom > noise; rm -f word; mkdir -p new/dir; chmod 1777 new";
    let done = Command::new("bash").args(["-ec", script, "bash", word]).current_dir(dir.join("root")).status().expect("bash");
    assert!(done.success());
    xattr::set(dir.join("root/linked"), "user.x", b"1").expect("set");
    xattr::set(dir.join("root/.dot"), "trusted.y", b"2").expect("set");
    let (plan, _) = locked.plan_seal(from, &dir, "test").expect("a plan");
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

/// Everything that tar can tell of the snapshot's four parts.
fn content(machine: &Machine1, of: u32) -> Vec<String> {
    let set = machine.store().set_of(n(of)).expect("whole");
    let sum = |part: Part| {
        let tar = "tar --sort=name --xattrs --xattrs-include='*' --acls --numeric-owner --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -cf - -C \"$0\" . | sha256sum";
        let out = Command::new("bash").args(["-c", tar]).arg(machine.layout().set_part(set, part)).output().expect("tar");
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    Part::ALL.map(sum).into()
}

fn state(machine: &Machine1) -> (String, Vec<String>) {
    (ok(machine, &["--json", "tree"]), machine.on_disk())
}

#[test]
fn s8_a_snapshot_travels_with_everything_and_increments_go_both_ways() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let (full, more, back) = (path(&dir, "full"), path(&dir, "more"), path(&dir, "back"));
    ok(&from, &["export", "1", &full]);
    ok(&from, &["branch", "1", "-d", "kiosk, newer"]);
    change(&from, 2, "second");
    ok(&from, &["export", "2", &more, "--parent", "1"]);
    let size = |path: &str| std::fs::metadata(path).expect("there").len();
    assert!(size(&more) < size(&full) + 100_000, "{} against {}", size(&more), size(&full));

    let before = state(&to);
    let said = ast(&to, &["import", &more]);
    assert!(said.code == 3 && said.err.contains("kiosk") && said.err.contains("increment"), "{}", said.err);
    assert!(ok(&to, &["-n", "import", &full]).contains("  * commit the tree"));
    assert_eq!(state(&to), before);

    ok(&to, &["clone", "0", "-d", "in between"]);
    assert_eq!(ok(&to, &["import", &full]), "snapshot 2\n");
    assert_eq!(content(&to, 2), content(&from, 1));
    let sparse = std::fs::metadata(to.layout().link(n(2), Part::Root).join("sparse")).expect("there");
    assert!(sparse.len() == 9 << 20 && std::os::unix::fs::MetadataExt::blocks(&sparse) < 100, "{sparse:?}");
    assert_eq!(ok(&to, &["import", &full]), "snapshot 2\n", "a second time it is there already");
    let mut import = command(&to, &["import", "-", "-d", "by pipe"]);
    let out = import.stdin(std::fs::File::open(&more).expect("there")).output().expect("ast");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(content(&to, 3), content(&from, 2));
    let tree = ok(&to, &["tree"]);
    assert!(tree.contains("2 - kiosk\n    └── 3 - by pipe"), "{tree}");

    // What came is as good a parent as what was made here, and known where it was made.
    ok(&to, &["branch", "3", "-d", "third"]);
    change(&to, 4, "third");
    let said = ast(&from, &["import", &back]);
    assert!(said.code == 1 && said.err.contains("back"), "{}", said.err);
    ok(&to, &["export", "4", &back, "--parent", "3"]);
    trust(&from, &to);
    assert_eq!(ok(&from, &["import", &back]), "snapshot 3\n");
    assert_eq!(content(&from, 3), content(&to, 4));
    assert!(ok(&from, &["tree"]).contains("2 - kiosk, newer\n        └── 3 - third"), "{}", ok(&from, &["tree"]));
    // Whole on both, and nothing is left over.
    for machine in [&from, &to] {
        assert!(machine.on_disk().iter().all(|name| !name.starts_with("work")), "{:?}", machine.on_disk());
        assert!(machine.lock().repaired().mended.is_empty());
    }
}

#[test]
fn s8_what_came_from_another_machine_is_tried_and_becomes_the_default() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let (full, more) = (path(&dir, "full"), path(&dir, "more"));
    ok(&from, &["export", "1", &full]);
    ok(&from, &["branch", "1", "-d", "kiosk, newer"]);
    change(&from, 2, "second");
    ok(&from, &["export", "2", &more, "--parent", "1"]);
    // Not by a machine that does not trust the first one.
    let stranger = Machine1::new(Block::Local);
    let before = state(&stranger);
    let said = ast(&stranger, &["import", &full]);
    assert!(said.code == 3 && said.err.contains("not trusted"), "{} {}", said.code, said.err);
    assert_eq!(state(&stranger), before);
    ok(&to, &["import", &full]);
    ok(&to, &["import", &more]);

    let mut locked = to.lock();
    let (plan, trial) = deploy::plan_deploy(&locked, n(2), How::Trial, Etc::MergedFrom(d(1))).expect("a plan");
    assert!(locked.run(plan).expect("committed").unfinished.is_empty());
    drop(locked);
    let arm = to.store().block().expect("a block").arm;
    to.booted(&format!("d={}\nwhy=trial\narm={arm}\nleft=2\nenv=ok\n", trial));
    let mut locked = to.lock();
    let booted = locked.booted().cloned().expect("it runs");
    let plan = deploy::plan_promote(&locked, &booted).expect("allowed").expect("needed");
    assert!(locked.run(plan).expect("committed").unfinished.is_empty());
    let block = locked.block().expect("a block");
    assert_eq!((block.good, block.prev, block.trial), (trial, Some(d(1)), None));
    drop(locked);
    let words = |root: &Path| (text(&root.join("word second")), text(&root.join("word first")));
    let there = from.layout().set_part(from.store().set_of(n(2)).expect("whole"), Part::Root);
    assert_eq!(words(&to.layout().deployment_part(trial, Part::Root)), words(&there));
    assert!(ok(&to, &["tree"]).contains("2*"), "{}", ok(&to, &["tree"]));
    assert!(to.lock().repaired().mended.is_empty());
}

#[test]
fn r7_what_is_not_signed_by_somebody_trusted_is_refused_and_leaves_nothing() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let full = path(&dir, "full");
    ok(&from, &["export", "1", &full]);
    let whole = file::read(Path::new(&full)).expect("read");
    let before = state(&to);
    let import = |bytes: &[u8]| {
        let bad = path(&dir, "bad");
        std::fs::write(&bad, bytes).expect("written");
        let said = ast(&to, &["import", &bad]);
        assert_eq!(state(&to), before, "{}", said.err);
        said
    };
    let head = whole.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at).nth(3).expect("four lines") + 1;
    let manifest: serde_json::Value = {
        let line = whole[..head].split(|b| *b == b'\n').nth(3).expect("a manifest");
        serde_json::from_slice(line).expect("JSON")
    };
    let mut at = head;
    let mut places = vec![3, 20, 60, 100, 200, head - 30];
    for part in manifest["parts"].as_array().expect("parts") {
        let bytes = usize::try_from(part["bytes"].as_u64().expect("a number")).expect("small");
        places.extend([at, at + bytes / 2, at + bytes - 1]);
        at += bytes;
    }
    assert_eq!(at, whole.len());
    for place in places {
        let mut changed = whole.clone();
        changed[place] ^= 0x10;
        let said = import(&changed);
        assert!(matches!(said.code, 1 | 3), "byte {place}: {} {}", said.code, said.err);
        assert!(place < head || said.err.contains("damaged between"), "byte {place}: {}", said.err);
    }
    for cut in [0, 5, head - 1, head, head + 4000, whole.len() - 1] {
        let said = import(&whole[..cut]);
        assert_eq!(said.code, 1, "cut at {cut}: {}", said.err);
    }
    let said = import(&[&whole, b"more".as_slice()].concat());
    assert!(said.code == 1 && said.err.contains("follows the last stream"), "{}", said.err);

    let keys = to.root.join("etc/ast/trusted.d");
    let key = String::from_utf8(file::read(&keys.join("other.pub")).expect("read")).expect("text");
    std::fs::rename(keys.join("other.pub"), keys.join("other.off")).expect("renamed");
    let said = import(&whole);
    assert!(said.code == 3 && said.err.contains(key.trim()), "the key is not named: {}", said.err);
    file::replace(&keys.join("broken.pub"), b"what is this").expect("written");
    let said = import(&whole);
    assert!(said.code == 1 && said.err.contains("broken.pub"), "{}", said.err);
    std::fs::remove_file(keys.join("broken.pub")).expect("removed");
    let given = keys.join("other.off").to_string_lossy().into_owned();
    assert_eq!(ok(&to, &["import", &full, "--key", &given]), "snapshot 1\n");
}

/// The export in `whole` with another manifest and other streams, signed again by its own key.
fn forged(from: &Machine1, whole: &[u8], spoil: impl FnOnce(&mut serde_json::Value, &mut Vec<Vec<u8>>)) -> Vec<u8> {
    let lines: Vec<&[u8]> = whole.splitn(5, |b| *b == b'\n').collect();
    let mut manifest: serde_json::Value = serde_json::from_slice(lines[3]).expect("JSON");
    let mut rest = lines[4];
    let mut streams = Vec::new();
    for part in manifest["parts"].as_array().expect("parts") {
        let (stream, after) = rest.split_at(usize::try_from(part["bytes"].as_u64().expect("a number")).expect("small"));
        streams.push(stream.to_vec());
        rest = after;
    }
    spoil(&mut manifest, &mut streams);
    let secret = text(&from.root.join("etc/ast/export.key"));
    let seed: Vec<u8> = secret
        .trim()
        .rsplit(' ')
        .next()
        .expect("digits")
        .as_bytes()
        .chunks(2)
        .map(|d| u8::from_str_radix(std::str::from_utf8(d).expect("hex"), 16).expect("hex"))
        .collect();
    let key = SigningKey::from_bytes(&seed.try_into().expect("32 bytes"));
    let line = format!("{manifest}\n");
    let signature = key.sign(format!("ast-export 1\n{line}").as_bytes()).to_bytes().iter().map(|b| format!("{b:02x}")).collect::<String>();
    let public = text(&from.root.join("etc/ast/export.pub"));
    let head = format!("ast-export 1\n{}\n{signature}\n{line}", public.trim());
    [head.as_bytes(), &streams.concat()].concat()
}

#[test]
fn r7_even_a_trusted_key_cannot_make_more_than_the_four_subvolumes() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let full = path(&dir, "full");
    ok(&from, &["export", "1", &full]);
    let whole = file::read(Path::new(&full)).expect("read");
    let before = state(&to);
    let table: Vec<(&str, &str, fn(&mut serde_json::Value, &mut Vec<Vec<u8>>))> = vec![
        ("a path for a part", "its parts are not", |m, _| m["parts"][0]["name"] = "../../../etc".into()),
        ("a bomb", "not what its manifest says", |m, _| m["parts"][0]["unpacked"] = 1000.into()),
        ("more promised than given", "not what its manifest says", |m, _| {
            let more = m["parts"][2]["unpacked"].as_u64().expect("a number") + 1;
            m["parts"][2]["unpacked"] = more.into();
        }),
        ("another identity", "known by another name", |m, _| m["parts"][1]["uuid"] = "0b6c0f9e-4e0e-4a54-a1a5-bc5e75d9a1b0".into()),
        ("the stream of another part", "something of another name", |m, streams| {
            streams.swap(1, 2);
            let etc = m["parts"][1].clone();
            for field in ["bytes", "unpacked", "sums", "uuid"] {
                let other = m["parts"][2][field].clone();
                m["parts"][1][field] = other;
                m["parts"][2][field] = etc[field].clone();
            }
        }),
        ("an increment to nothing that is here", "no snapshot here", |m, _| {
            m["parent"] = serde_json::json!({ "description": "x", "set": "1.1" });
            for at in 0..4 {
                m["parts"][at]["parent"] = "0b6c0f9e-4e0e-4a54-a1a5-bc5e75d9a1b0".into();
            }
        }),
    ];
    assert_eq!(forged(&from, &whole, |_, _| ()).len(), whole.len());
    for (what, why, spoil) in table {
        let bad = path(&dir, "bad");
        std::fs::write(&bad, forged(&from, &whole, spoil)).expect("written");
        let said = ast(&to, &["import", &bad]);
        assert!(matches!(said.code, 1 | 3) && said.err.contains(why), "{what}: {} {}", said.code, said.err);
        assert_eq!(state(&to), before, "{what}");
    }
    // A hostile description is one line like any other.
    let odd = path(&dir, "odd");
    std::fs::write(&odd, forged(&from, &whole, |m, _| m["description"] = "$(reboot)\n\u{1b}[31m}".into())).expect("written");
    ok(&to, &["import", &odd]);
    assert!(!ok(&to, &["tree"]).contains('\u{1b}'));
}

#[test]
fn s10_too_little_space_is_said_before_anything_is_received() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let full = path(&dir, "full");
    ok(&from, &["export", "1", &full]);
    let (_, free) = btrfs::space(to.layout().snapshots()).expect("space");
    let ballast = to.root.join("var/ballast");
    let size = (free - (34 << 20)).to_string();
    assert!(Command::new("fallocate").args(["-l", &size]).arg(&ballast).status().expect("fallocate").success());
    let before = state(&to);
    let said = ast(&to, &["import", &full]);
    assert!(said.code == 1 && said.err.contains("MiB are needed"), "{} {}", said.code, said.err);
    assert_eq!(state(&to), before);
    std::fs::remove_file(ballast).expect("removed");
    file::syncfs(to.layout().snapshots()).expect("sync");
    ok(&to, &["import", &full]);
}

#[test]
fn what_makes_a_machine_that_one_leaves_it_only_on_request() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let set = from.store().set_of(n(1)).expect("whole");
    let etc = from.layout().set_part(set, Part::Etc);
    btrfs::set_read_only(&etc, false).expect("opened");
    file::make_dirs(&etc.join("ssh")).expect("dir");
    write(&etc.join("ssh/ssh_host_ed25519_key"), "secret");
    write(&etc.join("ssh/ssh_host_ed25519_key.pub"), "public");
    write(&etc.join("machine-id"), "uninitialized\n");
    btrfs::set_read_only(&etc, true).expect("sealed");
    let full = path(&dir, "full");
    let said = ast(&from, &["export", "1", &full]);
    assert!(said.code == 3 && said.err.contains("/etc/ssh/ssh_host_ed25519_key\n"), "{}", said.err);
    assert!(!Path::new(&full).exists() && from.on_disk().iter().all(|name| !name.starts_with("work")));
    ok(&from, &["export", "1", &full, "--with-identity"]);
    let said = ast(&to, &["import", &full]);
    assert!(said.code == 0 && said.err.contains("host keys"), "{}", said.err);
}

#[test]
fn an_export_is_nothing_for_a_wrong_place() {
    if skipped() {
        return;
    }
    let (from, _to, dir) = two();
    let before = state(&from);
    let nowhere = path(&dir, "no/such/dir");
    let table: &[(&[&str], i32, &str)] = &[
        (&["export", "1"], 2, "FILE"),
        (&["export", "9", "-"], 3, "9"),
        (&["export", "1", "-", "--parent", "9"], 3, "9"),
        (&["--json", "export", "1", "-"], 2, "JSON"),
        (&["export", "1", &nowhere], 1, "no/such"),
        (&["export", "1", &dir.path().to_string_lossy()], 2, "directory"),
        (&["export", "1", &nowhere, "--key", &nowhere], 1, "no/such"),
        (&["import", &nowhere], 1, "no/such"),
        (&["import", "/dev/null"], 1, "no export"),
        (&["import", "/dev/zero"], 1, "no export"),
    ];
    for (words, code, names) in table {
        let said = ast(&from, words);
        assert!(said.code == *code && said.err.contains(names), "ast {words:?}: {} {}", said.code, said.err);
        assert!(said.out.is_empty(), "{}", said.out);
    }
    assert_eq!(state(&from), before);
    // What was there before is whole while the new one is made, and replaced by it.
    let file = path(&dir, "file");
    write(Path::new(&file), "old");
    ok(&from, &["export", "1", &file]);
    let names = file::names(dir.path()).expect("names");
    assert_eq!(names, ["file"], "{names:?}");
    // A link is followed, a device is written to and stays one.
    let (link, null) = (path(&dir, "link"), path(&dir, "null"));
    std::os::unix::fs::symlink("file", &link).expect("link");
    assert!(Command::new("mknod").args([&null, "c", "1", "3"]).status().expect("mknod").success());
    write(Path::new(&file), "old");
    ok(&from, &["export", "1", &link]);
    ok(&from, &["export", "1", &null]);
    assert!(Path::new(&link).is_symlink() && std::fs::metadata(&file).expect("there").len() > 1000);
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&std::fs::metadata(&null).expect("there").file_type()));
    let json: serde_json::Value = serde_json::from_str(&ok(&from, &["--json", "export", "1", &file])).expect("JSON");
    assert_eq!(json["set"], "1.2");
}

/// The child is there and has come so far that `so_far` holds.
fn wait_until(what: &str, so_far: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !so_far() {
        assert!(Instant::now() < end, "{what} never came");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn terminate(mut child: Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("sent");
    assert!(!child.wait().expect("ended").success());
}

/// The mounts that this test sees, and programs of btrfs that work on this machine.
fn traces(machine: &Machine1) -> (String, usize) {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
    let root = machine.root.to_string_lossy().into_owned();
    let busy = std::fs::read_dir("/proc").expect("proc").flatten().filter(|entry| {
        std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| {
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("btrfs") && line.contains(&root)
        })
    });
    (mounts, busy.count())
}

fn set_dir(machine: &Machine1, name: &str) -> PathBuf {
    machine.layout().set(set(name))
}

#[test]
fn s14_what_is_being_exported_is_not_deleted_and_a_signal_leaves_nothing() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let before = traces(&from);
    // Nobody reads: it stands in the middle of its output.
    let child = command(&from, &["export", "1", "-"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("ast");
    wait_until("the place", || from.on_disk().iter().any(|name| name.starts_with("work")));
    wait_until("the hold", || {
        let own = std::fs::read_to_string(format!("/proc/{}/mountinfo", child.id())).unwrap_or_default();
        own.lines().filter(|line| line.contains("/held ")).count() == 4
    });
    ok(&from, &["del", "1", "--yes"]);
    assert!(volumes_whole(&from, "1.2"), "it was deleted under the export");
    terminate(child);
    wait_until("the end of everything", || traces(&from) == before);
    drop(from.lock());
    assert!(!set_dir(&from, "1.2").exists() && from.on_disk().iter().all(|name| !name.starts_with("work")), "{:?}", from.on_disk());

    // The same for what an increment was made against, on the other side; the rest comes after it is gone from the tree.
    ok(&from, &["clone", "0", "-d", "one"]);
    change(&from, 2, "one");
    ok(&from, &["branch", "2", "-d", "two"]);
    change(&from, 3, "two");
    let (full, more) = (path(&dir, "full"), path(&dir, "more"));
    ok(&from, &["export", "2", &full]);
    ok(&from, &["export", "3", &more, "--parent", "2"]);
    ok(&to, &["import", &full]);
    let before = (state(&to), traces(&to));
    let bytes = file::read(Path::new(&more)).expect("read");
    let begin = |count: usize| {
        let mut child =
            command(&to, &["import", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ast");
        let mut pipe = child.stdin.take().expect("a pipe");
        pipe.write_all(&bytes[..count]).expect("written");
        (child, pipe)
    };
    let (child, pipe) = begin(bytes.len() - 100);
    wait_until("the first part", || work_has(&to, "in/root"));
    terminate(child);
    drop(pipe);
    // The kernel ends what it had started; a process in a system call of btrfs takes its time.
    wait_until("the end of everything", || traces(&to) == before.1);
    drop(to.lock());
    assert_eq!(state(&to), before.0);

    let (child, mut pipe) = begin(bytes.len() - 100);
    wait_until("the first part", || work_has(&to, "in/root"));
    ok(&to, &["del", "1", "--yes"]);
    pipe.write_all(&bytes[bytes.len() - 100..]).expect("written");
    drop(pipe);
    let out = child.wait_with_output().expect("ended");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(content(&to, 2), content(&from, 3));
    assert!(ok(&to, &["tree"]).contains("└── 2 - two"));
    drop(to.lock());
    assert!(!set_dir(&to, "1.1").exists());
}

fn volumes_whole(machine: &Machine1, name: &str) -> bool {
    ast::volumes::is_whole_set(&machine.layout(), set(name))
}

fn work_has(machine: &Machine1, name: &str) -> bool {
    let work = machine.layout().work();
    file::names(&work).expect("names").iter().any(|token| work.join(token).join(name).exists())
}

#[test]
fn the_base_can_be_exported_and_arrives_as_a_snapshot_like_any() {
    if skipped() {
        return;
    }
    let (from, to, dir) = two();
    let base = path(&dir, "base");
    ok(&from, &["export", "0", &base]);
    assert_eq!(ok(&to, &["import", &base]), "snapshot 1\n");
    assert_eq!(content(&to, 1), content(&from, SnapshotId::BASE.get()));
}
