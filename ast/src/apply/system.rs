//! Host name, time zone, locale and keyboard: files of `/etc` that have one thing to say each.

use std::path::Path;

use super::checked::{Keymap, Locale, Zone};
use super::declaration::System;
use super::files::{self, Wanted, What, is_there};
use super::ApplyError;
use crate::exec::{Invocation, Options, Program};
use crate::grub::defaults::Defaults;
use crate::sys::{At, file};
use crate::work::WorkingCopy;

/// Locales that are in the C library itself.
const BUILT_IN: [&str; 4] = ["C", "POSIX", "C.UTF-8", "C.utf8"];
/// What a machine without `/etc/localtime` has (localtime(5)), so nothing has to be there for it.
const UTC: &str = "UTC";
/// Where time zones are.
const ZONES: &str = "/usr/share/zoneinfo";
/// The locales that are built, and those that could be.
const LOCALE_GEN: &str = "/etc/locale.gen";

/// The copy has this name, zone, language and keyboard; what is not named stays as it is.
pub(super) fn bring(copy: &WorkingCopy, system: &System) -> Result<(), ApplyError> {
    if let Some(name) = &system.hostname {
        put(copy, "/etc/hostname", &format!("{}\n", name.as_str()))?;
    }
    if let Some(zone) = &system.timezone {
        self::zone(copy, zone)?;
    }
    if let Some(locale) = &system.locale {
        self::locale(copy, locale)?;
    }
    match &system.keymap {
        Some(keymap) => self::keymap(copy, keymap),
        None => Ok(()),
    }
}

fn zone(copy: &WorkingCopy, zone: &Zone) -> Result<(), ApplyError> {
    if zone.as_str() != UTC && !is_there(copy, &Path::new(ZONES).join(zone.as_str()))? {
        return Err(impossible("the time zone", zone.as_str(), format!("there is no such file in {ZONES} of the snapshot (package tzdata)")));
    }
    let target = format!("..{ZONES}/{}", zone.as_str());
    files::write(copy, &Wanted { path: Path::new("/etc/localtime"), what: What::Link(&target), owner: "root:root", mode: "0644" })
}

/// `LANG` is the locale, which is built if it has to be.
fn locale(copy: &WorkingCopy, locale: &Locale) -> Result<(), ApplyError> {
    if !BUILT_IN.contains(&locale.as_str()) {
        let text = read(copy, LOCALE_GEN)?;
        let Some(new) = listed(&text, locale.as_str()) else {
            return Err(impossible("the locale", locale.as_str(), format!("{LOCALE_GEN} of the snapshot does not list it")));
        };
        if new != text {
            put(copy, LOCALE_GEN, &new)?;
            copy.run(&Invocation::new(Program::LocaleGen), Options::capture())?.success().map(drop)?;
        }
    }
    setting(copy, "/etc/locale.conf", "LANG", locale.as_str())
}

fn keymap(copy: &WorkingCopy, keymap: &Keymap) -> Result<(), ApplyError> {
    setting(copy, "/etc/vconsole.conf", "KEYMAP", keymap.as_str())
}

/// `/etc/locale.gen` with the locale's line no comment any more; `None` when there is no such line.
fn listed(text: &str, locale: &str) -> Option<String> {
    let is_its = |line: &str| line.trim_start_matches(['#', ' ']).split_whitespace().next() == Some(locale);
    let line = text.lines().find(|line| is_its(line) && !line.starts_with('#')).or_else(|| text.lines().find(|line| is_its(line)))?;
    let plain = line.trim_start_matches(['#', ' ']);
    Some(text.lines().map(|other| format!("{}\n", if std::ptr::eq(other, line) { plain } else { other })).collect())
}

/// `KEY` in a file of assignments (locale.conf(5), vconsole.conf(5)) has this value; every other line is as it was.
fn setting(copy: &WorkingCopy, path: &str, key: &str, value: &str) -> Result<(), ApplyError> {
    let text = read(copy, path)?;
    let is_so = Defaults::parse(&text).get(key).is_ok_and(|is| is == Some(value));
    if is_so { Ok(()) } else { put(copy, path, &Defaults::with(&text, key, value)) }
}

/// A text of `/etc`; empty if it is not there.
fn read(copy: &WorkingCopy, path: &str) -> Result<String, ApplyError> {
    let name = path.strip_prefix("/etc/").unwrap_or(path);
    let host = copy.parts().etc.join(name);
    let is_file = std::fs::symlink_metadata(&host).is_ok_and(|meta| meta.is_file());
    let bytes = if is_file { file::read_if_exists(&host)? } else { None };
    String::from_utf8(bytes.unwrap_or_default()).map_err(|_| std::io::Error::from(std::io::ErrorKind::InvalidData)).at("read as text", &host).map_err(Into::into)
}

fn put(copy: &WorkingCopy, path: &str, content: &str) -> Result<(), ApplyError> {
    files::write(copy, &Wanted { path: Path::new(path), what: What::File(content), owner: "root:root", mode: "0644" })
}

fn impossible(what: &str, name: &str, reason: String) -> ApplyError {
    ApplyError::Impossible { object: format!("{what} {name}"), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_is_built_by_the_line_that_the_package_brought() {
        let text = "# a list\n#de_DE.UTF-8 UTF-8\n#en_US ISO-8859-1\n# en_US.UTF-8 UTF-8\n";
        assert_eq!(listed(text, "en_US.UTF-8").as_deref(), Some("# a list\n#de_DE.UTF-8 UTF-8\n#en_US ISO-8859-1\nen_US.UTF-8 UTF-8\n"));
        let built = "en_US.UTF-8 UTF-8\n#en_US.UTF-8 UTF-8\n";
        assert_eq!(listed(built, "en_US.UTF-8").as_deref(), Some(built));
        assert_eq!(listed(text, "xx_XX.UTF-8"), None);
        assert_eq!(listed("", "a"), None);
    }
}
