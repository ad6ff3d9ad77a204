//! The way of every verb that changes something: open, lock, repair, plan, print or run.

use std::time::Duration;

use serde_json::Value;

use super::context::{Global, print};
use super::error::{CommandError, Kind, chain};
use crate::etc::Report;
use crate::plan::Plan;
use crate::store::{Done, Locked, Store, StoreError};
use crate::sys::lock::Wait;
use crate::tree::TreeError;

/// How long a verb waits for another ast: short verbs are over by then, and a person does not wonder yet.
const PATIENCE: Duration = Duration::from_secs(2);

/// A plan with what to print when it is done: for people, for programs.
pub(super) type Planned = Option<(Plan, String, Value)>;

/// The machine, opened for reading.
pub(super) fn opened(global: &Global) -> Result<Store, CommandError> {
    let store = Store::open(&global.sysroot)?;
    // Where the original's own system runs, its /boot/grub is not the one that GRUB reads.
    if let Err(error) = crate::legacy::show_grub(&store) {
        tracing::warn!("what GRUB reads cannot be seen: {}", chain(&error));
    }
    Ok(store)
}

/// The machine, locked and repaired; what the repair did is told.
pub(super) fn locked(global: &Global) -> Result<Locked, CommandError> {
    locked_within(global, PATIENCE)
}

/// The same for somebody who may wait this long: what took minutes to make is not thrown away for a short verb of another.
pub(super) fn locked_within(global: &Global, patience: Duration) -> Result<Locked, CommandError> {
    global.may_write()?;
    let locked = opened(global)?.lock(Wait::Up(patience))?;
    for mended in &locked.repaired().mended {
        tracing::info!("repaired: {mended}");
    }
    if locked.repaired().needs_attention() {
        for mended in &locked.repaired().mended {
            global.say(format_args!("repaired: {mended}"));
        }
        for problem in &locked.repaired().problems {
            global.say(format_args!("not repaired: {}", chain(problem)));
        }
    }
    Ok(locked)
}

/// What `make` plans is printed (dry run) or done; `None` means that there is nothing to do.
///
/// Refuses: whoever may not write.
pub(super) fn planned(global: &Global, make: impl FnOnce(&Store) -> Result<Planned, StoreError>) -> Result<(), CommandError> {
    if global.dry_run {
        return match make(&opened(global)?)? {
            Some((plan, ..)) => global.plan(&plan.to_string()),
            None => global.plan("nothing to do\n"),
        };
    }
    let mut locked = locked(global)?;
    let Some((plan, text, document)) = make(&locked)? else {
        return global.nothing("nothing to do");
    };
    let done = locked.run(plan)?;
    tell(global, document, &text, done.etc.as_ref())?;
    attention(&locked, &done)
}

/// What was done is printed, with what was merged into an `/etc`, if anything was.
pub(super) fn tell(global: &Global, mut document: Value, text: &str, etc: Option<&Report>) -> Result<(), CommandError> {
    if !global.json {
        let lines: String = etc.map(Report::lines).unwrap_or_default().iter().map(|line| format!("  {line}\n")).collect();
        return print(&format!("{text}{lines}"));
    }
    if let (Value::Object(fields), Some(etc)) = (&mut document, etc) {
        fields.insert("etc".into(), etc.json());
    }
    global.print_json(&document)
}

/// Exit code 5 when something is done but wants a look.
pub(super) fn attention(locked: &Locked, done: &Done) -> Result<(), CommandError> {
    unfinished(&done.unfinished)?;
    look_at(done.etc.as_ref())?;
    attention_to(locked)
}

/// Exit code 5 when something that follows from what is done could not be done.
pub(super) fn unfinished(unfinished: &[StoreError]) -> Result<(), CommandError> {
    let Some(first) = unfinished.first() else { return Ok(()) };
    Err(CommandError::new(Kind::Attention, format!("done, but not all that follows from it: {}", chain(first)))
        .hint("the next command of ast finishes it; `ast doctor` says more"))
}

/// Exit code 5 when the repair at the start found damage.
pub(super) fn attention_to(locked: &Locked) -> Result<(), CommandError> {
    if locked.repaired().needs_attention() {
        return Err(CommandError::new(Kind::Attention, "done, after a repair of what was found damaged").hint("`ast doctor` says more"));
    }
    Ok(())
}

/// Exit code 5 when somebody should look at what was merged.
pub(super) fn look_at(etc: Option<&Report>) -> Result<(), CommandError> {
    let list: Vec<String> = etc.into_iter().flat_map(Report::to_look_at).collect();
    if list.is_empty() {
        return Ok(());
    }
    Err(CommandError::new(Kind::Attention, format!("done, and settled in /etc: {}", list.join("; "))))
}

impl From<StoreError> for CommandError {
    fn from(error: StoreError) -> Self {
        let kind = if error.is_locked() {
            Kind::Locked
        } else if error.is_refusal() {
            Kind::Refused
        } else if error.needs_newer() {
            Kind::Attention
        } else {
            Kind::World
        };
        let failure = Self::new(kind, chain(&error));
        match &error {
            StoreError::NoSystem { .. } => failure.hint("give the place with --sysroot DIR"),
            StoreError::Tree(TreeError::Unknown(_)) => failure.hint("`ast tree` shows the snapshots that there are"),
            StoreError::Needed { need: crate::store::Need::Pinned, id } => {
                failure.hint(format!("`ast unpin {id}` takes its protection away"))
            }
            StoreError::Needed { .. } => failure.hint("deploy another snapshot and reboot into it first"),
            StoreError::Moved { .. } | StoreError::Stale(_) => failure.hint("look at `ast tree` and do it again"),
            StoreError::NoSpace { .. } => failure.hint("`ast clean`, or `ast del` of a snapshot, gives space back"),
            StoreError::NoKeptVar(kept) if kept.is_empty() => failure.hint("without --with-var the rollback leaves /var as it is"),
            StoreError::NoKeptVar(_) => failure.hint("`--with-var=DEPLOYMENT` chooses one; without it the rollback leaves /var as it is"),
            StoreError::VarHolds(_) => failure.hint("move what is in it to a plain directory, or roll back without --with-var"),
            StoreError::Original { .. } => failure.hint("`ast migrate --dry-run` says what taking it over would do"),
            StoreError::OriginalBoot => failure.hint("`ast migrate --boot` puts our boot script in its place; the original's menu stays an entry of it"),
            StoreError::NoFallback => failure.hint("`ast deploy N` takes any snapshot"),
            _ if error.is_locked() => failure.hint("wait for it to end"),
            _ if error.needs_newer() => failure.hint("`ast ast-sync` brings a newer ast"),
            _ => failure,
        }
    }
}

impl From<TreeError> for CommandError {
    fn from(error: TreeError) -> Self {
        StoreError::from(error).into()
    }
}
