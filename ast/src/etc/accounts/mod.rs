//! Merging the account files, all together: an entry of one is spoken of in the others, and numbers own files.
//!
//! Text is taken byte by byte (a byte is a character here), so that a name in any encoding comes through.

mod entries;
mod numbers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use entries::{Entries, Form, field, merge as merge_entries, name_of, with_field};
use numbers::{Settled, Sides, settle};

/// The files, below /etc. Source: passwd(5), group(5), shadow(5), gshadow(5), subuid(5), subgid(5).
pub(super) const FILES: [&str; 6] = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];

/// The text of each file that there is, by its name.
pub(super) type Texts = BTreeMap<&'static str, String>;

/// Numbers of one side that mean another one after the merge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Owners {
    users: BTreeMap<u32, u32>,
    groups: BTreeMap<u32, u32>,
}

impl Owners {
    /// What became of the user and the group with these numbers.
    pub(super) fn of(&self, uid: u32, gid: u32) -> (u32, u32) {
        (self.users.get(&uid).copied().unwrap_or(uid), self.groups.get(&gid).copied().unwrap_or(gid))
    }

    /// Whether all numbers mean what they did.
    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty() && self.groups.is_empty()
    }
}

/// An account that has another number than it came with, since the device had given that one to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// Whether it is a group.
    pub group: bool,
    /// Its name.
    pub name: String,
    /// The number it came with.
    pub from: u32,
    /// The number it has.
    pub to: u32,
}

/// What the account files become.
#[derive(Debug, Default)]
pub(super) struct Merged {
    pub texts: Texts,
    pub moved: Vec<Moved>,
    /// Files in which two entries share a number that could not be changed.
    pub shared: Vec<&'static str>,
    pub base: Owners,
    pub mine: Owners,
    pub new: Owners,
}

/// The merge of three versions of the files; a file that a side lacks is empty there.
pub(super) fn merge(base: &Texts, mine: &Texts, new: &Texts) -> Merged {
    let mut merged = Merged::default();
    // The group of a user is a name: its number may have changed on the way.
    let [base_users, mine_users, new_users] = [base, mine, new].map(|side| named_groups(get(side, "passwd"), get(side, "group")));
    let users = merge_entries(FORM_PLAIN, &Entries::of(&base_users), &Entries::of(&mine_users), &Entries::of(&new_users));
    let groups = with_groups_of(&users, one(base, mine, new, "group"), [mine, new, base]);
    let (groups, gids) = renumbered(groups, base, mine, new, "group", |_, _| None);
    let number_of = |name: &str| {
        let side = |texts: &Texts| Entries::of(get(texts, "group")).numbers().into_iter().find(|(group, _)| group == name);
        gids.numbers.get(name).copied().or_else(|| [new, mine, base].into_iter().find_map(side).map(|(_, number)| number))
    };
    let users: Vec<String> = users.iter().map(|line| numbered_group(line, number_of)).collect();
    // A user and the group of that name had one number; they still have, if they can.
    let liked = |name: &str, from: u32| gids.moved.iter().find(|(group, was, _)| group == name && *was == from).map(|(_, _, to)| *to);
    let (users, uids) = renumbered(users, base, mine, new, "passwd", liked);

    let owners = |side: &Texts| Owners { users: changed(side, "passwd", &uids), groups: changed(side, "group", &gids) };
    (merged.base, merged.mine, merged.new) = (owners(base), owners(mine), owners(new));
    for (file, settled, group) in [("group", gids, true), ("passwd", uids, false)] {
        merged.moved.extend(settled.moved.into_iter().map(|(name, from, to)| Moved { group, name, from, to }));
        merged.shared.extend((!settled.shared.is_empty()).then_some(file));
    }
    let mut results = BTreeMap::from([("group", groups), ("passwd", users)]);
    for (file, of) in [("shadow", "passwd"), ("gshadow", "group")] {
        let lines = companions(one(base, mine, new, file), [base, mine, new], file, of, results.get(of));
        results.insert(file, lines);
    }
    for file in ["subuid", "subgid"] {
        let (lines, shared) = apart(one(base, mine, new, file), get(mine, file), get(new, file));
        merged.shared.extend(shared.then_some(file));
        results.insert(file, lines);
    }
    merged.texts = results.into_iter().map(|(file, lines)| (file, text(&lines, get(mine, file), get(new, file)))).collect();
    merged
}

const FORM_PLAIN: Form = Form { members: &[], whole: false };

fn get<'a>(texts: &'a Texts, file: &str) -> &'a str {
    texts.get(file).map_or("", String::as_str)
}

/// One file by its entries.
fn one(base: &Texts, mine: &Texts, new: &Texts, file: &str) -> Vec<String> {
    let form = match file {
        "group" => Form { members: &[3], whole: false },
        "gshadow" => Form { members: &[2, 3], whole: false },
        "subuid" | "subgid" => Form { members: &[], whole: true },
        _ => FORM_PLAIN,
    };
    merge_entries(form, &Entries::of(get(base, file)), &Entries::of(get(mine, file)), &Entries::of(get(new, file)))
}

/// The lines of `file` with numbers that nobody else has, and which these are.
fn renumbered(
    lines: Vec<String>,
    base: &Texts,
    mine: &Texts,
    new: &Texts,
    file: &str,
    liked: impl Fn(&str, u32) -> Option<u32>,
) -> (Vec<String>, Settled) {
    let of = |side: &Texts| Entries::of(get(side, file)).numbers().into_iter().collect();
    let sides = Sides { base: of(base), mine: of(mine), new: of(new) };
    let joined = lines.join("\n");
    let settled = settle(Entries::of(&joined).numbers(), &sides, liked);
    let number = |line: &String| match settled.moved.iter().find(|(name, ..)| name == name_of(line)) {
        Some((_, from, to)) if field(line, 2) == Some(&from.to_string()) => with_field(line, 2, &to.to_string()),
        _ => line.clone(),
    };
    (lines.iter().map(number).collect(), settled)
}

