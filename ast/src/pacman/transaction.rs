//! Transactions inside a working copy. `-Sy` never stands alone: what follows it in the same copy is the whole upgrade, or nothing is kept.

use std::path::Path;
use std::time::Duration;

use super::{Cause, Change, PacmanError, aur, installed};
use crate::config::snapshot::SnapshotConfig;
use crate::exec::{Ended, Invocation, Options, Program, Streams};
use crate::layout::PACMAN_DB;
use crate::sys::file;
use crate::work::{Bind, WorkingCopy};

/// A transaction that takes longer has stopped: a kiosk's slowest line brings a full upgrade in a tenth of it.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
/// A hundred keys, one after the other, over a slow line (30 minutes).
const KEYS_LIMIT: Duration = Duration::from_secs(30 * 60);
/// The package with the keys of the others.
const KEYRING: &str = "archlinux-keyring";

/// Who looks at pacman's output.
pub enum Feed<'a> {
    /// The person at the terminal.
    Terminal,
    /// Nobody.
    Nobody,
    /// A function that gets each line: proof of progress.
    Lines(&'a mut (dyn FnMut(&str) + Send)),
}

impl std::fmt::Debug for Feed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Terminal => "Terminal",
            Self::Nobody => "Nobody",
            Self::Lines(_) => "Lines",
        })
    }
}

impl Feed<'_> {
    pub(super) fn options(&mut self) -> Options<'_> {
        let streams = match self {
            Self::Terminal => Streams::Show,
            Self::Nobody => Streams::Capture,
            Self::Lines(line) => Streams::Lines(&mut **line),
        };
        Options::new(streams).env("LC_ALL", "C.UTF-8").timeout(LIMIT)
    }
}

/// The packages are installed in the copy, with what they need. What changed. With `aur::True` in the copy's `ast.conf` what no
/// repository has is built from the AUR.
///
/// Refuses: a partial upgrade; a name that neither a repository nor, if it is asked, the AUR has.
pub fn install(copy: &WorkingCopy, names: &[String], mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    check_names(names)?;
    let before = installed(&copy.parts().root)?;
    let config = SnapshotConfig::load(&copy.parts().etc)?;
    let (repository, elsewhere) = if config.aur { by_origin(copy, names)? } else { (names.to_vec(), Vec::new()) };
    if !repository.is_empty() {
        pacman(copy, &["-S", "--needed"], &repository, &mut feed)?;
    }
    if !elsewhere.is_empty() {
        aur::install(copy, &config, &elsewhere, &mut feed)?;
    }
    let after = installed(&copy.parts().root)?;
    for name in names.iter().filter(|name| after.get(plain(name)).is_none()) {
        // A group or something provided under another name: pacman itself knows.
        let there = quiet(copy, &["-T"], &[name])?.status.success() || quiet(copy, &["-Qg"], &[name])?.status.success();
        if !there {
            return Err(PacmanError::NotInstalled(name.clone()));
        }
    }
    Ok(before.change_to(&after))
}

/// The packages are not in the copy any more, nor what only they needed. What changed.
pub fn remove(copy: &WorkingCopy, names: &[String], mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    check_names(names)?;
    let before = installed(&copy.parts().root)?;
    pacman(copy, &["-Rs"], names, &mut feed)?;
    let after = installed(&copy.parts().root)?;
    match names.iter().find(|name| after.get(plain(name)).is_some()) {
        Some(name) => Err(PacmanError::StillInstalled(name.clone())),
        None => Ok(before.change_to(&after)),
    }
}

/// Every package of the copy is as new as the repositories, the keys first (R5), and with `aur::True` what was built from the AUR is as
/// new as that. What changed; nothing when it was already.
///
/// Where a key does not do, all keys are fetched anew by the distribution's own program, once, and it is tried again: a machine that was off
/// for years has keys that are past their date, and the keyring that would renew them is signed by one of them.
pub fn upgrade(copy: &WorkingCopy, mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    let before = installed(&copy.parts().root)?;
    let has_keyring = before.get(KEYRING).is_some();
    match keys_first(copy, has_keyring, &mut feed) {
        Err(PacmanError::Failed { cause: Cause::Key | Cause::ExpiredKey(_), .. }) if renew_keys(copy, &mut feed)? => {
            keys_first(copy, has_keyring, &mut feed)?;
        }
        other => other?,
    }
    // `pacman -Qu` ends with 1 when nothing is old; what an owner holds back is marked.
    let old = quiet(copy, &["-Qu"], &[])?.text();
    if let Some(line) = old.lines().find(|line| !line.ends_with("[ignored]")) {
        return Err(PacmanError::StillOld(line.split_whitespace().next().unwrap_or_default().to_owned()));
    }
    let config = SnapshotConfig::load(&copy.parts().etc)?;
    if config.aur {
        aur::upgrade(copy, &config, &mut feed)?;
    }
    Ok(before.change_to(&installed(&copy.parts().root)?))
}

