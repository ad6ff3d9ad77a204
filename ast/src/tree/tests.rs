use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn label(text: &str) -> Label {
    Label { description: text.to_owned(), created: 7 }
}

fn n(number: u32) -> SnapshotId {
    SnapshotId::new(number)
}

fn readme_tree() -> Tree {
    serde_json::from_str(include_str!("../../../tests/fixtures/documents/readme-body.json")).expect("the README's tree")
}

#[test]
fn the_tree_is_drawn_as_in_the_readme() {
    let marks = Marks { default: Some(n(2)), ..Marks::default() };
    let expected = "\
root - root
├── 0 - base snapshot
└── 1 - multiuser system
    └── 4 - applications
        ├── 6 - MATE full desktop
        └── 2*- Plasma full desktop
";
    assert_eq!(draw(&readme_tree(), &marks), expected);
}

#[test]
fn marks_stand_behind_the_description() {
    let mut tree = readme_tree();
    tree.pin(n(6), true).expect("known");
    let marks = Marks { booted: Some(n(6)), default: Some(n(2)), trial: Some(n(4)), fallback: Some(n(1)) };
    let drawn = draw(&tree, &marks);
    for line in ["6 - MATE full desktop [booted, pinned]", "4 - applications [on trial]", "1 - multiuser system [fallback]"] {
        assert!(drawn.contains(line), "no {line:?} in\n{drawn}");
    }
}

#[test]
fn a_hostile_description_stays_one_line() {
    let mut tree = readme_tree();
    tree.describe(n(1), "a\nb\u{1b}[31m\tc\0").expect("known");
    assert_eq!(tree.get(n(1)).expect("known").description, "a b [31m c");
    assert_eq!(draw(&tree, &Marks::default()).lines().count(), 6);
    tree.describe(n(1), &"x".repeat(5000)).expect("known");
    assert_eq!(tree.get(n(1)).expect("known").description.len(), MAX_DESCRIPTION);
}

#[test]
fn s6_numbers_are_never_reused() {
    let mut tree = Tree::new(label("base"));
    let a = tree.add(None, label("a"), None).expect("added");
    tree.remove(a).expect("removed");
    let b = tree.add(None, label("b"), None).expect("added");
    assert_eq!((a, b), (n(1), n(2)));
    assert_eq!(tree.add(Some(b), label("c"), Some(n(9))), Ok(n(10)), "numbers left on disk are passed");
    assert_eq!(tree.add(None, label("d"), Some(n(u32::MAX))), Err(TreeError::NumbersUsedUp("snapshot")));
    assert_eq!(tree.add(None, label("d"), None), Ok(n(11)), "a refusal changes nothing");
}

#[test]
fn the_base_stays() {
    let mut tree = Tree::new(label("base"));
    assert_eq!(tree.remove(n(0)), Err(TreeError::Base("deleted")));
    assert_eq!(tree.remove(n(5)), Err(TreeError::Unknown(n(5))));
}

#[test]
fn a_generation_only_grows() {
    let mut tree = Tree::new(label("base"));
    tree.set_generation(n(0), Generation::new(2)).expect("grows");
    for same_or_less in [1, 2] {
        assert!(tree.set_generation(n(0), Generation::new(same_or_less)).is_err());
    }
}

#[test]
fn hostile_trees_are_refused() {
    let node = |id: u32, parent: &str, kind: &str| {
        format!(r#"{{"id":{id},"generation":1,"parent":{parent},"description":"","created":0,"pinned":false,"kind":"{kind}"}}"#)
    };
    let base = node(0, "null", "base");
    let cases = [
        ("no base", 5, vec![node(1, "null", "snapshot")]),
        ("two bases", 5, vec![base.clone(), node(1, "null", "base")]),
        ("base below another", 5, vec![node(0, "1", "base"), node(1, "null", "snapshot")]),
        ("twice", 5, vec![base.clone(), node(1, "0", "snapshot"), node(1, "0", "snapshot")]),
        ("orphan", 5, vec![base.clone(), node(1, "3", "snapshot")]),
        ("itself", 5, vec![base.clone(), node(1, "1", "snapshot")]),
        ("cycle", 5, vec![base.clone(), node(1, "2", "snapshot"), node(2, "1", "snapshot")]),
        ("next too low", 1, vec![base.clone(), node(1, "0", "snapshot")]),
        ("empty", 1, vec![]),
        ("negative", 5, vec![base.clone(), node(1, "-1", "snapshot")]),
    ];
    for (what, next, nodes) in cases {
        let text = format!(r#"{{"next_snapshot":{next},"nodes":[{}]}}"#, nodes.join(","));
        assert!(serde_json::from_str::<Tree>(&text).is_err(), "{what} was taken for a tree");
    }
}

#[test]
fn s13_fields_of_a_later_version_are_kept() {
    let text = r#"{"next_snapshot":1,"later_key":{"x":1},"nodes":[{"id":0,"generation":3,"parent":null,"description":"b",
        "created":0,"pinned":false,"kind":"base","colour":"blue"}]}"#;
    let mut tree: Tree = serde_json::from_str(text).expect("a tree");
    tree.describe(n(0), "other").expect("known");
    let again = serde_json::to_value(&tree).expect("json");
    assert_eq!(again["nodes"][0]["colour"], "blue");
    assert_eq!(again["later_key"]["x"], 1);
}

