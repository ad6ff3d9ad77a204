//! What is to be installed: by words, by files of answers and profiles, and by what a person says.

use std::path::Path;

use super::ask::{ask, password};
use super::error::{CommandError, Kind, chain};
use crate::apply::{AccountName, ApplyError, Declaration, HostName, Keymap, Locale, PasswordHash, SshKey, User, Zone};
use crate::install::answers::{self, Install, PROFILES, USUAL_PROFILE};

/// The group of those who may become root, as the profiles have it.
const ADMINISTRATORS: &str = "wheel";

/// Everything that was decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// How it gets onto the disk.
    pub install: Install,
    /// Which profile, and what it says.
    pub profile: (String, Declaration),
    /// What is to be beyond that.
    pub answers: Declaration,
}

impl Decided {
    /// What words and files say.
    pub(super) fn of(answers: Option<&Path>, profile: Option<&str>) -> Result<Self, CommandError> {
        let beside = answers.and_then(Path::parent).unwrap_or(Path::new("."));
        let mut answers = match answers {
            Some(file) => Declaration::load(file).map_err(of_files)?,
            None => Declaration::default(),
        };
        let install = answers.install.take().unwrap_or_default();
        let here = Path::new(".");
        let (name, dir) = match (profile, &install.profile) {
            (Some(name), _) => (name, here),
            (None, Some(name)) => (name.as_str(), beside),
            (None, None) => (USUAL_PROFILE, here),
        };
        let profile = (name.to_owned(), answers::profile(name, dir).map_err(of_files)?);
        let mut decided = Self { install, profile, answers };
        decided.close_root()?;
        Ok(decided)
    }

    /// Packages leave root without a password, which is not what "nothing was said" means.
    fn close_root(&mut self) -> Result<(), CommandError> {
        let is_root = |user: &User| user.name.as_str() == "root";
        if self.profile.1.users.iter().chain(&self.answers.users).any(|user| is_root(user) && user.password.is_some()) {
            return Ok(());
        }
        let closed = Some(checked("!")?);
        match self.answers.users.iter_mut().find(|user| is_root(user)) {
            Some(root) => root.password = closed,
            None => self.answers.users.push(User { password: closed, ..user("root")? }),
        }
        Ok(())
    }

    /// Whose password a person is to be asked for.
    pub(super) fn asked_for(&self) -> impl Iterator<Item = String> + '_ {
        let users = self.profile.1.users.iter().chain(&self.answers.users);
        users.filter(|user| user.password.as_ref().is_some_and(PasswordHash::is_asked)).map(|user| user.name.as_str().to_owned())
    }

    /// A person has decided what neither words nor files say.
    pub(super) fn ask(&mut self) -> Result<(), CommandError> {
        let system = &mut self.answers.system;
        system.hostname = Some(ask("Name of the machine", "ast", |text| HostName::try_from(text.to_owned()))?);
        system.timezone = Some(ask("Time zone", &zone_of_this_machine(), zone)?);
        system.locale = Some(ask("Locale", "en_US.UTF-8", |text| Locale::try_from(text.to_owned()))?);
        system.keymap = Some(ask("Keyboard of the console", "us", |text| Keymap::try_from(text.to_owned()))?);
        let known = PROFILES.map(|(name, _)| name).join(", ");
        let question = format!("Profile ({known}, or a file with a slash in its name)");
        let here = Path::new(".");
        let take = |name: &str| answers::profile(name, here).map(|profile| (name.to_owned(), profile)).map_err(|error| chain(&error));
        self.profile = ask(&question, &self.profile.0, take)?;
        self.answers.users.clear();
        let name = ask("Name of a user who may become root (empty: none)", "", |text| {
            if text.is_empty() { Ok(None) } else { AccountName::try_from(text.to_owned()).map(Some) }
        })?;
        if let Some(name) = name {
            let mut person = user(name.as_str())?;
            person.groups = vec![checked(ADMINISTRATORS)?];
            person.password = Some(asked(name.as_str())?);
            let key = ask("A public key of ssh for that user (empty: none)", "", |text| {
                if text.is_empty() { Ok(None) } else { SshKey::try_from(text.to_owned()).map(Some) }
            })?;
            person.ssh_keys.extend(key);
            self.answers.users.push(person);
        }
        let mut root = user("root")?;
        root.password = Some(asked("root")?);
        self.answers.users.push(root);
        Ok(())
    }

    /// Each `ask` in the place of a password is a hash now.
    pub(super) fn ask_passwords(&mut self) -> Result<(), CommandError> {
        for user in self.profile.1.users.iter_mut().chain(&mut self.answers.users) {
            if user.password.as_ref().is_some_and(PasswordHash::is_asked) {
                user.password = Some(asked(user.name.as_str())?);
            }
        }
        Ok(())
    }

    /// What the machine is to be beyond its packages, in the order of their weight.
    pub(super) fn declarations(&self) -> Vec<Declaration> {
        vec![self.profile.1.clone(), self.answers.clone()]
    }

    /// Whether anybody has a password or a key.
    pub(super) fn lets_somebody_in(&self) -> bool {
        let opens = |user: &User| user.password.as_ref().is_some_and(PasswordHash::opens) || !user.ssh_keys.is_empty();
        self.profile.1.users.iter().chain(&self.answers.users).any(opens)
    }

    /// What the base is called in the tree.
    pub(super) fn description(&self) -> &str {
        self.answers.description.as_deref().or(self.profile.1.description.as_deref()).unwrap_or("base")
    }
}

