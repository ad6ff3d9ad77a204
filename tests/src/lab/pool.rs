//! All the Debian packages the lab is made from, in the cache, as the lock file says.

use super::apt::{Apt, Chosen};
use super::cache::{CacheLock, Key, sha256, tests_dir};
use super::error::At as _;
use super::lock::{LockFile, Locked};
use super::recipe::{Recipe, Recipes, Suite};
use super::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// The guest's kernels: small, with virtio, btrfs and the watchdog that the emulator has.
const KERNEL_START: &str = "linux-image-6.12.";
const KERNEL_END: &str = "-cloud-amd64";

/// The packages of the lock file, all present.
#[derive(Debug)]
pub struct Pool {
    dir: PathBuf,
    lock: LockFile,
}

impl Pool {
    /// Every package of the lock file is in the cache. Without the network if it was already; else the
    /// suites are asked, what has moved on is taken, told and locked.
    pub fn open(cache: &Path, recipes: &Recipes) -> Result<Self> {
        Self::open_or_update(cache, recipes, false)
    }

    /// The same, and the suites are asked in any case: the lock names what they offer now.
    pub fn update(cache: &Path, recipes: &Recipes) -> Result<Self> {
        Self::open_or_update(cache, recipes, true)
    }

    fn open_or_update(cache: &Path, recipes: &Recipes, update: bool) -> Result<Self> {
        let path = tests_dir().join("lab.lock");
        let _held = CacheLock::take(cache, "pool")?;
        let old = LockFile::load(&path)?;
        let request = request(recipes);
        let mut pool = Self { dir: cache.join("debs"), lock: old.clone() };
        let complete = old.request == request && old.debs.iter().all(|d| pool.path(d).exists());
        if complete && !update {
            return Ok(pool);
        }
        fs::create_dir_all(&pool.dir).at(&pool.dir)?;
        let kernels = if update { Vec::new() } else { kernels_of(&old) };
        let mut debs = Vec::new();
        for found in each_suite(|suite| fetch(cache, suite, recipes, &kernels)) {
            for (locked, file) in found? {
                let target = pool.path(&locked);
                if !target.exists() {
                    fs::hard_link(&file, &target).at(&target)?;
                }
                debs.push(locked);
            }
        }
        for suite in Suite::ALL {
            Apt::open(cache, suite)?.clean()?;
        }
        debs.sort();
        pool.lock = LockFile { request, debs };
        for line in old.moved(&pool.lock) {
            eprintln!("lab: lock: {line}");
        }
        if pool.lock != old {
            pool.lock.save(&path)?;
        }
        Ok(pool)
    }

    /// The file of a locked package.
    pub fn path(&self, deb: &Locked) -> PathBuf {
        self.dir.join(format!("{}_{}.deb", deb.package, deb.sha256.get(..12).unwrap_or(&deb.sha256)))
    }

    /// Every package of a suite's closure.
    pub fn suite(&self, suite: Suite) -> impl Iterator<Item = &Locked> {
        self.lock.debs.iter().filter(move |d| d.suite == suite)
    }

    /// The Debian packages that `recipe` is unpacked from, in order.
    pub fn debs_of(&self, recipe: &Recipe, recipes: &Recipes) -> Result<Vec<&Locked>> {
        if let Some(n) = recipe.kernel {
            return self.kernel(n).map(|k| vec![k]);
        }
        if recipe.rest {
            let named = recipes.wanted(recipe.suite);
            let others = |d: &Locked| named.contains(&d.package) && !recipe.debs.contains(&d.package);
            let rest = |d: &&Locked| !is_kernel(&d.package) && !others(d) && !recipes.ignored(&d.package);
            return Ok(self.suite(recipe.suite).filter(rest).collect());
        }
        let find = |name: &String| {
            self.suite(recipe.suite).find(|d| d.package == *name).ok_or_else(|| Error::NoDeb {
                package: recipe.id(),
                deb: name.clone(),
                suite: recipe.suite.name(),
            })
        };
        recipe.debs.iter().map(find).collect()
    }

    /// The older (1) or the newer (2) of the two kernels.
    fn kernel(&self, number: u8) -> Result<&Locked> {
        let mut found: Vec<&Locked> = self.suite(Suite::Trixie).filter(|d| is_kernel(&d.package)).collect();
        found.sort_by_key(|d| numbers(&d.package));
        found.get(usize::from(number.saturating_sub(1))).copied().ok_or_else(no_kernels)
    }
}

fn each_suite<T: Send>(work: impl Fn(Suite) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = Suite::ALL
            .map(|suite| {
                scope.spawn({
                    let work = &work;
                    move || work(suite)
                })
            })
            .into();
        threads.into_iter().filter_map(|t| t.join().ok()).collect()
    })
}

/// What one suite offers of the wanted packages, downloaded.
fn fetch(cache: &Path, suite: Suite, recipes: &Recipes, kernels: &[String]) -> Result<Vec<(Locked, PathBuf)>> {
    let apt = Apt::open(cache, suite)?;
    apt.update()?;
    let wanted: Vec<String> = recipes.wanted(suite).into_iter().collect();
    let mut chosen = apt.closure(&wanted)?;
    if suite == Suite::Trixie {
        chosen.extend(two_kernels(&apt, kernels)?);
    }
    let keep: Vec<Chosen> = chosen.into_iter().filter(|c| suite != Suite::Trixie || !recipes.ignored(&c.package)).collect();
    let dir = apt.download(&keep)?;
    keep.into_iter()
        .map(|c| {
            let file = dir.join(c.file_name());
            let sha256 = sha256(&file)?;
            Ok((Locked { suite, package: c.package, version: c.version, sha256 }, file))
        })
        .collect()
}

/// The two kernels of the lock while the suite still has them, else its two newest.
fn two_kernels(apt: &Apt, locked: &[String]) -> Result<Vec<Chosen>> {
    let mut names: Vec<String> = apt.names(KERNEL_START)?.into_iter().filter(|n| is_kernel(n)).collect();
    names.sort_by_key(|n| numbers(n));
    if names.len() < 2 {
        return Err(no_kernels());
    }
    let newest = names.split_off(names.len() - 2);
    let known = |l: &&String| names.contains(*l) || newest.contains(*l);
    let pick = if locked.iter().filter(known).count() == 2 { locked.to_vec() } else { newest };
    pick.iter().map(|n| apt.candidate(n)?.ok_or_else(no_kernels)).collect()
}

fn kernels_of(lock: &LockFile) -> Vec<String> {
    lock.debs.iter().map(|d| d.package.clone()).filter(|p| is_kernel(p)).collect()
}

fn is_kernel(package: &str) -> bool {
    package.strip_prefix(KERNEL_START).and_then(|r| r.strip_suffix(KERNEL_END)).is_some_and(|v| v.contains("+deb"))
}

fn no_kernels() -> Error {
    Error::Kernels { suite: Suite::Trixie.name(), pattern: format!("{KERNEL_START}*{KERNEL_END}") }
}

/// The numbers in a name, by which kernels are ordered.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}

/// The hash of everything that is asked of the suites.
fn request(recipes: &Recipes) -> String {
    let mut key = Key::new("request").with(KERNEL_START);
    for suite in Suite::ALL {
        key = key.with(suite.name());
        for name in recipes.wanted(suite) {
            key = key.with(name);
        }
    }
    for pattern in &recipes.ignore {
        key = key.with(pattern);
    }
    key.name()
}
