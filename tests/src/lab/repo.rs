//! Signed pacman repositories in several states, as hard links to the packages of the cache.

use super::cache::{CacheLock, Key, once};
use super::error::At as _;
use super::package::{self, Package};
use super::pool::Pool;
use super::recipe::{Recipe, Recipes};
use super::run::run;
use super::sign::{Signer, stop_agent};
use super::{Error, Result, own};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The repository's name in pacman.conf.
pub const NAME: &str = "core";

/// Packages made at the same time.
const WORKERS: usize = 2;

/// What a mirror offers at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// What machines are installed from.
    V1,
    /// New kernel, hello 2.
    V2,
    /// v2 and an unrelated package (extra-note 2).
    V2Plus,
    /// Good again: v2's kernel rebuilt, hello 3.
    V3,
    /// v2 with a systemd that lacks its init.
    V2NoInit,
    /// v2 with a mkinitcpio whose images lack our program, though pacman ends with 0.
    V2NoBinary,
    /// v2 with a mkinitcpio whose images crash the kernel before anything else.
    V2Panic,
    /// The same and an unrelated package (extra-note 2).
    V2PanicPlus,
    /// v2 with a unit that hangs before sysinit.target.
    V2HungUnit,
    /// v2 with a required health check that fails.
    V2BadCheck,
    /// v2 with a required health check that never returns.
    V2HungCheck,
    /// v2 with a unit that newly fails.
    V2BadUnit,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::V1,
        Self::V2,
        Self::V2Plus,
        Self::V3,
        Self::V2NoInit,
        Self::V2NoBinary,
        Self::V2Panic,
        Self::V2PanicPlus,
        Self::V2HungUnit,
        Self::V2BadCheck,
        Self::V2HungCheck,
        Self::V2BadUnit,
    ];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V2Plus => "v2-plus",
            Self::V3 => "v3",
            Self::V2NoInit => "v2-noinit",
            Self::V2NoBinary => "v2-nobinary",
            Self::V2Panic => "v2-panic",
            Self::V2PanicPlus => "v2-panic-plus",
            Self::V2HungUnit => "v2-hungunit",
            Self::V2BadCheck => "v2-badcheck",
            Self::V2HungCheck => "v2-hungcheck",
            Self::V2BadUnit => "v2-badunit",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.name() == name)
    }

    /// The variants that take the place of v1's packages.
    fn variants(self) -> Vec<&'static str> {
        let more: &[&str] = match self {
            Self::V1 => return Vec::new(),
            Self::V3 => return vec!["linux@v3", "hello@v3"],
            Self::V2 => &[],
            Self::V2Plus => &["extra-note@v2"],
            Self::V2NoInit => &["systemd@noinit"],
            Self::V2NoBinary => &["mkinitcpio@nobinary"],
            Self::V2Panic => &["mkinitcpio@panic"],
            Self::V2PanicPlus => &["mkinitcpio@panic", "extra-note@v2"],
            Self::V2HungUnit => &["kiosk-app@hungunit"],
            Self::V2BadCheck => &["kiosk-app@badcheck"],
            Self::V2HungCheck => &["kiosk-app@hungcheck"],
            Self::V2BadUnit => &["kiosk-app@badunit"],
        };
        [&["linux@v2", "hello@v2"], more].concat()
    }
}

/// A directory with the packages of `state`, their signatures and a signed database; made once per content.
pub fn build(cache: &Path, state: State) -> Result<PathBuf> {
    Ok(build_all(cache, &[state])?.remove(0))
}

