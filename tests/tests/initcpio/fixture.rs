//! A btrfs laid out as a machine, on a loop device or two, and starts of the real program in a private mount namespace.
#![allow(dead_code, reason = "two tests use it, and neither all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ast::boot::BootBlock;
use ast::boot::booted::Booted;
use ast::boot::medium::Medium;
use ast::boot::stage::Stage;
use ast::id::{ArmId, DeployId};
use ast::sys::btrfs;
use ast::sys::mount::{self, MsFlags};

/// Runs a line of shell that must succeed; gives its output.
pub fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-ec", line]).output().expect("sh");
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// The program under test, built by the cargo that runs this test.
pub fn program() -> &'static Path {
    static BUILT: std::sync::OnceLock<PathBuf> = std::sync::OnceLock::new();
    BUILT.get_or_init(|| {
        let status = Command::new(env!("CARGO")).args(["build", "-q", "-p", "ast-initcpio"]).status().expect("cargo");
        assert!(status.success(), "ast-initcpio does not build");
        let here = std::env::current_exe().expect("this test");
        let target = here.ancestors().nth(2).expect("target directory").join("ast-initcpio");
        assert!(target.exists(), "{} is not there", target.display());
        target
    })
}

/// The kernel of this machine, whose modules a root needs.
pub fn release() -> String {
    sh("uname -r")
}

/// What differs for the program between the two kinds of image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The hook calls it; mounts are nobody else's.
    Busybox,
    /// A unit does; mounts are shared: what is mounted in one place shows in every other that has the same directory.
    Systemd,
}

/// A machine's disk. Removed with the value, unless `NO_TEST_CLEAN_UP` is set.
pub struct Disk {
    dir: Option<tempfile::TempDir>,
    pub device: String,
    /// Another device of the same filesystem; empty where there is none.
    pub second: String,
    pub uuid: String,
    /// In which kind of image the starts are.
    pub kind: Kind,
    image: PathBuf,
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.forget();
        for device in [&self.device, &self.second].into_iter().filter(|device| !device.is_empty()) {
            drop(Command::new("losetup").args(["-d", device]).status());
        }
        if std::env::var_os("NO_TEST_CLEAN_UP").is_some() {
            let kept = self.dir.take().map(tempfile::TempDir::keep);
            eprintln!("kept: {kept:?}");
        }
    }
}

/// What one start left.
#[derive(Debug)]
pub struct Started {
    pub status: i32,
    /// Output of the script that looks at the mounted root.
    pub seen: String,
    /// Messages, as they go to the kernel.
    pub said: String,
    pub booted: Booted,
}

impl Disk {
    /// Deployments 5 (prev), 6 (good) and 7, set 3.2 of snapshot 3, and a block that names 6 and 5.
    pub fn new() -> Self {
        Self::of_size("400M")
    }

    pub fn of_size(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let image = dir.path().join("image");
        sh(&format!("truncate -s {size} {0} && mkfs.btrfs -q -m single -d single {0}", image.display()));
        let device = sh(&format!("losetup -f --show {}", image.display()));
        Self { dir: Some(dir), device, second: String::new(), uuid: String::new(), kind: Kind::Systemd, image }.lay_out()
    }

    /// The same on two devices, with these profiles (mkfs.btrfs(8)); the kernel knows of neither.
    pub fn of_two(profiles: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let image = dir.path().join("image");
        let mut disk = Self { dir: Some(dir), device: String::new(), second: String::new(), uuid: String::new(), kind: Kind::Systemd, image };
        sh(&format!("truncate -s 400M {0} {0}.2", disk.image.display()));
        disk.device = sh(&format!("losetup -f --show {}", disk.image.display()));
        disk.attach_second();
        sh(&format!("mkfs.btrfs -q {profiles} {} {}", disk.device, disk.second));
        let disk = disk.lay_out();
        disk.forget();
        disk
    }

    /// The second device is there.
    pub fn attach_second(&mut self) {
        self.second = sh(&format!("losetup -f --show {}.2", self.image.display()));
    }

    /// The second device is not there.
    pub fn detach_second(&mut self) {
        self.forget();
        sh(&format!("losetup -d {}", std::mem::take(&mut self.second)));
    }

    /// The kernel knows of no device of this filesystem, as when it has just started.
    pub fn forget(&self) {
        for device in [&self.device, &self.second].into_iter().filter(|device| !device.is_empty()) {
            // One that it does not know is an error.
            drop(Command::new("btrfs").args(["device", "scan", "--forget", device]).output());
        }
    }

