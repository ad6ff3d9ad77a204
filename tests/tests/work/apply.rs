//! A declaration on a real system: the example of docs/apply.md with the real pacman, useradd, systemctl, and the AUR beside it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ast::apply::{self, ApplyError, Declaration, Kind};
use ast::layout::Part;
use ast::pacman::installed;
use ast::sys::btrfs;
use ast::work::WorkingCopy;
use ast_tests::lab::cache::{cache_dir, once};

use crate::aur::Workshop;
use crate::bed::mode;

/// The machine's Python in the bed's snapshot, and an ansible-playbook from its registry beside; `None` says why there is none.
fn ansible(bed: &crate::bed::Bed) -> Result<PathBuf, String> {
    let sh = |line: &str| {
        let out = std::process::Command::new("bash").args(["-ec", line]).output().map_err(|error| error.to_string())?;
        let tail = || String::from_utf8_lossy(&out.stderr).lines().last().unwrap_or_default().to_owned();
        if out.status.success() { Ok(()) } else { Err(tail()) }
    };
    sh("test -x /usr/bin/python3 && python3 -m pip --version").map_err(|why| format!("no python3 with pip here: {why}"))?;
    let mut failed = String::new();
    let made = once(&cache_dir().join("ansible-core"), |dir| {
        let install = "python3 -m pip install -q --disable-pip-version-check --target";
        let python = crate::bed::sh("python3 -c 'import sys; print(sys.executable)'");
        let program = format!("#!/bin/sh\nPYTHONPATH=\"$(dirname \"$0\")/lib\" exec {python} -m ansible playbook \"$@\"\n");
        let written = sh(&format!("{install} {}/lib ansible-core", dir.display()))
            .and_then(|()| std::fs::write(dir.join("ansible-playbook"), program).map_err(|error| error.to_string()))
            .and_then(|()| sh(&format!("chmod 755 {}/ansible-playbook", dir.display())));
        written.map_err(|why| {
            failed = format!("pip cannot install ansible-core: {why}");
            ast_tests::lab::Error::NothingBuilt { what: "pip", dir: dir.to_owned() }
        })
    });
    let dir = made.map_err(|error| if failed.is_empty() { error.to_string() } else { failed.clone() })?;
    let root = bed.part(Part::Root);
    btrfs::set_read_only(&root, false).map_err(|error| error.to_string())?;
    sh(&format!(
        "v=$(/usr/bin/python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])')
         tar -C / -c --exclude=test --exclude='config-*' usr/bin/python3 usr/bin/python$v usr/lib/python$v usr/lib/python3 | tar -x -C {}",
        root.display()
    ))
    .map_err(|why| format!("this machine's Python cannot be copied: {why}"))?;
    btrfs::set_read_only(&root, true).map_err(|error| error.to_string())?;
    Ok(dir.join("ansible-playbook"))
}

