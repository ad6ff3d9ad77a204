//! `live-chroot`, and what `install --live` does beside the snapshot: what is booted is changed, whole and at once.

use std::time::Instant;

use serde_json::json;

use super::change::{attention_to, locked, locked_within, opened};
use super::chroot::is_saved;
use super::context::{Global, print};
use super::error::{CommandError, Kind, chain};
use super::inside::FINISHED;
use super::packages::feed;
use crate::exec::{Invocation, Options, Program, Streams};
use crate::id::{DeployId, SnapshotId};
use crate::live::{self, LiveError, Ready, Session, allowed};
use crate::pacman::{self, Change};
use crate::work::WorkingCopy;

/// `ast live-chroot` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// What is booted is as the shell left its copy, when that ended with 0; as before otherwise. Gone with the next deploy.
///
/// If interrupted: as before or as after, and whole.
/// Refuses: see [`allowed`], [`Session::finish`].
pub(super) fn chroot(_: &Args, global: &Global) -> Result<(), CommandError> {
    let (d, _) = allowed(&opened(global)?)?;
    if global.dry_run {
        return global.plan(&dry(d, "a shell in it"));
    }
    let session = begin(global)?;
    global.say(format_args!("root shell in a copy of what is booted (deployment {d}): `exit 0` applies it at once, `exit 1` discards it"));
    let begun = Instant::now();
    let ended = session.copy().run(&Invocation::new(Program::Bash).arg("-l"), Options::new(Streams::Terminal)).map_err(LiveError::from)?;
    is_saved(&ended, begun.elapsed(), global)?;
    let shown = apply(&session.finish(false)?, "live-chroot", global)?;
    if global.json { global.print_json(&json!({ "deployment": d, "shown": shown })) } else { Ok(()) }
}

/// A live installation beside one in the snapshot.
#[derive(Debug)]
pub(super) struct Beside {
    d: DeployId,
    ready: Option<Ready>,
}

impl Beside {
    /// What is booted is of snapshot `n` and may be changed.
    ///
    /// Refuses: another snapshot than the booted one, and as [`allowed`].
    pub(super) fn of(n: SnapshotId, global: &Global) -> Result<Self, CommandError> {
        let (d, set) = allowed(&opened(global)?)?;
        if set.snapshot != n {
            return Err(CommandError::refused(format!("what is booted is of snapshot {}, not of {n}", set.snapshot))
                .hint(format!("leave --live away; `ast deploy {n}` and a reboot bring it")));
        }
        if global.dry_run {
            let plan = dry(d, "the very package files just used");
            // One document a command: that is the plan of the snapshot's part.
            if global.json { global.say(plan.trim_end()) } else { print(&plan)? }
        }
        Ok(Self { d, ready: None })
    }

    /// What was installed in `copy` is also in a copy of what is booted, which is judged. Nothing is applied yet.
    pub(super) fn install(&mut self, copy: &WorkingCopy, names: &[String], change: &Change, global: &Global) -> Result<(), CommandError> {
        let root = &copy.parts().root;
        let there = pacman::installed(root)?;
        let added = change.added.iter().map(|package| package.name.clone());
        let asked = names.iter().filter(|name| there.get(name).is_some()).cloned();
        let wanted: std::collections::BTreeSet<String> = added.chain(asked).collect();
        let session = Session::begin(&opened(global)?)?;
        let change =
            pacman::install_as_in(session.copy(), root, &wanted.into_iter().collect::<Vec<_>>(), feed(global)).map_err(LiveError::from)?;
        if !change.is_empty() {
            self.ready = Some(session.finish(true)?);
        }
        Ok(())
    }

    /// What is booted has it.
    pub(super) fn apply(self, what: &str, global: &Global) -> Result<(), CommandError> {
        match self.ready {
            Some(ready) => apply(&ready, what, global).map(drop),
            None => {
                global.say(format_args!("what is booted (deployment {}) has it already", self.d));
                Ok(())
            }
        }
    }
}

fn dry(d: DeployId, with: &str) -> String {
    format!(
        "change what is booted:\n    copy deployment {d} as a working copy\n    {with}\n    see that nothing that starts the machine is changed\n  * exchange the root of deployment {d} for the copy's\n    show it in the running system\n"
    )
}

/// Repairs, looks whether there is space, and copies what is booted. The lock ends here.
fn begin(global: &Global) -> Result<Session, CommandError> {
    let locked = locked(global)?;
    locked.has_space()?;
    Ok(Session::begin(&locked)?)
}

fn apply(ready: &Ready, what: &str, global: &Global) -> Result<Vec<String>, CommandError> {
    let locked = locked_within(global, FINISHED)?;
    let applied = live::apply(&locked, ready, what)?;
    let shown: Vec<String> = applied.shown.iter().map(|path| path.display().to_string()).collect();
    if let Some(error) = applied.unfinished.first() {
        return Err(CommandError::new(
            Kind::Attention,
            format!("what is booted is changed, but not all that follows from it: {}", chain(error)),
        )
        .hint("the next command of ast, or the next start, does the rest"));
    }
    let seen =
        if shown.is_empty() { "nothing outside /etc and /var differs".to_owned() } else { format!("seen at once in {}", shown.join(", ")) };
    global.say(format_args!("what is booted is changed: {seen}; gone with the next deploy"));
    attention_to(&locked)?;
    Ok(shown)
}

impl From<LiveError> for CommandError {
    fn from(error: LiveError) -> Self {
        if let LiveError::Store(error) = error {
            return error.into();
        }
        let refused = error.is_refusal();
        let failure = Self::new(if refused { Kind::Refused } else { Kind::World }, chain(&error));
        match error {
            LiveError::Boot(_) => failure.hint("`ast deploy N` and a reboot bring it: tried, and with a way back").hint("what is booted is as it was"),
            LiveError::Partial(_) => {
                failure.hint("upgrade the snapshot as a whole and boot it: `ast upgrade N`, `ast deploy N`").hint("what is booted is as it was")
            }
            LiveError::Pacman(pacman::PacmanError::Mixture { .. }) => failure
                .hint("what is booted is of another time than the snapshot, and this would be a partial upgrade: `ast deploy N` and a reboot bring it"),
            LiveError::NoOther(_) => failure.hint("deploy another snapshot and boot it once; then there is a way back"),
            LiveError::OnTrial(_) => failure.hint("wait until it is the default, or say so with `ast good`"),
            LiveError::Unread => failure.hint("`ast doctor` says what, and `ast doctor --fix` mends what can be mended"),
            LiveError::Moved(_) => failure.hint("look at it and do it again"),
            _ => failure.hint("what is booted is as it was"),
        }
    }
}
