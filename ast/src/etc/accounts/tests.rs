//! The merge of account files: named cases, and random ones against what must hold for any.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn texts(files: &[(&'static str, &str)]) -> Texts {
    files.iter().map(|(name, text)| (*name, (*text).to_owned())).collect()
}

fn merged(file: &'static str, base: &str, mine: &str, new: &str) -> String {
    let merged = merge(&texts(&[(file, base)]), &texts(&[(file, mine)]), &texts(&[(file, new)]));
    merged.texts.get(file).expect("it is there").clone()
}

#[test]
fn u7_accounts_of_both_sides_are_there() {
    let base = "root:x:0:0::/root:/bin/bash\nold:x:5:5::/:/bin/false\nkept:x:6:6::/:/bin/false\n";
    let mine = "root:x:0:0:me:/root:/bin/zsh\nold:x:5:5::/:/bin/false\nuser:x:1000:1000::/home/user:/bin/bash\n";
    let new = "root:x:0:0::/root:/bin/bash\nkept:x:6:6::/:/bin/false\ndaemon:x:81:81::/:/bin/false\n";
    assert_eq!(
        merged("passwd", base, mine, new),
        "root:x:0:0:me:/root:/bin/zsh\ndaemon:x:81:81::/:/bin/false\nuser:x:1000:1000::/home/user:/bin/bash\n",
        "root as changed here, old removed by packages, kept removed here, each side's new ones"
    );
}

#[test]
fn fields_are_judged_apart_and_what_was_deleted_here_stays_so() {
    let base = "a:x:1:1::/:/bin/sh\ngone:x:2:2::/:/bin/sh\nmine:x:3:3::/:/bin/sh\n";
    let mine = "a:x:1:1::/home/a:/bin/sh\nmine:x:3:3:changed:/:/bin/sh\n";
    let new = "a:x:1:1::/:/usr/bin/nologin\ngone:x:2:2::/:/usr/bin/nologin\n";
    assert_eq!(merged("passwd", base, mine, new), "a:x:1:1::/home/a:/usr/bin/nologin\nmine:x:3:3:changed:/:/bin/sh\n");
}

#[test]
fn members_are_merged_one_by_one() {
    assert_eq!(merged("group", "wheel:x:10:a,b\n", "wheel:x:10:a,b,me\n", "wheel:x:10:b,pkg\n"), "wheel:x:10:b,me,pkg\n");
    assert_eq!(merged("gshadow", "wheel:::a\n", "wheel::boss:a,me\n", "wheel::chief:a,pkg\n"), "wheel::boss,chief:a,me,pkg\n");
}

#[test]
fn u7_a_number_that_two_got_stays_with_the_device() {
    let base = texts(&[("passwd", "root:x:0:0::/root:/bin/sh\n"), ("group", "root:x:0:\n"), ("shadow", "root:!:1::::::\n")]);
    let mine = texts(&[
        ("passwd", "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\nsvc:x:970:970::/:/bin/false\n"),
        ("group", "root:x:0:\nalice:x:1000:\nsvc:x:970:alice\n"),
        ("shadow", "root:!:1::::::\nalice:$6$:1::::::\nsvc:!:1::::::\n"),
    ]);
    let new = texts(&[
        ("passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\ndaemon:x:970:971::/:/bin/false\n"),
        ("group", "root:x:0:\nbob:x:1000:\ndaemons:x:971:bob\nextra:x:970:bob\n"),
        ("shadow", "root:!:1::::::\nbob:$6$:1::::::\ndaemon:!:1::::::\n"),
    ]);
    let merged = merge(&base, &mine, &new);
    let lines = |file: &str| merged.texts.get(file).expect("it is there").lines().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(
        lines("passwd"),
        [
            "root:x:0:0::/root:/bin/sh",
            "bob:x:1001:1001::/home/bob:/bin/sh",
            "daemon:x:999:971::/:/bin/false",
            "alice:x:1000:1000::/home/alice:/bin/sh",
            "svc:x:970:970::/:/bin/false"
        ]
    );
    assert_eq!(lines("group"), ["root:x:0:", "bob:x:1001:", "daemons:x:971:bob", "extra:x:999:bob", "alice:x:1000:", "svc:x:970:alice"]);
    assert_eq!(lines("shadow").len(), 5);
    assert_eq!((merged.new.of(1000, 1000), merged.new.of(970, 970), merged.new.of(0, 971)), ((1001, 1001), (999, 999), (0, 971)));
    assert!(merged.mine.is_empty() && merged.shared.is_empty());
    let moved = |group, name: &str, from, to| Moved { group, name: name.into(), from, to };
    assert_eq!(
        merged.moved,
        [moved(true, "bob", 1000, 1001), moved(true, "extra", 970, 999), moved(false, "bob", 1000, 1001), moved(false, "daemon", 970, 999)]
    );
}

#[test]
fn u7_one_account_with_two_numbers_keeps_the_devices() {
    let mine = texts(&[("passwd", "svc:x:970:970::/:/bin/false\n"), ("group", "svc:x:970:\n")]);
    let new = texts(&[("passwd", "svc:x:969:968::/:/bin/false\n"), ("group", "svc:x:968:\n")]);
    let merged = merge(&Texts::new(), &mine, &new);
    assert_eq!((merged.texts.get("passwd"), merged.texts.get("group")), (mine.get("passwd"), mine.get("group")));
    assert_eq!(merged.new.of(969, 968), (970, 970), "what the packages gave to it is still its own");
    assert!(merged.moved.is_empty());
}

