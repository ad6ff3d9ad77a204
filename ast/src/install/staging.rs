//! A root filesystem while it is filled: the subvolumes of a first snapshot, mounted as the one tree that packages expect.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{InstallError, Result};
use crate::exec::{Ended, Invocation, Isolation, Options, Program, Streams, run_isolated};
use crate::layout::{self, Layout, Part};
use crate::sys::mount::{self, MsFlags};
use crate::sys::{self, namespace};
use crate::work::{Parts, ReadyToSeal, WorkingCopy};

/// Directories with another mode than 0755; packages leave the mode of what exists as it is.
const MODES: [(&str, u32); 4] = [("tmp", 0o1777), ("root", 0o750), ("proc", 0o555), ("sys", 0o555)];
/// Where the package cache is seen.
const CACHE: &str = "var/cache/pacman/pkg";

/// Where packages come from.
#[derive(Debug, Clone)]
pub struct Packages {
    /// A `pacman.conf` of the running system; its signatures are checked against the keyring that it names.
    pub config: PathBuf,
    /// Directory where packages are kept; `None`: the new machine's own cache.
    pub cache: Option<PathBuf>,
    /// Their names.
    pub names: Vec<String>,
    /// Whether a person sees what pacman says.
    pub show: bool,
}

/// The working copy of the first snapshot, mounted as one tree in the calling thread's mount namespace.
#[derive(Debug)]
pub struct Staging {
    copy: WorkingCopy,
    root: PathBuf,
}

impl Staging {
    /// An empty working copy on the filesystem whose top level is at `top`, mounted at `root`, with `/proc`, `/sys`, `/dev`, `/run` and
    /// `/tmp` as package scripts expect them. `/root`, `/home` and the package cache are the shared ones already.
    ///
    /// If interrupted: garbage in `work`. The mounts end with the thread, which must have a mount namespace of its own.
    pub fn create(top: &Path, root: &Path) -> Result<Self> {
        let cache = Some(top.join(layout::CACHE_SUBVOL));
        let this = Self { copy: WorkingCopy::create_empty(&Layout::of_top_level(top))?.with_cache(cache), root: root.to_owned() };
        let Parts { root: root_part, etc, var, boot } = this.copy.parts();
        mount::bind(root_part, root)?;
        for name in layout::MOUNT_POINTS {
            this.make_dir(name)?;
        }
        for (part, path) in [(Some(etc), Part::Etc), (var.as_ref(), Part::Var), (Some(boot), Part::Boot)] {
            part.map(|part| mount::bind(part, &this.inside(path.mount_point()))).transpose()?;
        }
        this.make_dir(CACHE)?;
        for (subvolume, path) in [(layout::CACHE_SUBVOL, CACHE), (layout::HOME_SUBVOL, "home"), (layout::ROOT_HOME_SUBVOL, "root")] {
            mount::bind(&top.join(subvolume), &this.inside(path))?;
        }
        set_mode(&this.inside("root"), 0o750)?;
        let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount::mount("proc", &this.inside("proc"), "proc", plain | MsFlags::MS_NOEXEC, "")?;
        mount::mount("sysfs", &this.inside("sys"), "sysfs", plain | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY, "")?;
        mount::bind_recursive(Path::new("/dev"), &this.inside("dev"))?;
        mount::mount("tmpfs", &this.inside("run"), "tmpfs", plain, "mode=0755")?;
        mount::mount("tmpfs", &this.inside("tmp"), "tmpfs", plain, "mode=1777")?;
        Ok(this)
    }

    /// Where the tree is seen.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path of the new machine, here.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The same as a working copy: commands in it see it alone, with nothing of the shared `/root` and `/home`.
    pub const fn copy(&self) -> &WorkingCopy {
        &self.copy
    }

    fn make_dir(&self, name: &str) -> Result<()> {
        let path = self.inside(name);
        sys::file::make_dirs(&path)?;
        set_mode(&path, MODES.iter().find(|(n, _)| *n == name).map_or(0o755, |(_, mode)| *mode))
    }

    /// The packages and all they depend on are installed, and their database is in the snapshot.
    pub fn install(&self, packages: &Packages) -> Result<()> {
        let database = self.inside(layout::PACMAN_DB);
        sys::file::make_dirs(&database)?;
        sys::file::make_dirs(&self.inside("var/log"))?;
        let cache = packages.cache.clone().unwrap_or_else(|| self.inside(CACHE));
        let log = self.inside("var/log/pacman.log");
        let paths =
            [("--root", &self.root), ("--dbpath", &database), ("--config", &packages.config), ("--cachedir", &cache), ("--logfile", &log)];
        let mut pacman = Invocation::new(Program::Pacman);
        for (option, path) in paths {
            pacman = pacman.arg(option).arg(path);
        }
        pacman = pacman.args(["--noconfirm", "--noprogressbar", "-Sy"]).args(&packages.names);
        let streams = if packages.show { Streams::Show } else { Streams::Capture };
        self.isolated(&pacman, None, streams)?.success().map(drop)?;
        Ok(())
    }

    /// pacman on the new machine trusts what its keyring packages say.
    pub fn make_keyring(&self) -> Result<()> {
        for words in [["pacman-key", "--init"], ["pacman-key", "--populate"]] {
            self.run(words).map(drop)?;
        }
        Ok(())
    }

    /// The command has run well with the tree as its root, in namespaces of its own: it leaves no process behind.
    pub fn run<W: Into<std::ffi::OsString>>(&self, words: impl IntoIterator<Item = W>) -> Result<Ended> {
        Ok(self.isolated(&Invocation::words(words)?, Some(&self.root), Streams::Capture)?.success()?)
    }

    fn isolated(&self, invocation: &Invocation, root: Option<&Path>, streams: Streams<'static>) -> Result<Ended> {
        // A thread that has left its namespaces can start one command only.
        let run = move || -> Result<Ended> {
            namespace::unshare()?;
            mount::make_private()?;
            if let Some(root) = root {
                namespace::pivot_root(root)?;
            }
            // tmpfiles would make subvolumes below /var, which a snapshot does not carry along (C5).
            let options = Options::new(streams).env("SYSTEMD_TMPFILES_FORCE_SUBVOL", "0");
            Ok(run_isolated(invocation, options, Isolation::Namespaces)?)
        };
        std::thread::scope(|scope| scope.spawn(run).join()).map_err(|_| InstallError::Thread)?
    }

    /// The tree is not mounted any more, and the copy is clean, with its boot files listed.
    ///
    /// Refuses: a root that would not start (S12).
    pub fn finish(self) -> Result<ReadyToSeal> {
        mount::unmount_lazy(&self.root)?;
        let ready = self.copy.finish()?;
        match ready.findings() {
            [] => Ok(ready),
            findings => Err(InstallError::NotWhole(findings.to_vec())),
        }
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|e| InstallError::io(path, e))
}
