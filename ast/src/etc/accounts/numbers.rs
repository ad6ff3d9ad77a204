//! Numbers of users and groups: one that two got on different sides is given to the device's, whose files are in the shared /home and /var.

use std::collections::{BTreeMap, BTreeSet};

/// Numbers of accounts that people have. Source: `UID_MIN`, `UID_MAX` of login.defs(5).
const PEOPLE: std::ops::RangeInclusive<u32> = 1000..=60_000;
/// Numbers that are given to services, the highest first. Source: `SYS_UID_MIN`, `SYS_UID_MAX` there, and sysusers.d(5).
const SERVICES: std::ops::RangeInclusive<u32> = 500..=999;

/// Numbers by name, of each side.
#[derive(Debug, Default)]
pub(super) struct Sides {
    pub base: BTreeMap<String, u32>,
    pub mine: BTreeMap<String, u32>,
    pub new: BTreeMap<String, u32>,
}

/// What became of the numbers.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Every name with its number.
    pub numbers: BTreeMap<String, u32>,
    /// Names that got another number than they came with.
    pub moved: Vec<(String, u32, u32)>,
    /// Names that share a number with another, and for which there was none left.
    pub shared: Vec<String>,
}

/// No two of `names` have a number that they had not already shared on one side. `liked` is asked first for a new one.
pub(super) fn settle(names: Vec<(String, u32)>, sides: &Sides, liked: impl Fn(&str, u32) -> Option<u32>) -> Settled {
    let mut settled = Settled::default();
    let mut used: BTreeSet<u32> = names.iter().map(|(_, number)| *number).collect();
    used.extend(sides.base.values().chain(sides.mine.values()).chain(sides.new.values()));
    let together = |side: &BTreeMap<String, u32>, a: &str, b: &str| side.get(a).is_some_and(|number| side.get(b) == Some(number));
    let mut numbers: Vec<(String, u32)> = Vec::new();
    for (name, number) in names {
        let clash = |(other, theirs): &(String, u32)| {
            *theirs == number && *other != name && !together(&sides.mine, other, &name) && !together(&sides.new, other, &name)
        };
        let Some(at) = numbers.iter().position(clash) else {
            numbers.push((name, number));
            continue;
        };
        // The device's own keeps its number; of two that have none there, the later one moves.
        let mover = if sides.mine.get(&name) == Some(&number) { numbers.remove(at).0 } else { name.clone() };
        if mover != name {
            numbers.push((name, number));
        }
        let taken = |wanted: &u32| numbers.iter().any(|(_, number)| number == wanted);
        let before = sides.mine.get(&mover).copied().filter(|wanted| !taken(wanted));
        let fresh = || liked(&mover, number).filter(|wanted| !used.contains(wanted)).or_else(|| free(number, &used));
        match before.or_else(fresh) {
            Some(to) => {
                used.insert(to);
                settled.moved.push((mover.clone(), number, to));
                numbers.push((mover, to));
            }
            None => {
                settled.shared.push(mover.clone());
                numbers.push((mover, number));
            }
        }
    }
    settled.numbers = numbers.into_iter().collect();
    settled
}

/// A number of the same kind that nobody has on any side.
fn free(like: u32, used: &BTreeSet<u32>) -> Option<u32> {
    if PEOPLE.contains(&like) {
        return PEOPLE.into_iter().find(|number| !used.contains(number));
    }
    if (1..=*SERVICES.end()).contains(&like) {
        return SERVICES.rev().find(|number| !used.contains(number));
    }
    None
}
