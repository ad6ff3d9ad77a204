//! `live-chroot`: what is booted is changed whole and at once, or not at all, whatever cuts it off. The running `/usr` is imitated by a mount of
//! the booted deployment's, below the machine's root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::fs;
use std::io::Write as _;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ast::deploy::{self, Etc, How};
use ast::layout::Part;
use ast::sys::mount::{bind, unmount_lazy};
use ast::sys::{btrfs, file};
use ast::volumes;
use common::{Machine1, d, n, set, skipped, text, write};

/// More stop points than a live change has.
const MOST_POINTS: u32 = 80;

/// Snapshot 1 deployed as deployment 2 and booted, with deployment 1 to go back to.
struct Running(Machine1);

impl Running {
    fn new() -> Self {
        let machine = Machine1::with_busybox();
        let root = machine.layout().set_part(set("1.1"), Part::Root);
        btrfs::set_read_only(&root, false).expect("opened");
        for name in ["chown", "mkdir", "rm"] {
            std::os::unix::fs::symlink("busybox", root.join("usr/bin").join(name)).expect("link");
        }
        btrfs::set_read_only(&root, true).expect("sealed");
        let mut locked = machine.lock();
        let (plan, _) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan");
        drop(locked.run(plan).expect("committed"));
        drop(locked);
        machine.booted("d=2\nset=1.1\nwhy=good\nenv=ok\n");
        let usr = machine.root.join("usr");
        fs::create_dir(&usr).expect("dir");
        bind(&machine.layout().deployment_part(d(2), Part::Root).join("usr"), &usr).expect("bound");
        Self(machine)
    }

    /// The machine was restarted: nothing of an old root is in use.
    fn restart(&self) {
        let usr = self.0.root.join("usr");
        while unmount_lazy(&usr).is_ok() {}
        bind(&self.layout().deployment_part(d(2), Part::Root).join("usr"), &usr).expect("bound");
    }

    fn deployed(&self, part: Part, name: &str) -> PathBuf {
        self.layout().deployment_part(d(2), part).join(name)
    }

