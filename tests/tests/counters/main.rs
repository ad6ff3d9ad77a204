//! Two counters that agree: GRUB's script (by its model, which `grub_decisions` holds against the real one), the initramfs's rule and the
//! service's state machine (both themselves) on one machine, over every way in which starts can end and the power can be cut between two
//! writes. A bug is seeded in each of them in turn, and has to be found.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic)]

mod machine;
mod power;

use ast::boot::block::{ARMED_TRIES, Mode};
use ast::boot::stage::MAX_BACK;
use machine::*;
use power::power;
use std::collections::{HashSet, VecDeque};

/// What is wrong with a world, if anything: every history of it is looked at. Gives how many states there are.
fn check(world: &World, by_update: bool) -> Result<usize, String> {
    let first = Machine::armed(world, by_update);
    let mut known = HashSet::from([first.key()]);
    let mut waiting = VecDeque::from([first]);
    while let Some(machine) = waiting.pop_front() {
        comes_to_rest(world, &machine)?;
        let (points, end, after) = power(world, &machine);
        let mut next = Vec::new();
        if machine.cuts < world.cuts {
            for (n, (mut cut, marked)) in points.into_iter().enumerate() {
                cut.history.push(format!("cut after write {n}"));
                cut.cuts += 1;
                cut.cuts_before_the_mark += u8::from(!marked);
                next.push(cut);
            }
        }
        match end {
            End::Again => next.push(after),
            End::Rest(root) if machine.faulty > 0 => {
                if root != GOOD {
                    return Err(format!("deployment {root} runs, and nothing has counted that: {}", after.history.join(", ")));
                }
                // Somebody restarts it, when it can be written again or before.
                next.push(after);
            }
            End::Rest(_) => at_rest(world, &after, by_update)?,
        }
        for machine in next {
            always(world, &machine).map_err(|why| format!("{why}: {}", machine.history.join(", ")))?;
            if known.insert(machine.key()) {
                waiting.push_back(machine);
            }
        }
    }
    Ok(known.len())
}

/// Whatever happened: a machine that is left alone comes to rest within a few starts.
fn comes_to_rest(world: &World, machine: &Machine) -> Result<(), String> {
    let mut machine = machine.clone();
    for _ in 0..MOST_STARTS {
        let (_, end, after) = power(world, &machine);
        if matches!(end, End::Rest(_)) {
            return Ok(());
        }
        machine = after;
    }
    Err(format!("it starts for ever: {:?}", machine.block()))
}

/// What holds at every moment.
fn always(world: &World, machine: &Machine) -> Result<(), String> {
    let block = machine.block();
    let bad = world.plant != Plant::Nothing || world.mode == Mode::Once;
    if bad && [&machine.a, &machine.b].into_iter().flatten().any(|copy| copy.good != GOOD) {
        return Err(format!("a bad one was promoted: {block:?}"));
    }
    // Nothing counts a start that is cut before the initramfs where it counts alone.
    let counted =
        if world.counting == Counting::Alone { machine.tried.saturating_sub(machine.cuts_before_the_mark) } else { machine.tried };
    let most = if world.mode == Mode::Once { 1 } else { ARMED_TRIES + MAX_BACK };
    if counted > most {
        return Err(format!("{} starts of one trial", machine.tried));
    }
    Ok(())
}

/// What holds where a machine stays up.
fn at_rest(world: &World, machine: &Machine, by_update: bool) -> Result<(), String> {
    let block = machine.block();
    if machine.a.as_ref().map(|b| b.good) != machine.b.as_ref().map(|b| b.good) || block.trial.is_some() {
        return Err(format!("the copies do not agree, or something is still on trial: {:?} {:?}", machine.a, machine.b));
    }
    let promoted = block.good == TRIAL;
    // B3: cuts that the initramfs can tell cost nothing as long as an arming forgives them.
    if world.mode == Mode::Once {
        return Ok(());
    }
    let forgiven = machine.cuts_before_the_mark == 0 && machine.cuts <= MAX_BACK && world.counting != Counting::NoSave;
    if world.plant == Plant::Nothing && forgiven && !promoted {
        return Err(format!("a good one was left after {} forgivable cuts: {:?}", machine.cuts, machine.stage));
    }
    if !promoted && by_update && machine.memory.degraded.is_none() {
        return Err("it came back and says nothing of it".into());
    }
    // Nothing speaks against what could not be counted: it is tried again after a while.
    let counts = world.counting != Counting::NoSave && world.unwritable == Unwritable::Nothing;
    if !promoted && by_update && counts && machine.memory.blocked.is_empty() {
        return Err("what failed would be tried again".into());
    }
    Ok(())
}

