//! Two counters that agree: GRUB's script (by its model, which `grub_decisions` holds against the real one), the initramfs's rule and the
//! service's state machine (both themselves) on one machine, over every way in which starts can end and the power can be cut between two
//! writes. A bug is seeded in each of them in turn, and has to be found.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic)]

use ast::boot::block::{ARMED_TRIES, BootBlock, Mode, Trial};
use ast::boot::stage::{MAX_BACK, Stage, Start, begin};
use ast::cmdline::Why;
use ast::id::{ArmId, DeployId, SetId};
use ast::updates::{Candidate, Change, Changes, Effect, Event, Facts, Request, State, Updates};
use ast_tests::decide::disk::Copy;
use ast_tests::decide::model::{self, Files, Seen};
use std::collections::{HashSet, VecDeque};

const PREV: DeployId = DeployId::new(5);
const GOOD: DeployId = DeployId::new(6);
const TRIAL: DeployId = DeployId::new(7);
const ARM: ArmId = ArmId::new(9);
/// Cuts in one history: more than an arming forgives.
const CUTS: u8 = MAX_BACK + 1;
/// Enough for every try, every try that is given back, and one more.
const ALL_CUTS: u8 = ARMED_TRIES + MAX_BACK + 1;
/// Starts without a cut after which every machine has come to rest.
const MOST_STARTS: usize = 12;

/// What is wrong with what is on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    Nothing,
    /// Before anything of ours runs, without a word.
    Panics,
    /// The same, and the firmware keeps a record.
    PanicsWithRecord,
    /// GRUB sees it.
    Rotten,
    NotLoaded,
    /// The initramfs sees it, and the good one has this kernel's modules.
    RootBroken,
    /// The same without the modules.
    RootBrokenNoModules,
    /// A hang that the watchdog ends.
    Hangs,
    /// A required check says no.
    Unhealthy,
}

const PLANTS: [Plant; 9] = [
    Plant::Nothing,
    Plant::Panics,
    Plant::PanicsWithRecord,
    Plant::Rotten,
    Plant::NotLoaded,
    Plant::RootBroken,
    Plant::RootBrokenNoModules,
    Plant::Hangs,
    Plant::Unhealthy,
];

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counting {
    /// GRUB and the initramfs.
    Both,
    /// GRUB's saves come to nothing.
    NoSave,
    /// The initramfs alone: the block is where GRUB only reads.
    Alone,
}

/// What cannot be written, where the initramfs counts alone: then nobody counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unwritable {
    Nothing,
    /// The block alone: a sector of it is bad.
    Block,
    /// The filesystem: it is full, or can only be read.
    All,
}

/// A bug that the checks have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// GRUB takes no try.
    GrubTakesNone,
    /// The initramfs gives a try back without having counted that it did.
    BackIsForgotten,
    /// What the start before left is not looked at: every try comes back.
    EvidenceIsForgotten,
    /// The try is given back before the mark is written.
    BlockBeforeMark,
    /// The command line has a try less than the block where the initramfs counts alone.
    AloneCountsTwice,
    /// A trial that cannot be counted is started all the same.
    UncountedIsStarted,
    /// The machine restarts when a trial cannot be counted.
    UncountedRestarts,
    /// The initramfs takes no try from what was asked for once.
    OnceIsNotCounted,
    /// The gate's verdict promotes whatever it is.
    PromotesTheUnhealthy,
    /// A failed trial stays in the block.
    NeverCleared,
}

#[derive(Clone)]
struct Machine {
    a: Option<BootBlock>,
    b: Option<BootBlock>,
    stage: Option<Stage>,
    memory: Updates,
    records: Vec<String>,
    watchdog_bit: bool,
    /// What was started, and where the power was cut: for people.
    history: Vec<String>,
    /// Starts of what is on trial.
    tried: u8,
    cuts_before_the_mark: u8,
    cuts: u8,
    /// Starts, from now on, in which what is unwritable stays so.
    faulty: u8,
}

/// A write that came to the disk: the machine then, and whether this start had left its mark.
type Point = (Machine, bool);

/// How a start ends if nobody cuts the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It restarts by itself, or waits to be restarted into the trial.
    Again,
    /// This one stays up.
    Rest(DeployId),
}

/// What the initramfs makes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    Yes,
    /// It is not made; the good one is mounted.
    No,
    /// The machine restarts instead.
    Restart,
}

