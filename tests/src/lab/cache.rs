//! Where the lab keeps what it makes, and the names it gives by content.

use super::error::At as _;
use super::{Error, Result};
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The directory of this crate's sources: recipes, overlays, the lock file.
pub fn tests_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The top of the project's sources.
pub fn project_dir() -> PathBuf {
    tests_dir().parent().map(Path::to_owned).unwrap_or_default()
}

/// The cache: `$AST_LAB_CACHE`, else `tests/.cache`. It may be deleted at any time but while in use.
pub fn cache_dir() -> PathBuf {
    match std::env::var_os("AST_LAB_CACHE") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => tests_dir().join(".cache"),
    }
}

/// Holds a name in the cache against every other process of the lab; released when dropped.
#[derive(Debug)]
pub struct CacheLock(#[allow(dead_code)] nix::fcntl::Flock<File>);

impl CacheLock {
    /// The lock `name` is held by this process alone; waits for it.
    pub fn take(cache: &Path, name: &str) -> Result<Self> {
        fs::create_dir_all(cache).at(cache)?;
        let path = cache.join(format!("{name}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
        match nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive) {
            Ok(lock) => Ok(Self(lock)),
            Err((_, errno)) => Err(Error::Io { path, source: errno.into() }),
        }
    }
}

/// A sha256 over everything that something is made from.
#[derive(Debug, Clone, Default)]
pub struct Key(Sha256);

impl Key {
    /// A key of nothing yet; `kind` keeps keys of different things apart.
    pub fn new(kind: &str) -> Self {
        Self::default().with(kind)
    }

    /// With one more part; lengths are hashed too, so parts cannot run into each other.
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update((part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// With every file below `path`: name, kind, executable bit and content. A missing path counts as empty.
    pub fn add_tree(mut self, path: &Path) -> Result<Self> {
        for entry in walk(path)? {
            let meta = entry.symlink_metadata().at(&entry)?;
            let name = entry.strip_prefix(path).unwrap_or(&entry);
            self = self.with(name.as_os_str().as_bytes());
            if meta.is_symlink() {
                self = self.with(fs::read_link(&entry).at(&entry)?.as_os_str().as_bytes());
            } else if meta.is_file() {
                self = self.with([u8::from(meta.permissions().mode() & 0o111 != 0)]).with(fs::read(&entry).at(&entry)?);
            }
        }
        Ok(self)
    }

    /// The first 16 hex digits: enough for a cache.
    pub fn name(self) -> String {
        hex(&self.0.finalize())[..16].to_owned()
    }
}

/// Everything below `path` (itself too, if it is no directory), sorted by name; links are not followed.
pub fn walk(path: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(next) = open.pop() {
        let Ok(meta) = next.symlink_metadata() else { continue };
        if meta.is_dir() {
            for entry in fs::read_dir(&next).at(&next)? {
                open.push(entry.at(&next)?.path());
            }
        }
        if next != path || !meta.is_dir() {
            found.push(next);
        }
    }
    found.sort();
    Ok(found)
}

/// The sha256 of a file, in hex.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).at(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = file.read(&mut buffer).at(path)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `make` has filled a directory that is at `target` from now on; an existing one is taken as it is.
///
/// If interrupted: a directory `NAME.new` remains, which the next call throws away.
pub fn once(target: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    if target.is_dir() {
        return Ok(target.to_owned());
    }
    let name = target.file_name().unwrap_or(OsStr::new("unnamed")).to_string_lossy().into_owned();
    let parent = target.parent().map(Path::to_owned).unwrap_or_default();
    fs::create_dir_all(&parent).at(&parent)?;
    let _lock = CacheLock::take(&parent, &format!(".{name}"))?;
    if target.is_dir() {
        return Ok(target.to_owned());
    }
    let new = parent.join(format!("{name}.new"));
    remove_tree(&new)?;
    fs::create_dir_all(&new).at(&new)?;
    make(&new)?;
    fs::rename(&new, target).at(target)?;
    let lock = parent.join(format!(".{name}.lock"));
    fs::remove_file(&lock).at(&lock)?;
    Ok(target.to_owned())
}

/// What has just been used or made at `target` counts as used now, and of those that differ from it in their key only the newest few are left:
/// each change of the sources makes all images anew, and after some days of work their disk was full.
pub fn keep_recent(target: &Path) -> Result<()> {
    /// Kept of one kind: what some checkouts beside each other need.
    const KEPT: usize = 4;
    /// Not taken, whatever its place: a machine may run on it.
    const IN_USE: Duration = Duration::from_secs(3 * 3600);
    File::open(target).and_then(|dir| dir.set_modified(SystemTime::now())).at(target)?;
    let family = |path: &Path| path.file_name().and_then(|name| Some(name.to_str()?.rsplit_once('-')?.0.to_owned()));
    let (Some(parent), Some(wanted)) = (target.parent(), family(target)) else { return Ok(()) };
    let mut alike = Vec::new();
    for entry in fs::read_dir(parent).at(parent)? {
        let path = entry.at(parent)?.path();
        if path.is_dir() && path.extension().is_none() && family(&path).as_ref() == Some(&wanted) {
            let used = fs::metadata(&path).and_then(|meta| meta.modified()).at(&path)?;
            alike.push((used, path));
        }
    }
    alike.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
    for (_, old) in alike.into_iter().skip(KEPT).filter(|(used, _)| used.elapsed().is_ok_and(|since| since > IN_USE)) {
        remove_tree(&old)?;
    }
    Ok(())
}

/// Nothing is at `path` any more. Only ever called below the cache.
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.at(path),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_of_one_kind_are_left_and_nothing_that_may_be_in_use() {
        let dir = tempfile::tempdir().unwrap();
        let make = |name: &str, hours: u64| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            File::open(&path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(hours * 3600)).unwrap();
            path
        };
        for hours in 4..10 {
            make(&format!("efi214-v1-{hours}"), hours);
        }
        make("efi214-v2-1", 99);
        make("efi214-v1-busy", 2);
        let new = make("efi214-v1-new", 50);
        keep_recent(&new).unwrap();
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["efi214-v1-4", "efi214-v1-5", "efi214-v1-busy", "efi214-v1-new", "efi214-v2-1"]);
    }
}
