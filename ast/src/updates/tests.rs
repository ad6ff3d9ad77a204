use std::collections::BTreeMap;

use proptest::prelude::*;

use super::blocks::{block, decide};
use super::*;
use crate::boot::block::{Mode, Trial};
use crate::boot::stage::{Reached, Stage};
use crate::cmdline::Why;
use crate::id::{ArmId, DeployId, Generation, SetId, SnapshotId};

const DAY: u64 = 86_400;

fn set(n: u32) -> SetId {
    SetId { snapshot: SnapshotId::new(n), generation: Generation::new(1) }
}

fn upgrade(name: &str, from: &str, to: &str) -> Change {
    Change { name: name.into(), from: Some(from.into()), to: Some(to.into()) }
}

/// A machine that boots deployment 1 of set 1 and was told nothing.
fn facts() -> Facts {
    Facts {
        request: Request::Timer,
        jitter: 0,
        booted: Some(DeployId::new(1)),
        why: Some(Why::Good),
        another_root: false,
        good: DeployId::new(1),
        prev: None,
        good_set: None,
        trial: None,
        arm: ArmId::new(0),
        trial_set: None,
        trial_changes: None,
        stage: Stage::default(),
        parent: set(1),
        ours: vec![],
        good_well: true,
        spare: false,
        undeleted: vec![],
        paused: false,
    }
}

fn stage(arm: u32, reached: Reached) -> Stage {
    Stage { arm: Some(ArmId::new(arm)), reached, ..Stage::default() }
}

fn trial(d: u32, tries: u8) -> Option<Trial> {
    Some(Trial { deployment: DeployId::new(d), mode: Mode::Trial, tries })
}

fn v2() -> Changes {
    Changes::new(vec![upgrade("linux", "1", "2"), upgrade("hello", "1", "2")])
}

fn candidate() -> Candidate {
    Candidate { parent: set(1), changes: v2() }
}

fn awaiting() -> State {
    State::AwaitingReboot { update: candidate(), set: set(2), d: DeployId::new(2), arm: ArmId::new(1), since: Age(0) }
}

#[test]
fn u9_an_arming_of_what_somebody_else_made_is_not_ours() {
    let (d, arm) = (DeployId::new(2), ArmId::new(1));
    let ours = State::Deploying { update: candidate(), set: set(2), d, arm };
    for state in [ours, awaiting()] {
        assert!(state.is_about(d, arm, Some(set(2))) && state.is_about(d, arm, None));
        assert!(!state.is_about(d, arm, Some(set(3))), "the numbers went to another set: {state:?}");
        assert!(!state.is_about(DeployId::new(3), arm, Some(set(2))) && !state.is_about(d, ArmId::new(2), Some(set(2))));
    }
}

fn on_trial(healthy: Option<bool>) -> State {
    let (d, arm) = (DeployId::new(2), ArmId::new(1));
    State::OnTrial { update: Some(candidate()), set: Some(set(2)), d, arm, healthy }
}

fn at(state: State) -> Updates {
    let mut updates = Updates { state, ..Updates::default() };
    updates.clock.tick("first", 1000);
    updates
}

fn begin(updates: Updates, facts: Facts) -> (Updates, Vec<Effect>) {
    updates.step(Event::Begin(Box::new(facts))).expect("Begin is never refused")
}

fn end_of(effects: &[Effect]) -> &Ended {
    match effects.last() {
        Some(Effect::End(ended)) => ended,
        other => panic!("expected an end, got {other:?}"),
    }
}