struct World {
    plant: Plant,
    counting: Counting,
    bug: Bug,
    cuts: u8,
    mode: Mode,
    unwritable: Unwritable,
    /// In how many starts; [`ALWAYS`]: in all.
    faulty: u8,
}

const ALWAYS: u8 = u8::MAX;

impl World {
    fn new(plant: Plant, counting: Counting) -> Self {
        let cuts = if plant == Plant::Nothing { ALL_CUTS } else { CUTS };
        Self { plant, counting, bug: Bug::None, cuts, mode: Mode::Trial, unwritable: Unwritable::Nothing, faulty: 0 }
    }
}

fn set(n: u32) -> SetId {
    format!("{n}.1").parse().expect("a set")
}

impl Machine {
    fn armed(world: &World, by_update: bool) -> Self {
        let tries = if world.mode == Mode::Once { 1 } else { ARMED_TRIES };
        let trial = Trial { deployment: TRIAL, mode: world.mode, tries };
        let block = BootBlock { prev: Some(PREV), trial: Some(trial), arm: ARM, ..BootBlock::new(GOOD) };
        let mut memory = Updates::default();
        if by_update {
            let changes = Changes::new(vec![Change { name: "linux".into(), from: Some("1".into()), to: Some("2".into()) }]);
            let update = Candidate { parent: set(1), changes };
            memory.state = State::AwaitingReboot { update, set: set(2), d: TRIAL, arm: ARM, since: memory.now() };
        }
        Self {
            a: Some(block.clone()),
            b: Some(block),
            stage: None,
            memory,
            records: Vec::new(),
            watchdog_bit: false,
            history: Vec::new(),
            tried: 0,
            cuts_before_the_mark: 0,
            cuts: 0,
            faulty: world.faulty,
        }
    }

    fn block(&self) -> &BootBlock {
        self.a.as_ref().or(self.b.as_ref()).expect("a whole copy")
    }

    /// Everything that matters for what comes next, as one word.
    fn key(&self) -> String {
        let plain = |block: &Option<BootBlock>| block.clone().map(|b| BootBlock { cap: 0, ..b });
        let stage = self.stage.as_ref().map(ToString::to_string);
        let memory = serde_json::to_string(&self.memory).expect("a document");
        format!(
            "{:?} {:?} {stage:?} {memory} {} {} {} {} {} {}",
            plain(&self.a),
            plain(&self.b),
            self.records.len(),
            self.watchdog_bit,
            self.tried,
            self.cuts_before_the_mark,
            self.cuts,
            self.faulty
        )
    }
}

/// One start, and the machine after each of its writes.
struct Power<'a> {
    world: &'a World,
    now: Machine,
    /// Whether this start is one in which something is unwritable.
    faulty: bool,
    marked: bool,
    points: Vec<Point>,
}

