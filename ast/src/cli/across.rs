//! The way of every verb that works in a snapshot and in everything below it: parents first, each snapshot for itself all or nothing, a
//! table at the end.

use serde_json::{Value, json};

use super::change::{locked, locked_within, opened};
use super::context::{Global, clean, print};
use super::error::{CommandError, Kind};
use super::inside::{self, Ended, FINISHED, Outcome, Saved};
use crate::id::SnapshotId;
use crate::pacman::Change;
use crate::store::{Store, StoreError};
use crate::work::WorkingCopy;

/// Changes of packages that a line of the table names; the rest is counted.
const NAMED: usize = 4;

/// One snapshot of the walk, and the one above it; the first has none that matters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub id: SnapshotId,
    pub above: Option<SnapshotId>,
}

/// What the work in one snapshot came to.
#[derive(Debug)]
pub(super) enum Did {
    /// It is to be saved: in words for the table, and for programs.
    Changed(String, Value),
    /// Nothing was changed that is worth keeping.
    Nothing(&'static str),
    /// Somebody wants it to end: it is thrown away, and what follows is not begun.
    Interrupted(CommandError),
}

/// `n` and everything below it, parents first, each once (S11).
///
/// Refuses: the base, which is changed by verbs of its own.
pub(super) fn places(store: &Store, verb: &str, n: SnapshotId) -> Result<Vec<Place>, CommandError> {
    let tree = store.tree()?;
    if n == SnapshotId::BASE {
        let below: Vec<String> = tree.children(n).map(|child| format!("`ast {verb} {}`", child.id)).collect();
        let refused = CommandError::refused("snapshot 0 is the base and is not changed like the others");
        return Err(match below.as_slice() {
            [] => refused.hint("`ast base-update` upgrades it; name a tree of your own, which `ast tree` shows"),
            below => refused.hint(format!("`ast base-update` upgrades it; for what is below it: {}", below.join(", "))),
        });
    }
    let walk = tree.walk_from(n).map_err(StoreError::from)?;
    Ok(walk.map(|visit| Place { id: visit.node.id, above: visit.node.parent.filter(|_| visit.node.id != n) }).collect())
}

/// Every snapshot of the walk is as `work` left its copy, or as it was; what became of each is on standard output.
///
/// If interrupted: some have their new generation, the others are as they were.
/// Refuses: the base; whoever may not write. What fails in one snapshot keeps no other from its turn.
pub(super) fn each(
    global: &Global,
    verb: &str,
    n: SnapshotId,
    what: impl Fn(SnapshotId) -> String,
    work: impl FnMut(Place, &WorkingCopy) -> Result<Did, CommandError>,
) -> Result<(), CommandError> {
    over(global, verb, Some(n), |store| places(store, verb, n), what, work)
}

/// The same of the snapshots that `walk` gives, whatever they are.
pub(super) fn over(
    global: &Global,
    verb: &str,
    n: Option<SnapshotId>,
    walk: impl Fn(&Store) -> Result<Vec<Place>, CommandError>,
    what: impl Fn(SnapshotId) -> String,
    mut work: impl FnMut(Place, &WorkingCopy) -> Result<Did, CommandError>,
) -> Result<(), CommandError> {
    if global.dry_run {
        let places = walk(&opened(global)?)?;
        let plans = places.iter().map(|place| inside::planned(global, place.id, &what(place.id)));
        return global.plan(&plans.collect::<Result<String, _>>()?);
    }
    // Judged under the lock, and after a repair; whoever holds it is told of at once, as by every other verb.
    let places = walk(&*locked(global)?)?;
    let mut rows = Vec::new();
    let mut interrupted = false;
    for (index, place) in places.iter().enumerate() {
        if interrupted {
            rows.push(Row { id: place.id, result: Err(CommandError::new(Kind::World, "not begun: it was interrupted")) });
            continue;
        }
        let what = what(place.id);
        global.say(format_args!("== {what} ({} of {})", index + 1, places.len()));
        let row = Row { id: place.id, result: one(global, *place, &what, &mut work, &mut interrupted) };
        row.tell();
        rows.push(row);
    }
    if global.json {
        global.print_json(&json!({ "verb": verb, "snapshot": n, "rows": rows.iter().map(Row::document).collect::<Vec<_>>() }))?;
    } else {
        print(&table(&rows))?;
    }
    verdict(&rows)
}

fn one(
    global: &Global,
    place: Place,
    what: &str,
    work: &mut impl FnMut(Place, &WorkingCopy) -> Result<Did, CommandError>,
    interrupted: &mut bool,
) -> Result<(Ended, String), CommandError> {
    let set = inside::begin_under(locked_within(global, FINISHED)?, place.id)?;
    let mut told = String::new();
    let ended = inside::once(global, set, what, None, |copy| {
        Ok(match work(place, copy)? {
            Did::Changed(words, document) => {
                told = words;
                Outcome::Save(document)
            }
            Did::Nothing(why) => Outcome::Nothing(why),
            Did::Interrupted(error) => {
                *interrupted = true;
                return Err(error);
            }
        })
    })?;
    Ok((ended, told))
}

/// What became of one snapshot.
struct Row {
    id: SnapshotId,
    result: Result<(Ended, String), CommandError>,
}

impl Row {
    /// A failure is told when it happens, whole; the table has its first line.
    fn tell(&self) {
        if let Err(CommandError { kind, message, hints }) = &self.result {
            let error = CommandError { kind: *kind, message: format!("snapshot {}: {message}", self.id), hints: hints.clone() };
            let _ = error.report();
        }
    }

