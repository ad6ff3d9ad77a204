//! The real code in a child process, killed with SIGKILL at every step of every verb: old or new, and repair clears the rest.

#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod common;

use std::path::Path;

use ast::boot::block::BootBlock;
use ast::deploy::{self, Etc, How, Var};
use ast::grub::menu;
use ast::id::SnapshotId;
use ast::layout::Part;
use ast::plan::Plan;
use ast::store::machine::Block;
use ast::store::{Locked, Store};
use ast::sys::{btrfs, file};
use ast::tree::Tree;
use ast::updates::Updates;
use ast::volumes;
use common::*;

/// More points than any verb has; a verb that never ends is a failure of its own.
const MOST_POINTS: u32 = 80;

/// What a child does, by the word it is given. Does nothing when this process is no child.
#[test]
fn child() {
    let Some((root, what)) = child_task() else { return };
    let mut locked = locked(Store::open(&root).expect("a store"));
    for plan in plans(&locked, &what) {
        let done = locked.run(plan).expect("committed");
        assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
    }
    match what.as_str() {
        "seal" => seal(&mut locked, false),
        "save-etc" => seal(&mut locked, true),
        _ => {}
    }
}

/// The newest snapshot.
fn newest(store: &Store) -> SnapshotId {
    store.tree().expect("tree").nodes().map(|node| node.id).max().expect("the base")
}