#[test]
fn the_way_of_a_good_update() {
    let (machine, effects) = begin(at(State::Idle), facts());
    assert_eq!((machine.state.name(), effects), ("checking", vec![Effect::Check(set(1))]));
    let (d, arm) = (DeployId::new(2), ArmId::new(1));
    let way = [
        (Event::Checked(v2()), "upgrading", Effect::Upgrade(set(1))),
        (Event::Upgraded(v2()), "upgrading", Effect::Verify),
        (Event::Whole, "upgrading", Effect::PlanSeal),
        (Event::SealPlanned(SnapshotId::new(2)), "sealing", Effect::CommitSeal),
        (Event::Sealed(set(2)), "verified", Effect::PlanDeploy(set(2))),
        (Event::DeployPlanned { d, arm }, "deploying", Effect::CommitDeploy),
        (Event::Armed, "awaiting-reboot", Effect::AskReboot),
        (Event::RebootAllowed, "awaiting-reboot", Effect::Reboot),
        (Event::Gate { d, arm, set: Some(set(2)), healthy: true, evidence: vec![] }, "on-trial", Effect::Promote { d, arm }),
    ];
    let mut machine = machine;
    for (event, name, effect) in way {
        let (next, effects) = machine.step(event).expect("the way of a good update");
        assert_eq!((next.state.name(), effects), (name, vec![effect]));
        // What is on disk is enough to go on.
        let json = serde_json::to_string(&next).expect("a document");
        let read: Updates = serde_json::from_str(&json).expect("our own document");
        assert_eq!(read.state, next.state);
        machine = next;
    }
    let (machine, _) = machine.step(Event::Promoted).expect("promoted");
    assert_eq!(machine.state, State::Idle);
    assert_eq!(machine.verdicts.iter().map(|v| v.result).collect::<Vec<_>>(), [TrialResult::Promoted]);
    assert!(machine.blocked.is_empty() && machine.degraded.is_none());
}

#[test]
fn u2_nothing_new_leaves_nothing_behind() {
    let (machine, _) = begin(at(State::Idle), facts());
    let (machine, effects) = machine.step(Event::Checked(Changes::default())).expect("nothing new");
    assert_eq!(machine.state, State::Idle);
    assert_eq!(end_of(&effects).text, "up to date");
}

#[test]
fn a_failed_trial_is_judged_blocked_and_cleared_once() {
    let causes = [
        (Why::Exhausted, 0, Stage::default(), Cause::Kernel),
        (Why::Exhausted, 0, stage(1, Reached::Initramfs), Cause::Initramfs),
        (Why::Exhausted, 0, stage(1, Reached::Userspace), Cause::Userspace),
        (Why::Exhausted, 0, stage(7, Reached::Userspace), Cause::Kernel),
        (Why::Hash, 2, Stage::default(), Cause::Damaged),
        (Why::Load, 2, Stage::default(), Cause::NotLoaded),
    ];
    for (why, tries, stage, cause) in causes {
        let facts = Facts {
            why: Some(why),
            trial: trial(2, tries),
            arm: ArmId::new(1),
            stage,
            trial_set: Some(set(2)),
            trial_changes: Some(v2()),
            ..facts()
        };
        let (machine, effects) = begin(at(awaiting()), facts.clone());
        let clear = Effect::ClearTrial { d: DeployId::new(2), arm: ArmId::new(1) };
        assert_eq!(effects, vec![clear.clone()], "{why:?}");
        assert_eq!(machine.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [cause], "{why:?}");
        assert!(machine.degraded.as_ref().is_some_and(|d| d.contains(&cause.to_string())), "{:?}", machine.degraded);
        // Killed before the block was written: the same again, and nothing counted twice.
        let (again, effects) = begin(machine.clone(), facts);
        assert_eq!((effects, &again.blocked, again.verdicts.len()), (vec![clear], &machine.blocked, 1));
        let (machine, effects) = again.step(Event::TrialCleared).expect("cleared");
        assert_eq!(machine.state, State::Idle);
        assert!(end_of(&effects).attention && machine.degraded.is_some());
    }
}

