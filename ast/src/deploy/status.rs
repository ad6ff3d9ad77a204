//! What runs, what boots next, and why: from the boot block by the rules of the GRUB script.

use std::fmt;

use serde::Serialize;

use crate::boot::block::{BootBlock, MAX_STARTS, Mode};
use crate::boot::booted::{Booted, NO_WATCHDOG, SOFT_WATCHDOG};
use crate::cmdline::Why;
use crate::id::{ArmId, DeployId, SetId};
use crate::store::{Store, vars};

/// A deployment and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeploymentStatus {
    /// Its number.
    pub deployment: DeployId,
    /// The set it was cloned from, as far as its record can be read.
    pub set: Option<SetId>,
    /// Whether it is known to have booted well.
    pub well: bool,
}

impl fmt::Display for DeploymentStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.set {
            Some(set) => write!(f, "snapshot {} (deployment {})", set.snapshot, self.deployment),
            None => write!(f, "deployment {}", self.deployment),
        }
    }
}

/// What the next start does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "does")]
pub enum Next {
    /// The good one, nothing is on trial.
    Good {
        /// It.
        deployment: DeployId,
    },
    /// The trial.
    Trial {
        /// It.
        deployment: DeployId,
        /// Starts left, the next one included.
        left: u8,
        /// What boots when it fails.
        else_boots: DeployId,
    },
    /// This one for a single start, the good one after that.
    Once {
        /// It.
        deployment: DeployId,
        /// What boots then.
        then: DeployId,
    },
    /// The good one, because the trial has used up its tries.
    Exhausted {
        /// The good one.
        deployment: DeployId,
        /// The trial.
        trial: DeployId,
    },
    /// The one before the good one, which did not report well for too many starts.
    Before {
        /// It.
        deployment: DeployId,
        /// The good one.
        instead_of: DeployId,
    },
    /// What GRUB has baked in, because the boot block cannot be read.
    Baked,
}

impl Next {
    /// What GRUB does with this block.
    pub fn of(block: &BootBlock) -> Self {
        // As in the script: a trial of the good one itself is none.
        let trial = block.trial.filter(|t| t.deployment != block.good);
        match (trial, block.prev) {
            (Some(t), _) if t.tries > 0 && t.mode == Mode::Trial => {
                Self::Trial { deployment: t.deployment, left: t.tries, else_boots: block.good }
            }
            (Some(t), _) if t.tries > 0 => Self::Once { deployment: t.deployment, then: block.good },
            (_, Some(prev)) if block.starts >= MAX_STARTS => Self::Before { deployment: prev, instead_of: block.good },
            (Some(t), _) if t.mode == Mode::Trial => Self::Exhausted { deployment: block.good, trial: t.deployment },
            _ => Self::Good { deployment: block.good },
        }
    }
}

impl fmt::Display for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good { deployment } => write!(f, "deployment {deployment}, the default"),
            Self::Trial { deployment, left: 1, else_boots } => {
                write!(f, "deployment {deployment} on trial, for the last time; if it does not report well, deployment {else_boots} again")
            }
            Self::Trial { deployment, left, else_boots } => {
                write!(f, "deployment {deployment} on trial, {left} starts left; if it does not report well, deployment {else_boots} again")
            }
            Self::Once { deployment, then } => write!(f, "deployment {deployment} for one start, then deployment {then} again"),
            Self::Exhausted { deployment, trial } => {
                write!(f, "deployment {deployment}, the default, because deployment {trial} has used up its tries")
            }
            Self::Before { deployment, instead_of } => {
                write!(f, "deployment {deployment} once, because deployment {instead_of} did not report well for {MAX_STARTS} starts")
            }
            Self::Baked => write!(f, "the last default that the boot loader knows by itself, because the boot block cannot be read"),
        }
    }
}

