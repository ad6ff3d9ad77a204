//! Name resolution inside a working copy: the host's `/etc/resolv.conf`, without a trace in the image.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::mount::bind;
use crate::sys::{At, Result, file};

/// The file, in the host and in the image.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// An empty file that was made only to be mounted over, known by its inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placeholder {
    /// Below the copy's /etc.
    name: &'static str,
    inode: u64,
}

impl Placeholder {
    /// It is gone from `etc`, unless a package has put a real file in its place.
    pub(super) fn remove(&self, etc: &Path) -> Result<()> {
        let path = etc.join(self.name);
        let ours = fs::symlink_metadata(&path).is_ok_and(|meta| meta.ino() == self.inode && meta.len() == 0);
        if ours { file::remove_if_exists(&path) } else { Ok(()) }
    }
}

/// What the host resolves names with.
pub(super) fn host() -> Result<Option<Vec<u8>>> {
    file::read_if_exists(Path::new(RESOLV_CONF))
}

/// An empty `/etc/resolv.conf` is in `etc` if there was nothing of that name, so that something can be mounted over it.
pub(super) fn make_placeholder(etc: &Path) -> Result<Option<Placeholder>> {
    let path = etc.join("resolv.conf");
    match File::create_new(&path) {
        Ok(made) => {
            let inode = made.metadata().at("read", &path)?.ino();
            Ok(Some(Placeholder { name: "resolv.conf", inode }))
        }
        // What is there, even a link that leads nowhere, stays.
        Err(_) if fs::symlink_metadata(&path).is_ok() => Ok(None),
        Err(error) => Err(error).at("make the file", &path),
    }
}

/// Programs in the root that the calling thread sees resolve names as `content` says; `/run` is a fresh tmpfs of ours.
pub(super) fn provide(content: &[u8]) -> Result<()> {
    let copy = Path::new("/run/resolv.conf.ast");
    // Not durable, nor does it need to be: it is on a tmpfs that ends with the command.
    file::replace(copy, content)?;
    let target = follow(Path::new(RESOLV_CONF));
    if target.is_file() {
        return bind(copy, &target);
    }
    // A link into /run is usual (systemd-resolved): there we may make the file itself.
    if target.starts_with("/run") && fs::symlink_metadata(&target).is_err() {
        if let Some(dir) = target.parent() {
            file::make_dirs(dir)?;
        }
        file::replace(&target, content)?;
    }
    Ok(())
}

/// Where a chain of links ends, whether or not something is there. At most 16 links.
fn follow(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..16 {
        let Ok(target) = fs::read_link(&path) else { break };
        path = normal(&path.parent().unwrap_or(Path::new("/")).join(target));
    }
    path
}

/// `path` without `.` and `..`, by its letters.
fn normal(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir => {
                clean.pop();
            }
            std::path::Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_by_their_letters() {
        let dir = tempfile::tempdir().expect("tempdir");
        std::os::unix::fs::symlink("../run/x/stub.conf", dir.path().join("resolv.conf")).expect("link");
        let end = follow(&dir.path().join("resolv.conf"));
        assert_eq!(end, dir.path().parent().expect("parent").join("run/x/stub.conf"));
    }

    #[test]
    fn a_placeholder_goes_and_a_real_file_stays() {
        let dir = tempfile::tempdir().expect("tempdir");
        let placeholder = make_placeholder(dir.path()).expect("made").expect("nothing was there");
        assert!(make_placeholder(dir.path()).expect("looked").is_none(), "it is there now");
        placeholder.remove(dir.path()).expect("removed");
        assert!(!dir.path().join("resolv.conf").exists());

        let placeholder = make_placeholder(dir.path()).expect("made").expect("nothing was there");
        file::replace(&dir.path().join("resolv.conf"), b"nameserver 127.0.0.1\n").expect("a package's");
        placeholder.remove(dir.path()).expect("left");
        assert!(dir.path().join("resolv.conf").exists());
    }
}
