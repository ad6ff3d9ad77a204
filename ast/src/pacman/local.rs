//! More of pacman's local database: what packages need and provide, and to which groups they belong. Source: `lib/libalpm/be_local.c`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::transaction::plain;
use crate::layout::PACMAN_DB;
use crate::sys::{SysError, file};

/// What the database says of one package beyond its name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub version: String,
    pub arch: String,
    pub explicit: bool,
    pub groups: Vec<String>,
    pub depends: Vec<String>,
    pub provides: Vec<String>,
}

/// The database of one root, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Local(BTreeMap<String, Entry>);

impl Local {
    /// The database in `root`. A directory that is no package is passed over, as pacman does.
    pub fn read(root: &Path) -> Result<Self, SysError> {
        let local = root.join(PACMAN_DB).join("local");
        let mut entries = BTreeMap::new();
        for name in file::names(&local)? {
            let dir = local.join(name);
            if dir.is_dir()
                && let Some(desc) = file::read_if_exists(&dir.join("desc"))?
            {
                entries.extend(parse(&String::from_utf8_lossy(&desc)));
            }
        }
        Ok(Self(entries))
    }

    /// The package of that name.
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.0.get(name)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.0.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// `names` and every package here that they need, directly or not. Where several provide the same, all of them: rather one too many.
    pub fn with_needs(&self, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
        let mut providers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, entry) in self.iter() {
            for provided in std::iter::once(name).chain(entry.provides.iter().map(|p| plain(p))) {
                providers.entry(provided).or_default().push(name);
            }
        }
        let mut found = BTreeSet::new();
        let mut open: Vec<String> = names.into_iter().collect();
        while let Some(name) = open.pop() {
            let Some(entry) = self.get(&name) else { continue };
            if found.insert(name) {
                let needed = entry.depends.iter().flat_map(|depend| providers.get(plain(depend)).into_iter().flatten());
                open.extend(needed.map(|name| (*name).to_owned()));
            }
        }
        found
    }
}

/// Those of `names` that `root` has: a package, or a group of which it has a member.
pub fn held(root: &Path, names: &[String]) -> Result<Vec<String>, SysError> {
    let local = Local::read(root)?;
    let is_there = |name: &&String| local.get(plain(name)).is_some() || local.iter().any(|(_, entry)| entry.groups.contains(*name));
    Ok(names.iter().filter(is_there).cloned().collect())
}

/// One `desc` file: `%KEY%`, its lines, a blank line.
fn parse(desc: &str) -> Option<(String, Entry)> {
    let values = |key: &str| -> Vec<String> {
        let lines = desc.lines().skip_while(|line| *line != key).skip(1);
        lines.take_while(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let first = |key: &str| values(key).into_iter().next();
    let entry = Entry {
        version: first("%VERSION%")?,
        arch: first("%ARCH%").unwrap_or_default(),
        explicit: first("%REASON%").is_none_or(|reason| reason == "0"),
        groups: values("%GROUPS%"),
        depends: values("%DEPENDS%"),
        provides: values("%PROVIDES%"),
    };
    Some((first("%NAME%")?, entry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desc(name: &str, more: &str) -> String {
        format!("%NAME%\n{name}\n\n%VERSION%\n1-1\n\n%ARCH%\nany\n\n{more}")
    }

    fn root(descs: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("dir");
        for (name, more) in descs {
            let at = dir.path().join(PACMAN_DB).join("local").join(format!("{name}-1-1"));
            file::make_dirs(&at).expect("dir");
            file::replace(&at.join("desc"), desc(name, more).as_bytes()).expect("file");
        }
        dir
    }

    #[test]
    fn needs_are_followed_through_provisions_and_circles() {
        let dir = root(&[
            ("app", "%DEPENDS%\nlibx.so=1-64\nbase>=3\n"),
            ("x", "%PROVIDES%\nlibx.so=1-64\n\n%DEPENDS%\nbase\n"),
            ("base", "%DEPENDS%\nx\nnobody-has-it\n"),
            ("other", "%DEPENDS%\nbase\n"),
        ]);
        let local = Local::read(dir.path()).expect("read");
        let needs = |name: &str| local.with_needs([name.to_owned()]).into_iter().collect::<Vec<_>>();
        assert_eq!(needs("app"), ["app", "base", "x"]);
        assert_eq!(needs("x"), ["base", "x"]);
        assert!(needs("nobody-has-it").is_empty());
    }

    #[test]
    fn a_package_and_a_group_are_held_and_nothing_else() {
        let dir = root(&[("a", "%GROUPS%\ngnome\nextra\n"), ("b", "%REASON%\n1\n")]);
        file::replace(&dir.path().join(PACMAN_DB).join("local/ALPM_DB_VERSION"), b"9\n").expect("file");
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let held = |names: &[&str]| held(dir.path(), &words(names)).expect("read");
        assert_eq!(held(&["a", "gnome", "kde", "any", "core/b"]), words(&["a", "gnome", "core/b"]));
        assert!(held(&["%GROUPS%"]).is_empty());
    }
}
