//! The `/dev` of a working copy: what any program expects, no device of the machine.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use crate::sys::mount::{MsFlags, bind, mount};
use crate::sys::{At, Result};

/// Nodes that are taken from the host by a bind mount (making nodes is forbidden in many containers).
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links to what a process has open (systemd makes the same).
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// `dev` is a minimal /dev with its own pseudo-terminals; the caller's terminal, if given, is its console.
pub(super) fn build(dev: &Path, terminal: Option<&Path>) -> Result<()> {
    mount("dev", dev, "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, "mode=755,size=4m")?;
    for name in NODES {
        node(&Path::new("/dev").join(name), &dev.join(name))?;
    }
    if let Some(terminal) = terminal {
        node(terminal, &dev.join("console"))?;
    }
    for (target, name) in LINKS {
        symlink(target, dev.join(name)).at("make the link", &dev.join(name))?;
    }
    let dir = |name: &str| {
        let path = dev.join(name);
        DirBuilder::new().mode(0o755).create(&path).at("make the directory", &path).map(|()| path)
    };
    let harmless = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount("devpts", &dir("pts")?, "devpts", harmless, "newinstance,ptmxmode=0666,mode=620")?;
    mount("shm", &dir("shm")?, "tmpfs", harmless | MsFlags::MS_NODEV, "mode=1777")
}

/// The device `from` is also at `to`.
fn node(from: &Path, to: &Path) -> Result<()> {
    File::create(to).at("make the file", to)?;
    bind(from, to)
}
