//! What somebody asked for in one snapshot is installed in another: out of the repositories after an upgrade, or the very same files out of
//! the machine's cache. Never by copying a database.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use super::local::{Entry, Local};
use super::transaction::{judged as ended_well, pacman, quiet};
use super::{Change, Feed, Package, PackageSet, PacmanError, aur, installed};
use crate::config::snapshot::SnapshotConfig;
use crate::sys::file;
use crate::work::{PACKAGE_CACHE, WorkingCopy};

/// What somebody asked for in `parent` and `child` does not have in any version.
pub fn lacking(parent: &PackageSet, child: &PackageSet) -> Vec<Package> {
    parent.iter().filter(|p| p.explicit && child.get(&p.name).is_none()).cloned().collect()
}

/// The copy has what it lacked of `parent`, a root, in the versions of its own databases; what no repository has is as in `parent`, or with
/// `aur::True` in the copy's `ast.conf` built from the AUR.
///
/// For a copy that was just upgraded. Refuses: as [`share_from_cache`], for what no repository has.
pub fn share(copy: &WorkingCopy, parent: &Path, mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    let before = installed(&copy.parts().root)?;
    let names = lacking(&installed(parent)?, &before).into_iter().map(|p| p.name);
    let offered = offered(copy)?;
    let (known, foreign): (Vec<String>, Vec<String>) = names.partition(|name| offered.contains(name));
    if !known.is_empty() {
        pacman(copy, &["-S", "--needed"], &known, &mut feed)?;
    }
    let config = SnapshotConfig::load(&copy.parts().etc)?;
    match from_cache(copy, parent, &foreign, &mut feed) {
        // What was built from the AUR once is built again.
        Err(PacmanError::NotCached { .. } | PacmanError::Mixture { .. }) if config.aur => aur::install(copy, &config, &foreign, &mut feed)?,
        other => other?,
    }
    judged(copy, &before, known.iter().chain(&foreign))
}

/// The copy has what it lacked of `parent`, a root, and what that needs, in the very files that `parent` was made of. Nothing is fetched.
///
/// Refuses: a mixture of old and new (something that it needs is there in another version than in `parent`), and what is not in the cache.
pub fn share_from_cache(copy: &WorkingCopy, parent: &Path, mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    let before = installed(&copy.parts().root)?;
    let names: Vec<String> = lacking(&installed(parent)?, &before).into_iter().map(|p| p.name).collect();
    from_cache(copy, parent, &names, &mut feed)?;
    judged(copy, &before, names.iter())
}

/// The copy has these packages and what they need, in the very files that `parent`, a root, was made of. Nothing is fetched.
///
/// Refuses: as [`share_from_cache`].
pub fn install_as_in(copy: &WorkingCopy, parent: &Path, names: &[String], mut feed: Feed<'_>) -> Result<Change, PacmanError> {
    let before = installed(&copy.parts().root)?;
    from_cache(copy, parent, names, &mut feed)?;
    judged(copy, &before, names.iter())
}

/// Packages of the copy that its own databases offer in a newer version, but for those that an owner holds back.
pub fn older_than_offered(copy: &WorkingCopy) -> Result<BTreeSet<String>, PacmanError> {
    // Ends with 1 when there is none.
    let text = quiet(copy, &["-Qu"], &[])?.text();
    let lines = text.lines().filter(|line| !line.ends_with("[ignored]"));
    Ok(lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// What changed, as far as `wanted` is there and nothing else is another one than before (R4).
fn judged<'n>(copy: &WorkingCopy, before: &PackageSet, mut wanted: impl Iterator<Item = &'n String>) -> Result<Change, PacmanError> {
    let after = installed(&copy.parts().root)?;
    match wanted.find(|name| after.get(name).is_none()) {
        Some(name) => Err(PacmanError::NotInstalled(name.clone())),
        None => Ok(before.change_to(&after)),
    }
}

fn from_cache(copy: &WorkingCopy, parent: &Path, names: &[String], feed: &mut Feed<'_>) -> Result<(), PacmanError> {
    if names.is_empty() {
        return Ok(());
    }
    let (parent, child) = (Local::read(parent)?, Local::read(&copy.parts().root)?);
    let cached = copy.cache().map(file::names).transpose()?.unwrap_or_default();
    let (mut files, mut needed) = (Vec::new(), Vec::new());
    for name in parent.with_needs(names.iter().cloned()) {
        let Some(entry) = parent.get(&name) else { continue };
        match child.get(&name) {
            Some(there) if there.version == entry.version => {}
            Some(there) => return Err(PacmanError::Mixture { name, here: there.version.clone(), parent: entry.version.clone() }),
            None => {
                let file = file_of(&cached, &name, entry);
                let file = file.ok_or_else(|| PacmanError::NotCached { name: name.clone(), version: entry.version.clone() })?;
                files.push(format!("{PACKAGE_CACHE}/{file}"));
                needed.extend((!entry.explicit).then_some(name));
            }
        }
    }
    if files.is_empty() {
        return Ok(());
    }
    pacman(copy, &["-U"], &files, feed)?;
    let needed: Vec<&str> = needed.iter().map(String::as_str).collect();
    if needed.is_empty() { Ok(()) } else { ended_well(quiet(copy, &["-D", "--asdeps"], &needed)?) }
}

/// The file of that package among the names in the cache, however it is compressed.
fn file_of(cached: &[OsString], name: &str, entry: &Entry) -> Option<String> {
    let start = format!("{name}-{}-{}.pkg.tar", entry.version, entry.arch);
    let is_it = |file: &&str| file.strip_prefix(&start).is_some_and(|rest| !rest.ends_with(".sig") && !rest.ends_with(".part"));
    cached.iter().filter_map(|file| file.to_str()).find(is_it).map(str::to_owned)
}

/// The names that the copy's databases have.
fn offered(copy: &WorkingCopy) -> Result<BTreeSet<String>, PacmanError> {
    Ok(quiet(copy, &["-Slq"], &[])?.text().lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_and_is_not_there_is_lacking() {
        let set = |list: &[(&str, bool)]| -> PackageSet {
            list.iter().map(|(name, explicit)| Package { name: (*name).into(), version: "1".into(), explicit: *explicit }).collect()
        };
        let parent = set(&[("a", true), ("b", true), ("needed", false)]);
        let names: Vec<_> = lacking(&parent, &set(&[("b", false), ("own", true)])).into_iter().map(|p| p.name).collect();
        assert_eq!(names, ["a"]);
        assert!(lacking(&parent, &parent).is_empty());
    }

    #[test]
    fn a_file_is_known_by_name_version_and_architecture() {
        let cached: Vec<OsString> =
            ["a-1:2-1-any.pkg.tar.zst.sig", "a-1:2-1-any.pkg.tar.zst.part", "a-1:2-1-any.pkg.tar.xz", "a-b-1:2-1-any.pkg.tar.zst"]
                .map(OsString::from)
                .into();
        let entry = |version: &str, arch: &str| Entry { version: version.into(), arch: arch.into(), ..Entry::default() };
        assert_eq!(file_of(&cached, "a", &entry("1:2-1", "any")).as_deref(), Some("a-1:2-1-any.pkg.tar.xz"));
        assert_eq!(file_of(&cached, "a", &entry("2-1", "any")), None);
        assert_eq!(file_of(&cached, "a", &entry("1:2-1", "x86_64")), None);
    }
}
