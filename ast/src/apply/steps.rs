//! The steps of a declaration, in their order: each acts only where the copy is not as declared.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::checked::PackageName;
use super::declaration::{CommandEntry, Declaration};
use super::files::{self, Wanted, What, is_there};
use super::{ApplyError, kernel, system, users};
use crate::config::snapshot::SnapshotConfig;
use crate::exec::{Invocation, Options, Program, Streams};
use crate::pacman::{self, Feed};
use crate::sys::{At, file};
use crate::work::WorkingCopy;

/// Files that say where packages come from: they are written first. All others come after the packages, whose own files they may change.
const SOURCES: [&str; 3] = ["/etc/ast.conf", "/etc/pacman.conf", "/etc/pacman.d"];
/// Where GRUB's settings are.
const GRUB: &str = "/etc/default/grub";

/// The copy is as `declaration` says. `show` lets a person see what the programs say.
///
/// If interrupted: some of it is done; the copy is garbage by its name.
pub fn carry_out(copy: &WorkingCopy, declaration: &Declaration, show: bool) -> Result<(), ApplyError> {
    let is_source = |path: &str| SOURCES.iter().any(|source| Path::new(path).starts_with(source));
    for entry in declaration.files.iter().filter(|entry| is_source(entry.path.as_str())) {
        files::write(copy, &Wanted::of(entry))?;
    }
    packages(copy, declaration, show)?;
    system::bring(copy, &declaration.system)?;
    for user in &declaration.users {
        users::bring(copy, user)?;
    }
    for entry in declaration.files.iter().filter(|entry| !is_source(entry.path.as_str())) {
        files::write(copy, &Wanted::of(entry))?;
    }
    let services = &declaration.services;
    for (units, wish) in [(&services.mask, Wish::Masked), (&services.disable, Wish::Disabled), (&services.enable, Wish::Enabled)] {
        for unit in units {
            service(copy, unit.as_str(), wish)?;
        }
    }
    kernel_arguments(copy, declaration)?;
    for command in &declaration.commands {
        run(copy, command, show)?;
    }
    Ok(())
}

fn packages(copy: &WorkingCopy, declaration: &Declaration, show: bool) -> Result<(), ApplyError> {
    let feed = || if show { Feed::Terminal } else { Feed::Nobody };
    let wanted = &declaration.packages;
    if let Some(name) = wanted.aur.first()
        && !SnapshotConfig::load(&copy.parts().etc)?.aur
    {
        return Err(ApplyError::AurOff(name.as_str().to_owned()));
    }
    let names = |list: &mut dyn Iterator<Item = &PackageName>, there: bool| -> Result<Vec<String>, ApplyError> {
        let set = pacman::installed(&copy.parts().root)?;
        Ok(list.map(PackageName::as_str).filter(|name| set.get(name).is_some() == there).map(str::to_owned).collect())
    };
    let remove = names(&mut wanted.remove.iter(), true)?;
    if !remove.is_empty() {
        pacman::remove(copy, &remove, feed())?;
    }
    let install = names(&mut wanted.install.iter().chain(&wanted.aur), false)?;
    if !install.is_empty() {
        pacman::install(copy, &install, feed())?;
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Enabled,
    Disabled,
    Masked,
}

impl Wish {
    const fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Masked => "masked",
        }
    }

    /// Whether a unit in this state is as wished. Source: table of `is-enabled` in systemctl(1).
    fn is(self, state: &str) -> bool {
        match self {
            Self::Enabled => matches!(state, "enabled" | "static" | "alias" | "generated"),
            Self::Disabled => matches!(state, "disabled" | "static" | "indirect" | "masked" | "not-found" | ""),
            Self::Masked => state == "masked",
        }
    }
}

/// The unit is as wished, by links in the copy's `/etc/systemd`.
fn service(copy: &WorkingCopy, unit: &str, wish: Wish) -> Result<(), ApplyError> {
    let systemctl = |verb: &str| {
        let invocation = Invocation::new(Program::Systemctl).args(["--root=/", "--quiet", verb, "--", unit]);
        copy.run(&invocation, Options::capture())
    };
    let state = || -> Result<String, ApplyError> {
        let invocation = Invocation::new(Program::Systemctl).args(["--root=/", "is-enabled", "--", unit]);
        Ok(copy.run(&invocation, Options::capture())?.text().trim().to_owned())
    };
    let before = state()?;
    if wish.is(&before) {
        return Ok(());
    }
    let mut tail = String::new();
    if before == "masked" {
        tail = systemctl("unmask")?.tail();
    }
    let verb = match wish {
        Wish::Enabled => "enable",
        Wish::Disabled => "disable",
        Wish::Masked => "mask",
    };
    let ended = systemctl(verb)?;
    let after = state()?;
    if ended.status.success() && wish.is(&after) {
        return Ok(());
    }
    tail.push_str(&ended.tail());
    let state = if after.is_empty() { "not there".to_owned() } else { after };
    Err(ApplyError::Service { unit: unit.to_owned(), wish: wish.word(), state, tail })
}

fn kernel_arguments(copy: &WorkingCopy, declaration: &Declaration) -> Result<(), ApplyError> {
    let path = copy.parts().etc.join("default/grub");
    let bytes = file::read_if_exists(&path)?;
    let text = String::from_utf8(bytes.clone().unwrap_or_default())
        .map_err(|_| ApplyError::Impossible { object: GRUB.into(), reason: "it is not UTF-8".into() })?;
    let Some(new) = kernel::edited(&text, &declaration.kernel)? else { return Ok(()) };
    let (mut mode, mut owner) = ("0644".to_owned(), (0, 0));
    if bytes.is_some() {
        let meta = std::fs::symlink_metadata(&path).at("look at", &path)?;
        (mode, owner) = (format!("{:04o}", meta.mode() & 0o7777), (meta.uid(), meta.gid()));
    }
    let owner = format!("{}:{}", owner.0, owner.1);
    files::write(copy, &Wanted { path: Path::new(GRUB), what: What::File(&new), owner: &owner, mode: &mode })
}

fn run(copy: &WorkingCopy, command: &CommandEntry, show: bool) -> Result<(), ApplyError> {
    if let Some(path) = &command.creates
        && is_there(copy, Path::new(path.as_str()))?
    {
        return Ok(());
    }
    if let Some(words) = &command.unless
        && copy.run(&Invocation::words(words.clone())?, Options::capture())?.status.success()
    {
        return Ok(());
    }
    let streams = if show { Streams::Show } else { Streams::Capture };
    let ended = copy.run(&Invocation::words(command.run.clone())?, Options::new(streams))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(ApplyError::Command { status: ended.status, tail: if show { String::new() } else { ended.tail() }, command: ended.command })
}
