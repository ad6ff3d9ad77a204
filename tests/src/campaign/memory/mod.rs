//! Power cuts in memory: every verb's plan, every moment, every subset of what was not on disk, then the real repair, and the same judge as
//! over recorded writes.
//!
//! ```text
//!  real verbs ── on a directory in memory ──► changes ──► what each cut may leave ──► GRUB's part of it judged as a value
//!  (plans, run, repair)   (machine: its btrfs)  (trace)          (cuts, disk)      └─► written out, repaired by the real code, judged
//! ```
//!
//! Nothing of the product is imitated but what btrfs does (`ast::sys::witness`): twelve calls, which a test compares with a real one, and what is
//! durable when, which another test asks a real one. So planning, running and repairing are the real ones, whatever verbs there are.

mod cuts;
mod disk;
mod histories;
mod machine;
pub mod real;
mod trace;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ast::layout;
use ast::store::machine::Block;
use ast::store::{Locked, Store};

use super::check::{Seen, settles};
use super::eyes::{in_blocks, look};
use super::machine::locked;
use super::past::{Past, booted, furnish};
use crate::cut::Seed;
use cuts::Left;
use disk::Disk;
use machine::Machine;
use trace::{Apart, Cut, Recorder};

pub use histories::{random, verbs};

/// Random subsets of each moment with more changes than [`cuts::ALL_OF`].
const SAMPLES: usize = 16;
/// Of a repair's moments, which are many times more.
const REPAIR_SAMPLES: usize = 2;

/// How much is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Of the random choices.
    pub seed: u64,
    /// One disk in so many is looked at with the kernel's eyes, which takes milliseconds; the others are GRUB's only.
    pub kernel_one_in: u64,
    /// One of these in so many has its repair cut.
    pub repair_one_in: u64,
    /// Threads.
    pub threads: usize,
}

/// What was seen.
#[derive(Debug, Default, Clone)]
pub struct Looked {
    /// Moments at which the power went.
    pub moments: usize,
    /// Subsets of what was not on disk then.
    pub subsets: usize,
    /// Different disks among them, as GRUB sees them.
    pub for_grub: usize,
    /// Different disks that were repaired.
    pub repaired: usize,
    /// Different disks that a cut in a repair left, repaired again.
    pub in_repairs: usize,
    /// Outcomes, by the verb that was under way and what was found: old, new.
    pub outcomes: BTreeMap<(String, &'static str), usize>,
    /// What was wrong, each with how to see it again. Everything ends with the first.
    pub wrong: Vec<String>,
    /// How long it took.
    pub elapsed: Duration,
}

impl std::fmt::Display for Looked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} moments, {} subsets; {} different disks for GRUB, {} repaired, {} more out of cut repairs; {} wrong; {:.1} s",
            self.moments,
            self.subsets,
            self.for_grub,
            self.repaired,
            self.in_repairs,
            self.wrong.len(),
            self.elapsed.as_secs_f64()
        )?;
        self.wrong.iter().try_for_each(|wrong| write!(f, "\n  wrong: {wrong}"))
    }
}

/// A workload, and everything that a disk may show after a cut in it.
#[derive(Debug)]
pub struct Workload {
    past: Past,
    cuts: Vec<Cut>,
}

impl Workload {
    /// The outcomes that must be seen: each verb old and new.
    pub fn verbs(&self) -> Vec<String> {
        self.past.was.iter().skip(1).map(|was| was.verb.clone()).collect()
    }

    /// Kinds of steps that its plans were made of.
    pub fn steps(&self) -> Vec<String> {
        self.past.steps.iter().cloned().collect()
    }
}

/// A machine like the one that is recorded, in memory.
fn furnished() -> Rc<Machine> {
    let machine = Machine::new();
    // There before it is asked for, so that it is this one.
    for name in [layout::FILE_BLOCK_A, layout::FILE_BLOCK_B] {
        std::fs::write(machine.esp().join(name), [0; 512]).expect("written");
    }
    furnish(&machine.top(), &machine.root(), Block::Files { uuid: "ABCD-1234".to_owned() });
    machine
}

fn open(machine: &Machine) -> Locked {
    locked(Store::open(&machine.root()).expect("a store"))
}

/// A state to be repaired.
struct Job {
    disk: Disk,
    apart: Arc<Apart>,
    confirmed: usize,
    repaired: Option<Seen>,
    moment: usize,
    state: usize,
}

/// Everything that `workload` may leave is looked at, up to the first that is wrong.
pub fn judge(workload: &Workload, effort: Effort) -> Looked {
    let started = Instant::now();
    let looked = Mutex::new(Looked::default());
    let (send, receive) = sync_channel::<Job>(256);
    let receive = Mutex::new(receive);
    std::thread::scope(|scope| {
        let (looked, receive) = (&looked, &receive);
        let workers: Vec<_> = (0..effort.threads).map(|_| scope.spawn(move || work(workload, effort, looked, receive))).collect();
        enumerate(workload, effort, looked, &send);
        drop(send);
        workers.into_iter().for_each(|worker| worker.join().expect("a judge"));
    });
    let mut looked = looked.into_inner().unwrap_or_else(PoisonError::into_inner);
    looked.elapsed = started.elapsed();
    looked
}

