//! The header of a LUKS container. Source of the format: "LUKS2 On-Disk Format Specification" 1.1, and for version 1 "LUKS1 On-Disk
//! Format Specification" 1.2.3.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::LuksError;
use crate::sys::At as _;

/// Magic of the first copy and of the second.
const MAGICS: [&[u8; 6]; 2] = [b"LUKS\xba\xbe", b"SKUL\xba\xbe"];
const VERSION: std::ops::Range<usize> = 6..8;
const SIZE: std::ops::Range<usize> = 8..16;
/// Which of two whole copies is the newer.
const SEQUENCE: std::ops::Range<usize> = 16..24;
const SUM_NAME: std::ops::Range<usize> = 72..104;
/// In both versions.
const UUID: std::ops::Range<usize> = 168..208;
const SUM: std::ops::Range<usize> = 448..512;
/// Bytes of the binary part; the text follows.
const BINARY: usize = 4096;
/// Sizes that a copy can have, in bytes: the second begins where the first ends.
const SIZES: [usize; 9] = [0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000];
/// Bytes that hold both copies of the largest header.
const BOTH: u64 = 2 * 0x40_0000;
/// Length of an UUID as text.
const UUID_LENGTH: usize = 36;
/// What derives a key from a passphrase in version 1, always.
const V1_HASH: &str = "of LUKS1";
/// Fields of a header of version 1: name of the cipher, its mode, and the first sector of the data.
const V1_CIPHER: std::ops::Range<usize> = 8..40;
const V1_MODE: std::ops::Range<usize> = 40..72;
const V1_PAYLOAD: std::ops::Range<usize> = 104..108;
const SECTOR: u64 = 512;
/// Hashes for PBKDF2 that are in our core image.
const HASHES: [&str; 5] = ["sha1", "sha256", "sha384", "sha512", V1_HASH];

/// How a key slot makes a key of a passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kdf {
    /// PBKDF2 with this hash.
    Pbkdf2(String),
    /// Anything else, by its name: `argon2id`, `argon2i`.
    Other(String),
}

impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2(hash) => write!(f, "pbkdf2 with {}", shown(hash)),
            Self::Other(name) => f.write_str(&shown(name)),
        }
    }
}

/// A key slot that is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its number.
    pub number: u32,
    /// How it makes a key.
    pub kdf: Kdf,
}

/// What a header says, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// 1 or 2.
    pub version: u16,
    /// UUID of the container.
    pub uuid: String,
    /// Key slots in use. Of version 1 only one is told of, as all are alike.
    pub slots: Vec<Slot>,
    /// Cipher of the data, as `aes-xts-plain64`.
    pub cipher: String,
    /// Byte at which the data begins.
    pub data_offset: u64,
    /// Stretches of data: one, unless a re-encryption is on its way.
    pub segments: usize,
}

impl Header {
    /// The header in `node` (a device or an image); `None` if there is no LUKS.
    ///
    /// Refuses: one of which neither copy is whole.
    pub fn read(node: &Path) -> Result<Option<Self>, LuksError> {
        let mut bytes = Vec::new();
        File::open(node).and_then(|file| file.take(BOTH).read_to_end(&mut bytes)).at("read the LUKS header of", node)?;
        parse(&bytes)
    }

    /// GRUB as ast installs it unlocks this container.
    ///
    /// Refuses: no key slot with PBKDF2, another cipher than AES, data in several segments; with the way out.
    pub fn for_grub(&self) -> Result<(), LuksError> {
        let readable = |slot: &Slot| matches!(&slot.kdf, Kdf::Pbkdf2(hash) if HASHES.contains(&hash.as_str()));
        if self.segments != 1 {
            return Err(LuksError::Segments(self.segments));
        }
        if !self.cipher.starts_with("aes-") {
            return Err(LuksError::Cipher(shown(&self.cipher)));
        }
        if !self.slots.iter().any(readable) {
            return Err(LuksError::KeySlots(self.slots.clone()));
        }
        Ok(())
    }
}

/// The text of a header of version 2, as far as it is looked at.
#[derive(Deserialize)]
struct Text {
    #[serde(default)]
    keyslots: BTreeMap<String, KeySlot>,
    #[serde(default)]
    segments: BTreeMap<String, Segment>,
}

#[derive(Deserialize)]
struct KeySlot {
    kdf: Option<KdfText>,
}

#[derive(Deserialize)]
struct KdfText {
    r#type: String,
    #[serde(default)]
    hash: String,
}

