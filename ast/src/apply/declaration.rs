//! The declaration: the format of the file. Its description for people is `docs/apply.md`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::ApplyError;
use super::checked::{
    AccountName, Field, HostName, InsidePath, KernelArgument, Keymap, Locale, Mode, Owner, PackageName, PasswordHash, SshKey, Target,
    UnitName, Zone,
};
use crate::id::SnapshotId;
use crate::install::answers::Install;
use crate::sys::{SysError, file};

/// What a snapshot should be. What it does not name is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Declaration {
    /// Which snapshot, unless the command line names one.
    pub snapshot: Option<SnapshotId>,
    /// Its description in the tree.
    pub description: Option<String>,
    /// For `ast bootstrap` alone: how it gets onto a disk.
    pub install: Option<Install>,
    /// What it is called, where it stands, what is typed on it.
    pub system: System,
    /// Its packages.
    pub packages: Packages,
    /// Its services.
    pub services: Services,
    /// Its users.
    #[serde(rename = "user")]
    pub users: Vec<User>,
    /// Its files.
    #[serde(rename = "file")]
    pub files: Vec<FileEntry>,
    /// Its kernel arguments.
    pub kernel: Kernel,
    /// What is run in it at the end.
    #[serde(rename = "command")]
    pub commands: Vec<CommandEntry>,
}

/// What every machine is asked for first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct System {
    /// Its name.
    pub hostname: Option<HostName>,
    /// Its time zone.
    pub timezone: Option<Zone>,
    /// Its language.
    pub locale: Option<Locale>,
    /// The keyboard of its console.
    pub keymap: Option<Keymap>,
}

/// Packages that are there or are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Packages {
    /// There, from the repositories.
    pub install: Vec<PackageName>,
    /// There, from the AUR.
    pub aur: Vec<PackageName>,
    /// Not there.
    pub remove: Vec<PackageName>,
}

/// Services that are started with the system or are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Services {
    /// Started.
    pub enable: Vec<UnitName>,
    /// Not started.
    pub disable: Vec<UnitName>,
    /// Not startable.
    pub mask: Vec<UnitName>,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields of passwd, by their names")]
pub struct User {
    pub name: AccountName,
    pub uid: Option<u32>,
    pub comment: Option<Field>,
    pub home: Option<Field>,
    pub shell: Option<Field>,
    /// A system account: a low number, no home, no way to log in.
    #[serde(default)]
    pub system: bool,
    /// Groups it is in too.
    #[serde(default)]
    pub groups: Vec<AccountName>,
    pub password: Option<PasswordHash>,
    /// Who may log in as it over ssh.
    #[serde(default)]
    pub ssh_keys: Vec<SshKey>,
}

/// A file, link or directory; exactly one of `content`, `source`, `link`, `directory` and `absent` is given.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Where.
    pub path: InsidePath,
    /// It holds this.
    pub content: Option<String>,
    /// It holds what this file holds, relative to the declaration.
    pub source: Option<PathBuf>,
    /// It is a link to this.
    pub link: Option<Target>,
    /// It is a directory.
    #[serde(default)]
    pub directory: bool,
    /// It is not there, nor is anything below it.
    #[serde(default)]
    pub absent: bool,
    /// `root:root` when nothing is said.
    pub owner: Option<Owner>,
    /// `0644`, of a directory `0755`, when nothing is said.
    pub mode: Option<Mode>,
}

/// Kernel arguments that are there or are not.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// There.
    pub args: Vec<KernelArgument>,
    /// Not there; with `=` at the end, whatever its value is.
    pub remove: Vec<KernelArgument>,
}

/// Something to run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandEntry {
    /// The words: program and arguments, no shell.
    pub run: Vec<String>,
    /// Not run when this ends with 0.
    pub unless: Option<Vec<String>>,
    /// Not run when this is there.
    pub creates: Option<InsidePath>,
}

