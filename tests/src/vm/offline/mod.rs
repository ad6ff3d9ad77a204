//! A disk of a machine that is off: its partitions, its files, its bytes, and ways to damage them.
//!
//! The image (raw or qcow2, overlays too) is shown as a raw file by `qemu-storage-daemon` over FUSE; partitions are mounted from it by offset, since
//! the host's kernel need not know partition tables. FAT is read and written with mtools, since the host's kernel need not know FAT.

mod damage;
mod fat;
mod mounted;
mod rot;
mod table;

pub use damage::Damage;
pub use fat::Fat;
pub use mounted::Mounted;
pub use table::{Partition, Scheme, Table};

use super::{VmError, disk::format_of, error::at};
use std::{
    fs::File,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long the storage daemon may take to show its file, or to end.
const DAEMON: Duration = Duration::from_secs(20);

/// An image opened for reading and writing while no machine uses it; closed, and written back, on drop.
#[derive(Debug)]
pub struct Offline {
    image: PathBuf,
    table: Table,
    export: Export,
}

impl Offline {
    /// The image's bytes are accessible.
    /// Refuses: an image that an emulator holds open (by the emulator's own lock).
    pub fn open(image: impl AsRef<Path>) -> Result<Offline, VmError> {
        let image = image.as_ref();
        let driver = format_of(image)?.name();
        let file = format!("driver=file,node-name=file,filename={}", image.display());
        let disk = format!("driver={driver},node-name=disk,file=file");
        let export = Export::start(&[&file, &disk], "disk")?;
        let table = Table::read(export.path())?;
        Ok(Offline { image: image.to_owned(), table, export })
    }

    /// The image that was opened.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// A raw file that shows the disk: for mtools (`PATH@@OFFSET`), grub-fstest, sfdisk. Lives as long as this value.
    pub fn path(&self) -> &Path {
        self.export.path()
    }

    /// The partitions, in the order of the table; none when there is no table.
    pub fn partitions(&self) -> &[Partition] {
        &self.table.partitions
    }

    /// The kind of partition table.
    pub fn scheme(&self) -> Scheme {
        self.table.scheme
    }

    /// The partition with this number (1 is the first, as in `/dev/vda1`; 0 is the whole disk).
    pub fn partition(&self, number: u32) -> Result<Partition, VmError> {
        if number == 0 {
            let len = at(self.path(), std::fs::metadata(self.path()))?.len();
            return Ok(Partition { number: 0, start: 0, len, kind: String::new(), uuid: String::new(), name: String::new() });
        }
        let found = self.table.partitions.iter().find(|p| p.number == number);
        found
            .cloned()
            .ok_or_else(|| VmError::Image { image: self.image.clone(), what: format!("has no partition {number}: {:#?}", self.table) })
    }

    /// Mounts a partition, `options` as for mount(8) (`subvolid=5`, `ro`). Several mounts of one partition may live at once.
    pub fn mount(&self, number: u32, options: &str) -> Result<Mounted, VmError> {
        self.mount_behind(number, 0, options)
    }

    /// The same of what lies behind the first `skip` bytes of a partition.
    pub fn mount_behind(&self, number: u32, skip: u64, options: &str) -> Result<Mounted, VmError> {
        let partition = self.partition(number)?;
        Mounted::new(self.path(), partition.start + skip, partition.len - skip, options)
    }

    /// The FAT file system of a partition.
    pub fn fat(&self, number: u32) -> Result<Fat<'_>, VmError> {
        Ok(Fat::new(self.path(), self.partition(number)?.start))
    }

    /// The content of a file as the host's GRUB reads it now, without replaying a log and without checking sums. The path begins at the top of a btrfs.
    pub fn grub_view(&self, number: u32, path: &str) -> Result<Vec<u8>, crate::cut::GrubError> {
        crate::cut::grub_view(self.path(), &crate::cut::grub_name(self.scheme(), number), path)
    }

    /// Bytes of the disk.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, VmError> {
        let file = at(self.path(), File::open(self.path()))?;
        let mut bytes = vec![0; len];
        at(self.path(), file.read_exact_at(&mut bytes, offset))?;
        Ok(bytes)
    }

    /// Overwrites bytes of the disk, past any file system.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), VmError> {
        let file = at(self.path(), File::options().write(true).open(self.path()))?;
        at(self.path(), file.write_all_at(bytes, offset).and_then(|()| file.sync_all()))
    }

    /// Everything is written back and the image is free again.
    /// Errors: also when a mount of it is still alive.
    pub fn close(mut self) -> Result<(), VmError> {
        self.export.stop()
    }
}

/// A raw file over FUSE with the bytes of one block node of a storage daemon.
#[derive(Debug)]
pub(crate) struct Export {
    daemon: Child,
    dir: tempfile::TempDir,
    path: PathBuf,
    ended: bool,
}

impl Export {
    /// `nodes` are arguments of `--blockdev`; `shown` names the node to show.
    pub(crate) fn start(nodes: &[&str], shown: &str) -> Result<Export, VmError> {
        let dir = super::scratch::scratch("disk")?;
        let (path, stderr) = (dir.path().join("disk"), dir.path().join("stderr"));
        at(&path, File::create(&path))?;
        let before = at(&path, std::fs::metadata(&path))?.dev();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "qemu-storage-daemon"]);
        for node in nodes {
            command.args(["--blockdev", node]);
        }
        let export = format!("type=fuse,id=export,node-name={shown},mountpoint={},writable=on,allow-other=off", path.display());
        command.args(["--export", &export]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(at(&stderr, File::create(&stderr))?);
        let argv = super::tool::argv(&command);
        let failed =
            |status: String| VmError::Tool { argv: argv.clone(), status, stderr: std::fs::read_to_string(&stderr).unwrap_or_default() };
        let mut daemon = command.spawn().map_err(|e| failed(e.to_string()))?;
        let deadline = Instant::now() + DAEMON;
        loop {
            if std::fs::metadata(&path).is_ok_and(|m| m.dev() != before) {
                return Ok(Export { daemon, dir, path, ended: false });
            }
            if let Ok(Some(status)) = daemon.try_wait() {
                return Err(failed(status.to_string()));
            }
            if Instant::now() > deadline {
                daemon.kill().and_then(|()| daemon.wait()).ok();
                return Err(failed("shows no file".into()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The daemon has written everything back and ended.
    pub(crate) fn stop(&mut self) -> Result<(), VmError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let pid = nix::unistd::Pid::from_raw(self.daemon.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).ok();
        let deadline = Instant::now() + DAEMON;
        let failed = |status: String, dir: &Path| VmError::Tool {
            argv: "qemu-storage-daemon".into(),
            status,
            stderr: std::fs::read_to_string(dir.join("stderr")).unwrap_or_default(),
        };
        loop {
            match self.daemon.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(status.to_string(), self.dir.path())),
                _ if Instant::now() > deadline => {
                    self.daemon.kill().and_then(|()| self.daemon.wait()).ok();
                    // Killed, it leaves its mount behind.
                    nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH).ok();
                    return Err(failed("does not end: is a mount of it alive?".into(), self.dir.path()));
                }
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{error}");
        }
    }
}
