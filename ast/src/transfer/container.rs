//! The file itself: its head, and streams whose every byte is checked before it is given on.

use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::key::{Public, Secret, hex, unhex};
use super::manifest::{CHUNK, MAX_MANIFEST, Manifest, PartManifest};
use super::{OnFile, Result, TransferError};
use crate::layout::Part;

/// First line.
const MAGIC: &str = "ast-export 1\n";
/// How it begins in every version.
const MAGIC_WORD: &str = "ast-export ";
/// Longest line before the manifest, in bytes.
const MAX_LINE: u64 = 200;

/// What of an export comes before its streams, in bytes.
pub(super) fn head(manifest: &Manifest, key: &Secret) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(manifest).map_err(|error| TransferError::BadManifest(error.to_string()))?;
    line.push(b'\n');
    let signature = key.sign(&signed(&line));
    Ok([MAGIC.as_bytes(), format!("{}\n{}\n", key.public(), hex(&signature)).as_bytes(), &line].concat())
}

fn signed(manifest_line: &[u8]) -> Vec<u8> {
    [MAGIC.as_bytes(), manifest_line].concat()
}

/// An export whose signature is that of somebody trusted, read up to its streams.
pub struct Opened {
    /// What it says.
    pub manifest: Manifest,
    /// Who signed it.
    pub key: Public,
    pub(super) input: Box<dyn BufRead>,
    pub(super) path: PathBuf,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("manifest", &self.manifest).field("key", &self.key).field("path", &self.path).finish_non_exhaustive()
    }
}

/// The export that comes out of `input` (called `path`), if one of `trusted` signed it.
///
/// Refuses: anything else, before a word of its manifest is believed.
pub fn open(mut input: Box<dyn BufRead>, path: &Path, trusted: &[Public]) -> Result<Opened> {
    let magic = line(&mut input, MAX_LINE, path)?;
    if !magic.starts_with(MAGIC_WORD.as_bytes()) {
        return Err(TransferError::NotAnExport("its first line is another"));
    }
    if magic != MAGIC.as_bytes() {
        let version = magic.get(MAGIC_WORD.len()..).and_then(|v| std::str::from_utf8(v).ok()).and_then(|v| v.trim_end().parse().ok());
        return Err(version.map_or(TransferError::NotAnExport("its version is no number"), |needs| TransferError::Newer { needs }));
    }
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).ok();
    let key = text(line(&mut input, MAX_LINE, path)?).and_then(|l| Public::parse(&l));
    let key = key.ok_or(TransferError::NotAnExport("its second line is no key"))?;
    if !trusted.contains(&key) {
        return Err(TransferError::Untrusted { key });
    }
    let signature = text(line(&mut input, MAX_LINE, path)?).and_then(|l| unhex::<64>(l.trim_end_matches('\n')));
    let signature = signature.ok_or(TransferError::NotAnExport("its third line is no signature"))?;
    let manifest = line(&mut input, MAX_MANIFEST, path)?;
    if !key.has_signed(&signed(&manifest), &signature) {
        return Err(TransferError::BadSignature { key });
    }
    Ok(Opened { manifest: Manifest::parse(&manifest)?, key, input, path: path.to_owned() })
}

/// The next line, with its end.
fn line(input: &mut dyn BufRead, most: u64, path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(most).read_until(b'\n', &mut bytes).on("read", path)?;
    match bytes.last() {
        Some(b'\n') => Ok(bytes),
        _ => Err(TransferError::NotAnExport("a line of its head is cut or too long")),
    }
}

/// One stream, given on a chunk at a time, each only when its sum is right.
pub(super) struct Checked<'a> {
    input: &'a mut dyn BufRead,
    part: Part,
    said: &'a PartManifest,
    /// Bytes of the stream that were read.
    read: u64,
    chunk: Vec<u8>,
    given: usize,
    /// Why nothing more is given.
    pub(super) damage: Option<TransferError>,
}

impl<'a> Checked<'a> {
    pub(super) fn new(input: &'a mut dyn BufRead, part: Part, said: &'a PartManifest) -> Self {
        Self { input, part, said, read: 0, chunk: Vec::new(), given: 0, damage: None }
    }

    /// Whether every byte was given.
    pub(super) fn is_at_end(&self) -> bool {
        self.read == self.said.bytes && self.given == self.chunk.len()
    }

    fn next_chunk(&mut self) -> io::Result<()> {
        let number = usize::try_from(self.read / CHUNK as u64).unwrap_or(usize::MAX);
        let size = (self.said.bytes - self.read).min(CHUNK as u64);
        self.given = 0;
        self.chunk.clear();
        (&mut *self.input).take(size).read_to_end(&mut self.chunk)?;
        let (from, to) = (self.read, self.read + size);
        self.read = to;
        let wrong = if (self.chunk.len() as u64) < size {
            Some(TransferError::Cut { part: self.part })
        } else if self.said.sums.get(number) != Some(&hex(&Sha256::digest(&self.chunk))) {
            Some(TransferError::Damaged { part: self.part, from, to })
        } else {
            None
        };
        if let Some(wrong) = wrong {
            self.chunk.clear();
            self.damage = Some(wrong);
        }
        Ok(())
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.damage.is_none() && self.given == self.chunk.len() && self.read < self.said.bytes {
            self.next_chunk()?;
        }
        if self.damage.is_some() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut rest = self.chunk.get(self.given..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.given += count;
        Ok(count)
    }
}

/// Counts what is written through it, and sums each chunk of it.
pub(super) struct Summed<W> {
    out: W,
    hasher: Sha256,
    in_chunk: usize,
    bytes: u64,
    sums: Vec<String>,
}

impl<W: Write> Summed<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, hasher: Sha256::new(), in_chunk: 0, bytes: 0, sums: Vec::new() }
    }

    /// How much was written, and its sums.
    pub(super) fn finish(mut self) -> (u64, Vec<String>) {
        if self.in_chunk > 0 {
            self.sums.push(hex(&self.hasher.finalize_reset()));
        }
        (self.bytes, self.sums)
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.in_chunk;
        let count = self.out.write(buffer.get(..room.min(buffer.len())).unwrap_or_default())?;
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        self.in_chunk += count;
        self.bytes += count as u64;
        if self.in_chunk == CHUNK {
            self.sums.push(hex(&self.hasher.finalize_reset()));
            self.in_chunk = 0;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
