//! From names to installed packages: what is missing, what has to be built for it, and the one transaction that brings it.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::super::set::{self, PackageSet};
use super::super::transaction::{Feed, in_repositories, judged, missing, pacman, pacman_with, plain, quiet};
use super::super::{Change, PacmanError, installed};
use super::builder::Builder;
use super::sources::{Source, Sources};
use super::{AurError, PACKAGER};
use crate::config::snapshot::{AUR_URL, SnapshotConfig};
use crate::exec::{Invocation, Options, Program};
use crate::layout::PACMAN_DB;
use crate::sys::file;
use crate::work::WorkingCopy;

/// Builds of one transaction at most: what needs more is a mistake, or meant to keep us busy.
const MOST: usize = 100;
/// What every PKGBUILD may take for granted. Source: <https://wiki.archlinux.org/title/PKGBUILD#makedepends>.
const TOOLS: &str = "base-devel";
/// What fetches the sources.
const GIT: &str = "git";

/// The packages, which no repository has, are installed in the copy with what they need.
pub(in super::super) fn install(
    copy: &WorkingCopy,
    config: &SnapshotConfig,
    names: &[String],
    feed: &mut Feed<'_>,
) -> Result<(), PacmanError> {
    let mut work = Work::open(copy, config, feed)?;
    for name in names {
        work.want(plain(name), plain(name))?;
    }
    work.build_and_install(&names.iter().map(|name| plain(name)).collect())
}

/// What was built from the AUR before, and is newer there now, is built anew and installed in the copy.
pub(in super::super) fn upgrade(copy: &WorkingCopy, config: &SnapshotConfig, feed: &mut Feed<'_>) -> Result<(), PacmanError> {
    let ours = built_here(copy)?;
    if ours.is_empty() {
        return Ok(());
    }
    let mut work = Work::open(copy, config, feed)?;
    for (name, base) in ours {
        match work.want(&name, &base) {
            Err(PacmanError::Aur(AurError::NotThere { .. } | AurError::OtherName { .. })) => {
                tracing::warn!("{name} is in the AUR no more: it stays as it is");
            }
            other => other?,
        }
    }
    work.build_and_install(&BTreeSet::new())
}

/// Packages that a build of ours made and no repository has: name, and name of the sources.
fn built_here(copy: &WorkingCopy) -> Result<Vec<(String, String)>, PacmanError> {
    let foreign: BTreeSet<String> = quiet(copy, &["-Qmq"], &[])?.text().lines().map(str::to_owned).collect();
    if foreign.is_empty() {
        return Ok(Vec::new());
    }
    let local = copy.parts().root.join(PACMAN_DB).join("local");
    let mut found = Vec::new();
    for entry in file::names(&local)? {
        let path = local.join(entry).join("desc");
        if !path.is_file() {
            continue;
        }
        let bytes = file::read(&path)?;
        let desc = String::from_utf8_lossy(&bytes);
        if set::value(&desc, "%PACKAGER%").as_deref() == Some(PACKAGER)
            && let (Some(name), Some(base)) = (set::value(&desc, "%NAME%"), set::value(&desc, "%BASE%"))
            && foreign.contains(&name)
        {
            found.push((name, base));
        }
    }
    Ok(found)
}

/// A transaction with the AUR in the making.
struct Work<'a, 'f> {
    copy: &'a WorkingCopy,
    /// What the copy has before.
    has: PackageSet,
    builder: Builder,
    sources: Sources,
    feed: &'a mut Feed<'f>,
}

/// A package that is needed.
struct Need {
    name: String,
    /// Where its sources are looked for.
    base: String,
    /// What has to wait for it.
    for_whom: Option<String>,
    /// Whether it is to be in the snapshot, not only there to build others.
    stays: bool,
}

impl<'a, 'f> Work<'a, 'f> {
    fn open(copy: &'a WorkingCopy, config: &SnapshotConfig, feed: &'a mut Feed<'f>) -> Result<Self, PacmanError> {
        let has = installed(&copy.parts().root)?;
        let builder = Builder::open(copy, config.aur_url.as_deref().unwrap_or(AUR_URL))?;
        let mut work = Self { copy, has, builder, sources: Sources::default(), feed };
        work.needs_tool(GIT)?;
        Ok(work)
    }

