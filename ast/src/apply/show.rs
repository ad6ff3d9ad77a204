//! Differences for people: unified diffs of what can be read.

use std::path::Path;

use similar::TextDiff;

use super::{ApplyError, Difference, Kind, place};
use crate::sys::inside;
use crate::work::Parts;

/// Longest file that is shown, in bytes: what a person reads.
const SHOWN: u64 = 256 << 10;
/// Lines around a change, as diff(1) shows.
const CONTEXT: usize = 3;

/// The difference as a unified diff, or a line that says why there is none. What not everybody may read is not shown.
pub fn unified(difference: &Difference, before: &Parts, now: &Parts) -> Result<String, ApplyError> {
    let path = difference.path.display();
    let word = match difference.change {
        Kind::Added => "added",
        Kind::Removed => "removed",
        Kind::Changed => "changed",
    };
    let (Some(old), Some(new)) = (text(before, &difference.path)?, text(now, &difference.path)?) else {
        return Ok(format!("{word} {path}\n"));
    };
    if old == new {
        return Ok(format!("{word} {path} (owner, mode or attributes)\n"));
    }
    let header = |there: bool| if there { path.to_string() } else { "/dev/null".to_owned() };
    let (from, to) = (header(difference.change != Kind::Added), header(difference.change != Kind::Removed));
    Ok(TextDiff::from_lines(&old, &new).unified_diff().context_radius(CONTEXT).header(&from, &to).to_string())
}

/// The content of a text that everybody may read; empty for one that is not there.
fn text(parts: &Parts, path: &Path) -> Result<Option<String>, ApplyError> {
    use std::io::Read as _;
    use std::os::unix::fs::MetadataExt;
    const READ_BY_ALL: u32 = 0o004;
    let Some((dir, rest)) = place(parts, path) else { return Ok(None) };
    match std::fs::symlink_metadata(dir.join(&rest)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(String::new())),
        Ok(meta) if meta.is_file() && meta.len() <= SHOWN && meta.mode() & READ_BY_ALL != 0 => {}
        _ => return Ok(None),
    }
    let mut bytes = Vec::new();
    let read = inside::open_in(dir, &rest)?.read_to_end(&mut bytes);
    Ok(read.ok().and_then(|_| String::from_utf8(bytes).ok()))
}