impl Declaration {
    /// What `path` says, the files it takes its content from read too.
    ///
    /// Refuses: keys that nobody knows, values that cannot be, with their line.
    pub fn load(path: &Path) -> Result<Self, ApplyError> {
        let unclear = |reason: String| ApplyError::Unclear { file: path.to_owned(), reason };
        let text = String::from_utf8(file::read(path)?).map_err(|_| unclear("it is not UTF-8".into()))?;
        let mut declaration = Self::parse(&text).map_err(unclear)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        for entry in &mut declaration.files {
            if let Some(source) = entry.source.take() {
                let source = dir.join(source);
                let bytes = file::read(&source)?;
                let not_text =
                    |_| SysError { action: "read as text", path: source.clone(), source: std::io::ErrorKind::InvalidData.into() };
                entry.content = Some(String::from_utf8(bytes).map_err(not_text)?);
            }
        }
        Ok(declaration)
    }

    /// What `text` says. The error says where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let declaration: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        declaration.check()?;
        Ok(declaration)
    }

    /// Refuses: what contradicts itself.
    fn check(&self) -> Result<(), String> {
        for entry in &self.files {
            let kinds = [entry.content.is_some(), entry.source.is_some(), entry.link.is_some(), entry.directory, entry.absent];
            if kinds.iter().filter(|kind| **kind).count() != 1 {
                return Err(format!("file {}: give one of content, source, link, directory and absent", entry.path.as_str()));
            }
            if (entry.link.is_some() || entry.absent) && (entry.owner.is_some() || entry.mode.is_some()) {
                return Err(format!("file {}: a link or what is absent has neither owner nor mode", entry.path.as_str()));
            }
        }
        let twice = |what: &str, names: Vec<&str>| {
            let mut seen = std::collections::BTreeSet::new();
            names.into_iter().find(|name| !seen.insert(*name)).map_or(Ok(()), |name| Err(format!("{what} {name} is named twice")))
        };
        let Packages { install, aur, remove } = &self.packages;
        twice("the package", install.iter().chain(aur).chain(remove).map(PackageName::as_str).collect())?;
        let Services { enable, disable, mask } = &self.services;
        twice("the service", enable.iter().chain(disable).chain(mask).map(UnitName::as_str).collect())?;
        twice("the user", self.users.iter().map(|user| user.name.as_str()).collect())?;
        twice("the file", self.files.iter().map(|entry| entry.path.as_str()).collect())?;
        twice("the kernel argument", self.kernel.args.iter().chain(&self.kernel.remove).map(KernelArgument::as_str).collect())?;
        match self.commands.iter().find(|command| command.run.is_empty() || command.unless.as_ref().is_some_and(Vec::is_empty)) {
            Some(_) => Err("a command without words".into()),
            None => Ok(()),
        }
    }

    /// The steps, a line each, for a person.
    pub fn steps(&self) -> Vec<String> {
        fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
            names.collect::<Vec<_>>().join(" ")
        }
        let mut lines = Vec::new();
        let mut line = |what: &str, names: String| {
            if !names.is_empty() {
                lines.push(format!("{what} {names}"));
            }
        };
        line("remove", join(self.packages.remove.iter().map(PackageName::as_str)));
        line("install", join(self.packages.install.iter().chain(&self.packages.aur).map(PackageName::as_str)));
        let System { hostname, timezone, locale, keymap } = &self.system;
        line("host name:", hostname.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default());
        line("time zone:", timezone.as_ref().map(|zone| zone.as_str().to_owned()).unwrap_or_default());
        line("locale:", locale.as_ref().map(|locale| locale.as_str().to_owned()).unwrap_or_default());
        line("keyboard:", keymap.as_ref().map(|keymap| keymap.as_str().to_owned()).unwrap_or_default());
        line("users:", join(self.users.iter().map(|user| user.name.as_str())));
        line("files:", join(self.files.iter().map(|entry| entry.path.as_str())));
        line("enable", join(self.services.enable.iter().map(UnitName::as_str)));
        line("disable", join(self.services.disable.iter().map(UnitName::as_str)));
        line("mask", join(self.services.mask.iter().map(UnitName::as_str)));
        line("kernel arguments:", join(self.kernel.args.iter().map(KernelArgument::as_str)));
        line("no kernel arguments:", join(self.kernel.remove.iter().map(KernelArgument::as_str)));
        for command in &self.commands {
            line("run", command.run.join(" "));
        }
        line("describe it as", self.description.clone().unwrap_or_default());
        lines
    }
}