#[test]
fn a_number_shared_on_purpose_stays_shared() {
    let mine = "root:x:0:0::/root:/bin/sh\ntoor:x:0:0::/root:/bin/csh\n";
    assert_eq!(merged("passwd", "root:x:0:0::/root:/bin/sh\n", mine, "root:x:0:0::/root:/bin/bash\n").lines().count(), 2);
    assert!(merged("passwd", "", mine, "svc:x:0:0::/:/bin/false\n").contains("svc:x:0:"), "there is no other number like 0");
    let shared = merge(&Texts::new(), &texts(&[("passwd", mine)]), &texts(&[("passwd", "svc:x:0:0::/:/bin/false\n")])).shared;
    assert_eq!(shared, ["passwd"]);
}

#[test]
fn ranges_of_subordinate_numbers_do_not_overlap() {
    let text = merged("subuid", "", "alice:100000:65536\n", "bob:100000:65536\ncarol:300000:10\n");
    assert_eq!(text, "bob:300010:65536\ncarol:300000:10\nalice:100000:65536\n");
}

#[test]
fn an_entry_of_shadow_goes_and_stays_with_its_account() {
    let base = texts(&[("passwd", "x:x:5:5::/:/a\ny:x:6:6::/:/a\n"), ("shadow", "x:!:1::::::\ny:!:1::::::\n")]);
    let mine = texts(&[("passwd", "x:x:5:5::/:/mine\n"), ("shadow", "x:!:1::::::\ny:!:2::::::\n")]);
    let new = texts(&[("passwd", "y:x:6:6::/:/a\n"), ("shadow", "y:!:1::::::\n")]);
    let merged = merge(&base, &mine, &new);
    assert_eq!(merged.texts.get("passwd").map(String::as_str), Some("x:x:5:5::/:/mine\n"));
    assert_eq!(merged.texts.get("shadow").map(String::as_str), Some("x:!:1::::::\n"), "x is kept here, y is deleted here");
}

#[test]
fn what_is_no_entry_breaks_nothing() {
    for text in ["", "\n\n", ":::::", "no colon", "a:b\0c:\n", "a:x:99999999999:1\n", "s:1:18446744073709551615\n"] {
        for file in FILES {
            drop(merged(file, text, "x:y\n", text));
            drop(merged(file, "x:1:2:3\n", text, "x:1:2:4\n"));
            drop(merged(file, "", "s:0:4294967295\n", text));
        }
    }
    assert_eq!(merged("passwd", "", "# mine\na:x:1:1::/:/a\na:x:1:1::/:/b\n", "b:x:2:2::/:/a\n").lines().count(), 4, "doubles stay");
}

/// Users of one side, by name: number, and a word that somebody changes.
type Users = BTreeMap<&'static str, (u32, u8)>;

fn users() -> impl Strategy<Value = Users> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d"), Just("e")];
    prop::collection::btree_map(name, (prop_oneof![Just(970u32), Just(971), Just(1000), Just(1001), Just(1002)], 0..3u8), 0..5)
        // Nobody shares a number on purpose here.
        .prop_map(|users| {
            let mut seen = BTreeSet::new();
            users.into_iter().filter(|(_, (number, _))| seen.insert(*number)).collect()
        })
}

fn files(users: &Users) -> Texts {
    let lines = |line: &dyn Fn(&str, u32, u8) -> String| users.iter().map(|(name, (number, word))| line(name, *number, *word)).collect();
    BTreeMap::from([
        ("passwd", lines(&|name, number, word| format!("{name}:x:{number}:{number}:{word}:/:/bin/sh\n"))),
        ("group", lines(&|name, number, _| format!("{name}:x:{number}:\n"))),
        ("shadow", lines(&|name, _, word| format!("{name}:{word}:1::::::\n"))),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn u7_no_account_is_lost_and_no_number_has_two_owners(base in users(), mine in users(), new in users()) {
        let merged = merge(&files(&base), &files(&mine), &files(&new));
        let table = |file: &str| -> BTreeMap<String, Vec<String>> {
            let text = merged.texts.get(file).expect("it is there");
            text.lines().map(|line| (name_of(line).to_owned(), line.split(':').map(str::to_owned).collect())).collect()
        };
        let (passwd, group, shadow) = (table("passwd"), table("group"), table("shadow"));
        for name in ["a", "b", "c", "d", "e"] {
            let (was, my, their) = (base.get(name), mine.get(name), new.get(name));
            let there = if my == was { their.is_some() } else { my.is_some() };
            prop_assert_eq!(passwd.contains_key(name), there, "{}", name);
            prop_assert_eq!(shadow.contains_key(name), there, "shadow of {}", name);
            let Some(line) = passwd.get(name) else { continue };
            let pick = |field: fn(&(u32, u8)) -> u32| {
                let (was, my, their) = (was.map(field), my.map(field), their.map(field));
                if my.is_none() || (my == was && their.is_some()) { their } else { my }
            };
            prop_assert_eq!(line[4].parse().ok(), pick(|user| u32::from(user.1)), "the word of {}", name);
            // The device's numbers are in its files.
            if my.is_some_and(|my| Some(my.0) == pick(|user| user.0)) {
                prop_assert_eq!(line[2].parse().ok(), my.map(|my| my.0), "the number of {}", name);
            }
            prop_assert_eq!(group.get(name).map(|group| &group[2]), Some(&line[3]), "the group of {}", name);
            let owner = their.map(|their| merged.new.of(their.0, their.0));
            prop_assert!(owner.is_none_or(|(uid, gid)| line[2] == uid.to_string() && line[3] == gid.to_string()), "files of {}", name);
        }
        for table in [&passwd, &group] {
            let numbers: BTreeSet<_> = table.values().map(|line| line[2].clone()).collect();
            prop_assert_eq!(numbers.len(), table.len(), "{:?}", table);
        }
    }
}
