//! What differs between two directories: kind, content, owner, mode, attributes. Times alone do not count.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::sys::{At, Result, file};

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As seen inside.
    pub path: PathBuf,
    /// How.
    pub what: What,
}

/// How a path differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It is another one in these, never none.
    Changed(Vec<Aspect>),
}

/// What of a path can be another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// A file, a directory, a link, a device …
    Kind,
    /// Content of a file, target of a link, number of a device.
    Content,
    /// User or group.
    Owner,
    /// The twelve bits.
    Mode,
    /// Extended attributes: capabilities and access control lists, too.
    Attributes,
}

impl Aspect {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Owner => "owner",
            Self::Mode => "mode",
            Self::Attributes => "attributes",
        }
    }
}

/// Whether a path is of no interest, with what it was and what it is.
pub type LeftOut<'a> = &'a dyn Fn(&Path, Option<&Metadata>, Option<&Metadata>) -> bool;

/// What is compared of two directories.
#[derive(Clone, Copy)]
pub struct Comparison<'a> {
    /// What is left out.
    pub left_out: LeftOut<'a>,
    /// Whether what is in a directory that is new or gone is listed too, rather than the directory standing for it.
    pub whole: bool,
}

impl std::fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Comparison").field("whole", &self.whole).finish_non_exhaustive()
    }
}

impl Comparison<'_> {
    /// What in the directory `now`, seen at `inside`, is other than in `before`, is added to `found`: directories before what is in them.
    pub fn of(self, before: &Path, now: &Path, inside: &Path, found: &mut Vec<Difference>) -> Result<()> {
        let names: BTreeSet<OsString> = file::names(before)?.into_iter().chain(file::names(now)?).collect();
        for name in names {
            let (path, before, now) = (inside.join(&name), before.join(&name), now.join(&name));
            let (old, new) = (look(&before)?, look(&now)?);
            if (self.left_out)(&path, old.as_ref(), new.as_ref()) {
                continue;
            }
            let what = match (&old, &new) {
                (None, None) => continue,
                (None, Some(_)) => Some(What::Added),
                (Some(_), None) => Some(What::Removed),
                (Some(old), Some(new)) => Some(aspects(old, new, &before, &now)?).filter(|a| !a.is_empty()).map(What::Changed),
            };
            found.extend(what.map(|what| Difference { path: path.clone(), what }));
            let is_dir = |meta: &Option<Metadata>| meta.as_ref().is_some_and(Metadata::is_dir);
            match (is_dir(&old), is_dir(&new)) {
                (true, true) => self.of(&before, &now, &path, found)?,
                // The other side is no directory, so nothing is listed there.
                (true, false) if self.whole => self.one_sided(&before, &path, &What::Removed, found)?,
                (false, true) if self.whole => self.one_sided(&now, &path, &What::Added, found)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn one_sided(self, dir: &Path, inside: &Path, what: &What, found: &mut Vec<Difference>) -> Result<()> {
        for name in file::names(dir)? {
            let (path, real) = (inside.join(&name), dir.join(&name));
            let meta = look(&real)?;
            let (old, new) = if *what == What::Removed { (meta.as_ref(), None) } else { (None, meta.as_ref()) };
            if meta.is_none() || (self.left_out)(&path, old, new) {
                continue;
            }
            found.push(Difference { path: path.clone(), what: what.clone() });
            if meta.is_some_and(|meta| meta.is_dir()) {
                self.one_sided(&real, &path, what, found)?;
            }
        }
        Ok(())
    }
}

fn look(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).at("look at", path),
    }
}

fn aspects(old: &Metadata, new: &Metadata, before: &Path, now: &Path) -> Result<Vec<Aspect>> {
    // A snapshot keeps inodes and times, and nobody can set a ctime: what was not touched since is the same without a look into it.
    let stamp = |meta: &Metadata| (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.mtime(), meta.mtime_nsec(), meta.len());
    let touched = stamp(old) != stamp(new);
    let (a, b) = (old.file_type(), new.file_type());
    if a != b {
        return Ok(vec![Aspect::Kind]);
    }
    let mut found = Vec::new();
    let mut note = |differs: bool, aspect: Aspect| found.extend(differs.then_some(aspect));
    if touched {
        let content = if a.is_symlink() {
            fs::read_link(before).at("read the link", before)? != fs::read_link(now).at("read the link", now)?
        } else if a.is_file() {
            old.len() != new.len() || !file::same_content(before, now)?
        } else {
            old.rdev() != new.rdev()
        };
        note(content, Aspect::Content);
    }
    note((old.uid(), old.gid()) != (new.uid(), new.gid()), Aspect::Owner);
    // The mode of a link means nothing.
    note(!a.is_symlink() && old.mode() != new.mode(), Aspect::Mode);
    if touched {
        note(attributes(before)? != attributes(now)?, Aspect::Attributes);
    }
    Ok(found)
}

