//! `ast bootstrap` with the real pacman onto a block device: interrupted, begun again, and every part of the result looked at.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ast::layout::{self, Layout, Part};
use ast::pacman::installed;
use ast::sys::mount;
use ast::verify;
use ast::work::Parts;
use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::http::Server;
use ast_tests::lab::repo::{self, State};
use ast_tests::lab::sign::Signer;
use ast_tests::vm::Offline;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::{scratch, sh};
use crate::documents;
use crate::machine::{program, skipped};

/// The packages of the lab in the place of a profile's.
const PROFILE: &str = "[packages]\ninstall = [\"linux\", \"mkinitcpio\", \"btrfs-progs\", \"grub206\", \"extra-note\", \"hello\"]\n\
                       [[user]]\nname = \"kiosk\"\ncomment = \"of the profile\"\ngroups = [\"video\"]\n";

/// What is asked for beyond that.
const ANSWERS: &str = r#"
description = "of the hall"

[install]
profile = "./lab.toml"
hidden_menu = true

[system]
hostname = "hall"
timezone = "UTC"
locale = "C.UTF-8"
keymap = "de"

[packages]
install = ["kiosk-app"]
remove = ["extra-note"]

[services]
mask = ["systemd-timesyncd.service"]

[kernel]
args = ["console=ttyS0,115200"]

[[user]]
name = "kiosk"
comment = "The screen in the hall"
password = "$6$salt$hash"
ssh_keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0oP1xTqXQnOWJ0Tn0gYp2bFJ2oFy4n8n1mQ5u1x9aB owner"]

[[file]]
path = "/etc/kiosk"
content = "1\n"

[[command]]
run = ["sh", "-c", "id -un kiosk > /usr/share/who"]
"#;

/// A disk, what it is to become, and a mirror.
struct Yard {
    dir: tempfile::TempDir,
    device: String,
    server: Server,
}

impl Yard {
    fn new() -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS).expect("namespaces");
        mount::make_private().expect("private");
        let dir = scratch();
        let server = Server::start(&repo::build(&cache_dir(), State::V1).expect("v1")).expect("a mirror");
        let signer = Signer::open(&cache_dir()).expect("key");
        let keys = signer.gpg_dir(&cache_dir()).expect("keyring");
        let conf = format!(
            "[options]\nArchitecture = x86_64\nSigLevel = Required DatabaseRequired TrustedOnly\nGPGDir = {}\n[{}]\nServer = {}\n",
            keys.display(),
            repo::NAME,
            server.host_url()
        );
        for (name, text) in [("pacman.conf", conf.as_str()), ("lab.toml", PROFILE), ("answers.toml", ANSWERS)] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        let image = dir.path().join("disk.raw");
        let device = sh(&format!("truncate -s 3G {0} && losetup --find --show {0}", image.display()));
        // What a disk may have been before.
        sh(&format!("printf 'label: gpt\\nsize=1GiB\\n' | sfdisk --quiet --no-reread {device} 2>&1"));
        Self { dir, device, server }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(more).args(["--yes", "bootstrap", &self.device, "--boot", "bios", "--answers"]).arg(self.path("answers.toml"));
        command.arg("--pacman-conf").arg(self.path("pacman.conf")).stdin(Stdio::null()).env_remove("AST_LOG");
        command
    }

    /// Those that know of its `pacman.conf`.
    fn processes(&self) -> Vec<String> {
        let conf = self.path("pacman.conf").to_string_lossy().into_owned();
        let all = fs::read_dir("/proc").expect("processes").flatten();
        let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok()).map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(&conf)).collect()
    }

    /// What of the disk begins with `at`.
    fn bytes(&self, at: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        fs::File::open(&self.device).and_then(|file| file.read_exact_at(&mut bytes, at)).expect("read");
        bytes
    }

    /// Begun, and killed by `signal` while pacman installs.
    fn interrupted(&self, signal: Signal) {
        let mounts = || fs::read_to_string("/proc/self/mounts").expect("mounts");
        let before = mounts();
        let mut child = self.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("ast");
        let mut said = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        while !said.contains("installing glibc") {
            said += &lines.next().unwrap_or_else(|| panic!("it ended: {said}")).expect("a line");
        }
        assert!(!self.processes().is_empty());
        kill(Pid::from_raw(child.id().try_into().expect("a pid")), signal).expect("sent");
        assert!(!child.wait().expect("ended").success());
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let loops = sh(&format!("grep -lx {} /sys/block/loop*/loop/backing_file || true", self.device));
            let now = mounts();
            let new: String = now.lines().filter(|line| !before.lines().any(|known| known == *line)).collect();
            let left = format!("{loops}{new}{}", self.processes().join(" "));
            if left.is_empty() {
                break;
            }
            assert!(Instant::now() < end, "left behind by {signal}: {left}");
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(self.bytes(0, 440).iter().all(|byte| *byte == 0), "it would boot something");
        for at in [512, (3 << 30) - 512] {
            assert!(!self.bytes(at, 8).starts_with(b"EFI PART"), "a copy of the old table is still there, at {at}");
        }
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        drop(Command::new("losetup").args(["--detach", &self.device]).status());
    }
}

