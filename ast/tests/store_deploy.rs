//! Deploying, promoting and going back, on a real btrfs with a real boot block.

#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod common;

use ast::boot::block::{Mode, Trial};
use ast::boot::booted::Booted;
use ast::deploy::{self, Etc, How, Next, Var};
use ast::grub::install::baked_in;
use ast::id::{ArmId, DeployId};
use ast::layout::Part;
use ast::plan::Step;
use ast::store::machine::Block;
use ast::store::{Locked, StoreError};
use ast::sys::{btrfs, file};
use common::*;

fn run(locked: &mut Locked, plan: ast::plan::Plan) {
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

fn deploy(locked: &mut Locked, number: u32, how: How) -> DeployId {
    let (plan, made) = deploy::plan_deploy(locked, n(number), how, Etc::OfSnapshot).expect("a plan");
    run(locked, plan);
    made
}

fn new(locked: &mut Locked, description: &str) -> u32 {
    let (plan, id) = locked.plan_new(description).expect("a plan");
    run(locked, plan);
    id.get()
}

/// The record of a boot of `d` for the reason `why`.
fn booted(machine: &Machine1, d: DeployId, why: &str, arm: u32) -> Booted {
    let text = format!("d={d}\nwhy={why}\narm={arm}\nleft=2\nenv=ok\n");
    machine.booted(&text);
    Booted::parse(&text)
}

#[test]
fn a_trial_is_armed_and_promoted() {
    if skipped() {
        return;
    }
    for block in [Block::Local, Block::Raw] {
        let machine = Machine1::new(block);
        let mut locked = machine.lock();
        let one = new(&mut locked, "one");
        let two = deploy(&mut locked, one, How::Trial);
        assert_eq!(two, d(2));
        let state = machine.store().block().expect("block");
        assert_eq!((state.good, state.prev, state.arm), (d(1), None, ArmId::new(1)));
        assert_eq!(state.trial, Some(Trial { deployment: d(2), mode: Mode::Trial, tries: 3 }));
        let layout = machine.layout();
        assert!(ast::volumes::is_whole_deployment(&layout, two));
        assert!(!btrfs::is_read_only(&layout.deployment_part(two, Part::Etc)).expect("flags"), "/etc is writable");
        assert!(btrfs::is_read_only(&layout.deployment_etc_base(two)).expect("flags"), "its base is not");
        assert!(btrfs::is_read_only(&layout.var_before(two)).expect("flags"), "s9: /var is kept");
        assert_eq!(deploy::status(&locked).next, Next::Trial { deployment: d(2), left: 3, else_boots: d(1) });
        // GRUB has entries for these, and their titles at hand.
        let titled = |locked: &Locked| {
            let menu = String::from_utf8(file::read(&locked.grub_dir().join("ast/menu.cfg")).expect("the menu")).expect("text");
            let titles = menu.lines().find_map(|line| line.strip_prefix("ast_titles=")).expect("titles").to_owned();
            titles.split('\'').filter_map(|title| title.split(' ').next()?.parse::<u32>().ok()).collect::<Vec<_>>()
        };
        assert_eq!(titled(&locked), [1, 2]);
        drop(locked);

        let record = booted(&machine, two, "trial", 1);
        let mut locked = machine.lock();
        let plan = deploy::plan_promote(&locked, &record).expect("allowed").expect("needed");
        run(&mut locked, plan);
        let state = machine.store().block().expect("block");
        assert_eq!((state.good, state.prev, state.trial, state.arm), (d(2), Some(d(1)), None, ArmId::new(1)));
        assert_eq!(titled(&locked), [2, 1]);
        let baked = baked_in(&locked.grub_dir().join("ast")).expect("read");
        assert_eq!(baked.iter().map(|b| b.good).collect::<Vec<_>>(), [d(2), d(1)]);
        assert!(baked.iter().all(|b| b.env.args() == ["quiet"]));
        assert!(deploy::plan_promote(&locked, &record).expect("allowed").is_none(), "twice is nothing to do");
        assert_eq!(machine.on_disk(), ["set 0.1", "set 1.1", "deployment 1", "deployment 2"]);
    }
}

#[test]
fn b15_the_last_word_of_a_person_counts() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let one = new(&mut locked, "one");
    let two = deploy(&mut locked, one, How::Trial);
    let record = booted(&machine, two, "trial", 1);
    let mut locked = {
        drop(locked);
        machine.lock()
    };
    let three = deploy(&mut locked, 0, How::Trial);
    let refused = deploy::plan_promote(&locked, &record).expect_err("superseded");
    assert!(matches!(refused, StoreError::Superseded { .. }) && refused.is_refusal(), "{refused}");
    assert!(deploy::plan_fail_trial(&locked, two, ArmId::new(1), "x").expect("judged").is_none());
    let state = locked.block().expect("block");
    assert_eq!((state.trial.map(|t| t.deployment), state.arm), (Some(three), ArmId::new(2)));
    assert!(machine.on_disk().contains(&"deployment 2".to_owned()), "s14: it is booted");
    // Chosen by hand, it says nothing about the trial.
    let by_hand = booted(&machine, three, "chosen", 2);
    assert!(matches!(deploy::plan_promote(&locked, &by_hand), Err(StoreError::NotBooted(_))));
    let plan = deploy::plan_fail_trial(&locked, three, ArmId::new(2), "a unit failed").expect("judged").expect("needed");
    run(&mut locked, plan);
    let state = locked.block().expect("block");
    assert_eq!((state.trial, state.arm, state.good), (None, ArmId::new(2), d(1)));
    assert_eq!(deploy(&mut locked, 0, How::Trial), d(4), "s6: the number of the failed one is not given again");
    assert_eq!(locked.block().expect("block").arm, ArmId::new(3), "a spent arming is never armed again");
}

