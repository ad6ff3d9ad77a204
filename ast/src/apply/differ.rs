//! What a working copy differs in from what it was made from.

use std::fs::Metadata;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::compare::{self, Comparison, What};
use crate::layout::{MOUNT_POINTS, PACMAN_DB, Part};
use crate::sys::Result;
use crate::work::Parts;

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// As seen inside.
    pub path: PathBuf,
    /// How.
    pub change: Kind,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// Its kind, content, owner, mode or attributes are others. Times alone do not count.
    Changed,
}

impl From<compare::Difference> for Difference {
    fn from(compare::Difference { path, what }: compare::Difference) -> Self {
        let change = match what {
            What::Added => Kind::Added,
            What::Removed => Kind::Removed,
            What::Changed(_) => Kind::Changed,
        };
        Self { path, change }
    }
}

/// What is left out, as seen inside: logs and caches, what `finish` takes back, what only this run needs.
const LEFT_OUT: [&str; 9] = [
    "/var/log",
    "/var/cache",
    "/var/tmp",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/etc/machine-id",
    "/etc/adjtime",
    "/etc/.updated",
    "/var/.updated",
];

/// What in `now` is other than in `before`, by path. A directory that is new or gone stands for all that is in it.
pub fn differences(before: &Parts, now: &Parts) -> Result<Vec<Difference>> {
    let mut found = Vec::new();
    for part in Part::ALL {
        if let (Some(before), Some(now)) = (before.get(part), now.get(part)) {
            Comparison { left_out: &is_left_out, whole: false }.of(before, now, Path::new(part.mount_point()), &mut found)?;
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found.into_iter().map(Difference::from).collect())
}

fn is_left_out(path: &Path, old: Option<&Metadata>, new: Option<&Metadata>) -> bool {
    let mount_point =
        path.parent() == Some(Path::new("/")) && path.file_name().is_some_and(|name| MOUNT_POINTS.iter().any(|dir| name == *dir));
    let lock = path.strip_prefix("/").is_ok_and(|rest| rest == Path::new(PACMAN_DB).join("db.lck"));
    let key_lock = path.starts_with("/etc/pacman.d/gnupg")
        && path.file_name().is_some_and(|n| {
            let name = n.to_string_lossy();
            name.starts_with(".#lk") || name.ends_with(".lock")
        });
    // What the host's own is mounted over, and what `finish` removes.
    let placeholder = path == Path::new("/etc/resolv.conf") && old.is_none() && new.is_some_and(|m| m.len() == 0);
    let socket = [old, new].into_iter().flatten().any(|m| m.file_type().is_socket());
    mount_point || lock || key_lock || placeholder || socket || LEFT_OUT.iter().any(|out| path.starts_with(out))
}
