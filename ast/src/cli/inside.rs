//! The way of every verb that works inside a snapshot: a working copy, the work, a short plan that seals it.

use std::time::Duration;

use serde_json::Value;

use super::change::{attention, locked, locked_within, opened};
use super::context::Global;
use super::error::{CommandError, Kind};
use crate::id::{SetId, SnapshotId};
use crate::plan::Commit;
use crate::progress;
use crate::store::Locked;
use crate::work::{ReadyToSeal, WorkError, WorkingCopy};

/// How long finished work waits for another ast before it is given up: the longest short verb (a deploy, which hashes a kernel) takes
/// seconds on a slow disk.
pub(super) const FINISHED: Duration = Duration::from_secs(60);

/// Copy, work, save.
const STEPS: usize = 3;

/// What becomes of a working copy.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It becomes the snapshot's next generation.
    Save(Value),
    /// Nothing was changed that is worth keeping; not an error.
    Nothing(&'static str),
    /// The same, where its document is printed already, or by what follows.
    Told(&'static str),
}

/// What became of a snapshot.
#[derive(Debug)]
pub(super) enum Ended {
    /// It has a new generation.
    Saved(Saved),
    /// It is as it was, and that is no error.
    Nothing(&'static str),
    /// The same, and its document is not ours to print.
    Told(&'static str),
}

/// A snapshot is as the work left it: a new generation, or the one that it had, where the work wrote nothing.
#[derive(Debug)]
pub(super) struct Saved {
    /// It.
    pub set: SetId,
    /// Whether it is a new one.
    pub is_new: bool,
    /// What the work said, for programs.
    pub document: Value,
    /// What somebody should look at, though it is done (exit code 5).
    pub attention: Result<(), CommandError>,
}

/// The snapshot is as `work` left its copy, or as it was.
///
/// If interrupted: the snapshot is as it was, and the copy is garbage by its name.
/// Refuses: base 0, unless `base` says that it is meant; whoever may not write; too little space to begin.
pub(super) fn change(
    global: &Global,
    n: SnapshotId,
    base: bool,
    what: &str,
    work: impl FnOnce(&WorkingCopy) -> Result<Outcome, CommandError>,
) -> Result<(), CommandError> {
    change_and_describe(global, n, base, what, None, work)
}

/// The same; the new generation comes with another description, if one is given.
pub(super) fn change_and_describe(
    global: &Global,
    n: SnapshotId,
    base: bool,
    what: &str,
    description: Option<&str>,
    work: impl FnOnce(&WorkingCopy) -> Result<Outcome, CommandError>,
) -> Result<(), CommandError> {
    if !base {
        no_base(n)?;
    }
    if global.dry_run {
        return global.plan(&planned(global, n, what)?);
    }
    let set = begin(global, n)?;
    match once(global, set, what, description, work)? {
        Ended::Nothing(why) => global.nothing(why),
        Ended::Told(why) => {
            global.say(why);
            Ok(())
        }
        Ended::Saved(Saved { set, is_new, document, attention }) => {
            if global.json {
                global.print_json(&document)?;
            } else if is_new {
                global.say(format_args!("saved as generation {} of snapshot {}", set.generation, set.snapshot));
            } else {
                global.say(format_args!("nothing was changed: snapshot {} stays at generation {}", set.snapshot, set.generation));
            }
            attention
        }
    }
}

/// Refuses: the base, which is changed by verbs of its own.
pub(super) fn no_base(n: SnapshotId) -> Result<(), CommandError> {
    if n != SnapshotId::BASE {
        return Ok(());
    }
    Err(CommandError::refused("snapshot 0 is the base and is not changed like the others")
        .hint("`ast base-update` upgrades it, `ast chroot --base 0` opens it, `ast new` makes a snapshot of it"))
}

/// What would be done, for a dry run.
pub(super) fn planned(global: &Global, n: SnapshotId, what: &str) -> Result<String, CommandError> {
    let set = opened(global)?.set_of(n)?;
    Ok(format!("{what}:\n    copy set {set} as a working copy\n    {what} in it\n  * seal it as the next generation of snapshot {n}\n"))
}

/// Repairs, looks whether there is space, and gives the set to copy. The lock ends here: a shell may stay open for days.
pub(super) fn begin(global: &Global, n: SnapshotId) -> Result<SetId, CommandError> {
    begin_under(locked(global)?, n)
}

/// The same under a lock that is held already, and ends here.
pub(super) fn begin_under(locked: Locked, n: SnapshotId) -> Result<SetId, CommandError> {
    locked.has_space()?;
    Ok(locked.set_of(n)?)
}

/// The snapshot of `set` is as `work` left its copy, with this description if there is one, or as it was; nothing is printed.
///
/// If interrupted: the snapshot is as it was, and the copy is garbage by its name.
pub(super) fn once(
    global: &Global,
    set: SetId,
    what: &str,
    description: Option<&str>,
    work: impl FnOnce(&WorkingCopy) -> Result<Outcome, CommandError>,
) -> Result<Ended, CommandError> {
    let layout = opened(global)?.layout().clone();
    progress::step(1, STEPS, &format_args!("copy set {set}"));
    let copy = WorkingCopy::create(&layout, set)?;
    progress::long_step(2, STEPS, &what);
    match work(&copy)? {
        Outcome::Nothing(why) => Ok(Ended::Nothing(why)),
        Outcome::Told(why) => Ok(Ended::Told(why)),
        Outcome::Save(document) if description.is_none() && copy.is_as_made()? => {
            Ok(Ended::Saved(Saved { set, is_new: false, document: with_set(document, set), attention: Ok(()) }))
        }
        Outcome::Save(document) => {
            progress::long_step(3, STEPS, &"look whether it is whole, and save it");
            let ready = copy.finish()?;
            seal(global, set, ready, what, description, document).map(Ended::Saved)
        }
    }
}

fn seal(
    global: &Global,
    set: SetId,
    ready: ReadyToSeal,
    what: &str,
    description: Option<&str>,
    document: Value,
) -> Result<Saved, CommandError> {
    let mut locked = locked_within(global, FINISHED)?;
    let (mut plan, new) = locked.plan_seal(set, ready.dir(), what)?;
    if let (Some(text), Commit::Tree { after, .. }) = (description, &mut plan.commit) {
        after.describe(set.snapshot, text)?;
    }
    let findings = ready.findings().to_vec();
    let done = locked.run_sealing(plan, ready)?;
    for finding in findings {
        global.say(format_args!("snapshot {} would not boot: {finding}", set.snapshot));
    }
    Ok(Saved { set: new, is_new: true, document: with_set(document, new), attention: attention(&locked, &done) })
}

fn with_set(mut document: Value, set: SetId) -> Value {
    if let Value::Object(fields) = &mut document {
        fields.insert("set".into(), Value::String(set.to_string()));
    }
    document
}

impl From<WorkError> for CommandError {
    fn from(error: WorkError) -> Self {
        let full = error.is_out_of_space();
        let failure = Self::new(Kind::World, super::error::chain(&error));
        if full {
            failure.hint("the disk is full: `ast del` of a snapshot gives space back; nothing was changed")
        } else {
            failure.hint("the snapshot is as it was")
        }
    }
}