#[test]
fn u1_what_pacman_refuses_is_remembered_and_not_tried_again_until_it_changes() {
    let (machine, _) = begin(at(State::Upgrading { update: candidate() }), facts());
    let machine = Updates { state: State::Upgrading { update: candidate() }, ..machine };
    let why = vec!["a file is in the way".to_owned(), "hello: /usr/bin/hello exists in filesystem".to_owned()];
    let (machine, effects) = machine.step(Event::Rejected(why)).expect("refused");
    assert!(end_of(&effects).attention && end_of(&effects).text.contains("exists in filesystem"), "{effects:?}");
    let blocked: Vec<_> = machine.blocked.iter().map(|b| (b.cause, b.suspects.summary())).collect();
    assert_eq!(blocked, [(Cause::Rejected, "hello 1 -> 2".to_owned())], "no start was tried, so the kernel is not suspected");
    assert_eq!(serde_json::to_value(Cause::Rejected).expect("a word"), "rejected");
    let offered = |changes| {
        let (machine, _) = begin(Updates { retry: Default::default(), ..machine.clone() }, facts());
        machine.step(Event::Checked(changes)).expect("checked").1
    };
    assert!(end_of(&offered(v2())).text.starts_with("not trying"));
    // What was to blame has changed; what was not has not.
    let mended = Changes::new(vec![upgrade("linux", "1", "2"), upgrade("hello", "1", "3")]);
    assert!(matches!(offered(mended).as_slice(), [Effect::Upgrade(_)]));
}

#[test]
fn a_machine_that_cannot_count_blames_no_package() {
    let facts = Facts { why: Some(Why::NoSave), trial: trial(2, 3), arm: ArmId::new(1), ..facts() };
    let (machine, _) = begin(at(awaiting()), facts);
    assert!(machine.blocked.is_empty() && machine.retry.attempts == 1 && machine.degraded.is_some());
}

#[test]
fn b4_a_boot_loader_that_passes_a_trial_over_is_not_asked_for_ever() {
    let armed = Facts { trial: trial(2, 3), arm: ArmId::new(1), trial_set: Some(set(2)), ..facts() };
    let restarted = || {
        let mut machine = at(awaiting());
        machine.clock.tick("second", 60);
        machine
    };
    for why in [Why::Good, Why::Baked] {
        let facts = Facts { why: Some(why), ..armed.clone() };
        let (machine, effects) = begin(restarted(), facts.clone());
        assert_eq!(effects, vec![Effect::ClearTrial { d: DeployId::new(2), arm: ArmId::new(1) }]);
        assert!(machine.blocked.is_empty() && !machine.due(), "no package is to blame, and the next attempt waits");
        // Before the restart, and for what a person armed, it says nothing.
        assert_eq!(begin(at(awaiting()), facts.clone()).1, vec![Effect::AskReboot]);
        let theirs = Facts { trial: trial(9, 3), arm: ArmId::new(7), trial_set: Some(set(9)), ..facts };
        assert!(matches!(begin(restarted(), theirs).1.as_slice(), [Effect::End(_)]));
    }
    // The default was picked in the menu: that is a person's choice.
    let (machine, _) = begin(restarted(), Facts { why: Some(Why::Chosen), ..armed });
    assert_eq!(machine.state, awaiting());
}

#[test]
fn b9_a_trial_that_the_initramfs_replaced_is_judged_and_the_one_start_is_cleared() {
    let once = Some(Trial { deployment: DeployId::new(1), mode: Mode::Once, tries: 0 });
    let mut marks = stage(1, Reached::Initramfs);
    marks.add_evidence("initramfs: deployment 2: it has no init");
    let facts = Facts { why: Some(Why::Once), trial: once, arm: ArmId::new(2), stage: marks, ..facts() };
    let (machine, effects) = begin(at(awaiting()), facts);
    assert_eq!(effects, vec![Effect::ClearTrial { d: DeployId::new(1), arm: ArmId::new(2) }]);
    assert_eq!(machine.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [Cause::Initramfs]);
    assert!(machine.degraded.as_ref().is_some_and(|d| d.contains("has no init")));
    let (machine, _) = machine.step(Event::TrialCleared).expect("cleared");
    let (machine, effects) = begin(machine, Facts { why: Some(Why::Once), ..self::facts() });
    assert!(matches!(effects.as_slice(), [Effect::Check(_)]), "the good one runs, whoever named it: {effects:?}");
    drop(machine);
    // Another root mounted under the trial's kernel: judged at once, whatever tries are left.
    let facts = Facts { why: Some(Why::Trial), another_root: true, trial: trial(2, 2), arm: ArmId::new(1), ..self::facts() };
    let (machine, _) = begin(at(awaiting()), facts);
    assert_eq!(machine.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [Cause::Initramfs]);
}

