//! Account files as entries: three versions of one file become one, field by field.

use std::collections::BTreeMap;

/// How the entries of a file are merged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Fields that are comma lists of members, merged one by one.
    pub members: &'static [usize],
    /// Whether an entry is taken from one side as a whole.
    pub whole: bool,
}

/// The name of an entry, and which of several of that name it is.
type Key<'a> = (&'a str, usize);

/// One version of a file: lines by their name, in their order. Empty lines are none.
#[derive(Debug, Default)]
pub(super) struct Entries<'a> {
    order: Vec<Key<'a>>,
    lines: BTreeMap<Key<'a>, &'a str>,
}

impl<'a> Entries<'a> {
    /// The entries of `text`.
    pub(super) fn of(text: &'a str) -> Self {
        let mut entries = Self::default();
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let name = name_of(line);
            let count = seen.entry(name).or_default();
            entries.order.push((name, *count));
            entries.lines.insert((name, *count), line);
            *count += 1;
        }
        entries
    }

    /// The first line of that name.
    pub(super) fn line(&self, name: &str) -> Option<&'a str> {
        self.lines.get(&(name, 0)).copied()
    }

    /// Names and numbers (the third field), in the order of the file; a name counts once.
    pub(super) fn numbers(&self) -> Vec<(String, u32)> {
        let first = self.order.iter().filter(|(_, count)| *count == 0);
        first.filter_map(|key| Some((key.0.to_owned(), field(self.lines.get(key)?, 2)?.parse().ok()?))).collect()
    }
}

/// The first field of a line.
pub(super) fn name_of(line: &str) -> &str {
    line.split(':').next().unwrap_or(line)
}

/// A field of a line, counted from 0.
pub(super) fn field(line: &str, index: usize) -> Option<&str> {
    line.split(':').nth(index)
}

/// The line with another value in a field that it has.
pub(super) fn with_field(line: &str, index: usize, value: &str) -> String {
    let fields = line.split(':').enumerate().map(|(at, old)| if at == index { value } else { old });
    fields.collect::<Vec<_>>().join(":")
}

/// The merge: whoever changed an entry or a field of it against `base` wins, the device where both did. What one side deleted stays deleted
/// unless the other is the device's own, changed. The packages' order is kept, the device's own entries follow.
pub(super) fn merge(form: Form, base: &Entries<'_>, mine: &Entries<'_>, new: &Entries<'_>) -> Vec<String> {
    let own = mine.order.iter().filter(|key| !new.lines.contains_key(*key));
    let keys = new.order.iter().chain(own);
    keys.filter_map(|key| {
        let (was, my, their) = (base.lines.get(key).copied(), mine.lines.get(key).copied(), new.lines.get(key).copied());
        match (my, their) {
            _ if my == was => their.map(str::to_owned),
            _ if their == was || their == my => my.map(str::to_owned),
            (Some(my), Some(their)) => Some(both(form, was, my, their)),
            (Some(my), None) => Some(my.to_owned()),
            (None, _) => None,
        }
    })
    .collect()
}

/// An entry that both sides have and both changed.
fn both(form: Form, was: Option<&str>, my: &str, their: &str) -> String {
    let split = |line: &str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let (ours, theirs) = (split(my), split(their));
    let before = was.map(split).filter(|before| before.len() == ours.len());
    if form.whole || ours.len() != theirs.len() {
        return my.to_owned();
    }
    let fields = ours.iter().zip(&theirs).enumerate().map(|(index, (my, their))| {
        let was = before.as_ref().and_then(|before| before.get(index));
        match was {
            _ if form.members.contains(&index) => members(was.map_or("", String::as_str), my, their),
            Some(was) if was == my => their.clone(),
            _ => my.clone(),
        }
    });
    fields.collect::<Vec<_>>().join(":")
}

/// The members that either side added, without those that either side removed.
fn members(was: &str, my: &str, their: &str) -> String {
    let list = |text: &str| -> Vec<String> { text.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect() };
    let (was, ours, theirs) = (list(was), list(my), list(their));
    let stays = |member: &String| {
        let (in_ours, in_theirs) = (ours.contains(member), theirs.contains(member));
        if was.contains(member) { in_ours && in_theirs } else { in_ours || in_theirs }
    };
    let added = theirs.iter().filter(|member| !ours.contains(member));
    ours.iter().chain(added).filter(|member| stays(member)).cloned().collect::<Vec<_>>().join(",")
}
