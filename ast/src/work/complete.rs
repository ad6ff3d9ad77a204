//! Adds to the shared `/var` what a snapshot's packages brought, and overwrites nothing (S9).

use std::fs::{self, DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use super::WorkError;
use crate::exec::{self, Invocation, Options, Program};
use crate::sys::{SysError, file};

/// Beginning of the names under which new things are made before they get their own.
const NEW: &str = ".ast-new.";

/// Everything in `from` is in `to`; what was there under its name is as it was. The number of new paths.
///
/// If interrupted: some are there, whole; names that begin with `.ast-new.` may be left, and the next call takes them up.
pub fn add_missing(from: &Path, to: &Path) -> Result<u64, WorkError> {
    let mut added = 0;
    for name in file::names(from)? {
        let (source, target) = (from.join(&name), to.join(&name));
        let meta = fs::symlink_metadata(&source).map_err(|source_error| at("read", &source, source_error))?;
        match fs::symlink_metadata(&target) {
            Ok(there) => {
                // Anything that is there stays what it is; a link is not followed to wherever it leads.
                if there.is_dir() && meta.is_dir() {
                    added += add_missing(&source, &target)?;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut new_name = std::ffi::OsString::from(NEW);
                new_name.push(&name);
                let new = to.join(new_name);
                added += 1;
                if meta.is_dir() {
                    make_dir(&meta, &new)?;
                    file::rename(&new, &target)?;
                    added += add_missing(&source, &target)?;
                } else {
                    copy(&source, &new)?;
                    file::rename(&new, &target)?;
                }
            }
            Err(error) => return Err(at("read", &target, error)),
        }
    }
    Ok(added)
}

/// An empty directory like the one of `meta`. It has its rights before it has its name, and its content after it.
fn make_dir(meta: &Metadata, new: &Path) -> Result<(), WorkError> {
    const ACTION: &str = "make the directory";
    match DirBuilder::new().mode(0o700).create(new) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(ACTION, new, error)),
        _ => {}
    }
    chown(new, Some(meta.uid()), Some(meta.gid())).map_err(|error| at(ACTION, new, error))?;
    fs::set_permissions(new, fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(|error| at(ACTION, new, error))
}

/// A copy with owner, mode, times, ACL, xattrs, capabilities and holes.
fn copy(from: &Path, new: &Path) -> Result<(), WorkError> {
    let cp = Invocation::new(Program::Cp).args(["-a", "--reflink=auto", "--remove-destination", "-T", "--"]).arg(from).arg(new);
    exec::run(&cp, Options::capture()).and_then(exec::Ended::success).map(drop).map_err(WorkError::Exec)
}

fn at(action: &'static str, path: &Path, source: io::Error) -> WorkError {
    SysError { action, path: path.to_owned(), source }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str, mode: u32) {
        file::make_dirs(path.parent().expect("parent")).expect("dirs");
        file::replace(path, text.as_bytes()).expect("file");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("mode");
    }

    #[test]
    fn s9_what_is_missing_is_added_and_what_is_there_stays() {
        let dir = tempfile::tempdir().expect("dir");
        let (from, to) = (dir.path().join("set"), dir.path().join("var"));
        write(&from.join("lib/db/schema"), "new", 0o640);
        write(&from.join("lib/db/extra/deep"), "new", 0o600);
        write(&from.join("www/index"), "new", 0o644);
        write(&from.join("tool"), "new", 0o4755);
        std::os::unix::fs::symlink("lib/db", from.join("link")).expect("link");
        fs::set_permissions(from.join("lib/db/extra"), fs::Permissions::from_mode(0o2750)).expect("mode");
        fs::set_permissions(from.join("lib"), fs::Permissions::from_mode(0o700)).expect("mode");
        // Here: another file, a file in the place of a directory, a link that leads away, other rights.
        write(&to.join("lib/db/schema"), "mine", 0o600);
        write(&to.join("elsewhere/keep"), "mine", 0o600);
        std::os::unix::fs::symlink("elsewhere", to.join("www")).expect("link");
        // And what an interrupted copy left.
        write(&to.join(".ast-new.tool"), "ha", 0o600);

        assert_eq!(add_missing(&from, &to).expect("added"), 4);
        let text = |name: &str| fs::read_to_string(to.join(name)).expect(name);
        let mode = |name: &str| fs::symlink_metadata(to.join(name)).expect(name).mode() & 0o7777;
        assert_eq!((text("lib/db/schema").as_str(), mode("lib/db/schema")), ("mine", 0o600));
        assert_eq!((text("lib/db/extra/deep").as_str(), mode("lib/db/extra"), mode("lib")), ("new", 0o2750, 0o755));
        assert_eq!((text("tool").as_str(), mode("tool")), ("new", 0o4755));
        assert_eq!(fs::read_link(to.join("link")).expect("link"), Path::new("lib/db"));
        assert_eq!(file::names(&to.join("elsewhere")).expect("names"), ["keep"], "nothing goes through a link");
        assert!(file::names(&to).expect("names").iter().all(|n| !n.to_string_lossy().starts_with(NEW)));
        assert_eq!(add_missing(&from, &to).expect("again"), 0);
    }
}
