//! Evidence of a failed test: console log, disks and the command to start them again.
use super::{VmError, error::at, tool::tool};
use crate::lab::cache::cache_dir;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Places kept; the oldest go first. Images are sparse, but a gigabyte each at worst.
const KEPT: usize = 12;

/// Copies the log and the images to a new folder of the cache's `kept/` and returns it. The oldest folders beyond a dozen are removed.
pub fn keep(name: &str, log: &Path, images: &[&Path], command: &str) -> Result<PathBuf, VmError> {
    let kept = cache_dir().join("kept");
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let place = kept.join(format!("{seconds}-{name}"));
    at(&place, fs::create_dir_all(&place))?;
    at(log, fs::copy(log, place.join("console.log")))?;
    let note = place.join("command.txt");
    at(&note, fs::write(&note, format!("{command}\n")))?;
    for image in images {
        let args: [OsString; 5] = ["--sparse=always".into(), "--reflink=auto".into(), "--".into(), (*image).into(), place.clone().into()];
        tool("cp", &args)?;
    }
    let mut places: Vec<PathBuf> = at(&kept, fs::read_dir(&kept))?.flatten().map(|entry| entry.path()).collect();
    places.sort();
    for old in places.iter().rev().skip(KEPT) {
        fs::remove_dir_all(old).ok();
    }
    Ok(place)
}
