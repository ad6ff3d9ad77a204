//! Carrying out what was decided.

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use super::accounts::Owners;
use super::copy::{Copier, link, make_dir, remove, replace_content, set_meta, unlink_from_others, write};
use super::decide::{Action, pacnew_of};
use super::tree::Links;
use crate::sys::{At, SysError, file};

/// The two directories.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub mine: &'a Path,
    pub into: &'a Path,
    /// What numbers of mine mean after the merge.
    pub owners: &'a Owners,
}

/// `into` is as decided.
///
/// If interrupted: a mixture, each path as before or as after.
pub(super) fn apply(actions: &[Action], places: &Places<'_>) -> Result<(), SysError> {
    let copier = Copier(places.owners);
    for action in actions {
        let into = |path: &PathBuf| places.into.join(path);
        let mine = |path: &PathBuf| places.mine.join(path);
        match action {
            Action::Own(path, uid, gid) => lchown(into(path), Some(*uid), Some(*gid)).at("set the owner of", &into(path))?,
            Action::Pacnew(path) => {
                let (from, to) = (into(path), pacnew_of(&into(path)));
                remove(&to)?;
                file::rename(&from, &to)?;
            }
            Action::Carry(path) => match fs::symlink_metadata(mine(path)) {
                Ok(_) => copier.copy(&mine(path), &into(path))?,
                // It vanished meanwhile.
                Err(_) => remove(&into(path))?,
            },
            Action::CarryDir(path) => {
                let meta = fs::symlink_metadata(mine(path)).at("look at", &mine(path))?;
                make_dir(&into(path))?;
                copier.as_source(&mine(path), &meta, &into(path))?;
            }
            Action::Delete(path) => remove(&into(path))?,
            Action::Content(path, meta) => replace_content(&mine(path), &into(path), meta)?,
            Action::Accounts(path, bytes, meta) => write(&into(path), bytes, meta)?,
            Action::Meta(path, meta) => {
                unlink_from_others(&into(path))?;
                set_meta(&into(path), meta)?;
            }
        }
    }
    Ok(())
}

/// Names that are one file on the device are one in `into`, as far as they are the same there; unless they were one in the beginning too, and
/// the packages have parted them.
pub(super) fn relink(into: &Path, mine: &Links, base: &Links, new: &Links) -> Result<(), SysError> {
    let are_one = |links: &Links, a: &Path, b: &Path| {
        links.values().any(|names| names.iter().any(|name| name == a) && names.iter().any(|name| name == b))
    };
    for names in mine.values() {
        let there = names.iter().filter(|name| fs::symlink_metadata(into.join(name)).is_ok_and(|meta| meta.is_file()));
        let mut done: Vec<&PathBuf> = Vec::new();
        for name in there {
            for first in done.iter().filter(|first| !are_one(base, first, name) || are_one(new, first, name)) {
                let (one, other) = (into.join(first), into.join(name));
                let (a, b) = (fs::symlink_metadata(&one).at("look at", &one)?, fs::symlink_metadata(&other).at("look at", &other)?);
                if a.ino() == b.ino() {
                    break;
                }
                if super::tree::same(&one, &other)? {
                    link(&one, &other)?;
                    break;
                }
            }
            done.push(name);
        }
    }
    Ok(())
}
