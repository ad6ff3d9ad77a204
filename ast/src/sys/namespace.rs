//! Private namespaces for one command, and the guarantee that it dies with us.
//!
//! A *thread* leaves its namespaces and builds its mounts with ordinary code (nothing here needs to be safe between
//! `fork` and `exec` for that), then starts a command in them. Only what must happen inside the new process is done
//! there, by plain system calls: it becomes init of the PID namespace, mounts its `/proc`, and forks the command.
//! When the thread dies, however it dies, the kernel kills init, with it every process of the namespace, and with the
//! last process the mounts go. So a SIGKILL of the program leaves nothing (R2).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::fcntl::OFlag;
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sched::CloneFlags;

use super::{At, Result};

/// The calling thread has mounts, IPC, host name, root and working directory of its own; what it starts from now on is in
/// a new PID namespace. The thread can start no other threads after this, and should end soon after its command.
pub fn unshare() -> Result<()> {
    let flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_FS;
    nix::sched::unshare(flags).at("leave the namespaces of", Path::new("/proc/thread-self"))
}

/// The calling thread has mounts of its own, which nobody else sees and which end with it. Others learn of them through `/proc` only if it
/// is the first thread of its process.
pub fn own_mounts() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).at("leave the mounts of", Path::new("/proc/thread-self"))?;
    super::mount::make_private()
}

/// `new_root`, which is a mount, is `/` of the calling thread's mount namespace, and nothing of the old one is reachable by path.
pub fn pivot_root(new_root: &Path) -> Result<()> {
    const SWITCH: &str = "make the root directory";
    // pivot_root(2), "pivot_root(".", ".")": the old root is stacked on the new one and taken off it again, so no
    // directory is needed for it.
    nix::unistd::chdir(new_root).at(SWITCH, new_root)?;
    nix::unistd::pivot_root(".", ".").at(SWITCH, new_root)?;
    umount2(".", MntFlags::MNT_DETACH).at("let go of the old root under", new_root)?;
    nix::unistd::chdir("/").at(SWITCH, new_root)
}

/// The calling thread's UTS namespace has this host name.
pub fn set_hostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).at("set the host name in", Path::new("/proc/thread-self/ns/uts"))
}

/// What must live in the parent until the command was spawned: its end is how the child sees that the parent is gone.
#[derive(Debug)]
#[must_use = "drop it after spawn"]
pub struct ParentAlive {
    _held: OwnedFd,
}

/// The command, once spawned, is killed when the calling thread dies.
pub fn die_with_parent(command: &mut Command) -> io::Result<ParentAlive> {
    prepare(command, |_| Ok(()))
}

/// The command, once spawned, is the child of a new init: the process that `spawn` returns. That one mounts `/proc`,
/// ends with the command's status (128 + the signal that killed it), and all that is left in the namespace ends with it.
///
/// The calling thread must have called [`unshare`], and have `/proc` as a directory in its root.
pub fn as_child_of_init(command: &mut Command) -> io::Result<ParentAlive> {
    prepare(command, |alive| {
        mount_proc()?;
        // SAFETY: fork in a process that has a single thread; both sides only make system calls until exec or _exit.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            child => reap_until(child, alive),
        }
    })
}

/// Puts the death signal, the test for a parent that died before it was set, and `then` between fork and exec.
fn prepare(command: &mut Command, then: impl Fn(RawFd) -> io::Result<()> + Send + Sync + 'static) -> io::Result<ParentAlive> {
    let (alive, ours) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    let ours_number = ours.as_raw_fd();
    // SAFETY: between fork and exec the closure makes system calls only; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // Our copy of the parent's end has to go, or the pipe would never look closed.
            libc::close(ours_number);
            if parent_is_gone(alive.as_raw_fd()) {
                libc::_exit(1);
            }
            then(alive.as_raw_fd())
        });
    }
    Ok(ParentAlive { _held: ours })
}

/// Whether the other end of the pipe has no holder left.
fn parent_is_gone(alive: RawFd) -> bool {
    let mut poll = libc::pollfd { fd: alive, events: 0, revents: 0 };
    // SAFETY: one initialised structure, and its count.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & libc::POLLHUP != 0
}

/// `/proc` of this PID namespace, its switches for the whole machine read-only: package scripts are not to turn them.
fn mount_proc() -> io::Result<()> {
    const HARMLESS: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let mount = |source: &CStr, target: &CStr, flags| {
        // SAFETY: all strings are zero-terminated and live through the call; no data is passed.
        let status = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), c"proc".as_ptr(), flags, std::ptr::null()) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    mount(c"proc", c"/proc", HARMLESS)?;
    for switches in [c"/proc/sys", c"/proc/sysrq-trigger"] {
        // A kernel built without one of them has nothing to protect.
        if mount(switches, switches, libc::MS_BIND).is_ok() {
            mount(switches, switches, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY | HARMLESS)?;
        }
    }
    Ok(())
}

/// The life of init: wait for everything, end with `child`. Never returns.
fn reap_until(child: libc::pid_t, alive: RawFd) -> ! {
    // SAFETY: system calls on plain numbers, and a status that lives on the stack. All descriptors above the streams go,
    // so that spawn's own pipe is held by the command alone and reports its exec.
    unsafe {
        libc::close(alive);
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        loop {
            let mut status = 0;
            let ended = libc::waitpid(-1, &raw mut status, 0);
            if ended == child {
                if libc::WIFEXITED(status) {
                    libc::_exit(libc::WEXITSTATUS(status));
                }
                if libc::WIFSIGNALED(status) {
                    libc::_exit(128 + libc::WTERMSIG(status));
                }
            } else if ended == -1 && *libc::__errno_location() == libc::ECHILD {
                libc::_exit(1);
            }
        }
    }
}
