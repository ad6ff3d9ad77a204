//! A change as a value: what is prepared, the one commit, what follows from it. Plans are made without touching anything, printed by
//! `--dry-run`, carried out by the store, and interrupted at each step by the crash tests.

use std::fmt;
use std::path::PathBuf;

use crate::boot::block::{BootBlock, Mode};
use crate::etc::Edited;
use crate::id::{DeployId, SetId};
use crate::store::machine::Numbers;
use crate::sys::btrfs::Access;
use crate::tree::Tree;

/// One thing to do. Each can be done again after an interruption of the whole plan, because repair clears what is half made.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// A directory is there.
    MakeDir(PathBuf),
    /// A new empty subvolume.
    CreateSubvolume(PathBuf),
    /// A new snapshot of a subvolume.
    Snapshot {
        /// Of what.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
        /// Whether it can be written.
        access: Access,
    },
    /// A subvolume is sealed.
    Seal(PathBuf),
    /// A file that nothing names yet holds something; on disk with the next [`Step::Sync`].
    Write {
        /// Which.
        path: PathBuf,
        /// What it holds then.
        bytes: Vec<u8>,
    },
    /// The title in a boot subvolume's `ast.env` is this, and its sums match again; on disk with the next [`Step::Sync`].
    Title {
        /// The boot subvolume, writable.
        boot: PathBuf,
        /// What the menu calls it.
        title: String,
    },
    /// Files that make this machine this one are in `into` as they are in `from`.
    CarryIdentity {
        /// The /etc that has them.
        from: PathBuf,
        /// The /etc of the new deployment.
        into: PathBuf,
    },
    /// What was changed on the device in one /etc is also changed in another.
    MergeEtc {
        /// The running one, and what it was.
        edited: Edited,
        /// The new one, writable.
        into: PathBuf,
    },
    /// What /etc of a deployment was when it was saved is remembered with it. Where a snapshot does not have what was saved, this says
    /// nothing, so it may come before the commit.
    KeepSaved {
        /// The /etc that is saved, read-only.
        from: PathBuf,
        /// Whose.
        d: DeployId,
    },
    /// Numbers are used up, before any of them is used.
    Reserve(Numbers),
    /// Everything so far is in the committed tree of the filesystem, where GRUB reads it too (S4).
    Sync,
    /// The new deployment is whole (S12).
    Verify(DeployId),
    /// A deployment is known to have booted well.
    MarkWell(DeployId),
    /// The links of the README lead to the current sets.
    Links,
    /// Menu and baked entry say what tree and boot block say; the [`Step::Sync`] behind it brings them to where GRUB reads.
    Menu,
    /// The `/var` that was kept when the trial of a deployment was armed is gone.
    ForgetVar(DeployId),
    /// Package files that no snapshot has installed are gone from the machine's cache.
    CleanCache,
    /// What nothing names any more is deleted.
    Collect,
    /// A line of the history; on disk with the next [`Step::Sync`].
    Record(String),
}

/// The one thing that makes it so.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    /// The tree document is replaced.
    Tree {
        /// As the plan found it; another one makes the plan stale.
        before: Box<Tree>,
        /// As it will be.
        after: Box<Tree>,
    },
    /// The first tree document is written, on a machine that has none.
    First {
        /// What it says.
        after: Box<Tree>,
    },
    /// The boot block is replaced, B and then A.
    Boot {
        /// As the plan found it.
        before: BootBlock,
        /// As it will be.
        after: BootBlock,
    },
}

/// A change, ready to be printed or carried out.
#[must_use = "a plan changes nothing until it is run"]
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// What it does, in words of a person; also its line in the history.
    pub what: String,
    /// What is made first: garbage until the commit.
    pub prepare: Vec<Step>,
    /// The commit.
    pub commit: Commit,
    /// What follows from the commit: repair would do the same.
    pub after: Vec<Step>,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDir(path) => write!(f, "make the directory {}", path.display()),
            Self::CreateSubvolume(path) => write!(f, "create the subvolume {}", path.display()),
            Self::Snapshot { from, to, access } => {
                let how = if *access == Access::ReadOnly { "read-only" } else { "writable" };
                write!(f, "snapshot {} as {} ({how})", from.display(), to.display())
            }
            Self::Seal(path) => write!(f, "make {} read-only", path.display()),
            Self::Write { path, bytes } => write!(f, "write {} ({} bytes)", path.display(), bytes.len()),
            Self::Title { boot, title } => write!(f, "call it {title:?} in {}", boot.display()),
            Self::CarryIdentity { from, into } => {
                write!(f, "carry this machine's id and host keys from {} to {}", from.display(), into.display())
            }
            Self::MergeEtc { edited, into } => {
                write!(f, "merge the changes made in {} into {}", edited.mine.display(), into.display())
            }
            Self::KeepSaved { d, .. } => write!(f, "note what is saved of /etc of deployment {d}"),
            Self::Reserve(numbers) => {
                write!(f, "use up the numbers below deployment {} and arming {}", numbers.next_deployment, numbers.next_arm)
            }
            Self::Sync => write!(f, "sync the filesystem"),
            Self::Verify(d) => write!(f, "verify that deployment {d} is whole"),
            Self::MarkWell(d) => write!(f, "note that deployment {d} has booted well"),
            Self::Links => write!(f, "point the links at the current sets"),
            Self::Menu => write!(f, "write the boot menu and sync"),
            Self::ForgetVar(d) => write!(f, "delete the /var that was kept when deployment {d} was armed"),
            Self::CleanCache => write!(f, "delete package files that no snapshot has installed"),
            Self::Collect => write!(f, "delete what nothing names any more"),
            Self::Record(what) => write!(f, "record in the history: {what}"),
        }
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree { before, after } => {
                let sets = |tree: &Tree| tree.nodes().map(crate::tree::Node::set).collect::<std::collections::BTreeSet<SetId>>();
                let (old, new) = (sets(before), sets(after));
                write!(f, "commit the tree:")?;
                new.difference(&old).try_for_each(|set| write!(f, " +{set}"))?;
                old.difference(&new).try_for_each(|set| write!(f, " -{set}"))?;
                if old == new { write!(f, " same sets") } else { Ok(()) }
            }
            Self::First { after } => {
                write!(f, "write the first tree document:")?;
                after.nodes().try_for_each(|node| write!(f, " +{}", node.set()))
            }
            Self::Boot { after, .. } => write!(f, "commit the boot block: {}", Spoken(after)),
        }
    }
}

/// A boot block in one line for people.
#[derive(Debug)]
pub struct Spoken<'a>(pub &'a BootBlock);

impl fmt::Display for Spoken<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "good {}", self.0.good)?;
        if let Some(prev) = self.0.prev {
            write!(f, ", before it {prev}")?;
        }
        match self.0.trial {
            Some(trial) if trial.mode == Mode::Once => write!(f, ", {} for one start", trial.deployment),
            Some(trial) => write!(f, ", {} on trial with {} tries", trial.deployment, trial.tries),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.what)?;
        self.prepare.iter().try_for_each(|step| writeln!(f, "    {step}"))?;
        writeln!(f, "  * {}", self.commit)?;
        self.after.iter().try_for_each(|step| writeln!(f, "    {step}"))
    }
}