#[test]
fn the_start_of_the_machine_settles_what_is_left_and_begins_nothing() {
    let start = |state: State, facts: Facts| begin(at(state), Facts { request: Request::Start, ..facts }).1;
    assert!(matches!(start(State::Idle, facts()).as_slice(), [Effect::End(_)]));
    let armed = Facts { trial: trial(2, 3), arm: ArmId::new(1), ..facts() };
    assert!(matches!(start(awaiting(), armed).as_slice(), [Effect::End(_)]), "no reboot right after a start");
    let failed = Facts { why: Some(Why::Exhausted), trial: trial(2, 0), arm: ArmId::new(1), ..facts() };
    assert!(matches!(start(awaiting(), failed).as_slice(), [Effect::ClearTrial { .. }]));
}

#[test]
fn u1_what_a_person_calls_bad_or_goes_back_from_is_not_tried_again() {
    // `ast bad` on the trial: nothing is on trial, the default is what it was, the arming is the newest still.
    let facts = Facts { good_set: Some(set(1)), arm: ArmId::new(1), ..facts() };
    for state in [awaiting(), on_trial(None)] {
        let (machine, _) = begin(at(state), facts.clone());
        assert_eq!(machine.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [Cause::Person]);
    }
    // Promoted, and a day later the mirrors offer the very same again: somebody has rolled back.
    let (machine, _) = at(on_trial(Some(true))).step(Event::Promoted).expect("promoted");
    let (machine, _) = begin(machine, facts.clone());
    let (machine, effects) = machine.step(Event::Checked(v2())).expect("checked");
    assert!(end_of(&effects).text.starts_with("not trying"), "{effects:?}");
    let forced = Facts { request: Request::Person, ..facts };
    let (machine, _) = begin(machine, forced);
    let (_, effects) = machine.step(Event::Checked(v2())).expect("checked");
    assert_eq!(effects, vec![Effect::Upgrade(set(1))], "unless that person says so");
}

#[test]
fn u10_the_summary_tells_why() {
    let facts = Facts { why: Some(Why::Exhausted), trial: trial(2, 0), arm: ArmId::new(1), trial_set: Some(set(2)), ..facts() };
    let (machine, _) = begin(at(awaiting()), facts);
    let (machine, _) = machine.step(Event::TrialCleared).expect("cleared");
    let summary = Summary::of(&machine);
    assert_eq!(
        summary.to_string(),
        "degraded: deployment 2 was left: its kernel never reached the initramfs\n\
         state: idle\n\
         last cycle: deployment 2 failed: deployment 2 was left: its kernel never reached the initramfs (0 minutes of running time ago)\n\
         blocked: linux 1 -> 2 (its kernel never reached the initramfs; 0 minutes ago)\n\
         deployment 2: left: its kernel never reached the initramfs\n"
    );
    assert!(summary.metrics().contains("\nast_update_degraded 1\n"), "{}", summary.metrics());
    assert!(summary.metrics().lines().all(|l| l.starts_with("# ") || l.split(' ').count() == 2));
}

#[test]
fn b15_what_a_person_deployed_is_left_alone() {
    // Another arming than ours, still to be tried.
    let theirs = Facts { trial: trial(9, 3), arm: ArmId::new(7), ..facts() };
    for state in [State::Idle, awaiting(), on_trial(None)] {
        let (_, effects) = begin(at(state), theirs.clone());
        assert!(matches!(effects.as_slice(), [Effect::End(_)]), "{effects:?}");
    }
    // A single start of something.
    let once = Some(Trial { deployment: DeployId::new(9), mode: Mode::Once, tries: 1 });
    let (_, effects) = begin(at(State::Idle), Facts { trial: once, arm: ArmId::new(7), ..facts() });
    assert!(matches!(effects.as_slice(), [Effect::End(_)]), "{effects:?}");
    // The default was picked in the menu while our own trial waits: no restart under that person's hands.
    let ours = Facts { why: Some(Why::Chosen), trial: trial(2, 2), arm: ArmId::new(1), ..facts() };
    let (machine, effects) = begin(at(awaiting()), ours.clone());
    assert!(matches!(effects.as_slice(), [Effect::End(_)]) && machine.state == awaiting(), "{effects:?}");
    let (_, effects) = begin(machine, Facts { why: Some(Why::Good), ..ours });
    assert_eq!(effects, vec![Effect::AskReboot]);
    // Something else than the default was picked in the menu.
    let picked = Facts { why: Some(Why::Chosen), booted: Some(DeployId::new(4)), ..facts() };
    let (_, effects) = begin(at(State::Idle), picked);
    assert!(end_of(&effects).text.contains("chosen by hand"));
}

