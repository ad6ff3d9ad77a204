//! `install --live`, `live-chroot` with the real pacman, and what of the booted `/etc` goes along with a deploy.

use std::fs;
use std::io::Write as _;
use std::ops::Deref;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ast::id::DeployId;
use ast::layout::Part;
use ast::pacman::{PackageSet, installed};
use ast::sys::file;
use ast::sys::mount::{bind, unmount_lazy};

use crate::machine::{Machine, skipped};

/// Snapshot 1 deployed as deployment 2 and booted; its `/usr` is seen below the machine's root.
struct Booted(Machine);

impl Booted {
    fn new(machine: Machine) -> Self {
        let said = machine.ok(&["--json", "deploy", "1", "--no-trial"]);
        assert_eq!(said.json()["deployment"], 2);
        file::replace(&machine.root.join("run/ast/booted"), b"d=2\nwhy=good\nenv=ok\n").expect("record");
        let usr = machine.root.join("usr");
        fs::create_dir(&usr).expect("dir");
        bind(&machine.layout().deployment_part(DeployId::new(2), Part::Root).join("usr"), &usr).expect("bound");
        Self(machine)
    }

    fn root(&self) -> std::path::PathBuf {
        self.layout().deployment_part(DeployId::new(2), Part::Root)
    }

    fn etc(&self, name: &str) -> std::path::PathBuf {
        self.layout().deployment_part(DeployId::new(2), Part::Etc).join(name)
    }

    fn booted_packages(&self) -> PackageSet {
        installed(&self.root()).expect("a database")
    }
}

impl Deref for Booted {
    type Target = Machine;
    fn deref(&self) -> &Machine {
        &self.0
    }
}

impl Drop for Booted {
    fn drop(&mut self) {
        while unmount_lazy(&self.0.root.join("usr")).is_ok() {}
    }
}

#[test]
fn s14_a_live_installation_is_in_both_or_in_neither_and_never_a_partial_upgrade() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.offer("note", "1", &[]);
    machine.offer("tool", "1", &["note"]);
    machine.ok(&["clone", "0"]);
    machine.ok(&["refresh", "1"]);
    let mut machine = Booted::new(machine);
    let said = machine.ok(&["install", "1", "--live", "tool"]);
    assert!(said.err.contains("seen at once in /usr"), "{said:?}");
    assert_eq!(machine.versions("tool", [0, 1]), ["", "1-1"]);
    let booted = machine.booted_packages();
    assert!(booted.get("tool").is_some_and(|p| p.explicit) && booted.get("note").is_some_and(|p| !p.explicit), "{booted:?}");
    assert_eq!(fs::read_to_string(machine.root.join("usr/share/tool/version")).expect("seen"), "1\n");
    assert!(!machine.root().join("usr/share/ast/db/db.lck").exists());
    let again = machine.ok(&["install", "1", "--live", "tool"]);
    assert!(again.err.contains("has it already"), "{again:?}");

    // The snapshot is upgraded, what runs is not: one more package would be of another time than its needs.
    machine.offer("note", "2", &[]);
    machine.offer("tool", "2", &["note"]);
    machine.offer("more", "1", &["note"]);
    machine.ok(&["upgrade", "1"]);
    let (before, sets) = (machine.booted_packages(), machine.sets());
    let said = machine.ast(&["install", "1", "--live", "more"]);
    assert!(said.code == 3 && said.err.contains("note") && said.err.contains("ast deploy N"), "{said:?}");
    assert_eq!((machine.booted_packages(), machine.sets()), (before.clone(), sets), "in neither");

    // By hand it is one, too: the lists are new, and the tool is left old beside the new note.
    let live = |lines: &str| {
        let mut child =
            machine.command(&["live-chroot"]).stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ast");
        child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("typed");
        let out = child.wait_with_output().expect("ended");
        (out.status.code(), String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned())
    };
    let pacman = "pacman --dbpath /usr/share/ast/db --noconfirm";
    let (code, said) = live(&format!("{pacman} -Sy note; exit $?\n"));
    assert!(code == Some(3) && said.contains("partial upgrade: tool is left old"), "{said}");
    assert_eq!(machine.booted_packages(), before);
    // All of it, without the kernel, is none.
    let (code, said) = live(&format!("{pacman} -Syu; exit $?\n"));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(machine.booted_packages().version("tool"), Some("2-1"));
    // Now they fit together, and nothing has to be fetched for what runs.
    machine.ok(&["install", "1", "--live", "more"]);
    machine.0.stop_mirror();
    assert_eq!(machine.booted_packages().version("more"), Some("1-1"));
    assert_eq!(fs::read_to_string(machine.root.join("usr/share/more/version")).expect("seen"), "1\n");

    // U7: what was edited here goes along when that is asked for, and is warned of otherwise.
    fs::write(machine.etc("hosts"), "mine\n").expect("edited");
    fs::write(machine.etc("machine-id"), "0123456789abcdef0123456789abcdef\n").expect("an id");
    let said = machine.ok(&["--json", "deploy", "1"]);
    assert_eq!(said.json()["only_in_booted_etc"], serde_json::json!(["/etc/hosts"]), "{said:?}");
    assert!(said.err.contains("warning") && said.err.contains("--keep-etc"), "{said:?}");
    let said = machine.ok(&["--json", "deploy", "1", "--keep-etc"]);
    let kept = said.json()["etc"]["kept"].as_array().expect("a list").clone();
    assert!(kept.contains(&"/etc/hosts".into()), "{said:?}");
    let made = DeployId::new(u32::try_from(said.json()["deployment"].as_u64().expect("number")).expect("number"));
    let new = |name: &str| fs::read_to_string(machine.layout().deployment_part(made, Part::Etc).join(name)).expect("there");
    assert_eq!((new("hosts").as_str(), new("machine-id").as_str()), ("mine\n", "0123456789abcdef0123456789abcdef\n"));
}

