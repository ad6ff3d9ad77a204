//! `ast bootstrap` before anything is written: what it refuses, what it asks, what it shows. Whole installations are in `tests/tests/across/bootstrap.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

#[path = "common/documents.rs"]
mod documents;

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ast::sys::mount;

/// Says why it cannot run, and is true then.
fn skipped() -> bool {
    let no = !nix::unistd::geteuid().is_root();
    if no {
        eprintln!("skipped: only root may install a machine");
    }
    no
}

/// A directory with an image file that is to become a disk, and what is mounted for this test alone.
struct Bench {
    dir: tempfile::TempDir,
    disk: PathBuf,
}

impl Bench {
    fn new() -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount::make_private().expect("private");
        let dir = tempfile::tempdir().expect("dir");
        let disk = dir.path().join("disk");
        File::create(&disk).and_then(|file| file.set_len(3 << 30)).expect("image");
        std::fs::write(dir.path().join("pacman.conf"), "[options]\n[core]\nServer = http://127.0.0.1:1/\n").expect("written");
        Self { dir, disk }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.to_string_lossy().into_owned()
    }

    /// The words with `@` for the disk, and a pacman.conf that no test gets to use.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ast"));
        let disk = self.disk.to_string_lossy();
        command.args(words.iter().map(|word| if *word == "@" { &*disk } else { word }));
        command.arg("--pacman-conf").arg(self.dir.path().join("pacman.conf")).env_remove("AST_LOG");
        command
    }

    fn ast(&self, words: &[&str]) -> (i32, String, String) {
        let out = self.command(words).stdin(Stdio::null()).output().expect("ast");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let said = (out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr));
        documents::check(words, said.0, &said.1);
        said
    }

    /// Nothing was written to it: it is as sparse as it was made.
    fn is_untouched(&self) -> bool {
        self.disk.metadata().expect("image").blocks() == 0
    }

    /// A row: words, the exit code, and what the message names.
    fn refuses(&self, words: &[&str], code: i32, names: &str) {
        let (got, out, err) = self.ast(words);
        assert_eq!(got, code, "ast {words:?}: {out}{err}");
        assert!(err.contains(names) && out.is_empty(), "ast {words:?} does not name {names:?}: {out}{err}");
        assert!(!err.contains("os error") || err.contains("cannot"), "ast {words:?} says a bare errno: {err}");
        assert!(self.is_untouched(), "ast {words:?} wrote to the disk");
    }

    /// A loop device over the image, gone with the result.
    fn device(&self, more: &[&str]) -> Device {
        let out = Command::new("losetup").args(["--find", "--show"]).args(more).arg(&self.disk).output().expect("losetup");
        assert!(out.status.success(), "{out:?}");
        Device(String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }
}

struct Device(String);

impl Drop for Device {
    fn drop(&mut self) {
        drop(Command::new("losetup").args(["--detach", &self.0]).status());
    }
}

#[test]
fn r7_bad_words_and_bad_answers_are_refused_by_name_and_line() {
    if skipped() {
        return;
    }
    let bench = Bench::new();
    let row = |text: &str, code: i32, names: &str| {
        let file = bench.file("answers.toml", text);
        bench.refuses(&["--yes", "bootstrap", "@", "--answers", &file], code, names);
        bench.refuses(&["--dry-run", "bootstrap", "@", "--answers", &file], code, names);
    };
    row("[install]\nprofil = \"kde\"\n", 2, "line 2");
    row("[install]\nboot = \"uefi\"\n", 2, "none of efi, bios, bios-raw, bios-gap");
    row("[system]\nhostname = \"two words\"\n", 2, "line 2");
    row("[system]\ntimezone = \"../../etc/passwd\"\n", 2, "line 2");
    row("[system]\nlocale = \"en_US.UTF-8; reboot\"\n", 2, "line 2");
    row("[system]\nkeymap = \"$(id)\"\n", 2, "line 2");
    row("[system]\nshell = \"zsh\"\n", 2, "shell");
    row("[[user]]\nname = \"kiosk\"\npassword = \"secret\"\n", 2, "line 3");
    row("frobnicate = 1\n", 2, "frobnicate");
    row("[install]\nprofile = \"xfce\"\n", 2, "minimal, gnome, kde, mate");
    row("[install]\nprofile = \"./none.toml\"\n", 1, "none.toml");
    row("[install]\nboot = \"bios-raw\"\n", 3, "2.14");
    bench.file("mine.toml", "[packages]\ninstall = [\"-Rdd\"]\n");
    row("[install]\nprofile = \"./mine.toml\"\n", 2, "mine.toml");
    for (words, code, names) in [
        (&["bootstrap"][..], 2, "DISK"),
        (&["bootstrap", "@", "--boot", "coreboot"], 2, "coreboot"),
        (&["bootstrap", "@", "--answers"], 2, "FILE"),
        (&["bootstrap", "@", "/dev/other"], 2, "/dev/other"),
        (&["--sysroot", "/mnt", "bootstrap", "@"], 2, "--sysroot"),
        (&["--yes", "bootstrap", "@", "--profile", "xfce"], 2, "xfce"),
        (&["--yes", "bootstrap", "@", "--answers", "/nowhere/answers.toml"], 1, "/nowhere/answers.toml"),
        // Nobody can be asked.
        (&["bootstrap", "@"], 3, "--answers"),
        (&["--yes", "bootstrap", "@"], 3, "--answers"),
    ] {
        bench.refuses(words, code, names);
    }
    let answers = bench.file("answers.toml", "[system]\nhostname = \"kiosk\"\n");
    bench.refuses(&["bootstrap", "@", "--answers", &answers], 3, "--yes");
    let answers = bench.file("answers.toml", "[[user]]\nname = \"kiosk\"\npassword = \"ask\"\n");
    bench.refuses(&["--yes", "bootstrap", "@", "--answers", &answers], 3, "password of kiosk");
}