    /// The tool is in the place where we build.
    fn needs_tool(&mut self, name: &str) -> Result<(), PacmanError> {
        let needed = missing(self.builder.yard(), &[name.to_owned()])?;
        if needed.is_empty() { Ok(()) } else { pacman(self.builder.yard(), &["-S", "--needed", "--asdeps"], &needed, self.feed) }
    }

    /// `name`, of the sources `base`, and what has to be built before it are known, unless the copy has it in that version or a newer one.
    fn want(&mut self, name: &str, base: &str) -> Result<(), PacmanError> {
        let mut open = vec![Need { name: name.to_owned(), base: base.to_owned(), for_whom: None, stays: true }];
        while let Some(need) = open.pop() {
            self.know(&need)?;
            let made = self.sources.maker_of(&need.name).map(|(base, package)| (base.to_owned(), package.to_owned()));
            let (base, package) = made.ok_or(AurError::OtherName { base: need.base, name: need.name })?;
            if let Some(dependent) = need.for_whom.and_then(|whom| self.sources.0.get_mut(&whom)) {
                dependent.after.insert(base.clone());
            }
            let Some(source) = self.sources.0.get(&base) else { continue };
            let known = source.wanted.get(&package).is_some_and(|stays| *stays || !need.stays);
            if known || !self.is_newer(&package, &source.info.version)? {
                continue;
            }
            let (for_building, depends) = (source.info.make_depends.clone(), source.info.depends_of(&package));
            if let Some(source) = self.sources.0.get_mut(&base) {
                source.wanted.insert(package, need.stays);
            }
            open.extend(self.needs_of(&base, &for_building, false)?);
            open.extend(self.needs_of(&base, &depends, need.stays)?);
        }
        Ok(())
    }

    /// The sources that `need` comes from are among ours.
    fn know(&mut self, need: &Need) -> Result<(), PacmanError> {
        if self.sources.maker_of(&need.name).is_some() || self.sources.0.contains_key(&need.base) {
            return Ok(());
        }
        if self.sources.0.len() == MOST {
            return Err(AurError::TooMany(MOST).into());
        }
        let info = self.builder.fetch(&need.base, self.feed)?;
        self.sources.0.insert(need.base.clone(), Source { info, ..Source::default() });
        Ok(())
    }

    /// Those of the dependencies of `base` that have to be built. What the repositories have is noted for its build.
    fn needs_of(&mut self, base: &str, dependencies: &[String], stays: bool) -> Result<Vec<Need>, PacmanError> {
        let mut needs = Vec::new();
        for dependency in missing(self.builder.yard(), dependencies)? {
            let name = plain(&dependency).to_owned();
            let maker = self.sources.maker_of(&name).map(|(base, _)| base.to_owned());
            if maker.is_none() && in_repositories(self.builder.yard(), &dependency)? {
                self.sources.0.entry(base.to_owned()).or_default().from_repositories.insert(dependency);
                continue;
            }
            // One of a PKGBUILD's packages may need another: they are made and installed together, and none comes after itself.
            let for_whom = (maker.as_deref() != Some(base)).then(|| base.to_owned());
            needs.push(Need { base: maker.unwrap_or_else(|| name.clone()), name, for_whom, stays });
        }
        Ok(needs)
    }

    /// Whether `offered` is a newer version of `name` than the copy has, or the first one.
    fn is_newer(&self, name: &str, offered: &str) -> Result<bool, PacmanError> {
        let Some(installed) = self.has.version(name) else { return Ok(true) };
        let compare = Invocation::new(Program::Vercmp).args([offered, installed]);
        Ok(self.builder.yard().run(&compare, Options::capture())?.success()?.text().trim() == "1")
    }

    /// Everything wanted is built, and what is to stay is installed in the copy in one transaction; those of `asked` count as asked for.
    fn build_and_install(mut self, asked: &BTreeSet<&str>) -> Result<(), PacmanError> {
        self.sources.0.retain(|_, source| !source.wanted.is_empty());
        if self.sources.0.is_empty() {
            return Ok(());
        }
        let order: Vec<String> = self.sources.order()?.into_iter().map(str::to_owned).collect();
        let mut files = Vec::new();
        for base in &order {
            files.extend(self.build(base)?);
        }
        let names: BTreeSet<&str> =
            self.sources.0.values().flat_map(|s| &s.wanted).filter(|(_, stays)| **stays).map(|(name, _)| name.as_str()).collect();
        install_files(self.copy, &self.builder, &files, self.feed)?;
        let change = self.has.change_to(&installed(&self.copy.parts().root)?);
        only_these(&change, &names)?;
        let is_dependency = |name: &&str| !asked.contains(*name) && self.has.get(name).is_none();
        let dependencies: Vec<String> = names.iter().copied().filter(|name| is_dependency(name)).map(str::to_owned).collect();
        if dependencies.is_empty() {
            return Ok(());
        }
        let words: Vec<&str> = dependencies.iter().map(String::as_str).collect();
        judged(quiet(self.copy, &["-D", "--asdeps"], &words)?)
    }