    /// What live changes have left beside the root.
    fn left(&self) -> Vec<String> {
        let names = file::names(&self.layout().deployment(d(2))).expect("list");
        names.into_iter().filter_map(|name| name.into_string().ok()).filter(|name| name.starts_with("live-")).collect()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ast"));
        command.arg("--sysroot").arg(&self.0.root).args(words).env_remove("AST_LOG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// A shell with these lines. Exit code, and everything that was said; killed at a stop point, if one is given.
    fn live(&self, lines: &str, at: Option<u32>) -> (Option<i32>, String) {
        let mut command = self.command(&["live-chroot"]);
        if let Some(at) = at {
            command.env("AST_STOP_AT", at.to_string()).env("AST_STOP_SHOW", "1");
        }
        let mut child = command.spawn().expect("ast");
        // It may be killed before it reads.
        drop(child.stdin.take().expect("a pipe").write_all(format!("set -e\n{lines}\n").as_bytes()));
        let out = child.wait_with_output().expect("ended");
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    }

    fn ast(&self, words: &[&str]) -> (Option<i32>, String) {
        let out = self.command(words).output().expect("ast");
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    }
}

impl Deref for Running {
    type Target = Machine1;
    fn deref(&self) -> &Machine1 {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Before its directory is deleted: nothing is to be walked into.
        while unmount_lazy(&self.0.root.join("usr")).is_ok() {}
    }
}

#[test]
fn s14_a_live_change_is_seen_at_once_and_gone_with_the_next_deploy() {
    if skipped() {
        return;
    }
    let machine = Running::new();
    write(&machine.deployed(Part::Etc, "mine"), "edited\n");
    let base = machine.layout().deployment_etc_base(d(2));
    let (code, said) = machine.live("touch /usr/bin/new; echo new > /etc/new; mkdir -p /var/lib/new; touch /var/lib/new/x; exit 0", None);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("seen at once in /usr"), "{said}");
    assert!(machine.root.join("usr/bin/new").exists(), "not seen by what runs");
    assert!(machine.deployed(Part::Root, "usr/bin/new").exists(), "not there after a restart");
    assert!(
        btrfs::is_read_only(&machine.deployed(Part::Root, "")).expect("flags") && volumes::is_whole_deployment(&machine.layout(), d(2))
    );
    assert_eq!(
        (text(&machine.deployed(Part::Etc, "new")), text(&machine.deployed(Part::Etc, "mine"))),
        ("new\n".into(), "edited\n".into())
    );
    assert!(machine.root.join("var/lib/new/x").exists());
    assert!(!base.join("new").exists(), "what a person did in /etc is an edit");
    assert!(!machine.layout().set_part(set("1.1"), Part::Root).join("usr/bin/new").exists(), "the snapshot was changed");
    assert!(machine.ast(&["history"]).1.contains("live-chroot in the booted deployment 2"));
    // Discarded, and once more on top of the first.
    let (code, said) = machine.live("touch /usr/bin/lost; exit 3", None);
    assert!(code == Some(1) && said.contains("discarded"), "{said}");
    assert_eq!(machine.live("rm /usr/bin/new; touch /usr/bin/second; exit 0", None).0, Some(0));
    let there = |name: &str| (machine.root.join(name).exists(), machine.deployed(Part::Root, name).exists());
    assert_eq!([there("usr/bin/new"), there("usr/bin/lost"), there("usr/bin/second")], [(false, false), (false, false), (true, true)]);
    assert_eq!(machine.left().len(), 2, "the old roots are in use: {:?}", machine.left());
    machine.restart();
    assert_eq!(machine.ast(&["tmp"]).0, Some(0));
    assert_eq!(machine.left(), Vec::<String>::new());
    assert!(there("usr/bin/second").0 && file::names(&machine.layout().work()).expect("list").is_empty());
    let mut locked = machine.lock();
    let (plan, next) = deploy::plan_deploy(&locked, n(1), How::Trial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    assert!(!machine.layout().deployment_part(next, Part::Root).join("usr/bin/second").exists(), "gone with the next deploy");
}

#[test]
fn a_live_shell_ends_with_the_document_that_is_documented() {
    if skipped() {
        return;
    }
    let machine = Running::new();
    let words = ["--json", "live-chroot"];
    let mut child = machine.command(&words).spawn().expect("ast");
    child.stdin.take().expect("a pipe").write_all(b"touch /usr/live\nexit 0\n").expect("typed");
    let out = child.wait_with_output().expect("ended");
    let said = String::from_utf8_lossy(&out.stdout);
    let document: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {out:?}"));
    assert_eq!(document, serde_json::json!({ "deployment": 2, "shown": ["/usr"] }));
    common::documents::check(&words, 0, &said);
}

#[test]
fn s14_what_starts_the_machine_and_the_only_way_back_are_not_touched() {
    if skipped() {
        return;
    }
    let machine = Running::new();
    let before = || {
        let listing = Command::new("find").arg(machine.layout().deployment(d(2))).args(["-printf", "%P %i %C@\n"]).output().expect("find");
        (listing.stdout, machine.store().block().expect("block"), file::names(&machine.layout().work()).expect("list").len())
    };
    let unchanged = before();
    // lines, what the refusal names
    let table = [
        ("echo other > /boot/vmlinuz-linux", "/boot/vmlinuz-linux"),
        ("echo other > /boot/initramfs-linux.img", "/boot/initramfs-linux.img"),
        ("touch /boot/other", "/boot/other"),
        ("rm /boot/vmlinuz-linux", "/boot/vmlinuz-linux"),
        ("chown 1 /boot/vmlinuz-linux", "/boot/vmlinuz-linux"),
        ("mkdir /usr/lib/modules/7.0", "/usr/lib/modules/7.0"),
        ("touch /usr/lib/modules/6.12.1/new.ko", "/usr/lib/modules/6.12.1/new.ko"),
    ];
    for (lines, names) in table {
        let (code, said) = machine.live(&format!("{lines}; touch /usr/bin/new; exit 0"), None);
        assert!(code == Some(3) && said.contains(names) && said.contains("ast deploy N"), "{lines}: {code:?} {said}");
        assert!(!machine.root.join("usr/bin/new").exists(), "{lines}");
    }
    assert_eq!(before(), unchanged);
    // Nothing is deleted while a document cannot be read (S2), so nothing is made that would have to be.
    let numbers = machine.layout().document(ast::layout::NUMBERS);
    let whole = file::read(&numbers).expect("read");
    write(&numbers, "{");
    let (code, said) = machine.live("touch /usr/bin/new; exit 0", None);
    assert!(code == Some(1) && said.contains("ast doctor"), "{code:?} {said}");
    file::replace(&numbers, &whole).expect("mended");
    assert!(!machine.root.join("usr/bin/new").exists());
    let refused = |record: &str, says: &str| {
        machine.booted(record);
        for words in [&["live-chroot"][..], &["install", "1", "--live", "hello"]] {
            let (code, said) = machine.ast(words);
            assert!(code == Some(3) && said.contains(says), "{record:?} {words:?}: {code:?} {said}");
        }
    };
    refused("set=1.1\nwhy=chosen\nvolatile=1\n", "no deployment of its own");
    refused("d=2\nset=1.1\nwhy=good\nvolatile=1\n", "no deployment of its own");
    let well = machine.layout().deployment_well(d(1));
    fs::remove_file(&well).expect("gone");
    refused("d=2\nset=1.1\nwhy=good\nenv=ok\n", "no other deployment than 2");
    file::replace(&well, b"1\n").expect("well");
    let (code, said) = machine.ast(&["install", "0", "--live", "hello"]);
    assert!(code == Some(3) && said.contains("of snapshot 1, not of 0"), "{said}");
    assert_eq!(before(), unchanged);
    let mut locked = machine.lock();
    let (plan, trial) = deploy::plan_deploy(&locked, n(1), How::Trial, Etc::OfSnapshot).expect("a plan");
    drop(locked.run(plan).expect("committed"));
    drop(locked);
    refused(&format!("d={trial}\nset=1.1\nwhy=trial\narm=1\nleft=2\nenv=ok\n"), "is on trial");
}

#[test]
fn s14_a_live_change_that_is_cut_off_anywhere_is_old_or_new() {
    if skipped() {
        return;
    }
    let machine = Running::new();
    let mut seen = Vec::new();
    for at in 0..MOST_POINTS {
        let (code, said) = machine.live(&format!("touch /usr/n{at}; echo new > /etc/n{at}; mkdir -p /var/lib/n{at}; exit 0"), Some(at));
        let last = said.lines().rfind(|line| line.starts_with("stop point")).unwrap_or_default().to_owned();
        let when = format!("killed at {last}");
        assert!(volumes::is_whole_deployment(&machine.layout(), d(2)), "{when}: the booted deployment is not whole");
        assert!(machine.deployed(Part::Root, "usr/bin/busybox").exists() && machine.deployed(Part::Etc, "word").exists(), "{when}");
        let new = machine.deployed(Part::Root, &format!("usr/n{at}")).exists();
        let point = last.split_once(": ").map_or("", |(_, name)| name);
        assert!(!(new && ["live: prepared", "live: before"].iter().any(|before| point.starts_with(before))), "{when}: before its commit");
        assert!(
            new || !["live: after", "live: /etc", "live: settled"].iter().any(|after| point.starts_with(after)),
            "{when}: after its commit"
        );
        // Repair is killed, too.
        for early in [at % 3, at % 7] {
            drop(machine.command(&["tmp"]).env("AST_STOP_AT", early.to_string()).output().expect("ast"));
            assert!(volumes::is_whole_deployment(&machine.layout(), d(2)), "{when}, then repair at {early}");
        }
        machine.restart();
        drop(machine.lock());
        let has = [
            machine.deployed(Part::Root, &format!("usr/n{at}")),
            machine.deployed(Part::Etc, &format!("n{at}")),
            machine.root.join(format!("var/lib/n{at}")),
        ];
        assert_eq!(has.map(|path| path.exists()), [new; 3], "{when}: neither old nor new");
        assert_eq!(machine.left(), Vec::<String>::new(), "{when}");
        let again = machine.lock();
        assert!(again.repaired().mended.is_empty() && again.repaired().problems.is_empty(), "{when}: {:?}", again.repaired());
        drop(again);
        seen.push(point.to_owned());
        if code.is_some() {
            assert_eq!(code, Some(0), "{said}");
            assert!(new, "{said}");
            for point in ["live: prepared", "live: before the exchange", "live: after the exchange", "live: /etc", "live: settled"] {
                assert!(seen.iter().any(|seen| seen == point), "{point} was never reached: {seen:?}");
            }
            return;
        }
    }
    panic!("more than {MOST_POINTS} points: {seen:?}");
}

#[test]
fn r2_a_signal_in_a_live_shell_leaves_what_is_booted_as_it_was() {
    if skipped() {
        return;
    }
    let machine = Running::new();
    for signal in [nix::sys::signal::Signal::SIGTERM, nix::sys::signal::Signal::SIGKILL, nix::sys::signal::Signal::SIGHUP] {
        let mut child = machine.command(&["live-chroot"]).spawn().expect("ast");
        child.stdin.as_mut().expect("a pipe").write_all(b"touch /usr/bin/new; echo x > /etc/new; sleep 8181\n").expect("typed");
        let begun = Instant::now();
        let there = || {
            let names = file::names(&machine.layout().work()).expect("list");
            names.into_iter().any(|name| machine.layout().work().join(name).join("etc/new").exists())
        };
        while !there() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a number"));
        nix::sys::signal::kill(pid, signal).expect("sent");
        child.wait().expect("ended");
        let (code, said) = machine.ast(&["tmp"]);
        assert!(code == Some(0) && said.contains("cleared working copy"), "{signal}: {said}");
        assert!(!machine.deployed(Part::Root, "usr/bin/new").exists() && !machine.deployed(Part::Etc, "new").exists(), "{signal}");
        assert_eq!(machine.left(), Vec::<String>::new());
    }
}
