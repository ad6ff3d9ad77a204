//! A toy machine: a tree of numbers, a block, a mirror; everything that the effects touch and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::*;
use super::set;
use crate::boot::block::{Mode, Trial};
use crate::boot::stage::{Reached, Stage};
use crate::cmdline::Why;
use crate::id::{ArmId, DeployId, SetId, SnapshotId};

/// Something that befalls the machine.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A cycle that is killed at its n-th effect, before or after that was done; not at all past the last.
    Cycle { kill_at: usize, done: bool },
    /// A cycle whose n-th effect fails.
    Fails { at: usize },
    /// The machine restarts.
    Restart,
    /// The mirror moves on; the version may be bad.
    Mirror { bad: bool },
    /// A person deploys something by hand.
    Person,
    /// Days go by.
    Days(u8),
}

pub fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => (0usize..14, any::<bool>()).prop_map(|(kill_at, done)| Happening::Cycle { kill_at, done }),
        1 => (0usize..10).prop_map(|at| Happening::Fails { at }),
        4 => Just(Happening::Restart),
        1 => any::<bool>().prop_map(|bad| Happening::Mirror { bad }),
        1 => Just(Happening::Person),
        1 => (0u8..40).prop_map(Happening::Days),
    ]
}

pub struct World {
    disk: String,
    starts: u32,
    uptime: u64,
    /// Snapshot → (version of the one package in it, the mark of the update that made it).
    tree: BTreeMap<SnapshotId, (u32, Option<String>)>,
    next_snapshot: u32,
    deployments: BTreeMap<DeployId, (SetId, bool)>,
    next_d: u32,
    good: DeployId,
    trial: Option<Trial>,
    arm: ArmId,
    used_arms: BTreeSet<ArmId>,
    booted: DeployId,
    why: Why,
    stage: Stage,
    mirror: u32,
    bad: BTreeSet<u32>,
}

impl World {
    pub fn new() -> Self {
        let first = DeployId::new(1);
        Self {
            disk: serde_json::to_string(&Updates::default()).expect("json"),
            starts: 0,
            uptime: 60,
            tree: BTreeMap::from([(SnapshotId::new(1), (1, None))]),
            next_snapshot: 2,
            deployments: BTreeMap::from([(first, (set(1), false))]),
            next_d: 2,
            good: first,
            trial: None,
            arm: ArmId::new(0),
            used_arms: BTreeSet::new(),
            booted: first,
            why: Why::Good,
            stage: Stage::default(),
            mirror: 1,
            bad: BTreeSet::new(),
        }
    }

    fn load(&self) -> Updates {
        let mut updates: Updates = serde_json::from_str(&self.disk).expect("what was saved");
        updates.clock.tick(&self.starts.to_string(), self.uptime);
        updates
    }

    fn save(&mut self, updates: &Updates) {
        self.disk = serde_json::to_string(updates).expect("json");
    }

    fn version(&self, d: DeployId) -> u32 {
        self.tree[&self.deployments[&d].0.snapshot].0
    }

    fn facts(&self, updates: &Updates) -> Facts {
        let there = |p: &Prepared| self.tree.get(&p.snapshot).is_some_and(|(_, mark)| mark.as_ref() == Some(&p.mark));
        let ours = updates.own_snapshots().iter().filter(|p| there(p)).map(|p| set(p.snapshot.get())).collect();
        Facts {
            request: Request::Timer,
            jitter: 7,
            booted: Some(self.booted),
            why: Some(self.why),
            another_root: false,
            good: self.good,
            prev: None,
            good_set: Some(self.deployments[&self.good].0),
            trial: self.trial,
            arm: self.arm,
            trial_set: self.trial.map(|t| self.deployments[&t.deployment].0),
            trial_changes: None,
            stage: self.stage.clone(),
            parent: self.deployments[&self.good].0,
            ours,
            good_well: true,
            spare: !self.spare(updates).is_empty(),
            undeleted: vec![],
            paused: false,
        }
    }

