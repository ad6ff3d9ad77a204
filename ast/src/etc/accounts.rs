//! Merging account files by entry: passwd, group, shadow and their like.

use std::collections::BTreeMap;

/// Which field names the members of an entry, as a comma list, by the name of the file.
fn members_field(file: &str) -> Option<usize> {
    match file {
        "group" | "gshadow" => Some(3),
        _ => None,
    }
}

/// The merge of three versions of the file named `file`, and the names of entries that share a number with another.
///
/// Whoever changed an entry against `base` wins, the device where both did; members of a group are merged one by one.
/// The packages' order is kept, the device's own entries follow.
pub(super) fn merge(file: &str, base: &str, mine: &str, new: &str) -> (String, Vec<String>) {
    let (base, ours, theirs) = (entries(base), entries(mine), entries(new));
    let mut result: Vec<String> = Vec::new();
    let order = new.lines().chain(mine.lines()).map(name_of);
    let mut done = std::collections::BTreeSet::new();
    for name in order {
        if !done.insert(name) {
            continue;
        }
        let (was, my, their) = (base.get(name).copied(), ours.get(name).copied(), theirs.get(name).copied());
        let line = match (my, their) {
            _ if my == was => their.map(str::to_owned),
            _ if their == was || their == my => my.map(str::to_owned),
            (Some(my), Some(their)) => Some(match members_field(file) {
                Some(field) => merge_members(field, was.unwrap_or_default(), my, their),
                None => my.to_owned(),
            }),
            // Deleted on one side, changed on the other: an account that someone still cares for stays.
            (one, other) => one.or(other).map(str::to_owned),
        };
        result.extend(line);
    }
    let shared = shared_numbers(file, &result);
    let mut text = result.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    (text, shared)
}

fn name_of(line: &str) -> &str {
    line.split(':').next().unwrap_or(line)
}

fn entries(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter(|line| !line.trim().is_empty()).map(|line| (name_of(line), line)).collect()
}

/// `my` entry with the members that either side added and without those that either side removed.
fn merge_members(field: usize, was: &str, my: &str, their: &str) -> String {
    let list = |line: &str| -> Vec<String> {
        let members = line.split(':').nth(field).unwrap_or_default();
        members.split(',').filter(|member| !member.is_empty()).map(str::to_owned).collect()
    };
    let (was, ours, theirs) = (list(was), list(my), list(their));
    let stays = |member: &String| {
        let (in_was, in_ours, in_theirs) = (was.contains(member), ours.contains(member), theirs.contains(member));
        if in_was { in_ours && in_theirs } else { in_ours || in_theirs }
    };
    let mut members: Vec<String> = ours.iter().filter(|member| stays(member)).cloned().collect();
    members.extend(theirs.iter().filter(|member| !ours.contains(member) && stays(member)).cloned());
    let mut fields: Vec<String> = my.split(':').map(str::to_owned).collect();
    if let Some(value) = fields.get_mut(field) {
        *value = members.join(",");
    }
    fields.join(":")
}

/// Names whose number (third field of passwd and group) an earlier entry has already.
fn shared_numbers(file: &str, lines: &[String]) -> Vec<String> {
    if !matches!(file, "passwd" | "group") {
        return Vec::new();
    }
    let mut seen = std::collections::BTreeSet::new();
    let number = |line: &str| line.split(':').nth(2).and_then(|number| number.parse::<u32>().ok());
    let later = lines.iter().filter(|line| number(line).is_some_and(|number| !seen.insert(number)));
    later.map(|line| name_of(line).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::merge;

    #[test]
    fn u7_accounts_of_both_sides_are_there() {
        let base = "root:x:0:0::/root:/bin/bash\nold:x:5:5::/:/bin/false\nkept:x:6:6::/:/bin/false\n";
        let mine = "root:x:0:0:me:/root:/bin/zsh\nold:x:5:5::/:/bin/false\nuser:x:1000:1000::/home/user:/bin/bash\n";
        let new = "root:x:0:0::/root:/bin/bash\nkept:x:6:6::/:/bin/false\ndaemon:x:81:81::/:/bin/false\n";
        let (text, shared) = merge("passwd", base, mine, new);
        assert_eq!(
            text, "root:x:0:0:me:/root:/bin/zsh\ndaemon:x:81:81::/:/bin/false\nuser:x:1000:1000::/home/user:/bin/bash\n",
            "root as changed here, old removed by packages, kept removed here, each side's new ones"
        );
        assert!(shared.is_empty());
    }

    #[test]
    fn members_are_merged_one_by_one() {
        let (text, _) = merge("group", "wheel:x:10:a,b\n", "wheel:x:10:a,b,me\n", "wheel:x:10:b,pkg\n");
        assert_eq!(text, "wheel:x:10:b,me,pkg\n");
    }

    #[test]
    fn a_number_used_twice_is_told() {
        let (text, shared) = merge("passwd", "", "me:x:970:970::/:/bin/sh\n", "svc:x:970:970::/:/bin/false\n");
        assert_eq!(text.lines().count(), 2);
        assert_eq!(shared, ["me"]);
    }

    #[test]
    fn what_is_no_entry_breaks_nothing() {
        for text in ["", "\n\n", ":::::", "no colon", "a:b\0c:\n"] {
            for file in ["passwd", "group", "shadow"] {
                drop(merge(file, text, "x:y\n", text));
                drop(merge(file, "x:1:2:3\n", text, "x:1:2:4\n"));
            }
        }
    }
}
