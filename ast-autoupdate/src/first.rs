//! The early unit: sets a clock that is too early (C3), marks that a trial reached userspace, and at the first start of a deployment completes
//! the shared `/var` (S9) and `/etc` (U7).

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
use crate::voice::{Message, Voice};

/// A file for each deployment that had its first start, in the `/var` that was completed then: when that is given back as it was
/// before, they are gone with it.
const MARKS: &str = "lib/ast/started";

/// The start is marked, `/var` and `/etc` are complete. Nothing here keeps a machine from starting.
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
    match crate::clock::raise(&layout) {
        Ok(Some(_)) => voice.say(Message::Step, "the clock was before the last time that this machine knew, and is set to that"),
        Ok(None) => {}
        Err(error) => told(Err(error.into())),
    }
    // A snapshot that is only looked at writes nothing (B11).
    if booted.d.is_some() && !booted.volatile && !(booted.missing.is_empty() && booted.behind.is_empty()) {
        told(ast::care::note_behind(&layout).map_err(Into::into));
    }
    if booted.on_trial() {
        told(mark(&layout, &booted).map_err(Into::into));
    }
    if let Some(d) = booted.d.filter(|_| !booted.volatile) {
        let var = sysroot.join("var");
        let mark = var.join(MARKS).join(d.to_string());
        if !mark.exists() {
            let etc = if booted.on_trial() { merge_etc(sysroot, &layout, &booted, voice) } else { Ok(()) };
            let done = complete_var(&layout, d, &var, voice).and(etc).and_then(|()| started(&layout, &mark));
            told(done);
        }
    }
    status
}

/// The stage file says that this start reached userspace.
fn mark(layout: &Layout, booted: &Booted) -> Result<(), SysError> {
    let path = layout.document(STAGE);
    let text = file::read_if_readable(&path)?.unwrap_or_default();
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
fn complete_var(layout: &Layout, d: DeployId, var: &Path, voice: &Voice) -> Result<(), Error> {
    let set = record::load(layout, d)?.set;
    let added = ast::work::add_missing(&layout.set_part(set, Part::Var), var)?;
    if added > 0 {
        voice.say(Message::Step, &format!("{added} new paths in /var"));
    }
    Ok(())
}

/// `/etc` has what was edited since the deploy.
fn merge_etc(sysroot: &Path, layout: &Layout, booted: &Booted, voice: &Voice) -> Result<(), Error> {
    for path in crate::etc::merge_again(sysroot, layout, booted)?.into_iter().flat_map(|report| report.kept) {
        voice.say(Message::Step, &format!("/etc/{} was edited after the update was made, and is kept", path.display()));
    }
    Ok(())
}

/// It is on disk that the deployment of `mark` had its first start.
fn started(layout: &Layout, mark: &Path) -> Result<(), Error> {
    let Some(marks) = mark.parent() else { return Ok(()) };
    file::make_dirs(marks)?;
    file::syncfs(marks)?;
    file::replace(mark, b"")?;
    // Marks of deployments that are gone: their numbers never come again.
    let there = volumes::deployments(layout).unwrap_or_default();
    for name in file::names(marks)? {
        let known = name.to_str().and_then(|n| n.parse().ok()).is_some_and(|n: DeployId| there.contains(&n));
        if !known && !there.is_empty() {
            file::remove_if_exists(&marks.join(name))?;
        }
    }
    Ok(())
}
