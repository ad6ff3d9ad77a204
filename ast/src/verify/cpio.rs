//! Names in an initramfs: cpio archives one after another, each plain or compressed. Source of the format: Linux
//! `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read};

/// Size of the header of an entry of the "new" format.
const HEADER: usize = 110;
/// Longest name that is believed, in bytes (PATH_MAX).
const MAX_NAME: u64 = 4096;
/// Most bytes that are unpacked (4 GiB: no image is that large, a hostile one may claim anything).
const MAX_UNPACKED: u64 = 4 << 30;
/// Compressed inside compressed is believed once.
const MAX_DEPTH: u8 = 2;
/// The last entry of an archive.
const TRAILER: &str = "TRAILER!!!";

/// Why an image cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum CpioError {
    /// The file ends too early, or a decompressor found damage.
    #[error("{0}")]
    Read(#[from] io::Error),
    /// Neither an archive nor a known compression.
    #[error("neither an archive nor compressed data at byte {0}")]
    Unknown(u64),
    /// A compression that we cannot undo.
    #[error("compressed with {0}")]
    Compression(&'static str),
    /// A damaged archive.
    #[error("the archive is damaged at byte {0}")]
    Damaged(u64),
    /// No archive at all.
    #[error("it is empty")]
    Empty,
}

/// Every file in the image with its size in bytes; names without leading `./` or `/`. The last of several wins, as in the kernel.
pub(super) fn names(image: impl Read) -> Result<BTreeMap<String, u64>, CpioError> {
    let mut found = BTreeMap::new();
    archives(&mut BufReader::with_capacity(1 << 16, image), &mut found, 0)?;
    if found.is_empty() { Err(CpioError::Empty) } else { Ok(found) }
}

/// Reads archives to the end of the stream.
fn archives(stream: &mut dyn BufRead, found: &mut BTreeMap<String, u64>, depth: u8) -> Result<(), CpioError> {
    let mut counted = Counted { stream, at: 0 };
    loop {
        let Some(first) = counted.skip_zeros()? else { return Ok(()) };
        let at = counted.at;
        match first {
            b'0' => archive(&mut counted, found)?,
            _ if depth >= MAX_DEPTH => return Err(CpioError::Unknown(at)),
            0x1f => unpack(flate2::bufread::GzDecoder::new(&mut counted), found, depth)?,
            0x28 => {
                let decoder = ruzstd::decoding::StreamingDecoder::new(&mut counted).map_err(io::Error::other)?;
                unpack(decoder, found, depth)?;
            }
            0xfd => unpack(lzma_rust2::XzReader::new(&mut counted, false), found, depth)?,
            b'B' => return Err(CpioError::Compression("bzip2")),
            0x02 | 0x04 => return Err(CpioError::Compression("lz4")),
            0x5d => return Err(CpioError::Compression("lzma")),
            0x89 => return Err(CpioError::Compression("lzop")),
            _ => return Err(CpioError::Unknown(at)),
        }
    }
}

/// Reads the archives inside compressed data, to its end: its checksum is verified there.
fn unpack(decoder: impl Read, found: &mut BTreeMap<String, u64>, depth: u8) -> Result<(), CpioError> {
    let mut inner = BufReader::with_capacity(1 << 16, decoder);
    archives(&mut inner, found, depth + 1)?;
    io::copy(&mut inner, &mut io::sink())?;
    Ok(())
}

/// Reads one archive up to its trailer.
fn archive(stream: &mut Counted<'_>, found: &mut BTreeMap<String, u64>) -> Result<(), CpioError> {
    let start = stream.at;
    loop {
        let at = stream.at;
        let mut header = [0; HEADER];
        stream.read_exact(&mut header)?;
        if !matches!(header.get(..6), Some(b"070701" | b"070702")) {
            return Err(CpioError::Damaged(at));
        }
        // 13 numbers of 8 hexadecimal digits follow; the seventh is the file's size, the twelfth that of its name.
        let number = |index: usize| -> Option<u64> {
            let digits = header.get(6 + 8 * index..14 + 8 * index)?;
            u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
        };
        let (Some(size), Some(name_size)) = (number(6), number(11)) else { return Err(CpioError::Damaged(at)) };
        if name_size == 0 || name_size > MAX_NAME || stream.at + size > MAX_UNPACKED {
            return Err(CpioError::Damaged(at));
        }
        let mut name = vec![0; usize::try_from(name_size).unwrap_or_default()];
        stream.read_exact(&mut name)?;
        stream.pad(start)?;
        name.pop();
        let name = String::from_utf8_lossy(&name).into_owned();
        if name == TRAILER {
            return Ok(());
        }
        stream.skip(size)?;
        stream.pad(start)?;
        found.insert(name.trim_start_matches("./").trim_start_matches('/').to_owned(), size);
    }
}

/// A stream that knows how far it was read.
struct Counted<'a> {
    stream: &'a mut dyn BufRead,
    at: u64,
}

impl Counted<'_> {
    /// The next byte that is not zero, which stays unread; `None` at the end.
    fn skip_zeros(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            let next = buffer.get(zeros).copied();
            self.consume(zeros);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    fn skip(&mut self, count: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.by_ref().take(count), &mut io::sink())?;
        if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// To the next multiple of four bytes after `start`.
    fn pad(&mut self, start: u64) -> io::Result<()> {
        self.skip((4 - (self.at - start) % 4) % 4)
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(buffer)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl BufRead for Counted<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.stream.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.at += count as u64;
        self.stream.consume(count);
    }
}