#[test]
fn b2_only_what_booted_well_is_a_fallback() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let one = new(&mut locked, "one");
    let two = deploy(&mut locked, one, How::NoTrial);
    let three = deploy(&mut locked, one, How::NoTrial);
    let state = locked.block().expect("block");
    assert_eq!((state.good, state.prev, state.trial), (three, Some(d(1)), None), "2 never booted");
    let record = booted(&machine, three, "good", 0);
    let mut locked = {
        drop(locked);
        machine.lock()
    };
    let plan = deploy::plan_report_well(&locked, &record).expect("judged").expect("its first report");
    run(&mut locked, plan);
    assert!(machine.layout().deployment_well(three).exists());
    assert!(deploy::plan_report_well(&locked, &record).expect("judged").is_none(), "nothing to write");
    let four = deploy(&mut locked, one, How::NoTrial);
    let state = locked.block().expect("block");
    assert_eq!((state.good, state.prev), (four, Some(three)));
    assert!(!machine.on_disk().contains(&format!("deployment {two}")));
}

/// A kernel's header, as far as it is looked at. Source of the offsets: Linux `Documentation/arch/x86/boot.rst`.
fn kernel(version: &str) -> Vec<u8> {
    let mut image = vec![0; 0x500];
    (image[0x1f1], image[0x1fe], image[0x1ff], image[0x20f]) = (1, 0x55, 0xaa, 3);
    image[0x202..0x206].copy_from_slice(b"HdrS");
    image.extend(version.as_bytes());
    image.extend([0; 0x100]);
    image
}

