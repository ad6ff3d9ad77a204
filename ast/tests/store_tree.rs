//! The verbs of the tree on a real btrfs, whole and killed at every step.

#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod common;

use ast::layout::Part;
use ast::store::machine::Block;
use ast::tree::draw;
use common::*;

#[test]
fn the_verbs_draw_the_tree() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let (plan, one) = locked.plan_new("one").expect("new");
    assert!(locked.run(plan).expect("run").unfinished.is_empty());
    let (plan, two) = locked.plan_branch(one, "two").expect("branch");
    assert!(locked.run(plan).expect("run").unfinished.is_empty());
    let (plan, _) = locked.plan_cbranch(two, "beside two").expect("cbranch");
    assert!(locked.run(plan).expect("run").unfinished.is_empty());
    let (plan, _) = locked.plan_ubranch(two, n(0), "base below two").expect("ubranch");
    assert!(locked.run(plan).expect("run").unfinished.is_empty());
    let (plan, copies) = locked.plan_clone_tree(one, Some("copy of all")).expect("clone-tree");
    assert!(locked.run(plan).expect("run").unfinished.is_empty());
    assert_eq!(copies.len(), 4);
    let drawn = draw(locked.tree().expect("tree"), &locked.marks());
    let expected = "\
root - root
├── 0*- base snapshot
├── 1 - one
│   ├── 2 - two
│   │   └── 4 - base below two
│   └── 3 - beside two
└── 5 - copy of all
    ├── 6 - two
    │   └── 7 - base below two
    └── 8 - beside two
";
    assert_eq!(drawn, expected);
    let (plan, gone) = locked.plan_del(one).expect("del");
    assert_eq!(gone, [n(1), n(2), n(4), n(3)]);
    assert!(locked.run(plan).expect("run").unfinished.is_empty());
    let expected = ["set 0.1", "set 5.1", "set 6.1", "set 7.1", "set 8.1", "deployment 1"];
    assert_eq!(machine.on_disk(), expected);
    assert!(!machine.layout().link(n(2), Part::Etc).is_symlink(), "its link is gone too");
    assert_eq!(text(&machine.layout().link(n(6), Part::Etc).join("word")), "base etc");
    let (_, next) = locked.plan_new("next").expect("new");
    assert_eq!(next, n(9), "a number is never given again");
}
