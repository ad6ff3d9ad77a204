//! Whole machines: the power is cut at a random moment of an update, of a trial's start or of a rollback, and the machine settles by itself.

use std::any::Any;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::CampaignError;
use super::rows::{Row, Rows};
use crate::cut::Seed;
use crate::image::{Column, armed, promoted};
use crate::lab::repo::State;
use crate::scenario::{BOOT, Scenario, ScenarioError, judged, start_update, status, update};
use crate::vm::{Vm, cache_dir, lock};

/// The method, as the file names it.
const METHOD: &str = "vm-cut";
/// What must not be lost, and what it says: written and synced before the power goes.
const KEPT: &str = "/etc/kept.conf /home/kept /var/lib/kept";
const WORD: &str = "of this device";
/// For a question that takes a pacman run at most.
const COMMAND: Duration = Duration::from_secs(240);

/// What is under way when the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    /// The service updates to v2: check, upgrade, seal, deploy, restart, and what comes after it.
    Update,
    /// What is on trial starts: GRUB, initramfs, gate, promotion, retention.
    Trial,
    /// A person goes back, with the `/var` of that time, and restarts.
    Rollback,
}

impl Operation {
    const fn name(self) -> &'static str {
        match self {
            Self::Update => "update",
            Self::Trial => "trial",
            Self::Rollback => "rollback",
        }
    }

    /// Milliseconds within which the power goes: a little more than it takes on an emulated machine with a core of its own.
    const fn length(self) -> u64 {
        match self {
            Self::Update => 90_000,
            Self::Trial => 40_000,
            Self::Rollback => 15_000,
        }
    }
}

/// What a seed means.
#[derive(Debug, Clone, Copy)]
struct Wish {
    seed: u64,
    column: Column,
    operation: Operation,
    after: Duration,
}

impl Wish {
    /// The columns take turns; the rest is random.
    fn of(seed: u64) -> Self {
        let columns = Column::ALL;
        let column = columns[(seed % columns.len() as u64) as usize];
        let mut random = Seed::new(seed);
        // Most of what can go wrong is in an update.
        let operation = [Operation::Update, Operation::Update, Operation::Trial, Operation::Rollback][random.below(4) as usize];
        Self { seed, column, operation, after: Duration::from_millis(random.below(operation.length())) }
    }
}

/// Machines are cut and judged until the file has `wanted` of them, as many at a time as the computer may run; or that of one seed. Whether
/// none was wrong, ever.
pub fn run(csv: &Path, wanted: usize, seed: Option<u64>) -> Result<bool, CampaignError> {
    let rows = Mutex::new(Rows::open(csv)?);
    let begun = Mutex::new(BTreeSet::new());
    let next = || -> Option<u64> {
        let rows = held(&rows);
        let mut begun = held(&begun);
        let done: BTreeSet<u64> = rows.of(METHOD).map(|row| row.seed).collect();
        if rows.all().iter().any(Row::is_wrong) {
            return None;
        }
        let open = begun.difference(&done).count();
        let this = match seed {
            Some(seed) if begun.is_empty() => seed,
            None if done.len() + open < wanted => (1..).find(|seed| !done.contains(seed) && !begun.contains(seed))?,
            _ => return None,
        };
        begun.insert(this);
        Some(this)
    };
    let work = || -> Result<(), CampaignError> {
        while let Some(seed) = next() {
            let wish = Wish::of(seed);
            println!("seed {seed}: {}, {} cut after {:.1} s", wish.column, wish.operation.name(), wish.after.as_secs_f64());
            // A thread of its own: a scenario has its own network.
            let ended = std::thread::scope(|scope| scope.spawn(|| one(wish)).join());
            let row = ended.unwrap_or_else(|panic: Box<dyn Any + Send>| Err(CampaignError::of_panic(seed, panic.as_ref())))?;
            println!("seed {seed}: {} at {}: {}, {:.0} s", row.operation, row.moment, row.outcome, row.seconds);
            if row.is_wrong() {
                println!(
                    "the machine is kept below {}; `./dev campaign --vm 1 --seed {seed}` does the same again",
                    cache_dir().join("kept").display()
                );
            }
            held(&rows).append(row)?;
        }
        Ok(())
    };
    let workers = if seed.is_some() { 1 } else { lock::SLOTS };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| Err(CampaignError::of_panic(0, panic.as_ref()))))
    })?;
    let rows = held(&rows);
    let wrong = rows.all().iter().filter(|row| row.is_wrong()).count();
    println!("{} machines, {wrong} rows of the file are wrong", rows.of(METHOD).count());
    Ok(wrong == 0)
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One machine, from a fresh disk to an update after the cut.
fn one(wish: Wish) -> Result<Row, CampaignError> {
    let started = Instant::now();
    let Wish { seed, column, operation, .. } = wish;
    let scenario = machine(wish)?;
    let moment = cut(&scenario, wish)?;
    // From here on whatever does not work is a finding.
    let outcome = match settles(&scenario, operation) {
        Ok(outcome) => outcome.to_owned(),
        Err(what) => Row::wrong(&what),
    };
    let (column, operation) = (column.name().to_owned(), operation.name().to_owned());
    Ok(Row { seed, column, method: METHOD.into(), operation, moment, outcome, seconds: started.elapsed().as_secs_f64() })
}

