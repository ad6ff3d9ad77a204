//! How a snapshot travels from one machine to another: `export` and `import`.
//!
//! An export is one file, or a pipe. Its first lines are text, so `head -n 4 FILE` shows what it is:
//!
//! ```text
//! ast-export 1                                the format; a program that does not know it refuses
//! ed25519 <public key, 64 hex digits>         whose it is
//! <signature, 128 hex digits>                 over the first line and the fourth, with their line ends
//! {"min_reader":1,"description":…,"parts":…}  the manifest, JSON on one line
//! <root><etc><var><boot>                      btrfs send streams, each one zstd frame, as long as the manifest says
//! ```
//!
//! The manifest has the SHA-256 of every [`CHUNK`](manifest::CHUNK) bytes of the streams. So one signature covers everything, and no byte
//! reaches a decompressor, `btrfs receive` or the disk before it is known to be what the sender signed. What follows from a
//! trusted key is confined further: `btrfs receive` sees nothing but one directory as its root, which is garbage by its name until a
//! plan seals what is in it.
//!
//! An increment names what it was made against by the identity of its content, per part: the UUID of the subvolume, or the one it
//! was received with. The other machine finds that in its own tree, whatever number it has there.

mod container;
mod key;
mod manifest;
mod pack;
#[cfg(test)]
mod tests;
mod unpack;

use std::path::PathBuf;

use crate::exec::ExecError;
use crate::layout::Part;
use crate::sys::SysError;
use crate::volumes::VolumeError;
use crate::work::WorkError;

pub use container::{Opened, open};
pub use key::{DEFAULT_KEY, Public, Secret, TRUSTED, trusted};
pub use manifest::{Against, Manifest, PartManifest, parent_on, present_on};
pub use pack::{Wish, pack, private_files};
pub use unpack::unpack;

/// Why a snapshot does not travel.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Something else.
    #[error("this is no export of ast: {0}")]
    NotAnExport(&'static str),
    /// From a later version.
    #[error("this export needs a newer ast: it can be read from version {needs} on, and this is {}", manifest::VERSION)]
    Newer {
        /// The version that can.
        needs: u32,
    },
    /// What is signed makes no sense.
    #[error("the manifest of this export cannot be used: {0}")]
    BadManifest(String),
    /// Signed by nobody we know.
    #[error("this export is signed with the key {key}, which is not trusted here")]
    Untrusted {
        /// The key.
        key: Public,
    },
    /// Not what was signed.
    #[error("the signature of the key {key} does not match: this export was changed on its way, or damaged")]
    BadSignature {
        /// The key that it names.
        key: Public,
    },
    /// A key file.
    #[error("{} holds no key: {why}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        why: &'static str,
    },
    /// A stretch of a stream is not what was signed.
    #[error("the stream of {} is damaged between byte {from} and byte {to} of it", .part.name())]
    Damaged {
        /// Whose stream.
        part: Part,
        /// First byte of the stretch.
        from: u64,
        /// First byte after it.
        to: u64,
    },
    /// The input ended.
    #[error("the stream of {} ends too early: this export is cut", .part.name())]
    Cut {
        /// Whose stream.
        part: Part,
    },
    /// Something comes after the last stream.
    #[error("something follows the last stream, which nobody signed")]
    Trailing,
    /// The frame holds more or less than the manifest says, or is none.
    #[error("the stream of {} is not what its manifest says", .part.name())]
    Size {
        /// Whose stream.
        part: Part,
    },
    /// btrfs does not give or take a stream.
    #[error("the stream of {}", .part.name())]
    Stream {
        /// Whose stream.
        part: Part,
        /// What it said.
        source: ExecError,
    },
    /// The stream made something else than one subvolume.
    #[error("the stream of {} did not make what it should: {why}", .part.name())]
    Foreign {
        /// Whose stream.
        part: Part,
        /// What it made.
        why: &'static str,
    },
    /// What an increment was made against is not here.
    #[error("this is an increment to {of:?} ({set} where it was made), and no snapshot here has that content")]
    NoParent {
        /// Its description there.
        of: String,
        /// Its set there.
        set: String,
    },
    /// What would leave the machine.
    #[error("it holds what makes a machine this one: {}", .0.join(", "))]
    Private(Vec<String>),
    /// Reading or writing the export itself.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A thread could not be started, or ended without a result.
    #[error("a thread of the transfer did not work")]
    Thread,
    /// A system call.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// A set.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// The directory for what is received.
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl TransferError {
    /// Whether a rule forbids it, rather than the world failing.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Untrusted { .. } | Self::NoParent { .. } | Self::Private(_) | Self::Newer { .. })
    }

    /// Whether the disk is full.
    pub fn is_out_of_space(&self) -> bool {
        let full = |e: &std::io::Error| matches!(e.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
        match self {
            Self::Io { source, .. } => full(source),
            Self::Sys(error) => error.is_out_of_space(),
            Self::Work(error) => error.is_out_of_space(),
            // `btrfs receive` only says it in words.
            Self::Stream { source: ExecError::Failed { tail, .. }, .. } => tail.contains("No space left on device"),
            _ => false,
        }
    }
}

/// The result of this room.
pub type Result<T, E = TransferError> = std::result::Result<T, E>;

/// Adds what was tried on which file to an error of the operating system.
trait OnFile<T> {
    fn on(self, action: &'static str, path: &std::path::Path) -> Result<T>;
}

impl<T, E: Into<std::io::Error>> OnFile<T> for std::result::Result<T, E> {
    fn on(self, action: &'static str, path: &std::path::Path) -> Result<T> {
        self.map_err(|source| TransferError::Io { action, path: path.to_owned(), source: source.into() })
    }
}
