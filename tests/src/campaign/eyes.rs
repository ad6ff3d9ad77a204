//! A state as GRUB sees it: what the boot block of that very state, its baked entries and its menus name.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use ast::boot::block::BootBlock;
use ast::grub::menu;
use ast::id::DeployId;
use ast::layout::{self, Part};
use ast::sys::file;

use super::check::named;
use super::machine::set;
use super::past::{MENUS, Past};
use crate::cut::{GrubError, State};

/// Files by their path from the top level; `None`: GRUB finds none.
pub(super) type Read = BTreeMap<String, Option<Vec<u8>>>;
/// How GRUB reads a file by its path from the top level; `None`: it finds none.
pub(super) type View<'a> = &'a dyn Fn(&str) -> Result<Option<Vec<u8>>, String>;

/// Looks at states. What was found to be right is kept as files, against which GRUB compares the next state at once: reading them one by one starts
/// its reader as many times, and only tells what is wrong.
pub(super) struct Eyes<'a> {
    past: &'a Past,
    right: BTreeMap<(usize, BTreeSet<DeployId>), Vec<Right>>,
}

/// Everything that GRUB needed of a state.
pub(super) struct Right {
    there: tempfile::TempDir,
    missing: Vec<String>,
}

impl<'a> Eyes<'a> {
    pub(super) fn new(past: &'a Past) -> Self {
        Self { past, right: BTreeMap::new() }
    }

    /// Everything is there, as it was made, that GRUB needs to start whatever it could be told to start. After verb `confirmed`, which had returned,
    /// GRUB sees what it wrote, or what the next one did.
    pub(super) fn check(&mut self, state: &State<'_>, confirmed: usize) -> Result<(), String> {
        let [a, b] = [layout::RAW_BLOCK_A_SECTOR, layout::RAW_BLOCK_B_SECTOR]
            .map(|sector| file::read_at(state.image(), sector * 512, 512).expect("readable"));
        let deployments = in_blocks([("A", &a), ("B", &b)])?;
        let known = self.right.entry((confirmed, deployments.clone())).or_default();
        // The newest first: states that follow each other are mostly alike.
        if known.iter().rev().any(|right| right.is_seen(state)) {
            return Ok(());
        }
        let view = |path: &str| match state.grub_view(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(GrubError::Missing(_)) => Ok(None),
            Err(error) => Err(format!("{path}: {error}")),
        };
        known.push(Right::of(look(self.past, &view, confirmed, deployments)?));
        Ok(())
    }
}

/// Everything is there for whoever reads as `view` does, that the `deployments` of the boot block, the baked entries and the menus need to
/// start, after verb `confirmed`. What was read.
pub(super) fn look(past: &Past, view: View<'_>, confirmed: usize, deployments: BTreeSet<DeployId>) -> Result<Read, String> {
    let look = Look { past, view, confirmed, read: RefCell::default() };
    look.all(deployments)?;
    Ok(look.read.into_inner())
}

/// The deployments that either copy of the boot block names.
pub(super) fn in_blocks(copies: [(&str, &[u8]); 2]) -> Result<BTreeSet<DeployId>, String> {
    let mut deployments = BTreeSet::new();
    for (name, bytes) in copies {
        // One sector is old or new: neither copy is ever torn.
        deployments.extend(named(&BootBlock::parse(bytes).map_err(|error| format!("copy {name} of the boot block: {error}"))?));
    }
    Ok(deployments)
}

impl Right {
    /// Whether GRUB reads all of it in this state, too.
    pub(super) fn is_seen(&self, state: &State<'_>) -> bool {
        let is_missing = |path: &String| matches!(state.grub_view(path), Err(GrubError::Missing(_)));
        state.grub_sees(self.there.path()) && self.missing.iter().all(is_missing)
    }

    /// Files by their path from the top level.
    pub(super) fn of(read: Read) -> Self {
        let there = tempfile::tempdir().expect("dir");
        let mut missing = Vec::new();
        for (path, bytes) in read {
            let Some(bytes) = bytes else {
                missing.push(path);
                continue;
            };
            let path = there.path().join(path.trim_start_matches('/'));
            file::make_dirs(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        Self { there, missing }
    }
}

/// A look at one state, file by file.
struct Look<'a> {
    past: &'a Past,
    view: View<'a>,
    confirmed: usize,
    read: RefCell<Read>,
}

impl Look<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let bytes = (self.view)(path)?;
        self.read.borrow_mut().insert(path.to_owned(), bytes.clone());
        Ok(bytes)
    }

    fn all(&self, mut deployments: BTreeSet<DeployId>) -> Result<(), String> {
        for name in MENUS {
            let path = format!("/@boot/{}/{name}", layout::GRUB_DIR);
            let bytes = self.read(&path)?;
            if !self.past.allowed(self.confirmed).any(|was| was.menus.get(name) == Some(&bytes)) {
                let what = bytes.map_or("nothing".into(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
                return Err(format!("verb {} had returned, and GRUB reads in {path}: {what}", self.confirmed));
            }
            let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            deployments.extend(text.lines().filter_map(|l| l.strip_prefix("ast_baked_good=")?.parse::<DeployId>().ok()));
            let lines = text.lines().filter(|line| line.starts_with("ast_snapshot "));
            for named in lines.filter_map(|line| line.split(' ').nth(2)) {
                self.startable(&layout::set_from_top(set(named), Part::Boot)).map_err(|what| format!("{path} names {named}: {what}"))?;
            }
        }
        self.believed()?;
        deployments.into_iter().try_for_each(|d| self.startable(&layout::deployment_from_top(d, Part::Boot)))
    }

    /// GRUB takes a menu, or the one before it, only by its sums.
    fn believed(&self) -> Result<(), String> {
        for name in ["menu", "snapshots"] {
            let mut good = false;
            for name in [name.to_owned(), format!("{name}.prev")] {
                let at = |suffix: &str| format!("/@boot/{}/{name}.{suffix}", layout::GRUB_DIR);
                let (Some(text), Some(sums)) = (self.read(&at("cfg"))?, self.read(&at("sums"))?) else { continue };
                good |= menu::sums(&format!("{name}.cfg"), &text).as_bytes() == sums;
            }
            if !good {
                return Err(format!("GRUB believes no file of {name}"));
            }
        }
        Ok(())
    }

    /// Kernel, initramfs, environment and sums are, for GRUB, what was made.
    fn startable(&self, boot: &str) -> Result<(), String> {
        let mut any = false;
        for (path, made) in self.past.made(boot) {
            any = true;
            let bytes = self.read(&format!("/{path}"))?.ok_or_else(|| format!("GRUB finds no /{path}"))?;
            if bytes != *made {
                return Err(format!("GRUB reads other content in /{path} than was made, {} bytes of {}", bytes.len(), made.len()));
            }
        }
        if any { Ok(()) } else { Err(format!("{boot} was never made")) }
    }
}
