//! At most [`SLOTS`] machines at a time, over all processes: more emulators than cores make every time-out a coin toss.
use super::{VmError, error::at};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use std::{
    fs::File,
    path::PathBuf,
    sync::Mutex,
    thread::{self, ThreadId},
};

/// Threads of this process that drive a machine, with its name.
static DRIVERS: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// One core each on the smallest machine that the tests are for. A machine has one CPU, and so uses one core.
pub const SLOTS: usize = 2;

/// Held while a machine lives.
#[derive(Debug)]
pub struct VmLock {
    _file: Option<Flock<File>>,
    owner: ThreadId,
}

/// The files that machines lock, one a slot.
pub fn lock_path(slot: usize) -> PathBuf {
    std::env::temp_dir().join(format!("ast-vm.{slot}.lock"))
}

impl VmLock {
    /// Waits until there is a free slot.
    /// Refuses: when this thread drives a machine already, since that wait might never end.
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
        for slot in 0..SLOTS {
            if let Some(held) = lock_slot(slot, FlockArg::LockExclusiveNonblock)? {
                lock._file = Some(held);
                return Ok(lock);
            }
        }
        // The system keeps a queue of those who wait; whoever only looks now and then never gets it.
        let slot = std::process::id() as usize % SLOTS;
        eprintln!("{name}: waiting for another machine to end ({})", lock_path(slot).display());
        lock._file = lock_slot(slot, FlockArg::LockExclusive)?;
        Ok(lock)
    }
}

/// The slot is locked, or `None`: somebody else has it, and `how` does not wait.
fn lock_slot(slot: usize, how: FlockArg) -> Result<Option<Flock<File>>, VmError> {
    let path = lock_path(slot);
    let mut file = at(&path, File::options().create(true).truncate(false).write(true).open(&path))?;
    loop {
        match Flock::lock(file, how) {
            Ok(held) => return Ok(Some(held)),
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((back, Errno::EINTR)) => file = back,
            Err((_, e)) => return at(&path, Err(e.into())),
        }
    }
}

impl Drop for VmLock {
    fn drop(&mut self) {
        let mut drivers = DRIVERS.lock().unwrap_or_else(|e| e.into_inner());
        drivers.retain(|(id, _)| *id != self.owner);
    }
}