/// Numbers of one side whose first owner has another one now.
fn changed(side: &Texts, file: &str, settled: &Settled) -> BTreeMap<u32, u32> {
    let mut seen = BTreeSet::new();
    let mut map = BTreeMap::new();
    for (name, number) in Entries::of(get(side, file)).numbers() {
        if let (true, Some(now)) = (seen.insert(number), settled.numbers.get(&name))
            && *now != number
        {
            map.insert(number, *now);
        }
    }
    map
}

/// The users with `@NAME` for the number of a group that is known (no number begins so).
fn named_groups(users: &str, groups: &str) -> String {
    let mut names: BTreeMap<u32, String> = BTreeMap::new();
    for (name, number) in Entries::of(groups).numbers() {
        names.entry(number).or_insert(name);
    }
    let line = |line: &str| match field(line, 3).and_then(|gid| names.get(&gid.parse().ok()?)) {
        Some(name) => with_field(line, 3, &format!("@{name}")),
        None => line.to_owned(),
    };
    users.lines().map(|text| line(text) + "\n").collect()
}

/// The groups, with the first group of every user: one that went while its user was kept comes back from the first side that has it.
fn with_groups_of(users: &[String], mut groups: Vec<String>, sides: [&Texts; 3]) -> Vec<String> {
    for name in users.iter().filter_map(|line| field(line, 3)?.strip_prefix('@')) {
        if !groups.iter().any(|line| name_of(line) == name) {
            groups.extend(sides.iter().find_map(|side| Entries::of(get(side, "group")).line(name)).map(str::to_owned));
        }
    }
    groups
}

fn numbered_group(line: &str, number_of: impl Fn(&str) -> Option<u32>) -> String {
    match field(line, 3).and_then(|gid| gid.strip_prefix('@')).and_then(number_of) {
        Some(number) => with_field(line, 3, &number.to_string()),
        None => line.to_owned(),
    }
}

/// `file` has an entry for what `of` has and any side had one for, and none for what is gone from `of`.
fn companions(lines: Vec<String>, sides: [&Texts; 3], file: &str, of: &str, main: Option<&Vec<String>>) -> Vec<String> {
    let names: Vec<&str> = main.into_iter().flatten().map(|line| name_of(line)).collect();
    let was_known = |name: &str| sides.iter().any(|side| Entries::of(get(side, of)).line(name).is_some());
    let mut lines: Vec<String> = lines.into_iter().filter(|line| names.contains(&name_of(line)) || !was_known(name_of(line))).collect();
    let there: BTreeSet<String> = lines.iter().map(|line| name_of(line).to_owned()).collect();
    let [base, mine, new] = sides.map(|side| Entries::of(get(side, file)));
    for name in names.into_iter().filter(|name| !there.contains(*name)) {
        let mains = sides.map(|side| Entries::of(get(side, of)).line(name).is_some());
        // Without one on purpose: the side that has the account has no entry for it.
        let kept = [(mains[1], &mine), (mains[2], &new), (mains[0], &base)].into_iter().find(|(is, _)| *is);
        lines.extend(kept.and_then(|(_, entries)| entries.line(name)).map(str::to_owned));
    }
    lines
}

/// Ranges of subordinate numbers that only the packages have are beside those of the device, and whether one could not be moved.
fn apart(lines: Vec<String>, mine: &str, new: &str) -> (Vec<String>, bool) {
    let range = |line: &str| -> Option<(u64, u64)> { Some((field(line, 1)?.parse().ok()?, field(line, 2)?.parse().ok()?)) };
    let overlap = |a: &str, b: &str| match (range(a), range(b)) {
        (Some((start, count)), Some((other, length))) => start < other.saturating_add(length) && other < start.saturating_add(count),
        _ => false,
    };
    let (ours, theirs): (Vec<&str>, Vec<&str>) = (mine.lines().collect(), new.lines().collect());
    let together = |a: &str, b: &str| [&ours, &theirs].iter().any(|side| side.contains(&a) && side.contains(&b));
    let end = |line: &str| range(line).map_or(0, |(start, count)| start.saturating_add(count));
    let mut beyond = lines.iter().map(String::as_str).chain(ours.iter().copied()).chain(theirs.iter().copied()).map(end).max().unwrap_or(0);
    let mut shared = false;
    let moved = lines.iter().map(|line| {
        let clash = |other: &&String| name_of(other) != name_of(line) && overlap(line, other) && !together(line, other);
        if ours.contains(&line.as_str()) || !lines.iter().any(|other| clash(&other)) {
            return line.clone();
        }
        let count = range(line).map_or(0, |(_, count)| count);
        // The last number is no user's: it is the error value of the system calls.
        if beyond.saturating_add(count) >= u64::from(u32::MAX) {
            shared = true;
            return line.clone();
        }
        let start = beyond;
        beyond += count;
        with_field(line, 1, &start.to_string())
    });
    let lines = moved.collect();
    (lines, shared)
}

/// The file; where it says just what one side says, as that side says it.
fn text(lines: &[String], mine: &str, new: &str) -> String {
    let sorted = |lines: Vec<&str>| {
        let mut lines: Vec<_> = lines.into_iter().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let here = sorted(lines.iter().map(String::as_str).collect());
    for side in [mine, new] {
        if here == sorted(side.lines().collect()) {
            return side.to_owned();
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}