#[test]
fn the_gate_speaks_and_the_record_is_there_before_the_reboot() {
    let (d, arm) = (DeployId::new(2), ArmId::new(1));
    let bad = |evidence: &str| Event::Gate { d, arm, set: None, healthy: false, evidence: vec![evidence.into()] };
    let (machine, effects) = at(awaiting()).step(bad("check 10-web: status 1")).expect("the gate is heard in any state");
    assert!(end_of(&effects).attention);
    let (machine, _) = machine.step(bad("check 10-web: status 2")).expect("and again at the next try");
    assert_eq!(machine.verdicts_of(arm).count(), 2);
    // Back on the good one: both are in the evidence, and the cause is the gate.
    let facts = {
        let stage = stage(1, Reached::Userspace);
        Facts { why: Some(Why::Exhausted), trial: trial(2, 0), arm, stage, ..facts() }
    };
    let (machine, _) = begin(machine, facts);
    let last = machine.verdicts.last().expect("a verdict");
    assert_eq!((last.result, last.cause, last.evidence.len()), (TrialResult::Failed, Some(Cause::Gate), 2));
}

#[test]
fn a_start_killed_between_promotion_and_its_record_is_seen_as_promoted() {
    for state in [awaiting(), on_trial(Some(true)), on_trial(None)] {
        let good = Facts { good: DeployId::new(2), booted: Some(DeployId::new(2)), arm: ArmId::new(1), ..facts() };
        let (machine, effects) = begin(at(state), good);
        assert_eq!(machine.verdicts.last().map(|v| v.result), Some(TrialResult::Promoted));
        assert!(matches!(effects.as_slice(), [Effect::Check(_)]), "{effects:?}");
    }
    // The gate said yes and was killed before it could promote.
    let facts = Facts { why: Some(Why::Trial), booted: Some(DeployId::new(2)), trial: trial(2, 2), arm: ArmId::new(1), ..facts() };
    let (_, effects) = begin(at(on_trial(Some(true))), facts.clone());
    assert_eq!(effects, vec![Effect::Promote { d: DeployId::new(2), arm: ArmId::new(1) }]);
    let (_, effects) = begin(at(on_trial(None)), facts);
    assert!(end_of(&effects).text.contains("waiting for its health checks"));
}

#[test]
fn an_arming_that_did_not_happen_is_done_and_one_that_did_is_not_repeated() {
    let state = || State::Deploying { update: candidate(), set: set(2), d: DeployId::new(2), arm: ArmId::new(1) };
    let facts = Facts { ours: vec![set(2)], ..facts() };
    let (machine, effects) = begin(at(state()), facts.clone());
    assert_eq!((machine.state.name(), effects), ("verified", vec![Effect::PlanDeploy(set(2))]));
    let armed = Facts { trial: trial(2, 3), arm: ArmId::new(1), ..facts.clone() };
    let (machine, effects) = begin(at(state()), armed);
    assert_eq!((machine.state.name(), effects), ("awaiting-reboot", vec![Effect::AskReboot]));
    // The default moved on: what was prepared goes.
    let (machine, effects) = begin(at(state()), Facts { parent: set(8), ..facts });
    assert_eq!(effects, vec![Effect::Discard(candidate().prepared(SnapshotId::new(2))), Effect::Check(set(8))]);
    assert_eq!(machine.state, State::Checking);
}