    /// What a machine has.
    fn lay_out(mut self) -> Self {
        self.uuid = sh(&format!("blkid -p -o value -s UUID {}", self.device));
        let disk = self;
        disk.change(|top| {
            for name in ["@.snapshots", "@boot", "@var", "@home", "@root", "@cache"] {
                btrfs::create_subvolume(&top.join(name)).expect(name);
            }
            let snapshots = top.join("@.snapshots");
            sh(&format!(
                "mkdir -p {0}/ast {0}/sets/3.2 {0}/rootfs {1}/@boot/grub; echo menu > {1}/@boot/grub/grub.cfg; echo log > {1}/@var/log",
                snapshots.display(),
                top.display()
            ));
            for d in [5, 6, 7] {
                let at = snapshots.join(format!("deploy/{d}"));
                std::fs::create_dir_all(&at).expect("dir");
                make_parts(&at, &format!("d{d}"));
                btrfs::set_read_only(&at.join("root"), true).expect("sealed");
                let record = format!("{{\"body\":{{\"d\":{d},\"set\":\"3.2\"}}}}");
                std::fs::write(at.join("deployment.json"), record).expect("record");
            }
            let set = snapshots.join("sets/3.2");
            make_parts(&set, "s3");
            sh(&format!("rm {}/etc/machine-id; ln -s ../sets/3.2/root {}/rootfs/snapshot-3", set.display(), snapshots.display()));
            for part in ["root", "etc", "boot"] {
                btrfs::set_read_only(&set.join(part), true).expect("sealed");
            }
        });
        disk.medium()
            .create(&BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(4), ..BootBlock::new(DeployId::new(6)) })
            .expect("block");
        disk
    }

    pub fn medium(&self) -> Medium {
        Medium::Raw { device: (&self.device).into() }
    }

    pub fn block(&self) -> BootBlock {
        let copies = self.medium().read();
        assert!(copies.agree(), "{copies:?}");
        copies.current().expect("whole").1.clone()
    }

    /// Works on the top level while the machine is off.
    pub fn change<T>(&self, work: impl FnOnce(&Path) -> T) -> T {
        let at = tempfile::tempdir().expect("dir");
        let second = if self.second.is_empty() { String::new() } else { format!(",device={}", self.second) };
        mount::mount(&self.device, at.path(), "btrfs", MsFlags::empty(), &format!("subvolid=5{second}")).expect("mounted");
        let result = work(at.path());
        // A child that another test's thread forks meanwhile has our files open until it becomes its program.
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = mount::unmount(at.path()) {
            assert!(Instant::now() < until, "{error}");
            std::thread::sleep(Duration::from_millis(10));
        }
        result
    }

    /// Makes a sealed root writable for `line`, a shell line in the directory of deployment `d`.
    pub fn damage(&self, d: u32, line: &str) {
        self.change(|top| {
            let at = top.join(format!("@.snapshots/deploy/{d}"));
            btrfs::set_read_only(&at.join("root"), false).expect("opened");
            sh(&format!("cd {}; {line}", at.display()));
        });
    }

    pub fn stage(&self) -> Option<Stage> {
        self.change(|top| std::fs::read_to_string(top.join("@.snapshots/ast/stage")).ok().map(|text| Stage::parse(&text)))
    }

    /// One start with these words on the command line; `look` is a shell script that finds the root at `$R`.
    pub fn start(&self, words: &str, look: &str) -> Started {
        self.start_with("", words, look)
    }

    /// The same with more arguments for the program, and the root's UUID unless `words` has one.
    pub fn start_with(&self, arguments: &str, words: &str, look: &str) -> Started {
        let out = tempfile::tempdir().expect("dir");
        let root = if words.contains("root=") { String::new() } else { format!("root=UUID={} ", self.uuid) };
        std::fs::write(out.path().join("cmdline"), format!("{root}ast.block=raw {words}\n")).expect("command line");
        // /run is a tmpfs as in an initramfs, /sys is left alone, and pstore and watchdog are nobody's here.
        let (new_root, propagation) = match self.kind {
            Kind::Busybox => ("/run/new_root", "private"),
            Kind::Systemd => ("/run/sysroot", "shared"),
        };
        let script = format!(
            "cd {out}; mount -t tmpfs run /run; mount --make-{propagation} /run; mkdir {new_root}; export R={new_root}; : > kmsg; rc=0\n\
             {program} mount $R --cmdline cmdline --kmsg {out}/kmsg --watchdog /nowhere --pstore /nowhere --bootstatus /nowhere \
             --wait 1 --no-restart {arguments} > out 2>&1 || rc=$?\n\
             echo $rc > status; cp /run/ast/booted booted 2> /dev/null || true\n\
             exec 3>&1; set +e; ( {look} ) > seen 2>&1; set -e\n\
             grep -q ' /run/ast/top ' /proc/self/mounts && echo 'the top level is still mounted' >> seen || true\n",
            out = out.path().display(),
            program = program().display(),
        );
        let run = Command::new("unshare").args(["-m", "--propagation", "private", "sh", "-ec", &script]).output().expect("unshare");
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        let read = |name: &str| std::fs::read_to_string(out.path().join(name)).unwrap_or_default();
        Started {
            status: read("status").trim().parse().expect("status"),
            seen: read("seen"),
            said: read("kmsg") + &read("out"),
            booted: Booted::parse(&read("booted")),
        }
    }

    /// The image file behind the device.
    pub fn image(&self) -> &Path {
        &self.image
    }
}

fn make_parts(at: &Path, name: &str) {
    for part in ["root", "etc", "boot"] {
        btrfs::create_subvolume(&at.join(part)).expect("part");
    }
    sh(&format!(
        "cd {at}/root; mkdir -p .snapshots boot dev efi etc home mnt proc root run sys tmp var usr/bin usr/lib/systemd usr/lib/modules/{release}
         ln -s usr/bin sbin; ln -s ../lib/systemd/systemd usr/bin/init; cp /bin/true usr/lib/systemd/systemd
         echo ID=arch > usr/lib/os-release; : > usr/lib/modules/{release}/modules.dep; echo {name} > usr/lib/name
         cd ../etc; echo {name} > name; echo id-{name} > machine-id; mkdir -p ssh systemd/network; echo key-{name} > ssh/ssh_host_rsa_key; chmod 600 ssh/ssh_host_rsa_key
         echo config-{name} > ssh/sshd_config; echo net-{name} > systemd/network/10-lan.network
         cd ../boot; mkdir grub; echo kernel-{name} > vmlinuz-linux",
        at = at.display(),
        release = release(),
    ));
}
