//! The examples of the README and of the manual (`ast help VERB`, ast(8)), typed as they stand there on one machine, in an order in which they
//! make sense. An example that is in neither list is red, and so is one that says something else than it does.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ast::id::DeployId;
use ast::layout::Part;
use ast::sys::file;
use ast::sys::mount::{bind, unmount_lazy};

use crate::bed::sh;
use crate::machine::{Machine, skipped};

const README: &str = include_str!("../../../README.md");

/// Examples that cannot run on this machine, and what runs them instead.
const NOT_HERE: &[(&str, &str)] = &[
    ("ast auto-upgrade", "it starts the service of the installed package: tests/update_cycle runs that"),
    ("ast boot-update 1 --grub", "no GRUB is in these snapshots: tests/across/grub.rs has a machine with one"),
    ("ast bootstrap /dev/sda", "it erases a disk: tests/across/bootstrap.rs gives it one, ast/tests/cli_bootstrap.rs has the questions"),
    ("ast bootstrap /dev/sda --answers kiosk.toml", "the same"),
    ("ast bootstrap /dev/sda --answers kiosk.toml --dry-run", "the same"),
    ("ast migrate", "this machine is not the original's: ast/tests/migrate.rs has such machines"),
    ("ast migrate --boot", "the same: ast/tests/migrate_boot.rs"),
    ("ast migrate --finish", "the same: ast/tests/migrate_boot.rs"),
    ("ast --sysroot /mnt migrate --dry-run", "the same"),
    ("ast rollback --previous --with-var", "only the start after it gives /var back: tests/choices.rs has real starts, ast/tests/store_deploy.rs the plan"),
];

/// What a line meets, and what it is to do.
enum Step {
    /// An example: its exit code, and what it has to say.
    Ast(&'static str, i32, &'static [&'static str]),
    /// The same, with these lines on its standard input.
    Typed(&'static str, &'static str, i32, &'static [&'static str]),
    /// The same on a terminal.
    Asked(&'static str, &'static str, i32, &'static [&'static str]),
    /// Something that has to happen in between.
    Then(fn(&Typist)),
}

use Step::{Asked, Ast, Then, Typed};

