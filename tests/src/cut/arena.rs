//! Where states are made: a btrfs in memory, because its files share blocks.
use super::{CutError, WriteLog, record::sparse_copy};
use crate::vm::{error::at, offline::Mounted, scratch::scratch_in_memory, tool::tool};
use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use std::{
    fs::File,
    io::{self, Seek},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Bytes beyond three times the disk; all of it sparse.
const ROOM: u64 = 2 << 30;

/// How long the file system of a state may take to be gone. It goes with its last mount; more than that is somebody's copy of our mounts.
const GONE: Duration = Duration::from_secs(10);
/// Bytes at the start of the file system in which programs look at the device itself: boot block and first superblock.
const HEAD: usize = 1 << 20;

/// Two images of the same disk: `work` holds what is confirmed, `shown` is a copy for one state, on a loop device that stays.
///
/// Copying in place (blocks shared, 0.7 ms) and keeping the loop device (3 ms less per state) is what makes a state cheap. Kept with it would be the
/// kernel's cache of that device, for as long as anybody at all has it open (tools that look for a file system open every block device), and a
/// file system that anybody's copy of our mounts keeps alive: [`Arena::settled`] sees to both.
#[derive(Debug)]
pub(super) struct Arena {
    // Open as long as the arena: with it and the last mount the device goes, however this process ends.
    device: File,
    device_path: PathBuf,
    offset: u64,
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
        let device_path = PathBuf::from(String::from_utf8_lossy(&device).trim());
        let open = |path: &Path| at(path, File::options().read(true).write(true).open(path));
        let device = open(&device_path)?;
        tool("losetup", &["-d".as_ref(), device_path.as_os_str()])?;
        Ok(Arena {
            device,
            device_path,
            offset: log.place.0,
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
        (&self.shown, &self.shown_path, &self.device_path)
    }

    /// The shown image is again a copy of the confirmed one.
    ///
    /// Refuses: while the file system of the state before lives anywhere.
    pub(super) fn refresh(&mut self) -> Result<(), CutError> {
        let deadline = Instant::now() + GONE;
        let exclusive = || File::options().read(true).custom_flags(OFlag::O_EXCL.bits()).open(&self.device_path);
        // A mount anywhere, in whatever namespace, claims the device.
        while exclusive().is_err() {
            if Instant::now() > deadline {
                return Err(CutError::Busy { device: self.device_path.clone() });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let (work, shown) = (&mut self.work, &mut self.shown);
        let copied = work.rewind().and_then(|()| shown.rewind()).and_then(|()| io::copy(work, shown));
        at(&self.shown_path, copied)?;
        Ok(())
    }

    /// The device shows what the image holds: what anybody read from it before is forgotten.
    pub(super) fn settled(&self) -> Result<(), CutError> {
        let (mut device, mut image) = (vec![0; HEAD], vec![0; HEAD]);
        let deadline = Instant::now() + GONE;
        loop {
            let forgotten =
                self.device.sync_all().and_then(|()| Ok(posix_fadvise(&self.device, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?));
            at(&self.device_path, forgotten.and_then(|()| self.device.read_exact_at(&mut device, 0)))?;
            at(&self.shown_path, self.shown.read_exact_at(&mut image, self.offset))?;
            if device == image {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(CutError::Busy { device: self.device_path.clone() });
            }
        }
    }
}
