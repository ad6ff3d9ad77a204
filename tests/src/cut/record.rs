//! Recording: a file system on a disk whose writes all pass a log.
use super::{
    CutError,
    log::{LOG_SPACE, Tail, WriteLog},
    own::own_mounts,
};
use crate::vm::{
    Offline, VmError, disk,
    error::at,
    offline::{Export, Mounted, Table},
    scratch::scratch_in_memory,
    tool::tool,
};
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Seconds between two commits that btrfs makes by itself (30, if not told). The kernel warns of more than 300.
const COMMIT: u32 = 300;

/// A copy of a disk image in memory whose file system can be mounted and changed while every write is recorded.
#[derive(Debug)]
pub struct Recording {
    // In the order of dropping: a mount before the disk below it.
    mounts: Vec<Mounted>,
    export: Export,
    base: PathBuf,
    live: PathBuf,
    log: PathBuf,
    place: (u64, u64),
    tail: Option<Tail>,
    count: usize,
    marks: Vec<(usize, String)>,
    dir: tempfile::TempDir,
}

impl Recording {
    /// The disk is accessible through the log. `base` is raw and stays as it is; `partition` 0 is the whole disk.
    pub fn new(base: &Path, partition: u32) -> Result<Recording, CutError> {
        own_mounts()?;
        let dir = scratch_in_memory("cut")?;
        let (own, live, log) = (dir.path().join("base.img"), dir.path().join("live.img"), dir.path().join("log"));
        if disk::format_of(base)? == crate::vm::Format::Qcow2 {
            tool("qemu-img", &["convert".as_ref(), "-Oraw".as_ref(), base.as_os_str(), own.as_os_str()])?;
        } else {
            sparse_copy(base, &own)?;
        }
        sparse_copy(&own, &live)?;
        let size = at(&own, std::fs::metadata(&own))?.len();
        let place = match partition {
            0 => (0, size),
            number => {
                let table = Table::read(&own)?;
                let found = table.partitions.iter().find(|p| p.number == number);
                let found = found.ok_or_else(|| VmError::Image { image: base.into(), what: format!("has no partition {number}") })?;
                (found.start, found.len)
            }
        };
        at(&log, File::create(&log).and_then(|file| file.set_len(LOG_SPACE)))?;
        let nodes = [
            format!("driver=file,node-name=disk,discard=unmap,filename={}", live.display()),
            format!("driver=file,node-name=log,filename={}", log.display()),
            "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=512".to_owned(),
        ];
        let export = Export::start(&nodes.each_ref().map(String::as_str), "logged")?;
        Ok(Recording { mounts: Vec::new(), export, base: own, live, log, place, tail: None, count: 0, marks: Vec::new(), dir })
    }

    /// The btrfs is mounted (again, with other options, if wanted) and its directory returned. Discards are not sent unless `options` ask for them,
    /// and it commits nothing by itself for as long as a recording may take: what should be on disk, the workload has to put there.
    pub fn mount(&mut self, options: &str) -> Result<&Path, CutError> {
        let own = format!("nodiscard,commit={COMMIT}");
        let options = if options.is_empty() { own } else { format!("{own},{options}") };
        let mounted = Mounted::new(self.export.path(), self.place.0, self.place.1, &options)?;
        self.mounts.push(mounted);
        Ok(self.mounts.last().map_or(Path::new("/"), Mounted::root))
    }

    /// A raw file that shows the whole disk; what is written there is recorded too.
    pub fn disk(&self) -> &Path {
        self.export.path()
    }

    /// From here on `label` was reached: a state knows which labels were passed when its power was cut. Costs next to nothing and flushes nothing.
    pub fn mark(&mut self, label: &str) -> Result<(), CutError> {
        let tail = match &mut self.tail {
            Some(tail) => tail,
            none => none.insert(Tail::open(&self.log)?),
        };
        self.count += tail.entries()?.len();
        self.marks.push((self.count, label.into()));
        Ok(())
    }

    /// Changes the disk behind the log's back: to show that [`Recording::finish`] notices.
    pub fn tamper(&self, change: impl FnOnce(&File)) {
        if let Ok(live) = File::options().write(true).open(&self.live) {
            change(&live);
        }
    }

    /// The file system is unmounted, and the log is complete and faithful: all its writes together are the disk as it is.
    pub fn finish(mut self) -> Result<WriteLog, CutError> {
        while let Some(mounted) = self.mounts.pop() {
            mounted.unmount()?;
        }
        self.export.stop()?;
        let mut log = WriteLog::read(&self.log, &self.base, self.place)?;
        log.marks = self.marks;
        log.verify(&self.live)?;
        at(&self.live, std::fs::remove_file(&self.live))?;
        log.dir = Some(self.dir);
        Ok(log)
    }
}

pub(super) fn sparse_copy(from: &Path, to: &Path) -> Result<(), CutError> {
    tool("cp", &["--sparse=always".as_ref(), "--reflink=auto".as_ref(), "--".as_ref(), from.as_os_str(), to.as_os_str()])?;
    Ok(())
}

/// A new raw image of `size` bytes with an empty btrfs, changed by `fill` before anything is recorded.
pub fn new_btrfs(path: &Path, size: u64, fill: impl FnOnce(&Path)) -> Result<(), CutError> {
    own_mounts()?;
    at(path, File::create(path).and_then(|file| file.set_len(size)))?;
    tool("mkfs.btrfs", &["-q".as_ref(), path.as_os_str()])?;
    let offline = Offline::open(path)?;
    let mounted = offline.mount(0, "nodiscard")?;
    fill(mounted.root());
    mounted.unmount()?;
    offline.close()?;
    Ok(())
}