#[test]
fn an_update_that_cannot_be_armed_is_given_up_and_the_mirrors_are_asked_again() {
    let facts = Facts { ours: vec![set(2)], request: Request::Person, ..facts() };
    let mut machine = at(State::Verified { update: candidate(), set: set(2) });
    for _ in 0..5 {
        let (begun, effects) = begin(machine, facts.clone());
        assert_eq!(effects, vec![Effect::PlanDeploy(set(2))]);
        let (planned, _) = begun.step(Event::DeployPlanned { d: DeployId::new(2), arm: ArmId::new(1) }).expect("planned");
        (machine, _) = planned.step(Event::WentWrong("a file of /boot has rotted".into())).expect("wrong");
    }
    // Five times is enough: the next update may be the one that mends it.
    let (machine, effects) = begin(machine, facts);
    assert_eq!(effects, vec![Effect::Discard(candidate().prepared(SnapshotId::new(2))), Effect::Check(set(1))]);
    assert!(machine.blocked.is_empty(), "no package is to blame");
}

#[test]
fn a_seal_that_happened_is_taken_up() {
    let state = || State::Sealing { update: candidate(), snapshot: SnapshotId::new(2) };
    let there = Facts { ours: vec![set(2)], ..facts() };
    let (_, effects) = begin(at(state()), there);
    assert_eq!(effects, vec![Effect::PlanDeploy(set(2))]);
    let (_, effects) = begin(at(state()), facts());
    assert_eq!(effects, vec![Effect::Check(set(1))]);
}

#[test]
fn u9_an_upgrade_that_is_always_cut_off_is_blocked_in_the_end() {
    let mut machine = at(State::Idle);
    for start in 0..5 {
        machine.state = State::Upgrading { update: candidate() };
        machine.clock.tick(&format!("start {start}"), 10);
        machine = begin(machine, facts()).0;
    }
    assert_eq!(machine.blocked.iter().map(|b| b.cause).collect::<Vec<_>>(), [Cause::Interrupted]);
}

#[test]
fn waits_double_and_are_spread_and_end() {
    let mut waits = Vec::new();
    for jitter in [0, 999] {
        let mut machine = at(State::Idle);
        for _ in 0..12 {
            (machine, _) = machine.step(Event::Begin(Box::new(Facts { jitter, request: Request::Person, ..facts() }))).expect("begin");
            (machine, _) = machine.step(Event::WentWrong("the mirror is down".into())).expect("went wrong");
            waits.push(machine.retry.not_before.since(machine.now()));
        }
        assert!(!machine.due());
        let (_, effects) = begin(machine, facts());
        assert!(end_of(&effects).text.starts_with("attempt 13 in"), "{effects:?}");
    }
    assert_eq!(waits[..4], [900, 1800, 3600, 7200]);
    assert_eq!(waits[11], DAY, "no wait is longer than a day");
    assert!(waits[12] > 900 && waits[12] <= 1125, "spread by up to a quarter: {}", waits[12]);
}

#[test]
fn u1_a_failed_set_waits_and_so_does_a_suspect() {
    let mut blocked = Vec::new();
    block(&mut blocked, &v2(), Cause::Kernel, &[], Age(0));
    let hour = Age(3600);
    assert!(matches!(decide(&blocked, &v2(), hour), Decision::SameSet { .. }));
    // v2 and an unrelated package: the kernel is still the one that failed.
    let more = Changes::new(v2().iter().cloned().chain([upgrade("zlib", "1", "2")]).collect());
    assert_eq!(decide(&blocked, &more, hour), Decision::Suspect { package: "linux".into(), until: Age(DAY) });
    assert_eq!(decide(&blocked, &more, Age(DAY)), Decision::Try);
    // v3: another kernel.
    let v3 = Changes::new(vec![upgrade("linux", "1", "3"), upgrade("hello", "1", "3")]);
    assert_eq!(decide(&blocked, &v3, hour), Decision::Try);
    // It is tried with something else and fails again: two days, then four.
    for (failures, days) in [(2, 2), (3, 4)] {
        block(&mut blocked, &more, Cause::Kernel, &[], Age(0));
        assert_eq!(blocked.last().map(|b| b.failures), Some(failures));
        let other = Changes::new(vec![upgrade("linux", "1", "2"), upgrade("other", "1", &days.to_string())]);
        assert_eq!(decide(&blocked, &other, hour), Decision::Suspect { package: "linux".into(), until: Age(days * DAY) });
    }
    assert_eq!(decide(&blocked, &v2(), Age(31 * DAY)), Decision::Try, "in the end a set gets another chance");
}