#[test]
fn r2_a_signal_in_the_middle_of_pacman_leaves_the_old_state() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    machine.offer("note", "1", &[]);
    machine.ok(&["clone", "0"]);
    machine.ok(&["refresh", "1"]);
    let hook = "[Trigger]\nOperation = Install\nType = Package\nTarget = *\n[Action]\nWhen = PostTransaction\nExec = /usr/bin/sleep 9191\n";
    machine.write_etc(1, "pacman.d/hooks/slow.hook", hook);
    let sets = machine.sets();
    for signal in [nix::sys::signal::Signal::SIGINT, nix::sys::signal::Signal::SIGTERM] {
        let mut child = machine.command(&["install", "1", "note"]).stdin(Stdio::null()).spawn().expect("ast");
        let begun = Instant::now();
        let sleeps = || {
            let processes = fs::read_dir("/proc").expect("proc").flatten();
            processes
                .map(|p| fs::read(p.path().join("cmdline")).unwrap_or_default())
                .filter(|line| line.ends_with(b"sleep\x009191\0"))
                .count()
        };
        while sleeps() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "pacman did not come to its hook");
            std::thread::sleep(Duration::from_millis(50));
        }
        let work = machine.layout().work();
        let copy = file::names(&work).expect("list").pop().expect("a copy");
        // In the middle indeed: the package is in the copy, and its pacman holds its lock.
        assert!(work.join(&copy).join("root/usr/share/note/version").exists());
        assert!(work.join(&copy).join("root/usr/share/ast/db/db.lck").exists());
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("number")), signal).expect("sent");
        child.wait().expect("ended");
        while sleeps() > 0 {
            assert!(begun.elapsed() < Duration::from_secs(120), "its hook outlived it");
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = machine.ok(&["unlock", "1"]);
        assert!(said.out.contains("cleared working copy"), "{said:?}");
        assert_eq!((machine.sets(), machine.versions("note", [1])), (sets.clone(), [String::new()]), "after {signal}");
    }
}
