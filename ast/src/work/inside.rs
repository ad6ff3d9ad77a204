//! Running one command inside: namespaces, mounts, the argument vector.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::{Parts, WorkError, dev, resolv, terminal};
use crate::exec::{self, Ended, Invocation, Isolation, Options, Streams};
use crate::layout::Part;
use crate::sys::mount::{MsFlags, bind, make_private, mount, move_mount, remount_bind_noatime, remount_bind_ro};
use crate::sys::{At, file, namespace};

/// Where pacman keeps packages it has downloaded, inside.
pub const PACKAGE_CACHE: &str = "/var/cache/pacman/pkg";
/// Below the new /run while mounts are collected: the host's paths are known only before the root changes, and paths inside
/// may be followed safely only after it (a link in the image must not lead to the host).
const STAGE: &str = "run/.ast-stage";
/// Host name inside.
const HOSTNAME: &str = "ast";

/// Something of the host that is visible inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// A directory of the host.
    pub source: PathBuf,
    /// An absolute path inside; made if it is missing and can be.
    pub target: PathBuf,
    /// Not writable through this path.
    pub read_only: bool,
}

/// What a command sees.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The directories that make its `/`.
    pub parts: &'a Parts,
    /// Whether it may change them. A set is looked at with `false`.
    pub writable: bool,
    /// The host's directory of downloaded packages.
    pub cache: Option<&'a Path>,
    /// More of the host.
    pub binds: &'a [Bind],
}

/// The command has run inside and ended, with whatever status; nothing of it runs and nothing is mounted any more.
///
/// If interrupted, even by SIGKILL: the kernel ends the command with us, and its mounts with it (R2).
pub fn run_inside(view: View<'_>, invocation: &Invocation, options: Options<'_>) -> Result<Ended, WorkError> {
    let shell = matches!(options.streams, Streams::Terminal);
    let _left = options.streams.left_to_program();
    let _give_back = shell.then(terminal::GiveBack::new).flatten();
    let terminal = if shell { terminal::of_caller() } else { None };
    // A thread of its own: namespaces, root and working directory are changed for it alone and end with it.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("inside".into()).spawn_scoped(scope, || {
            namespace::unshare()?;
            build(view, terminal.as_deref())?;
            Ok(exec::run_isolated(invocation, environment(options), Isolation::Namespaces)?)
        });
        match thread.map_err(WorkError::Thread)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// The command has run on the machine itself, in namespaces of its own, and ended; nothing that it started runs any more.
///
/// If interrupted, even by SIGKILL: the kernel ends the command and all that it started with us (R2).
pub fn run_beside(invocation: &Invocation, options: Options<'_>) -> Result<Ended, WorkError> {
    let _left = options.streams.left_to_program();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("beside".into()).spawn_scoped(scope, || {
            namespace::unshare()?;
            make_private()?;
            Ok(exec::run_isolated(invocation, options, Isolation::Namespaces)?)
        });
        match thread.map_err(WorkError::Thread)?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// With what tells systemd's tools that they work on an image: no talk to a running system, and no subvolumes for
/// tmpfiles' directories, whose content a snapshot would leave out (C5).
fn environment(options: Options<'_>) -> Options<'_> {
    options.env("SYSTEMD_OFFLINE", "1").env("SYSTEMD_TMPFILES_FORCE_SUBVOL", "0")
}

/// The calling thread, which has namespaces of its own, has the view as its `/`. `/proc` is left to init.
fn build(view: View<'_>, terminal: Option<&Path>) -> Result<(), WorkError> {
    let root = view.parts.root.as_path();
    let resolv_conf = resolv::host()?;
    make_private()?;
    bind(root, root)?;
    // What a command only reads is not changed by that: then there may be nothing to seal.
    if view.writable { remount_bind_noatime(root)? } else { remount_bind_ro(root)? }
    let run = directory(root, "run", view.writable)?;
    tmpfs("run", &run, "mode=755")?;
    let mut stage = Stage { outside: root.join(STAGE), inside: Path::new("/").join(STAGE), taken: Vec::new() };
    for part in [Part::Etc, Part::Var, Part::Boot] {
        if let Some(dir) = view.parts.get(part) {
            stage.take(dir, Path::new(part.mount_point()), !view.writable)?;
        }
    }
    let parts = stage.taken.len();
    if let Some(cache) = view.cache {
        stage.take(cache, Path::new(PACKAGE_CACHE), false)?;
    }
    for extra in view.binds {
        stage.take(&extra.source, &extra.target, extra.read_only)?;
    }
    let dev = stage.outside.join("dev");
    file::make_dirs(&dev)?;
    dev::build(&dev, terminal)?;

    namespace::pivot_root(root)?;

    let top = Path::new("/");
    for (index, (from, target)) in stage.taken.iter().enumerate() {
        if index < parts {
            let name = target.strip_prefix("/").unwrap_or(target);
            directory(top, &name.to_string_lossy(), view.writable)?;
        } else if !place_for(target, view.writable)? {
            continue;
        }
        move_mount(from, target)?;
    }
    move_mount(&stage.inside.join("dev"), &directory(top, "dev", view.writable)?)?;
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount("sysfs", &directory(top, "sys", view.writable)?, "sysfs", harmless | MsFlags::MS_RDONLY, "")?;
    directory(top, "proc", view.writable)?;
    tmpfs("tmp", &directory(top, "tmp", view.writable)?, "mode=1777")?;
    // The shared /root of the machine is not here, and what a shell leaves in its home belongs into no snapshot.
    tmpfs("root", &directory(top, "root", view.writable)?, "mode=700")?;
    file::make_dirs(Path::new("/run/lock"))?;
    if let Some(content) = resolv_conf {
        resolv::provide(&content)?;
    }
    Ok(namespace::set_hostname(HOSTNAME)?)
}

/// What of the host is to be seen, collected on the one place that is surely ours: a fresh /run.
struct Stage {
    outside: PathBuf,
    inside: PathBuf,
    /// Where it waits, seen from inside, and where it shall be.
    taken: Vec<(PathBuf, PathBuf)>,
}

impl Stage {
    fn take(&mut self, source: &Path, target: &Path, read_only: bool) -> Result<(), WorkError> {
        let number = self.taken.len().to_string();
        let at = self.outside.join(&number);
        file::make_dirs(&at)?;
        bind(source, &at)?;
        if read_only { remount_bind_ro(&at)? } else { remount_bind_noatime(&at)? }
        self.taken.push((self.inside.join(number), target.to_owned()));
        Ok(())
    }
}

/// Whether `target` is a directory to mount on, made if it was missing. A read-only view may have none: what it lacks is left out.
fn place_for(target: &Path, writable: bool) -> Result<bool, WorkError> {
    match std::fs::create_dir_all(target) {
        Err(error) if writable => Err(error).at("make the directory", target)?,
        Err(_) if !target.is_dir() => {
            tracing::debug!(target: "ast::work", path = %target.display(), "no place to mount it, left out");
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// A fresh tmpfs is at `at`.
fn tmpfs(name: &str, at: &Path, data: &str) -> Result<(), WorkError> {
    Ok(mount(name, at, "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, data)?)
}

/// `root/name` is a directory and no link; made if it is missing and `make` allows it.
fn directory(root: &Path, name: &str, make: bool) -> Result<PathBuf, WorkError> {
    let path = root.join(name);
    match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => Ok(path),
        Err(error) if make && error.kind() == std::io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o755).create(&path).at("make the directory", &path)?;
            Ok(path)
        }
        Ok(_) => Err(WorkError::NotADirectory(path)),
        Err(error) => Err(error).at("look at", &path).map_err(Into::into),
    }
}
