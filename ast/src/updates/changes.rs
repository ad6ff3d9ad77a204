//! What an update changes: the identity by which a bad one is remembered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One package that an update installs, upgrades or removes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// Version before, if it was installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Version after, unless it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Change {
    /// Whether this replaces an installed version by another one.
    pub const fn is_upgrade(&self) -> bool {
        self.from.is_some() && self.to.is_some()
    }
}

/// The changes of one update, sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Changes(Vec<Change>);

/// Beginnings of names of packages that can keep a machine from starting, whatever else an update contains.
const BOOT_PACKAGES: [&str; 12] =
    ["linux", "mkinitcpio", "systemd", "glibc", "ast", "btrfs-progs", "kmod", "util-linux", "dbus", "amd-ucode", "intel-ucode", "busybox"];

impl Changes {
    /// These changes, sorted, each package once.
    pub fn new(mut changes: Vec<Change>) -> Self {
        changes.sort();
        changes.dedup_by(|a, b| a.name == b.name);
        Self(changes)
    }

    /// From the versions before to the versions after.
    pub fn between(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Self {
        let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
        let gone = gone.map(|(name, from)| Change { name: name.clone(), from: Some(from.clone()), to: None });
        let come = after.iter().filter(|(name, to)| before.get(*name) != Some(to));
        let come = come.map(|(name, to)| Change { name: name.clone(), from: before.get(name).cloned(), to: Some(to.clone()) });
        Self::new(gone.chain(come).collect())
    }

    /// The changes, sorted by name.
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.0.iter()
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many packages change.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// SHA-256 over name and new version of each upgraded package, in hexadecimal.
    ///
    /// Only upgrades count: what a check announces and what a transaction did then agree, whatever dependencies came along.
    pub fn fingerprint(&self) -> String {
        let mut sum = Sha256::new();
        for change in self.iter().filter(|c| c.is_upgrade()) {
            for text in [&change.name, change.to.as_ref().unwrap_or(&change.name)] {
                sum.update(text.as_bytes());
                sum.update([0]);
            }
        }
        sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whether the package `name` ends at the version `to` (gone with `None`) in these changes.
    pub fn contains(&self, name: &str, to: Option<&str>) -> bool {
        self.iter().any(|c| c.name == name && c.to.as_deref() == to)
    }

    /// The packages to suspect when this update failed with `evidence`: those that can keep a machine from starting and those that
    /// the evidence names; all of them if there is none of either.
    pub fn suspects(&self, evidence: &[String]) -> Self {
        let boots = |c: &Change| BOOT_PACKAGES.iter().any(|p| c.name.starts_with(p));
        self.those(|c| boots(c) || is_named(c, evidence))
    }

    /// The packages that `evidence` names; all of them if it names none.
    pub fn named_in(&self, evidence: &[String]) -> Self {
        self.those(|c| is_named(c, evidence))
    }

    /// Those of which `is` says yes; all of them if there is none.
    fn those(&self, is: impl Fn(&Change) -> bool) -> Self {
        let some: Vec<_> = self.iter().filter(|c| is(c)).cloned().collect();
        Self(if some.is_empty() { self.0.clone() } else { some })
    }

    /// As people read it: `hello 1 -> 2, linux 6.1 -> 6.2 and 14 more`.
    pub fn summary(&self) -> String {
        /// Packages named; a status line holds no more.
        const SHOWN: usize = 3;
        let one = |c: &Change| match (&c.from, &c.to) {
            (Some(from), Some(to)) => format!("{} {from} -> {to}", c.name),
            (None, Some(to)) => format!("{} {to} (new)", c.name),
            _ => format!("{} (removed)", c.name),
        };
        let mut text = self.iter().take(SHOWN).map(one).collect::<Vec<_>>().join(", ");
        if self.len() > SHOWN {
            text.push_str(&format!(" and {} more", self.len() - SHOWN));
        }
        text
    }
}

fn is_named(change: &Change, evidence: &[String]) -> bool {
    evidence.iter().any(|line| names(line, &change.name))
}

/// Whether `line` holds `name` as a word of its own (`hello.service` names hello, `othello` does not).
fn names(line: &str, name: &str) -> bool {
    line.split(|c: char| !(c.is_ascii_alphanumeric() || "-_+@".contains(c))).any(|word| word == name)
}
