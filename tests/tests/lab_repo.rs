//! The lab's package repositories, as pacman itself sees them: what installs, what is refused, what each state upgrades.
#![allow(clippy::disallowed_methods, reason = "throw-away roots and foreign programs")]

#[path = "lab_repo/root.rs"]
mod root;

use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::grub::{self, Platform};
use ast_tests::lab::http::Server;
use ast_tests::lab::repo::{self, State};
use root::{Root, copy_repo, pacman_fails, pacman_ok};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

fn v1() -> PathBuf {
    repo::build(&cache_dir(), State::V1).unwrap()
}

/// The file of a package in a repository.
fn package(repo: &Path, name: &str) -> PathBuf {
    let start = format!("{name}-");
    let found = fs::read_dir(repo).unwrap().flatten().map(|e| e.path()).find(|p| {
        let file = p.file_name().unwrap().to_string_lossy().into_owned();
        file.strip_prefix(&start).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.ends_with(".zst"))
    });
    found.unwrap_or_else(|| panic!("{name} in {}", repo.display()))
}

/// base, linux, hello and our own package install from v1 with signatures required, hooks run, and everything in the
/// root finds its libraries; v2 then upgrades exactly kernel and hello, and the new kernel gets its image.
#[test]
fn installs_and_upgrades() {
    let root = Root::new(&v1());
    root.install(&["base", "linux", "mkinitcpio", "ast", "grub", "btrfs-progs", "dosfstools", "hello", "kiosk-app", "extra-note"]);
    let installed = root.versions();
    for name in ["filesystem", "glibc", "systemd", "pacman", "linux", "hello", "ast"] {
        assert!(installed.contains_key(name), "{name} in {installed:?}");
    }
    assert!(!root.path("var/lib/pacman").exists());
    assert!(fs::read_to_string(root.path("usr/lib/os-release")).unwrap().contains("\nID=arch\n"));
    assert!(fs::read_link(root.path("usr/sbin")).unwrap() == Path::new("bin"));
    assert_eq!(root.unresolved_libraries(), Vec::<String>::new());
    assert_eq!(root.chroot("grub-script-check --version >/dev/null; pacman -Qkk 2>&1 >/dev/null | grep '^warning: .*: /' || true"), "");

    let kernel = root.kernels();
    assert_eq!(kernel.len(), 1);
    assert_eq!(fs::read(root.path("boot/vmlinuz-linux")).unwrap(), fs::read(root.path(&format!("usr/lib/modules/{}/vmlinuz", kernel[0]))).unwrap());
    let image = fs::read(root.path("boot/initramfs-linux.img")).unwrap();
    assert!(image.len() > 1 << 20, "initramfs of {} bytes", image.len());

    root.use_repo(&repo::build(&cache_dir(), State::V2).unwrap());
    assert_eq!(root.upgradable(), ["hello", "linux"]);
    root.upgrade();
    assert_ne!(root.kernels(), kernel);
    assert_eq!(root.kernels().len(), 1);
    assert_eq!(fs::read_to_string(root.path("usr/share/hello/version")).unwrap(), "2\n");
    let image = |root: &Root| root.chroot("bsdtar -tf /boot/initramfs-linux.img");
    assert!(image(&root).contains(&root.kernels()[0]) && image(&root).contains("ast-initcpio"), "{}", image(&root));
    assert_eq!(root.upgradable(), Vec::<String>::new());

    // The broken initramfs of two states, built by hooks that pacman is content with.
    root.use_repo(&repo::build(&cache_dir(), State::V2NoBinary).unwrap());
    root.upgrade();
    assert!(image(&root).contains(&root.kernels()[0]) && !image(&root).contains("ast-initcpio"), "{}", image(&root));
    root.use_repo(&repo::build(&cache_dir(), State::V2Panic).unwrap());
    root.upgrade();
    let init = root.chroot("bsdtar -xOf /boot/initramfs-linux.img init");
    assert!(init.lines().position(|l| l.contains("sysrq-trigger")).is_some_and(|n| n < 4), "{init}");
}

