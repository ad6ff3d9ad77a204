//! Working copies with a system of busybox alone.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ast::exec::{Invocation, Options, Streams};
use ast::layout::{BOOT_SUMS, Part};
use ast::sys::btrfs;
use ast::work::{Bind, Token, WorkingCopy, check_sums, delete_parts};

use crate::bed::{Bed, ask, base, listing, mode, run, sh};

#[test]
fn r1_words_reach_the_command_inside_untouched() {
    let bed = Bed::with_busybox();
    let copy = bed.copy();
    let hostile = ["a && touch /hacked", "; touch /hacked", "$(touch /hacked)", "`id`", "|", "*", "", "two\nlines", "-n"];
    let mut words = vec!["printf", "%s\\n.\\n"];
    words.extend(hostile);
    let text = ask(&copy, &words);
    assert_eq!(text, hostile.map(|word| format!("{word}\n.\n")).concat());
    assert!(!copy.parts().root.join("hacked").exists() && !Path::new("/hacked").exists());
}

#[test]
fn r2_a_command_sees_itself_alone() {
    let bed = Bed::with_busybox();
    let copy = bed.copy();
    let pids = ask(&copy, &["sh", "-c", "echo /proc/[0-9]*"]);
    assert_eq!(pids.split_whitespace().count(), 2, "init and the shell: {pids}");
    let mounts = ask(&copy, &["cat", "/proc/mounts"]);
    for line in mounts.lines() {
        let at = line.split_whitespace().nth(1).expect("a mount point");
        let ours = ["/", "/etc", "/var", "/boot", "/proc", "/sys", "/run", "/tmp", "/root", "/dev"];
        assert!(ours.iter().any(|p| at == *p || (*p != "/" && at.starts_with(&format!("{p}/")))), "{line}");
    }
    assert!(mounts.contains(" /sys sysfs ro"), "{mounts}");
    assert_eq!(ask(&copy, &["hostname"]).trim(), "ast");
    let run = ask(&copy, &["sh", "-c", "ls /run; echo x > /dev/null"]);
    assert!(!run.contains("systemd") && !run.contains("dbus"), "{run}");
    assert_eq!(ask(&copy, &["sh", "-c", "echo 1 2>/dev/null >/proc/sys/kernel/panic || echo refused"]).trim(), "refused");
}

#[test]
fn the_status_comes_back() {
    let bed = Bed::with_busybox();
    let copy = bed.copy();
    assert_eq!(run(&copy, &["sh", "-c", "exit 42"]).expect("runs").status.code(), Some(42));
    assert_eq!(run(&copy, &["sh", "-c", "kill -9 $$"]).expect("runs").status.code(), Some(137));
    let error = run(&copy, &["no-such-command"]).expect_err("none");
    assert!(error.to_string().contains("no-such-command: no such command"), "{error}");
}

/// Lines of any process's mount table that speak of `token`, and processes that have it among their words.
fn traces(token: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
        if !entry.file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        for name in ["mountinfo", "cmdline"] {
            let text = std::fs::read(entry.path().join(name)).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            found.extend(text.lines().filter(|l| l.contains(token)).map(|l| format!("{:?} {name}: {l}", entry.file_name())));
        }
    }
    found
}