/// The extended attributes of `path` itself, by name. A filesystem without any has none.
fn attributes(path: &Path) -> Result<Vec<(OsString, Option<Vec<u8>>)>> {
    let names = match xattr::list(path) {
        Err(error) if error.kind() == std::io::ErrorKind::Unsupported => return Ok(Vec::new()),
        other => other.at("list the attributes of", path)?,
    };
    let mut all = Vec::new();
    for name in names {
        let value = xattr::get(path, &name).at("read an attribute of", path)?;
        all.push((name, value));
    }
    all.sort();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn compared(before: &Path, now: &Path, whole: bool) -> Vec<String> {
        let mut found = Vec::new();
        let left_out = |path: &Path, _: Option<&Metadata>, _: Option<&Metadata>| path.ends_with("left-out");
        Comparison { left_out: &left_out, whole }.of(before, now, Path::new("/x"), &mut found).expect("readable");
        let line = |difference: Difference| match difference.what {
            What::Added => format!("+ {}", difference.path.display()),
            What::Removed => format!("- {}", difference.path.display()),
            What::Changed(aspects) => {
                let words: Vec<_> = aspects.into_iter().map(Aspect::word).collect();
                format!("~ {} {}", difference.path.display(), words.join(" "))
            }
        };
        found.into_iter().map(line).collect()
    }

    #[test]
    fn each_aspect_is_told_apart_and_times_do_not_count() {
        let dir = tempfile::tempdir().expect("dir");
        let (before, now) = (dir.path().join("before"), dir.path().join("now"));
        for (at, version) in [(&before, 1), (&now, 2)] {
            for name in ["gone", "new", "dir", "kind"] {
                fs::create_dir_all(at.join(name)).expect("dir");
            }
            for (name, text) in
                [("same", "same".to_owned()), ("content", format!("{version}")), ("size", "x".repeat(version)), ("mode", "m".into())]
            {
                file::replace(&at.join(name), text.as_bytes()).expect("file");
            }
            file::replace(&at.join("dir/inner"), format!("{version}").as_bytes()).expect("file");
            file::replace(&at.join("left-out"), format!("{version}").as_bytes()).expect("file");
            symlink(format!("to-{version}"), at.join("link")).expect("link");
        }
        fs::set_permissions(now.join("mode"), fs::Permissions::from_mode(0o600)).expect("mode");
        fs::set_permissions(now.join("dir"), fs::Permissions::from_mode(0o700)).expect("mode");
        fs::remove_dir(before.join("new")).expect("removed");
        fs::remove_dir(now.join("gone")).expect("removed");
        fs::remove_dir(now.join("kind")).expect("removed");
        file::replace(&now.join("kind"), b"").expect("file");
        file::make_dirs(&before.join("gone/deep")).expect("dir");
        file::replace(&before.join("gone/deep/file"), b"").expect("file");
        file::replace(&now.join("new/file"), b"").expect("file");
        File::options().append(true).open(now.join("same")).and_then(|f| f.set_modified(std::time::UNIX_EPOCH)).expect("touched");
        let short = compared(&before, &now, false);
        let expected = [
            "~ /x/content content",
            "~ /x/dir mode",
            "~ /x/dir/inner content",
            "- /x/gone",
            "~ /x/kind kind",
            "~ /x/link content",
            "~ /x/mode mode",
            "+ /x/new",
            "~ /x/size content",
        ];
        assert_eq!(short, expected);
        let whole = compared(&before, &now, true);
        let more: Vec<_> = whole.iter().filter(|line| !short.contains(line)).collect();
        assert_eq!(more, ["- /x/gone/deep", "- /x/gone/deep/file", "+ /x/new/file"]);
        assert!(compared(&before, &before, true).is_empty());
    }

    #[test]
    fn attributes_and_long_files_are_read_to_their_end() {
        let dir = tempfile::tempdir().expect("dir");
        let (before, now) = (dir.path().join("before"), dir.path().join("now"));
        // More than is read at once, and no multiple of it.
        let mut long = vec![7; (3 << 16) + 5];
        for at in [&before, &now] {
            file::make_dirs(at).expect("dir");
            file::replace(&at.join("long"), &long).expect("file");
            file::replace(&at.join("xattr"), b"x").expect("file");
            if let Some(last) = long.last_mut() {
                *last = 8;
            }
        }
        assert_eq!(compared(&before, &now, true), ["~ /x/long content"]);
        if let Err(error) = xattr::set(now.join("xattr"), "user.word", b"1") {
            eprintln!("skipped: no attributes on this filesystem: {error}");
            return;
        }
        assert_eq!(compared(&before, &now, true), ["~ /x/long content", "~ /x/xattr attributes"]);
    }
}
