//! Documents: JSON with a version, a checksum and one older copy. Any body that serde can carry.
//!
//! Format, as `docs/architecture.md` has it: `{"version":1,"min_reader":1,"min_writer":1,"sha256":"…","body":{…}}`, where the sum is
//! that of the compact JSON of the body. A program reads what says `min_reader` up to its own version, and writes over what says
//! `min_writer` up to its own version; anything newer it leaves alone (S13).

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::sys::{SysError, file};

/// The version of documents that this program writes. Every document has the same: they are changed together.
pub const VERSION: u32 = 1;

/// Why there is no document to be had, or none may be written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// There is none, and no older copy.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// Reading or writing failed; what is on disk may be whole.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// What is on disk is no document of ours, and the older copy is not either.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        why: Damage,
    },
    /// A newer ast wrote it, in a way this one cannot read.
    #[error("{} needs a newer ast: it can be read from version {needs} on, and this is {VERSION}", path.display())]
    NewerToRead {
        /// The file.
        path: PathBuf,
        /// `min_reader` of the file.
        needs: u32,
    },
    /// A newer ast wrote it, and this one would lose something by writing it (exit code 5).
    #[error("{} is left alone: it can be written from version {needs} on, and this is {VERSION}", path.display())]
    NewerToWrite {
        /// The file.
        path: PathBuf,
        /// `min_writer` of the file.
        needs: u32,
    },
    /// The body cannot be written as JSON.
    #[error("{} cannot be written", path.display())]
    Body {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

impl DocumentError {
    /// Whether no copy of it can be had any more: damaged, or not given back by the disk. For what can do without.
    pub fn is_loss(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Sys(error) => error.is_unreadable(),
            _ => false,
        }
    }
}

/// What is wrong with the bytes of a document.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Not JSON, or not our envelope, or a body of another shape.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The body is not what was written.
    #[error("its checksum does not match")]
    Sum,
    /// The file is gone while its older copy is there.
    #[error("it is gone, only its older copy is there")]
    Gone,
    /// The disk does not give it back, while its older copy can be read.
    #[error("it cannot be read: {0}")]
    Unreadable(std::io::Error),
}

#[derive(Serialize)]
struct Envelope {
    version: u32,
    min_reader: u32,
    min_writer: u32,
    sha256: String,
    body: Value,
}

/// The same as it is read: the body is made into nothing but what was asked for.
#[derive(Deserialize)]
struct Found<'a> {
    min_reader: u32,
    min_writer: u32,
    sha256: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

/// A document as it was found.
#[derive(Debug)]
pub struct Loaded<T> {
    /// What it says.
    pub body: T,
    /// Why the older copy was taken, when it was. Nothing may be deleted on its word.
    pub damage: Option<DocumentError>,
    /// Whether this program may write over it.
    pub writable: bool,
}

/// The document at `path`; its older copy, with the reason, when it is damaged or gone, or the disk does not give it back. When it gives back
/// neither, nothing is known to be damaged: that is an error of the disk.
///
/// Refuses: what only a newer ast can read, even if the older copy could be read.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<Loaded<T>, DocumentError> {
    let damage = match load_one(path) {
        Ok(loaded) => return Ok(loaded),
        Err(damage @ DocumentError::Damaged { .. }) => damage,
        Err(DocumentError::Missing(path)) => DocumentError::Damaged { path, why: Damage::Gone },
        Err(DocumentError::Sys(error)) if error.is_unreadable() => {
            return match load_one(&file::old_copy(path)?) {
                Ok(older) => {
                    let damage = DocumentError::Damaged { path: path.to_owned(), why: Damage::Unreadable(error.source) };
                    Ok(Loaded { damage: Some(damage), ..older })
                }
                Err(newer @ DocumentError::NewerToRead { .. }) => Err(newer),
                Err(_) => Err(error.into()),
            };
        }
        Err(other) => return Err(other),
    };
    match load_one(&file::old_copy(path)?) {
        Ok(older) => Ok(Loaded { damage: Some(damage), ..older }),
        Err(DocumentError::Missing(_)) => Err(match damage {
            DocumentError::Damaged { path, why: Damage::Gone } => DocumentError::Missing(path),
            other => other,
        }),
        Err(DocumentError::Damaged { .. }) => Err(damage),
        Err(other) => Err(other),
    }
}

