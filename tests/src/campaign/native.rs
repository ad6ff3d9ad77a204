//! States made from recorded writes, judged one after the other; and one of them again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::check::{Judge, Seen};
use super::past::{self, Past, apart, base, record, record_repair};
use super::rows::{Row, Rows};
use super::{CampaignError, keep_dir};
use crate::cut::{Preview, Report, Seed, State, Strategy, WriteLog, replay_some};
use crate::vm::tool::tool;

/// Random cuts before each flush, beside the flush itself.
const PER_FLUSH: u32 = 1;
/// One state in so many has its repair recorded and cut.
const REPAIR_ONE_IN: u64 = 100;
/// So many in the deciding test.
const DECIDING_REPAIRS: usize = 2;
/// The column of what no machine booted.
const NATIVE: &str = "native";
/// Methods, as the file names them.
const REPLAY: &str = "replay";
const REPAIR: &str = "replay-repair";
const RECORDING: &str = "recording";

/// What a deciding replay saw.
#[derive(Debug)]
pub struct Decided {
    /// The states that were looked at: no two lead to the same superblocks and the same boot block. The outcomes are the places in the past.
    pub report: Report,
    /// How many places there are.
    pub places: usize,
    /// Kinds of steps that no verb took.
    pub steps_not_taken: BTreeSet<String>,
    /// Where the same verbs in memory ([`super::memory`]) made another machine.
    pub differences: Vec<String>,
}

/// One recording is replayed, with the repairs of some of its states. States that lead to nothing else than one before are passed over.
pub fn decide(seed: u64) -> Result<Decided, CampaignError> {
    let dir = tempfile::tempdir().map_err(|source| CampaignError::Io { path: std::env::temp_dir(), source })?;
    let (log, past) = record(&base(dir.path()))?;
    eprintln!("{} flushes, {} bytes written", log.flushes(), log.bytes());
    let judge = RefCell::new(Judge::in_haste(&past, None));
    let (wrong, mut samples) = (Cell::new(false), Vec::new());
    // Spread over the recording: a new operation each.
    let step = past.was.len() / (DECIDING_REPAIRS + 1);
    let strategy = Strategy::Subsets { seed, per_flush: PER_FLUSH };
    // The first wrong one is enough: a look costs time.
    let wanted = |state: &Preview<'_>| !wrong.get() && judge.borrow().before(state).is_none();
    let mut report = replay_some(&log, strategy, wanted, |state| {
        let mut judge = judge.borrow_mut();
        let confirmed = judge.confirmed(state.marks().last().copied());
        let wanted = samples.len() < DECIDING_REPAIRS && confirmed >= (samples.len() + 1) * step && state.tag().contains("cut");
        let image = wanted.then(|| sample(state, dir.path())).transpose().map_err(|e| e.to_string())?;
        let seen = judge.check(state).inspect_err(|what| {
            eprintln!("{} after {:?}: {what}", state.tag(), state.marks());
            wrong.set(true);
        })?;
        samples.extend(image.map(|image| (image, seen)));
        Ok(after(seen))
    })?;
    eprintln!("{report}");
    for (image, seen) in samples {
        let log = record_repair(&image)?;
        let judge = RefCell::new(Judge::in_haste(&past, Some(seen)));
        let wanted = |state: &Preview<'_>| judge.borrow().before(state).is_none();
        let repairs = replay_some(&log, strategy, wanted, |state| judge.borrow_mut().check(state).map(after))?;
        eprintln!("repair of a cut in {}: {repairs}", past.operation(seen.confirmed));
        report.states += repairs.states;
        report.violations.extend(repairs.violations);
    }
    let taken = &past.steps;
    let steps_not_taken = past::STEPS.into_iter().map(str::to_owned).filter(|step| !taken.contains(step)).collect();
    let differences = super::memory::real::differences(&past);
    Ok(Decided { report, places: past.was.len(), steps_not_taken, differences })
}

fn after(seen: Seen) -> String {
    format!("after {}", seen.place)
}

/// A copy of the disk of a state, before anybody mounts it.
fn sample(state: &State<'_>, dir: &Path) -> Result<PathBuf, CampaignError> {
    let to = dir.join(format!("{}.img", state.tag().replace(' ', "-")));
    tool("cp", &["--sparse=always".as_ref(), "--".as_ref(), state.image().as_os_str(), to.as_os_str()])
        .map_err(crate::cut::CutError::from)?;
    Ok(to)
}

