//! Folders of one process for sockets, mounts and images; what a killed process left behind is cleared by the next one.
use super::{VmError, error::at, tool::tool};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};
use tempfile::TempDir;

/// All names begin so; the process's id follows.
const PREFIX: &str = "ast-lab-";
/// Memory, if there is such a place: images that live for seconds need no disk.
const MEMORY: &str = "/dev/shm";

static SWEEP: Once = Once::new();

/// An empty folder that only root can enter, gone with the returned value. The first call of a process clears what dead ones left.
pub fn scratch(kind: &str) -> Result<TempDir, VmError> {
    make(&std::env::temp_dir(), kind)
}

/// As [`scratch`], in memory where the host has such a place.
pub fn scratch_in_memory(kind: &str) -> Result<TempDir, VmError> {
    let base = if Path::new(MEMORY).is_dir() { MEMORY.into() } else { std::env::temp_dir() };
    make(&base, kind)
}

fn make(base: &Path, kind: &str) -> Result<TempDir, VmError> {
    SWEEP.call_once(|| [&std::env::temp_dir(), Path::new(MEMORY)].into_iter().for_each(sweep));
    let prefix = format!("{PREFIX}{}-{kind}-", std::process::id());
    at(base, tempfile::Builder::new().prefix(&prefix).tempdir_in(base))
}

/// Unmounts and removes folders of processes that are dead; their loop devices go with the mounts, or are detached by name.
fn sweep(base: &Path) {
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        let Some(owner) = owner.filter(|pid| !Path::new("/proc").join(pid.to_string()).exists()) else { continue };
        eprintln!("clearing what process {owner} left: {}", entry.path().display());
        let mounts = mounts_below(&entry.path());
        for mount in mounts.iter().rev() {
            detach_loops(mount);
            nix::mount::umount2(mount, nix::mount::MntFlags::MNT_DETACH).ok();
        }
        // Never while something is mounted below: it would be emptied.
        if mounts_below(&entry.path()).is_empty() {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

/// In the order they were mounted.
fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).filter(|mount| mount.starts_with(dir)).collect()
}

/// Detaches loop devices whose file lies directly in `dir`.
fn detach_loops(dir: &Path) {
    for file in fs::read_dir(dir).into_iter().flatten().flatten().filter(|e| e.path().is_file()) {
        let devices = tool("losetup", &["-nO".as_ref(), "NAME".as_ref(), "-j".as_ref(), file.path().as_os_str()]).unwrap_or_default();
        for device in String::from_utf8_lossy(&devices).split_whitespace() {
            tool("losetup", &["-d", device]).ok();
        }
    }
}