    /// What retention would take: of ours, whatever neither boots nor is about to, but the last that failed.
    fn spare(&self, updates: &Updates) -> Vec<SnapshotId> {
        let booting = [Some(self.good), Some(self.booted), self.trial.map(|t| t.deployment)];
        let used: Vec<_> = booting.into_iter().flatten().map(|d| self.deployments[&d].0.snapshot).collect();
        let known: Vec<_> = updates.own_snapshots().iter().chain(&updates.failed).map(|p| p.snapshot).collect();
        let spare = |n: &SnapshotId| self.tree[n].1.is_some() && !used.contains(n) && !known.contains(n);
        self.tree.keys().copied().filter(spare).collect()
    }

    fn changes(&self, from: u32) -> Changes {
        let versions = |v: u32| BTreeMap::from([("linux".to_owned(), v.to_string())]);
        Changes::between(&versions(from), &versions(self.mirror))
    }

    /// What the effect does to the world, and the event that it gives.
    fn perform(&mut self, effect: &Effect, state: &State) -> Option<Event> {
        Some(match effect {
            Effect::Discard(prepared) => {
                let n = &prepared.snapshot;
                let used = |d: &DeployId| self.deployments[d].0.snapshot == *n;
                let mark = self.tree.get(n).map(|(_, mark)| mark);
                assert!(mark.is_none_or(|m| m.as_ref() == Some(&prepared.mark)), "what a person made was to be deleted");
                assert!(!used(&self.good) && !used(&self.booted), "what runs was to be deleted");
                self.tree.remove(n);
                return None;
            }
            Effect::Retain => {
                assert!(self.trial.is_none() && self.booted == self.good, "retention in a trial, or before the default is proven");
                assert_eq!(*state, State::Retaining);
                for n in self.spare(&self.load()) {
                    self.tree.remove(&n);
                }
                Event::Retained(vec![])
            }
            Effect::Check(parent) | Effect::Upgrade(parent) => {
                let changes = self.changes(self.tree[&parent.snapshot].0);
                if matches!(effect, Effect::Check(_)) { Event::Checked(changes) } else { Event::Upgraded(changes) }
            }
            Effect::Verify => Event::Whole,
            Effect::PlanSeal => Event::SealPlanned(SnapshotId::new(self.next_snapshot)),
            Effect::CommitSeal => {
                let n = SnapshotId::new(self.next_snapshot);
                self.next_snapshot += 1;
                let State::Sealing { update, snapshot } = state else { panic!("sealed in {state:?}") };
                assert_eq!(n, *snapshot, "another number than planned");
                assert!(self.tree.insert(n, (self.mirror, Some(update.mark()))).is_none(), "a number was used twice");
                Event::Sealed(set(n.get()))
            }
            Effect::PlanDeploy(_) => Event::DeployPlanned { d: DeployId::new(self.next_d), arm: self.arm.next().expect("a number") },
            Effect::CommitDeploy => {
                let State::Deploying { set, d, arm, .. } = state else { panic!("armed in {state:?}") };
                assert!(self.trial.is_none(), "a second trial was armed over {:?}", self.trial);
                assert!(self.used_arms.insert(*arm), "an arming was used twice");
                assert!(self.tree.contains_key(&set.snapshot), "what is armed is not in the tree");
                self.deployments.insert(*d, (*set, true));
                self.next_d += 1;
                self.arm = *arm;
                self.stage = Stage::default();
                self.trial = Some(Trial { deployment: *d, mode: Mode::Trial, tries: 3 });
                Event::Armed
            }
            Effect::AskReboot => Event::RebootAllowed,
            Effect::Promote { d, arm } => {
                if self.arm != *arm || self.trial.is_none_or(|t| t.deployment != *d) {
                    return Some(Event::Superseded);
                }
                assert!(!self.bad.contains(&self.version(*d)), "a bad version was promoted");
                (self.good, self.trial) = (*d, None);
                Event::Promoted
            }
            Effect::ClearTrial { arm, .. } => {
                assert_eq!(self.arm, *arm, "another arming was to be cleared");
                self.trial = None;
                Event::TrialCleared
            }
            Effect::Reboot | Effect::End(_) => return None,
        })
    }