/// Recordings are replayed until the file has `wanted` states, each recording to its end; or that of one seed; or only, in one of them, what is
/// cut in the verb `only`. Whether none was wrong, ever.
pub fn run(csv: &Path, wanted: usize, seed: Option<u64>, only: Option<&str>) -> Result<bool, CampaignError> {
    let mut tried = false;
    let mut rows = Rows::open(csv)?;
    loop {
        let done = rows.of(REPLAY).count() + rows.of(REPAIR).count();
        if rows.all().iter().any(Row::is_wrong) {
            println!("{}: something was wrong: mend its cause, take its rows out (or the whole file away), and start again", csv.display());
            return Ok(false);
        }
        let this = seed.unwrap_or_else(|| next_seed(&rows));
        let complete = rows.of(RECORDING).any(|row| row.seed == this);
        if complete || (seed.is_none() && only.is_none() && done >= wanted) || std::mem::replace(&mut tried, only.is_some()) {
            println!("{done} states natively, none wrong");
            return Ok(true);
        }
        println!("seed {this}: every verb is recorded; {done} states so far");
        // A thread has its own mounts, and what cannot be recorded at all is told like any other failure.
        let ended = std::thread::scope(|scope| scope.spawn(|| recording(&mut rows, this, only)).join());
        ended.unwrap_or_else(|panic| Err(CampaignError::of_panic(this, panic.as_ref())))?;
    }
}

/// The seed that was begun, or the next one.
fn next_seed(rows: &Rows) -> u64 {
    let newest = rows.all().iter().filter(|row| row.column == NATIVE).map(|row| row.seed).max();
    let complete = |seed| rows.of(RECORDING).any(|row| row.seed == seed);
    newest.map_or(1, |seed| if complete(seed) { seed + 1 } else { seed })
}