    /// `base` is built, and installed where the next ones are built. The files of what is to stay.
    fn build(&mut self, base: &str) -> Result<Vec<PathBuf>, PacmanError> {
        let Some(source) = self.sources.0.get(base).cloned() else { return Ok(Vec::new()) };
        let wanted: Vec<&str> = source.wanted.keys().map(String::as_str).collect();
        let made = match self.builder.cached(&wanted, &source.info.version)? {
            Some(files) => files,
            None => self.make(base, &source)?,
        };
        let files: Vec<PathBuf> = made.iter().map(|(_, file)| file.clone()).collect();
        let yard = self.builder.yard();
        let before = installed(&yard.parts().root)?;
        install_files(yard, &self.builder, &files, self.feed)?;
        only_these(&before.change_to(&installed(&yard.parts().root)?), &wanted.into_iter().collect())?;
        let stays = |name: &String| source.wanted.get(name) == Some(&true);
        Ok(made.into_iter().filter_map(|(name, file)| stays(&name).then_some(file)).collect())
    }

    /// `base` is built. The files of what is wanted of it, by name.
    fn make(&mut self, base: &str, source: &Source) -> Result<Vec<(String, PathBuf)>, PacmanError> {
        self.needs_tool(TOOLS)?;
        let yard = self.builder.yard();
        let from_repositories = missing(yard, &source.from_repositories.iter().cloned().collect::<Vec<_>>())?;
        if !from_repositories.is_empty() {
            pacman(yard, &["-S", "--needed", "--asdeps"], &from_repositories, self.feed)?;
        }
        let own = |need: &String| source.info.maker_of(plain(need)).is_some();
        let depends = source.wanted.keys().flat_map(|name| source.info.depends_of(name));
        let needs: Vec<String> = source.info.make_depends.iter().cloned().chain(depends).filter(|need| !own(need)).collect();
        if let Some(need) = missing(yard, &needs)?.into_iter().next() {
            return Err(AurError::Unsatisfied { name: base.to_owned(), need }.into());
        }
        let mut made = self.builder.build(base, self.feed)?;
        made.retain(|(name, _)| source.wanted.contains_key(name));
        if let Some(name) = source.wanted.keys().find(|name| !made.iter().any(|(made, _)| made == *name)) {
            return Err(AurError::NotMade(name.clone()).into());
        }
        self.builder.keep(base, &made.iter().map(|(_, file)| file.clone()).collect::<Vec<_>>())?;
        Ok(made)
    }
}

/// The package files are installed in `place`, with what they need of the repositories.
fn install_files(place: &WorkingCopy, builder: &Builder, files: &[PathBuf], feed: &mut Feed<'_>) -> Result<(), PacmanError> {
    let files: Vec<String> = files.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    pacman_with(place, &[builder.results()], &["-U"], &files, feed)
}

/// R4: every one of `names` is there in another version than before, and nothing else is: but what the repositories added for it.
fn only_these(change: &Change, names: &BTreeSet<&str>) -> Result<(), AurError> {
    let added = change.added.iter().map(|p| p.name.as_str());
    let there: BTreeSet<&str> = added.chain(change.changed.iter().map(|(name, ..)| name.as_str())).collect();
    if let Some(name) = names.iter().find(|name| !there.contains(*name)) {
        return Err(AurError::NotMade((*name).to_owned()));
    }
    let changed = change.changed.iter().map(|(name, ..)| name).chain(change.removed.iter().map(|p| &p.name));
    match changed.into_iter().find(|name| !names.contains(name.as_str())) {
        Some(name) => Err(AurError::Unexpected { wanted: names.iter().copied().collect::<Vec<_>>().join(", "), name: name.clone() }),
        None => Ok(()),
    }
}