fn plans(locked: &Locked, what: &str) -> Vec<Plan> {
    let newest = newest(locked);
    let booted = || locked.booted().cloned().unwrap_or_default();
    match what {
        "new" => vec![locked.plan_new("new").expect("a plan").0],
        "branch" => vec![locked.plan_branch(newest, "branch").expect("a plan").0],
        "clone-tree" => vec![locked.plan_clone_tree(n(1), None).expect("a plan").0],
        "del" => vec![locked.plan_del(newest).expect("a plan").0],
        "desc" => vec![locked.plan_describe(n(1), &format!("described by {}", std::process::id())).expect("a plan")],
        "deploy" => vec![deploy::plan_deploy(locked, n(1), How::Trial, Etc::OfSnapshot).expect("a plan").0],
        "no-trial" => vec![deploy::plan_deploy(locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan").0],
        "promote" => deploy::plan_promote(locked, &booted()).expect("allowed").into_iter().collect(),
        "retain" => ast::retain::look(locked, &Updates::default(), &ast::config::autoupdate::Keep::newest(0)).expect("looked").plan(locked).expect("a plan").into_iter().collect(),
        "with-var" => vec![deploy::plan_rollback_previous(locked, Var::OfThatTime).expect("a plan").0],
        "rollback" => vec![deploy::plan_rollback_snapshot(locked).expect("a plan").0],
        _ => Vec::new(),
    }
}

/// Snapshot 1 in its next generation: a copy of it in `work`, changed and sealed; with the /etc of deployment 1 in it, if wanted.
fn seal(locked: &mut Locked, etc: bool) {
    let from = locked.set_of(n(1)).expect("whole");
    let dir = locked.layout().work_copy(&format!("{}-1-00000000-0", std::process::id()));
    file::make_dirs(&dir).expect("dir");
    for part in Part::ALL {
        btrfs::snapshot(&locked.layout().set_part(from, part), &dir.join(part.name()), btrfs::Access::Writable).expect("copied");
    }
    write(&dir.join("root/word"), &format!("after {from}"));
    let mine = dir.join("mine");
    let (plan, _) = if etc {
        btrfs::snapshot(&locked.layout().deployment_part(d(1), Part::Etc), &mine, btrfs::Access::ReadOnly).expect("copied");
        deploy::plan_save_etc(locked, d(1), &mine, from, &dir).expect("a plan")
    } else {
        locked.plan_seal(from, &dir, "test").expect("a plan")
    };
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

/// What a machine is, for comparing: the commits and nothing that follows from them.
fn state(machine: &Machine1) -> (Tree, BootBlock) {
    let store = machine.store();
    (store.tree().expect("tree").clone(), store.block().expect("a block"))
}

/// What must hold at any instant: everything that tree, block and menus name is there as a whole.
fn assert_bootable(machine: &Machine1, when: &str) {
    let (layout, store) = (machine.layout(), machine.store());
    for node in store.tree().expect("tree").nodes() {
        assert!(volumes::is_whole_set(&layout, node.set()), "{when}: set {} is not whole", node.set());
    }
    let block = store.block().expect("a block");
    for d in [Some(block.good), block.prev, block.trial.map(|t| t.deployment)].into_iter().flatten() {
        assert!(volumes::is_whole_deployment(&layout, d), "{when}: deployment {d} is not whole");
    }
    let dir = store.grub_dir().join("ast");
    for name in ["snapshots", "snapshots.prev"] {
        let read = |suffix: &str| file::read_if_exists(&dir.join(format!("{name}.{suffix}"))).expect("readable");
        let (Some(text), Some(sums)) = (read("cfg"), read("sums")) else { continue };
        // GRUB reads it only if it matches.
        if menu::sums(&format!("{name}.cfg"), &text).as_bytes() != sums {
            continue;
        }
        for line in String::from_utf8(text).expect("text").lines().filter(|l| l.starts_with("ast_snapshot ")) {
            let named = set(line.split(' ').nth(2).expect("a set"));
            assert!(volumes::is_whole_set(&layout, named), "{when}: {name} names {named}, which is not whole");
        }
    }
}

/// What must hold after a repair: nothing but what is named is on disk, links lead to it, and a second repair finds nothing.
fn assert_clean(machine: &Machine1, when: &str) {
    drop(machine.lock());
    let again = machine.lock();
    assert!(again.repaired().mended.is_empty() && again.repaired().problems.is_empty(), "{when}: {:?}", again.repaired());
    let (layout, tree) = (machine.layout(), again.tree().expect("tree"));
    let sets: Vec<_> = volumes::sets(&layout).expect("sets");
    let mut named: Vec<_> = tree.nodes().map(ast::tree::Node::set).collect();
    named.sort();
    assert_eq!(sets, named, "{when}");
    assert!(volumes::work_copies(&layout).expect("copies").is_empty(), "{when}: a dead working copy is left");
    for part in Part::ALL {
        let links = volumes::links(&layout, part).expect("links");
        assert_eq!(links.len(), named.len(), "{when}: links of {part:?}");
        for (id, link) in links {
            let set = tree.set_of(id).expect("a node");
            assert_eq!(std::fs::canonicalize(&link).expect("leads somewhere"), layout.set_part(set, part), "{when}");
        }
    }
    // A /var that waits is one that the good one is to be given.
    for d in volumes::vars(&layout).expect("vars") {
        for swap in volumes::var_swaps(&layout, d).expect("swaps") {
            assert_eq!(d, again.block().expect("a block").good, "{when}: {} waits for nobody", swap.display());
        }
    }
}

/// Kills `what` at each of its points on one machine, which `prepare` brings into a state in which it can be done again.
fn kill_everywhere(what: &str, prepare: impl Fn(&Machine1)) {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Raw);
    drop(machine.child("child", "new", None));
    for at in 0..MOST_POINTS {
        prepare(&machine);
        let before = state(&machine);
        let out = machine.child("child", what, Some(at));
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let killed = !out.status.success();
        let last = said.lines().rfind(|l| l.starts_with("stop point")).unwrap_or_default().to_owned();
        let when = format!("{what} at {last}");
        assert!(!killed || said.contains(&format!("stop point {at}:")), "{what} failed by itself: {said}");
        assert_bootable(&machine, &when);
        let changed = state(&machine) != before;
        let point = last.split_once(": ").map(|(_, name)| name).unwrap_or_default();
        let before_commit = ["prepare:", "before:", "between"].iter().any(|p| point.starts_with(p));
        let after_commit = ["after:", "done"].iter().any(|p| point.starts_with(p));
        assert!(!(before_commit && changed), "{when}: changed before its commit");
        assert!(!after_commit || changed, "{when}: not changed after its commit");
        // Repair itself is killed too, at an early point and a later one.
        for early in [at % 2, at % 5] {
            drop(machine.child("child", "repair", Some(early)));
            assert_bootable(&machine, &format!("{when}, then repair at {early}"));
        }
        let repaired = state(&machine);
        drop(machine.lock());
        assert_eq!(state(&machine), repaired, "{when}: repair changed what is committed");
        assert_clean(&machine, &when);
        if !killed {
            assert!(at > 3, "{what} has only {at} points: {said}");
            return;
        }
    }
    panic!("{what} has more than {MOST_POINTS} points");
}

fn boot_the_trial(machine: &Machine1) {
    let mut locked = machine.lock();
    if locked.boot_block().expect("block").trial.is_none() {
        let (plan, _) = deploy::plan_deploy(&locked, n(1), How::Trial, Etc::OfSnapshot).expect("a plan");
        drop(locked.run(plan).expect("committed"));
    }
    let block = locked.boot_block().expect("block").clone();
    let trial = block.trial.expect("on trial").deployment;
    machine.booted(&format!("d={trial}\nwhy=trial\narm={}\nleft=2\nenv=ok\n", block.arm));
}

#[test]
fn s1_a_snapshot_is_replaced_whole() {
    kill_everywhere("seal", |_| {});
}

#[test]
fn s2_etc_update_is_old_or_new() {
    let first = std::cell::Cell::new(true);
    kill_everywhere("save-etc", |machine| {
        let saved = machine.layout().deployment_etc_saved(d(1));
        if first.replace(false) {
            drop(machine.child("child", "save-etc", None));
        }
        // What was saved once is never not there: an edit that is taken back later would be taken for none.
        assert!(btrfs::is_read_only(&saved).expect("there"), "half of what was saved");
    });
}

#[test]
fn s2_new_branch_and_clone_tree_are_old_or_new() {
    for what in ["new", "branch", "clone-tree"] {
        kill_everywhere(what, |_| {});
    }
}

#[test]
fn s2_del_and_desc_are_old_or_new() {
    kill_everywhere("desc", |_| {});
    kill_everywhere("del", |machine| {
        let mut locked = machine.lock();
        let (plan, _) = locked.plan_branch(n(1), "to be deleted").expect("a plan");
        drop(locked.run(plan).expect("committed"));
    });
}

/// Below snapshot 1 a chain of three updates, something that a person made of the second one, and a `/var` kept for the good one.
fn leave_updates(machine: &Machine1) {
    let mut locked = machine.lock();
    let theirs: Vec<_> = locked.tree().expect("tree").nodes().filter(|node| node.description == "theirs").cloned().collect();
    for node in theirs {
        let updates = locked.tree().expect("tree").nodes().filter(|node| node.by_update).count();
        let parent = node.parent.expect("a parent");
        assert!(updates > 0 || parent == n(1), "what hung below the updates hangs below {parent}");
        let (plan, gone) = locked.plan_del(node.id).expect("a plan");
        assert_eq!(gone, [node.id]);
        drop(locked.run(plan).expect("committed"));
    }
    let mut below = n(1);
    for at in 0..3 {
        let new = update(&mut locked, below);
        if at == 1 {
            let (plan, _) = locked.plan_branch(new, "theirs").expect("a plan");
            drop(locked.run(plan).expect("committed"));
        }
        below = new;
    }
    let kept = locked.layout().var_before(d(1));
    file::make_dirs(&locked.layout().var(d(1))).expect("dir");
    if !kept.exists() {
        btrfs::snapshot(&machine.root.join("var"), &kept, btrfs::Access::ReadOnly).expect("kept");
    }
}

#[test]
fn u8_retention_is_old_or_new_and_repair_finishes_it() {
    kill_everywhere("retain", leave_updates);
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    drop(machine.child("child", "new", None));
    leave_updates(&machine);
    let locked = machine.lock();
    let plan = plans(&locked, "retain").pop().expect("something goes");
    let place = |is: fn(&ast::plan::Step) -> bool| plan.after.iter().position(is).expect("a step");
    let (menu, sync) = (place(|s| matches!(s, ast::plan::Step::Menu)), place(|s| matches!(s, ast::plan::Step::Sync)));
    let (var, collect) = (place(|s| matches!(s, ast::plan::Step::ForgetVar(_))), place(|s| matches!(s, ast::plan::Step::Collect)));
    assert!(menu < sync && sync < var && var < collect, "wrong order:\n{plan}");
}

#[test]
fn s5_deploy_is_old_or_new_and_never_changes_its_source() {
    let source = |machine: &Machine1| listing(&machine.layout().set(set("1.1")));
    for what in ["deploy", "no-trial"] {
        let first = std::cell::RefCell::new(None);
        kill_everywhere(what, |machine| {
            let now = source(machine);
            assert!(!now.is_empty());
            assert_eq!(*first.borrow_mut().get_or_insert_with(|| now.clone()), now, "the source of a deploy was changed");
        });
    }
}

#[test]
fn s2_promote_is_old_or_new() {
    kill_everywhere("promote", boot_the_trial);
}

#[test]
fn s2_rollback_leaves_at_most_a_snapshot_more() {
    kill_everywhere("rollback", |machine| machine.booted("d=1\nwhy=chosen\narm=0\nleft=0\nenv=ok\n"));
}

#[test]
fn s9_giving_var_back_is_part_of_the_rollback_or_nothing_is_left_of_it() {
    let left = std::cell::Cell::new(None);
    kill_everywhere("with-var", |machine| {
        let good = machine.store().block().expect("a block").good;
        if left.get().is_some_and(|left| left != good) {
            assert!(!volumes::var_swaps(&machine.layout(), good).expect("swaps").is_empty(), "rolled back to {good} without its /var");
        }
        boot_the_trial(machine);
        drop(machine.child("child", "promote", None));
        let good = machine.store().block().expect("a block").good;
        left.set(Some(good));
        machine.booted(&format!("d={good}\nwhy=good\narm=0\nleft=0\nenv=ok\n"));
    });
}

/// Verbs of the real program, and what makes a machine ready for each; `@` is the newest snapshot.
#[cfg(feature = "cli")]
const VERBS: [(&[&str], &[&str]); 11] = [
    (&[], &["new", "a tree"]),
    (&[], &["clone", "0"]),
    (&[], &["clone-tree", "1"]),
    (&[], &["branch", "1"]),
    (&[], &["cbranch", "1"]),
    (&[], &["ubranch", "1", "0"]),
    (&["desc", "1", "before"], &["desc", "1", "after"]),
    (&["unpin", "1"], &["pin", "1"]),
    (&["pin", "1"], &["unpin", "1"]),
    (&["branch", "1"], &["del", "@"]),
    (&["clone", "1"], &["del", "@"]),
];

#[test]
#[cfg(feature = "cli")]
fn s2_every_verb_of_the_program_itself_is_old_or_new_wherever_it_is_killed() {
    if skipped() {
        return;
    }
    let mut killed = 0;
    for (ready, verb) in VERBS {
        let machine = Machine1::new(Block::Local);
        drop(machine.child("child", "new", None));
        let ast = |words: &[&str], at: Option<u32>| {
            let newest = newest(&machine.store()).to_string();
            let words = words.iter().map(|word| if *word == "@" { newest.as_str() } else { word });
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ast"));
            command.arg("--sysroot").arg(&machine.root).arg("--yes").args(words);
            command.envs(at.map(|at| ("AST_STOP_AT", at.to_string()))).output().expect("the program")
        };
        for at in 0..=MOST_POINTS {
            assert!(at < MOST_POINTS, "{verb:?} has more than {MOST_POINTS} points");
            if !ready.is_empty() {
                assert!(ast(ready, None).status.success(), "{ready:?}");
            }
            let before = state(&machine);
            let out = ast(verb, Some(at));
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            let when = format!("ast {verb:?} at {at}: {said}");
            assert_bootable(&machine, &when);
            let committed = state(&machine);
            assert_clean(&machine, &when);
            assert_eq!(state(&machine), committed, "{when}");
            if out.status.success() {
                assert!(at > 3 && committed != before, "{when}");
                break;
            }
            assert!(said.contains("stop point"), "{when}");
            killed += 1;
        }
    }
    eprintln!("killed {killed} times");
    assert!(killed > 100, "{killed}");
}

/// Every file below `dir` with everything that a change would change.
fn listing(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut all = Vec::new();
    for name in file::names(dir).expect("names") {
        let path = dir.join(name);
        let meta = std::fs::symlink_metadata(&path).expect("meta");
        all.push(format!(
            "{} {:o} {} {}.{} {}.{}",
            path.display(),
            meta.mode(),
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec()
        ));
        if meta.is_dir() {
            all.extend(listing(&path));
        }
    }
    all
}

#[test]
fn s4_every_plan_syncs_before_its_commit_and_before_it_deletes() {
    if skipped() {
        return;
    }
    use ast::plan::Step;
    let machine = Machine1::new(Block::Local);
    drop(machine.child("child", "new", None));
    boot_the_trial(&machine);
    let locked = machine.lock();
    let words = ["new", "branch", "clone-tree", "deploy", "no-trial", "promote", "rollback", "desc"];
    for plan in words.iter().flat_map(|what| plans(&locked, what)) {
        let place = |steps: &[Step], is: fn(&Step) -> bool| steps.iter().rposition(is);
        if let Some(sync) = place(&plan.prepare, |s| matches!(s, Step::Sync)) {
            let late = plan.prepare.iter().skip(sync + 1).all(|s| matches!(s, Step::Verify(_)));
            assert!(late, "something is made after the sync:\n{plan}");
        } else {
            assert!(plan.prepare.is_empty(), "nothing is synced:\n{plan}");
        }
        let (menu, sync) = (place(&plan.after, |s| matches!(s, Step::Menu)), place(&plan.after, |s| matches!(s, Step::Sync)));
        let collect = place(&plan.after, |s| matches!(s, Step::Collect));
        assert!(menu.is_some() && menu < sync && sync < collect && collect == Some(plan.after.len() - 1), "wrong order:\n{plan}");
    }
}
