//! Keys: the machine's own, made when it is first used, and those of others that it trusts.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::{OnFile, Result, TransferError};
use crate::sys::{At, file};

/// The machine's own key, below its root. It is one of the files that make it this one and goes along to each deployment.
pub const DEFAULT_KEY: &str = "etc/ast/export.key";
/// Directory with the keys of others, `NAME.pub`, below the root.
pub const TRUSTED: &str = "etc/ast/trusted.d";
/// First word of a file with a secret key.
const SECRET: &str = "ed25519-secret";
/// First word of a file with a public key; a name may follow the digits.
const PUBLIC: &str = "ed25519";

/// A key to know somebody's signature by: its bytes, a point of the curve.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Public([u8; 32]);

/// A key to sign with.
pub struct Secret(SigningKey);

impl fmt::Display for Public {
    /// `ed25519` and 64 hex digits: the line of a file in `trusted.d`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC} {}", hex(&self.0))
    }
}

impl fmt::Debug for Public {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for Secret {
    /// Only whose it is: a key must not get into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the secret of {}", self.public())
    }
}

impl Public {
    /// The key in a line like `ed25519 <64 hex digits> name`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(PUBLIC)).then_some(())?;
        let bytes = unhex(words.next()?)?;
        VerifyingKey::from_bytes(&bytes).is_ok().then_some(Self(bytes))
    }

    /// The key in a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = String::from_utf8_lossy(&file::read(path)?).into_owned();
        let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        lines
            .next()
            .and_then(Self::parse)
            .ok_or(TransferError::BadKey { path: path.to_owned(), why: "it should be `ed25519 <64 hex digits>`" })
    }

    /// Whether this key signed the bytes. Signatures that could be written in several ways are refused.
    pub(super) fn has_signed(&self, bytes: &[u8], signature: &[u8; 64]) -> bool {
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(bytes, &Signature::from_bytes(signature)).is_ok())
    }
}

impl Secret {
    /// The key in a file.
    pub fn read(path: &Path) -> Result<Self> {
        let bad = |why| TransferError::BadKey { path: path.to_owned(), why };
        let text = String::from_utf8_lossy(&file::read(path)?).into_owned();
        let digits = text.trim().strip_prefix(SECRET).ok_or_else(|| bad("it should be `ed25519-secret <64 hex digits>`"))?;
        let seed = unhex(digits.trim()).ok_or_else(|| bad("64 hex digits should follow the first word"))?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key at `path`, made now if there was none, readable by root alone, with its public half beside it as `.pub`. Whether it is new.
    ///
    /// If interrupted: there is none, or it is whole; the public half is written again by the next use.
    pub fn read_or_make(path: &Path) -> Result<(Self, bool)> {
        let made = !path.exists();
        if made {
            const RANDOM: &str = "/dev/urandom";
            let mut seed = [0; 32];
            std::fs::File::open(RANDOM).and_then(|mut f| f.read_exact(&mut seed)).at("read", Path::new(RANDOM))?;
            file::make_dirs(path.parent().unwrap_or(Path::new("/")))?;
            file::replace_secret(path, format!("{SECRET} {}\n", hex(&seed)).as_bytes())?;
        }
        let key = Self::read(path)?;
        let public = path.with_extension("pub");
        if !public.exists() {
            file::replace(&public, format!("{}\n", key.public()).as_bytes())?;
        }
        Ok((key, made))
    }

    /// What others know it by.
    pub fn public(&self) -> Public {
        Public(self.0.verifying_key().to_bytes())
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

/// The keys that the machine with its root at `sysroot` trusts: those in `trusted.d`, and its own.
///
/// Refuses: when one of the files cannot be read, rather than to leave it out without a word.
pub fn trusted(sysroot: &Path) -> Result<Vec<Public>> {
    let dir = sysroot.join(TRUSTED);
    let names = std::fs::read_dir(&dir).map(|entries| entries.flatten().map(|e| e.path()).collect::<Vec<PathBuf>>());
    let mut paths = match names {
        Ok(paths) => paths,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).on("list", &dir),
    };
    paths.retain(|path| path.extension().is_some_and(|e| e == "pub"));
    paths.sort();
    let own = sysroot.join(DEFAULT_KEY).with_extension("pub");
    paths.extend(own.exists().then_some(own));
    paths.iter().map(|path| Public::read(path)).collect()
}

/// `bytes` as hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `N` bytes out of lower-case hex digits.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || !digits.iter().all(|d| d.is_ascii_digit() || (b'a'..=b'f').contains(d)) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
