//! The recorded writes, in the format of Linux's dm-log-writes
//! (<https://docs.kernel.org/admin-guide/device-mapper/log-writes.html>) as the emulator's `blklogwrites` driver writes it.
use super::{CutError, grub_name, record::sparse_copy};
use crate::vm::{error::at, offline::Table, scratch::scratch_in_memory};
use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const KNOWN: u64 = FLUSH | FUA | DISCARD;
/// Bytes of an entry's header that mean something; it fills a sector of the log.
const HEADER: usize = 32;

/// Bytes of a sector of the log, as every driver of the lab is told.
const SECTOR: u64 = 512;

/// Bytes of the file that holds a log, made before it is used; it is sparse.
pub const LOG_SPACE: u64 = 16 << 30;
/// Bytes compared at once.
const PIECE: usize = 1 << 20;

/// One request to the disk, in the order they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Byte of the disk where it begins.
    pub offset: u64,
    /// Bytes written or discarded; 0 for a flush alone.
    pub len: u64,
    /// Everything before it is durable when it is done.
    pub flush: bool,
    /// It is durable itself when it is done.
    pub fua: bool,
    /// The bytes are given up: zeroes from then on.
    pub discard: bool,
    /// It went to another disk, in a manner of speaking (see [`WriteLog::apart`]).
    pub apart: bool,
    /// Byte of the log where its data begins.
    data: u64,
}

/// All requests of a workload, and the disk they began with.
#[derive(Debug)]
pub struct WriteLog {
    /// Every request.
    pub entries: Vec<Entry>,
    /// Labels with the number of entries that came before them.
    pub marks: Vec<(usize, String)>,
    /// The disk before the first request.
    pub base: PathBuf,
    /// Where on the disk the file system lies: first byte and length.
    pub place: (u64, u64),
    /// GRUB's name of it within an image of the disk.
    pub(super) grub: String,
    path: PathBuf,
    file: File,
    /// Holds log and base, if they are ours.
    pub(super) dir: Option<tempfile::TempDir>,
}

impl WriteLog {
    /// Reads a log that `blklogwrites` wrote while `base` (a raw image, unchanged since) or a copy of it was used; `place` is where the file system lies.
    pub fn read(path: &Path, base: &Path, place: (u64, u64)) -> Result<WriteLog, CutError> {
        let mut tail = Tail::open(path)?;
        let entries = tail.entries()?;
        let table = Table::read(base)?;
        let number = table.partitions.iter().find(|p| p.start == place.0).map_or(0, |p| p.number);
        let grub = grub_name(table.scheme, number);
        Ok(WriteLog { entries, marks: Vec::new(), base: base.into(), place, grub, path: path.into(), file: tail.file, dir: None })
    }

    /// What was written to these bytes of the file system's place counts as written to another disk, which loses nothing: it is durable at once,
    /// and the flush that follows it was that disk's, so that it confirms nothing else. For a boot block, which GRUB may read from elsewhere.
    pub fn apart(mut self, bytes: &[Range<u64>]) -> WriteLog {
        let start = self.place.0;
        let within = |entry: &Entry| bytes.iter().any(|r| entry.offset < start + r.end && entry.offset + entry.len > start + r.start);
        let mut last_was_apart = false;
        for entry in &mut self.entries {
            if entry.len > 0 {
                last_was_apart = within(entry);
                (entry.apart, entry.fua) = (last_was_apart, entry.fua || last_was_apart);
            } else if last_was_apart {
                entry.flush = false;
            }
        }
        self
    }

    /// Log and disk lie in `dir` as `log` and `base.img` too, for [`WriteLog::read`].
    pub fn keep(&self, dir: &Path) -> Result<(), CutError> {
        sparse_copy(&self.path, &dir.join("log"))?;
        sparse_copy(&self.base, &dir.join("base.img"))
    }

    /// How many entries confirm what came before them.
    pub fn flushes(&self) -> usize {
        self.entries.iter().filter(|entry| entry.flush).count()
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().filter(|entry| !entry.discard).map(|entry| entry.len).sum()
    }

    /// All writes together make `live`, a raw image of the disk as it was left; if not, the log is not to be trusted.
    pub fn verify(&self, live: &Path) -> Result<(), CutError> {
        let dir = scratch_in_memory("whole")?;
        let whole = dir.path().join("whole.img");
        sparse_copy(&self.base, &whole)?;
        let disk = at(&whole, File::options().write(true).open(&whole))?;
        self.entries.iter().try_for_each(|entry| self.apply(&disk, entry, 0, entry.len))?;
        match first_difference(&whole, live)? {
            Some(offset) => Err(CutError::Unfaithful { entries: self.entries.len(), offset }),
            None => Ok(()),
        }
    }