#[test]
fn a_playbook_runs_inside_the_copy_whatever_host_and_way_it_names() {
    let bed = crate::bed::Bed::with_system();
    let ansible = match ansible(&bed) {
        Ok(program) => program,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let dir = tempfile::tempdir().expect("dir");
    let mark = PathBuf::from(format!("/tmp/ast-apply-{}", std::process::id()));
    let text = format!(
        "- hosts: localhost\n  connection: local\n  gather_facts: false\n  become: true\n  vars:\n    ansible_connection: local\n  tasks:\n\
         \x20   - copy: {{dest: /etc/motd, content: \"of Ansible\\n\", mode: '0600'}}\n\
         \x20   - lineinfile: {{path: /etc/profile, line: 'umask 077'}}\n\
         \x20   - command: touch {0}\n      delegate_to: 127.0.0.1\n      args: {{creates: {0}}}\n\
         \x20   - copy: {{src: big, dest: /usr/share/big}}\n",
        mark.display()
    );
    let playbook = dir.path().join("kiosk.yml");
    std::fs::write(&playbook, &text).expect("written");
    std::fs::write(dir.path().join("big"), vec![b'x'; 3 << 20]).expect("written");
    let mut said = Vec::new();
    let copy = bed.copy();
    apply::play(&copy, &playbook, Some(&ansible), &mut |line: &str| said.push(line.to_owned()))
        .unwrap_or_else(|e| panic!("{e}: {said:#?}"));
    assert!(!mark.exists(), "a task ran on the machine itself");
    assert_eq!(std::fs::read_to_string(copy.parts().etc.join("motd")).expect("made"), "of Ansible\n");
    assert_eq!(mode(&copy.parts().etc.join("motd")), 0o600);
    assert_eq!(std::fs::metadata(copy.parts().root.join("usr/share/big")).expect("copied").len(), 3 << 20);
    let paths: Vec<_> = differences(&copy).into_iter().map(|d| d.path.display().to_string()).collect();
    assert_eq!(paths, ["/etc/motd", "/etc/profile", "/usr/share/big"], "{said:#?}");

    let again = WorkingCopy::create_from(&bed.layout, copy.parts().clone()).expect("a copy");
    apply::play(&again, &playbook, Some(&ansible), &mut |_: &str| {}).expect("the same");
    assert_eq!(differences(&again), []);
    drop(again);

    for (text, names) in [
        ("- hosts: kiosks\n  tasks: []\n", "hosts: all"),
        ("- hosts: all\n  gather_facts: false\n  tasks: [{command: 'false'}]\n", "ansible-playbook"),
    ] {
        std::fs::write(&playbook, text).expect("written");
        let copy = bed.copy();
        let error = apply::play(&copy, &playbook, Some(&ansible), &mut |_: &str| {}).expect_err(text);
        assert!(error.to_string().contains(names), "{error}");
    }
    let bare = crate::bed::Bed::with_system();
    let error = apply::play(&bare.copy(), &playbook, Some(&ansible), &mut |_: &str| {}).expect_err("no Python there");
    assert!(error.to_string().contains("install python"), "{error}");
}

/// The first example in the documentation.
fn example() -> String {
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/apply.md")).expect("docs");
    docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example").to_owned()
}

fn parsed(text: &str) -> Declaration {
    Declaration::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn differences(copy: &WorkingCopy) -> Vec<apply::Difference> {
    apply::differences(copy.source().expect("made from a set"), copy.parts()).expect("readable")
}

fn shown(copy: &WorkingCopy) -> String {
    let source = copy.source().expect("made from a set");
    differences(copy).iter().map(|d| apply::unified(d, source, copy.parts()).expect("readable")).collect()
}

#[test]
fn the_example_is_brought_about_and_a_second_time_nothing_is_done() {
    let shop = Workshop::new();
    shop.aur.publish_lib(1);
    let text = example().replace("remove = [\"extra-note\"]", "remove = [\"extra-note\"]\naur = [\"aur-lib\"]");
    let declaration = parsed(&text);
    let copy = shop.bed.copy();
    std::fs::write(copy.parts().etc.join("motd"), "old\n").expect("written");
    let grub = std::fs::read_to_string(copy.parts().etc.join("default/grub")).expect("grub");
    apply::carry_out(&copy, &declaration, false).expect("as declared");

    let (root, etc, var) = (&copy.parts().root, &copy.parts().etc, copy.parts().get(Part::Var).expect("var"));
    let set = installed(root).expect("a database");
    assert_eq!(["hello", "aur-lib", "extra-note"].map(|name| set.get(name).is_some()), [true, true, false]);
    let list = |name: &str| std::fs::read_to_string(etc.join(name)).expect(name);
    let entry = |name: &str, start: &str| list(name).lines().find(|line| line.starts_with(start)).map(str::to_owned).unwrap_or_default();
    let kiosk = entry("passwd", "kiosk:");
    assert!(kiosk.ends_with(":The screen in the hall:/home/kiosk:/bin/bash"), "{kiosk}");
    assert!(entry("shadow", "kiosk:").starts_with("kiosk:!:"));
    assert!(entry("group", "video:").ends_with(":kiosk") && entry("group", "audio:").ends_with(":kiosk"));
    assert!(list("tmpfiles.d/ast-home-kiosk.conf").contains("d /home/kiosk 0700 kiosk "));
    assert!(list("ssh/authorized_keys.d/kiosk").starts_with("ssh-ed25519 "));
    assert!(etc.join("systemd/system/multi-user.target.wants/kiosk.service").is_symlink());
    assert_eq!(std::fs::read_link(etc.join("systemd/system/systemd-timesyncd.service")).expect("masked"), PathBuf::from("/dev/null"));
    let secret = etc.join("kiosk/secret");
    let number = |line: String| line.split(':').nth(2).and_then(|n| n.parse::<u32>().ok()).expect("a number");
    assert_eq!((mode(&secret), std::fs::metadata(&secret).expect("there").gid()), (0o640, number(entry("group", "kiosk:"))));
    assert_eq!(std::fs::read_link(etc.join("localtime")).expect("a link"), PathBuf::from("../usr/share/zoneinfo/Europe/Prague"));
    assert!(!etc.join("motd").exists() && var.join("lib/kiosk/data").is_dir());
    let wanted = grub.replace("GRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet\"", "GRUB_CMDLINE_LINUX_DEFAULT=\"panic=5\"");
    assert!(wanted != grub && list("default/grub") == wanted, "{}", list("default/grub"));

    let said = shown(&copy);
    assert!(said.contains("-GRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet\"\n+GRUB_CMDLINE_LINUX_DEFAULT=\"panic=5\"\n"), "{said}");
    assert!(said.contains("--- /dev/null\n+++ /etc/systemd/system/kiosk.service\n"), "{said}");
    assert!(said.contains("added /etc/kiosk\n") && said.contains("changed /etc/shadow\n"), "{said}");
    assert!(!said.contains("not for everybody") && !said.contains("kiosk:!"), "secrets are shown: {said}");

    // Again, on what was made of it: what a copy of it differs in is nothing.
    let again = WorkingCopy::create_from(&shop.bed.layout, copy.parts().clone()).expect("a copy");
    apply::carry_out(&again, &declaration, false).expect("as declared");
    assert_eq!(differences(&again), []);
    assert_eq!(copy.finish().expect("finished").findings(), []);
}

#[test]
fn what_cannot_be_done_is_said_by_name() {
    let shop = Workshop::new();
    let copy = shop.bed.copy();
    let failed = |text: &str| apply::carry_out(&copy, &parsed(text), false).expect_err(text);
    let error = failed("[services]\nenable = [\"no-such-thing.service\"]");
    assert!(matches!(&error, ApplyError::Service { unit, wish: "enabled", .. } if unit == "no-such-thing.service"), "{error}");
    let error = failed("[[command]]\nrun = [\"sh\", \"-c\", \"echo gone wrong >&2; exit 3\"]");
    assert!(matches!(&error, ApplyError::Command { tail, .. } if tail == "gone wrong"), "{error}");
    assert!(failed("[[user]]\nname = \"x\"\ngroups = [\"no-such-group\"]").to_string().contains("no-such-group"));
    assert!(failed("[[file]]\npath = \"/etc/x\"\ncontent = \"\"\nowner = \"nobody-knows\"").to_string().contains("nobody-knows"));
    assert!(failed("[packages]\ninstall = [\"no-such-package\"]").to_string().contains("no-such-package"));
    std::fs::write(copy.parts().etc.join("ast.conf"), "").expect("written");
    assert!(matches!(failed("[packages]\naur = [\"aur-lib\"]"), ApplyError::AurOff(name) if name == "aur-lib"));

    // A link in the image leads where it leads inside, never to the machine.
    let outside = shop.bed.layout.work().join("outside");
    std::fs::create_dir(&outside).expect("dir");
    std::os::unix::fs::symlink(&outside, copy.parts().etc.join("trap")).expect("link");
    std::os::unix::fs::symlink("/usr/share", copy.parts().etc.join("share")).expect("link");
    let file = |path: &str| parsed(&format!("[[file]]\npath = \"{path}\"\ncontent = \"x\""));
    apply::carry_out(&copy, &file("/etc/share/file"), false).expect("written");
    assert!(copy.parts().root.join("usr/share/file").exists());
    drop(apply::carry_out(&copy, &file("/etc/trap/file"), false));
    assert_eq!(std::fs::read_dir(&outside).expect("dir").count(), 0, "written outside");
    let found = differences(&copy);
    assert!(found.iter().any(|d| d.path == Path::new("/usr/share/file") && d.change == Kind::Added), "{found:?}");
    std::fs::remove_dir(outside).expect("removed");
}
