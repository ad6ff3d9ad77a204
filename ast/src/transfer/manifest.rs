//! What an export says about itself; signed as a whole.

use serde::{Deserialize, Serialize};

use super::key::unhex;
use super::{Result, TransferError};
use crate::id::{SetId, SnapshotId};
use crate::layout::Part;
use crate::store::{Store, StoreError};
use crate::sys::{SysError, btrfs};
use crate::tree::Later;

/// The version of exports that this program makes, and the newest that it reads.
pub const VERSION: u32 = 1;
/// Bytes of a stream under one checksum: read whole before any of them is used, so it costs memory; 64 hex digits in the manifest each.
pub const CHUNK: usize = 4 << 20;
/// Largest manifest that is read, in bytes: enough for streams of 400 GiB.
pub(super) const MAX_MANIFEST: u64 = 8 << 20;

/// What an export says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The oldest version of ast that can read it.
    pub min_reader: u32,
    /// When it was made, in seconds since 1970 of a clock that may be wrong.
    pub created: u64,
    /// What the snapshot is called.
    pub description: String,
    /// Its set where it was made, for people.
    pub set: String,
    /// How many packages are installed in it, where that can be told.
    pub packages: Option<usize>,
    /// Version of its kernel.
    pub kernel: Option<String>,
    /// Whether it holds what makes a machine that one: its id, host keys.
    pub identity: bool,
    /// For an increment: what it was made against.
    pub parent: Option<ParentManifest>,
    /// The streams in their order: root, etc, var, boot.
    pub parts: Vec<PartManifest>,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

/// What an increment was made against, for people; what counts is in the parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParentManifest {
    /// What it is called.
    pub description: String,
    /// Its set where the increment was made.
    pub set: String,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartManifest {
    /// `root`, `etc`, `var` or `boot`.
    pub name: String,
    /// Identity of its content.
    pub uuid: String,
    /// For an increment: identity of what it was made against.
    pub parent: Option<String>,
    /// Bytes in the export.
    pub bytes: u64,
    /// Bytes that they unpack to.
    pub unpacked: u64,
    /// SHA-256 of each [`CHUNK`] of them, the last one shorter.
    pub sums: Vec<String>,
}

impl Manifest {
    /// The manifest in these signed bytes.
    ///
    /// Refuses: one that only a newer ast can read, and one that is not as it must be, even signed by somebody trusted.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Reader {
            min_reader: u32,
        }
        let bad = |error: serde_json::Error| TransferError::BadManifest(error.to_string());
        let needs = serde_json::from_slice::<Reader>(bytes).map_err(bad)?.min_reader;
        if needs > VERSION {
            return Err(TransferError::Newer { needs });
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(bad)?;
        manifest.check().map_err(|why| TransferError::BadManifest(why.to_owned()))?;
        Ok(manifest)
    }

    fn check(&self) -> std::result::Result<(), &'static str> {
        if !self.parts.iter().map(|part| part.name.as_str()).eq(Part::ALL.map(Part::name)) {
            return Err("its parts are not root, etc, var and boot");
        }
        let mut total = Some(0u64);
        for part in &self.parts {
            if !is_uuid(&part.uuid) || !part.parent.as_deref().is_none_or(is_uuid) {
                return Err("an identity in it is no UUID");
            }
            if part.parent.is_some() != self.parent.is_some() {
                return Err("only some of its parts are increments");
            }
            if part.bytes.div_ceil(CHUNK as u64) != part.sums.len() as u64 || part.bytes == 0 {
                return Err("it has not one checksum for each stretch");
            }
            if part.sums.iter().any(|sum| unhex::<32>(sum).is_none()) {
                return Err("a checksum in it is none");
            }
            total = total.and_then(|t| t.checked_add(part.unpacked)?.checked_add(part.bytes)).filter(|t| *t < u64::MAX / 2);
        }
        total.map(drop).ok_or("it is larger than any disk")
    }

    /// Which part each of its streams is of.
    pub fn streams(&self) -> impl Iterator<Item = (Part, &PartManifest)> {
        Part::ALL.into_iter().zip(&self.parts)
    }

    /// Bytes that its streams unpack to: at least as much as they take on a disk that does not compress.
    pub fn unpacked(&self) -> u64 {
        self.parts.iter().map(|part| part.unpacked).sum()
    }

    /// Bytes of its streams.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_digit() || (b'a'..=b'f').contains(&b),
        })
        && text.bytes().any(|b| b != b'0' && b != b'-')
}

/// What the content of this subvolume is known by on every machine that has it: the UUID that it was received with, or its own.
pub(super) fn identity(path: &std::path::Path) -> Result<String, SysError> {
    let uuids = btrfs::uuids(path)?;
    Ok(uuids.received.unwrap_or(uuids.own))
}

/// What an export was made against, on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Against {
    /// Nothing: it is whole by itself.
    Nothing,
    /// The content of this snapshot.
    Here(SnapshotId),
    /// Something that is not here.
    Missing,
}

/// The snapshot that has the content that `manifest` was made against.
pub fn parent_on(store: &Store, manifest: &Manifest) -> std::result::Result<Against, StoreError> {
    if manifest.parent.is_none() {
        return Ok(Against::Nothing);
    }
    Ok(find(store, manifest, |part| part.parent.as_deref())?.map_or(Against::Missing, Against::Here))
}

/// The snapshot that has this very content already.
pub fn present_on(store: &Store, manifest: &Manifest) -> std::result::Result<Option<SnapshotId>, StoreError> {
    find(store, manifest, |part| Some(&part.uuid))
}

impl Against {
    /// The snapshot, if it needs one.
    ///
    /// Refuses: when that is not here.
    pub fn needed_by(self, manifest: &Manifest) -> Result<Option<SnapshotId>> {
        match (self, &manifest.parent) {
            (Self::Missing, Some(parent)) => Err(TransferError::NoParent { of: parent.description.clone(), set: parent.set.clone() }),
            (Self::Here(id), _) => Ok(Some(id)),
            _ => Ok(None),
        }
    }
}

/// The newest snapshot each of whose parts was, or is, the subvolume that `wanted` names.
fn find<'a>(
    store: &Store,
    manifest: &'a Manifest,
    wanted: impl Fn(&'a PartManifest) -> Option<&'a str>,
) -> std::result::Result<Option<SnapshotId>, StoreError> {
    let mut sets: Vec<SetId> = store.tree()?.nodes().map(crate::tree::Node::set).collect();
    sets.sort();
    for set in sets.into_iter().rev() {
        let mut all = true;
        for (part, said) in manifest.streams() {
            // A set that is damaged is not what is looked for.
            let known = btrfs::uuids(&store.layout().set_part(set, part));
            all &= known.is_ok_and(|known| wanted(said).is_some_and(|id| known.own == id || known.received.as_deref() == Some(id)));
        }
        if all {
            return Ok(Some(set.snapshot));
        }
    }
    Ok(None)
}