    fn words(&self) -> (&'static str, String) {
        match &self.result {
            Ok((Ended::Saved(_), told)) => ("saved", told.clone()),
            Ok((Ended::Nothing(why) | Ended::Told(why), _)) => ("nothing", (*why).to_owned()),
            Err(error) => ("failed", error.message.lines().next().unwrap_or_default().to_owned()),
        }
    }

    fn document(&self) -> Value {
        let mut document = match &self.result {
            Ok((Ended::Saved(Saved { document, .. }), _)) => document.clone(),
            Ok((Ended::Nothing(why) | Ended::Told(why), _)) => json!({ "why": why }),
            Err(error) => json!({ "error": error.message, "hints": error.hints }),
        };
        if let Value::Object(fields) = &mut document {
            fields.insert("snapshot".into(), json!(self.id));
            fields.insert("result".into(), self.words().0.into());
        }
        document
    }
}

fn table(rows: &[Row]) -> String {
    let lines = rows.iter().map(|row| {
        let (word, told) = row.words();
        format!("{:<8}  {word:<7}  {}", row.id.to_string(), clean(&told))
    });
    let lines: Vec<String> = lines.map(|line| format!("{}\n", line.trim_end())).collect();
    format!("snapshot  result   what\n{}", lines.concat())
}

/// Exit code 1 when a snapshot is as it was though it should not be, 5 when something done wants a look.
fn verdict(rows: &[Row]) -> Result<(), CommandError> {
    let failed: Vec<String> = rows.iter().filter(|row| row.result.is_err()).map(|row| row.id.to_string()).collect();
    if !failed.is_empty() {
        let message = format!("{} of {} snapshots failed and are as they were: {}", failed.len(), rows.len(), failed.join(", "));
        return Err(CommandError::new(Kind::World, message).hint("the others are done; what failed can be done again alone"));
    }
    let mut looks = rows.iter().filter_map(|row| match &row.result {
        Ok((Ended::Saved(Saved { attention: Err(error), .. }), _)) => Some((row.id, error)),
        _ => None,
    });
    looks.next().map_or(Ok(()), |(id, CommandError { kind, message, hints })| {
        Err(CommandError { kind: *kind, message: format!("snapshot {id}: {message}"), hints: hints.clone() })
    })
}

/// The change in a line: the first packages by name, the rest counted.
pub(super) fn short(change: &Change) -> String {
    let added = change.added.iter().map(|p| format!("+ {} {}", p.name, p.version));
    let removed = change.removed.iter().map(|p| format!("- {} {}", p.name, p.version));
    let changed = change.changed.iter().map(|(name, old, new)| format!("{name} {old} -> {new}"));
    let all: Vec<String> = added.chain(removed).chain(changed).collect();
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pacman::Package;

    #[test]
    fn a_long_change_is_named_in_part_and_counted() {
        let package = |n: usize| Package { name: format!("p{n}"), version: "1".into(), explicit: true };
        let change = Change { added: (0..6).map(package).collect(), ..Change::default() };
        assert_eq!(short(&change), "+ p0 1, + p1 1, + p2 1, + p3 1, and 2 more");
        assert_eq!(short(&Change { removed: vec![package(1)], ..Change::default() }), "- p1 1");
        assert_eq!(short(&Change::default()), "");
    }
}
