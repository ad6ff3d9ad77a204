//! A working copy's life: made, changed, finished or thrown away.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::{Bind, Parts, Token, View, WorkError, boot, litter, resolv, run_inside, updated};
use crate::exec::{Ended, Invocation, Options};
use crate::id::SetId;
use crate::layout::{Layout, Part};
use crate::sys::btrfs::{self, Access};
use crate::sys::{SysError, file};
use crate::verify::{self, Depth, Disk, Finding, Lack};
use crate::volumes::{self, Mounts, VolumeError};

/// Writable subvolumes made from a set, or from nothing. Dropped, it is deleted.
#[derive(Debug)]
#[must_use = "dropped, it is deleted"]
pub struct WorkingCopy {
    layout: Layout,
    dir: PathBuf,
    token: Token,
    parts: Parts,
    /// What it was made from.
    source: Option<Parts>,
    /// What makes the machine this one, as it came with the source.
    machine: Option<litter::MachineFiles>,
    cache: Option<PathBuf>,
    binds: Vec<Bind>,
    placeholder: Mutex<Option<resolv::Placeholder>>,
}

impl WorkingCopy {
    /// A copy of `source` exists, owned by this process.
    ///
    /// If interrupted: what is there is garbage by its name, for the next repair.
    pub fn create(layout: &Layout, source: SetId) -> Result<Self, WorkError> {
        Self::create_from(layout, Parts::of_set(layout, source))
    }

    /// The same of any four subvolumes, as those of the booted deployment with a set's `/var`.
    pub fn create_from(layout: &Layout, source: Parts) -> Result<Self, WorkError> {
        let mut copy = Self::claim(layout, Some(source.clone()))?;
        for part in Part::ALL {
            let to = copy.dir.join(part.name());
            match source.get(part) {
                Some(from) => btrfs::snapshot(from, &to, Access::Writable)?,
                None => btrfs::create_subvolume(&to)?,
            }
        }
        copy.machine = Some(litter::MachineFiles::read(&copy.parts)?);
        copy.ready()
    }

    /// A copy of nothing: four empty subvolumes, for an installer to fill.
    pub fn create_empty(layout: &Layout) -> Result<Self, WorkError> {
        let copy = Self::claim(layout, None)?;
        for part in Part::ALL {
            btrfs::create_subvolume(&copy.dir.join(part.name()))?;
        }
        copy.ready()
    }

    /// The directory is there, under a name that says whose it is.
    fn claim(layout: &Layout, source: Option<Parts>) -> Result<Self, WorkError> {
        let token = Token::next()?;
        let dir = layout.work().join(token.to_string());
        file::make_dirs(&dir)?;
        let cache = layout.snapshots().parent().map(|top| top.join("var/cache/pacman/pkg")).filter(|dir| dir.is_dir());
        let parts = Parts::below(&dir);
        let layout = layout.clone();
        Ok(Self { layout, dir, token, parts, source, machine: None, cache, binds: Vec::new(), placeholder: Mutex::new(None) })
    }

    /// A copy of this one as it is now, for work of which only a result is wanted. Nothing may run in this one meanwhile.
    ///
    /// If interrupted: what is there is garbage by its name, for the next repair.
    pub fn branch(&self) -> Result<Self, WorkError> {
        let mut copy = Self::create_from(&self.layout, self.parts.clone())?;
        copy.cache.clone_from(&self.cache);
        copy.binds.clone_from(&self.binds);
        Ok(copy)
    }

    fn ready(self) -> Result<Self, WorkError> {
        // Inherited by what is made from now on; what a snapshot brought along is looked at when finishing.
        btrfs::set_uncompressed(&self.parts.boot)?;
        tracing::debug!(target: "ast::work", dir = %self.dir.display(), "working copy made");
        Ok(self)
    }

    /// With another package cache than the machine's own, or none.
    pub fn with_cache(mut self, cache: Option<PathBuf>) -> Self {
        self.cache = cache;
        self
    }

    /// With more of the host visible inside.
    pub fn with_bind(mut self, bind: Bind) -> Self {
        self.binds.push(bind);
        self
    }

    /// Its directory, `work/TOKEN`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The host's directory of downloaded packages, where there is one.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// Its name.
    pub const fn token(&self) -> &Token {
        &self.token
    }

    /// Its four subvolumes.
    pub const fn parts(&self) -> &Parts {
        &self.parts
    }

    /// What it was made from; `None` for one made of nothing.
    pub const fn source(&self) -> Option<&Parts> {
        self.source.as_ref()
    }

    /// The subvolume `from` as it is now is beside the parts under `name`, read-only, and goes with the copy.
    pub fn beside(&self, name: &str, from: &Path) -> Result<PathBuf, WorkError> {
        let to = self.dir.join(name);
        btrfs::snapshot(from, &to, Access::ReadOnly)?;
        Ok(to)
    }

    /// The command has run inside, as root of the copy, and ended with whatever status.
    ///
    /// If interrupted, even by SIGKILL: nothing of it is left but the copy itself, which is garbage by its name.
    pub fn run(&self, invocation: &Invocation, options: Options<'_>) -> Result<Ended, WorkError> {
        self.run_with(&[], invocation, options)
    }

