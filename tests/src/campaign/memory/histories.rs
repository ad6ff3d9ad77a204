//! What is done on the machine in memory: every verb of the campaign, or verbs at random on a tree that grows and shrinks.

use ast::boot::booted::Booted;
use ast::config::autoupdate::Keep;
use ast::deploy::{self, Etc, How, Var};
use ast::id::{DeployId, SnapshotId};
use ast::plan::Plan;
use ast::retain;
use ast::store::{Locked, StoreError};
use ast::updates::Updates;

use super::super::past::{LIVE, name_of, run};
use super::super::verbs::{CHANGED_LIVE, VERBS, Verb, change_live, copy};
use super::trace::Recorder;
use super::{Machine, Past, Rc, Workload, furnished, open, runs};
use crate::cut::Seed;

/// Watches a machine while verbs are done on it.
struct Doing {
    machine: Rc<Machine>,
    recorder: Rc<Recorder>,
    past: Past,
}

impl Doing {
    fn begin() -> Self {
        let machine = furnished();
        let mut past = Past::default();
        past.note("nothing", &open(&machine), &machine.top());
        // After the repair that opening is: it is the state that everything begins with.
        let recorder = Recorder::begin(&machine);
        Self { machine, recorder, past }
    }

    /// One more verb, as a process of its own; whether it was possible.
    fn verb(&mut self, name: &str, running: u32, plan: impl FnOnce(&Locked) -> Option<Plan>) -> bool {
        runs(&self.machine, running);
        let mut locked = open(&self.machine);
        let Some(plan) = plan(&locked) else { return false };
        self.past.steps.extend(plan.prepare.iter().chain(&plan.after).map(|step| name_of(step).to_owned()));
        run(&mut locked, plan);
        self.returned(name, &locked);
        true
    }

    fn returned(&mut self, name: &str, locked: &Locked) {
        self.recorder.mark();
        self.past.note(name, locked, &self.machine.top());
    }

    fn end(self) -> Workload {
        let cuts = self.recorder.end();
        Workload { past: self.past, cuts }
    }
}

/// Every verb that makes a plan, and a live change, as they are recorded.
pub fn verbs() -> Workload {
    let mut doing = Doing::begin();
    for Verb { name, booted, plan } in VERBS {
        assert!(doing.verb(name, booted, |locked| Some(plan(locked))), "{name} is possible");
    }
    runs(&doing.machine, CHANGED_LIVE);
    let locked = open(&doing.machine);
    change_live(&locked);
    doing.returned(LIVE, &locked);
    drop(locked);
    doing.end()
}

/// `count` verbs at random, those that are refused left out.
pub fn random(seed: u64, count: usize) -> Workload {
    let mut doing = Doing::begin();
    let mut random = Seed::new(seed);
    let mut running = 1;
    let mut done = 0;
    while done < count {
        let mut name = "";
        let possible = doing.verb("random", running, |locked| {
            let (chosen, plan) = choose(locked, &mut random);
            name = chosen;
            plan
        });
        if possible {
            done += 1;
            if let Some(last) = doing.past.was.last_mut() {
                last.verb = name.to_owned();
            }
        }
        // Mostly what is the good one runs, at times what is on trial, at times nothing is known.
        let block = open(&doing.machine).block().expect("a block");
        running = match random.below(8) {
            0 => 0,
            1 => block.trial.map_or(block.good, |trial| trial.deployment).get(),
            _ => block.good.get(),
        };
    }
    doing.end()
}

/// A verb and what it is done to.
fn choose(locked: &Locked, random: &mut Seed) -> (&'static str, Option<Plan>) {
    fn made<T>(planned: Result<(Plan, T), StoreError>) -> Option<Plan> {
        planned.ok().map(|(plan, _)| plan)
    }
    let ids: Vec<SnapshotId> = locked.tree().expect("a tree").nodes().map(|node| node.id).collect();
    let mut any = || ids[random.below(ids.len() as u64) as usize];
    let (n, other) = (any(), any());
    let few = ids.len() < 7;
    let block = locked.block().expect("a block");
    let booted = |why: &str, d: DeployId| Booted::parse(&format!("d={d}\nwhy={why}\narm={}\nleft=2\nenv=ok\n", block.arm));
    let etc = if random.one_in(2) { Etc::OfSnapshot } else { Etc::MergedFrom(block.good) };
    match random.below(16) {
        0 if few => ("new", made(locked.plan_new("a tree"))),
        1 if few => ("clone", made(locked.plan_clone(n, "cloned"))),
        2 if few => ("branch", made(locked.plan_branch(n, "branched"))),
        3 if few => ("cbranch", made(locked.plan_cbranch(n, "beside"))),
        4 if few => ("ubranch", made(locked.plan_ubranch(n, other, "below"))),
        5 if few => ("clone-tree", made(locked.plan_clone_tree(n, None))),
        6 => ("del", made(locked.plan_del(n))),
        7 => ("desc", locked.plan_describe(n, &format!("described {}", random.below(1000))).ok()),
        8 => ("pin", locked.plan_pin(n, random.one_in(2)).ok().flatten()),
        9 => {
            let (from, dir) = copy(locked, n);
            super::super::machine::write(&dir.join("root/word"), &format!("saved {}", random.below(1000)));
            ("seal", made(locked.plan_seal(from, &dir, "save")))
        }
        10 | 11 => {
            let how = [How::Trial, How::Trial, How::Once, How::NoTrial][random.below(4) as usize];
            ("deploy", made(deploy::plan_deploy(locked, n, how, etc)))
        }
        12 => ("promote", block.trial.and_then(|trial| deploy::plan_promote(locked, &booted("trial", trial.deployment)).ok().flatten())),
        13 => (
            "fail-trial",
            block.trial.and_then(|trial| deploy::plan_fail_trial(locked, trial.deployment, block.arm, "it was bad").ok().flatten()),
        ),
        14 => {
            let var = if random.one_in(2) { Var::AsItIs } else { Var::OfThatTime };
            ("rollback", made(deploy::plan_rollback_previous(locked, var)))
        }
        _ => {
            let found = retain::look(locked, &Updates::default(), &Keep::newest(1));
            ("clean", found.ok().and_then(|found| found.plan(locked).ok().flatten()))
        }
    }
}
