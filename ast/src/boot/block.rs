//! The boot block: 512 bytes in GRUB's environment format, two copies A and B. The copy that GRUB reads **is** the boot state.
//!
//! Format (frozen; a later version may only add keys): the 25-byte signature line, `name=value` lines, a backslash
//! before a backslash or a newline inside a value, filled with `#`. Source: GRUB's `include/grub/lib/envblk.h`.

use std::fmt;

use crate::id::{ArmId, DeployId};

/// Size in bytes: one sector, so one write is whole or not at all.
pub const BLOCK_SIZE: usize = 512;
/// First line of every environment block.
pub const SIGNATURE: &[u8; 25] = b"# GRUB Environment Block\n";
/// Starts that a deploy arms.
pub const ARMED_TRIES: u8 = 3;
/// Starts of the good deployment without a report from userspace, after which GRUB starts the one before it once.
pub const MAX_STARTS: u8 = 5;
/// Most that a unary counter may hold; more is a sign of a damaged block.
const MAX_UNARY: usize = 16;

/// How a deployment is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Counted; becomes the good one when it boots well.
    Trial,
    /// One start; never promoted, never blocked.
    Once,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Trial => "trial",
            Self::Once => "once",
        })
    }
}

/// What is to be tried at the next starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Trial {
    /// The deployment on trial.
    pub deployment: DeployId,
    /// Whether it may be promoted.
    pub mode: Mode,
    /// Starts left (`ast_tries`, unary); 0 when it is exhausted.
    pub tries: u8,
}

/// The boot state, whole and checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BootBlock {
    /// Last deployment that booted well; what boots when nothing is on trial.
    pub good: DeployId,
    /// The one that booted well before it.
    pub prev: Option<DeployId>,
    /// What is on trial, exhausted ones included until userspace has judged them.
    pub trial: Option<Trial>,
    /// Id of the newest arming; 0 before the first.
    pub arm: ArmId,
    /// Starts of the good one since userspace last reported well.
    pub starts: u8,
    /// Number that GRUB changes at each start to prove that it can write.
    pub cap: u32,
    /// Keys of a later format (`ast_…`), kept in their order. Names of others are dropped (B6).
    pub later: Vec<(String, String)>,
}

/// Why 512 bytes are not a boot block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Another length than [`BLOCK_SIZE`].
    #[error("the boot block has {0} bytes instead of 512")]
    Size(usize),
    /// The first line is not GRUB's.
    #[error("the boot block does not begin with GRUB's signature line")]
    Signature,
    /// A line without `=`, with an unprintable or not UTF-8 byte, an empty name, or a blank line (which GRUB 2.06 stumbles over).
    #[error("the boot block has a malformed line at byte {0}")]
    Line(usize),
    /// One name twice: GRUB and we might take different ones.
    #[error("the boot block has {0} twice")]
    Twice(String),
    /// A key that must be there is not.
    #[error("the boot block has no {0}")]
    Missing(&'static str),
    /// A value that its pattern does not allow.
    #[error("the boot block has {key}={value:?}, which is not {wanted}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value, cut to 40 characters.
        value: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// What should be written does not fit into 512 bytes.
    #[error("the boot block would need {0} bytes, and has 512")]
    TooLong(usize),
}

/// The names of ours, in the order in which they are written, without `ast_v` (first) and `ast_end` (last).
const KEYS: [&str; 8] = ["ast_good", "ast_prev", "ast_try", "ast_mode", "ast_tries", "ast_arm", "ast_starts", "ast_cap"];

impl BootBlock {
    /// A block of a machine that boots `good` and tries nothing.
    pub fn new(good: DeployId) -> Self {
        Self { good, prev: None, trial: None, arm: ArmId::new(0), starts: 0, cap: 0, later: Vec::new() }
    }