    /// Runs from `event` on; `kill` is the effect at which we die, and whether that effect was still done.
    fn run(&mut self, event: Event, kill: Option<(usize, bool)>, fails: Option<usize>) {
        let mut updates = self.load();
        let mut event = Some(event);
        let mut count = 0;
        while let Some(now) = event.take() {
            let (next, effects) = updates.step(now).expect("the driver sends only what fits");
            self.save(&next);
            updates = next;
            let last = effects.last().expect("at least one effect");
            assert!(!matches!(last, Effect::Discard(_)), "nothing goes on after {effects:?}");
            for effect in &effects {
                count += 1;
                if let Some((at, done)) = kill.filter(|(at, _)| *at == count) {
                    if done && !matches!(effect, Effect::Reboot) {
                        self.perform(effect, &updates.state);
                    }
                    assert_eq!(at, count);
                    return;
                }
                let can_fail = !matches!(effect, Effect::End(_) | Effect::Reboot | Effect::Discard(_));
                event = if can_fail && fails == Some(count) {
                    Some(Event::WentWrong("the world".into()))
                } else {
                    self.perform(effect, &updates.state)
                };
                if matches!(effect, Effect::Reboot) {
                    self.restart();
                }
            }
        }
    }

    fn cycle(&mut self, kill: Option<(usize, bool)>, fails: Option<usize>) {
        let facts = self.facts(&self.load());
        self.run(Event::Begin(Box::new(facts)), kill, fails);
    }

    /// The boot loader, the initramfs and the gate.
    fn restart(&mut self) {
        self.starts += 1;
        self.uptime = 30;
        match self.trial {
            Some(t) if t.tries > 0 => {
                self.trial = Some(Trial { tries: t.tries - 1, ..t });
                if self.bad.contains(&self.version(t.deployment)) {
                    // It panics, or its gate says no; either way the next start follows at once.
                    if self.starts % 2 == 0 {
                        self.stage = super::stage(self.arm.get(), Reached::Userspace);
                        self.stage.add_evidence("gate: no");
                        self.gate(t.deployment, false);
                    }
                    return self.restart();
                }
                (self.booted, self.why) = (t.deployment, Why::Trial);
                self.gate(t.deployment, true);
            }
            Some(_) => (self.booted, self.why) = (self.good, Why::Exhausted),
            None => (self.booted, self.why) = (self.good, Why::Good),
        }
    }

    fn gate(&mut self, d: DeployId, healthy: bool) {
        let event = Event::Gate { d, arm: self.arm, set: Some(self.deployments[&d].0), healthy, evidence: vec![] };
        self.run(event, None, None);
    }

    pub fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Cycle { kill_at, done } => self.cycle(Some((kill_at, done)), None),
            Happening::Fails { at } => self.cycle(None, Some(at)),
            Happening::Restart => self.restart(),
            Happening::Mirror { bad } => {
                self.mirror += 1;
                if bad {
                    self.bad.insert(self.mirror);
                }
            }
            Happening::Person => {
                let n = SnapshotId::new(self.next_snapshot);
                let d = DeployId::new(self.next_d);
                (self.next_snapshot, self.next_d) = (self.next_snapshot + 1, self.next_d + 1);
                self.tree.insert(n, (1, None));
                self.deployments.insert(d, (set(n.get()), false));
                self.arm = self.arm.next().expect("a number");
                assert!(self.used_arms.insert(self.arm), "an arming was used twice");
                self.stage = Stage::default();
                self.trial = Some(Trial { deployment: d, mode: Mode::Trial, tries: 3 });
            }
            Happening::Days(days) => self.uptime += u64::from(days) * 86_400,
        }
    }

    /// A quiet world: no kill, no failure, time goes by, and the mirror has a good version.
    pub fn settle(&mut self) {
        self.mirror += 1;
        for _ in 0..12 {
            self.uptime += 2 * 86_400;
            self.cycle(None, None);
            self.restart();
        }
        let snapshots = self.tree.len();
        let updates = self.load();
        assert_eq!(updates.state, State::Idle, "settled");
        assert_eq!((self.version(self.good), self.trial), (self.mirror, None), "the good version is the default");
        assert_eq!((self.booted, updates.degraded), (self.good, None));
        self.cycle(None, None);
        assert_eq!(self.tree.len(), snapshots, "a cycle with nothing new left something");
        // Ours in the tree: what was promoted, what a person superseded, and at most one that failed.
        let deployed: BTreeSet<_> = self.deployments.values().map(|(s, _)| s.snapshot).collect();
        let leaked: Vec<_> = self.tree.iter().filter(|(n, (_, mark))| mark.is_some() && !deployed.contains(n)).collect();
        assert!(leaked.is_empty(), "never deployed and never deleted: {leaked:?}");
    }
}
