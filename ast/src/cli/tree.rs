//! `tree`, `new`, `clone`, `clone-tree`, `branch`, `cbranch`, `ubranch`, `del`, `pin`, `unpin`: the shape of the tree.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use serde_json::json;

use super::change::{self, opened};
use super::context::{Global, print};
use super::error::CommandError;
use super::terminal::{Paint, Tone};
use crate::id::SnapshotId;
use crate::plan::Plan;
use crate::store::{Store, StoreError};
use crate::tree::{LEGEND, Mark, Tree, draw_with};
use crate::volumes;

/// `ast tree` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct ShowArgs {}

/// What a new tree is called.
#[derive(Debug, clap::Args)]
pub(super) struct NewArgs {
    /// Its description
    description: Vec<String>,
}

/// What is copied.
#[derive(Debug, clap::Args)]
pub(super) struct CopyArgs {
    /// The snapshot to copy
    snapshot: SnapshotId,
    /// Description of the copy (default: that of the original)
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
}

/// What is copied where.
#[derive(Debug, clap::Args)]
pub(super) struct UnderArgs {
    /// The snapshot that the copy goes under
    parent: SnapshotId,
    /// The snapshot to copy
    snapshot: SnapshotId,
    /// Description of the copy (default: that of the original)
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
}

/// What is deleted.
#[derive(Debug, clap::Args)]
pub(super) struct DeleteArgs {
    /// The snapshot; everything below it goes too
    snapshot: SnapshotId,
}

/// What is protected.
#[derive(Debug, clap::Args)]
pub(super) struct PinArgs {
    /// The snapshot
    snapshot: SnapshotId,
}

/// The tree is on standard output, as the README draws it.
pub(super) fn show(_: &ShowArgs, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let (tree, marks) = (store.tree()?, store.marks());
    if !global.json {
        let paint = Paint::stdout();
        let drawn = draw_with(tree, &marks, &broken(&store, tree), &|mark, word| paint.tone(tone(mark), word));
        let legend = if std::io::stdout().is_terminal() { format!("{}\n", paint.tone(Tone::Faint, LEGEND)) } else { String::new() };
        return print(&format!("{drawn}{legend}"));
    }
    let nodes: Vec<_> = tree
        .walk()
        .map(|visit| {
            let node = visit.node;
            json!({
                "id": node.id, "set": node.set(), "parent": node.parent, "description": node.description, "created": node.created,
                "pinned": node.pinned, "by_update": node.by_update, "booted": marks.booted == Some(node.id), "default": marks.default == Some(node.id),
                "trial": marks.trial == Some(node.id), "fallback": marks.fallback == Some(node.id),
            })
        })
        .collect();
    global.print_json(&json!({ "snapshots": nodes }))
}

/// Those that are not whole on disk, as far as one may look: nobody but root may everywhere.
fn broken(store: &Store, tree: &Tree) -> BTreeSet<SnapshotId> {
    if volumes::sets(store.layout()).is_err() {
        return BTreeSet::new();
    }
    tree.nodes().filter(|node| !volumes::is_whole_set(store.layout(), node.set())).map(|node| node.id).collect()
}

const fn tone(mark: Mark) -> Tone {
    match mark {
        Mark::Default => Tone::Well,
        Mark::Booted => Tone::Strong,
        Mark::Trial => Tone::Notice,
        Mark::Fallback | Mark::Pinned => Tone::Faint,
        Mark::Broken => Tone::Bad,
    }
}

/// Base 0 is also a new tree.
pub(super) fn new(args: &NewArgs, global: &Global) -> Result<(), CommandError> {
    let description = args.description.join(" ");
    add(global, |store| store.plan_new(&description))
}

/// The snapshot is also a new tree.
pub(super) fn clone(args: &CopyArgs, global: &Global) -> Result<(), CommandError> {
    add(global, |store| store.plan_clone(args.snapshot, &described(store, args.snapshot, args.description.as_deref())?))
}

/// The snapshot has a copy below it.
pub(super) fn branch(args: &CopyArgs, global: &Global) -> Result<(), CommandError> {
    add(global, |store| store.plan_branch(args.snapshot, &described(store, args.snapshot, args.description.as_deref())?))
}

/// The snapshot has a copy beside it.
pub(super) fn cbranch(args: &CopyArgs, global: &Global) -> Result<(), CommandError> {
    add(global, |store| store.plan_cbranch(args.snapshot, &described(store, args.snapshot, args.description.as_deref())?))
}

/// The snapshot has a copy below another one.
pub(super) fn ubranch(args: &UnderArgs, global: &Global) -> Result<(), CommandError> {
    add(global, |store| store.plan_ubranch(args.parent, args.snapshot, &described(store, args.snapshot, args.description.as_deref())?))
}

/// The snapshot and everything below it have a copy as a new tree.
pub(super) fn clone_tree(args: &CopyArgs, global: &Global) -> Result<(), CommandError> {
    change::planned(global, |store| {
        let (plan, copies) = store.plan_clone_tree(args.snapshot, args.description.as_deref())?;
        let pairs: Vec<_> = copies.iter().map(|(of, copy)| json!({ "of": of, "snapshot": copy })).collect();
        let text = copies.iter().map(|(of, copy)| format!("snapshot {copy} is a copy of {of}\n")).collect();
        Ok(Some((plan, text, json!({ "copies": pairs }))))
    })
}

/// The snapshot and everything below it are gone.
///
/// Refuses: the base, and whatever holds a booted, default, trial, fallback or pinned snapshot.
pub(super) fn delete(args: &DeleteArgs, global: &Global) -> Result<(), CommandError> {
    if !global.dry_run {
        global.may_write()?;
    }
    let store = opened(global)?;
    let (_, ids) = store.plan_del(args.snapshot)?;
    let list = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    global.confirm(&format!("Delete snapshot {list}?"))?;
    change::planned(global, |store| {
        let (plan, now) = store.plan_del(args.snapshot)?;
        if now != ids {
            return Err(StoreError::Stale("the tree has changed"));
        }
        Ok(Some((plan, format!("deleted: {list}\n"), json!({ "deleted": ids }))))
    })
}

/// The snapshot is protected, or no longer.
pub(super) fn pin(args: &PinArgs, pinned: bool, global: &Global) -> Result<(), CommandError> {
    change::planned(global, |store| {
        let state = json!({ "snapshot": args.snapshot, "pinned": pinned });
        Ok(store.plan_pin(args.snapshot, pinned)?.map(|plan| (plan, String::new(), state)))
    })
}

fn described(store: &Store, of: SnapshotId, wanted: Option<&str>) -> Result<String, StoreError> {
    match wanted {
        Some(text) => Ok(text.to_owned()),
        None => Ok(store.tree()?.get(of)?.description.clone()),
    }
}

fn add(global: &Global, plan: impl Fn(&Store) -> Result<(Plan, SnapshotId), StoreError>) -> Result<(), CommandError> {
    change::planned(global, |store| {
        let (plan, id) = plan(store)?;
        Ok(Some((plan, format!("snapshot {id}\n"), json!({ "snapshot": id }))))
    })
}