    /// The block in these bytes. Total: any bytes give a block or an error.
    ///
    /// Refuses: whatever GRUB's script would refuse too, by the same patterns, so that GRUB, initramfs and host agree on A or B.
    pub fn parse(bytes: &[u8]) -> Result<Self, BlockError> {
        let pairs = parse_env(bytes, Some(BLOCK_SIZE))?;
        let find = |key: &'static str| pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).ok_or(BlockError::Missing(key));
        for (key, wanted) in [("ast_v", "1"), ("ast_end", "1")] {
            if find(key)? != "1" {
                return Err(bad(key, find(key)?, wanted));
            }
        }
        if pairs.last().map(|(k, _)| k.as_str()) != Some("ast_end") {
            return Err(BlockError::Missing("ast_end on its last line"));
        }
        let number = |key: &'static str| -> Result<u32, BlockError> {
            let value = find(key)?;
            value.parse::<DeployId>().map(DeployId::get).map_err(|_| bad(key, value, "a number"))
        };
        let maybe = |key: &'static str| -> Result<Option<DeployId>, BlockError> {
            if find(key)?.is_empty() { Ok(None) } else { number(key).map(DeployId::new).map(Some) }
        };
        let unary = |key: &'static str| -> Result<u8, BlockError> {
            let value = find(key)?;
            if value.len() > MAX_UNARY || value.bytes().any(|b| b != b'1') {
                return Err(bad(key, value, "at most 16 times 1"));
            }
            u8::try_from(value.len()).map_err(|_| bad(key, value, "at most 16 times 1"))
        };
        let tries = unary("ast_tries")?;
        let mode = match find("ast_mode")? {
            "trial" => Some(Mode::Trial),
            "once" => Some(Mode::Once),
            "" => None,
            other => return Err(bad("ast_mode", other, "trial, once or empty")),
        };
        let trial = match (maybe("ast_try")?, mode) {
            (None, _) => None,
            (Some(deployment), Some(mode)) => Some(Trial { deployment, mode, tries }),
            (Some(_), None) => return Err(bad("ast_mode", "", "trial or once while ast_try is set")),
        };
        let later = pairs
            .iter()
            .filter(|(k, _)| k.starts_with("ast_") && k != "ast_v" && k != "ast_end" && !KEYS.contains(&k.as_str()))
            .cloned()
            .collect();
        Ok(Self {
            good: DeployId::new(number("ast_good")?),
            prev: maybe("ast_prev")?,
            trial,
            arm: ArmId::new(number("ast_arm")?),
            starts: unary("ast_starts")?,
            cap: number("ast_cap")?,
            later,
        })
    }

    /// The 512 bytes of this block.
    pub fn encode(&self) -> Result<[u8; BLOCK_SIZE], BlockError> {
        let unary = |n: u8| "1".repeat(usize::from(n));
        let maybe = |d: Option<DeployId>| d.map(|d| d.to_string()).unwrap_or_default();
        let values = [
            self.good.to_string(),
            maybe(self.prev),
            maybe(self.trial.map(|t| t.deployment)),
            self.trial.map(|t| t.mode.to_string()).unwrap_or_default(),
            self.trial.map(|t| unary(t.tries)).unwrap_or_default(),
            self.arm.to_string(),
            unary(self.starts),
            self.cap.to_string(),
        ];
        let mut pairs = vec![("ast_v".to_owned(), "1".to_owned())];
        pairs.extend(KEYS.iter().map(|k| (*k).to_owned()).zip(values));
        pairs.extend(self.later.iter().cloned());
        pairs.push(("ast_end".to_owned(), "1".to_owned()));
        let bytes = encode_env(&pairs, BLOCK_SIZE)?;
        bytes.try_into().map_err(|b: Vec<u8>| BlockError::Size(b.len()))
    }
}

fn bad(key: &'static str, value: &str, wanted: &'static str) -> BlockError {
    BlockError::Value { key, value: value.chars().take(40).collect(), wanted }
}

/// The `name=value` pairs of an environment block of `size` bytes (of any size with `None`), in their order.
pub fn parse_env(bytes: &[u8], size: Option<usize>) -> Result<Vec<(String, String)>, BlockError> {
    if size.is_some_and(|size| size != bytes.len()) {
        return Err(BlockError::Size(bytes.len()));
    }
    let mut at = SIGNATURE.len();
    if bytes.get(..at) != Some(SIGNATURE.as_slice()) {
        return Err(BlockError::Signature);
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    while at < bytes.len() && bytes.get(at) != Some(&b'#') {
        let start = at;
        let wrong = || BlockError::Line(start);
        let mut line = Vec::new();
        loop {
            match bytes.get(at).ok_or_else(wrong)? {
                b'\n' => break,
                b'\\' => {
                    line.push(*bytes.get(at + 1).ok_or_else(wrong)?);
                    at += 2;
                }
                byte => {
                    line.push(*byte);
                    at += 1;
                }
            }
        }
        at += 1;
        let line = String::from_utf8(line).map_err(|_| wrong())?;
        let (name, value) = line.split_once('=').ok_or_else(wrong)?;
        let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !plain || value.chars().any(char::is_control) {
            return Err(wrong());
        }
        if pairs.iter().any(|(k, _)| k == name) {
            return Err(BlockError::Twice(name.to_owned()));
        }
        pairs.push((name.to_owned(), value.to_owned()));
    }
    match bytes.get(at..) {
        Some(fill) if fill.iter().all(|b| *b == b'#') => Ok(pairs),
        _ => Err(BlockError::Line(at)),
    }
}

/// An environment block of `size` bytes with these pairs, filled with `#`.
///
/// Refuses: pairs that do not fit, names and values that [`parse_env`] would not give back.
pub fn encode_env(pairs: &[(String, String)], size: usize) -> Result<Vec<u8>, BlockError> {
    let mut bytes = SIGNATURE.to_vec();
    for (name, value) in pairs {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        for byte in value.bytes() {
            if byte == b'\\' {
                bytes.push(b'\\');
            }
            bytes.push(byte);
        }
        bytes.push(b'\n');
    }
    if bytes.len() > size {
        return Err(BlockError::TooLong(bytes.len()));
    }
    bytes.resize(size, b'#');
    match parse_env(&bytes, Some(size)) {
        Ok(read) if read == pairs => Ok(bytes),
        Ok(_) => Err(BlockError::Line(SIGNATURE.len())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