impl Power<'_> {
    /// Whether this cannot be written in this start: the block, or anything.
    fn refuses(&self, what: Unwritable) -> bool {
        self.faulty && (self.world.unwritable == Unwritable::All || self.world.unwritable == what)
    }

    fn written(&mut self) {
        self.points.push((self.now.clone(), self.marked));
    }

    /// As `Medium::write`: B, then A.
    fn write_block(&mut self, block: &BootBlock) {
        if self.refuses(Unwritable::Block) {
            return;
        }
        self.now.b = Some(block.clone());
        self.written();
        self.now.a = Some(block.clone());
        self.written();
    }

    fn start(&mut self) -> End {
        self.written();
        let plant = self.world.plant;
        let files = |d: DeployId| Files {
            as_summed: d != TRIAL || !matches!(plant, Plant::Rotten),
            load: d != TRIAL || !matches!(plant, Plant::Rotten | Plant::NotLoaded),
        };
        let before = self.now.clone();
        let seen = Seen {
            a: before.a.as_ref(),
            b: before.b.as_ref(),
            baked: Some(GOOD),
            can_save: self.world.counting == Counting::Both,
            counts: self.world.counting != Counting::Alone,
            files: &files,
        };
        let (saved, decision) = model::start(&seen);
        if self.world.bug != Bug::GrubTakesNone {
            for (copy, block) in saved {
                match copy {
                    Copy::A => self.now.a = Some(block),
                    Copy::B => self.now.b = Some(block),
                }
                self.written();
            }
        }
        let Some(mut decision) = decision else { return End::Again };
        self.now.history.push(decision.short());
        // A later start of what was promoted is one of a good one.
        let tried = decision.d == TRIAL && matches!(decision.why, Why::Trial | Why::Once);
        let trial = tried && decision.why == Why::Trial;
        if tried {
            self.now.tried += 1;
            match plant {
                Plant::Panics => return End::Again,
                Plant::PanicsWithRecord => {
                    self.now.records.push(format!("dmesg-{}", self.now.tried));
                    return End::Again;
                }
                _ => {}
            }
        }
        if self.world.bug == Bug::AloneCountsTwice && self.world.counting == Counting::Alone {
            decision.arm = decision.arm.map(|(arm, left)| (arm, left.saturating_sub(1)));
        }
        let counted = match () {
            () if trial => self.initramfs(&decision),
            () if tried && !decision.env_ok => self.once(&decision),
            () => Counted::Yes,
        };
        match counted {
            Counted::Restart => return End::Again,
            Counted::No => {
                self.now.tried -= 1;
                return self.settle(GOOD, &model::Decision { why: Why::NoSave, ..decision });
            }
            Counted::Yes => {}
        }
        let mut root = decision.d;
        if tried && matches!(plant, Plant::RootBroken | Plant::RootBrokenNoModules) {
            if trial {
                self.evidence("initramfs: it is not there");
            }
            if plant == Plant::RootBrokenNoModules {
                if !trial {
                    // What GRUB is to start next is named; it is the good one, so it is tried no more.
                    let once = Trial { deployment: GOOD, mode: Mode::Once, tries: 1 };
                    let before = self.now.block().clone();
                    self.write_block(&BootBlock { trial: Some(once), arm: before.arm.next().expect("a number"), ..before });
                }
                return End::Again;
            }
            root = GOOD;
        }
        if tried && !trial && plant == Plant::Hangs {
            // Whoever asked for it switches it off.
            return End::Again;
        }
        if trial && root == TRIAL { self.gate(&decision) } else { self.settle(root, &decision) }
    }

    /// `ast-initcpio` on a start that was asked for once, where GRUB does not count.
    fn once(&mut self, decision: &model::Decision) -> Counted {
        let Some((_, left)) = decision.arm.filter(|_| self.world.bug != Bug::OnceIsNotCounted) else { return Counted::Yes };
        let Some(tries) = left.checked_sub(1).filter(|_| !self.refuses(Unwritable::Block)) else { return Counted::No };
        let block = self.now.block().clone();
        self.write_block(&BootBlock { trial: block.trial.map(|t| Trial { tries, ..t }), ..block });
        self.marked = true;
        Counted::Yes
    }

    /// The bookkeeping of `ast-initcpio` on a trial.
    fn initramfs(&mut self, decision: &model::Decision) -> Counted {
        let Some((arm, left)) = decision.arm else { return Counted::Yes };
        let uncounted = match self.world.bug {
            Bug::UncountedIsStarted => Counted::Yes,
            Bug::UncountedRestarts => Counted::Restart,
            _ => Counted::No,
        };
        let start = Start {
            arm: Some(arm),
            left,
            grub_counts: decision.env_ok,
            pstore: self.now.records.clone(),
            watchdog_reset: std::mem::take(&mut self.now.watchdog_bit),
        };
        let mut before = self.now.stage.clone();
        if let (Bug::EvidenceIsForgotten, Some(stage)) = (self.world.bug, &mut before) {
            stage.evidence.clear();
            stage.back = 0;
        }
        let mut begun = begin(before.as_ref(), &start);
        if begun.exhausted {
            return uncounted;
        }
        if self.world.bug == Bug::BackIsForgotten {
            begun.stage.back = 0;
        }
        let block = begun.tries.map(|tries| {
            let trial = self.now.block().trial.map(|t| Trial { tries, ..t });
            BootBlock { trial, ..self.now.block().clone() }
        });
        if let (Bug::BlockBeforeMark, Some(block)) = (self.world.bug, &block) {
            self.write_block(block);
        }
        if !self.refuses(Unwritable::All) {
            self.now.stage = Some(begun.stage);
            // From here on a cut is told from a failure, once the block is right as well.
            self.marked = block.is_none();
            self.written();
        }
        if block.is_some() && self.refuses(Unwritable::Block) {
            return uncounted;
        }
        if let Some(block) = block.filter(|_| self.world.bug != Bug::BlockBeforeMark) {
            self.write_block(&block);
        }
        self.marked = true;
        self.written();
        Counted::Yes
    }

    fn evidence(&mut self, what: &str) {
        if self.refuses(Unwritable::All) {
            return;
        }
        self.now.stage.get_or_insert_default().add_evidence(what);
        self.written();
    }

    fn take(&mut self, event: Event) -> Vec<Effect> {
        let (memory, effects) = self.now.memory.clone().step(event).expect("an event of this state");
        self.now.memory = memory;
        self.written();
        effects
    }

    /// The gate on what is on trial.
    fn gate(&mut self, decision: &model::Decision) -> End {
        let Some((arm, _)) = decision.arm else { return End::Again };
        if self.world.plant == Plant::Hangs {
            self.now.watchdog_bit = true;
            return End::Again;
        }
        let healthy = self.world.plant != Plant::Unhealthy || self.world.bug == Bug::PromotesTheUnhealthy;
        if !healthy {
            self.evidence("gate: 50-fail");
        }
        let effects = self.take(Event::Gate { d: TRIAL, arm, set: Some(set(2)), healthy, evidence: vec!["50-fail".into()] });
        if !healthy {
            return End::Again;
        }
        assert!(matches!(effects.as_slice(), [Effect::Promote { .. }]), "{effects:?}");
        let before = self.now.block().clone();
        let still = before.trial.is_some_and(|t| t.deployment == TRIAL) && before.arm == arm;
        if before.good != TRIAL && still {
            self.write_block(&BootBlock { good: TRIAL, prev: Some(GOOD), trial: None, starts: 0, ..before });
        }
        self.take(if still || self.now.block().good == TRIAL { Event::Promoted } else { Event::Superseded });
        End::Rest(TRIAL)
    }

    /// The good one runs, or the one before it: it reports well, and what became of the trial is settled.
    fn settle(&mut self, root: DeployId, decision: &model::Decision) -> End {
        if self.refuses(Unwritable::All) {
            return End::Rest(root);
        }
        let another_root = root != decision.d;
        let before = self.now.block().clone();
        let mut after = before.clone();
        if before.good == root {
            after.starts = 0;
        } else if matches!(decision.why, Why::Starts | Why::Load) && before.prev.is_none_or(|prev| prev == root) {
            (after.prev, after.starts) = (Some(root), 0);
        }
        let failed = matches!(decision.why, Why::Hash | Why::Load | Why::NoSave) && decision.arm.is_some_and(|(arm, _)| arm == before.arm);
        after.trial = before.trial.filter(|t| t.mode != Mode::Once || (t.tries > 0 && t.deployment != root && !failed));
        if after != before {
            self.write_block(&after);
        }
        let block = self.now.block().clone();
        let facts = Facts {
            request: Request::Start,
            jitter: 1,
            booted: Some(root),
            why: Some(decision.why),
            another_root,
            good: block.good,
            prev: block.prev,
            good_set: Some(set(if block.good == TRIAL { 2 } else { 1 })),
            trial: block.trial,
            arm: block.arm,
            trial_set: block.trial.map(|_| set(2)),
            trial_changes: None,
            stage: self.now.stage.clone().unwrap_or_default(),
            parent: set(if block.good == TRIAL { 2 } else { 1 }),
            ours: vec![set(2)],
            good_well: true,
            spare: false,
            undeleted: Vec::new(),
            paused: false,
        };
        let mut effects: VecDeque<_> = self.take(Event::Begin(Box::new(facts))).into();
        while let Some(effect) = effects.pop_front() {
            let Effect::ClearTrial { d, arm } = effect else { continue };
            if self.refuses(Unwritable::Block) {
                // The program ends with the error, and begins anew at the next start.
                return End::Rest(root);
            }
            let block = self.now.block().clone();
            if block.trial.is_some_and(|t| t.deployment == d) && block.arm == arm && self.world.bug != Bug::NeverCleared {
                self.write_block(&BootBlock { trial: None, ..block });
            }
            effects.extend(self.take(Event::TrialCleared));
        }
        // One that is pending is restarted into, unless it cannot be taken out.
        if self.now.block().trial.is_some() && !self.refuses(Unwritable::Block) { End::Again } else { End::Rest(root) }
    }
}

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

fn power(world: &World, machine: &Machine) -> (Vec<Point>, End, Machine) {
    let mut power = Power { world, now: machine.clone(), faulty: machine.faulty > 0, marked: false, points: Vec::new() };
    if machine.faulty != ALWAYS {
        power.now.faulty = machine.faulty.saturating_sub(1);
    }
    let end = power.start();
    (power.points, end, power.now)
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
