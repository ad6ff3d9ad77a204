//! One writer at a time, by `flock`: it ends with the process, however that ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{At, SysError};

/// Pause between two tries of a waiting [`Lock::acquire`].
const POLL: Duration = Duration::from_millis(50);

/// How long to wait for another writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    Up(Duration),
}

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("another ast is at work (it holds {}{})", path.display(), holder.map(|p| format!(", process {p}")).unwrap_or_default())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Process that wrote itself into the file last, if that can be read.
        holder: Option<u32>,
    },
    /// The file cannot be locked at all.
    #[error(transparent)]
    Sys(#[from] SysError),
}

/// The lock, held as long as this value lives.
#[must_use = "the lock ends when this is dropped"]
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// This process holds the lock at `path`, and the file tells its number, if there is room for it.
    ///
    /// If interrupted: the kernel ends the lock with the process.
    /// Refuses: while another process holds it, after `wait`.
    pub fn acquire(path: &Path, wait: Wait) -> Result<Self, LockError> {
        const ACTION: &str = "lock";
        let until = Instant::now()
            + match wait {
                Wait::No => Duration::ZERO,
                Wait::Up(time) => time,
            };
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path).at(ACTION, path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(held) => {
                    use std::os::unix::fs::FileExt;
                    // Who holds it is a courtesy for the next one's message; the lock is the flock, and that a full disk has no room for
                    // the courtesy must not keep a good start from being promoted.
                    drop(held.set_len(0).and_then(|()| held.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)));
                    return Ok(Self { _file: held });
                }
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                    if Instant::now() >= until {
                        let holder =
                            super::file::read(path).ok().and_then(|b| String::from_utf8(b).ok()).and_then(|t| t.trim().parse().ok());
                        return Err(LockError::Held { path: path.to_owned(), holder });
                    }
                    file = back;
                    std::thread::sleep(POLL);
                }
                Err((_, errno)) => return Err(SysError { action: ACTION, path: path.to_owned(), source: errno.into() }.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s7_a_second_writer_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("lock");
        let first = Lock::acquire(&path, Wait::No).expect("free");
        let error = Lock::acquire(&path, Wait::Up(Duration::from_millis(60))).expect_err("held");
        assert!(matches!(&error, LockError::Held { holder: Some(pid), .. } if *pid == std::process::id()), "{error}");
        drop(first);
        drop(Lock::acquire(&path, Wait::No).expect("free again"));
    }

    #[test]
    fn s10_a_full_disk_does_not_keep_the_lock_from_being_taken() {
        drop(Lock::acquire(Path::new("/dev/full"), Wait::Up(Duration::from_secs(10))).expect("whatever can be written into it"));
    }
}
