//! Which snapshots stay and which go: documents in, a list out, nothing touched.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::config::autoupdate::Keep;
use crate::id::SnapshotId;
use crate::tree::{Kind, Marks, Node, Tree};

/// All that the policy looks at.
#[derive(Debug, Clone)]
pub struct Situation<'t> {
    /// The snapshots.
    pub tree: &'t Tree,
    /// What runs and what boots.
    pub marks: Marks,
    /// Whether the boot block has something to be tried: then nothing goes.
    pub trial: bool,
    /// Snapshots of deployments that a copy of the boot block, a baked entry or a menu names.
    pub deployed: BTreeSet<SnapshotId>,
    /// Snapshots that are mounted somewhere, or of which that cannot be told.
    pub mounted: BTreeSet<SnapshotId>,
    /// What an update under way has put into the tree.
    pub under_way: Option<SnapshotId>,
    /// Snapshots whose trial failed.
    pub failed: BTreeSet<SnapshotId>,
    /// Snapshots that an update made and then had no use for.
    pub unused: BTreeSet<SnapshotId>,
    /// Which updates stay, besides whatever stays for another reason.
    pub keep: Keep,
    /// Seconds since 1970, of a clock that may be wrong.
    pub now: u64,
    /// Whether less of the disk is free than [`Keep::min_free`] wants, or than the last update needed, with nothing on its way out.
    pub short: bool,
}

/// Why a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stays {
    /// Snapshot 0.
    Base,
    /// A person made it, described it, or changed what is in it.
    Persons,
    /// A person pinned it.
    Pinned,
    /// It runs.
    Booted,
    /// It boots when nothing is on trial.
    Default,
    /// It is on trial.
    OnTrial,
    /// It boots when the default does not.
    Fallback,
    /// The boot loader could start a deployment of it.
    Deployed,
    /// An update is about to deploy it.
    UnderWay,
    /// The newest one whose trial failed: for a look.
    NewestFailed,
    /// One of the newest updates.
    Recent,
    /// It is not old enough.
    Young,
    /// It should go, but something is on trial.
    Trial,
    /// It should go, but it is mounted.
    Mounted,
}

/// Why a snapshot goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Goes {
    /// There are enough newer updates.
    Old,
    /// The disk is too full to keep it, and it is the oldest that may go.
    Space,
    /// Its trial failed, and so did that of a newer one.
    Failed,
    /// It never was on trial, and never will be.
    Unused,
}

/// What becomes of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It stays.
    Stays(Stays),
    /// It goes.
    Goes(Goes),
}

/// A snapshot and its fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judged {
    /// The snapshot.
    pub id: SnapshotId,
    /// What becomes of it.
    pub fate: Fate,
}

impl Stays {
    /// Whether the snapshot stays only as long as the disk has room for it.
    const fn gives_way(self) -> bool {
        matches!(self, Self::Recent | Self::Young | Self::NewestFailed)
    }
}

/// Each snapshot of the tree with its fate, in the order of their numbers.
///
/// For the sake of space one goes at a time, and only when nothing else does: how much that gives back is not known before.
pub fn judge(situation: &Situation<'_>) -> Vec<Judged> {
    let mut nodes: Vec<&Node> = situation.tree.nodes().collect();
    nodes.sort_by_key(|node| std::cmp::Reverse(node.id));
    let newest_failed = nodes.iter().find(|node| node.by_update && situation.failed.contains(&node.id)).map(|node| node.id);
    let mut recent = 0;
    let mut judged: Vec<Judged> = nodes
        .into_iter()
        .map(|node| {
            let fate = match needed(situation, node) {
                Some(why) => Fate::Stays(why),
                None if newest_failed == Some(node.id) => Fate::Stays(Stays::NewestFailed),
                None => unless_held(situation, node.id, spare(situation, node, &mut recent)),
            };
            Judged { id: node.id, fate }
        })
        .collect();
    judged.reverse();
    let is_over = !judged.iter().any(|j| matches!(j.fate, Fate::Goes(_)));
    if situation.short && is_over {
        let oldest = in_the_way(situation, &judged).next();
        judged.iter_mut().filter(|j| Some(j.id) == oldest).for_each(|j| j.fate = Fate::Goes(Goes::Space));
    }
    judged
}

