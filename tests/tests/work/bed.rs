//! A btrfs on a loop device with one set in it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use ast::exec::{Ended, Invocation, Options};
use ast::install::staging::{Packages, Staging};
use ast::id::SetId;
use ast::layout::{Layout, MOUNT_POINTS, PACMAN_DB, Part};
use ast::sys::btrfs;
use ast::work::{WorkError, WorkingCopy};
use ast_tests::lab::cache::{Key, cache_dir, once};
use ast_tests::lab::http::Server;
use ast_tests::lab::repo::{self, State};
use ast_tests::lab::sign::Signer;

/// Output of a shell line that has to succeed.
pub fn sh(line: &str) -> String {
    let out = Command::new("sh").args(["-ec", line]).output().expect("sh");
    assert!(out.status.success(), "{line}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// Unmounts and frees the loop device, also when a test panics.
struct Device {
    device: String,
    at: PathBuf,
}

impl Drop for Device {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.at).status());
        drop(Command::new("losetup").args(["-d", &self.device]).status());
    }
}

/// The filesystem, mounted with compression as an installed machine's, and its layout.
pub struct Bed {
    pub layout: Layout,
    _device: Device,
    _dir: tempfile::TempDir,
}

/// A directory for a disk that is synced again and again: in memory, where there is such a place, that takes half the time.
pub fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("ast-bed-").tempdir_in(base).expect("dir")
}

/// The first set of a bed.
pub fn base() -> SetId {
    "0.1".parse().expect("a set")
}

impl Bed {
    /// Empty, but for the directories of the layout and four empty subvolumes of set 0.1.
    pub fn new() -> Self {
        Self::of_size("4G")
    }

    fn of_size(size: &str) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let image = dir.path().join("image");
        sh(&format!("truncate -s {size} {0} && mkfs.btrfs -q {0}", image.display()));
        let bed = Self::of(dir);
        btrfs::create_subvolume(bed.layout.snapshots()).expect("snapshots");
        std::fs::create_dir_all(bed.layout.work()).expect("work");
        std::fs::create_dir_all(bed.layout.set(base())).expect("sets");
        for part in Part::ALL {
            btrfs::create_subvolume(&bed.part(part)).expect("part");
        }
        bed
    }

    /// The filesystem in the file `image` of `dir`, mounted beside it.
    fn of(dir: tempfile::TempDir) -> Self {
        let (image, top) = (dir.path().join("image"), dir.path().join("top"));
        std::fs::create_dir(&top).expect("mount point");
        let device = sh(&format!("losetup -f --show {}", image.display()));
        sh(&format!("mount -o compress=zstd,subvolid=5 {device} {}", top.display()));
        let guard = Device { device, at: top.clone() };
        let layout = Layout::of_top_level(&top);
        Self { layout, _device: guard, _dir: dir }
    }

    /// With a real system in set 0.1, installed by pacman from the lab's repository, kernel and initramfs included. The repository is
    /// another thing: see [`Mirror`].
    pub fn with_system() -> Self {
        let cache = cache_dir();
        let packages = repo::build(&cache, State::V1).expect("repository");
        let key = Key::new("bed").with(packages.file_name().expect("name").as_encoded_bytes());
        let key = key.with(include_str!("bed.rs")).with(include_str!("../../../ast/src/install/staging.rs"));
        let made = once(&cache.join("beds").join(key.name()), |dir| {
            let bed = Self::new();
            bed.install(&cache, &packages);
            bed.seal();
            sh(&format!("sync -f {0} && cp --sparse=always {1} {2}", bed.layout.snapshots().display(), bed._dir.path().join("image").display(), dir.join("image").display()));
            Ok(())
        });
        let dir = scratch();
        sh(&format!("cp --sparse=always {} {}", made.expect("a bed").join("image").display(), dir.path().join("image").display()));
        Self::of(dir)
    }

    fn install(&self, cache: &Path, packages: &Path) {
        let top = self.layout.snapshots().parent().expect("top").to_owned();
        let signer = Signer::open(cache).expect("key");
        let config = self._dir.path().join("pacman.conf");
        let text = format!(
            "[options]\nArchitecture = x86_64\nSigLevel = Required DatabaseRequired TrustedOnly\nGPGDir = {}\n[{}]\nServer = file://{}\n",
            signer.gpg_dir(cache).expect("keyring").display(), repo::NAME, packages.display()
        );
        std::fs::write(&config, text).expect("written");
        for name in ["@cache", "@home", "@root"] {
            btrfs::create_subvolume(&top.join(name)).expect("shared");
        }
        let names = ["base", "linux", "mkinitcpio", "btrfs-progs", "ast", "extra-note", "grub206"].map(String::from).into();
        let wish = Packages { config, cache: Some(packages.to_owned()), names, show: false };
        let root = self._dir.path().join("root");
        std::fs::create_dir(&root).expect("mount point");
        let fill = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS).expect("own mounts");
            ast::sys::mount::make_private().expect("private");
            let staging = Staging::create(&top, &root).expect("staging");
            staging.install(&wish).expect("installed");
            staging.make_keyring().expect("keyring");
            let ready = staging.finish().expect("whole");
            for part in Part::ALL {
                btrfs::delete_subvolume(&self.part(part)).expect("the empty one");
                btrfs::snapshot(ready.parts().get(part).expect("part"), &self.part(part), btrfs::Access::Writable).expect("snapshot");
            }
        };
        std::thread::scope(|scope| scope.spawn(fill).join()).expect("installed");
    }

    /// With a system of busybox alone in set 0.1, sealed.
    pub fn with_busybox() -> Self {
        Self::new().busybox()
    }

    /// The same on a disk that is soon full.
    pub fn small() -> Self {
        Self::of_size("256M").busybox()
    }

    fn busybox(self) -> Self {
        let bed = self;
        let root = bed.part(Part::Root);
        for dir in MOUNT_POINTS.iter().copied().chain(["usr/bin", PACMAN_DB]) {
            std::fs::create_dir_all(root.join(dir)).expect("dir");
        }
        std::fs::copy("/bin/busybox", root.join("usr/bin/busybox")).expect("busybox-static is installed");
        for name in ["sh", "printf", "cat", "sleep", "ls", "touch", "mkdir", "id", "hostname", "mount", "ps", "tty", "rm"] {
            std::os::unix::fs::symlink("busybox", root.join("usr/bin").join(name)).expect("link");
        }
        std::os::unix::fs::symlink("usr/bin", root.join("bin")).expect("link");
        std::fs::write(bed.part(Part::Etc).join("hostname"), "image\n").expect("etc");
        std::fs::write(bed.part(Part::Boot).join("vmlinuz-linux"), vec![b'k'; 1 << 20]).expect("boot");
        std::fs::create_dir_all(bed.part(Part::Var).join("lib")).expect("var");
        bed.seal();
        bed
    }

    /// Set 0.1 is read-only, as sets are.
    pub fn seal(&self) {
        for part in Part::ALL {
            btrfs::set_read_only(&self.part(part), true).expect("sealed");
        }
    }

    /// A part of set 0.1.
    pub fn part(&self, part: Part) -> PathBuf {
        self.layout.set_part(base(), part)
    }

    /// A copy of set 0.1.
    pub fn copy(&self) -> WorkingCopy {
        WorkingCopy::create(&self.layout, base()).expect("a working copy")
    }
}