/// A user of whom nothing is said but the name.
fn user(name: &str) -> Result<User, CommandError> {
    Ok(User {
        name: checked(name)?,
        uid: None,
        comment: None,
        home: None,
        shell: None,
        system: false,
        groups: Vec::new(),
        password: None,
        ssh_keys: Vec::new(),
    })
}

/// What somebody typed, or a password that nobody has.
fn asked(whose: &str) -> Result<PasswordHash, CommandError> {
    checked(&password(whose)?.unwrap_or_else(|| "!".to_owned()))
}

fn checked<T: TryFrom<String, Error = String>>(text: &str) -> Result<T, CommandError> {
    T::try_from(text.to_owned()).map_err(|why| CommandError::new(Kind::Usage, why))
}

/// A time zone that this machine knows, where it knows any.
fn zone(text: &str) -> Result<Zone, String> {
    let zones = Path::new("/usr/share/zoneinfo");
    let zone = Zone::try_from(text.to_owned())?;
    if text == "UTC" || !zones.is_dir() || zones.join(text).is_file() { Ok(zone) } else { Err(format!("there is no time zone {text}")) }
}

fn zone_of_this_machine() -> String {
    let link = std::fs::read_link("/etc/localtime").unwrap_or_default();
    let name = link.to_string_lossy().split_once("zoneinfo/").map(|(_, name)| name.to_owned());
    name.filter(|name| zone(name).is_ok()).unwrap_or_else(|| "UTC".to_owned())
}

/// What is wrong with a file, where there is no snapshot yet that could stay as it was.
pub(super) fn of_files(error: ApplyError) -> CommandError {
    match error {
        ApplyError::Unclear { .. } => error.into(),
        ApplyError::Impossible { .. } => CommandError::new(Kind::Usage, chain(&error)),
        error => CommandError::new(Kind::World, chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_closed_where_nothing_opens_it() {
        let dir = tempfile::tempdir().expect("dir");
        for (text, roots) in [
            ("", vec!["!"]),
            ("[[user]]\nname = \"kiosk\"\npassword = \"$6$a$b\"\n", vec!["!"]),
            ("[[user]]\nname = \"root\"\nssh_keys = [\"ssh-ed25519 AAAA me\"]\n", vec!["!"]),
            ("[[user]]\nname = \"root\"\npassword = \"$6$a$b\"\n", vec!["$6$a$b"]),
            ("[[user]]\nname = \"root\"\npassword = \"ask\"\n", vec!["ask"]),
        ] {
            let file = dir.path().join("answers.toml");
            crate::sys::file::replace(&file, text.as_bytes()).expect("written");
            let decided = Decided::of(Some(&file), None).expect(text);
            let users = decided.answers.users.iter().filter(|user| user.name.as_str() == "root");
            assert_eq!(users.flat_map(|user| user.password.as_ref().map(PasswordHash::as_str)).collect::<Vec<_>>(), roots, "{text}");
            assert_eq!(decided.lets_somebody_in(), text.contains("$6$") || text.contains("ssh_keys"), "{text}");
        }
    }

    #[test]
    fn the_profiles_of_ast_are_declarations() {
        for (name, _) in PROFILES {
            let profile = answers::profile(name, Path::new(".")).expect(name);
            assert!(profile.packages.install.iter().any(|package| package.as_str() == "linux"), "{name}");
            assert!(profile.services.enable.iter().any(|unit| unit.as_str() == "NetworkManager.service"), "{name}");
        }
    }
}
