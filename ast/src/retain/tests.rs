use std::collections::BTreeSet;

use super::*;
use crate::config::space::Space;
use crate::tree::{Label, Marks, Tree};

fn n(number: u32) -> SnapshotId {
    SnapshotId::new(number)
}

fn ids(numbers: &[u32]) -> BTreeSet<SnapshotId> {
    numbers.iter().copied().map(n).collect()
}

/// When it is judged, in seconds since 1970: day 100.
const NOW: u64 = 100 * DAY;
/// Seconds of a day.
const DAY: u64 = 24 * 3600;

/// Base 0, a person's 1, and a chain of updates 2 … `last` below it.
fn chain(last: u32) -> Tree {
    let label = |text: &str| Label { description: text.to_owned(), created: 0 };
    let mut tree = Tree::new(label("base"));
    tree.add(None, label("kiosk"), None).expect("added");
    for parent in 1..last {
        let new = tree.add(Some(n(parent)), label("update"), None).expect("added");
        tree.made_by_update(new).expect("known");
    }
    tree
}

/// A machine that runs the newest of the chain, with the one before as its fallback.
fn machine(tree: &Tree) -> Situation<'_> {
    let last = tree.nodes().map(|node| node.id.get()).max().expect("a snapshot");
    let marks = Marks { booted: Some(n(last)), default: Some(n(last)), trial: None, fallback: Some(n(last - 1)) };
    let none = BTreeSet::new;
    Situation {
        tree,
        marks,
        trial: false,
        deployed: ids(&[last, last - 1]),
        mounted: none(),
        under_way: None,
        failed: none(),
        unused: none(),
        keep: Keep::newest(3),
        now: NOW,
        short: false,
    }
}

fn going(situation: &Situation<'_>) -> Vec<u32> {
    let judged = judge(situation);
    assert_eq!(judged.iter().map(|j| j.id).collect::<Vec<_>>(), {
        let mut all: Vec<_> = situation.tree.nodes().map(|node| node.id).collect();
        all.sort();
        all
    });
    judged.iter().filter(|j| matches!(j.fate, Fate::Goes(_))).map(|j| j.id.get()).collect()
}

#[test]
fn u8_the_policy_as_a_table() {
    let mut tree = chain(10);
    let plain = tree.clone();
    let cases: Vec<(&str, Situation<'_>, &[u32])> = vec![
        ("the newest three besides default and fallback", machine(&plain), &[2, 3, 4, 5]),
        ("none of them", Situation { keep: Keep::newest(0), ..machine(&plain) }, &[2, 3, 4, 5, 6, 7, 8]),
        ("more than there are", Situation { keep: Keep::newest(100), ..machine(&plain) }, &[]),
        ("an older one runs", Situation { marks: Marks { booted: Some(n(3)), ..machine(&plain).marks }, ..machine(&plain) }, &[2, 4, 5]),
        ("rolled back by two", Situation { marks: Marks { default: Some(n(4)), ..machine(&plain).marks }, ..machine(&plain) }, &[2, 3, 5]),
        ("a menu names one", Situation { deployed: ids(&[2]), ..machine(&plain) }, &[3, 4, 5]),
        ("one is mounted, and counts for nothing", Situation { mounted: ids(&[3, 8]), ..machine(&plain) }, &[2, 4, 5]),
        ("one is about to be deployed", Situation { under_way: Some(n(4)), ..machine(&plain) }, &[2, 3, 5]),
        ("the newest failed one stays beside the recent ones", Situation { failed: ids(&[7]), ..machine(&plain) }, &[2, 3, 4]),
        ("older failed ones go", Situation { failed: ids(&[5, 7, 8]), ..machine(&plain) }, &[2, 5, 7]),
        (
            "failed once, the default by now: it is the newest failed one",
            Situation { failed: ids(&[7, 10]), ..machine(&plain) },
            &[2, 3, 4, 7],
        ),
        ("what was never deployed goes at once", Situation { unused: ids(&[8]), ..machine(&plain) }, &[2, 3, 4, 8]),
        (
            "nothing known to boot: only age counts",
            Situation { marks: Marks::default(), deployed: ids(&[]), ..machine(&plain) },
            &[2, 3, 4, 5, 6, 7],
        ),
    ];
    for (what, situation, gone) in cases {
        assert_eq!(going(&situation), gone, "{what}");
    }
    tree.pin(n(2), true).expect("known");
    tree.describe(n(3), "mine").expect("known");
    assert_eq!(going(&machine(&tree)), [4, 5], "pinned, described by a person");
    tree.set_generation(n(4), crate::id::Generation::new(2)).expect("later");
    assert_eq!(going(&machine(&tree)), [5], "changed by a person");
}

