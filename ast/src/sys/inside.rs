//! Opening files of another root: links lead where they would with that root as `/`, and never out of it (R7).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::{At, Result};

/// Lookups of one path at most. The kernel gives one up with EAGAIN when, while it passes a `..`, anything is renamed or mounted
/// anywhere; see openat2(2). Under a storm of renames it takes a handful.
const LOOKUPS: u32 = 10_000;

/// `path` inside `root`, open for reading; absolute links and `..` stay below `root`.
pub fn open_in(root: &Path, path: &Path) -> Result<File> {
    let dir = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at("open", root)?;
    open_at(&dir, path, OFlag::O_RDONLY).at("open", &root.join(path))
}

/// The same below a directory that is open already, with other flags.
pub fn open_at(root: &impl AsFd, path: &Path, flags: OFlag) -> nix::Result<File> {
    look_up(root, path, flags, ResolveFlag::RESOLVE_IN_ROOT)
}

/// The directory `path` below a directory that is open already, for its place only. Refuses: where a link is on the way.
pub fn dir_at(root: &impl AsFd, path: &Path) -> nix::Result<File> {
    look_up(root, path, OFlag::O_PATH | OFlag::O_DIRECTORY, ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS)
}

fn look_up(root: &impl AsFd, path: &Path, flags: OFlag, resolve: ResolveFlag) -> nix::Result<File> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    for _ in 1..LOOKUPS {
        match openat2(root.as_fd(), path, how) {
            Err(Errno::EAGAIN) => std::thread::yield_now(),
            done => return done.map(File::from),
        }
    }
    openat2(root.as_fd(), path, how).map(File::from)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "throw-away files")]
mod tests {
    use std::fs;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A root was once taken for one without an init, because somebody renamed a file elsewhere.
    #[test]
    fn b9_renames_elsewhere_hide_no_file() {
        let dir = tempfile::tempdir().expect("dir");
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("usr/lib")).expect("dirs");
        fs::write(root.join("usr/lib/init"), "x").expect("written");
        std::os::unix::fs::symlink("../usr/../usr/../usr/lib/init", root.join("init")).expect("linked");
        let (one, two, done) = (dir.path().join("1"), dir.path().join("2"), AtomicBool::new(false));
        fs::create_dir(&one).expect("dir");
        let (mut seen, end) = (0, std::time::Instant::now() + std::time::Duration::from_secs(1));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    nix::fcntl::renameat(nix::fcntl::AT_FDCWD, &one, nix::fcntl::AT_FDCWD, &two).expect("there");
                    nix::fcntl::renameat(nix::fcntl::AT_FDCWD, &two, nix::fcntl::AT_FDCWD, &one).expect("and back");
                }
            });
            let root = File::open(&root).expect("a directory");
            let failed = std::iter::repeat_with(|| open_at(&root, Path::new("/init"), OFlag::O_PATH))
                .inspect(|_| seen += 1)
                .take_while(|_| std::time::Instant::now() < end)
                .find(nix::Result::is_err);
            done.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "lookup {seen}: {failed:?}");
        });
        assert!(seen > 1000, "{seen} lookups");
    }
}