#[test]
fn s14_a_disk_that_anybody_uses_is_refused_and_the_user_named() {
    if skipped() {
        return;
    }
    let bench = Bench::new();
    let answers = bench.file("answers.toml", "[system]\nhostname = \"kiosk\"\n");
    let with = |disk: &str, code: i32, names: &str| {
        for flag in ["--yes", "--dry-run"] {
            bench.refuses(&[flag, "bootstrap", disk, "--answers", &answers], code, names);
        }
    };
    with("/dev/null", 3, "neither a disk nor an image file");
    with("/etc", 3, "neither a disk nor an image file");
    with("/dev/no-such-disk", 1, "/dev/no-such-disk");

    let small = bench.file("small", "");
    File::options().write(true).open(&small).and_then(|file| file.set_len(1 << 30)).expect("size");
    with(&small, 3, "needs at least");

    let device = bench.device(&[]);
    with("@", 3, &format!("{} shows it", device.0));
    // As mkfs, mdadm, LVM and a mount do.
    let held = OpenOptions::new().read(true).custom_flags(nix::libc::O_EXCL).open(&device.0).expect("opened");
    with(&device.0, 3, "is in use");
    drop(held);
    let (code, plan, err) = bench.ast(&["--dry-run", "bootstrap", &device.0, "--answers", &answers]);
    assert!(code == 0 && plan.contains(&device.0), "{plan}{err}");
    // One that another installer, or udev, has locked.
    let locked = File::open(&device.0).expect("opened");
    #[allow(deprecated)]
    nix::fcntl::flock(locked.as_raw_fd(), nix::fcntl::FlockArg::LockExclusive).expect("locked");
    bench.refuses(&["--yes", "bootstrap", &device.0, "--answers", &answers], 4, "has locked");
    drop((locked, device));
    let device = bench.device(&["--read-only"]);
    with(&device.0, 3, "read-only");
    drop(device);
    let device = bench.device(&["--sector-size", "4096"]);
    with(&device.0, 3, "sectors of 4096 bytes");
    drop(device);

    // What is on it is told, and what is mounted from it is.
    let small = File::options().write(true).open(&bench.disk).and_then(|file| file.set_len(2 << 30));
    small.expect("size");
    let device = bench.device(&[]);
    assert!(Command::new("mkfs.btrfs").args(["-q", "-f", "-L", "photos", &device.0]).status().expect("mkfs").success());
    let (code, plan, err) = bench.ast(&["--dry-run", "bootstrap", &device.0, "--answers", &answers]);
    assert!(code == 0 && plan.contains("which loses:\n") && plan.contains("btrfs \"photos\", 2.0 GiB"), "{plan}{err}");
    let at = bench.dir.path().join("mounted");
    std::fs::create_dir(&at).expect("dir");
    assert!(Command::new("mount").arg(&device.0).arg(&at).status().expect("mount").success());
    let (code, _, err) = bench.ast(&["--yes", "bootstrap", &device.0, "--answers", &answers]);
    assert!(code == 3 && err.contains(&format!("is mounted at {}", at.display())), "{err}");
    mount::unmount(&at).expect("unmounted");
}