/// What a good one goes through is what a bad one goes through, and more.
fn all_is_well(world: &World, by_update: bool) -> usize {
    let World { plant, counting, mode, unwritable, faulty, .. } = world;
    let found = check(world, by_update);
    found.unwrap_or_else(|why| {
        panic!("{plant:?}, {counting:?}, {mode}, {unwritable:?} in {faulty} starts, by an update: {by_update}: {why}")
    })
}

/// What nothing counts where GRUB cannot: a start that never comes to the initramfs. `status` says so.
const UNSEEN: [Plant; 2] = [Plant::Panics, Plant::PanicsWithRecord];

#[test]
fn b1_b3_what_cannot_be_counted_is_not_started() {
    let mut states = 0;
    for plant in PLANTS.into_iter().filter(|plant| !UNSEEN.contains(plant)) {
        for unwritable in [Unwritable::Block, Unwritable::All] {
            // For a while, and for ever; seen from the first start, and after some.
            for faulty in [1, 2, ALWAYS] {
                for (mode, by_update) in [(Mode::Trial, true), (Mode::Trial, false), (Mode::Once, false)] {
                    let world = World { mode, unwritable, faulty, cuts: 3, ..World::new(plant, Counting::Alone) };
                    states += all_is_well(&world, by_update);
                }
            }
        }
    }
    println!("{states} states");
    assert!(states > 1000, "{states} states");
}

#[test]
fn b4_one_start_asked_for_is_one_start() {
    for counting in [Counting::Both, Counting::NoSave, Counting::Alone] {
        for plant in PLANTS.into_iter().filter(|plant| counting != Counting::Alone || !UNSEEN.contains(plant)) {
            all_is_well(&World { mode: Mode::Once, cuts: 3, ..World::new(plant, counting) }, false);
        }
    }
}

#[test]
fn b3_b4_two_counters_agree_whatever_happens() {
    let mut states = 0;
    for counting in [Counting::Both, Counting::NoSave, Counting::Alone] {
        for plant in PLANTS {
            if counting == Counting::Alone && UNSEEN.contains(&plant) {
                continue;
            }
            for by_update in [true, false] {
                states += all_is_well(&World::new(plant, counting), by_update);
            }
        }
    }
    println!("{states} states");
    assert!(states > 1000, "{states} states");
}

#[test]
fn every_seeded_bug_of_a_counter_is_found() {
    for (bug, plant, counting) in [
        (Bug::GrubTakesNone, Plant::Panics, Counting::Both),
        (Bug::BackIsForgotten, Plant::Nothing, Counting::Both),
        (Bug::EvidenceIsForgotten, Plant::Unhealthy, Counting::Both),
        (Bug::BlockBeforeMark, Plant::Nothing, Counting::Both),
        (Bug::AloneCountsTwice, Plant::Unhealthy, Counting::Alone),
        (Bug::PromotesTheUnhealthy, Plant::Unhealthy, Counting::Both),
        (Bug::NeverCleared, Plant::Rotten, Counting::Both),
    ] {
        let found = check(&World { bug, cuts: ALL_CUTS, ..World::new(plant, counting) }, true);
        println!("{bug:?}: {found:?}");
        assert!(found.is_err(), "{bug:?} is not found");
    }
    for (bug, plant, mode, faulty) in [
        (Bug::UncountedIsStarted, Plant::Unhealthy, Mode::Trial, ALWAYS),
        (Bug::UncountedIsStarted, Plant::Nothing, Mode::Trial, 1),
        (Bug::UncountedRestarts, Plant::Nothing, Mode::Trial, ALWAYS),
        (Bug::OnceIsNotCounted, Plant::Hangs, Mode::Once, 0),
    ] {
        let world = World { bug, mode, faulty, unwritable: Unwritable::All, cuts: 1, ..World::new(plant, Counting::Alone) };
        let found = check(&world, false);
        println!("{bug:?}: {found:?}");
        assert!(found.is_err(), "{bug:?} is not found");
    }
}