#[test]
fn evidence_names_suspects_by_whole_words() {
    let changes = Changes::new(vec![upgrade("hello", "1", "2"), upgrade("world", "1", "2"), upgrade("he", "1", "2")]);
    let suspects = |line: &str| changes.suspects(&[line.into()]).iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(suspects("unit hello.service failed"), ["hello"]);
    assert_eq!(suspects("othello failed"), ["he", "hello", "world"], "nothing named: all of them");
}

#[test]
fn a_check_and_its_upgrade_agree_on_the_fingerprint() {
    let before = BTreeMap::from([("a".into(), "1".into()), ("b".into(), "1".into()), ("gone".into(), "1".into())]);
    let after = BTreeMap::from([("a".into(), "2".into()), ("b".into(), "1".into()), ("new".into(), "1".into())]);
    let done = Changes::between(&before, &after);
    assert_eq!(done.len(), 3);
    assert_eq!(done.fingerprint(), Changes::new(vec![upgrade("a", "1", "2")]).fingerprint());
    assert_ne!(done.fingerprint(), Changes::new(vec![upgrade("a", "1", "3")]).fingerprint());
}

#[test]
fn u5_time_only_grows_and_needs_no_wall_clock() {
    let mut clock = Clock::default();
    clock.tick("a", 100);
    assert_eq!(clock.now(), Age(100));
    clock.tick("a", 50);
    assert_eq!(clock.now(), Age(100), "an uptime that shrinks is not believed");
    clock.tick("b", 5);
    assert_eq!(clock.now(), Age(100 + 6 * 3600 + 5));
}

#[test]
fn s13_keys_and_states_of_a_later_version_survive() {
    let text = r#"{"state":{"state":"time-travel","x":1},"flux":7,"verdicts":[
        {"arm":3,"d":4,"at":9,"result":"ascended","cause":"magic","evidence":[],"mood":"good"}]}"#;
    let read: Updates = serde_json::from_str(text).expect("a later document");
    assert_eq!(read.state, State::Unknown);
    let back = serde_json::to_value(&read).expect("json");
    assert_eq!((&back["flux"], &back["verdicts"][0]["mood"]), (&7.into(), &"good".into()));
    assert!(matches!(begin(at(State::Unknown), facts()).1.as_slice(), [Effect::Check(_)]));
}

#[test]
fn an_event_out_of_place_is_refused_and_steps_are_counted() {
    assert!(matches!(at(State::Idle).step(Event::Armed), Err(Refused::Event { state: "idle", .. })));
    let mut machine = begin(at(awaiting()), Facts { trial: trial(2, 3), arm: ArmId::new(1), ..facts() }).0;
    let looped = (0..100).find_map(|_| match machine.clone().step(Event::RebootAllowed) {
        Ok((next, _)) => {
            machine = next;
            None
        }
        Err(refused) => Some(refused),
    });
    assert_eq!(looped, Some(Refused::TooManySteps));
}