fn machine(wish: Wish) -> Result<Scenario, ScenarioError> {
    let name = format!("campaign-{}", wish.seed);
    let scenario = match wish.operation {
        Operation::Update => Scenario::new(&name, wish.column)?,
        Operation::Trial => Scenario::on(&name, wish.column, &armed(&cache_dir(), wish.column, State::V2)?)?,
        Operation::Rollback => Scenario::on(&name, wish.column, &promoted(&cache_dir(), wish.column, State::V2)?)?,
    };
    scenario.offer(State::V2)?;
    Ok(scenario)
}

/// A machine that loses what it did not flush when its emulator is killed.
fn start(scenario: &Scenario) -> Result<Vm, ScenarioError> {
    let mut config = scenario.config();
    config.disks.iter_mut().for_each(|disk| disk.cache = "writeback");
    Ok(Vm::start(config)?)
}

/// The power is cut. When that was.
fn cut(scenario: &Scenario, wish: Wish) -> Result<String, ScenarioError> {
    let mut vm = start(scenario)?;
    if wish.operation != Operation::Trial {
        vm.wait_shell(BOOT)?;
        judged(&mut vm)?;
        vm.sh(&format!("for f in {KEPT}; do echo {WORD} > $f; done; sync"))?;
    }
    match wish.operation {
        Operation::Update => start_update(&mut vm)?,
        Operation::Rollback => vm.send("ast --yes rollback --previous --with-var && reboot\r")?,
        Operation::Trial => {}
    }
    let begun = Instant::now();
    let resets = vm.resets();
    let mut restarted = None;
    while begun.elapsed() < wish.after {
        if restarted.is_none() && vm.resets() > resets {
            restarted = Some(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5).min(wish.after.saturating_sub(begun.elapsed())));
    }
    vm.power_cut();
    let at = begun.elapsed();
    Ok(match restarted {
        Some(since) => format!("{:.2} s after its restart", (at - since).as_secs_f64()),
        None => format!("{:.2} s", at.as_secs_f64()),
    })
}

/// The machine is switched on again, and nobody does anything: it boots, the default is the old one or the new one and whole, the tree agrees,
/// nothing is lost, and the next update is promoted. Which of the two.
fn settles(scenario: &Scenario, operation: Operation) -> Result<&'static str, String> {
    let mut vm = start(scenario).map_err(|e| e.to_string())?;
    let settled = (|| -> Result<Result<&'static str, String>, ScenarioError> {
        vm.wait_shell(BOOT)?;
        judged(&mut vm)?;
        let now = status(&mut vm)?;
        let (booted, default) = (now["booted"]["deployment"].as_u64(), now["default"]["deployment"].as_u64());
        let hello = vm.sh("pacman -Q hello")?.trim().to_owned();
        if booted != default || !now["trial"].is_null() {
            return Ok(Err(format!("booted {booted:?}; default {default:?}; trial {}", now["trial"])));
        }
        let old = match (default, hello.as_str()) {
            (Some(1), "hello 1-1") => operation != Operation::Rollback,
            (Some(2), "hello 2-1") => operation == Operation::Rollback,
            other => return Ok(Err(format!("neither old nor new: {other:?}"))),
        };
        // What repair does is allowed; what is still wrong then is not.
        let said = vm.run("ast --json doctor --fix", COMMAND)?;
        let doctor: serde_json::Value = serde_json::from_str(&said.stdout).unwrap_or_default();
        let Some(checks) = doctor["checks"].as_array() else { return Ok(Err(format!("doctor: {}{}", said.stdout, said.stderr))) };
        let wrong: Vec<String> =
            checks.iter().filter(|check| check["ok"] != true).map(|c| format!("{} {}", c["promise"], c["found"])).collect();
        if !wrong.is_empty() {
            return Ok(Err(format!("doctor: {}", wrong.join("; "))));
        }
        if operation != Operation::Trial {
            // A rollback takes /etc and /var back to another time; /home is nobody's but the device's.
            let kept = if operation == Operation::Rollback { "/home/kept" } else { KEPT };
            let said = vm.run(&format!("for f in {kept}; do grep -qx '{WORD}' $f || echo lost $f; done"), COMMAND)?.stdout;
            if !said.is_empty() {
                return Ok(Err(said));
            }
        }
        scenario.offer(State::V3)?;
        update(&mut vm)?;
        judged(&mut vm)?;
        let now = status(&mut vm)?;
        let hello = vm.sh("pacman -Q hello")?;
        let converged = hello == "hello 3-1\n" && now["trial"].is_null() && now["booted"]["deployment"] == now["default"]["deployment"];
        Ok(if converged { Ok(if old { "old" } else { "new" }) } else { Err(format!("the next update ended with {hello}: {now}")) })
    })();
    settled.unwrap_or_else(|error| Err(error.to_string())).inspect_err(|_| drop(vm.keep()))
}