#[test]
fn r2_an_installation_that_is_killed_leaves_nothing_and_the_next_one_is_whole() {
    if skipped() {
        return;
    }
    let yard = Yard::new();
    // A package that there is not is known before anything is written: the old table is there.
    fs::write(yard.path("lab.toml"), PROFILE.replace("hello", "helo")).expect("written");
    let out = yard.command(&[]).output().expect("ast");
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code() == Some(1) && err.contains("target not found: helo") && err.contains("nothing was written"), "{err}");
    assert!(yard.bytes(512, 8).starts_with(b"EFI PART") && yard.bytes((3 << 30) - 512, 8).starts_with(b"EFI PART"), "something was written");
    fs::write(yard.path("lab.toml"), PROFILE).expect("written");

    yard.interrupted(Signal::SIGINT);
    yard.interrupted(Signal::SIGKILL);

    let begun = Instant::now();
    let out = yard.command(&["--json"]).output().expect("ast");
    let (text, err) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(0), "{text}{err}");
    eprintln!("installed in {:.1} s", begun.elapsed().as_secs_f64());
    documents::check(&["--json", "bootstrap"], 0, &text);
    let json: serde_json::Value = serde_json::from_str(&text).expect("a document");
    assert_eq!((&json["boot"], &json["size"], &json["model"]), (&"bios-gap".into(), &(3u64 << 30).into(), &serde_json::Value::Null));
    assert_eq!(json["packages"], serde_json::json!(["base", "ast", "linux", "mkinitcpio", "btrfs-progs", "grub206", "hello", "kiosk-app"]));
    sh(&format!("losetup --detach {}", yard.device));

    // As a machine that is looked at from elsewhere.
    let disk = Offline::open(yard.path("disk.raw")).expect("a table");
    let partition = disk.partitions().iter().max_by_key(|part| part.len).expect("a partition").number;
    let top = disk.mount(partition, "subvolid=5").expect("a btrfs");
    assert_eq!(ast::sys::btrfs::filesystem_uuid(top.root()).expect("uuid"), json["filesystem"].as_str().expect("text"));
    let root = yard.path("root");
    for (subvolume, at) in [("@.snapshots", ".snapshots"), ("@boot", "boot"), ("@var", "var")] {
        fs::create_dir_all(root.join(at)).expect("dir");
        mount::bind(&top.path(subvolume), &root.join(at)).expect("bound");
    }
    let fat = disk.partitions().iter().map(|part| part.number).find(|number| *number != partition).expect("a FAT partition");
    for name in [layout::FILE_BLOCK_A, layout::FILE_BLOCK_B] {
        let to = root.join("efi").join(name);
        fs::create_dir_all(to.parent().expect("a directory")).expect("dir");
        fs::write(&to, disk.fat(fat).expect("FAT").read(&format!("/{name}")).expect("a copy of the block")).expect("written");
    }
    whole(&root, &yard);
    for at in ["var", "boot", ".snapshots"] {
        mount::unmount(&root.join(at)).expect("unmounted");
    }
    top.unmount().expect("unmounted");
    disk.close().expect("closed");
}

