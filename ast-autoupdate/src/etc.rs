//! The merge of `/etc`, repeated at the first start of a trial, for what was edited between the deploy and the restart (U7).

use std::path::Path;

use ast::boot::booted::Booted;
use ast::etc::{self, Edited, Goal, Report};
use ast::id::DeployId;
use ast::layout::{Layout, Part};
use ast::store::Store;
use ast::sys::btrfs::{self, Access};
use ast::sys::file;
use ast::updates;
use ast::work::{Token, delete_parts};

use crate::error::Error;

/// `/etc` of the trial has what was edited on the default since the trial was made. What that did; `None` where it is not to be done.
///
/// Done anew from the beginning and compared with what the deploy had made of it, since only then it is known what is news.
/// If interrupted: `/etc` has some of it, each path whole; the next start goes on. What is left besides is garbage by its name.
pub fn merge_again(sysroot: &Path, layout: &Layout, booted: &Booted) -> Result<Option<Report>, Error> {
    let (Some(d), Some(arm)) = (booted.d, booted.arm) else { return Ok(None) };
    // What a person deploys gets the `/etc` that this person asked for.
    let state = updates::load(layout)?.state;
    if state.arming() != Some((d, arm)) {
        return Ok(None);
    }
    let store = Store::open(sysroot)?;
    let from = crate::facts::etc_for(&store, &store.block()?, state.update().map(|update| update.parent));
    let dir = layout.work().join(Token::next()?.to_string());
    file::make_dirs(&dir)?;
    let merged = in_scratch(layout, from, d, &dir);
    // Deleted by the next repair, if not now.
    delete_parts(&dir).ok();
    merged.map(Some)
}

fn in_scratch(layout: &Layout, from: DeployId, d: DeployId, dir: &Path) -> Result<Report, Error> {
    let here = layout.deployment_part(d, Part::Etc);
    let (before, anew) = (dir.join("before"), dir.join("anew"));
    btrfs::snapshot(&here, &before, Access::ReadOnly)?;
    btrfs::snapshot(&layout.deployment_etc_base(d), &anew, Access::Writable)?;
    etc::merge(&Edited::of(layout, from), &anew, Goal::Deployment)?;
    // Against what the deploy had made of it, all that differs now is news.
    Ok(etc::merge(&Edited { base: before, saved: None, mine: anew }, &here, Goal::Deployment)?)
}