const STORY: &[Step] = &[
    Ast("ast tree", 0, &["root - root\n└── 0*- base snapshot"]),
    Ast("ast auto-upgrade --pause 7days", 0, &["updates are paused: 7 days of running time are left"]),
    Ast("ast base-update", 0, &["extra-note 1-1 -> 9-1", "saved as generation 2 of snapshot 0"]),
    Ast("ast clone 0", 0, &["snapshot 1\n"]),
    Ast("ast ast-sync", 0, &["0         nothing  it has the newest ast", "1         nothing  "]),
    Typed("ast chroot 1", "mkdir -p /usr/lib/systemd/system\nprintf '[Install]\\nWantedBy=multi-user.target\\n' > /usr/lib/systemd/system/sshd.service\necho mine > /etc/mine\nexit 0\n", 0, &["saved as generation 2 of snapshot 1"]),
    Ast("ast edit-conf 1", 0, &["saved as generation 3"]),
    Then(|typist| typist.machine.offer("htop", "1", &[])),
    Ast("ast refresh 1", 0, &["saved as generation 4"]),
    Ast("ast install 1 firefox", 0, &["+ firefox 1-1", "saved as generation 5"]),
    Ast("ast branch 1 -d applications", 0, &["snapshot 2\n"]),
    Ast("ast new multiuser system", 0, &["snapshot 3\n"]),
    Ast("ast tree-run 1 systemctl enable sshd", 0, &["1         saved", "2         saved"]),
    Ast("ast clone-tree 1", 0, &["snapshot 4 is a copy of 1\nsnapshot 5 is a copy of 2\n"]),
    Ast("ast cbranch 4", 0, &["snapshot 6\n"]),
    Ast("ast clone 0", 0, &["snapshot 7\n"]),
    Ast("ast ubranch 1 7", 0, &["snapshot 8\n"]),
    Ast("ast desc 4 Plasma full desktop", 0, &[]),
    Ast("ast tree", 0, &["├── 0*- base snapshot\n├── 1 - base snapshot\n│   ├── 2 - applications\n│   └── 8 - base snapshot\n├── 3 - multiuser system\n├── 4 - Plasma full desktop\n│   └── 5 - applications\n├── 6 - base snapshot\n└── 7 - base snapshot\n"]),
    Ast("ast info 4", 0, &["description  Plasma full desktop", "children     5", "packages "]),
    Ast("ast list 4 --explicit", 0, &["firefox 1-1\n"]),
    Ast("ast which firefox", 0, &["1         1-1", "4         1-1  Plasma full desktop"]),
    Ast("ast diff 1 2", 0, &[]),
    Ast("ast diff 4 7 --etc", 0, &["- /etc/mine\n", "- /etc/systemd/system/multi-user.target.wants/sshd.service"]),
    Ast("ast remove 4 firefox", 0, &["- firefox 1-1"]),
    Ast("ast install 4 firefox vlc", 0, &["+ firefox 1-1", "+ vlc 1-1"]),
    Ast("ast refresh 4", 0, &["nothing to do: the databases are as new as the mirrors'"]),
    Then(|typist| typist.machine.offer_again("extra-note", "10", "")),
    Then(|typist| drop(typist.machine.ok(&["--json", "base-update"]))),
    Ast("ast upgrade 4", 0, &["extra-note 9-1 -> 10-1"]),
    Ast("ast tree-upgrade 1", 0, &["1         saved    extra-note 9-1 -> 10-1", "2         saved", "8         saved"]),
    // It is enabled there already, since 4 is a copy of 1.
    Ast("ast run 4 systemctl enable sshd", 0, &["nothing was changed: snapshot 4 stays at generation "]),
    Typed("ast chroot 4", "touch /usr/lost\nexit 1\n", 1, &["the shell ended with", "its changes are discarded"]),
    Ast("ast edit-conf 4", 0, &["nothing was changed"]),
    Ast("ast apply kiosk.toml 4", 0, &["saved as generation"]),
    Ast("ast apply kiosk.toml 4", 0, &["nothing to do"]),
    Ast("ast apply kiosk.toml 1", 0, &["saved as generation"]),
    Then(|typist| drop(typist.machine.ok(&["--json", "apply", &typist.home.join("kiosk.toml").to_string_lossy(), "2"]))),
    Then(one_document),
    Ast("ast boot-update 4", 0, &["`ast deploy 4` boots it"]),
    Ast("ast boot-update --menu", 0, &[]),
    Ast("ast boot-update 1", 0, &["`ast deploy 1` boots it"]),
    Ast("ast pin 4", 0, &[]),
    Ast("ast unpin 4", 0, &[]),
    Asked("ast del 7", "y\n", 0, &["Delete snapshot 7? [y/N]", "deleted: 7"]),
    Ast("ast export 1 kiosk.ast", 0, &["made the key", "signed with"]),
    Then(Typist::trust),
    Ast("ast import kiosk.ast", 0, &["nothing to do: its content is here already", "snapshot 1\n"]),
    Ast("ast export 4 kiosk.ast --parent 2", 0, &["signed with"]),
    // What boots.
    Ast("ast deploy 1", 0, &["the next boot tries snapshot 1 (deployment 2); it becomes the default when it boots well"]),
    Then(|typist| typist.boot(2, "trial")),
    Ast("ast status", 0, &["booted     snapshot 1 (deployment 2), started as trial", "on trial   snapshot 1 (deployment 2), "]),
    Ast("ast --json status", 0, &["\"does\": \"trial\""]),
    Ast("ast good", 0, &["the booted deployment is good"]),
    Ast("ast current", 0, &["1\n"]),
    Ast("ast status", 0, &["default    snapshot 1 (deployment 2)", "fallback   snapshot 0 (deployment 1)"]),
    Ast("ast install 1 --live htop", 0, &["+ htop 1-1", "seen at once in /usr"]),
    Typed("ast live-chroot", "touch /usr/share/live\nexit 0\n", 0, &["what is booted is changed"]),
    Ast("ast sync 1", 0, &["2         saved    + htop 1-1", "8         saved    + firefox 1-1"]),
    Ast("ast force-sync 1", 0, &["2         nothing  it lacks nothing", "8         nothing"]),
    Ast("ast tree-rmpkg 1 firefox", 0, &["1         saved    - firefox 1-1", "2         saved", "8         saved"]),
    Then(|typist| fs::write(typist.machine.layout().deployment_part(DeployId::new(2), Part::Etc).join("motd"), "edited\n").expect("edited")),
    Ast("ast etc-update", 0, &["the booted /etc is saved as generation", "/etc/motd: kept as it is here"]),
    Ast("ast rollback", 0, &["what is booted is saved as snapshot 9 and is the default from the next boot on (deployment 3)"]),
    Then(|typist| typist.boot(3, "good")),
    Ast("ast good", 0, &["the booted deployment is good"]),
    Ast("ast deploy 4", 0, &["the next boot tries snapshot 4 (deployment 4)"]),
    Then(|typist| typist.boot(4, "trial")),
    Ast("ast bad", 0, &["deployment 4 is not tried again: reboot to go back"]),
    Then(|typist| typist.boot(3, "good")),
    Ast("ast rollback --previous", 0, &["deployment 2, which ran well before, is the default from the next boot on"]),
    Then(|typist| assert_eq!(typist.machine.ok(&["--json", "rollback"]).json()["deployment"], 5)),
    // Care.
    Ast("ast check", 0, &["state: idle"]),
    Ast("ast clean --dry-run", 0, &["snapshot 1 stays: ", "nothing to do"]),
    Ast("ast clean", 0, &["snapshot 0 stays: it is the base", "nothing to do"]),
    Ast("ast clean --older-than 30days --min-free 10%", 0, &["nothing to do"]),
    Ast("ast tmp", 0, &["nothing to clear"]),
    Ast("ast unlock 4", 0, &["nothing to clear"]),
    Ast("ast history", 0, &["describe 4 as \"Plasma full desktop\""]),
    Ast("ast doctor", 0, &["ok      S1 "]),
    Ast("ast doctor --fix", 0, &["ok      S1 "]),
    Ast("ast help deploy", 0, &["--no-trial", "ast deploy 4"]),
    Ast("ast completions bash > /etc/bash_completion.d/ast", 0, &[]),
    Ast("ast man | man -l -", 0, &["clone-tree"]),
];

