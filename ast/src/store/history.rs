//! `history.jsonl`: a line for each committed operation, the newest last, of bounded length.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::id::{SetId, SnapshotId};
use crate::sys::{SysError, file};
use crate::tree::Later;

/// Lines that are kept, about ten years of a daily update with its trial and its promotion.
pub const KEEP: usize = 10_000;
/// Lines above [`KEEP`] at which the oldest are cut off: rarely, since the whole file is rewritten.
const SLACK: usize = 500;

/// One operation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// When, in seconds since 1970, of a clock that may be wrong.
    pub time: u64,
    /// The command or the service that did it.
    pub by: String,
    /// What was done, in words.
    pub what: String,
    /// Fields of a later version.
    #[serde(flatten)]
    pub later: Later,
}

/// The line is at the end of the history at `path`; the oldest ones are gone when there are too many. One that the disk does not give back is
/// set aside, and begun anew.
///
/// If interrupted: a torn line may be there, which [`read`] passes over.
pub fn append(path: &Path, line: &Line) -> Result<(), SysError> {
    // A string, a number and a map of strings always serialise.
    let text = serde_json::to_string(line).unwrap_or_default();
    let bytes = match file::read_if_exists(path) {
        Err(error) if error.is_unreadable() => {
            tracing::warn!("{error}: it is begun anew");
            file::set_aside(path)?;
            return file::replace(path, format!("{text}\n").as_bytes());
        }
        other => other?.unwrap_or_default(),
    };
    let lines: Vec<&[u8]> = bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()).collect();
    let torn = bytes.last().is_some_and(|b| *b != b'\n');
    if lines.len() < KEEP + SLACK && !torn {
        return file::append_line(path, &text);
    }
    let mut kept = lines.into_iter().rev().take(KEEP - 1).collect::<Vec<_>>();
    kept.reverse();
    let mut all = kept.join(&b'\n');
    all.push(b'\n');
    all.extend_from_slice(text.as_bytes());
    all.push(b'\n');
    file::replace(path, &all)
}

/// The lines of the history at `path`, the newest last. Lines that cannot be read are passed over.
pub fn read(path: &Path) -> Result<Vec<Line>, SysError> {
    let bytes = file::read_if_exists(path)?.unwrap_or_default();
    Ok(bytes.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

impl Line {
    /// Whether the snapshot, or a set of it, is named in what was done. Deployments have numbers too, and so have counts and descriptions.
    pub fn speaks_of(&self, id: SnapshotId) -> bool {
        let said: Vec<&str> = self.what.split('"').next().unwrap_or_default().split_whitespace().collect();
        let mut of_deployments = false;
        said.iter().enumerate().any(|(at, word)| {
            let number = word.trim_matches(|c: char| !c.is_ascii_digit());
            if number.is_empty() {
                of_deployments = word.starts_with("deployment");
            }
            let counts = said.get(at + 1).is_some_and(|next| next.starts_with("snapshots"));
            let names = number.parse() == Ok(id) || number.parse().is_ok_and(|set: SetId| set.snapshot == id);
            names && !of_deployments && !counts
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_speaks_of_the_snapshots_that_it_names() {
        let about = |what: &str| {
            let line = line(what);
            (0..10).filter(|n| line.speaks_of(SnapshotId::new(*n))).collect::<Vec<_>>()
        };
        for (what, ids) in [
            ("clone of 0 as 4", &[0, 4][..]),
            ("branch of 1 as 2 below 1", &[1, 2]),
            ("delete 3, 4, 5", &[3, 4, 5]),
            ("clone of the tree 2, 3 snapshots", &[2]),
            ("describe 1 as \"2 of 3\"", &[1]),
            ("upgrade: 7.2 becomes 7.3", &[7]),
            ("deploy snapshot 4 as deployment 5", &[4]),
            ("retention: delete snapshots 2, 3 and the /var before deployments 4, 5", &[2, 3]),
            ("pin 6", &[6]),
        ] {
            assert_eq!(about(what), ids, "{what}");
        }
    }

    fn line(what: &str) -> Line {
        Line { time: 1, by: "test".into(), what: what.into(), later: Later::new() }
    }

    #[test]
    fn a_torn_line_costs_only_itself() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("history.jsonl");
        append(&path, &line("one")).expect("appended");
        let whole = file::read(&path).expect("read");
        file::replace(&path, &[whole.as_slice(), b"{\"time\":2,\"by\":"].concat()).expect("torn");
        append(&path, &line("three\nlines\n")).expect("appended");
        let what: Vec<String> = read(&path).expect("read").into_iter().map(|l| l.what).collect();
        assert_eq!(what, ["one", "three\nlines\n"]);
    }

    #[test]
    fn the_history_is_bounded() {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("history.jsonl");
        let many = format!("{}\n", serde_json::to_string(&line("old")).expect("json")).repeat(KEEP + SLACK);
        file::replace(&path, many.as_bytes()).expect("many");
        append(&path, &line("new")).expect("appended");
        let lines = read(&path).expect("read");
        assert_eq!((lines.len(), lines.last().map(|l| l.what.as_str())), (KEEP, Some("new")));
    }
}