    /// The same with more of the host visible.
    pub fn run_with(&self, more: &[Bind], invocation: &Invocation, options: Options<'_>) -> Result<Ended, WorkError> {
        self.make_placeholder()?;
        let binds = [&self.binds, more].concat();
        let view = View { parts: &self.parts, writable: true, cache: self.cache.as_deref(), binds: &binds };
        run_inside(view, invocation, options)
    }

    /// The same where nothing can be changed but what `more` brings: the copy is read-only for it, and the package cache is not there.
    pub fn run_reading(&self, more: &[Bind], invocation: &Invocation, options: Options<'_>) -> Result<Ended, WorkError> {
        self.make_placeholder()?;
        let view = View { parts: &self.parts, writable: false, cache: None, binds: more };
        run_inside(view, invocation, options)
    }

    /// There is something at `/etc/resolv.conf` to mount the host's over.
    fn make_placeholder(&self) -> Result<(), SysError> {
        let mut known = self.placeholder.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(made) = resolv::make_placeholder(&self.parts.etc)? {
            *known = Some(made);
        }
        Ok(())
    }

    /// Whether nothing was written to it since it was made of its source, which has all that a finished copy gets: it is that source then.
    pub fn is_as_made(&self) -> Result<bool, WorkError> {
        let finished = self.source.as_ref().is_some_and(|source| verify::has_boot_env(&source.boot));
        Ok(finished && self.are_as_made(&Part::ALL)?)
    }

    /// Whether nothing was written to these parts since they were made of their source.
    fn are_as_made(&self, parts: &[Part]) -> Result<bool, SysError> {
        let from_source = |part: &Part| self.source.as_ref().and_then(|source| source.get(*part)).is_some();
        if !parts.iter().all(from_source) {
            return Ok(false);
        }
        file::syncfs(&self.dir)?;
        for part in parts {
            if !btrfs::is_as_made(&self.dir.join(part.name()))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// It is clean, its boot files are listed, and it is no less whole than what it was made from.
    ///
    /// A `/boot` that nobody wrote to keeps the list that it has: whoever deploys it will find what has rotted since.
    /// Refuses: a result that lacks something to start with which its source had, or a `/boot` that was written to beside something rotten.
    /// The copy is deleted then, as on any error.
    pub fn finish(self) -> Result<ReadyToSeal, WorkError> {
        // Asked before anything is written: the sync that it needs has nothing to do then, where a caller has asked already.
        let boot_as_made = self.are_as_made(&[Part::Boot])?;
        let placeholder = self.placeholder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(placeholder) = placeholder {
            placeholder.remove(&self.parts.etc)?;
        }
        litter::clean(&self.parts, self.machine.as_ref())?;
        updated::mark(&self.parts)?;
        let depth = match boot_as_made && boot::is_prepared(&self.parts)? {
            true => Depth::NotTheImages,
            false => {
                boot::prepare_boot(&self.parts, self.source.as_ref())?;
                Depth::Whole
            }
        };
        let disk = Disk::of(&self.layout);
        let findings = verify::check_to(&self.parts, disk, depth);
        // Somebody may have saved the source's snapshot meanwhile, so that it is gone: whoever seals will say so.
        if !findings.is_empty()
            && let Some(source) = self.source.as_ref().filter(|source| source.root.is_dir())
        {
            let before: Vec<Finding> = verify::check_to(source, disk, depth);
            // A list that was just written is wrong only about what was not: that has rotted, and must not be saved as if it were new.
            let new = findings.iter().filter(|f| f.lack == Lack::Sum || !before.iter().any(|b| b.same_lack(f)));
            let new: Vec<Finding> = new.cloned().collect();
            if !new.is_empty() {
                return Err(WorkError::NotWhole(new));
            }
        }
        Ok(ReadyToSeal { copy: self, findings })
    }
}

impl Drop for WorkingCopy {
    fn drop(&mut self) {
        if let Err(error) = delete_parts(&self.dir) {
            // The next repair finds it by its name.
            tracing::warn!(target: "ast::work", %error, dir = %self.dir.display(), "working copy left behind");
        }
    }
}

/// A finished working copy. Its four subvolumes are to be snapshotted read-only by the store; then it is dropped, which deletes it.
#[derive(Debug)]
#[must_use = "dropped unsealed, all its work is lost"]
pub struct ReadyToSeal {
    copy: WorkingCopy,
    findings: Vec<Finding>,
}

impl ReadyToSeal {
    /// The subvolumes to seal.
    pub const fn parts(&self) -> &Parts {
        &self.copy.parts
    }

    /// What it lacks to start (its source lacked it too, or it was made of nothing). Not empty: not to be deployed.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The directory `work/TOKEN`.
    pub fn dir(&self) -> &Path {
        self.copy.dir()
    }
}

/// The working copy in `dir` is gone, with whatever was nested in its subvolumes.
///
/// If interrupted: some is gone, and the next repair goes on. The caller knows that it is nobody else's.
pub fn delete_parts(dir: &Path) -> Result<(), VolumeError> {
    // It was mounted in namespaces of our own only, and they are gone.
    volumes::remove(dir, &Mounts::default())
}