#[test]
fn b2_a_good_one_that_rotted_is_no_fallback() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let part = |part| machine.layout().set_part(set("0.1"), part);
    for path in [part(Part::Root), part(Part::Boot)] {
        btrfs::set_read_only(&path, false).expect("opened");
    }
    let root = part(Part::Root);
    for dir in ast::layout::MOUNT_POINTS.into_iter().chain(["sbin", "usr/lib/systemd", "usr/lib/modules/6.1"]) {
        std::fs::create_dir_all(root.join(dir)).expect("dir");
    }
    for (name, content) in [("usr/lib/os-release", "ID=arch\n"), ("usr/lib/modules/6.1/modules.dep", "x"), ("sbin/init", "\x7fELF"), ("usr/lib/systemd/systemd", "\x7fELF")] {
        write(&root.join(name), content);
    }
    for name in ["sbin/init", "usr/lib/systemd/systemd"] {
        std::fs::set_permissions(root.join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("mode");
    }
    std::fs::write(part(Part::Boot).join("vmlinuz-linux"), kernel("6.1")).expect("kernel");
    for path in [part(Part::Root), part(Part::Boot)] {
        btrfs::set_read_only(&path, true).expect("sealed");
    }
    let mut locked = machine.lock();
    let [two, three] = [0, 0].map(|number| {
        let made = deploy(&mut locked, number, How::NoTrial);
        file::replace(&machine.layout().deployment_well(made), b"1\n").expect("well");
        made
    });
    let before_the_next = |locked: &Locked| {
        let (plan, _) = deploy::plan_deploy(locked, n(0), How::NoTrial, Etc::OfSnapshot).expect("a plan");
        let ast::plan::Commit::Boot { after, .. } = plan.commit else { panic!("it commits the block") };
        after.prev
    };
    assert_eq!(locked.block().expect("block").prev, Some(two));
    assert_eq!(before_the_next(&locked), Some(three));
    let rotten = machine.layout().deployment_part(three, Part::Root);
    btrfs::set_read_only(&rotten, false).expect("opened");
    std::fs::remove_file(rotten.join("usr/lib/os-release")).expect("removed");
    assert_eq!(before_the_next(&locked), Some(two), "it booted well once, and does not now");
    let also = machine.layout().deployment_part(two, Part::Root);
    btrfs::set_read_only(&also, false).expect("opened");
    std::fs::remove_file(also.join("usr/lib/os-release")).expect("removed");
    assert_eq!(before_the_next(&locked), Some(three), "rather one that booted well than none");
}

#[test]
fn b2_the_one_before_puts_itself_back_after_its_start() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let two = deploy(&mut locked, 0, How::NoTrial);
    drop(locked);
    // GRUB found nothing before the good one but what is baked, and counted in the copy that it read.
    let mut block = machine.store().block().expect("block");
    (block.prev, block.starts, block.cap) = (None, 5, 1);
    machine.medium().write_one(ast::boot::medium::Which::A, &block).expect("written");
    let record = booted(&machine, d(1), "load", 0);
    let mut locked = machine.lock();
    assert!(machine.on_disk().contains(&"deployment 1".to_owned()), "s14: it is booted, though no block names it");
    let plan = deploy::plan_report_well(&locked, &record).expect("judged").expect("needed");
    run(&mut locked, plan);
    let state = locked.block().expect("block");
    assert_eq!((state.good, state.prev, state.starts, state.cap), (two, Some(d(1)), 0, 1));
    assert!(machine.store().copies().expect("copies").agree());
}

#[test]
fn b2_b10_that_the_default_was_left_is_told_and_changes_nothing() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let two = deploy(&mut locked, 0, How::NoTrial);
    let mut block = locked.block().expect("block");
    block.starts = 4;
    machine.medium().write(&block).expect("written");
    drop(locked);
    let reports = |record: &Booted| {
        let mut locked = machine.lock();
        if let Some(plan) = deploy::plan_report_well(&locked, record).expect("judged") {
            run(&mut locked, plan);
        }
        let state = locked.block().expect("block");
        assert_eq!((state.good, state.prev), (two, Some(d(1))), "{record:?}");
        deploy::status(&machine.store()).problems
    };
    let told = |why: &str| vec![format!("degraded: deployment 2, the default, {why}, and deployment 1 runs in its place")];
    // The good one's root is broken: another is mounted in its place, or started once with its own kernel.
    for record in [Booted { wanted: Some(format!("deployment {two}")), ..booted(&machine, d(1), "good", 0) }, booted(&machine, d(1), "once", 0)] {
        file::replace(&machine.root.join("run/ast/booted"), record.to_string().as_bytes()).expect("record");
        assert_eq!(reports(&record), told("cannot be the root"));
    }
    for (why, because) in [("starts", "did not report well for 5 starts"), ("load", "could not be loaded")] {
        assert_eq!(reports(&booted(&machine, d(1), why, 0)), told(because));
    }
    assert_eq!(reports(&booted(&machine, d(1), "chosen", 0)), Vec::<String>::new(), "what somebody chose is no degradation");
}