/// The snapshots that would go for the sake of space, and nothing else, in that order: numbers grow, so the oldest comes first.
pub(super) fn in_the_way(situation: &Situation<'_>, judged: &[Judged]) -> impl Iterator<Item = SnapshotId> {
    let held = |id: &SnapshotId| situation.trial || situation.mounted.contains(id);
    judged.iter().filter(|j| matches!(j.fate, Fate::Stays(why) if why.gives_way())).map(|j| j.id).filter(move |id| !held(id))
}

/// Why nobody may take the snapshot away, whatever its age.
fn needed(situation: &Situation<'_>, node: &Node) -> Option<Stays> {
    let (id, marks) = (Some(node.id), &situation.marks);
    [
        (node.kind == Kind::Base, Stays::Base),
        (marks.booted == id, Stays::Booted),
        (marks.default == id, Stays::Default),
        (marks.trial == id, Stays::OnTrial),
        (marks.fallback == id, Stays::Fallback),
        (situation.deployed.contains(&node.id), Stays::Deployed),
        (node.pinned, Stays::Pinned),
        (!node.by_update, Stays::Persons),
        (situation.under_way == id, Stays::UnderWay),
    ]
    .into_iter()
    .find_map(|(is, why)| is.then_some(why))
}

/// The fate of an update that nothing needs; `recent` counts those that stay for being the newest.
fn spare(situation: &Situation<'_>, node: &Node, recent: &mut u32) -> Fate {
    if situation.failed.contains(&node.id) {
        return Fate::Goes(Goes::Failed);
    }
    if situation.unused.contains(&node.id) {
        return Fate::Goes(Goes::Unused);
    }
    if *recent < situation.keep.updates {
        *recent += 1;
        return Fate::Stays(Stays::Recent);
    }
    // Made in the future, a clock was wrong then or is now: of such a one the age is not known, and keeps nothing (U5).
    if situation.now.checked_sub(node.created).is_some_and(|age| Duration::from_secs(age) < situation.keep.within) {
        return Fate::Stays(Stays::Young);
    }
    Fate::Goes(Goes::Old)
}

/// What goes, unless something holds it for now.
fn unless_held(situation: &Situation<'_>, id: SnapshotId, fate: Fate) -> Fate {
    match fate {
        Fate::Goes(_) if situation.trial => Fate::Stays(Stays::Trial),
        Fate::Goes(_) if situation.mounted.contains(&id) => Fate::Stays(Stays::Mounted),
        fate => fate,
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stays(Stays::Base) => "stays: it is the base",
            Self::Stays(Stays::Persons) => "stays: a person made it, or changed it",
            Self::Stays(Stays::Pinned) => "stays: it is pinned",
            Self::Stays(Stays::Booted) => "stays: it is booted",
            Self::Stays(Stays::Default) => "stays: it is the default",
            Self::Stays(Stays::OnTrial) => "stays: it is on trial",
            Self::Stays(Stays::Fallback) => "stays: it is the fallback",
            Self::Stays(Stays::Deployed) => "stays: the boot loader knows it",
            Self::Stays(Stays::UnderWay) => "stays: an update is about to deploy it",
            Self::Stays(Stays::NewestFailed) => "stays: the newest update that failed",
            Self::Stays(Stays::Recent) => "stays: one of the newest updates",
            Self::Stays(Stays::Young) => "stays: it is not old enough",
            Self::Stays(Stays::Trial) => "stays for now: something is on trial",
            Self::Stays(Stays::Mounted) => "stays for now: it is mounted",
            Self::Goes(Goes::Old) => "goes: there are enough newer updates",
            Self::Goes(Goes::Space) => "goes: the disk is too full, and it is the oldest that may go",
            Self::Goes(Goes::Failed) => "goes: it failed, and so did a newer one",
            Self::Goes(Goes::Unused) => "goes: it was never deployed",
        })
    }
}