/// Killed also when the test fails.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn r2_sigkill_leaves_no_process_and_no_mount() {
    const MARK: &str = "7654.321";
    if let Some(snapshots) = std::env::var_os("AST_TEST_HOLD") {
        // The other side of this test: the program that is killed.
        let copy = WorkingCopy::create(&ast::layout::Layout::at(snapshots), base()).expect("copy");
        let mark = copy.token().to_string();
        let script = format!("sleep {MARK} & touch /started; sleep {MARK}; : {mark}");
        panic!("ended before it was killed: {:?}", run(&copy, &["sh", "-c", &script, &mark]));
    }
    let bed = Bed::with_busybox();
    let mut program = Killed(
        Command::new(std::env::current_exe().expect("me"))
            .args(["--exact", "copies::r2_sigkill_leaves_no_process_and_no_mount", "--nocapture"])
            .env("AST_TEST_HOLD", bed.layout.snapshots())
            .stdout(Stdio::null())
            .spawn()
            .expect("started"),
    );
    let started = Instant::now();
    let token = loop {
        assert!(started.elapsed() < Duration::from_secs(20), "the command did not start");
        let mut names = ast::sys::file::names(&bed.layout.work()).expect("list");
        if let Some(name) = names.pop().filter(|n| bed.layout.work().join(n).join("root/started").exists()) {
            break name.into_string().expect("text");
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let before = traces(&token);
    assert!(before.iter().any(|t| t.contains("mountinfo")) && before.iter().any(|t| t.contains("cmdline")), "{before:?}");
    let owner: Token = token.parse().expect("ours");
    assert!(owner.is_alive(), "a live copy would be taken for garbage");

    program.0.kill().expect("killed");
    assert_eq!(program.0.wait().expect("dead").signal(), Some(9));
    let started = Instant::now();
    while !traces(&token).is_empty() {
        assert!(started.elapsed() < Duration::from_secs(5), "left behind: {:#?}", traces(&token));
        std::thread::sleep(Duration::from_millis(10));
    }

    assert!(!owner.is_alive(), "its owner is dead, so it is garbage by its name (S7)");
    delete_parts(&bed.layout.work().join(&token)).expect("cleared");
    assert!(ast::sys::file::names(&bed.layout.work()).expect("list").is_empty());
}

#[test]
fn r3_litter_does_not_enter_a_snapshot() {
    let bed = Bed::with_busybox();
    let copy = bed.copy();
    ask(
        &copy,
        &[
            "sh",
            "-ec",
            "
        mkdir -p /usr/share/ast/db /var/cache/x /var/tmp /etc/pacman.d/gnupg
        touch /usr/share/ast/db/db.lck /run/a /tmp/b /var/cache/x/c /var/tmp/d /root/.ash_history
        touch /etc/pacman.d/gnupg/.#lk0x5 /etc/pacman.d/gnupg/pubring.gpg
        echo 0123456789abcdef0123456789abcdef > /etc/machine-id
        cat /etc/resolv.conf",
        ],
    );
    // What a program of the host could have put below a mount.
    std::fs::write(copy.parts().root.join("run/below"), "").expect("written");
    std::fs::remove_dir(copy.parts().root.join("efi")).expect("a mount point goes");
    std::fs::remove_dir(copy.parts().root.join("tmp")).expect("another");
    std::fs::write(copy.parts().root.join("tmp"), "").expect("a file in its place");
    let ready = copy.finish().expect("finished");
    let parts = ready.parts();
    let var = parts.var.as_ref().expect("var");
    for path in ["usr/share/ast/db/db.lck", "run/below", "run/a", "tmp/b", "root/.ash_history", "dev/null", "proc/self"] {
        assert!(!parts.root.join(path).exists(), "{path}");
    }
    assert!(!var.join("cache/x/c").exists() && var.join("cache/x").is_dir() && !var.join("tmp/d").exists());
    for path in ["machine-id", "resolv.conf", "pacman.d/gnupg/.#lk0x5"] {
        assert!(!parts.etc.join(path).exists(), "{path}");
    }
    assert!(parts.etc.join("pacman.d/gnupg/pubring.gpg").exists());
    assert!(parts.root.join("efi").is_dir() && parts.boot.join("grub").is_dir());
    assert_eq!(mode(&parts.root.join("tmp")) & 0o7000, 0o1000, "/tmp is sticky");
}

#[test]
fn a_shell_inside_has_the_terminal_and_gives_it_back() {
    const NAME: &str = "copies::a_shell_inside_has_the_terminal_and_gives_it_back";
    if let Some(snapshots) = std::env::var_os("AST_TEST_SHELL") {
        // The other side of this test, on a terminal of its own.
        let copy = WorkingCopy::create(&ast::layout::Layout::at(snapshots), base()).expect("copy");
        let shell = Invocation::words(["sh", "-i"]).expect("words");
        let ended = copy.run(&shell, Options::new(Streams::Terminal)).expect("runs");
        let ours = nix::unistd::tcgetpgrp(std::io::stdin()).expect("a terminal") == nix::unistd::getpgrp();
        println!("status {:?} terminal {ours}", ended.status.code());
        return;
    }
    let bed = Bed::with_busybox();
    let me = std::env::current_exe().expect("me");
    let mut script = Command::new("script")
        .args(["--quiet", "--flush", "--command", &format!("{} --exact {NAME} --nocapture", me.display()), "/dev/null"])
        .env("AST_TEST_SHELL", bed.layout.snapshots())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script is installed");
    // Job control works (no complaint about it), the terminal has a name, and the shell dies by a signal without giving it back.
    let typed = "tty\nsleep 1000 &\njobs\nhostname\nkill -9 $$\n";
    script.stdin.take().expect("a pipe").write_all(typed.as_bytes()).expect("typed");
    let said = String::from_utf8_lossy(&script.wait_with_output().expect("ended").stdout).into_owned();
    assert!(said.contains("/dev/console"), "{said}");
    assert!(said.contains("[1]+  Running"), "{said}");
    assert!(!said.contains("can't access tty"), "{said}");
    assert!(said.contains("status Some(137) terminal true"), "{said}");
}

#[test]
fn r6_nothing_of_the_host_is_left_in_an_image() {
    let bed = Bed::with_busybox();
    let given = tempfile::tempdir().expect("dir");
    std::fs::write(given.path().join("secret"), "x").expect("written");
    let bind = Bind { source: given.path().to_owned(), target: "/run/given".into(), read_only: false };
    let copy = bed.copy().with_cache(Some(given.path().to_owned())).with_bind(bind);
    assert!(ask(&copy, &["cat", "/run/given/secret", "/var/cache/pacman/pkg/secret", "/etc/resolv.conf"]).starts_with("xx"));
    let before = names(&bed.part(Part::Root));
    let ready = copy.finish().expect("finished");
    let after: Vec<Vec<String>> = [Part::Root, Part::Etc, Part::Boot].map(|part| names(ready.parts().get(part).expect("part"))).into();
    assert_eq!(after[0], before);
    assert_eq!(after[1], [".updated", "hostname"], "what finishing writes, and what was there");
    assert_eq!(after[2], ["ast.sums", "grub", "vmlinuz-linux"], "what finishing writes");
    let found = sh(&format!("find {} -name secret -o -name 'sudoers*'", ready.dir().display()));
    assert_eq!(found, "", "a file of the host");
}

/// Every path below `dir`.
fn names(dir: &Path) -> Vec<String> {
    sh(&format!("cd {} && find . -mindepth 1 -printf '%P\\n' | LC_ALL=C sort", dir.display())).lines().map(str::to_owned).collect()
}

#[test]
fn a_time_limit_ends_everything_inside() {
    let bed = Bed::with_busybox();
    let copy = bed.copy();
    let words = Invocation::words(["sh", "-c", "(sleep 4242 &) ; sleep 4242"]).expect("words");
    let started = Instant::now();
    let error = copy.run(&words, Options::capture().timeout(Duration::from_millis(500))).expect_err("too slow");
    assert!(error.to_string().contains("did not end within"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));
    while !traces("sleep\x004242").is_empty() {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", traces("sleep\x004242"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn s10_a_full_disk_is_said_and_the_source_is_whole() {
    let bed = Bed::small();
    let copy = bed.copy();
    let ended = run(&copy, &["sh", "-c", "cat /dev/urandom > /usr/fill"]).expect("runs");
    assert!(!ended.status.success() && ended.tail().contains("No space left"), "{}", ended.tail());
    let before = listing(&bed.part(Part::Root));
    // Whether finishing still works depends on what is left of the metadata; what it says must be clear either way.
    match copy.finish() {
        Ok(ready) => drop(ready),
        Err(error) => assert!(error.is_out_of_space(), "{error}"),
    }
    assert_eq!(listing(&bed.part(Part::Root)), before);
    assert!(ast::sys::file::names(&bed.layout.work()).expect("list").is_empty());
    let again = bed.copy();
    assert_eq!(ask(&again, &["printf", "back"]), "back", "the space came back");
}

#[test]
fn names_are_resolved_as_on_the_host_without_a_trace() {
    let host = std::fs::read_to_string("/etc/resolv.conf").expect("this machine resolves names");
    let setups = [
        ":",
        "echo own > etc/resolv.conf",
        "ln -s ../run/systemd/resolve/stub-resolv.conf etc/resolv.conf",
        "ln -s nowhere/at-all etc/resolv.conf",
    ];
    let bed = Bed::with_busybox();
    for setup in setups {
        let copy = bed.copy();
        sh(&format!("cd {} && {setup}", copy.dir().display()));
        let before = sh(&format!("ls -ln --time-style=+%s {0} && cat {0}/resolv.conf 2>/dev/null || :", copy.parts().etc.display()));
        let seen = run(&copy, &["cat", "/etc/resolv.conf"]).expect("runs");
        if !setup.contains("nowhere") {
            assert_eq!(seen.text(), host, "after {setup:?}");
        }
        let etc = copy.parts().etc.clone();
        let ready = copy.finish().expect("finished");
        let after = sh(&format!("ls -ln --time-style=+%s {0} && cat {0}/resolv.conf 2>/dev/null || :", etc.display()));
        assert_eq!(before, after, "a trace, after {setup:?}");
        drop(ready);
    }
}

#[test]
fn s8_metadata_survive_a_copy_and_a_run() {
    let bed = Bed::with_busybox();
    let root = bed.part(Part::Root);
    btrfs::set_read_only(&root, false).expect("opened");
    sh(&format!(
        "cd {}/usr && touch .dot plain && chmod 4755 plain && chown 12:34 .dot && ln plain hard && touch -d @1 plain \
         && truncate -s 5M sparse && mkfifo fifo",
        root.display()
    ));
    // cap_net_raw=ep, as setcap writes it.
    const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    xattr::set(root.join("usr/.dot"), "security.capability", &CAPABILITY).expect("capability");
    xattr::set(root.join("usr/plain"), "user.a", b"b").expect("attribute");
    xattr::set(root.join("usr"), "user.c", b"d").expect("attribute");
    btrfs::set_read_only(&root, true).expect("sealed");
    let copy = bed.copy();
    ask(&copy, &["touch", "/etc/new"]);
    let ready = copy.finish().expect("finished");
    assert_eq!(listing(&root.join("usr")), listing(&ready.parts().root.join("usr")));
    assert_eq!(sh(&format!("stat -c %b {}/usr/sparse", ready.parts().root.display())), "0");
}

#[test]
fn s9_the_host_is_not_written() {
    let bed = Bed::with_busybox();
    let copy = bed.copy();
    let name = format!("ast-test-{}", copy.token());
    ask(
        &copy,
        &[
            "sh",
            "-ec",
            &format!("mkdir -p /var/lib /home /srv; for d in /var /var/lib /home /root /run /tmp /etc /srv /dev; do touch $d/{name}; done"),
        ],
    );
    for dir in ["/var", "/var/lib", "/home", "/root", "/run", "/tmp", "/etc", "/srv", "/dev"] {
        assert!(!Path::new(dir).join(&name).exists(), "{dir}");
    }
    let var = copy.parts().var.clone().expect("var");
    assert!(var.join(&name).exists() && var.join("lib").join(&name).exists(), "its own /var is writable");
    assert!(!bed.part(Part::Var).join(&name).exists(), "the source was written");
}

#[test]
fn boot_files_are_stored_plainly_and_listed() {
    let bed = Bed::with_busybox();
    let kernel = bed.part(Part::Boot).join("vmlinuz-linux");
    assert!(!btrfs::is_stored_plain(&kernel).expect("mapped"), "the test needs a compressed file to begin with");
    let copy = bed.copy();
    ask(&copy, &["sh", "-ec", "for i in 1 2 3 4 5 6 7 8 9; do cat /usr/bin/busybox; done > /boot/initramfs-linux.img"]);
    let ready = copy.finish().expect("finished");
    let boot = &ready.parts().boot;
    for name in ["vmlinuz-linux", "initramfs-linux.img"] {
        assert!(btrfs::is_stored_plain(&boot.join(name)).expect("mapped"), "{name}");
    }
    assert_eq!(std::fs::read(&kernel).expect("old"), std::fs::read(boot.join("vmlinuz-linux")).expect("new"));
    sh(&format!("cd {} && sha256sum --check --strict --quiet {BOOT_SUMS}", boot.display()));
    assert!(check_sums(boot).expect("read").is_empty());
    for damage in ["printf x >> vmlinuz-linux", "touch stranger", "rm initramfs-linux.img", "echo '0  ../../x' >> ast.sums"] {
        sh(&format!("cd {} && {damage}", boot.display()));
        assert!(!check_sums(boot).expect("read").is_empty(), "{damage}");
    }
}

#[test]
fn c5_an_empty_nested_subvolume_becomes_a_directory_and_a_full_one_is_refused() {
    let bed = Bed::with_busybox();
    let copy = bed.copy();
    let nested = copy.parts().var.clone().expect("var").join("lib/machines");
    btrfs::create_subvolume(&nested).expect("nested");
    sh(&format!("chmod 700 {}", nested.display()));
    let ready = copy.finish().expect("finished");
    assert!(nested.is_dir() && !btrfs::is_subvolume(&nested) && mode(&nested) == 0o700);
    drop(ready);

    let copy = bed.copy();
    let nested = copy.parts().var.clone().expect("var").join("lib/portables");
    btrfs::create_subvolume(&nested).expect("nested");
    std::fs::write(nested.join("image"), "x").expect("written");
    let error = copy.finish().expect_err("its content would be lost");
    assert!(error.to_string().contains("lib/portables"), "{error}");
    assert!(ast::sys::file::names(&bed.layout.work()).expect("list").is_empty(), "a discarded copy was left");
}

#[test]
fn a_hostile_image_does_not_lead_out_of_itself() {
    let bed = Bed::with_busybox();
    let host = tempfile::tempdir().expect("dir");
    let copy = bed.copy();
    let var = copy.parts().var.clone().expect("var");
    std::os::unix::fs::symlink(host.path(), var.join("cache")).expect("link");
    let cache = tempfile::tempdir().expect("dir");
    std::fs::write(cache.path().join("package"), "x").expect("written");
    let copy = copy.with_cache(Some(cache.path().to_owned())).with_bind(Bind {
        source: cache.path().to_owned(),
        target: "/run/given".into(),
        read_only: true,
    });
    // A link in the image is followed inside the image, where it leads nowhere: making the place for it may fail, or not.
    drop(run(&copy, &["ls", "/"]));
    assert!(ast::sys::file::names(host.path()).expect("list").is_empty(), "the host was written through a link");
    std::fs::remove_file(var.join("cache")).expect("gone");
    assert_eq!(ask(&copy, &["ls", "/var/cache/pacman/pkg", "/run/given"]).matches("package").count(), 2);
    assert_eq!(ask(&copy, &["sh", "-c", "touch /run/given/x 2>/dev/null || echo refused"]).trim(), "refused");
    let root = copy.parts().root.clone();
    std::fs::remove_dir_all(root.join("efi")).expect("gone");
    std::fs::remove_dir(root.join("tmp")).expect("gone");
    std::os::unix::fs::symlink(host.path(), root.join("tmp")).expect("link");
    let error = run(&copy, &["ls"]).expect_err("a link in place of a mount point");
    assert!(error.to_string().contains("not a directory"), "{error}");
    drop(copy.finish().expect("mended"));
}