/// Not what exists: a watchdog that is there may have been left alone, or may have come later. At any other start nothing is armed.
#[test]
fn b14_what_was_armed_for_a_trial_is_told() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    machine.booted("d=1\nwhy=good\nenv=ok\n");
    assert_eq!(deploy::status(&machine.store()).watchdog, Some(false), "b14: hangs are not covered here");
    file::make_dirs(&machine.root.join("dev")).expect("dir");
    write(&machine.root.join("dev/watchdog"), "");
    for (line, hardware, armed) in [
        ("", Some(true), None),
        ("watchdog=none\n", Some(false), Some("none")),
        ("watchdog=Software Watchdog\n", Some(false), Some("Software Watchdog")),
        ("watchdog=i6300ESB timer\n", Some(true), Some("i6300ESB timer")),
    ] {
        machine.booted(&format!("d=1\nwhy=trial\narm=1\nleft=2\nenv=ok\n{line}"));
        let status = deploy::status(&machine.store());
        assert_eq!((status.watchdog, status.watchdog_armed.as_deref()), (hardware, armed), "{line}");
    }
}

#[test]
fn one_start_is_used_up() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let two = deploy(&mut locked, 0, How::Once);
    assert_eq!(deploy::status(&locked).next, Next::Once { deployment: two, then: d(1) });
    let record = booted(&machine, two, "once", 1);
    assert!(matches!(deploy::plan_promote(&locked, &record), Err(StoreError::NotBooted(_))), "never promoted");
    let plan = deploy::plan_report_well(&locked, &record).expect("judged").expect("needed");
    run(&mut locked, plan);
    assert_eq!(locked.block().expect("block").trial, None);
    assert!(!machine.layout().deployment_well(two).exists(), "one start makes no fallback");

    // Where GRUB cannot write, one that came to nothing is still in the block, as is one that was asked for only since.
    let three = deploy(&mut locked, 0, How::Once);
    for (why, arm, over) in [("hash", 2, true), ("nosave", 2, true), ("load", 2, true), ("nosave", 1, false), ("good", 2, false)] {
        let plan = deploy::plan_report_well(&locked, &booted(&machine, d(1), why, arm)).expect("judged");
        let after = plan.map(|plan| match plan.commit {
            ast::plan::Commit::Boot { after, .. } => after.trial,
            _ => panic!("another commit"),
        });
        assert_eq!(after == Some(None), over, "{why} {arm}: {after:?}");
        assert_eq!(locked.block().expect("block").trial.map(|t| t.deployment), Some(three));
    }
}

#[test]
fn a_rollback_keeps_what_is_booted() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let one = new(&mut locked, "disliked");
    let two = deploy(&mut locked, one, How::NoTrial);
    let layout = machine.layout();
    write(&layout.deployment_part(d(1), Part::Etc).join("hostname"), "kiosk");
    booted(&machine, d(1), "chosen", 0);
    let mut locked = {
        drop(locked);
        machine.lock()
    };
    let (plan, saved) = deploy::plan_rollback_snapshot(&locked).expect("a plan");
    run(&mut locked, plan);
    let (plan, three) = deploy::plan_rollback_deploy(&locked, saved, Var::AsItIs).expect("a plan");
    run(&mut locked, plan);
    let state = locked.block().expect("block");
    assert_eq!((state.good, state.prev, state.trial), (three, Some(d(1)), None));
    assert_eq!(text(&layout.deployment_part(three, Part::Etc).join("hostname")), "kiosk");
    let node = locked.tree().expect("tree").get(saved).expect("node").clone();
    assert_eq!((node.description.as_str(), node.parent), ("rollback", None));
    assert_eq!(text(&layout.set_part(node.set(), Part::Var).join("word")), "base var");
    assert!(
        !machine.on_disk().contains(&format!("deployment {two}")) || baked_in(&locked.grub_dir().join("ast")).expect("read").len() == 2
    );

    // From the new one back to the one before it, and nothing is made for that.
    booted(&machine, three, "good", 0);
    let mut locked = {
        drop(locked);
        machine.lock()
    };
    let (plan, back) = deploy::plan_rollback_previous(&locked, Var::AsItIs).expect("a plan");
    assert_eq!(back, d(1));
    run(&mut locked, plan);
    let state = locked.block().expect("block");
    assert_eq!((state.good, state.prev), (d(1), Some(three)));
}