/// Each state upgrades what its name says and nothing else, over HTTP, through one link that is flipped.
#[test]
fn states_differ_as_named() {
    let dirs = repo::build_all(&cache_dir(), &State::ALL).unwrap();
    let root = Root::new(&dirs[0]);
    root.install(&["filesystem", "glibc", "lab-libs", "bash", "hello", "extra-note", "kiosk-app"]);
    root.pretend(&["linux", "mkinitcpio", "systemd"], &dirs[0]);
    let link = root.path("../mirror");
    repo::publish(&dirs[0], &link).unwrap();
    let server = Server::start(&link).unwrap();
    root.use_server(&server.host_url());
    let mut expected: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for state in State::ALL {
        let more: &[&str] = match state {
            State::V2NoInit => &["systemd"],
            State::V2NoBinary | State::V2Panic => &["mkinitcpio"],
            State::V2PanicPlus => &["extra-note", "mkinitcpio"],
            State::V2Plus => &["extra-note"],
            State::V2HungUnit | State::V2BadCheck | State::V2HungCheck | State::V2BadUnit => &["kiosk-app"],
            State::V1 | State::V2 | State::V3 => &[],
        };
        let mut all: Vec<&str> = if state == State::V1 { vec![] } else { [&["hello", "linux"], more].concat() };
        all.sort_unstable();
        expected.insert(state.name(), all);
    }
    let mut seen = BTreeMap::new();
    for (state, dir) in State::ALL.iter().zip(&dirs) {
        repo::publish(dir, &link).unwrap();
        seen.insert(state.name(), root.upgradable());
    }
    let seen: BTreeMap<&str, Vec<&str>> = seen.iter().map(|(k, v)| (*k, v.iter().map(String::as_str).collect())).collect();
    assert_eq!(seen, expected);
    assert!(!listing(&package(&dirs[4], "systemd")).lines().any(|l| l == "usr/lib/systemd/systemd"));
    assert!(listing(&package(&dirs[1], "systemd")).lines().any(|l| l == "usr/lib/systemd/systemd"));
}

fn listing(package: &Path) -> String {
    let out = Command::new("bsdtar").arg("-tf").arg(package).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

/// What a mirror could do to a package or a database is refused.
#[test]
fn bad_signatures_are_refused() {
    let good = v1();
    let fetch = |root: &Root| root.pacman(&["-Syw", "hello", "extra-note"]);
    pacman_ok(&fetch(&Root::new(&good)));

    let flipped = copy_repo(&good);
    let victim = package(flipped.path(), "hello");
    let file = fs::File::options().read(true).write(true).open(&victim).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 5000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 5000).unwrap();
    pacman_fails(&fetch(&Root::new(flipped.path())), "invalid or corrupted package");

    let unsigned = copy_repo(&good);
    fs::remove_file(format!("{}.sig", package(unsigned.path(), "hello").display())).unwrap();
    // The database carries the signature too, as Arch's did: without both it is refused.
    let missing = Root::new(unsigned.path());
    pacman_fails(&missing.pacman(&["-U", &package(unsigned.path(), "hello").display().to_string()]), "required signature");

    let wrong = copy_repo(&good);
    let other = format!("{}.sig", package(wrong.path(), "extra-note").display());
    fs::copy(other, format!("{}.sig", package(wrong.path(), "hello").display())).unwrap();
    pacman_fails(&Root::new(wrong.path()).pacman(&["-U", &package(wrong.path(), "hello").display().to_string()]), "invalid");

    let no_db_sig = copy_repo(&good);
    for name in ["core.db.sig", "core.db.tar.gz.sig"] {
        fs::remove_file(no_db_sig.path().join(name)).unwrap();
    }
    pacman_fails(&fetch(&Root::new(no_db_sig.path())), "core");

    let stranger = Root::new(&good);
    stranger.empty_keyring();
    pacman_fails(&fetch(&stranger), "core");
}

/// The mirror sends files and nothing outside of its directory.
#[test]
fn mirror_stays_inside() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    fs::write(dir.path().join("secret"), "no").unwrap();
    fs::write(dir.path().join("in/core.db"), "yes").unwrap();
    let server = Server::start(&dir.path().join("in")).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    assert!(get("/core.db").starts_with("HTTP/1.1 200") && get("/core.db").ends_with("yes"));
    for bad in ["/../secret", "/none", "/", "/%2e%2e/secret"] {
        assert!(get(bad).starts_with("HTTP/1.1 404"), "{bad}");
    }
}