/// What a command in the copy said; its status has to be 0.
pub fn ask(copy: &WorkingCopy, words: &[&str]) -> String {
    run(copy, words).expect("runs").success().expect("status 0").text()
}

/// One command in the copy.
pub fn run(copy: &WorkingCopy, words: &[&str]) -> Result<Ended, WorkError> {
    copy.run(&Invocation::words(words.iter().copied()).expect("words"), Options::capture())
}

/// Everything below `dir` that a copy has to keep, a line for each: type, mode, owner, size, mtime, links, xattrs.
pub fn listing(dir: &Path) -> Vec<String> {
    let lines = sh(&format!("cd {} && find . -printf '%y\t%P\t%m %U %G %s %T@ %n %l\n' | LC_ALL=C sort", dir.display()));
    let with_attributes = |line: &str| {
        let path = dir.join(line.split('\t').nth(1).expect("a name"));
        let mut attributes: Vec<_> = xattr::list(&path).expect("list").collect();
        attributes.sort();
        let values: Vec<_> = attributes.iter().map(|name| (name.clone(), xattr::get(&path, name).expect("value"))).collect();
        format!("{line} {values:?}")
    };
    lines.lines().map(with_attributes).collect()
}

/// Mode bits of a file.
pub fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).expect("there").permissions().mode() & 0o7777
}

/// A mirror whose content can be changed while it serves.
pub struct Mirror {
    server: Server,
    link: PathBuf,
    _dir: tempfile::TempDir,
}

impl Mirror {
    /// Serving what `state` offers.
    pub fn of(state: State) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let link = dir.path().join("mirror");
        let mirror = Self { server: Server::start(&link).expect("server"), link, _dir: dir };
        mirror.offers(state);
        mirror
    }

    /// What it offers from now on.
    pub fn offers(&self, state: State) {
        repo::publish(&repo::build(&cache_dir(), state).expect("repository"), &self.link).expect("published");
    }

    /// A directory of the caller's in place of the repository, for damage: hard links to `state`.
    pub fn offers_copy_of(&self, state: State) -> PathBuf {
        let from = repo::build(&cache_dir(), state).expect("repository");
        let to = self._dir.path().join("copy");
        sh(&format!("rm -rf {1} && cp -a {0} {1}", from.display(), to.display()));
        repo::publish(&to, &self.link).expect("published");
        to
    }

    /// The copy asks this mirror.
    pub fn is_used_by(&self, etc: &Path) {
        std::fs::write(etc.join("pacman.d/mirrorlist"), format!("Server = {}\n", self.server.host_url())).expect("mirror list");
    }
}