/// Everything is upgraded, the keys before all else.
fn keys_first(copy: &WorkingCopy, has_keyring: bool, feed: &mut Feed<'_>) -> Result<(), PacmanError> {
    if !has_keyring {
        return pacman(copy, &["-Syu"], &[], feed);
    }
    pacman(copy, &["-Sy", "--needed"], &[KEYRING.to_owned()], feed)?;
    pacman(copy, &["-Su"], &[], feed)
}

/// The keys that the copy knows were fetched anew from where the distribution publishes them, if it has the program for that (the package of
/// the keyring brings it). What they are worth is still said by the distribution's main keys, which are not fetched.
fn renew_keys(copy: &WorkingCopy, feed: &mut Feed<'_>) -> Result<bool, PacmanError> {
    if !copy.parts().root.join("usr/bin").join(Program::KeyringSync.name()).exists() {
        return Ok(false);
    }
    tracing::warn!("a key does not do: fetching all of them anew");
    let options = feed.options().timeout(KEYS_LIMIT);
    Ok(copy.run(&Invocation::new(Program::KeyringSync), options)?.status.success())
}

/// The names that the repositories have, and the others.
fn by_origin(copy: &WorkingCopy, names: &[String]) -> Result<(Vec<String>, Vec<String>), PacmanError> {
    let (mut repository, mut elsewhere) = (Vec::new(), Vec::new());
    for name in names {
        if in_repositories(copy, name)? { repository.push(name.clone()) } else { elsewhere.push(name.clone()) }
    }
    Ok((repository, elsewhere))
}

/// Whether the repositories have a package or group of that name, or something that provides it.
pub(super) fn in_repositories(copy: &WorkingCopy, name: &str) -> Result<bool, PacmanError> {
    // With `--nodeps` only the name itself is looked for: whether it can be installed is said by the transaction, in more words.
    let ended = quiet(copy, &["-Spdd", "--noconfirm", "--print-format", "%n"], &[name])?;
    // Without their lists no repository seems to have anything, and everything would be built from the AUR.
    if String::from_utf8_lossy(&ended.stderr).contains("database file for") {
        return Err(PacmanError::Failed { cause: Cause::NoDatabase, tail: ended.tail(), command: ended.command });
    }
    match judged(ended) {
        Err(PacmanError::Failed { cause: Cause::NoSuchPackage, .. }) => Ok(false),
        other => other.map(|()| true),
    }
}

/// Those of the dependencies that nothing installed in the copy satisfies.
pub(super) fn missing(copy: &WorkingCopy, dependencies: &[String]) -> Result<Vec<String>, PacmanError> {
    if dependencies.is_empty() {
        return Ok(Vec::new());
    }
    let words: Vec<&str> = dependencies.iter().map(String::as_str).collect();
    // Ends with 127 when something is missing, which it lists.
    Ok(quiet(copy, &["-T"], &words)?.text().lines().map(str::to_owned).collect())
}

/// The package's name in that of its file: `NAME-VERSION-RELEASE-ARCHITECTURE.pkg.tar…`.
pub(super) fn package_of_file(file_name: &str) -> Option<&str> {
    let (stem, _) = file_name.split_once(".pkg.tar")?;
    stem.rsplitn(4, '-').nth(3)
}

/// pacman has ended with 0 in the copy.
pub(super) fn pacman(copy: &WorkingCopy, words: &[&str], names: &[String], feed: &mut Feed<'_>) -> Result<(), PacmanError> {
    pacman_with(copy, &[], words, names, feed)
}

/// The same with more of the host visible.
pub(super) fn pacman_with(
    copy: &WorkingCopy,
    binds: &[Bind],
    words: &[&str],
    names: &[String],
    feed: &mut Feed<'_>,
) -> Result<(), PacmanError> {
    // What a killed run left behind: nobody else can be at work in this copy.
    file::remove_if_exists(&copy.parts().root.join(PACMAN_DB).join("db.lck"))?;
    let mut invocation = with_database(words).args(["--noconfirm", "--noprogressbar"]);
    if !names.is_empty() {
        invocation = invocation.arg("--").args(names);
    }
    match judged(copy.run_with(binds, &invocation, feed.options())?) {
        Err(PacmanError::Failed { cause: Cause::Key, command, tail }) => {
            let cause = expired_key(copy, &tail)?.map_or(Cause::Key, Cause::ExpiredKey);
            Err(PacmanError::Failed { cause, command, tail })
        }
        other => other,
    }
}

