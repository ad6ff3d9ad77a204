//! What of the original is on disk. Nothing is changed by looking.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::shape::shape;
use super::{FSTREE, LegacyError, Result};
use crate::id::SnapshotId;
use crate::layout::{Layout, Part};
use crate::sys::{btrfs, file};
use crate::tree::clean_description;
use crate::volumes::MountEntry;

/// The names of the two deployments that the original uses in turn.
const DEPLOYMENTS: [&str; 2] = ["tmp", "tmp0"];
/// What a name of a working copy begins with.
const COPY: &str = "chr";
/// Where a root says which snapshot it is.
const NUMBER_IN_ROOT: &str = "usr/share/ast/snap";

/// One of the original's snapshots, as it can be taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its root.
    pub root: PathBuf,
    /// Its `/etc`.
    pub etc: PathBuf,
    /// Its `/boot`.
    pub boot: PathBuf,
    /// Its `/var`, in older versions.
    pub var: Option<PathBuf>,
    /// Whether parts of it are a working copy's: the original was interrupted while it replaced the snapshot.
    pub survivor: bool,
    /// What it is called.
    pub description: Option<String>,
    /// When it was described, in seconds since 1970.
    pub described: Option<u64>,
}

/// One of its deployments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    /// `tmp` or `tmp0`.
    pub name: &'static str,
    /// Its root.
    pub root: PathBuf,
    /// Its `/etc`, if it is there.
    pub etc: Option<PathBuf>,
    /// Its `/boot`, if it is there.
    pub boot: Option<PathBuf>,
    /// The snapshot that it says it is.
    pub of: Option<SnapshotId>,
}

/// What there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Snapshots that are whole, by their numbers.
    pub snapshots: BTreeMap<SnapshotId, Source>,
    /// The parent of each, where the tree file knows it.
    pub shape: BTreeMap<SnapshotId, Option<SnapshotId>>,
    /// Whether the tree file could be read.
    pub has_shape: bool,
    /// The deployment that starts next.
    pub deployment: Option<Deployment>,
    /// The highest number that anything bears (S6).
    pub highest: SnapshotId,
    /// What is not taken over, and why, in words.
    pub notes: Vec<String>,
}

/// Whether any of the README's paths is a subvolume, where we have links.
pub(super) fn has_subvolumes(layout: &Layout) -> bool {
    names(layout, Part::Root).is_ok_and(|all| all.values().any(|path| is_theirs(path)))
}

/// Links are ours, and lead to subvolumes.
fn is_theirs(path: &Path) -> bool {
    !path.is_symlink() && btrfs::is_subvolume(path)
}

/// Every subvolume of the original's below `/.snapshots`: snapshots, deployments, working copies.
pub(super) fn subvolumes(layout: &Layout) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for part in Part::ALL {
        all.extend(names(layout, part)?.into_values().filter(|path| is_theirs(path)));
    }
    Ok(all)
}

