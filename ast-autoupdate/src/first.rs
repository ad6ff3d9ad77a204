//! The early unit: marks that a trial reached userspace, and completes the shared `/var` at the first start of a deployment (S9).

use std::path::Path;
use std::process::ExitCode;

use ast::boot::booted::Booted;
use ast::boot::stage::{Reached, Stage};
use ast::deploy::record;
use ast::id::DeployId;
use ast::layout::{Layout, Part, STAGE};
use ast::sys::{SysError, file};
use ast::volumes;

use crate::error::{Error, chain};
use crate::gate::read_booted;
use crate::var;
use crate::voice::{Message, Voice};

/// A file for each deployment whose part of `/var` was added, in the `/var` that it was added to: when that is given back as it was
/// before, they are gone with it.
const MARKS: &str = "lib/ast/var-of";

/// The start is marked and `/var` is complete. Nothing here keeps a machine from starting.
pub fn start(sysroot: &Path, voice: &Voice) -> ExitCode {
    let layout = Layout::of_sysroot(sysroot);
    let booted = read_booted(sysroot);
    let mut status = ExitCode::SUCCESS;
    let mut told = |result: Result<(), Error>| {
        if let Err(error) = result {
            voice.say(Message::Warning, &chain(&error));
            status = ExitCode::FAILURE;
        }
    };
    if booted.on_trial() {
        told(mark(&layout, &booted).map_err(Into::into));
    }
    if let Some(d) = booted.d.filter(|_| !booted.volatile) {
        told(complete_var(sysroot, &layout, d, voice));
    }
    status
}

/// The stage file says that this start reached userspace.
fn mark(layout: &Layout, booted: &Booted) -> Result<(), SysError> {
    let path = layout.document(STAGE);
    let text = file::read_if_exists(&path)?.unwrap_or_default();
    let stage = Stage::parse(&String::from_utf8_lossy(&text));
    if stage.arm != booted.arm || stage.arm.is_none() {
        return Ok(());
    }
    let stage = Stage { reached: Reached::Userspace, ..stage };
    file::replace(&path, stage.to_string().as_bytes())
}

/// What the deployment's packages put into `/var` is there, as far as something of that name was not there already.
///
/// If interrupted: the next start goes on; nothing half copied is taken for whole.
fn complete_var(sysroot: &Path, layout: &Layout, d: DeployId, voice: &Voice) -> Result<(), Error> {
    let var = sysroot.join("var");
    let marks = var.join(MARKS);
    let mark = marks.join(d.to_string());
    if mark.exists() {
        return Ok(());
    }
    let set = record::load(layout, d)?.set;
    let added = var::add_missing(&layout.set_part(set, Part::Var), &var)?;
    file::syncfs(&var)?;
    file::make_dirs(&marks)?;
    file::replace(&mark, b"")?;
    // Marks of deployments that are gone: their numbers never come again.
    let there = volumes::deployments(layout).unwrap_or_default();
    for name in file::names(&marks)? {
        let known = name.to_str().and_then(|n| n.parse().ok()).is_some_and(|n: DeployId| there.contains(&n));
        if !known && !there.is_empty() {
            file::remove_if_exists(&marks.join(name))?;
        }
    }
    if added > 0 {
        voice.say(Message::Step, &format!("{added} new paths in /var"));
    }
    Ok(())
}
