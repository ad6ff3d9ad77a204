//! `check`, `auto-upgrade`: how the unattended updates are doing, and one now.

use super::change::opened;
use super::context::{Global, print};
use super::error::{CommandError, Kind};
use crate::exec::{self, ExecError, Invocation, Options, Streams};
use crate::store::StoreError;
use crate::updates::{self, KeepError, Summary};

/// The service, which `ast` and the timer run alike.
const SERVICE: &str = "/usr/lib/ast/ast-autoupdate";

/// `ast check` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {}

/// What is to be done with the unattended updates.
#[derive(Debug, clap::Args)]
pub(super) struct UpgradeArgs {
    /// Begin no update by itself, and restart for none, for so long: 7days, 12h, 2weeks, forever
    ///
    /// Counted in running time, each start as six hours more, whatever the clock says. A restart by somebody else still tries what is armed.
    #[arg(long, value_name = "TIME", value_parser = length, conflicts_with = "resume")]
    pause: Option<Length>,
    /// End a pause
    #[arg(long)]
    resume: bool,
}

/// Seconds of running time; without an end with `None`.
#[derive(Debug, Clone, Copy)]
struct Length(Option<u64>);

fn length(text: &str) -> Result<Length, humantime::DurationError> {
    if text == "forever" { Ok(Length(None)) } else { humantime::parse_duration(text).map(|time| Length(Some(time.as_secs()))) }
}

/// What the updates are doing, how the last ones went and what is blocked is on standard output.
pub(super) fn check(_: &CheckArgs, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let memory = updates::load(store.layout()).map_err(StoreError::from)?;
    show(&Summary::of(&memory), global)
}

fn show(summary: &Summary, global: &Global) -> Result<(), CommandError> {
    if global.json {
        return global.print_json(&serde_json::to_value(summary).unwrap_or_default());
    }
    print(&summary.to_string().lines().map(|line| super::context::clean(line) + "\n").collect::<String>())
}

/// One cycle of the service has run, whatever pauses, waits and blocks say.
///
/// Refuses: while another one runs.
pub(super) fn upgrade(args: &UpgradeArgs, global: &Global) -> Result<(), CommandError> {
    global.may_write()?;
    if args.pause.is_some() || args.resume {
        return set_pause(args.pause, global);
    }
    if global.dry_run {
        return global.plan(
            "look for updates of the default; upgrade a copy of it, deploy that on trial, restart when nothing speaks against it\n",
        );
    }
    let words = [SERVICE.as_ref(), "--sysroot".as_ref(), global.sysroot.as_os_str(), "run".as_ref(), "--now".as_ref()];
    let ended = Invocation::words(words).and_then(|words| exec::run(&words, Options::new(Streams::Terminal)));
    match ended.and_then(exec::Ended::success) {
        Ok(_) if global.json => check(&CheckArgs {}, global),
        Ok(_) => Ok(()),
        Err(ExecError::Failed { .. }) => {
            Err(CommandError::new(Kind::World, "the update did not come to a good end").hint("`ast check` says more"))
        }
        Err(error) => Err(CommandError::new(Kind::World, super::error::chain(&error))),
    }
}

/// Updates are paused for this long, or no longer.
///
/// Refuses: while a process that writes the memory of the updates does not end.
fn set_pause(pause: Option<Length>, global: &Global) -> Result<(), CommandError> {
    if global.dry_run {
        return global.plan(if pause.is_some() { "pause unattended updates\n" } else { "end the pause of unattended updates\n" });
    }
    let store = opened(global)?;
    let memory = match pause {
        Some(Length(seconds)) => updates::pause(store.layout(), seconds),
        None => updates::resume(store.layout()),
    };
    let summary = Summary::of(&memory.map_err(|error| match error {
        KeepError::Lock(error) => StoreError::from(error),
        KeepError::Document(error) => error.into(),
    })?);
    if global.json {
        return show(&summary, global);
    }
    global.say(summary.pause().unwrap_or_else(|| "updates are not paused".to_owned()));
    Ok(())
}
