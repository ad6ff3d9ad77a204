//! One start of the machine, write by write.

use super::machine::*;
use ast::boot::block::{BootBlock, Mode, Trial};
use ast::boot::stage::{Start, begin};
use ast::cmdline::Why;
use ast::id::DeployId;
use ast::updates::{Effect, Event, Facts, Request};
use ast_tests::decide::disk::Copy;
use ast_tests::decide::model::{self, Files, Seen};
use std::collections::VecDeque;

/// What becomes of the machine in its next start: after each write, how it ends, and after all of them.
pub(super) fn power(world: &World, machine: &Machine) -> (Vec<Point>, End, Machine) {
    let mut power = Power { world, now: machine.clone(), faulty: machine.faulty > 0, marked: false, points: Vec::new() };
    if machine.faulty != ALWAYS {
        power.now.faulty = machine.faulty.saturating_sub(1);
    }
    let end = power.start();
    (power.points, end, power.now)
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
