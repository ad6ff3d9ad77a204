//! Transactions inside a working copy. `-Sy` never stands alone: what follows it in the same copy is the whole upgrade, or nothing is kept.

use std::path::Path;
use std::time::Duration;

use super::{Cause, Change, PacmanError, installed};
use crate::exec::{Ended, Invocation, Options, Program, Streams};
use crate::layout::PACMAN_DB;
use crate::sys::file;
use crate::work::WorkingCopy;

/// A transaction that takes longer has stopped: a kiosk's slowest line brings a full upgrade in a tenth of it.
const LIMIT: Duration = Duration::from_secs(6 * 3600);
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
    fn options(&mut self) -> Options<'_> {
        let streams = match self {
            Self::Terminal => Streams::Show,
            Self::Nobody => Streams::Capture,
            Self::Lines(line) => Streams::Lines(&mut **line),
        };
        Options::new(streams).env("LC_ALL", "C.UTF-8").timeout(LIMIT)
    }
}

/// The packages are installed in the copy, with what they need. What changed.
///
/// Refuses: a partial upgrade; a name that no repository has.
pub fn install(copy: &WorkingCopy, names: &[String], mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    check_names(names)?;
    let before = installed(&copy.parts().root)?;
    pacman(copy, &["-S", "--needed"], names, &mut feed)?;
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

/// Every package of the copy is as new as the repositories, the keys first (R5). What changed; nothing when it was already.
pub fn upgrade(copy: &WorkingCopy, mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    let before = installed(&copy.parts().root)?;
    if before.get(KEYRING).is_some() {
        pacman(copy, &["-Sy", "--needed"], &[KEYRING.to_owned()], &mut feed)?;
        pacman(copy, &["-Su"], &[], &mut feed)?;
    } else {
        pacman(copy, &["-Syu"], &[], &mut feed)?;
    }
    // `pacman -Qu` ends with 1 when nothing is old; what an owner holds back is marked.
    let old = quiet(copy, &["-Qu"], &[])?.text();
    if let Some(line) = old.lines().find(|line| !line.ends_with("[ignored]")) {
        return Err(PacmanError::StillOld(line.split_whitespace().next().unwrap_or_default().to_owned()));
    }
    Ok(before.change_to(&installed(&copy.parts().root)?))
}

/// pacman has ended with 0 in the copy.
fn pacman(copy: &WorkingCopy, words: &[&str], names: &[String], feed: &mut Feed<'_>) -> Result<(), PacmanError> {
    // What a killed run left behind: nobody else can be at work in this copy.
    file::remove_if_exists(&copy.parts().root.join(PACMAN_DB).join("db.lck"))?;
    let mut invocation = with_database(words).args(["--noconfirm", "--noprogressbar"]);
    if !names.is_empty() {
        invocation = invocation.arg("--").args(names);
    }
    match judged(copy.run(&invocation, feed.options())?) {
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

fn quiet(copy: &WorkingCopy, words: &[&str], names: &[&str]) -> Result<Ended, PacmanError> {
    let invocation = with_database(words).arg("--").args(names);
    Ok(copy.run(&invocation, Options::capture().env("LC_ALL", "C.UTF-8").timeout(LIMIT))?)
}

/// A name without the repository in front of it and the version behind it.
fn plain(name: &str) -> &str {
    let name = name.rsplit('/').next().unwrap_or(name);
    name.split(['<', '>', '=']).next().unwrap_or(name)
}

/// Refuses: what is no name of a package, group or dependency. Source: `pkgname` in PKGBUILD(5), and `repository/name`, `name>=version`.
fn check_names(names: &[String]) -> Result<(), PacmanError> {
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
        assert_eq!((plain("core/hello>=1"), plain("hello")), ("hello", "hello"));
    }
}
