//! `diff`: what differs between two snapshots.

use std::cmp::Ordering;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::change::opened;
use super::context::{Global, clean, print};
use super::error::{CommandError, Kind, chain};
use crate::compare::{Aspect, Comparison, Difference, What};
use crate::id::{SetId, SnapshotId};
use crate::layout::{MOUNT_POINTS, Part};
use crate::pacman::{self, Change, PacmanError};
use crate::store::Store;
use crate::sys::SysError;

/// What `--help` adds.
const HELP: &str = "Without --files and --etc it is the packages. Files differ by kind, content, owner, mode or extended attributes; times alone \
do not count.";

/// Which two, and what of them.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The earlier one, or whichever is meant to be
    a: SnapshotId,
    /// The later one
    b: SnapshotId,
    /// Paths of the whole system but /etc
    #[arg(long)]
    files: bool,
    /// Paths below /etc
    #[arg(long)]
    etc: bool,
}

/// What makes `b` out of `a` is on standard output.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let (a, b) = (store.set_of(args.a)?, store.set_of(args.b)?);
    let mut text = String::new();
    let mut document = Map::from_iter([("a".to_owned(), json!(args.a)), ("b".to_owned(), json!(args.b))]);
    if !args.files && !args.etc {
        let packages = |set| pacman::installed(&store.layout().set_part(set, Part::Root)).map_err(PacmanError::from);
        let change = packages(a)?.change_to(&packages(b)?);
        text.push_str(&lines(&change));
        document.insert("packages".into(), packages_document(&change));
    }
    let levels = [(args.files, "files", &[Part::Root, Part::Var, Part::Boot][..]), (args.etc, "etc", &[Part::Etc][..])];
    for (_, name, parts) in levels.into_iter().filter(|(wanted, ..)| *wanted) {
        let found = differences(&store, a, b, parts).map_err(|error| unreadable(&error))?;
        text.extend(found.iter().map(line));
        document.insert(name.into(), found.iter().map(path_document).collect());
    }
    if global.json { global.print_json(&Value::Object(document)) } else { print(&text) }
}

fn unreadable(error: &SysError) -> CommandError {
    let failure = CommandError::new(Kind::World, chain(error));
    if error.errno() == Some(nix::errno::Errno::EACCES) { failure.hint("only root may read every file: run it with sudo") } else { failure }
}

/// What differs in these parts, by path.
fn differences(store: &Store, a: SetId, b: SetId, parts: &[Part]) -> Result<Vec<Difference>, SysError> {
    let mut found = Vec::new();
    for part in parts {
        let (before, now) = (store.layout().set_part(a, *part), store.layout().set_part(b, *part));
        // The other parts are mounted there.
        let left_out = |path: &Path, _: Option<&_>, _: Option<&_>| {
            *part == Part::Root && path.strip_prefix("/").is_ok_and(|name| MOUNT_POINTS.iter().any(|point| name == Path::new(point)))
        };
        Comparison { left_out: &left_out, whole: true }.of(&before, &now, Path::new(part.mount_point()), &mut found)?;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// `+` new, `-` gone, `~` changed and in what.
fn line(difference: &Difference) -> String {
    let path = clean(&difference.path.to_string_lossy());
    match &difference.what {
        What::Added => format!("+ {path}\n"),
        What::Removed => format!("- {path}\n"),
        What::Changed(aspects) => format!("~ {path} ({})\n", aspects.iter().map(|a| a.word()).collect::<Vec<_>>().join(", ")),
    }
}

fn path_document(difference: &Difference) -> Value {
    let (change, aspects): (_, &[Aspect]) = match &difference.what {
        What::Added => ("added", &[]),
        What::Removed => ("removed", &[]),
        What::Changed(aspects) => ("changed", aspects),
    };
    json!({ "path": difference.path.to_string_lossy(), "change": change, "what": aspects })
}

fn is_older((_, from, to): &(String, String, String)) -> bool {
    pacman::compare_versions(to, from) == Ordering::Less
}

fn lines(change: &Change) -> String {
    let one = |word: &str, package: &pacman::Package| format!("{word:<10} {} {}\n", package.name, package.version);
    let added = change.added.iter().map(|p| one("added", p));
    let removed = change.removed.iter().map(|p| one("removed", p));
    let changed = change.changed.iter().map(|package| {
        let word = if is_older(package) { "downgraded" } else { "upgraded" };
        format!("{word:<10} {} {} -> {}\n", package.0, package.1, package.2)
    });
    added.chain(removed).chain(changed).collect()
}

fn packages_document(change: &Change) -> Value {
    let (down, up): (Vec<_>, Vec<_>) = change.changed.iter().partition(|package| is_older(package));
    let versions = |list: Vec<&(String, String, String)>| -> Value {
        list.into_iter().map(|(name, from, to)| json!({ "name": name, "from": from, "to": to })).collect()
    };
    json!({ "added": change.added, "removed": change.removed, "upgraded": versions(up), "downgraded": versions(down) })
}
