//! `/var` of a snapshot that never had one of its own: what its packages put there, as the shared one has it.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Component, Path};

use super::Result;
use crate::layout::PACMAN_DB;
use crate::sys::{At, SysError, file};

/// Largest file that is copied, in bytes: what packages put into /var is small, and a database that grew there is nobody's package.
const LARGEST: u64 = 1 << 20;

/// `to`, an empty subvolume, has what the packages installed in `root` own below `/var`: directories, links and small files with owner and
/// mode as in `shared`, the machine's own `/var`. Files that packages do not own (databases, logs, spools) stay there alone.
///
/// If interrupted: some of it is there; `to` is garbage by its name.
pub(super) fn fill(root: &Path, shared: &Path, to: &Path) -> Result<()> {
    let local = root.join(PACMAN_DB).join("local");
    let mut wanted = std::collections::BTreeSet::new();
    for package in file::names(&local)? {
        let Some(list) = file::read_if_exists(&local.join(package).join("files")).ok().flatten() else { continue };
        wanted.extend(String::from_utf8_lossy(&list).lines().filter_map(|line| line.strip_prefix("var/")).map(str::to_owned));
    }
    for name in wanted.iter().filter(|name| is_plain(name)) {
        bring(name, shared, to)?;
    }
    Ok(())
}

/// Whether the name stays below where it is put: the list is a file like any other (R7).
fn is_plain(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)))
}

fn bring(name: &str, shared: &Path, to: &Path) -> Result<(), SysError> {
    let name = name.trim_end_matches('/');
    let (from, to) = (shared.join(name), to.join(name));
    // A parent that became a link or a file in the shared one leads elsewhere.
    let inside = from
        .parent()
        .is_some_and(|dir| std::fs::canonicalize(dir).is_ok_and(|real| std::fs::canonicalize(shared).is_ok_and(|s| real.starts_with(s))));
    let Ok(meta) = std::fs::symlink_metadata(&from) else { return Ok(()) };
    if !inside || std::fs::symlink_metadata(&to).is_ok() || !to.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    let (uid, gid) = (Some(meta.uid()), Some(meta.gid()));
    if meta.is_dir() {
        std::fs::DirBuilder::new().mode(0o700).create(&to).at("make the directory", &to)?;
        chown(&to, uid, gid).at("set the owner of", &to)?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(meta.mode() & 0o7777)).at("set the mode of", &to)?;
    } else if meta.is_symlink() {
        symlink(std::fs::read_link(&from).at("read the link", &from)?, &to).at("make the link", &to)?;
        lchown(&to, uid, gid).at("set the owner of", &to)?;
    } else if meta.is_file() && meta.len() <= LARGEST {
        std::fs::copy(&from, &to).at("copy to", &to)?;
        chown(&to, uid, gid).at("set the owner of", &to)?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(meta.mode() & 0o7777)).at("set the mode of", &to)?;
    }
    Ok(())
}
