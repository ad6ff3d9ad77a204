//! `/var` as a rollback asked for it (S9): what waits for this deployment changes places with `@var`, once.

use ast::layout::{VAR_MARK, VAR_SUBVOL, VAR_SWAP};
use ast::sys::{Result, btrfs, file};

use crate::machine::Machine;
use crate::probe::Parts;
use crate::voice::Voice;

/// `@var` is what the deployment that starts was to be given, if it is the good one.
///
/// If interrupted: it is one or the other, and the next start goes on. The exchange is one rename; which of the two waits is told by the
/// mark in it, which `@var` loses before and after, so that it is never done twice.
pub fn settle(parts: &Parts, machine: &Machine, voice: &Voice) -> Result<()> {
    let Some(d) = parts.deployment else { return Ok(()) };
    let (dir, var) = (machine.layout.var(d), machine.at_top(VAR_SUBVOL));
    file::remove_if_exists(&var.join(VAR_MARK))?;
    let swaps = file::names(&dir)?.into_iter().filter(|name| name.to_string_lossy().starts_with(VAR_SWAP)).map(|name| dir.join(name));
    let Some(swap) = swaps.into_iter().find(|swap| swap.join(VAR_MARK).exists()) else { return Ok(()) };
    // Not before the plan that made it is committed, and not when something else was chosen since.
    if machine.block(voice).is_some_and(|block| block.good == d) {
        file::exchange(&swap, &var)?;
        btrfs::commit(&var)?;
        voice.warn(&format!("/var is given back as it was; what it was until now is in vars/{d}"));
        file::remove_if_exists(&var.join(VAR_MARK))?;
    }
    Ok(())
}