/// Every state of one recording that the file does not have yet, and the repairs of some.
fn recording(rows: &mut Rows, seed: u64, only: Option<&str>) -> Result<(), CampaignError> {
    let started = Instant::now();
    let dir = tempfile::tempdir().map_err(|source| CampaignError::Io { path: std::env::temp_dir(), source })?;
    let (log, past) = record(&base(dir.path()))?;
    println!("seed {seed}: {} flushes, {} KiB written", log.flushes(), log.bytes() >> 10);
    let shown = Shown { log: &log, past: &past, seed, method: REPLAY, repaired: None, only, prefix: String::new() };
    let mut all_well = shown.show(rows)?;
    let samples = if all_well { shown.samples(dir.path())? } else { Vec::new() };
    for (image, tag, seen) in samples {
        let log = record_repair(&image)?;
        let prefix = format!("repair after {tag}: ");
        let shown = Shown { log: &log, past: &past, seed, method: REPAIR, repaired: Some(seen), only: None, prefix };
        all_well &= shown.show(rows)?;
        if !all_well {
            break;
        }
    }
    if all_well && only.is_none() {
        let states = rows.all().iter().filter(|row| row.seed == seed && [REPLAY, REPAIR].contains(&row.method.as_str())).count();
        rows.append(Row {
            seed,
            column: NATIVE.into(),
            method: RECORDING.into(),
            operation: "all".into(),
            moment: format!("{states} states"),
            outcome: "whole".into(),
            seconds: started.elapsed().as_secs_f64(),
        })?;
        println!("seed {seed}: {states} states, none wrong, {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// True one time in `n`, always the same for a seed and a state.
fn chance(seed: u64, tag: &str, n: u64) -> bool {
    let mut hash = DefaultHasher::new();
    tag.hash(&mut hash);
    Seed::new(seed).part(hash.finish()).one_in(n)
}

/// States of one recording, and how they are told.
struct Shown<'a> {
    log: &'a WriteLog,
    past: &'a Past,
    seed: u64,
    method: &'static str,
    repaired: Option<Seen>,
    only: Option<&'a str>,
    prefix: String,
}

impl Shown<'_> {
    const fn strategy(&self) -> Strategy {
        Strategy::Subsets { seed: self.seed, per_flush: PER_FLUSH }
    }

    /// Each state that `rows` do not have is judged and told, until one is wrong, which is kept. Whether none was.
    fn show(&self, rows: &mut Rows) -> Result<bool, CampaignError> {
        let known = rows.moments(self.method, self.seed);
        let mut judge = Judge::new(self.past, self.repaired);
        let ended: RefCell<Option<Result<String, CampaignError>>> = RefCell::new(None);
        let since = Cell::new(Instant::now());
        let wanted = |state: &Preview<'_>| {
            since.set(Instant::now());
            self.is_asked_for(state) && ended.borrow().is_none() && !known.contains(&format!("{}{}", self.prefix, state.tag()))
        };
        let mut look = |state: &mut State<'_>| -> Result<(), CampaignError> {
            let confirmed = judge.confirmed(state.marks().last().copied());
            let said = judge.check(state);
            let outcome = match &said {
                Ok(seen) if seen.place == seen.confirmed => "old".to_owned(),
                Ok(_) => "new".to_owned(),
                Err(what) => Row::wrong(what),
            };
            let operation = self.past.operation(self.repaired.map_or(confirmed, |seen| seen.confirmed));
            rows.append(Row {
                seed: self.seed,
                column: NATIVE.into(),
                method: self.method.into(),
                operation: operation.to_owned(),
                moment: format!("{}{}", self.prefix, state.tag()),
                outcome,
                seconds: since.get().elapsed().as_secs_f64(),
            })?;
            if let Err(what) = said {
                println!("WRONG: seed {}, {}{} in {operation}: {what}", self.seed, self.prefix, state.tag());
                *ended.borrow_mut() = Some(Ok(state.tag().to_owned()));
            }
            Ok(())
        };
        replay_some(self.log, self.strategy(), wanted, |state| {
            if let Err(error) = look(state) {
                *ended.borrow_mut() = Some(Err(error));
            }
            Ok(String::new())
        })?;
        match ended.into_inner() {
            None => Ok(true),
            Some(tag) => {
                let place = self.keep(&tag?)?;
                println!("kept; `./dev campaign --again {}` shows exactly it again", place.display());
                Ok(false)
            }
        }
    }

    /// Disks of some states, before anybody looked at them, and what they were found to be.
    fn samples(&self, dir: &Path) -> Result<Vec<(PathBuf, String, Seen)>, CampaignError> {
        let mut judge = Judge::new(self.past, self.repaired);
        let wanted = |state: &Preview<'_>| self.is_asked_for(state) && chance(self.seed, state.tag(), REPAIR_ONE_IN);
        let mut samples = Vec::new();
        let mut failed = Ok(());
        replay_some(self.log, self.strategy(), wanted, |state| {
            match sample(state, dir) {
                Ok(image) => samples.extend(judge.check(state).ok().map(|seen| (image, state.tag().to_owned(), seen))),
                Err(error) => failed = Err(error),
            }
            Ok(String::new())
        })?;
        failed.map(|()| samples)
    }

    fn is_asked_for(&self, state: &Preview<'_>) -> bool {
        let confirmed = || Judge::new(self.past, self.repaired).confirmed(state.last_mark());
        self.only.is_none_or(|only| self.past.operation(confirmed()) == only)
    }

    /// Everything that is needed to show the state again lies in a directory, which is returned.
    fn keep(&self, tag: &str) -> Result<PathBuf, CampaignError> {
        let dir = keep_dir(&format!("campaign-{}-{}", self.seed, tag.replace(' ', "-")))?;
        self.log.keep(&dir)?;
        let marks = self.log.marks.iter().filter(|(_, label)| !label.is_empty()).cloned().collect();
        let repaired = self.repaired.map(|seen| (seen.confirmed, seen.place));
        let kept = Kept { seed: self.seed, tag: tag.to_owned(), marks, place: self.log.place, repaired };
        for (name, text) in [("kept.json", serde_json::to_vec(&kept)), ("past.json", serde_json::to_vec(self.past))] {
            let path = dir.join(name);
            let written = text.map_err(std::io::Error::other).and_then(|text| std::fs::write(&path, text));
            written.map_err(|source| CampaignError::Io { path, source })?;
        }
        Ok(dir)
    }
}

/// One state of one recording.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    seed: u64,
    tag: String,
    marks: Vec<(usize, String)>,
    place: (u64, u64),
    repaired: Option<(usize, usize)>,
}

/// A state that was kept is judged again, from the very writes that were recorded. Whether it is well now.
pub fn again(dir: &Path) -> Result<bool, CampaignError> {
    fn read<T: serde::de::DeserializeOwned>(path: PathBuf) -> Result<T, CampaignError> {
        let text = std::fs::read(&path).and_then(|text| serde_json::from_slice(&text).map_err(std::io::Error::other));
        text.map_err(|source| CampaignError::Io { path, source })
    }
    let (kept, past): (Kept, Past) = (read(dir.join("kept.json"))?, read(dir.join("past.json"))?);
    let mut log = WriteLog::read(&dir.join("log"), &dir.join("base.img"), kept.place)?;
    log.marks = kept.marks;
    let log = apart(log);
    let repaired = kept.repaired.map(|(confirmed, place)| Seen { confirmed, place });
    let mut judge = Judge::new(&past, repaired);
    let strategy = Strategy::Subsets { seed: kept.seed, per_flush: PER_FLUSH };
    let report = replay_some(&log, strategy, |state| state.tag() == kept.tag, |state| judge.check(state).map(after))?;
    print!("{report}");
    Ok(report.is_clean())
}