fn with<T>(looked: &Mutex<Looked>, change: impl FnOnce(&mut Looked) -> T) -> T {
    change(&mut looked.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Each state of each moment is looked at as GRUB does; those that are states for the kernel, too, are handed on.
fn enumerate(workload: &Workload, effort: Effort, looked: &Mutex<Looked>, send: &SyncSender<Job>) {
    let Workload { past, cuts } = workload;
    let mut known = HashSet::new();
    let mut sent = HashSet::new();
    for (moment, cut) in cuts.iter().enumerate() {
        let mut random = Seed::new(effort.seed).part(moment as u64);
        let mut number = 0;
        let mut choice = random.part(1);
        let subsets = cuts::each(cut, SAMPLES, &mut random, &mut |left: Left| {
            number += 1;
            let key = |disk: &Disk| (disk.hash(), Arc::as_ptr(&cut.apart) as usize, cut.confirmed);
            if known.insert(key(&left.for_grub)) {
                with(looked, |all| all.for_grub += 1);
                if let Err(what) = for_grub(past, cut.confirmed, &left.for_grub, &cut.apart) {
                    with(looked, |all| all.wrong.push(wrong(workload, effort, (moment, number), &format!("for GRUB: {what}"))));
                }
            }
            for disk in left.for_kernel {
                if sent.insert(key(&disk)) && choice.one_in(effort.kernel_one_in) {
                    let apart = Arc::clone(&cut.apart);
                    drop(send.send(Job { disk, apart, confirmed: cut.confirmed, repaired: None, moment, state: number }));
                }
            }
        });
        let go_on = with(looked, |all| {
            all.moments += 1;
            all.subsets += subsets;
            all.wrong.is_empty()
        });
        if !go_on {
            return;
        }
    }
}

fn for_grub(past: &Past, confirmed: usize, disk: &Disk, apart: &Apart) -> Result<(), String> {
    let copy = |name: &str| apart.get(name).map_or(&[][..], Vec::as_slice);
    let deployments = in_blocks([("A", copy(layout::FILE_BLOCK_A)), ("B", copy(layout::FILE_BLOCK_B))])?;
    let view = |path: &str| Ok(disk.read(path).map(|content| content.bytes.clone()));
    look(past, &view, confirmed, deployments).map(drop)
}

/// Repairs states until there are no more.
fn work(workload: &Workload, effort: Effort, looked: &Mutex<Looked>, receive: &Mutex<Receiver<Job>>) {
    let machine = Machine::new();
    let past = &workload.past;
    let mut random = Seed::new(effort.seed).part(u64::MAX);
    loop {
        let job = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        if !with(looked, |all| all.wrong.is_empty()) {
            continue;
        }
        let cut_repair = random.one_in(effort.repair_one_in);
        let recorder = show(&machine, &job, cut_repair);
        let said = caught(|| settles(past, job.repaired, job.confirmed, &machine.top(), &machine.root()));
        let cuts = recorder.map(|recorder| recorder.end()).unwrap_or_default();
        let seen = match said {
            Ok(seen) => seen,
            Err(what) => {
                with(looked, |all| all.wrong.push(wrong(workload, effort, (job.moment, job.state), &what)));
                continue;
            }
        };
        with(looked, |all| {
            all.repaired += 1;
            let what = if seen.place == seen.confirmed { "old" } else { "new" };
            *all.outcomes.entry((past.operation(seen.confirmed).to_owned(), what)).or_default() += 1;
        });
        let first = job;
        for job in in_repair(&cuts, seen, &first, &mut random) {
            drop(show(&machine, &job, false));
            let said = caught(|| settles(past, job.repaired, job.confirmed, &machine.top(), &machine.root()));
            with(looked, |all| match said {
                Ok(_) => all.in_repairs += 1,
                Err(what) => {
                    let of = &cuts[job.moment];
                    let what = format!("{what}\n  after a cut at moment {} of its repair:\n{of}", job.moment);
                    all.wrong.push(wrong(workload, effort, (first.moment, first.state), &what));
                }
            });
        }
    }
}

/// What was wrong, and how to see it again.
fn wrong(workload: &Workload, effort: Effort, (moment, state): (usize, usize), what: &str) -> String {
    let cut = &workload.cuts[moment];
    format!("seed {}, moment {moment} in {}, state {state}: {what}\n{cut}", effort.seed, workload.past.operation(cut.confirmed))
}

fn show(machine: &Rc<Machine>, job: &Job, record: bool) -> Option<Rc<Recorder>> {
    machine.become_disk(&job.disk, &job.apart).expect("written");
    record.then(|| Recorder::begin(machine))
}

/// What a cut in a repair, and in the one after it, may leave.
fn in_repair(cuts: &[Cut], seen: Seen, of: &Job, random: &mut Seed) -> Vec<Job> {
    let mut known = HashSet::from([of.disk.hash()]);
    let mut jobs = Vec::new();
    for (moment, cut) in cuts.iter().enumerate() {
        cuts::each(cut, REPAIR_SAMPLES, &mut random.clone(), &mut |left| {
            // Of the subsets of one moment some.
            for disk in left.for_kernel {
                if random.one_in(4) && known.insert(disk.hash()) {
                    let apart = Arc::clone(&cut.apart);
                    jobs.push(Job { disk, apart, confirmed: seen.confirmed, repaired: Some(seen), moment, state: 0 });
                }
            }
        });
    }
    jobs
}

/// A judge that panics has found something, too.
fn caught<T>(look: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(look)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned().or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    })
}

/// Where the machine's system runs as `d` says, for a workload.
fn runs(machine: &Machine, d: u32) -> PathBuf {
    booted(&machine.root(), d);
    machine.root()
}
