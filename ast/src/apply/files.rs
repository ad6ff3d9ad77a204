//! Files, links and directories of a declaration.

use std::fs::Metadata;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::declaration::FileEntry;
use super::{ApplyError, place};
use crate::exec::{Invocation, Options, Program};
use crate::sys::{At, file, inside};
use crate::work::{Bind, WorkingCopy};

/// Where content waits, seen from inside.
const STAGE: &str = "/run/ast-apply";

/// A file, link or directory as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    pub path: &'a Path,
    pub what: What<'a>,
    pub owner: &'a str,
    pub mode: &'a str,
}

/// What it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What<'a> {
    File(&'a str),
    Link(&'a str),
    Directory,
    Nothing,
}

impl<'a> Wanted<'a> {
    /// What an entry says.
    pub(super) fn of(entry: &'a FileEntry) -> Self {
        let what = match (&entry.content, &entry.link) {
            (Some(content), _) => What::File(content),
            (_, Some(link)) => What::Link(link.as_str()),
            _ if entry.directory => What::Directory,
            _ => What::Nothing,
        };
        let usual = if entry.directory { "0755" } else { "0644" };
        Self {
            path: Path::new(entry.path.as_str()),
            what,
            owner: entry.owner.as_ref().map_or("root:root", |owner| owner.as_str()),
            mode: entry.mode.as_ref().map_or(usual, |mode| mode.as_str()),
        }
    }
}

/// `wanted` is in the copy, by programs that see the copy as their `/`: no link in it can lead out of it.
pub(super) fn write(copy: &WorkingCopy, wanted: &Wanted<'_>) -> Result<(), ApplyError> {
    if is_so(copy, wanted)? {
        return Ok(());
    }
    let (user, group) = wanted.owner.split_once(':').unwrap_or((wanted.owner, wanted.owner));
    let kept = ["--owner", user, "--group", group, "--mode", wanted.mode];
    let mut binds = Vec::new();
    let invocation = match wanted.what {
        What::File(content) => {
            let stage = copy.dir().join("apply");
            file::make_dirs(&stage)?;
            file::replace(&stage.join("file"), content.as_bytes())?;
            binds.push(Bind { source: stage, target: STAGE.into(), read_only: true });
            let from = Path::new(STAGE).join("file");
            Invocation::new(Program::Install).args(kept).args(["-D", "--no-target-directory", "--"]).arg(from)
        }
        What::Directory => Invocation::new(Program::Install).args(kept).args(["--directory", "--"]),
        What::Link(target) => {
            let above = wanted.path.parent().unwrap_or(Path::new("/"));
            run(copy, &[], &Invocation::new(Program::Mkdir).args(["--parents", "--"]).arg(above))?;
            Invocation::new(Program::Ln).args(["--symbolic", "--force", "--no-target-directory", "--", target])
        }
        What::Nothing => Invocation::new(Program::Rm).args(["--recursive", "--force", "--one-file-system", "--"]),
    };
    run(copy, &binds, &invocation.arg(wanted.path))
}

fn run(copy: &WorkingCopy, binds: &[Bind], invocation: &Invocation) -> Result<(), ApplyError> {
    copy.run_with(binds, invocation, Options::capture())?.success().map(drop)?;
    Ok(())
}

/// Whether it is so already. A path that leads through links may be taken for another: then it is written once more, with the same.
fn is_so(copy: &WorkingCopy, wanted: &Wanted<'_>) -> Result<bool, ApplyError> {
    let Some((dir, rest)) = place(copy.parts(), wanted.path) else { return Ok(false) };
    let top = std::fs::File::open(dir).at("open", dir)?;
    let Ok(found) = inside::open_at(&top, &rest, OFlag::O_PATH | OFlag::O_NOFOLLOW) else {
        return Ok(wanted.what == What::Nothing);
    };
    let path = dir.join(&rest);
    let meta = found.metadata().at("look at", &path)?;
    let as_owned = || -> Result<bool, ApplyError> { Ok(kept(copy, wanted)? == Some((meta.mode() & 0o7777, meta.uid(), meta.gid()))) };
    Ok(match wanted.what {
        What::Nothing => false,
        What::Link(target) => meta.is_symlink() && std::fs::read_link(&path).is_ok_and(|is| is == Path::new(target)),
        What::Directory => meta.is_dir() && as_owned()?,
        What::File(content) => meta.is_file() && as_owned()? && holds(&top, &rest, &meta, content),
    })
}

fn holds(top: &std::fs::File, rest: &Path, meta: &Metadata, content: &str) -> bool {
    let mut bytes = Vec::new();
    let opened = inside::open_at(top, rest, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK);
    meta.len() == content.len() as u64
        && opened.is_ok_and(|file| file.take(meta.len() + 1).read_to_end(&mut bytes).is_ok() && bytes == content.as_bytes())
}

/// Mode and numbers of the owner and group that `wanted` names; `None` when the snapshot does not know them.
fn kept(copy: &WorkingCopy, wanted: &Wanted<'_>) -> Result<Option<(u32, u32, u32)>, ApplyError> {
    let (user, group) = wanted.owner.split_once(':').unwrap_or((wanted.owner, wanted.owner));
    let mode = u32::from_str_radix(wanted.mode, 8).ok();
    let (uid, gid) = (number(copy, "passwd", user)?, number(copy, "group", group)?);
    Ok(mode.zip(uid).zip(gid).map(|((mode, uid), gid)| (mode, uid, gid)))
}

fn number(copy: &WorkingCopy, list: &str, name: &str) -> Result<Option<u32>, ApplyError> {
    Ok(entry(copy, list, name)?.and_then(|fields| fields.get(2)?.parse().ok()))
}

/// The fields of the entry `name` of `/etc/LIST`.
pub(super) fn entry(copy: &WorkingCopy, list: &str, name: &str) -> Result<Option<Vec<String>>, ApplyError> {
    let bytes = file::read_if_exists(&copy.parts().etc.join(list))?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let found = text.lines().map(|line| line.split(':').map(str::to_owned).collect::<Vec<_>>()).find(|fields| fields[0] == name);
    Ok(found)
}

/// Whether `path` is there, seen from inside.
pub(super) fn is_there(copy: &WorkingCopy, path: &Path) -> Result<bool, ApplyError> {
    let Some((dir, rest)): Option<(&Path, PathBuf)> = place(copy.parts(), path) else { return Ok(false) };
    let top = std::fs::File::open(dir).at("open", dir)?;
    Ok(inside::open_at(&top, &rest, OFlag::O_PATH | OFlag::O_NOFOLLOW).is_ok())
}
