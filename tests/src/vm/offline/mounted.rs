//! A mounted partition of an image.
use crate::vm::{VmError, error::at, tool::tool};
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
    pub(crate) fn new(
        image: &Path,
        start: u64,
        len: u64,
        options: &str,
    ) -> Result<Mounted, VmError> {
        let base = std::env::temp_dir();
        let dir = at(
            &base,
            tempfile::Builder::new()
                .prefix("ast-mount-")
                .tempdir_in(&base),
        )?;
        // Discards would go through to the image, and a write log would say zeroes that a disk need not give.
        let mut all = format!("loop,offset={start},sizelimit={len}");
        if !options.is_empty() {
            all = format!("{all},{options}");
        }
        tool(
            "mount",
            &[
                "-o".as_ref(),
                all.as_ref(),
                image.as_os_str(),
                dir.path().as_os_str(),
            ],
        )?;
        Ok(Mounted { dir, mounted: true })
    }

    /// The root of the mounted file system.
    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A file of it; a leading `/` is allowed.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        let relative = relative.as_ref();
        self.root()
            .join(relative.strip_prefix("/").unwrap_or(relative))
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