#[test]
fn what_this_machine_lacks_is_named_with_its_package() {
    if skipped() {
        return;
    }
    let bench = Bench::new();
    let answers = bench.file("answers.toml", "[install]\nboot = \"efi\"\n");
    let words = ["--yes", "bootstrap", "@", "--answers", &answers];
    for (program, package) in [("pacman", "pacman"), ("grub-mkimage", "grub"), ("mkfs.btrfs", "btrfs-progs"), ("mkfs.fat", "dosfstools"), ("mmd", "mtools")] {
        let found = ["/usr/bin", "/usr/sbin"].map(|dir| Path::new(dir).join(program)).into_iter().find(|path| path.exists()).expect(program);
        let found = found.canonicalize().expect("the file itself");
        mount::bind(Path::new("/dev/null"), &found).expect("hidden");
        bench.refuses(&words, 1, &format!("package {package})"));
        mount::unmount(&found).expect("there again");
    }
    let nowhere = bench.dir.path().join("nowhere");
    bench.refuses(&["--yes", "bootstrap", "@", "--answers", &answers, "--grub", &nowhere.to_string_lossy()], 1, "nowhere/x86_64-efi");
}

#[test]
fn what_no_repository_brings_is_known_before_the_disk_is_erased() {
    if skipped() {
        return;
    }
    let bench = Bench::new();
    let answers = bench.file("answers.toml", "[system]\nhostname = \"kiosk\"\n");
    let words = ["--yes", "bootstrap", "@", "--boot", "bios", "--answers", &answers];
    bench.refuses(&words, 1, "look at the network, and at the mirrors");
    bench.refuses(&words, 1, "nothing was written");
}

#[test]
fn a_dry_run_shows_partitions_packages_and_settings_and_writes_nothing() {
    if skipped() {
        return;
    }
    let bench = Bench::new();
    bench.file("mine.toml", "[packages]\ninstall = [\"linux\", \"hello\", \"nano\"]\n[services]\nenable = [\"kiosk.service\"]\n");
    let text = "description = \"the hall\"\n[install]\nprofile = \"mine.toml\"\nboot = \"efi\"\n[system]\nhostname = \"hall\"\ntimezone = \"UTC\"\n\
                [packages]\ninstall = [\"extra-note\"]\nremove = [\"nano\"]\n[[user]]\nname = \"kiosk\"\n[[file]]\npath = \"/etc/motd\"\ncontent = \"\"\n";
    let answers = bench.file("answers.toml", text);
    let words = ["--dry-run", "bootstrap", "@", "--answers", &answers];
    let (code, plan, err) = bench.ast(&words);
    assert_eq!(code, 0, "{plan}{err}");
    for line in [
        "    start by efi, with GRUB 2.",
        "    a FAT partition of 260 MiB with the boot block\n",
        "    a btrfs of 2.7 GiB with @.snapshots @boot",
        "    install base ast dosfstools efibootmgr linux hello extra-note\n",
        "    mine.toml: enable kiosk.service\n",
        "    answers: host name: hall\n",
        "    answers: users: kiosk root\n",
        "    answers: files: /etc/motd\n",
        "    seal it as the base, \"the hall\"",
    ] {
        assert!(plan.contains(line), "{line:?} is not in:\n{plan}");
    }
    let json = [&["--json"], words.as_slice()].concat();
    assert!(bench.ast(&json).1.contains("\"changed\": false"));
    // The words of the command line win.
    let (_, plan, _) = bench.ast(&[words.as_slice(), &["--boot", "bios", "--profile", "kde"]].concat());
    assert!(plan.contains("start by bios-") && plan.contains("plasma-meta") && !plan.contains("efibootmgr"), "{plan}");
    for (profile, package) in [("minimal", "openssh"), ("gnome", "gdm"), ("kde", "sddm"), ("mate", "lightdm")] {
        let (code, plan, err) = bench.ast(&["--dry-run", "bootstrap", "@", "--profile", profile]);
        assert!(code == 0 && plan.contains(package) && plan.contains(&format!("{profile}: enable NetworkManager.service")), "{plan}{err}");
    }
    // And the example of the documentation is one.
    let documented = include_str!("../../docs/apply.md").split("## A whole machine").nth(1).and_then(|part| part.split("```toml\n").nth(1)?.split("```").next());
    let example = bench.file("example.toml", documented.expect("an example"));
    let (code, plan, err) = bench.ast(&["--dry-run", "bootstrap", "@", "--answers", &example]);
    assert!(code == 0 && plan.contains("answers: time zone: Europe/Prague") && plan.contains("gdm"), "{plan}{err}");
    assert!(bench.is_untouched());
}

