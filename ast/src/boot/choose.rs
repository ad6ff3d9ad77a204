//! What to mount: pure, from the command line and the boot block. The initramfs tries the candidates and asks again.

use std::fmt;

use super::block::BootBlock;
use crate::cmdline::{Cmdline, Why};
use crate::id::{DeployId, SetId, SnapshotId};

/// Something that can be mounted as the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// A deployment, with its own /etc.
    Deployment(DeployId),
    /// A set, with a volatile /etc.
    Set(SetId),
    /// The current set of a snapshot, by its link, with a volatile /etc.
    Snapshot(SnapshotId),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployment(d) => write!(f, "deployment {d}"),
            Self::Set(set) => write!(f, "set {set}"),
            Self::Snapshot(n) => write!(f, "snapshot {n}"),
        }
    }
}

/// Why a candidate cannot be the root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Nothing of that name is there.
    #[error("it is not there")]
    Missing,
    /// It has no modules for the kernel that runs.
    #[error("it has no modules for kernel {0}")]
    NoModules(String),
    /// It has no init.
    #[error("it has no init")]
    NoInit,
    /// It has no os-release, without which systemd does not switch to it.
    #[error("it has no usr/lib/os-release")]
    NoOsRelease,
    /// It is to be tried, and nothing would count that it was: started, it could be started for ever.
    #[error("its start cannot be counted: {0}")]
    Uncounted(String),
    /// It could not be mounted.
    #[error("it cannot be mounted: {0}")]
    Mount(String),
}

/// What the initramfs does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Mount this one. `instead_of` says what was wanted and why it could not be.
    Mount {
        /// The root.
        target: Target,
        /// What was wanted, and why not.
        instead_of: Option<(Target, Broken)>,
    },
    /// Let GRUB start this deployment once (its kernel fits its modules), and reboot.
    ArmOnce(DeployId),
    /// Reboot: GRUB counts the trial down, or nothing better is known.
    Reboot,
    /// Somebody is there: a shell.
    Shell,
}

/// What may be mounted, the wanted one first; then good, then the one before it. Never a directory listing.
pub fn candidates(line: &Cmdline, block: Option<&BootBlock>) -> Vec<Target> {
    let asked = line.snapshot.map(Target::Snapshot).or(line.set.map(Target::Set)).or(line.deployment.map(Target::Deployment));
    let known = block.into_iter().flat_map(|b| [Some(b.good), b.prev]).flatten().map(Target::Deployment);
    let mut all: Vec<Target> = Vec::new();
    for target in asked.into_iter().chain(known) {
        if !all.contains(&target) {
            all.push(target);
        }
    }
    all
}

/// What to do after the candidates were looked at, in their order: the first whole one is mounted.
pub fn decide(line: &Cmdline, looked_at: &[(Target, Result<(), Broken>)]) -> Decision {
    let wanted = looked_at.first();
    if let Some((target, _)) = looked_at.iter().find(|(_, result)| result.is_ok()) {
        let instead_of = match wanted {
            Some((first, Err(why))) => Some((*first, why.clone())),
            _ => None,
        };
        return Decision::Mount { target: *target, instead_of };
    }
    if line.attended {
        return Decision::Shell;
    }
    // A trial is GRUB's to count down; anything else gets the next candidate with its own kernel.
    let next = looked_at.iter().skip(1).find_map(|(target, why)| match (target, why) {
        (Target::Deployment(d), Err(Broken::NoModules(_))) => Some(*d),
        _ => None,
    });
    match (line.why, next) {
        (Some(Why::Trial), _) | (_, None) => Decision::Reboot,
        (_, Some(d)) => Decision::ArmOnce(d),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const D: fn(u32) -> Target = |n| Target::Deployment(DeployId::new(n));

    fn block() -> BootBlock {
        BootBlock { prev: Some(DeployId::new(5)), ..BootBlock::new(DeployId::new(6)) }
    }

    #[test]
    fn the_wanted_one_comes_first_and_no_one_twice() {
        let table = [
            ("ast.d=7", vec![D(7), D(6), D(5)]),
            ("ast.d=6", vec![D(6), D(5)]),
            ("", vec![D(6), D(5)]),
            ("ast.d=7 ast.snapshot=3", vec![Target::Snapshot(SnapshotId::new(3)), D(6), D(5)]),
        ];
        for (line, want) in table {
            assert_eq!(candidates(&Cmdline::parse(line), Some(&block())), want, "{line}");
        }
        assert_eq!(candidates(&Cmdline::parse("ast.d=7"), None), [D(7)]);
    }

    #[test]
    fn b9_another_root_is_mounted_only_when_it_is_whole_for_this_kernel() {
        let none = || Err(Broken::NoModules("6.1".into()));
        let gone = || Err(Broken::Missing);
        type Row = (&'static str, Vec<(Target, Result<(), Broken>)>, Decision);
        let table: Vec<Row> = vec![
            ("ast.why=good", vec![(D(6), Ok(()))], Decision::Mount { target: D(6), instead_of: None }),
            (
                "ast.why=trial",
                vec![(D(7), gone()), (D(6), Ok(()))],
                Decision::Mount { target: D(6), instead_of: Some((D(7), Broken::Missing)) },
            ),
            ("ast.why=trial", vec![(D(7), gone()), (D(6), none())], Decision::Reboot),
            ("ast.why=good", vec![(D(6), gone()), (D(5), none())], Decision::ArmOnce(DeployId::new(5))),
            ("ast.why=good", vec![(D(6), gone()), (D(5), gone())], Decision::Reboot),
            ("ast.why=good ast.attended", vec![(D(6), gone()), (D(5), gone())], Decision::Shell),
            (
                "ast.why=chosen",
                vec![(Target::Snapshot(SnapshotId::new(3)), gone()), (D(6), none()), (D(5), gone())],
                Decision::ArmOnce(DeployId::new(6)),
            ),
            ("", vec![], Decision::Reboot),
        ];
        for (line, looked_at, want) in table {
            assert_eq!(decide(&Cmdline::parse(line), &looked_at), want, "{line} {looked_at:?}");
        }
    }
}