/// What is below `vars`, and whether it is sealed.
fn vars(machine: &Machine1) -> Vec<String> {
    let layout = machine.layout();
    let mut all = Vec::new();
    for d in ast::volumes::vars(&layout).expect("vars") {
        for name in ast::sys::file::names(&layout.var(d)).expect("names") {
            let path = layout.var(d).join(&name);
            let sealed = path.is_dir() && btrfs::is_read_only(&path).expect("flags");
            all.push(format!("{d}/{}{}", name.to_string_lossy(), if sealed { " ro" } else { "" }));
        }
    }
    all
}

#[test]
fn s9_what_was_kept_when_a_trial_was_armed_outlives_its_failure_until_something_newer_is_promoted() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let log = machine.root.join("var/log");
    let one = new(&mut locked, "one");
    for turn in 1..=3u32 {
        write(&log, &format!("before trial {turn}"));
        let two = deploy(&mut locked, one, How::Trial);
        assert_eq!(deploy::status(&locked).kept_vars.last(), Some(&two));
        write(&log, &format!("changed by trial {turn}"));
        let arm = locked.block().expect("block").arm;
        let plan = deploy::plan_fail_trial(&locked, two, arm, "test").expect("judged").expect("on trial");
        run(&mut locked, plan);
        // Twice, so that no menu names it any more.
        drop(locked);
        let again = machine.lock();
        drop(again);
        locked = machine.lock();
        assert_eq!(text(&machine.layout().var_before(two).join("log")), format!("before trial {turn}"));
    }
    // A year of failing updates leaves one.
    let (plan, _) = locked.plan_new("the menus name something else").expect("a plan");
    run(&mut locked, plan);
    assert_eq!(vars(&machine), ["4/armed", "4/before ro"]);
    assert_eq!(deploy::status(&locked).kept_vars, [d(4)]);

    // What was never committed is no trial that failed.
    let layout = machine.layout();
    ast::sys::file::make_dirs(&layout.var(d(9))).expect("dir");
    btrfs::snapshot(&machine.root.join("var"), &layout.var_before(d(9)), btrfs::Access::ReadOnly).expect("kept");
    drop(locked);
    let mut locked = machine.lock();
    assert_eq!(vars(&machine), ["4/armed", "4/before ro"], "{:?}", locked.repaired());

    let five = deploy(&mut locked, one, How::Trial);
    let arm = locked.block().expect("block").arm;
    let record = booted(&machine, five, "trial", arm.get());
    drop(locked);
    let mut locked = machine.lock();
    let look = |locked: &Locked| ast::retain::look(locked, &ast::updates::Updates::default(), &ast::config::autoupdate::Keep::newest(9)).expect("looked");
    let retained = |locked: &Locked| look(locked).vars;
    assert!(retained(&locked).is_empty(), "never in a trial");
    let plan = deploy::plan_promote(&locked, &record).expect("allowed").expect("needed");
    run(&mut locked, plan);
    assert_eq!(retained(&locked), [d(4), five]);
    let plan =
        look(&locked).plan(&locked).expect("a plan").expect("needed");
    run(&mut locked, plan);
    assert!(ast::volumes::vars(&layout).expect("vars").iter().all(|d| !layout.var_before(*d).exists()), "{:?}", vars(&machine));
}

#[test]
fn s9_what_was_kept_is_not_lost_when_the_trial_ends_while_a_document_cannot_be_read() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let layout = machine.layout();
    let mut locked = machine.lock();
    let one = new(&mut locked, "one");
    let two = deploy(&mut locked, one, How::Trial);
    drop(locked);
    // As a power cut right after the commit leaves it.
    ast::sys::file::remove_if_exists(&layout.var_armed(two)).expect("removed");
    let updates = layout.document(ast::layout::UPDATES);
    write(&updates, "{");
    let mut locked = machine.lock();
    assert!(!locked.may_delete());
    let arm = locked.block().expect("block").arm;
    let plan = deploy::plan_fail_trial(&locked, two, arm, "test").expect("judged").expect("on trial");
    run(&mut locked, plan);
    drop(locked);
    ast::sys::file::remove_if_exists(&updates).expect("removed");
    for _ in 0..3 {
        drop(machine.lock());
    }
    assert_eq!(deploy::status(&machine.store()).kept_vars, [two]);
}