/// pacman with the snapshot's own database, whatever its settings say.
fn with_database(words: &[&str]) -> Invocation {
    Invocation::new(Program::Pacman).args(words).arg("--dbpath").arg(Path::new("/").join(PACMAN_DB))
}

/// The owner of an expired key that pacman's words name (R5): to pacman it is of "unknown trust" like any other.
fn expired_key(copy: &WorkingCopy, words: &str) -> Result<Option<String>, PacmanError> {
    let list = Invocation::new(Program::Gpg).args(["--homedir", "/etc/pacman.d/gnupg", "--batch", "--with-colons", "--list-keys"]);
    let ended = copy.run(&list, Options::capture().timeout(LIMIT))?;
    Ok(expired_in(&ended.text(), words))
}

/// The first owner of an expired key in gpg's list whom `words` name. Source: `doc/DETAILS` of gnupg.
fn expired_in(list: &str, words: &str) -> Option<String> {
    let mut is_expired = false;
    for line in list.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or_default();
        match field(0) {
            "pub" => is_expired = field(1) == "e",
            "uid" if is_expired && !field(9).is_empty() && words.contains(field(9)) => return Some(field(9).to_owned()),
            _ => {}
        }
    }
    None
}

/// The program has ended with 0.
///
/// Refuses: any other status, with what pacman's last words mean.
pub(super) fn judged(ended: Ended) -> Result<(), PacmanError> {
    if ended.status.success() {
        return Ok(());
    }
    let words = format!("{}\n{}", ended.text(), String::from_utf8_lossy(&ended.stderr));
    Err(PacmanError::Failed { cause: Cause::of(&words), tail: ended.tail(), command: ended.command })
}

pub(super) fn quiet(copy: &WorkingCopy, words: &[&str], names: &[&str]) -> Result<Ended, PacmanError> {
    let invocation = with_database(words).arg("--").args(names);
    Ok(copy.run(&invocation, Options::capture().env("LC_ALL", "C.UTF-8").timeout(LIMIT))?)
}

/// A name without the repository in front of it and the version behind it.
pub(super) fn plain(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(['<', '>', '=']).next().unwrap_or(name)
}

/// Refuses: what is no name of a package, group or dependency. Source: `pkgname` in PKGBUILD(5), and `repository/name`, `name>=version`.
pub fn check_names(names: &[String]) -> Result<(), PacmanError> {
    let good = |name: &String| {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || b"@_+".contains(&b));
        first && name.len() <= 255 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._+-/<>=:~".contains(&b)) && !name.contains("..")
    };
    match names.iter().find(|name| !good(name)) {
        Some(bad) => Err(PacmanError::BadName(bad.chars().take(60).collect())),
        None if names.is_empty() => Err(PacmanError::BadName(String::new())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_an_expired_key_is_found_by_its_owner() {
        let list = "tru::1:\npub:u:2048:1:AA::::::\nuid:u::::::::Good <g@x>:\npub:e:2048:1:BB::::::\nuid:e::::::::Old <o@x>:\n";
        assert_eq!(expired_in(list, "error: x: signature from \"Old <o@x>\" is unknown trust").as_deref(), Some("Old <o@x>"));
        assert_eq!(expired_in(list, "error: x: signature from \"Good <g@x>\" is unknown trust"), None);
    }

    #[test]
    fn r7_only_names_reach_pacman() {
        for good in ["hello", "core/hello", "gtk+", "lib32-glibc", "hello>=2.1-1", "@x", "_y"] {
            assert!(check_names(&[good.to_owned()]).is_ok(), "{good}");
        }
        for bad in ["", "-Rdd", "--config=/x", "a b", "a\nb", "$(reboot)", "../../x", "a;b", "a`b`", "ü", &"x".repeat(300)] {
            assert!(check_names(&[bad.to_owned()]).is_err(), "{bad:?} was taken for a name");
        }
        assert!(check_names(&[]).is_err());
        assert_eq!(package_of_file("lib32-x-1:2.1-3-x86_64.pkg.tar.zst"), Some("lib32-x"));
        assert_eq!((package_of_file("x-1-1.pkg.tar"), package_of_file("x.tar")), (None, None));
        assert_eq!((plain("core/hello>=1"), plain("hello")), ("hello", "hello"));
    }
}
