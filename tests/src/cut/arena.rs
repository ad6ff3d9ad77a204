//! Where states are made: a btrfs in memory, because its files share blocks.
use super::{CutError, WriteLog, record::sparse_copy};
use crate::vm::{error::at, offline::Mounted, scratch::scratch_in_memory, tool::tool};
use std::{
    fs::File,
    io::{self, Seek},
    path::{Path, PathBuf},
};

/// Bytes beyond three times the disk; all of it sparse.
const ROOM: u64 = 2 << 30;

/// Two images of the same disk: `work` holds what is confirmed, `shown` is a copy for one state, on a loop device that stays.
///
/// Copying in place (blocks shared, 0.7 ms) and keeping the loop device (3 ms less per state) is what makes a state cost 10 ms. The kernel drops the
/// device's own cache when its last user, the mount, closes it.
#[derive(Debug)]
pub(super) struct Arena {
    device: PathBuf,
    work: File,
    shown: File,
    shown_path: PathBuf,
    _mounted: Mounted,
    _dir: tempfile::TempDir,
}

impl Arena {
    pub(super) fn new(log: &WriteLog) -> Result<Arena, CutError> {
        let dir = scratch_in_memory("arena")?;
        let host = dir.path().join("host.img");
        let size = at(&log.base, std::fs::metadata(&log.base))?.len();
        at(&host, File::create(&host).and_then(|file| file.set_len(3 * size + ROOM)))?;
        tool("mkfs.btrfs", &["-q".as_ref(), "-msingle".as_ref(), "-dsingle".as_ref(), host.as_os_str()])?;
        let mounted = Mounted::new(&host, 0, 3 * size + ROOM, "nobarrier,nodatasum,noatime,discard=async")?;
        let (work, shown_path) = (mounted.path("work.img"), mounted.path("shown.img"));
        sparse_copy(&log.base, &work)?;
        sparse_copy(&work, &shown_path)?;
        let place = [log.place.0.to_string(), log.place.1.to_string()];
        let args = ["-f", "--show", "--offset", &place[0], "--sizelimit", &place[1]].map(Path::new);
        let args: Vec<&Path> = args.into_iter().chain([shown_path.as_path()]).collect();
        let device = tool("losetup", &args)?;
        let open = |path: &Path| at(path, File::options().read(true).write(true).open(path));
        Ok(Arena {
            device: String::from_utf8_lossy(&device).trim().into(),
            work: open(&work)?,
            shown: open(&shown_path)?,
            shown_path,
            _mounted: mounted,
            _dir: dir,
        })
    }

    /// The image of what is confirmed.
    pub(super) fn work(&self) -> &File {
        &self.work
    }

    /// The image that is shown, and the block device over its file system.
    pub(super) fn shown(&self) -> (&File, &Path, &Path) {
        (&self.shown, &self.shown_path, &self.device)
    }

    /// The shown image is again a copy of the confirmed one. Nothing may have it mounted.
    pub(super) fn refresh(&mut self) -> Result<(), CutError> {
        let (work, shown) = (&mut self.work, &mut self.shown);
        let copied = work.rewind().and_then(|()| shown.rewind()).and_then(|()| io::copy(work, shown));
        at(&self.shown_path, copied)?;
        Ok(())
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        if let Err(error) = tool("losetup", &["-d".as_ref(), self.device.as_os_str()]) {
            eprintln!("{error}");
        }
    }
}
