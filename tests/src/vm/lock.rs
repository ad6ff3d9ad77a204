//! One machine at a time, over all processes: two emulators on two cores make every time-out a coin toss.
use super::{VmError, error::at};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Mutex,
    thread::{self, ThreadId},
};

/// Threads of this process that drive a machine, with its name.
static DRIVERS: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// Held while a machine lives. An ancestor process that holds the lock (`flock FILE cargo test`) lends it.
#[derive(Debug)]
pub struct VmLock {
    /// `None` when an ancestor lends it.
    _file: Option<Flock<File>>,
    owner: ThreadId,
}

/// The file all parts of the lab lock.
pub fn lock_path() -> PathBuf {
    std::env::temp_dir().join("ast-vm.lock")
}

impl VmLock {
    /// Waits until no other machine runs.
    /// Refuses: when this thread drives one already, since that wait would never end.
    pub fn take(name: &str) -> Result<VmLock, VmError> {
        let owner = thread::current().id();
        {
            let mut drivers = DRIVERS.lock().unwrap_or_else(|e| e.into_inner());
            if let Some((_, other)) = drivers.iter().find(|(id, _)| *id == owner) {
                return Err(VmError::AlreadyRunning(other.clone()));
            }
            drivers.push((owner, name.to_owned()));
        }
        // From here on the drop forgets this thread, also when the wait fails.
        let mut lock = VmLock { _file: None, owner };
        let path = lock_path();
        let mut file = at(&path, File::options().create(true).truncate(false).write(true).open(&path))?;
        let mut how = FlockArg::LockExclusiveNonblock;
        loop {
            match Flock::lock(file, how) {
                Ok(held) => {
                    lock._file = Some(held);
                    return Ok(lock);
                }
                Err((back, Errno::EWOULDBLOCK)) => {
                    let holders = holders(&path);
                    if holders.iter().any(|pid| is_ancestor(*pid)) {
                        return Ok(lock);
                    }
                    eprintln!("{name}: waiting for the machine of process {holders:?} ({})", path.display());
                    // The system keeps a queue of those who wait; whoever only looks now and then never gets it.
                    (file, how) = (back, FlockArg::LockExclusive);
                }
                Err((back, Errno::EINTR)) => file = back,
                Err((_, e)) => return at(&path, Err(e.into())),
            }
        }
    }
}

impl Drop for VmLock {
    fn drop(&mut self) {
        let mut drivers = DRIVERS.lock().unwrap_or_else(|e| e.into_inner());
        drivers.retain(|(id, _)| *id != self.owner);
    }
}

/// Processes that hold a flock on `path`, from /proc/locks (`1: FLOCK  ADVISORY  WRITE 123 fe:00:4711 0 EOF`).
fn holders(path: &Path) -> Vec<u32> {
    let Ok(inode) = fs::metadata(path).map(|m| m.ino()) else {
        return Vec::new();
    };
    let text = fs::read_to_string("/proc/locks").unwrap_or_default();
    text.lines()
        .filter(|line| line.contains("FLOCK") && !line.contains("->"))
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(4);
            let pid = words.next()?.parse().ok()?;
            (words.next()?.rsplit(':').next()?.parse() == Ok(inode)).then_some(pid)
        })
        .collect()
}

/// Is `pid` a parent of this process, or a parent's parent?
fn is_ancestor(pid: u32) -> bool {
    let mut current = std::os::unix::process::parent_id();
    while current > 1 {
        if current == pid {
            return true;
        }
        let stat = fs::read_to_string(format!("/proc/{current}/stat")).unwrap_or_default();
        // The name in brackets may hold anything; the parent is the second word after it.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        current = parent.unwrap_or(0);
    }
    false
}
