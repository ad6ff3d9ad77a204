//! A mounted partition of an image.
use crate::vm::{VmError, error::at, scratch::scratch, tool::tool};
use nix::mount::MsFlags;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// A partition is mounted at a directory of its own, which only root can enter; unmounted on drop.
#[derive(Debug)]
pub struct Mounted {
    dir: tempfile::TempDir,
    mounted: bool,
}

impl Mounted {
    /// `len` bytes of `image` from `start` on are mounted through a loop device, which goes away with the mount.
    pub(crate) fn new(image: &Path, start: u64, len: u64, options: &str) -> Result<Mounted, VmError> {
        let place = format!("loop,offset={start},sizelimit={len}");
        Mounted::device(image, &if options.is_empty() { place } else { format!("{place},{options}") })
    }

    /// A block device is mounted.
    pub(crate) fn device(device: &Path, options: &str) -> Result<Mounted, VmError> {
        let dir = scratch("mount")?;
        tool("mount", &["-o".as_ref(), options.as_ref(), device.as_os_str(), dir.path().as_os_str()])?;
        Ok(Mounted { dir, mounted: true })
    }

    /// A block device with a btrfs is mounted by the system call alone, for those who mount thousands of times; of the general options only `ro` is known.
    pub(crate) fn btrfs(device: &Path, options: &str) -> Result<Mounted, VmError> {
        let dir = scratch("mount")?;
        let (read_only, data): (Vec<&str>, Vec<&str>) = options.split(',').partition(|option| *option == "ro");
        let flags = if read_only.is_empty() { MsFlags::empty() } else { MsFlags::MS_RDONLY };
        let mounted = nix::mount::mount(Some(device), dir.path(), Some("btrfs"), flags, Some(data.join(",").as_str()));
        at(device, mounted.map_err(Into::into))?;
        Ok(Mounted { dir, mounted: true })
    }

    /// The root of the mounted file system.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A file of it; a leading `/` is allowed.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        let relative = relative.as_ref();
        self.root().join(relative.strip_prefix("/").unwrap_or(relative))
    }

    /// Everything is on the image, and the mount is gone.
    pub fn unmount(mut self) -> Result<(), VmError> {
        self.detach()
    }

    fn detach(&mut self) -> Result<(), VmError> {
        if !std::mem::replace(&mut self.mounted, false) {
            return Ok(());
        }
        let mut tries = 0;
        loop {
            match nix::mount::umount(self.dir.path()) {
                // Something just looked at it; `unmount` by name would fail the test for nothing.
                Err(nix::errno::Errno::EBUSY) if tries < 50 => {
                    tries += 1;
                    std::thread::sleep(Duration::from_millis(20));
                }
                result => return at(self.dir.path(), result.map_err(Into::into)),
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("cannot unmount: {error}");
            // The directory is removed with everything in it: never while something is mounted there.
            nix::mount::umount2(self.dir.path(), nix::mount::MntFlags::MNT_DETACH).ok();
        }
    }
}
