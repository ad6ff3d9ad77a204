//! `install`, `remove`, `upgrade`, `base-update`, `list`: the packages of a snapshot.

use std::path::PathBuf;

use serde_json::json;

use super::change::opened;
use super::context::{Global, print};
use super::error::{CommandError, Kind};
use super::inside::{self, Outcome};
use super::live;
use crate::id::SnapshotId;
use crate::layout::Part;
use crate::pacman::{self, Change, Feed, PacmanError, ProfileError};

/// What is installed where.
#[derive(Debug, clap::Args)]
pub(super) struct InstallArgs {
    /// The snapshot
    snapshot: SnapshotId,
    /// The packages
    #[arg(required_unless_present = "profile", value_name = "PACKAGE")]
    packages: Vec<String>,
    /// A file that names packages, one on a line; blank lines and what stands behind a # are passed over
    #[arg(short = 'P', long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Also in the booted deployment, when that is the snapshot's, from the very files just used
    #[arg(long)]
    live: bool,
}

/// Packages of a snapshot.
#[derive(Debug, clap::Args)]
pub(super) struct PackageArgs {
    /// The snapshot
    snapshot: SnapshotId,
    /// The packages
    #[arg(required = true, value_name = "PACKAGE")]
    packages: Vec<String>,
}

/// Which snapshot is upgraded.
#[derive(Debug, clap::Args)]
pub(super) struct UpgradeArgs {
    /// The snapshot
    snapshot: SnapshotId,
}

/// `ast base-update` has no words of its own.
#[derive(Debug, clap::Args)]
pub(super) struct BaseArgs {}

/// Whose packages are listed.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The snapshot
    snapshot: SnapshotId,
    /// Only what somebody asked for
    #[arg(short, long)]
    explicit: bool,
}

/// The packages are installed in the snapshot; with `--live` also in the booted deployment, or in neither.
pub(super) fn install(args: &InstallArgs, global: &Global) -> Result<(), CommandError> {
    let snapshot = args.snapshot;
    let mut packages = args.packages.clone();
    if let Some(profile) = &args.profile {
        packages.extend(pacman::load_profile(profile)?);
    }
    let what = format!("install {} in snapshot {snapshot}", packages.join(" "));
    let mut live = args.live.then(|| live::Beside::of(snapshot, global)).transpose()?;
    let sealed = inside::change(global, snapshot, false, &what, |copy| {
        let change = pacman::install(copy, &packages, feed(global))?;
        if let Some(live) = &mut live {
            live.install(copy, &packages, &change, global)?;
        }
        outcome(snapshot, &change, "it is installed already", global)
    });
    // Saved with something to look at is saved: that is told in the end.
    let is_saved = sealed.as_ref().err().is_none_or(|error| error.kind == Kind::Attention);
    match live.filter(|_| is_saved) {
        Some(live) => live.apply(&what, global).and(sealed),
        None => sealed,
    }
}

/// The packages are not in the snapshot any more.
pub(super) fn remove(args: &PackageArgs, global: &Global) -> Result<(), CommandError> {
    let what = format!("remove {} from snapshot {}", args.packages.join(" "), args.snapshot);
    inside::change(global, args.snapshot, false, &what, |copy| {
        outcome(args.snapshot, &pacman::remove(copy, &args.packages, feed(global))?, "there was nothing to remove", global)
    })
}

/// The snapshot is as new as the repositories, or as it was.
pub(super) fn upgrade(args: &UpgradeArgs, global: &Global) -> Result<(), CommandError> {
    upgraded(args.snapshot, false, global)
}

/// Base 0 is as new as the repositories, or as it was.
pub(super) fn base_update(_: &BaseArgs, global: &Global) -> Result<(), CommandError> {
    upgraded(SnapshotId::BASE, true, global)
}

fn upgraded(n: SnapshotId, base: bool, global: &Global) -> Result<(), CommandError> {
    inside::change(global, n, base, &format!("upgrade snapshot {n}"), |copy| {
        outcome(n, &pacman::upgrade(copy, feed(global))?, "nothing to upgrade", global)
    })
}

/// The packages of the snapshot are on standard output.
pub(super) fn list(args: &ListArgs, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let set = store.set_of(args.snapshot)?;
    let packages = pacman::installed(&store.layout().set_part(set, Part::Root)).map_err(PacmanError::from)?;
    let shown = packages.iter().filter(|p| p.explicit || !args.explicit);
    if global.json {
        return global.print_json(&json!({ "snapshot": args.snapshot, "packages": shown.collect::<Vec<_>>() }));
    }
    print(&shown.map(|p| format!("{} {}\n", p.name, p.version)).collect::<String>())
}

/// pacman's own output is for people: with `--json` or `-q` nobody reads it.
pub(super) fn feed(global: &Global) -> Feed<'static> {
    if global.json || global.quiet { Feed::Nobody } else { Feed::Terminal }
}

fn outcome(n: SnapshotId, change: &Change, nothing: &'static str, global: &Global) -> Result<Outcome, CommandError> {
    if change.is_empty() {
        return Ok(Outcome::Nothing(nothing));
    }
    if !global.json {
        print(&change.to_string())?;
    }
    Ok(Outcome::Save(json!({ "snapshot": n, "change": change })))
}

impl From<PacmanError> for CommandError {
    fn from(error: PacmanError) -> Self {
        let kind = if matches!(error, PacmanError::BadName(_)) { Kind::Usage } else { Kind::World };
        let failure = Self::new(kind, super::error::chain(&error));
        match (&error, error.cause()) {
            (_, Some(cause)) => failure.hint(cause.hint()).hint("the snapshot is as it was"),
            (PacmanError::Aur(error), None) => failure.hint(error.hint()).hint("the snapshot is as it was"),
            (PacmanError::Mixture { .. } | PacmanError::NotCached { .. }, None) => failure.hint(
                "`ast sync N` upgrades first, and fetches what is missing; what no repository has is built with `aur::True` in /etc/ast.conf",
            ),
            _ => failure,
        }
    }
}

impl From<ProfileError> for CommandError {
    fn from(error: ProfileError) -> Self {
        let kind = if matches!(error, ProfileError::Sys(_)) { Kind::World } else { Kind::Usage };
        Self::new(kind, super::error::chain(&error))
    }
}