/// As [`chain`], each update made on the day of its number.
fn daily(last: u32) -> Tree {
    let label = |day: u64| Label { description: "update".to_owned(), created: day * DAY };
    let mut tree = Tree::new(label(0));
    tree.add(None, label(1), None).expect("added");
    for parent in 1..last {
        let new = tree.add(Some(n(parent)), label(u64::from(parent) + 1), None).expect("added");
        tree.made_by_update(new).expect("known");
    }
    tree
}

#[test]
fn u8_age_keeps_and_space_takes_but_never_what_is_needed() {
    let tree = daily(10);
    let days = |days: u64| Duration::from_secs(days * DAY);
    let on = |day: u64, keep: Keep, short: bool| Situation { keep, now: day * DAY, short, ..machine(&tree) };
    let within = |updates, within| Keep { within, ..Keep::newest(updates) };
    let full = |updates| Keep { min_free: Some(Space::Percent(10)), ..Keep::newest(updates) };
    // 9 and 10 are needed. What is exactly as old as that is old enough.
    let cases: Vec<(&str, Situation<'_>, &[u32])> = vec![
        ("only what is old goes, however many there are", on(11, within(0, days(5)), false), &[2, 3, 4, 5, 6]),
        ("the count keeps what age does not", on(11, within(3, days(1)), false), &[2, 3, 4, 5]),
        ("all are old", on(1000, within(0, days(5)), false), &[2, 3, 4, 5, 6, 7, 8]),
        ("all are young", on(11, within(0, days(400)), false), &[]),
        ("made in the future: age keeps nothing, the count does", on(5, within(2, days(400)), false), &[6]),
        ("too full, but there is enough that goes anyway", on(11, full(5), true), &[2, 3]),
        ("too full: the oldest of those that would stay, alone", on(11, full(7), true), &[2]),
        ("too full, all are young", on(11, Keep { within: days(400), ..full(0) }, true), &[2]),
        ("too full: a mounted one is passed over", Situation { mounted: ids(&[2]), ..on(11, full(7), true) }, &[3]),
        ("too full: the newest failed one, too", Situation { failed: ids(&[2]), ..on(11, full(7), true) }, &[2]),
        ("too full, on trial", Situation { trial: true, ..on(11, full(7), true) }, &[]),
        ("too full, and all could boot", Situation { deployed: (0..=10).map(n).collect(), ..on(11, full(0), true) }, &[]),
    ];
    for (what, situation, gone) in cases {
        assert_eq!(going(&situation), gone, "{what}");
    }
    let situation = on(11, full(7), true);
    assert_eq!(policy::in_the_way(&situation, &judge(&situation)).collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8].map(n));
}

#[test]
fn u8_nothing_goes_while_something_is_on_trial() {
    let tree = chain(10);
    let trial = Situation { trial: true, keep: Keep::newest(0), failed: ids(&[2, 3]), unused: ids(&[4]), ..machine(&tree) };
    assert_eq!(going(&trial), [0; 0]);
    assert!(judge(&trial).iter().any(|j| j.fate == Fate::Stays(Stays::Trial)));
}

#[test]
fn u8_a_copy_that_a_person_made_of_an_update_stays() {
    let mut tree = chain(10);
    let of = tree.get(n(5)).expect("known").description.clone();
    let copy = tree.add(Some(n(5)), Label { description: of, created: 0 }, None).expect("added");
    let situation = Situation {
        marks: Marks { default: Some(n(10)), ..Marks::default() },
        deployed: ids(&[]),
        keep: Keep::newest(0),
        ..machine(&tree)
    };
    assert!(!going(&situation).contains(&copy.get()));
    for id in going(&situation) {
        tree.take_out(n(id)).expect("taken out");
    }
    assert_eq!(tree.get(copy).map(|node| node.parent), Ok(Some(n(1))), "it hangs below the nearest that stayed");
}
