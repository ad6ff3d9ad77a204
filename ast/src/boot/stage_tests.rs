use super::*;
use crate::boot::block::ARMED_TRIES;
use proptest::prelude::*;

fn arm(n: u32) -> Option<ArmId> {
    Some(ArmId::new(n))
}

fn mark(left: u8, back: u8) -> Stage {
    Stage { arm: arm(4), left, back, pstore: vec!["old".into()], ..Stage::default() }
}

fn start(left: u8) -> Start {
    Start { arm: arm(4), left, grub_counts: true, pstore: vec!["old".into()], ..Start::default() }
}

#[test]
fn b3_a_try_comes_back_only_after_a_start_that_came_here_and_left_no_evidence() {
    let failed = |what: &str| {
        let mut mark = mark(2, 1);
        mark.add_evidence(what);
        mark
    };
    // What the start before left, this start, tries to write, back, evidence that is handed on.
    type Row = (&'static str, Option<Stage>, Start, Option<u8>, u8, usize);
    let table: Vec<Row> = vec![
        ("first start", None, start(2), None, 0, 0),
        ("switched off", Some(mark(2, 0)), start(1), Some(2), 1, 0),
        ("switched off, at the last try", Some(mark(1, 0)), start(0), Some(1), 1, 0),
        ("switched off for the fifth time", Some(mark(2, 4)), start(1), Some(2), 5, 0),
        ("switched off once more", Some(mark(2, 5)), start(1), None, 5, 0),
        ("another arming", Some(Stage { arm: arm(3), ..mark(2, 5) }), start(2), None, 0, 0),
        ("a mark without an arming", Some(Stage { arm: None, ..mark(2, 5) }), start(1), None, 0, 0),
        ("a start between did not come here", Some(mark(3, 0)), start(1), None, 0, 1),
        ("the block counts up by itself", Some(mark(1, 0)), start(2), None, 0, 0),
        ("the gate said no", Some(failed("gate: x")), start(1), None, 1, 1),
        ("a panic was recorded", Some(mark(2, 0)), Start { pstore: vec!["old".into(), "new".into()], ..start(1) }, None, 0, 1),
        ("the watchdog bit", Some(mark(2, 0)), Start { watchdog_reset: true, ..start(1) }, None, 0, 1),
        ("an old watchdog reset before the first start", None, Start { watchdog_reset: true, ..start(2) }, None, 0, 0),
        // Where GRUB cannot write: the command line has what the block has, and the try is taken here.
        ("alone: first start", None, Start { grub_counts: false, ..start(3) }, Some(2), 0, 0),
        ("alone: switched off", Some(mark(2, 0)), Start { grub_counts: false, ..start(2) }, None, 1, 0),
        ("alone: it failed", Some(failed("gate: x")), Start { grub_counts: false, ..start(2) }, Some(1), 1, 1),
    ];
    for (name, before, start, tries, back, earlier) in table {
        let begun = begin(before.as_ref(), &start);
        assert_eq!((begun.tries, begun.stage.back, begun.stage.earlier.len(), begun.exhausted), (tries, back, earlier, false), "{name}");
        assert_eq!(begun.stage.left, tries.unwrap_or(start.left), "{name}: the mark says what the block holds");
        assert!(begun.stage.evidence.is_empty(), "{name}: nothing speaks against a start that begins");
        assert_eq!(Stage::parse(&begun.stage.to_string()), begun.stage, "{name}: reads back");
    }
    let none_left = begin(Some(&mark(0, 0)), &Start { grub_counts: false, ..start(0) });
    assert!(none_left.exhausted && none_left.tries.is_none(), "{none_left:?}");
}

#[test]
fn evidence_is_lines_of_bounded_length() {
    let mut stage = mark(2, 0);
    for n in 0..20 {
        stage.add_evidence(&format!("{n}: two\nlines {}", "x".repeat(300)));
    }
    assert_eq!((stage.evidence.len(), stage.evidence.first().map(|l| l.starts_with("12: two lines"))), (8, Some(true)));
    assert_eq!(Stage::parse(&format!("later=1\n{stage}nonsense")), stage);
}

/// How a start of a trial may end.
#[derive(Debug, Clone, Copy)]
enum End {
    /// It never comes to the initramfs: GRUB's try is spent.
    Before,
    /// The power goes between the mark and the block.
    Between,
    /// The power goes after both.
    After,
    /// It fails and says so.
    Failed,
}

/// GRUB and initramfs together, until GRUB has no try left: how many starts, how many of them came here without evidence.
fn play(ends: &[End], grub_counts: bool) -> (usize, Vec<Stage>) {
    let (mut tries, mut mark, mut seen): (u8, Option<Stage>, Vec<Stage>) = (ARMED_TRIES, None, Vec::new());
    for (starts, end) in ends.iter().enumerate() {
        if tries == 0 {
            return (starts, seen);
        }
        tries -= u8::from(grub_counts);
        if matches!(end, End::Before) {
            continue;
        }
        let begun = begin(mark.as_ref(), &Start { arm: arm(4), left: tries, grub_counts, ..Start::default() });
        let mut stage = begun.stage;
        if !matches!(end, End::Between) {
            tries = begun.tries.unwrap_or(tries);
        }
        if matches!(end, End::Failed) {
            stage.add_evidence("gate: no");
        }
        seen.push(stage.clone());
        mark = Some(stage);
    }
    (ends.len(), seen)
}

#[test]
fn b3_four_power_cuts_after_the_initramfs_cost_no_try() {
    for counts in [true, false] {
        let (starts, seen) = play(&[End::After; 5], counts);
        assert_eq!((starts, seen.last().map(|s| s.left)), (5, Some(2)), "GRUB counts: {counts}");
    }
}

#[test]
fn b3_a_trial_that_is_always_cut_off_ends_too() {
    let (starts, seen) = play(&[End::After; 40], true);
    assert_eq!((starts, seen.last().map(|s| s.back)), (usize::from(ARMED_TRIES + MAX_BACK), Some(MAX_BACK)));
}

proptest! {
    /// Whatever happens, a trial ends: at most 3 + 5 starts where GRUB counts, and never is a 6th try given back.
    #[test]
    fn b3_every_trial_ends(ends in proptest::collection::vec(prop_oneof![Just(End::Before), Just(End::Between), Just(End::After), Just(End::Failed)], 40)) {
        let (starts, seen) = play(&ends, true);
        prop_assert!(starts <= usize::from(ARMED_TRIES + MAX_BACK), "{starts} starts");
        prop_assert!(seen.iter().all(|s| s.back <= MAX_BACK));
    }

    #[test]
    fn r7_any_text_is_a_stage(text in ".{0,300}") {
        let stage = Stage::parse(&text);
        prop_assert_eq!(Stage::parse(&stage.to_string()), stage);
    }
}