/// Somebody at the keyboard of the machine, in a directory of their own.
struct Typist {
    machine: Machine,
    home: PathBuf,
}

impl Typist {
    fn new() -> Self {
        let machine = Machine::new();
        let home = machine.root.join("home");
        fs::create_dir_all(home.join("bin")).expect("dir");
        let script = |name: &str, text: &str| {
            let path = home.join("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        };
        let command = machine.command(&[]);
        let program = Path::new(command.get_program()).canonicalize().expect("ast");
        script("ast", &format!("exec {} --sysroot {} \"$@\"", program.display(), machine.root.display()));
        script("editor", "echo '# mine' > \"$1\"");
        fs::write(
            home.join("kiosk.toml"),
            "description = \"kiosk in the hall\"\n[services]\nenable = [\"sshd.service\"]\n[[file]]\npath = \"/etc/kiosk\"\ncontent = \"1\\n\"\n",
        )
        .expect("written");
        // As an installer leaves it: nothing here boots, but `doctor` looks whether it is there.
        fs::write(machine.root.join("boot/grub/grub.cfg"), "# the boot script\n").expect("written");
        // What an example writes to this host is for this test alone.
        fs::create_dir_all("/etc/bash_completion.d").expect("dir");
        sh("mount -t tmpfs none /etc/bash_completion.d");
        for name in ["firefox", "vlc"] {
            machine.offer(name, "1", &[]);
        }
        machine.offer_again("extra-note", "9", "");
        Self { machine, home }
    }

    /// The line, as a shell takes it. Exit code, and everything that was said.
    fn types(&self, line: &str, input: &str, on_terminal: bool) -> (i32, String) {
        let mut command = if on_terminal {
            let mut script = Command::new("script");
            script.args(["--quiet", "--return", "--flush", "--command", line, "/dev/null"]);
            script
        } else {
            let mut sh = Command::new("sh");
            sh.args(["-c", &format!("exec 2>&1; {line}")]);
            sh
        };
        let path = format!("{}:{}", self.home.join("bin").display(), std::env::var("PATH").expect("a path"));
        command.current_dir(&self.home).env("PATH", path).env("EDITOR", self.home.join("bin/editor")).env_remove("VISUAL").env_remove("AST_LOG").env("MANPAGER", "cat");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
        // Whoever asks nothing is gone by then.
        drop(child.stdin.take().expect("a pipe").write_all(input.as_bytes()));
        let out = child.wait_with_output().expect("ended");
        let text = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).replace("\r\n", "\n");
        (out.status.code().unwrap_or(-1), text)
    }

    /// The machine was started, and this runs.
    fn boot(&self, d: u32, why: &str) {
        let arm = self.machine.store().block().expect("a block").arm;
        let usr = self.machine.root.join("usr");
        while unmount_lazy(&usr).is_ok() {}
        fs::create_dir_all(&usr).expect("dir");
        bind(&self.machine.layout().deployment_part(DeployId::new(d), Part::Root).join("usr"), &usr).expect("bound");
        let left = if why == "trial" { "left=2\n" } else { "" };
        file::replace(&self.machine.root.join("run/ast/booted"), format!("d={d}\nwhy={why}\narm={arm}\n{left}env=ok\n").as_bytes()).expect("record");
    }

    /// What this machine exports it also imports.
    fn trust(&self) {
        let etc = self.machine.root.join("etc/ast");
        fs::create_dir_all(etc.join("trusted.d")).expect("dir");
        fs::copy(etc.join("export.pub"), etc.join("trusted.d/own.pub")).expect("copied");
    }

    /// The examples of the manual, a line for each command.
    fn of_the_manual(&self) -> BTreeSet<String> {
        let (_, help) = self.types("ast help", "", false);
        let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let verbs: Vec<&str> = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|word| !word.is_empty())).collect();
        assert!(verbs.len() > 45, "{verbs:?}");
        let example = |verb: &&str| {
            let (code, help) = self.types(&format!("ast help {verb}"), "", false);
            let line = help.lines().skip_while(|line| *line != "Example:").nth(1).unwrap_or_default().trim().to_owned();
            assert!(code == 0 && line.starts_with("ast "), "{verb}: {help}");
            line
        };
        verbs.iter().map(example).collect()
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        while unmount_lazy(&self.machine.root.join("usr")).is_ok() {}
        drop(unmount_lazy(Path::new("/etc/bash_completion.d")));
    }
}