/// A person at a terminal: what is shown, and answers when a question is there.
struct Person {
    child: std::process::Child,
    shown: Arc<Mutex<String>>,
    seen: usize,
}

impl Person {
    fn new(bench: &Bench, words: &[&str]) -> Self {
        let command = bench.command(words);
        let line: Vec<String> = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned()).collect();
        Self::at(&line.join(" "))
    }

    fn at(line: &str) -> Self {
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script");
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut out, into) = (child.stdout.take().expect("a pipe"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut buffer) {
                into.lock().expect("one reader").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Self { child, shown, seen: 0 }
    }

    /// Waits for the question and types.
    fn answer(&mut self, question: &str, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let shown = self.shown.lock().expect("shown").clone();
            if let Some(at) = shown[self.seen..].find(question) {
                self.seen += at + question.len();
                break;
            }
            assert!(Instant::now() < deadline, "{question:?} was not asked:\n{shown}");
            std::thread::sleep(Duration::from_millis(20));
        }
        // The prompt is shown before the terminal is asked to be quiet, or the other way round; either way it is quiet now.
        self.child.stdin.as_mut().expect("a pipe").write_all(text.as_bytes()).expect("typed");
    }

    fn end(mut self) -> (i32, String) {
        let code = self.child.wait().expect("ended").code().unwrap_or(-1);
        std::thread::sleep(Duration::from_millis(100));
        let shown = self.shown.lock().expect("shown").replace("\r\n", "\n");
        (code, shown)
    }
}

#[test]
fn a_person_is_asked_for_everything_and_nothing_is_written_before_the_last_answer() {
    if skipped() {
        return;
    }
    let bench = Bench::new();
    let mut person = Person::new(&bench, &["bootstrap", "@", "--boot", "efi"]);
    person.answer("Name of the machine [ast]: ", "not a name\n");
    person.answer("is not the name of a machine", "");
    person.answer("Name of the machine [ast]: ", "hall\n");
    person.answer("Time zone [", "UTC\n");
    person.answer("Locale [en_US.UTF-8]: ", "\n");
    person.answer("Keyboard of the console [us]: ", "de\n");
    person.answer("Profile (minimal, gnome, kde, mate", "xfce\n");
    person.answer("ast brings minimal, gnome, kde, mate", "");
    person.answer("Profile (minimal, gnome, kde, mate", "mate\n");
    person.answer("Name of a user", "kiosk\n");
    person.answer("Password of kiosk (not shown", "sesame\n");
    person.answer("The same again: ", "open\n");
    person.answer("two different passwords", "");
    person.answer("Password of kiosk (not shown", "sesame\n");
    person.answer("The same again: ", "sesame\n");
    person.answer("A public key of ssh", "\n");
    person.answer("Password of root (not shown", "\n");
    person.answer(&format!("Erase everything on {} and install? [y/N] ", bench.disk.display()), "n\n");
    let (code, shown) = person.end();
    assert_eq!(code, 3, "{shown}");
    for line in ["lightdm", "answers: host name: hall", "answers: locale: en_US.UTF-8", "answers: keyboard: de", "answers: users: kiosk root", "left as it was"] {
        assert!(shown.contains(line), "{line:?} is not in:\n{shown}");
    }
    assert!(!shown.contains("sesame") && !shown.contains("nobody will be able to log in"), "{shown}");
    assert!(bench.is_untouched());

    // ^C while a password is typed ends it, and leaves a terminal that shows what is typed.
    let answers = bench.file("answers.toml", "[[user]]\nname = \"kiosk\"\npassword = \"ask\"\n[install]\nboot = \"efi\"\n");
    let line = format!("{} bootstrap {} --answers {answers} --pacman-conf {}; stty -a; echo ENDED", env!("CARGO_BIN_EXE_ast"), bench.disk.display(), bench.dir.path().join("pacman.conf").display());
    let script = bench.file("script", &line);
    let mut person = Person::at(&format!("sh {script}"));
    person.answer("Password of kiosk (not shown", "half\u{3}");
    person.answer("ENDED", "");
    let (_, shown) = person.end();
    assert!(shown.contains("left as it was") && shown.contains(" echo ") && shown.contains("\nisig ") && !shown.contains("half"), "{shown}");
    assert!(bench.is_untouched());
}
