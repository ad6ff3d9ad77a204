//! The table of packages: which Debian packages each is made from, and what is changed on the way.

use super::cache::tests_dir;
use super::error::At as _;
use super::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

/// A release of Debian that something is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Suite {
    /// Debian 12: GRUB 2.06.
    Bookworm,
    /// Debian 13: the guest's userland and kernels, GRUB 2.12.
    #[default]
    Trixie,
    /// Debian unstable: GRUB 2.14.
    Sid,
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Bookworm, Self::Trixie, Self::Sid];

    /// As apt and the lock file call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
            Self::Sid => "sid",
        }
    }
}

/// One package of the lab, or a variant of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[allow(missing_docs)]
pub struct Recipe {
    pub name: String,
    /// Empty for the one in state v1.
    pub variant: String,
    /// Takes everything from this package's first variant, then adds its own.
    pub like: Option<String>,
    pub version: Option<String>,
    pub pkgrel: Option<u32>,
    pub suite: Suite,
    pub debs: Vec<String>,
    /// Gets what the closure holds beyond every other recipe.
    pub rest: bool,
    /// The lab's first or second kernel, in Arch's layout.
    pub kernel: Option<u8>,
    /// The mkinitcpio stand-in of `tests/mkinitcpio`.
    pub initcpio: bool,
    /// The throw-away signing key, as a keyring for pacman-key.
    pub keyring: bool,
    pub remove: Vec<String>,
    pub links: BTreeMap<String, String>,
    pub modes: BTreeMap<String, String>,
    pub depends: Vec<String>,
    pub provides: Vec<String>,
    pub conflicts: Vec<String>,
    pub backup: Vec<String>,
}

impl Recipe {
    /// `NAME` or `NAME@VARIANT`: its address here, and the name of its overlay.
    pub fn id(&self) -> String {
        if self.variant.is_empty() { self.name.clone() } else { format!("{}@{}", self.name, self.variant) }
    }

    /// The directories whose files are copied over the unpacked tree, in order.
    pub fn overlays(&self) -> Vec<PathBuf> {
        let dir = tests_dir().join("lab/overlay");
        let base = self.like.iter().map(|l| dir.join(l));
        base.chain([dir.join(self.id())]).collect()
    }
}

/// `packages.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipes {
    /// Shell patterns of Debian packages never unpacked.
    pub ignore: Vec<String>,
    /// Debian packages fetched with their closure and not made into any package, per suite.
    #[serde(default)]
    pub extra: BTreeMap<Suite, Vec<String>>,
    /// In the order of the file.
    #[serde(rename = "package")]
    pub packages: Vec<Recipe>,
}

impl Recipes {
    /// The table as it is in the sources, variants completed from what they are like.
    pub fn load() -> Result<Self> {
        let path = tests_dir().join("lab/packages.toml");
        let text = fs::read_to_string(&path).at(&path)?;
        let mut all: Self = toml::from_str(&text).map_err(|e| Error::Toml { path, source: Box::new(e) })?;
        for i in 0..all.packages.len() {
            if let Some(like) = all.packages[i].like.clone() {
                let base = all.get(&like)?.clone();
                all.packages[i] = merged(base, all.packages[i].clone());
            }
        }
        Ok(all)
    }

    /// The recipe `NAME` or `NAME@VARIANT`.
    pub fn get(&self, id: &str) -> Result<&Recipe> {
        self.packages.iter().find(|p| p.id() == id).ok_or_else(|| Error::NoRecipe { name: id.to_owned() })
    }

    /// The Debian packages asked of a suite by name.
    pub fn wanted(&self, suite: Suite) -> BTreeSet<String> {
        let extra = self.extra.get(&suite).into_iter().flatten();
        let debs = self.packages.iter().filter(|p| p.suite == suite).flat_map(|p| &p.debs);
        debs.chain(extra).cloned().collect()
    }

    /// Whether a Debian package of the closure is left out.
    pub fn ignored(&self, deb: &str) -> bool {
        self.ignore.iter().any(|pattern| matches(pattern, deb))
    }
}

/// `variant`, with everything it does not say itself taken from `base`.
fn merged(base: Recipe, variant: Recipe) -> Recipe {
    let mut remove = base.remove;
    remove.extend(variant.remove);
    let mut links = base.links;
    links.extend(variant.links);
    Recipe {
        variant: variant.variant,
        like: variant.like,
        version: variant.version.or(base.version),
        pkgrel: variant.pkgrel.or(base.pkgrel),
        remove,
        links,
        ..base
    }
}

/// A pattern with at most one `*`, at its end.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}