/// The same for several states, in their order.
pub fn build_all(cache: &Path, states: &[State]) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(cache).at(cache)?;
    let recipes = Recipes::load()?;
    let pool = Pool::open(cache, &recipes)?;
    let signer = Signer::open(cache)?;
    // Cargo may take minutes, for which nobody else is to wait.
    own::binaries()?;
    let _held = CacheLock::take(cache, "repo")?;
    let own = own::build(cache, &signer)?;
    let mut wanted: Vec<&Recipe> = recipes.packages.iter().filter(|r| r.variant.is_empty()).collect();
    for id in states.iter().flat_map(|s| s.variants()) {
        wanted.push(recipes.get(id)?);
    }
    wanted.sort_by_key(|r| r.id());
    wanted.dedup_by_key(|r| r.id());
    let made = make_packages(cache, &wanted, &recipes, &pool, &signer)?;
    let find = |id: &str| made.iter().find(|(i, _)| i == id).map(|(_, p)| p.clone()).ok_or_else(|| Error::NoRecipe { name: id.into() });
    let mut v1 = vec![own];
    for recipe in recipes.packages.iter().filter(|r| r.variant.is_empty()) {
        v1.push(find(&recipe.id())?);
    }
    let base = database(cache, "v1", &v1, &[], None, &signer)?;
    let mut dirs = Vec::new();
    for state in states {
        let mut changed = Vec::new();
        for id in state.variants() {
            changed.push(find(id)?);
        }
        dirs.push(if changed.is_empty() { base.clone() } else { database(cache, state.name(), &v1, &changed, Some(&base), &signer)? });
    }
    Ok(dirs)
}

/// `link` shows `state_dir` from this moment on; readers of the link never see neither.
pub fn publish(state_dir: &Path, link: &Path) -> Result<()> {
    let new = link.with_extension("new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).at(new),
        _ => {}
    }
    symlink(state_dir, &new).at(&new)?;
    fs::rename(&new, link).at(link)
}

fn make_packages(cache: &Path, wanted: &[&Recipe], recipes: &Recipes, pool: &Pool, signer: &Signer) -> Result<Vec<(String, Package)>> {
    let queue = Mutex::new(wanted.to_vec());
    let work = || {
        let mut made = Vec::new();
        loop {
            let next = queue.lock().ok().and_then(|mut q| q.pop());
            let Some(recipe) = next else { return Ok(made) };
            made.push((recipe.id(), package::build(cache, recipe, recipes, pool, signer)?));
        }
    };
    let parts: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    });
    let mut all = Vec::new();
    for part in parts {
        all.extend(part?);
    }
    Ok(all)
}

/// A repository of `v1` with `changed` in the place of packages of the same name. Given v1's own, only the changed
/// ones are added to a copy of its database.
fn database(cache: &Path, name: &str, v1: &[Package], changed: &[Package], base: Option<&Path>, signer: &Signer) -> Result<PathBuf> {
    let kept = v1.iter().filter(|p| !changed.iter().any(|c| c.name == p.name));
    let all: Vec<&Package> = kept.chain(changed).collect();
    let mut key = Key::new("repo").with(include_str!("repo.rs")).with(signer.fingerprint());
    for package in &all {
        key = key.with(&package.key);
    }
    once(&cache.join("repos").join(format!("{name}-{}", key.name())), |dir| {
        for package in &all {
            for file in [package.file.clone(), PathBuf::from(format!("{}.sig", package.file.display()))] {
                let to = dir.join(file.file_name().unwrap_or_default());
                fs::hard_link(&file, &to).at(&file)?;
            }
        }
        let add: Vec<&Package> = match base {
            Some(base) => {
                let db = format!("{NAME}.db.tar.gz");
                fs::copy(base.join(&db), dir.join(&db)).at(dir)?;
                changed.iter().collect()
            }
            None => all.clone(),
        };
        let mut command = Command::new("repo-add");
        command.env("GNUPGHOME", signer.home()).args(["-q", "--sign", "--key", signer.fingerprint()]);
        command.arg(format!("{NAME}.db.tar.gz")).args(add.iter().filter_map(|p| p.file.file_name())).current_dir(dir);
        run(&mut command)?;
        stop_agent(signer.home());
        Ok(())
    })
}