#[test]
fn a_damaged_tree_is_recovered_from_its_sets() {
    let set = |text: &str| text.parse::<SetId>().expect("a set");
    let older = readme_tree();
    // 4 was deleted since, 2 has a newer generation, 8 is not known to the older copy.
    let sets = [set("0.1"), set("1.1"), set("6.1"), set("2.2"), set("2.1"), set("8.3")];
    let tree = recover(Some(&older), &sets, 9).expect("a base");
    tree.check().expect("a valid tree");
    assert_eq!(tree.set_of(n(2)), Ok(set("2.2")));
    assert_eq!(tree.get(n(6)).map(|x| x.parent), Ok(Some(n(1))), "children of a lost one go to its parent");
    assert_eq!(tree.get(n(8)).map(|x| (x.parent, x.generation.get())), Ok((None, 3)));
    assert!(tree.next_snapshot() > n(8));
    assert!(tree.get(n(4)).is_err());
    let blind = recover(None, &sets, 9).expect("a base");
    blind.check().expect("a valid tree");
    assert_eq!(blind.nodes().count(), 5);
    assert_eq!(recover(None, &[set("1.1")], 9), None, "without a base nothing is guessed");
}

/// What a tree is, without any of its code: parents by number.
type Model = BTreeMap<u32, Option<u32>>;

fn model_below(model: &Model, top: u32) -> BTreeSet<u32> {
    let mut below = BTreeSet::from([top]);
    while let Some((id, _)) = model.iter().find(|(id, parent)| !below.contains(id) && parent.is_some_and(|p| below.contains(&p))) {
        below.insert(*id);
    }
    below
}

#[test]
fn what_is_taken_out_leaves_its_children_to_its_parent() {
    let mut tree = readme_tree();
    assert_eq!(tree.take_out(n(4)).map(|gone| gone.id), Ok(n(4)));
    let drawn =
        "root - root\n├── 0 - base snapshot\n└── 1 - multiuser system\n    ├── 6 - MATE full desktop\n    └── 2 - Plasma full desktop\n";
    assert_eq!(draw(&tree, &Marks::default()), drawn);
    tree.take_out(n(1)).expect("taken out");
    assert_eq!(tree.children(n(0)).count(), 0);
    assert_eq!(tree.get(n(6)).map(|node| node.parent), Ok(None), "a tree of its own");
    assert_eq!(tree.take_out(n(0)), Err(TreeError::Base("deleted")));
    assert_eq!(tree.take_out(n(4)), Err(TreeError::Unknown(n(4))));
    assert_eq!(tree.add(None, label("next"), None).expect("added").get(), 7, "numbers are never reused");
}

#[test]
fn what_a_person_lays_hands_on_is_no_longer_the_updater_s() {
    let ours = || {
        let mut tree = readme_tree();
        tree.made_by_update(n(4)).expect("known");
        tree
    };
    let read: Tree = serde_json::from_str(&serde_json::to_string(&ours()).expect("json")).expect("a tree");
    assert!(read.get(n(4)).is_ok_and(|node| node.by_update) && read.nodes().filter(|node| node.by_update).count() == 1);
    let mut tree = ours();
    tree.describe(n(4), "mine").expect("known");
    assert!(!tree.get(n(4)).expect("known").by_update);
    let mut tree = ours();
    tree.set_generation(n(4), Generation::new(9)).expect("later");
    assert!(!tree.get(n(4)).expect("known").by_update);
}

proptest! {
    #[test]
    fn s11_walks_never_skip_repeat_or_miss(steps in prop::collection::vec((0u8..5, any::<prop::sample::Index>()), 0..80)) {
        let mut tree = Tree::new(label("base"));
        let mut model: Model = BTreeMap::from([(0, None)]);
        for (what, pick) in steps {
            let ids: Vec<u32> = model.keys().copied().collect();
            let at = *pick.get(&ids);
            match what {
                0 => { model.insert(tree.add(None, label(""), None).unwrap().get(), None); }
                1 | 2 => { model.insert(tree.add(Some(n(at)), label(""), None).unwrap().get(), Some(at)); }
                3 if at != 0 => {
                    let parent = model.remove(&at).flatten();
                    prop_assert_eq!(tree.take_out(n(at)).unwrap().parent.map(SnapshotId::get), parent);
                    model.values_mut().filter(|p| **p == Some(at)).for_each(|p| *p = parent);
                }
                _ if at == 0 => prop_assert!(tree.remove(n(0)).is_err()),
                _ => {
                    let gone: BTreeSet<u32> = tree.remove(n(at)).unwrap().iter().map(|x| x.id.get()).collect();
                    prop_assert_eq!(&gone, &model_below(&model, at));
                    model.retain(|id, _| !gone.contains(id));
                }
            }
            prop_assert!(tree.check().is_ok());
        }
        let walked: Vec<u32> = tree.walk().map(|v| v.node.id.get()).collect();
        let once: BTreeSet<u32> = walked.iter().copied().collect();
        prop_assert_eq!(once.len(), walked.len(), "repeated");
        prop_assert_eq!(&once, &model.keys().copied().collect::<BTreeSet<_>>(), "skipped or missed");
        let place = |id: u32| walked.iter().position(|w| *w == id);
        for (id, parent) in &model {
            if let Some(parent) = parent {
                prop_assert!(place(*parent) < place(*id), "{} came before its parent {}", id, parent);
            }
            let below: BTreeSet<u32> = tree.walk_from(n(*id)).unwrap().map(|v| v.node.id.get()).collect();
            prop_assert_eq!(below, model_below(&model, *id));
            prop_assert_eq!(tree.children(n(*id)).count(), model.values().filter(|p| **p == Some(*id)).count());
        }
        prop_assert_eq!(draw(&tree, &Marks::default()).lines().count(), model.len() + 1);
        let again: Tree = serde_json::from_str(&serde_json::to_string(&tree).unwrap()).unwrap();
        prop_assert_eq!(again, tree);
    }
}
