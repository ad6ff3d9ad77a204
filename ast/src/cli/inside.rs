//! The way of every verb that works inside a snapshot: a working copy, the work, a short plan that seals it.

use serde_json::Value;

use super::change::{attention, locked, opened};
use super::context::{Global, print};
use super::error::{CommandError, Kind};
use crate::id::{SetId, SnapshotId};
use crate::plan::Commit;
use crate::work::{ReadyToSeal, WorkError, WorkingCopy};

/// What becomes of a working copy.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It becomes the snapshot's next generation.
    Save(Value),
    /// Nothing was changed that is worth keeping; not an error.
    Nothing(&'static str),
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
    if n == SnapshotId::BASE && !base {
        return Err(CommandError::refused("snapshot 0 is the base and is not changed like the others")
            .hint("`ast base-update` upgrades it, `ast chroot --base 0` opens it, `ast new` makes a snapshot of it"));
    }
    if global.dry_run {
        let set = opened(global)?.set_of(n)?;
        return print(&format!(
            "{what}:\n    copy set {set} as a working copy\n    {what} in it\n  * seal it as the next generation of snapshot {n}\n"
        ));
    }
    let set = begin(global, n)?;
    let layout = opened(global)?.layout().clone();
    let copy = WorkingCopy::create(&layout, set)?;
    match work(&copy)? {
        Outcome::Nothing(why) => {
            global.say(why);
            Ok(())
        }
        Outcome::Save(document) => {
            let ready = copy.finish()?;
            seal(global, set, &ready, what, description, &document)
        }
    }
}

/// Repairs, looks whether there is space, and gives the set to copy. The lock ends here: a shell may stay open for days.
pub(super) fn begin(global: &Global, n: SnapshotId) -> Result<SetId, CommandError> {
    let locked = locked(global)?;
    locked.has_space()?;
    Ok(locked.set_of(n)?)
}

fn seal(global: &Global, set: SetId, ready: &ReadyToSeal, what: &str, description: Option<&str>, document: &Value) -> Result<(), CommandError> {
    let mut locked = locked(global)?;
    let (mut plan, new) = locked.plan_seal(set, ready.dir(), what)?;
    if let (Some(text), Commit::Tree { after, .. }) = (description, &mut plan.commit) {
        after.describe(set.snapshot, text)?;
    }
    let done = locked.run(plan)?;
    for finding in ready.findings() {
        global.say(format_args!("snapshot {} would not boot: {finding}", set.snapshot));
    }
    if global.json {
        let mut document = document.clone();
        if let Value::Object(fields) = &mut document {
            fields.insert("set".into(), Value::String(new.to_string()));
        }
        global.print_json(&document)?;
    } else {
        global.say(format_args!("saved as generation {} of snapshot {}", new.generation, new.snapshot));
    }
    attention(&locked, &done)
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