fn of_the_readme() -> BTreeSet<String> {
    let lines = README.lines().filter(|line| line.starts_with("ast "));
    lines.map(|line| line.split('#').next().unwrap_or_default().trim().to_owned()).collect()
}

#[test]
fn the_examples_of_the_readme_and_of_the_manual_do_what_they_say() {
    if skipped() {
        return;
    }
    let typist = Typist::new();
    let told: BTreeSet<String> = STORY
        .iter()
        .filter_map(|step| match step {
            Ast(line, ..) | Typed(line, ..) | Asked(line, ..) => Some((*line).to_owned()),
            Then(_) => None,
        })
        .collect();
    let not_here: BTreeSet<String> = NOT_HERE.iter().map(|(line, _)| (*line).to_owned()).collect();
    assert!(told.is_disjoint(&not_here));
    let documented: BTreeSet<String> = typist.of_the_manual().union(&of_the_readme()).cloned().collect();
    assert_eq!(told.union(&not_here).cloned().collect::<BTreeSet<_>>(), documented, "the lists of this test are not those of the documents");

    let mut wrong = Vec::new();
    for step in STORY {
        let (line, input, on_terminal, expected, says) = match step {
            Ast(line, code, says) => (line, "", false, code, says),
            Typed(line, input, code, says) => (line, *input, false, code, says),
            Asked(line, input, code, says) => (line, *input, true, code, says),
            Then(happens) => {
                happens(&typist);
                continue;
            }
        };
        let begun = std::time::Instant::now();
        let (code, text) = typist.types(line, input, on_terminal);
        eprintln!("{:6} ms  {line}", begun.elapsed().as_millis());
        let lacks: Vec<_> = says.iter().filter(|what| !text.contains(*what)).collect();
        if code != *expected || !lacks.is_empty() {
            wrong.push(format!("{line}: code {code}, expected {expected}; it does not say {lacks:?}:\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(fs::read_to_string("/etc/bash_completion.d/ast").expect("written").contains("ast"));
}

/// However little `apply` has to do, it is told as one document; that there is no second one, `documents::check` sees.
fn one_document(typist: &Typist) {
    let machine = &typist.machine;
    let file = typist.home.join("kiosk.toml").to_string_lossy().into_owned();
    let again = machine.ok(&["--json", "apply", &file, "2"]).json();
    assert_eq!(again, serde_json::json!({ "changed": false, "why": "nothing to do" }));
    assert_eq!(machine.ok(&["--json", "apply", "--diff", &file, "2"]).json()["files"], serde_json::json!([]));
    let description = typist.home.join("described.toml");
    fs::write(&description, "description = \"described, and nothing else\"\n").expect("written");
    let described = machine.ok(&["--json", "apply", &description.to_string_lossy(), "2"]).json();
    assert_eq!((&described["snapshot"], &described["files"]), (&serde_json::json!(2), &serde_json::json!([])));
    let info = machine.ok(&["--json", "info", "2"]).json();
    assert_eq!(info["description"], "described, and nothing else");
}