/// The base is what was asked for, and `doctor` and `verify` find nothing.
fn whole(root: &Path, yard: &Yard) {
    let layout = Layout::of_sysroot(root);
    let base = "0.1".parse().expect("a set");
    let parts = Parts::of_set(&layout, base);
    assert_eq!(verify::check(&parts, verify::Disk::Plain), []);
    let packages = installed(&parts.root).expect("a database");
    for (name, is_there) in [("ast", true), ("kiosk-app", true), ("hello", true), ("extra-note", false), ("efibootmgr", false)] {
        assert_eq!(packages.get(name).is_some(), is_there, "{name}");
    }
    let etc = |name: &str| fs::read_to_string(parts.etc.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let line = |name: &str, begin: &str| etc(name).lines().find(|line| line.starts_with(begin)).unwrap_or_default().to_owned();
    assert_eq!((etc("hostname"), etc("kiosk"), etc("machine-id")), ("hall\n".into(), "1\n".into(), String::new()));
    assert_eq!(fs::read_link(parts.etc.join("localtime")).expect("a zone"), Path::new("../usr/share/zoneinfo/UTC"));
    assert!(etc("locale.conf").contains("LANG=C.UTF-8\n") && etc("vconsole.conf").contains("KEYMAP=\"de\"\n"), "{}", etc("locale.conf"));
    assert!(line("passwd", "kiosk:").contains(":The screen in the hall:/home/kiosk:"), "{}", etc("passwd"));
    assert!(line("shadow", "kiosk:$6$salt$hash:").ends_with(':') && line("shadow", "root:!:").ends_with(':'), "{}", etc("shadow"));
    assert!(line("group", "video:").ends_with("kiosk"), "{}", etc("group"));
    assert!(etc("ssh/authorized_keys.d/kiosk").ends_with(" owner\n") && etc("tmpfiles.d/ast-home-kiosk.conf").contains("/home/kiosk"));
    assert_eq!(fs::read_link(parts.etc.join("systemd/system/systemd-timesyncd.service")).expect("masked"), Path::new("/dev/null"));
    let conf = etc("pacman.conf");
    assert!(conf.contains("DBPath = /usr/share/ast/db/\n") && conf.contains(&yard.server.host_url()) && !conf.contains("GPGDir"), "{conf}");
    assert_eq!(fs::read_to_string(parts.root.join("usr/share/who")).expect("the command ran"), "kiosk\n");
    let env = fs::read_to_string(parts.boot.join("ast.env")).expect("ast.env");
    assert!(env.contains("console=ttyS0,115200"), "{env}");
    let menu = fs::read_to_string(root.join("boot/grub/ast/menu.cfg")).expect("a menu");
    assert!(["set timeout=3\n", "set timeout_style=hidden\n"].iter().all(|line| menu.contains(line)), "c4: {menu}");
    assert!(ast::work::check_sums(&layout.deployment_part(ast::id::DeployId::new(1), Part::Boot)).expect("sums").is_empty());
    assert!(ast::volumes::work_copies(&layout).expect("list").is_empty());

    let ast = |words: &[&str]| {
        let out = Command::new(program()).arg("--sysroot").arg(root).args(words).stdin(Stdio::null()).output().expect("ast");
        (out.status.code().unwrap_or(-1), String::from_utf8_lossy(&out.stdout).into_owned(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    assert!(ast(&["tree"]).1.contains("└── 0*- of the hall"), "{:?}", ast(&["tree"]));
    fs::create_dir_all(root.join("run/ast")).expect("dir");
    fs::write(root.join("run/ast/booted"), "d=1\nset=0.1\nwhy=good\nenv=ok\n").expect("a record");
    assert_eq!(ast(&["good"]).0, 0, "{:?}", ast(&["good"]));
    let (code, said, err) = ast(&["doctor"]);
    assert_eq!(code, 0, "{said}{err}");
}
