//! `check`, `auto-upgrade`: how the unattended updates are doing, and one now.

use super::change::opened;
use super::context::{Global, print};
use super::error::{CommandError, Kind};
use crate::exec::{self, ExecError, Invocation, Options, Streams};
use crate::updates::{self, Summary};

/// The service, which `ast` and the timer run alike.
const SERVICE: &str = "/usr/lib/ast/ast-autoupdate";

/// `ast check` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {}

/// `ast auto-upgrade` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct UpgradeArgs {}

/// What the updates are doing, how the last ones went and what is blocked is on standard output.
pub(super) fn check(_: &CheckArgs, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let memory = updates::load(store.layout()).map_err(crate::store::StoreError::from)?;
    let summary = Summary::of(&memory);
    if global.json {
        return global.print_json(&serde_json::to_value(&summary).unwrap_or_default());
    }
    print(&summary.to_string().lines().map(|line| super::context::clean(line) + "\n").collect::<String>())
}

/// One cycle of the service has run, whatever pauses, waits and blocks say.
///
/// Refuses: while another one runs.
pub(super) fn upgrade(_: &UpgradeArgs, global: &Global) -> Result<(), CommandError> {
    global.may_write()?;
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
