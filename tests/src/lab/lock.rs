//! The lock file: which version of each Debian package the lab is made from, with its sha256.

use super::error::At as _;
use super::recipe::Suite;
use super::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;

/// One Debian package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Locked {
    /// Where it was found.
    pub suite: Suite,
    /// Debian's name of it; kernels have their version in it.
    pub package: String,
    /// Debian's version, epoch included.
    pub version: String,
    /// Of the .deb file.
    pub sha256: String,
}

/// `tests/lab.lock`, sorted by suite and name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFile {
    /// Hash of the names that were asked for: other names ask the suites again.
    pub request: String,
    /// Every package of every suite's closure.
    #[serde(default, rename = "deb")]
    pub debs: Vec<Locked>,
}

impl LockFile {
    /// The file at `path`, or an empty one where there is none.
    pub fn load(path: &Path) -> Result<Self> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|e| Error::Toml { path: path.to_owned(), source: Box::new(e) }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e).at(path),
        }
    }

    /// Reads the text of a lock file.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of the file: one line per package, so that a change of one is a change of one line.
    pub fn render(&self) -> String {
        let mut text = String::from("# Written by `lab lock`. Which Debian packages the lab is made from.\n");
        text.push_str(&format!("request = \"{}\"\ndeb = [\n", self.request));
        for d in &self.debs {
            text.push_str(&format!(
                "  {{ suite = \"{}\", package = \"{}\", version = \"{}\", sha256 = \"{}\" }},\n",
                d.suite.name(),
                d.package,
                d.version,
                d.sha256
            ));
        }
        text.push_str("]\n");
        text
    }

    /// The file is at `path` from now on.
    pub fn save(&self, path: &Path) -> Result<()> {
        let new = path.with_extension("lock.new");
        fs::write(&new, self.render()).at(&new)?;
        fs::rename(&new, path).at(path)
    }

    /// What became another version from `self` to `new`, as one line each: `PKG old -> new`.
    pub fn moved(&self, new: &Self) -> Vec<String> {
        let old = |d: &Locked| self.debs.iter().find(|o| o.suite == d.suite && o.package == d.package);
        let mut lines = Vec::new();
        for d in &new.debs {
            match old(d) {
                Some(o) if o.sha256 == d.sha256 => {}
                Some(o) => lines.push(format!("{} {} -> {}", d.package, o.version, d.version)),
                None if self.debs.is_empty() => {}
                None => lines.push(format!("{} none -> {}", d.package, d.version)),
            }
        }
        for o in &self.debs {
            if !new.debs.iter().any(|d| d.suite == o.suite && d.package == o.package) {
                lines.push(format!("{} {} -> none", o.package, o.version));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locked(package: &str, version: &str) -> Locked {
        Locked { suite: Suite::Trixie, package: package.into(), version: version.into(), sha256: format!("{version}-hash") }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let lock = LockFile { request: "abc".into(), debs: vec![locked("bash", "5.2-1"), locked("libc6", "2:2.41+dfsg-1")] };
        assert_eq!(LockFile::parse(&lock.render()).unwrap(), lock);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.lock");
        assert_eq!(LockFile::load(&path).unwrap(), LockFile::default());
        lock.save(&path).unwrap();
        assert_eq!(LockFile::load(&path).unwrap(), lock);
        fs::write(&path, "deb = 5").unwrap();
        assert!(matches!(LockFile::load(&path), Err(Error::Toml { .. })));
    }

    #[test]
    fn moves_are_told() {
        let old = LockFile { request: "a".into(), debs: vec![locked("bash", "1"), locked("gone", "1"), locked("same", "1")] };
        let new = LockFile { request: "a".into(), debs: vec![locked("bash", "2"), locked("new", "1"), locked("same", "1")] };
        assert_eq!(old.moved(&new), ["bash 1 -> 2", "new none -> 1", "gone 1 -> none"]);
        assert!(old.moved(&old).is_empty() && LockFile::default().moved(&new).is_empty());
    }
}