/// Everything of the original below `/.snapshots`.
///
/// Refuses: a machine without a snapshot that has its root, `/etc` and `/boot`.
pub fn look(layout: &Layout) -> Result<Found> {
    let mut notes = Vec::new();
    let text = file::read_if_exists(&layout.document(FSTREE))?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let shape = text.as_deref().and_then(shape);
    if shape.is_none() {
        notes.push(format!("{} is no tree: each snapshot becomes a tree of its own", layout.document(FSTREE).display()));
    }
    let has_shape = shape.is_some();
    let shape = shape.unwrap_or_default();
    let mut parts = BTreeMap::new();
    for part in Part::ALL {
        parts.insert(part.name(), names(layout, part)?.into_iter().filter(|(_, path)| is_theirs(path)).collect::<BTreeMap<_, _>>());
    }
    let at = |part: Part, name: &str| parts.get(part.name()).and_then(|all| all.get(name)).cloned();
    let number = |name: &str| name.strip_prefix(COPY).unwrap_or(name).parse::<SnapshotId>().ok();
    let mut numbers: Vec<SnapshotId> = parts.values().flat_map(BTreeMap::keys).filter_map(|name| number(name)).collect();
    numbers.sort();
    numbers.dedup();

    let mut snapshots = BTreeMap::new();
    for id in &numbers {
        let (plain, copy) = (id.to_string(), format!("{COPY}{id}"));
        let whole = [Part::Root, Part::Etc, Part::Boot].iter().all(|part| at(*part, &plain).is_some());
        // The original replaces one part after the other: where one is missing, what the copy has is what was meant.
        let get = |part| if whole { at(part, &plain) } else { at(part, &copy).or_else(|| at(part, &plain)) };
        match (get(Part::Root), get(Part::Etc), get(Part::Boot)) {
            (Some(root), Some(etc), Some(boot)) => {
                let (description, described) = described(layout, *id)?;
                let var = get(Part::Var);
                snapshots.insert(*id, Source { root, etc, boot, var, survivor: !whole, description, described });
                if whole && at(Part::Root, &copy).is_some() {
                    notes.push(format!("a working copy of snapshot {id} is left where it is: the snapshot is whole without it"));
                } else if !whole {
                    notes.push(format!("snapshot {id} is taken from its working copy: the original was interrupted when it replaced it"));
                }
            }
            _ => notes.push(format!("snapshot {id} is not whole, and stays where it is")),
        }
    }
    notes.extend(
        shape.keys().filter(|id| !numbers.contains(id)).map(|id| format!("snapshot {id} is in the tree file, and has nothing on disk")),
    );
    if snapshots.is_empty() {
        return Err(LegacyError::NoSnapshot(layout.snapshots().to_owned()));
    }
    let highest = numbers.iter().chain(shape.keys()).max().copied().unwrap_or(SnapshotId::BASE);
    let deployment = next(layout, at)?;
    Ok(Found { snapshots, shape, has_shape, deployment, highest, notes })
}

/// Everything where the README's paths of `part` are, by what comes after `snapshot-`, `etc-` ….
fn names(layout: &Layout, part: Part) -> Result<BTreeMap<String, PathBuf>> {
    let example = layout.link(SnapshotId::BASE, part);
    let (Some(dir), Some(name)) = (example.parent(), example.file_name().and_then(|n| n.to_str())) else { return Ok(BTreeMap::new()) };
    let prefix = name.trim_end_matches('0');
    let names = file::names(dir)?.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names.filter_map(|name| Some((name.strip_prefix(prefix)?.to_owned(), dir.join(&name)))).collect())
}

/// The first line of its description, and when that was written.
fn described(layout: &Layout, id: SnapshotId) -> Result<(Option<String>, Option<u64>)> {
    let path = layout.documents().join(format!("snapshots/{id}-desc"));
    let Some(bytes) = file::read_if_exists(&path)? else { return Ok((None, None)) };
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let line = clean_description(text.lines().next().unwrap_or_default());
    let time = std::fs::metadata(&path).and_then(|m| m.modified()).ok();
    let seconds = time.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok()).map(|d| d.as_secs());
    Ok((Some(line).filter(|line| !line.is_empty()), seconds))
}

/// The deployment that starts next: the filesystem's default subvolume, else the one that runs, else the one that is there.
fn next(layout: &Layout, at: impl Fn(Part, &str) -> Option<PathBuf>) -> Result<Option<Deployment>> {
    let default = btrfs::default_subvolume(layout.snapshots())?;
    let running = MountEntry::of(Path::new("/"))?.and_then(|entry| entry.subvolume);
    let mut all: Vec<Deployment> = DEPLOYMENTS
        .iter()
        .filter_map(|name| {
            let root = at(Part::Root, name)?;
            let of = file::read(&root.join(NUMBER_IN_ROOT)).ok().and_then(|bytes| String::from_utf8_lossy(&bytes).trim().parse().ok());
            Some(Deployment { name, etc: at(Part::Etc, name), boot: at(Part::Boot, name), of, root })
        })
        .collect();
    all.sort_by_key(|deployment| {
        let id = btrfs::subvolume_id(&deployment.root).ok();
        (id != Some(default), id != running)
    });
    Ok(all.into_iter().next())
}

impl Found {
    /// The snapshot that becomes base 0: the original's, or else the lowest one that is whole.
    pub fn base(&self) -> SnapshotId {
        self.snapshots.keys().next().copied().unwrap_or(SnapshotId::BASE)
    }
}