#[test]
fn s9_var_is_given_back_only_on_request_and_by_the_next_start() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let log = machine.root.join("var/log");
    write(&log, "old");
    let one = new(&mut locked, "one");
    let two = deploy(&mut locked, one, How::Trial);
    let record = booted(&machine, two, "trial", 1);
    drop(locked);
    let mut locked = machine.lock();
    let plan = deploy::plan_promote(&locked, &record).expect("allowed").expect("needed");
    run(&mut locked, plan);
    write(&log, "new");
    booted(&machine, two, "good", 1);
    drop(locked);
    let mut locked = machine.lock();

    // Not asked for: nothing of it.
    let (plan, _) = deploy::plan_rollback_previous(&locked, Var::AsItIs).expect("a plan");
    assert!(plan.prepare.is_empty(), "{plan}");
    // What is not kept is refused, and what is kept is named.
    let refused = deploy::plan_rollback_previous(&locked, Var::Before(d(7))).expect_err("not kept");
    assert!(refused.is_refusal() && refused.to_string().ends_with("kept is that before deployment 2"), "{refused}");
    // A subvolume of its own with something in it is in no snapshot of /var; an empty one is nothing to lose.
    let nested = machine.root.join("var/machines");
    btrfs::create_subvolume(&nested).expect("nested");
    assert!(deploy::plan_rollback_previous(&locked, Var::OfThatTime).is_ok());
    write(&nested.join("image"), "x");
    assert!(matches!(deploy::plan_rollback_previous(&locked, Var::OfThatTime), Err(StoreError::VarHolds(_))));
    std::fs::remove_file(nested.join("image")).expect("removed");

    // Prepared and never committed, it is garbage.
    let (plan, _) = deploy::plan_rollback_previous(&locked, Var::OfThatTime).expect("a plan");
    let layout = machine.layout();
    ast::sys::file::make_dirs(&layout.var(d(1))).expect("dir");
    btrfs::snapshot(&layout.var_before(two), &layout.var_swap(d(1)), btrfs::Access::Writable).expect("made");
    drop(locked);
    locked = machine.lock();
    assert_eq!(vars(&machine), ["2/armed", "2/before ro"], "{:?}", locked.repaired());

    run(&mut locked, plan);
    assert_eq!(vars(&machine), ["1/swap", "2/armed", "2/before ro"]);
    assert_eq!(text(&log), "new", "nothing changes while the system runs");
    assert_eq!(text(&layout.var_swap(d(1)).join("log")), "old");
    // A second thought: what else is deployed now does not come with it.
    let (plan, _) = deploy::plan_deploy(&locked, n(0), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    run(&mut locked, plan);
    assert!(!layout.var_swap(d(1)).exists(), "{:?}", vars(&machine));
}

#[test]
fn s4_the_menu_says_what_the_steps_before_it_did() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Local);
    let mut locked = machine.lock();
    let number = new(&mut locked, "first");
    let d = deploy(&mut locked, number, How::Trial);
    drop(locked);
    let record = booted(&machine, d, "trial", 1);
    let mut locked = machine.lock();
    let mut plan = deploy::plan_promote(&locked, &record).expect("allowed").expect("needed");
    assert!(matches!(plan.after.first(), Some(Step::MarkWell(_))), "{plan}");
    // Something is prepared as well: what the commit publishes is staged before it has happened.
    plan.prepare.push(Step::Sync);
    run(&mut locked, plan);
    let list = file::read(&locked.grub_dir().join("ast/snapshots.cfg")).expect("a list");
    let text = String::from_utf8_lossy(&list).into_owned();
    assert!(text.lines().any(|line| line.starts_with(&format!("ast_snapshot {number} ")) && line.contains("booted well")), "{text}");
}