/// The document at `path`; `None` when there never was one.
pub fn load_if_exists<T: DeserializeOwned>(path: &Path) -> Result<Option<Loaded<T>>, DocumentError> {
    match load(path) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(DocumentError::Missing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn load_one<T: DeserializeOwned>(path: &Path) -> Result<Loaded<T>, DocumentError> {
    let bytes = file::read_if_exists(path)?.ok_or_else(|| DocumentError::Missing(path.to_owned()))?;
    let damaged = |why: Damage| DocumentError::Damaged { path: path.to_owned(), why };
    let found: Found<'_> = serde_json::from_slice(&bytes).map_err(|e| damaged(e.into()))?;
    if !is_sum_of(&found.sha256, found.body).map_err(|e| damaged(e.into()))? {
        return Err(damaged(Damage::Sum));
    }
    if found.min_reader > VERSION {
        return Err(DocumentError::NewerToRead { path: path.to_owned(), needs: found.min_reader });
    }
    let body = serde_json::from_str(found.body.get()).map_err(|e| damaged(e.into()))?;
    Ok(Loaded { body, damage: None, writable: found.min_writer <= VERSION })
}

/// The document at `path` says `body`, and its older copy what it said before.
///
/// If interrupted: it is whole, old or new.
/// Refuses: to write over what a newer ast wrote in a way that this one would spoil.
pub fn save<T: Serialize>(path: &Path, body: &T) -> Result<(), DocumentError> {
    may_write(path)?;
    let bytes = encode(path, body)?;
    if pushes_out(path)? { file::replace_keeping_old(path, &bytes)? } else { file::replace(path, &bytes)? }
    Ok(())
}

/// Whether what is at `path` may become the older copy. What is damaged must not push out a good one, and what the disk does not give back
/// gets a name of its own.
fn pushes_out(path: &Path) -> Result<bool, DocumentError> {
    match load_one::<Value>(path) {
        Err(DocumentError::Damaged { .. }) => Ok(false),
        Err(DocumentError::Sys(error)) if error.is_unreadable() => {
            tracing::warn!("{error}: it is written anew");
            file::set_aside(path)?;
            Ok(false)
        }
        _ => Ok(true),
    }
}

/// What the document at `path` is to say waits beside it, for the sync that comes before [`publish`].
///
/// If interrupted: the document is as before.
/// Refuses: as [`save`].
pub fn stage<T: Serialize>(path: &Path, body: &T) -> Result<(), DocumentError> {
    may_write(path)?;
    Ok(file::stage(path, &encode(path, body)?)?)
}

/// As [`save`], with what was staged and is on disk by now.
pub fn publish(path: &Path) -> Result<(), DocumentError> {
    if pushes_out(path)? {
        return Ok(file::publish_keeping_old(path)?);
    }
    file::publish(path)?;
    Ok(file::fsync_dir(path.parent().unwrap_or(Path::new("/")))?)
}

/// The older copy of the document at `path` says what that says now, on a place of its own. For documents that are hardly ever written: nothing
/// else would leave them an older copy, or only one that is out of date.
///
/// If interrupted: the older copy is whole, old or new.
pub fn save_older_copy(path: &Path) -> Result<(), DocumentError> {
    // What cannot be read, or is only for a newer ast to write, pushes nothing out.
    if !load_one::<Value>(path)?.writable {
        return Ok(());
    }
    let older = file::old_copy(path)?;
    let bytes = file::read(path)?;
    if file::read_if_readable(&older)?.is_none_or(|there| there != bytes) {
        file::replace(&older, &bytes)?;
    }
    Ok(())
}

/// The bytes of a document with this body.
pub fn encode<T: Serialize>(path: &Path, body: &T) -> Result<Vec<u8>, DocumentError> {
    let to_error = |source| DocumentError::Body { path: path.to_owned(), source };
    let body = serde_json::to_value(body).map_err(to_error)?;
    let envelope = Envelope { version: VERSION, min_reader: 1, min_writer: 1, sha256: sum(&body), body };
    let mut bytes = serde_json::to_vec_pretty(&envelope).map_err(to_error)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Fails if a newer ast wrote the document at `path` in a way that this one would spoil. A damaged or missing one may be written, and so may
/// one that the disk does not give back, unless its older copy is such a one.
pub fn may_write(path: &Path) -> Result<(), DocumentError> {
    #[derive(Deserialize)]
    struct Writer {
        min_writer: u32,
    }
    // Looks at nothing but the one number, so that it is found in envelopes of any later shape.
    let bytes = match file::read_if_exists(path) {
        Err(error) if error.is_unreadable() => file::read_if_readable(&file::old_copy(path)?)?,
        other => other?,
    };
    let needs = bytes.and_then(|bytes| serde_json::from_slice::<Writer>(&bytes).ok()).map_or(0, |writer| writer.min_writer);
    if needs > VERSION { Err(DocumentError::NewerToWrite { path: path.to_owned(), needs }) } else { Ok(()) }
}

fn sum(body: &Value) -> String {
    hex(Sha256::digest(body.to_string().as_bytes()).as_slice())
}

/// Whether it is the sum of this body, however that is laid out and in whatever order its keys are.
fn is_sum_of(expected: &str, body: &RawValue) -> serde_json::Result<bool> {
    // As we write it, it is the compact form with space between: then nothing has to be understood, which makes a tree of thousands quick to read.
    Ok(hex(&Sha256::digest(without_space(body.get()))) == expected || sum(&serde_json::from_str(body.get())?) == expected)
}

/// JSON without the space outside of its strings.
fn without_space(json: &str) -> Vec<u8> {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        if !in_string && byte.is_ascii_whitespace() {
            continue;
        }
        in_string ^= byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        compact.push(byte);
    }
    compact
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