    /// What lies in `part` (relative to it) of an entry is in `bytes`, which begin at byte `offset` of the disk.
    pub(super) fn overlay(&self, entry: &Entry, part: Range<u64>, offset: u64, bytes: &mut [u8]) -> Result<(), CutError> {
        let from = (entry.offset + part.start).max(offset);
        let to = (entry.offset + part.end).min(offset + bytes.len() as u64);
        if from >= to {
            return Ok(());
        }
        let place = &mut bytes[(from - offset) as usize..(to - offset) as usize];
        match entry.discard {
            true => place.fill(0),
            false => at(&self.path, self.file.read_exact_at(place, entry.data + from - entry.offset))?,
        }
        Ok(())
    }

    /// Applies the bytes `from..to` (relative to the entry) of an entry to a disk.
    pub(super) fn apply(&self, disk: &File, entry: &Entry, from: u64, to: u64) -> Result<(), CutError> {
        let mut bytes = vec![0; (to - from) as usize];
        if !entry.discard {
            at(&self.path, self.file.read_exact_at(&mut bytes, entry.data + from))?;
        }
        Ok(at(&self.base, disk.write_all_at(&bytes, entry.offset + from))?)
    }
}

/// A log that may still grow.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    file: File,
    sector: u64,
    next: u64,
}

impl Tail {
    /// Refuses: a file that is not a log of the known version.
    pub(super) fn open(path: &Path) -> Result<Tail, CutError> {
        let file = at(path, File::open(path))?;
        let wrong = |what: String| CutError::Log { path: path.into(), what };
        let mut header = [0; 28];
        file.read_exact_at(&mut header, 0).map_err(|e| wrong(format!("no header: {e}")))?;
        let (magic, version, sector) =
            (word(&header, 0), word(&header, 8), u64::from(u32::from_le_bytes([header[24], header[25], header[26], header[27]])));
        // The driver writes it with the first entry: who wrote nothing left nothing.
        if header == [0; 28] {
            return Ok(Tail { path: path.into(), file, sector: SECTOR, next: SECTOR });
        }
        if magic != MAGIC || version != 1 || !sector.is_power_of_two() || !(512..=65536).contains(&sector) {
            return Err(wrong(format!("magic {magic:#x}, version {version}, sectors of {sector} bytes")));
        }
        Ok(Tail { path: path.into(), file, sector, next: sector })
    }

    /// The entries that came since the last call. The header's own count is only brought up to date at times: the entries end where zeroes begin.
    pub(super) fn entries(&mut self) -> Result<Vec<Entry>, CutError> {
        let mut entries = Vec::new();
        let mut header = [0; HEADER];
        loop {
            match self.file.read_exact_at(&mut header, self.next) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(entries),
                Err(e) => return Ok(at(&self.path, Err(e))?),
            }
            let (start, count, flags, extra) = (word(&header, 0), word(&header, 8), word(&header, 16), word(&header, 24));
            if start == 0 && count == 0 && flags == 0 {
                return Ok(entries);
            }
            // The driver logs flushes alone; one with data would need another order of effects.
            if flags & !KNOWN != 0 || extra != 0 || (flags & FLUSH != 0 && count > 0) {
                let what = format!("entry at byte {} has flags {flags:#x}, {count} sectors and {extra} bytes of its own", self.next);
                return Err(CutError::Log { path: self.path.clone(), what });
            }
            let discard = flags & DISCARD != 0;
            let data = self.next + self.sector;
            let len = count * self.sector;
            entries.push(Entry {
                offset: start * self.sector,
                len,
                flush: flags & FLUSH != 0,
                fua: flags & FUA != 0,
                discard,
                apart: false,
                data,
            });
            self.next = if discard { data } else { data + len };
        }
    }
}

fn first_difference(one: &Path, other: &Path) -> Result<Option<u64>, CutError> {
    let (mut a, b) = (at(one, File::open(one))?, at(other, File::open(other))?);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    loop {
        let n = at(one, a.read(&mut left))?;
        if n == 0 {
            return Ok(None);
        }
        at(other, b.read_exact_at(&mut right[..n], offset))?;
        if left[..n] != right[..n] {
            let within = left.iter().zip(&right).position(|(x, y)| x != y).unwrap_or(0);
            return Ok(Some(offset + within as u64));
        }
        offset += n as u64;
    }
}

fn word(bytes: &[u8], offset: usize) -> u64 {
    (0..8).rev().fold(0, |value, index| value << 8 | u64::from(bytes[offset + index]))
}