#[derive(Deserialize)]
struct Segment {
    offset: String,
    #[serde(default)]
    encryption: String,
}

/// The header that these first bytes of a device hold; `None` if it is no LUKS. Total: whatever the bytes are, it ends.
///
/// Refuses: what begins like LUKS and is not whole.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, LuksError> {
    let [first, second] = MAGICS;
    let begins = bytes.starts_with(first);
    if begins && number(bytes, VERSION) == 1 {
        return version_1(bytes).map(Some);
    }
    let mut copies = Vec::new();
    let mut why = "it is cut off, or of an unknown version";
    let places = [(0, first)].into_iter().chain(SIZES.map(|size| (size, second)));
    for (at, magic) in places {
        match bytes.get(at..).filter(|rest| rest.starts_with(magic)).map(|rest| whole(rest)) {
            Some(Ok(copy)) => copies.push(copy),
            Some(Err(lack)) => why = lack,
            None => {}
        }
    }
    match copies.into_iter().max_by_key(|(sequence, _)| *sequence) {
        Some((_, header)) => Ok(Some(header)),
        None if begins => Err(LuksError::Damaged(why)),
        None => Ok(None),
    }
}

/// One copy of a header of version 2 that `bytes` begin with, and its sequence number.
fn whole(bytes: &[u8]) -> Result<(u64, Header), &'static str> {
    let size = usize::try_from(number(bytes, SIZE)).ok().filter(|size| SIZES.contains(size)).ok_or("its size is impossible")?;
    let area = bytes.get(..size).ok_or("it is cut off")?;
    if number(area, VERSION) != 2 {
        return Err("its version is unknown");
    }
    if text(area, SUM_NAME) != "sha256" {
        return Err("its checksum is of an unknown kind");
    }
    let mut summed = area.to_vec();
    summed.get_mut(SUM).unwrap_or_default().fill(0);
    if !area.get(SUM).unwrap_or_default().starts_with(&Sha256::digest(&summed)) {
        return Err("its checksum is wrong");
    }
    let json = area.get(BINARY..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    let said: Text = serde_json::from_slice(json).map_err(|_| "its text cannot be read")?;
    let uuid = uuid(area)?;
    let slots = said.keyslots.iter().filter_map(|(name, slot)| {
        let kdf = slot.kdf.as_ref()?;
        let kdf = if kdf.r#type == "pbkdf2" { Kdf::Pbkdf2(kdf.hash.clone()) } else { Kdf::Other(kdf.r#type.clone()) };
        Some(Slot { number: name.parse().ok()?, kdf })
    });
    let mut slots: Vec<Slot> = slots.collect();
    slots.sort_by_key(|slot| slot.number);
    let segment = said.segments.values().next();
    let header = Header {
        version: 2,
        uuid,
        slots,
        cipher: segment.map(|s| s.encryption.clone()).unwrap_or_default(),
        data_offset: segment.and_then(|s| s.offset.parse().ok()).ok_or("it does not tell where its data is")?,
        segments: said.segments.len(),
    };
    Ok((number(area, SEQUENCE), header))
}

fn version_1(bytes: &[u8]) -> Result<Header, LuksError> {
    if bytes.len() < BINARY {
        return Err(LuksError::Damaged("it is cut off"));
    }
    Ok(Header {
        version: 1,
        uuid: uuid(bytes).map_err(LuksError::Damaged)?,
        slots: vec![Slot { number: 0, kdf: Kdf::Pbkdf2(V1_HASH.to_owned()) }],
        cipher: format!("{}-{}", text(bytes, V1_CIPHER), text(bytes, V1_MODE)),
        data_offset: number(bytes, V1_PAYLOAD) * SECTOR,
        segments: 1,
    })
}

/// Somebody else's text, on its way to a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(40).collect()
}

/// It becomes part of a script of GRUB.
fn uuid(bytes: &[u8]) -> Result<String, &'static str> {
    let uuid = text(bytes, UUID);
    let plain = uuid.len() == UUID_LENGTH && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if plain { Ok(uuid) } else { Err("its UUID is none") }
}

/// Most significant byte first.
fn number(bytes: &[u8], at: std::ops::Range<usize>) -> u64 {
    bytes.get(at).unwrap_or_default().iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Up to the first zero.
fn text(bytes: &[u8], at: std::ops::Range<usize>) -> String {
    let field = bytes.get(at).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(field).into_owned()
}