/// The tools of each GRUB run on this machine, beside its own, and make a core image with their own modules.
#[test]
fn grub_of_three_releases() {
    let dir = tempfile::tempdir().unwrap();
    for suite in grub::Suite::ALL {
        let grub = grub::build(&cache_dir(), suite).unwrap();
        let run = |name: &str, args: &[&str]| {
            let argv = grub.tool(name).unwrap();
            Command::new(&argv[0]).args(&argv[1..]).args(args).output().unwrap()
        };
        for name in ["grub-mkimage", "grub-editenv", "grub-script-check", "grub-bios-setup", "grub-install", "grub-mkconfig", "grub-probe"] {
            let out = run(name, &["--version"]);
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success() && text.contains(suite.version()), "{name} {text}");
        }
        for (platform, module) in [(Platform::Bios, "biosdisk"), (Platform::Efi, "fat")] {
            let core = dir.path().join("core").display().to_string();
            let modules = grub.modules_dir(platform).display().to_string();
            let out = run("grub-mkimage", &["-O", platform.name(), "-d", &modules, "-p", "/grub", "-o", &core, "btrfs", "zstd", "loadenv", "hashsum", module]);
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            assert!(fs::metadata(&core).unwrap().len() > 50_000);
        }
    }
}

/// PKGBUILD forgets nothing: what is in the sources for a machine is in the package, under its name.
#[test]
fn our_package_has_every_file_that_is_for_a_machine() {
    let out = Command::new("bsdtar").arg("-tf").arg(package(&v1(), "ast")).output().unwrap();
    let listing = String::from_utf8_lossy(&out.stdout).into_owned();
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut missing = Vec::new();
    let mut dirs = ["packaging", "mkinitcpio", "docs/man"].map(|dir| project.join(dir)).to_vec();
    let mut seen = 0;
    while let Some(dir) = dirs.pop() {
        for path in fs::read_dir(&dir).unwrap().flatten().map(|e| e.path()) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() {
                dirs.push(path);
            } else if name != "PKGBUILD" {
                seen += 1;
                // A link for a target is in that target's directory, a profile among the profiles.
                let end = format!("/{}/{name}", dir.file_name().unwrap().to_string_lossy());
                let exact = path.is_symlink() || dir.ends_with("profiles");
                if !listing.lines().any(|line| line.ends_with(if exact { &end } else { &end[end.rfind('/').unwrap()..] })) {
                    missing.push(path);
                }
            }
        }
    }
    assert!(seen > 20 && missing.is_empty(), "not in the package: {missing:?}");
    for file in [
        "usr/bin/ast",
        "usr/lib/ast/ast-initcpio",
        "usr/lib/ast/ast-autoupdate",
        "etc/grub.d/10_ast",
        "etc/mkinitcpio.conf.d/ast.conf",
        "etc/ast/health.d/required.d/",
        "usr/lib/ast/health.d/wanted.d/",
        "usr/lib/systemd/system/timers.target.wants/ast-autoupdate.timer",
        "usr/share/man/man8/ast-bootstrap.8",
        "usr/share/man/man7/ast-boot.7",
        "usr/share/bash-completion/completions/ast",
        "usr/share/zsh/site-functions/_ast",
        "usr/share/fish/vendor_completions.d/ast.fish",
    ] {
        assert!(listing.lines().any(|line| line == file), "{file} is not in the package:\n{listing}");
    }
    // What the lab does not take along is where PKGBUILD looks for it.
    let pkgbuild = fs::read_to_string(project.join("packaging/PKGBUILD")).unwrap();
    let documents = pkgbuild.lines().find(|line| line.contains("/usr/share/doc/ast")).unwrap();
    let named: Vec<&str> = documents.split(' ').filter(|word| word.starts_with("docs/")).collect();
    assert!(named.len() >= 3 && named.iter().all(|name| project.join(name).is_file()), "{named:?}");
}
