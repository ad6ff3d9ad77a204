//! Package sets, read from pacman's local database. Source: `lib/libalpm/be_local.c` of pacman, database version 9.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::layout::PACMAN_DB;
use crate::sys::{SysError, file};

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// `epoch:version-release`.
    pub version: String,
    /// Whether somebody asked for it, rather than another package.
    pub explicit: bool,
}

/// Installed packages, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PackageSet(BTreeMap<String, Package>);

/// What differs between two sets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Only in the later one.
    pub added: Vec<Package>,
    /// Only in the earlier one.
    pub removed: Vec<Package>,
    /// In both with different versions: name, earlier, later.
    pub changed: Vec<(String, String, String)>,
}

impl Change {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl std::fmt::Display for Change {
    /// A line each, as a package manager writes them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.added.iter().try_for_each(|p| writeln!(f, "+ {} {}", p.name, p.version))?;
        self.removed.iter().try_for_each(|p| writeln!(f, "- {} {}", p.name, p.version))?;
        self.changed.iter().try_for_each(|(name, old, new)| writeln!(f, "  {name} {old} -> {new}"))
    }
}

impl PackageSet {
    /// The packages in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &Package> {
        self.0.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The package of that name.
    pub fn get(&self, name: &str) -> Option<&Package> {
        self.0.get(name)
    }

    /// The version of the package of that name.
    pub fn version(&self, name: &str) -> Option<&str> {
        self.get(name).map(|p| p.version.as_str())
    }

    /// What makes `later` out of this one.
    pub fn change_to(&self, later: &Self) -> Change {
        let mut change = Change::default();
        for package in later.iter() {
            match self.get(&package.name) {
                None => change.added.push(package.clone()),
                Some(old) if old.version != package.version => {
                    change.changed.push((package.name.clone(), old.version.clone(), package.version.clone()));
                }
                Some(_) => {}
            }
        }
        change.removed = self.iter().filter(|p| later.get(&p.name).is_none()).cloned().collect();
        change
    }

    /// SHA-256 over names and versions: two sets have the same one exactly when they hold the same packages.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.iter().map(|p| (p.name.as_str(), p.version.as_str())))
    }
}

impl FromIterator<Package> for PackageSet {
    fn from_iter<I: IntoIterator<Item = Package>>(packages: I) -> Self {
        Self(packages.into_iter().map(|p| (p.name.clone(), p)).collect())
    }
}

/// SHA-256, in hexadecimal, of lines of name and version.
pub(super) fn fingerprint<'a>(packages: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut hash = Sha256::new();
    for (name, version) in packages {
        hash.update(format!("{name} {version}\n"));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The packages that the database in `root` lists. A directory that is no package is passed over, as pacman does.
pub fn installed(root: &Path) -> Result<PackageSet, SysError> {
    let local = root.join(PACMAN_DB).join("local");
    // A root without a database is an error, not a root without packages.
    file::read(&local.join("ALPM_DB_VERSION"))?;
    let mut packages = Vec::new();
    for name in file::names(&local)? {
        if let Some(desc) = file::read_if_exists(&local.join(&name).join("desc")).or_else(not_a_directory)? {
            packages.extend(parse(&String::from_utf8_lossy(&desc)));
        }
    }
    Ok(packages.into_iter().collect())
}

fn not_a_directory(error: SysError) -> Result<Option<Vec<u8>>, SysError> {
    if error.errno() == Some(nix::errno::Errno::ENOTDIR) { Ok(None) } else { Err(error) }
}

/// The first line under `key` in a `desc` file.
pub(super) fn value(desc: &str, key: &str) -> Option<String> {
    let mut lines = desc.lines().skip_while(|line| *line != key);
    lines.next();
    lines.next().filter(|line| !line.is_empty()).map(str::to_owned)
}

/// One `desc` file: `%KEY%`, its lines, a blank line.
fn parse(desc: &str) -> Option<Package> {
    let value = |key| value(desc, key);
    // %REASON% is absent or 0 for what was asked for, 1 for a dependency.
    let explicit = value("%REASON%").is_none_or(|reason| reason == "0");
    Some(Package { name: value("%NAME%")?, version: value("%VERSION%")?, explicit })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(packages: &[(&str, &str)]) -> PackageSet {
        packages.iter().map(|(n, v)| Package { name: (*n).into(), version: (*v).into(), explicit: true }).collect()
    }

    #[test]
    fn a_desc_file_is_read() {
        let desc = "%NAME%\nhello\n\n%VERSION%\n1:2.1-3\n\n%REASON%\n1\n\n%DEPENDS%\nglibc\n";
        assert_eq!(parse(desc), Some(Package { name: "hello".into(), version: "1:2.1-3".into(), explicit: false }));
        for bad in ["", "%NAME%\n", "%NAME%\n\n%VERSION%\n1", "%VERSION%\n1\n"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_change_names_what_differs() {
        let (old, new) = (set(&[("a", "1"), ("b", "1"), ("c", "1")]), set(&[("a", "1"), ("b", "2"), ("d", "1")]));
        let change = old.change_to(&new);
        assert_eq!(change.to_string(), "+ d 1\n- c 1\n  b 1 -> 2\n");
        assert!(old.change_to(&old).is_empty());
        assert_ne!(old.fingerprint(), new.fingerprint());
    }
}
