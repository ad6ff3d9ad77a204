//! A build: out of the GRUB that a snapshot carries, by its own `grub-mkimage`.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::document::Build;
use super::{LoaderError, Result};
use crate::exec::{Invocation, Options, Program};
use crate::grub::menu::sums;
use crate::grub::{Serial, release};
use crate::id::CoreId;
use crate::install::core_image::{CORE, CORE_NEW, Inside, copy_modules};
use crate::sys::file;
use crate::tree::Later;
use crate::work::{Bind, Parts, View, run_inside};

/// Where a snapshot has its modules, a directory for each platform.
const MODULES: &str = "usr/lib/grub";
/// Where `grub-mkimage` sees its parts and leaves the image: a directory that every root has.
const INSIDE: &str = "/mnt";
/// The sums of the core image, beside it; GRUB checks them before it tries it.
pub(super) const SUMS: &str = "core.sums";

/// The GRUB of a snapshot or deployment.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Whose, for people.
    pub from: String,
    parts: Parts,
    /// Its modules, seen from here.
    pub modules: PathBuf,
    platform: &'static str,
    /// Its version.
    pub version: String,
}

/// Where a core image finds what it starts, and how it gets there.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// UUID of the btrfs.
    pub fs_uuid: String,
    /// The LUKS containers that it is in.
    pub luks: Vec<String>,
    /// A file with a key for them.
    pub key: Option<PathBuf>,
}

impl Home {
    fn inside<'a>(&'a self, platform: &'static str, serial: Option<Serial>, build: Option<&'a CoreId>) -> Inside<'a> {
        Inside { platform, fs_uuid: &self.fs_uuid, luks: &self.luks, key: self.key.as_deref(), serial, build }
    }
}

impl Source {
    /// The GRUB for `platform` in these directories.
    ///
    /// Refuses: where there is none, or none whose release can be told.
    pub fn find(from: String, parts: Parts, platform: &'static str) -> Result<Self> {
        let modules = parts.root.join(MODULES).join(platform);
        // A link would lead somewhere here, not there.
        let plain = std::fs::canonicalize(&modules).is_ok_and(|real| std::fs::canonicalize(&parts.root).is_ok_and(|root| real.starts_with(root)));
        let normal = modules.join("normal.mod");
        let tool = parts.root.join("usr/bin").join(Program::GrubMkimage.name());
        for missing in [&normal, &tool] {
            if !plain || !missing.is_file() {
                return Err(LoaderError::NoGrub { from, missing: missing.clone() });
            }
        }
        let version = release::version(&file::read(&normal)?).ok_or(LoaderError::NoRelease(normal))?;
        Ok(Self { from, parts, modules, platform, version })
    }

    /// The boot sector that it comes with, if it is for a BIOS.
    pub fn boot_img(&self) -> Option<Vec<u8>> {
        file::read(&self.modules.join("boot.img")).ok()
    }

    /// The id of a build of it with this script inside: the sum of everything that it is made of.
    pub fn id(&self, home: &Home, serial: Option<Serial>, grub_cfg: &[u8]) -> Result<CoreId> {
        let inside = home.inside(self.platform, serial, None);
        let mut sum = Sha256::new();
        let mut add = |bytes: &[u8]| {
            sum.update((bytes.len() as u64).to_le_bytes());
            sum.update(bytes);
        };
        add(self.platform.as_bytes());
        add(inside.first_lines().as_bytes());
        add(&home.key.as_deref().map(file::read).transpose()?.unwrap_or_default());
        add(grub_cfg);
        for name in file::names(&self.modules)? {
            let path = self.modules.join(&name);
            if path.extension().is_some_and(|end| end == "mod" || end == "img") && path.is_file() {
                add(name.as_encoded_bytes());
                add(&file::read(&path)?);
            }
        }
        let hex: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        hex.get(..CoreId::DIGITS).unwrap_or_default().parse().map_err(|_| LoaderError::NoRelease(self.modules.clone()))
    }

    /// The core image of this build, made in the empty directory `scratch`.
    ///
    /// If interrupted: `scratch` has parts of it.
    pub fn make(&self, id: &CoreId, home: &Home, serial: Option<Serial>, grub_cfg: &Path, scratch: &Path) -> Result<(Build, Vec<u8>)> {
        let inside = home.inside(self.platform, serial, Some(id));
        inside.write_parts(scratch, grub_cfg)?;
        let there = Path::new("/").join(MODULES).join(self.platform);
        let binds = [Bind { source: scratch.to_owned(), target: INSIDE.into(), read_only: false }];
        let view = View { parts: &self.parts, writable: false, cache: None, binds: &binds };
        let invocation = Invocation::new(Program::GrubMkimage).args(inside.arguments(&there, Path::new(INSIDE)));
        run_inside(view, &invocation, Options::capture())?.success().map(drop)?;
        let core = file::read(&scratch.join(CORE_NEW))?;
        let sha256 = sums("", &core).split(' ').next().unwrap_or_default().to_owned();
        let build = Build { id: id.clone(), version: self.version.clone(), platform: self.platform.to_owned(), sha256, later: Later::new() };
        Ok((build, core))
    }

    /// `dir` has the modules, the core image and its sums.
    ///
    /// If interrupted: some of them; nothing names the directory. The caller commits with `syncfs`.
    pub fn put(&self, dir: &Path, home: &Home, core: &[u8]) -> Result<()> {
        file::make_dirs(dir)?;
        if home.key.is_some() {
            // The image has the key inside; of it users of the machine see nothing.
            file::only_for_root(dir)?;
        }
        copy_modules(&self.modules, &dir.join(self.platform))?;
        file::replace(&dir.join(CORE), core)?;
        Ok(file::replace(&dir.join(SUMS), sums(CORE, core).as_bytes())?)
    }
}

/// The core image of a build, as it was made.
///
/// Refuses: one that is not.
pub(super) fn core_of(dir: &Path, build: &Build) -> Result<Vec<u8>> {
    let path = dir.join(CORE);
    let core = file::read(&path)?;
    if sums("", &core).starts_with(&build.sha256) && !build.sha256.is_empty() { Ok(core) } else { Err(LoaderError::Damaged(path)) }
}