#[test]
fn u8_retention_is_a_step_after_the_promotion_and_never_in_a_trial() {
    let settled = || Facts { spare: true, undeleted: vec!["snapshot 4 is mounted".into()], ..facts() };
    let (machine, effects) = begin(at(State::Idle), settled());
    assert_eq!((machine.state.name(), effects), ("retaining", vec![Effect::Retain]));
    assert_eq!(machine.undeleted.len(), 1, "what is held is known at the beginning");
    // Whatever comes of it, the update is not kept waiting, and what was left is told.
    for (event, left) in [(Event::Retained(vec![]), 0), (Event::Retained(vec!["x".into()]), 1), (Event::WentWrong("x".into()), 1)] {
        let (machine, effects) = machine.clone().step(event).expect("heard");
        assert_eq!((machine.state.name(), effects), ("checking", vec![Effect::Check(set(1))]));
        assert_eq!((machine.undeleted.len(), machine.retry.attempts), (left, 0));
    }
    // Killed in the middle of it: the same again, and no attempt at an update is counted for it.
    let (again, effects) = begin(machine, settled());
    assert_eq!((effects, again.retry.attempts), (vec![Effect::Retain], 0));
    let (again, effects) = begin(again, facts());
    assert_eq!((effects, again.retry.attempts), (vec![Effect::Check(set(1))], 0));
    // A cycle that begins no update deletes all the same.
    let (machine, effects) = begin(at(State::Idle), Facts { paused: true, ..settled() });
    assert_eq!(effects, vec![Effect::Retain]);
    let (_, effects) = machine.step(Event::Retained(vec![])).expect("heard");
    assert_eq!(end_of(&effects).text, "updates are paused");

    let (d, arm) = (DeployId::new(2), ArmId::new(1));
    let never = [
        ("armed", awaiting(), Facts { trial: trial(2, 3), arm, ..settled() }),
        ("armed by a person", State::Idle, Facts { trial: trial(9, 3), arm: ArmId::new(7), ..settled() }),
        ("on trial", on_trial(None), Facts { why: Some(Why::Trial), booted: Some(d), trial: trial(2, 2), arm, ..settled() }),
        (
            "well, not yet promoted",
            on_trial(Some(true)),
            Facts { why: Some(Why::Trial), booted: Some(d), trial: trial(2, 2), arm, ..settled() },
        ),
        ("exhausted, not yet judged", awaiting(), Facts { why: Some(Why::Exhausted), trial: trial(2, 0), arm, ..settled() }),
        ("at the start of the machine", State::Idle, Facts { request: Request::Start, ..settled() }),
        ("the default is not proven", State::Idle, Facts { good_well: false, ..settled() }),
        ("the fallback runs", State::Idle, Facts { why: Some(Why::Starts), booted: Some(DeployId::new(7)), ..settled() }),
        ("another root was mounted", State::Idle, Facts { another_root: true, ..settled() }),
        ("an update is ready", State::Verified { update: candidate(), set: set(2) }, Facts { ours: vec![set(2)], ..settled() }),
    ];
    for (what, state, facts) in never {
        let (machine, effects) = begin(at(state), facts);
        assert!(!effects.contains(&Effect::Retain) && machine.state != State::Retaining, "{what}: {effects:?}");
    }
    // The good start that follows a trial is where it belongs.
    let promoted = Facts { good: d, booted: Some(d), why: Some(Why::Trial), arm, parent: set(2), good_set: Some(set(2)), ..settled() };
    let (machine, effects) = begin(at(on_trial(Some(true))), promoted);
    assert_eq!(effects, vec![Effect::Retain]);
    assert_eq!(machine.verdicts.last().map(|v| v.result), Some(TrialResult::Promoted));
}

#[test]
fn b9_a_machine_whose_default_has_rotted_goes_on_updating_from_the_one_before() {
    let (five, six) = (DeployId::new(5), DeployId::new(6));
    let rotten = Facts { good: six, prev: Some(five), booted: Some(five), why: Some(Why::Once), ..facts() };
    let (machine, effects) = begin(at(State::Idle), rotten.clone());
    assert_eq!((machine.state, effects), (State::Checking, vec![Effect::Check(set(1))]));
    // What a person asked for once is looked at, and not updated away.
    for chosen in [Facts { booted: Some(DeployId::new(7)), ..rotten.clone() }, Facts { why: Some(Why::Chosen), ..rotten }] {
        let (machine, effects) = begin(at(State::Idle), chosen);
        assert_eq!(machine.state, State::Idle, "{effects:?}");
        assert!(end_of(&effects).text.contains("chosen by hand"));
    }
}

mod drawing;
mod world;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Kills, power cuts, failures of the world, bad updates and people, in any order: never two trials of ours, no number used
    /// twice, and when the world is quiet again the machine settles on the default with nothing left over.
    #[test]
    fn u9_whatever_happens_the_cycles_converge(happenings in proptest::collection::vec(world::happening(), 1..60)) {
        let mut world = world::World::new();
        for happening in happenings {
            world.happen(happening);
        }
        world.settle();
    }
}