/// What runs and what will.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The deployment that runs; `None` when none does, or a set by hand.
    pub booted: Option<DeploymentStatus>,
    /// The set that runs, with an `/etc` that ends with this boot.
    pub booted_set: Option<SetId>,
    /// Why that was started, in the words of the kernel command line.
    pub why: Option<String>,
    /// What should have been booted instead, and why it could not be.
    pub instead_of: Option<String>,
    /// Whether `/etc` ends with this boot.
    pub volatile: bool,
    /// What boots when nothing is on trial.
    pub default: Option<DeploymentStatus>,
    /// What is on trial.
    pub trial: Option<DeploymentStatus>,
    /// Starts that the trial has left.
    pub tries: Option<u8>,
    /// The newest arming.
    pub arm: Option<ArmId>,
    /// What boots when the default does not.
    pub fallback: Option<DeploymentStatus>,
    /// Starts of the default since it last reported well.
    pub starts: u8,
    /// Whether GRUB can count; without it a kernel panic is not covered. `None` when it is not known.
    pub counting: Option<bool>,
    /// Whether this machine has a hardware watchdog, and on a trial, whether one was armed for it: without one nobody notices that the kernel
    /// hangs (B14). `None` when it does not run.
    pub watchdog: Option<bool>,
    /// On a trial: the watchdog that was armed for it, as it calls itself, or [`NO_WATCHDOG`].
    pub watchdog_armed: Option<String>,
    /// What the next start does.
    pub next: Next,
    /// Deployments for which `/var` was kept as it was when they were armed: `rollback --with-var` gives it back.
    pub kept_vars: Vec<DeployId>,
    /// What is wrong, a line each.
    pub problems: Vec<String>,
}

/// What runs, what boots next, and why. Without root the boot block may not be readable, which is one of the problems then.
pub fn status(store: &Store) -> Status {
    let describe = |d: DeployId| DeploymentStatus {
        deployment: d,
        set: super::record::load(store.layout(), d).ok().map(|record| record.set),
        well: store.layout().deployment_well(d).exists(),
    };
    let mut problems = Vec::new();
    let block = store.block().map_err(|error| problems.push(error.to_string())).ok();
    if let Err(error) = store.tree() {
        problems.push(error.to_string());
    }
    problems.extend(copies_differ(store));
    let booted = store.booted();
    problems.extend(block.as_ref().zip(booted).and_then(|(block, booted)| left(block, booted)));
    let trial = block.as_ref().and_then(|b| b.trial);
    Status {
        booted: booted.and_then(|b| b.d).map(describe),
        booted_set: booted.filter(|b| b.d.is_none()).and_then(|b| b.set),
        why: booted.and_then(|b| b.why).map(|why| why.word().to_owned()),
        instead_of: booted.and_then(|b| Some(format!("{}: {}", b.wanted.as_ref()?, b.reason.as_deref().unwrap_or("it is not known why")))),
        volatile: booted.is_some_and(|b| b.volatile),
        default: block.as_ref().map(|b| describe(b.good)),
        trial: trial.map(|t| describe(t.deployment)),
        tries: trial.map(|t| t.tries),
        arm: block.as_ref().map(|b| b.arm),
        fallback: block.as_ref().and_then(|b| b.prev).map(describe),
        starts: block.as_ref().map_or(0, |b| b.starts),
        counting: booted.and_then(|b| b.env),
        // Not what exists, on a trial: that may have been left alone, or may have come later.
        watchdog: booted.map(|b| match b.watchdog.as_deref() {
            Some(name) => ![NO_WATCHDOG, SOFT_WATCHDOG].contains(&name),
            None => store.sysroot().join("dev/watchdog").exists(),
        }),
        watchdog_armed: booted.and_then(|b| b.watchdog.clone()),
        next: block.as_ref().map_or(Next::Baked, Next::of),
        kept_vars: vars::kept(store).unwrap_or_default(),
        problems,
    }
}

/// That the default was left without a trial being to blame, in words (B10): the one before it runs in its place.
fn left(block: &BootBlock, booted: &Booted) -> Option<String> {
    let (d, good) = (booted.d.filter(|d| *d != block.good)?, block.good);
    let why = match booted.why? {
        Why::Starts => format!("did not report well for {MAX_STARTS} starts"),
        Why::Load => "could not be loaded".to_owned(),
        // A person's one start is of a new deployment; this one is what the initramfs asked for.
        Why::Once if block.prev == Some(d) => "cannot be the root".to_owned(),
        Why::Good | Why::Exhausted | Why::Hash if booted.wanted.is_some() => "cannot be the root".to_owned(),
        _ => return None,
    };
    Some(format!("degraded: deployment {good}, the default, {why}, and deployment {d} runs in its place"))
}

/// A copy that is damaged, in words. That they count differently is nothing: GRUB writes the one it reads.
fn copies_differ(store: &Store) -> Option<String> {
    let copies = store.copies().ok()?;
    let damaged = |name, copy: &Result<BootBlock, _>| copy.as_ref().err().map(|error| format!("copy {name} of the boot block: {error}"));
    damaged('A', &copies.a).or_else(|| damaged('B', &copies.b)).filter(|_| copies.current().is_some())
}
