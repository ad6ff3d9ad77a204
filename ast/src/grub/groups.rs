//! What a menu of thousands is made of besides the one list: a list of groups, and one file for each, since GRUB takes a third of a millisecond
//! and more for a line, whoever looks at it.
//!
//! The one list stays what host and repair go by, and what GRUB reads when a group is not whole.

use std::fmt::Write as _;

use super::menu::{SnapshotLine, date, quote, snapshot_line};

/// So many are one list: what GRUB reads in a fraction of a second, and a person looks through.
pub const FLAT: usize = 200;
/// Lines of a group.
pub const EACH: usize = 100;
/// Name of the file with the list of groups, without `.cfg`.
pub const GROUPS: &str = "groups";
/// How the names of the others begin.
pub const GROUP: &str = "group-";

/// The files for these lines, by name without `.cfg`, the list of groups last: none where one list will do. Newest numbers first.
pub fn groups(lines: &[SnapshotLine]) -> Vec<(String, String)> {
    if lines.len() <= FLAT {
        return Vec::new();
    }
    let mut sorted: Vec<&SnapshotLine> = lines.iter().collect();
    sorted.sort_by_key(|line| std::cmp::Reverse(line.set));
    let mut files = Vec::new();
    let mut list = String::new();
    for (n, group) in sorted.chunks(EACH).enumerate() {
        let (Some(newest), Some(oldest)) = (group.first(), group.last()) else { continue };
        let days = |line: &SnapshotLine| line.created.map(date).unwrap_or_default();
        let title = format!("{} - {}  {} - {}", newest.set.snapshot, oldest.set.snapshot, days(newest), days(oldest));
        // Writing to a String cannot fail.
        let source = format!("if ast_source {GROUP}{n}; then set ast_nop=0; elif ast_source snapshots; then set ast_nop=0; else ast_source snapshots.prev; fi");
        writeln!(list, "submenu {} --id ast-g{n} --class ast {{ {source} }}", quote(&title)).unwrap_or_default();
        files.push((format!("{GROUP}{n}"), group.iter().map(|line| snapshot_line(line)).collect()));
    }
    files.push((GROUPS.to_owned(), list));
    files
}
