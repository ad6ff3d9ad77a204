//! Users of a declaration, by useradd and usermod of the snapshot.
//!
//! `/home` is the machine's and never written by a transaction (S9): the home of a new user is made at the first boot by systemd-tmpfiles, and
//! keys for ssh are in `/etc`, where they are the snapshot's.

use std::path::Path;

use super::ApplyError;
use super::checked::PasswordHash;
use super::declaration::User;
use super::files::{self, Wanted, What, entry};
use crate::exec::{Invocation, Options, Program};
use crate::work::WorkingCopy;

/// Makes sshd look for keys in `/etc` too. Source: sshd_config(5).
const SSHD: &str = "/etc/ssh/sshd_config.d/20-ast.conf";
const SSHD_CONTENT: &str = "# Written by `ast apply`.\nAuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u\n";

/// The user is there as wanted; what is not named stays as it is.
pub(super) fn bring(copy: &WorkingCopy, user: &User) -> Result<(), ApplyError> {
    let name = user.name.as_str();
    let exists = entry(copy, "passwd", name)?;
    let mut words = match &exists {
        None => added(user),
        Some(fields) => changed(copy, user, fields)?,
    };
    let in_group = |group: &str| -> Result<bool, ApplyError> {
        Ok(entry(copy, "group", group)?
            .is_some_and(|fields| fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name))))
    };
    let mut missing = Vec::new();
    for group in &user.groups {
        if !in_group(group.as_str())? {
            missing.push(group.as_str());
        }
    }
    if !missing.is_empty() {
        if exists.is_some() {
            words.push("--append".to_owned());
        }
        words.extend(["--groups".to_owned(), missing.join(",")]);
    }
    if exists.is_none() || !words.is_empty() {
        let program = if exists.is_none() { Program::Useradd } else { Program::Usermod };
        copy.run(&Invocation::new(program).args(words).args(["--", name]), Options::capture())?.success().map(drop)?;
    }
    home(copy, user)?;
    keys(copy, user)
}

/// The words for useradd.
fn added(user: &User) -> Vec<String> {
    let mut words: Vec<String> = ["--no-create-home", "--user-group"].map(str::to_owned).into();
    if user.system {
        words.push("--system".into());
    }
    let field = |value: &Option<super::checked::Field>| value.as_ref().map(|field| field.as_str().to_owned());
    let shell = field(&user.shell).unwrap_or_else(|| if user.system { "/usr/bin/nologin" } else { "/bin/bash" }.into());
    let home = field(&user.home).unwrap_or_else(|| if user.system { "/".into() } else { format!("/home/{}", user.name.as_str()) });
    words.extend(["--shell".into(), shell, "--home-dir".into(), home]);
    words.extend(user.uid.iter().flat_map(|uid| ["--uid".to_owned(), uid.to_string()]));
    words.extend(field(&user.comment).into_iter().flat_map(|comment| ["--comment".to_owned(), comment]));
    words.extend(hash(user).into_iter().flat_map(|hash| ["--password".to_owned(), hash.as_str().to_owned()]));
    words
}

/// The words for usermod; none when all is as wanted.
fn changed(copy: &WorkingCopy, user: &User, fields: &[String]) -> Result<Vec<String>, ApplyError> {
    let mut words = Vec::new();
    let mut differs = |option: &str, index: usize, wanted: Option<&str>| {
        if let Some(wanted) = wanted.filter(|wanted| fields.get(index).map(String::as_str) != Some(*wanted)) {
            words.extend([option.to_owned(), wanted.to_owned()]);
        }
    };
    differs("--uid", 2, user.uid.map(|uid| uid.to_string()).as_deref());
    differs("--comment", 4, user.comment.as_ref().map(|f| f.as_str()));
    differs("--home", 5, user.home.as_ref().map(|f| f.as_str()));
    differs("--shell", 6, user.shell.as_ref().map(|f| f.as_str()));
    if let Some(hash) = hash(user) {
        let is = entry(copy, "shadow", user.name.as_str())?.and_then(|fields| fields.get(1).cloned());
        if is.as_deref() != Some(hash.as_str()) {
            words.extend(["--password".to_owned(), hash.as_str().to_owned()]);
        }
    }
    Ok(words)
}

/// What its password is to be; one that a person was asked for when the machine was installed is that person's since.
fn hash(user: &User) -> Option<&PasswordHash> {
    user.password.as_ref().filter(|hash| !hash.is_asked())
}

/// The home of a person's account is made at boot, if it is missing then.
fn home(copy: &WorkingCopy, user: &User) -> Result<(), ApplyError> {
    let name = user.name.as_str();
    let Some(fields) = entry(copy, "passwd", name)? else { return Ok(()) };
    let Some(dir) = fields.get(5).filter(|dir| dir.starts_with("/home/") && !user.system && !dir.contains(char::is_whitespace)) else {
        return Ok(());
    };
    // The number of its first group, which may have another name.
    let group = fields.get(3).map_or("-", String::as_str);
    let path = format!("/etc/tmpfiles.d/ast-home-{name}.conf");
    let content = format!("# Written by `ast apply`: /home belongs to the machine, not to a snapshot.\nd {dir} 0700 {name} {group} -\n");
    put(copy, &path, &content)
}

fn keys(copy: &WorkingCopy, user: &User) -> Result<(), ApplyError> {
    if user.ssh_keys.is_empty() {
        return Ok(());
    }
    let content: String = user.ssh_keys.iter().map(|key| format!("{}\n", key.as_str())).collect();
    put(copy, &format!("/etc/ssh/authorized_keys.d/{}", user.name.as_str()), &content)?;
    put(copy, SSHD, SSHD_CONTENT)
}

fn put(copy: &WorkingCopy, path: &str, content: &str) -> Result<(), ApplyError> {
    files::write(copy, &Wanted { path: Path::new(path), what: What::File(content), owner: "root:root", mode: "0644" })
}
