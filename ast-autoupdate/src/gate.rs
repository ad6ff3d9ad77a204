//! The health gate. It promotes a trial that is well and leaves evidence of one that is not; restarting is systemd's business, by a
//! drop-in that exists on a trial only (B10).

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ast::boot::booted::Booted;
use ast::cmdline::Why;
use ast::config::autoupdate::{self, Settings};
use ast::deploy;
use ast::health::{self, Kind, Ran, Report, Seen};
use ast::layout::{BOOTED_RECORD, Layout, STAGE};
use ast::loader;
use ast::store::{Locked, Store, StoreError};
use ast::sys::file;
use ast::sys::lock::Wait;
use ast::updates::{Effect, Event, Request};
use ast::work::Parts;

use crate::error::{Error, chain};
use crate::memory::Memory;
use crate::voice::{Message, Voice};
use crate::{baseline, cycle};

/// What a start has to reach, one of them: what the machine boots to (default.target) need not pull in multi-user.target, and with
/// `systemd.unit=` on the kernel command line a start may end at multi-user.target and not at the default.
const TARGETS: [&str; 2] = ["multi-user.target", "default.target"];
/// How long the gate waits for another writer of the store.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);

/// This start is judged; status 0 if it is well. A trial that is well is the default then.
///
/// If interrupted: the deadline of the trial restarts the machine; what was promoted stays promoted.
pub fn start(sysroot: &Path, voice: &Voice) -> ExitCode {
    let layout = Layout::of_sysroot(sysroot);
    let booted = read_booted(sysroot);
    let (settings, warnings) = autoupdate::load(sysroot);
    for warning in warnings {
        voice.say(Message::Warning, &warning);
    }
    let (report, failed) = look(sysroot, &layout, &booted, &settings, voice);
    for warning in &report.warnings {
        voice.say(Message::Warning, warning);
    }
    let told = if booted.on_trial() {
        judge_trial(sysroot, &layout, &booted, &report, voice)
    } else {
        settle(sysroot, &booted, &report, &failed, voice)
    };
    if let Err(error) = told {
        // A system that is well is not restarted because its disk is full: the next cycle promotes it.
        voice.say(Message::Attention, &format!("the verdict is not on disk: {}", chain(&error)));
    }
    if report.healthy {
        voice.say(Message::Healthy, "this start is well");
        voice.status("this start is well");
        return ExitCode::SUCCESS;
    }
    for line in &report.evidence {
        voice.say(Message::Unhealthy, line);
    }
    voice.status(&format!("not well: {}", report.evidence.join("; ")));
    ExitCode::FAILURE
}

/// What the initramfs says; nothing where it says nothing.
pub fn read_booted(sysroot: &Path) -> Booted {
    let record = file::read(&sysroot.join(BOOTED_RECORD.trim_start_matches('/')));
    record.map(|bytes| Booted::parse(&String::from_utf8_lossy(&bytes))).unwrap_or_default()
}

/// Everything is looked at. The units are looked at last, after the settling time of a trial.
fn look(sysroot: &Path, layout: &Layout, booted: &Booted, settings: &Settings, voice: &Voice) -> (Report, Vec<health::Failed>) {
    let deadline = Instant::now() + settings.deadline;
    let on_trial = booted.on_trial();
    let mut seen = Seen {
        on_trial,
        target: TARGETS.join(" or "),
        ignored: settings.ignore_units.clone(),
        baseline: baseline::load(layout),
        ..Seen::default()
    };
    let blind = |error: &dyn std::error::Error, seen: &mut Seen| seen.blind.push(chain(error));
    match health::one_is_active(&TARGETS) {
        Ok(active) => seen.reached = active,
        Err(error) => blind(&error, &mut seen),
    }
    match health::find(sysroot) {
        Ok(checks) => seen.checks = run_checks(&checks, settings, deadline, voice),
        Err(error) => blind(&error, &mut seen),
    }
    if on_trial {
        std::thread::sleep(settings.settle.min(deadline.saturating_duration_since(Instant::now())));
    }
    match health::failed_units() {
        Ok(failed) => seen.failed = failed,
        Err(error) => blind(&error, &mut seen),
    }
    if let Err(error) = update_again(sysroot, layout, booted) {
        seen.blind.push(format!("the next update could not be made here: {}", chain(&error)));
    }
    (health::judge(&seen), seen.failed)
}

/// What an update needs of the machine is here after this one, too, as far as no mirror has to be asked: a trial that would be the last is not
/// well. Only of a trial that the updater made: it all worked then, a few hours ago.
fn update_again(sysroot: &Path, layout: &Layout, booted: &Booted) -> Result<(), Error> {
    let (true, Some(d), Some(arm)) = (booted.on_trial(), booted.d, booted.arm) else { return Ok(()) };
    // Without a memory it is not known whose it is.
    let Ok(updates) = ast::updates::load(layout) else { return Ok(()) };
    let state = &updates.state;
    let Some(set) = state.prepared().filter(|_| state.is_about(d, arm, booted.set)).and(booted.set) else { return Ok(()) };
    // Whoever holds the lock may hold it for long: that is no fault of the update.
    if let Ok(store) = Store::open(sysroot)?.lock(Wait::Up(LOCK_PATIENCE / 6)) {
        crate::facts::gather(&store, &updates, Request::Start)?;
    }
    Ok(ast::pacman::answers(&Parts::of_set(layout, set))?)
}

fn run_checks(checks: &[health::Check], settings: &Settings, deadline: Instant, voice: &Voice) -> Vec<Ran> {
    let adopting = crate::strays::adopt();
    let mut all = Vec::new();
    for (index, check) in checks.iter().enumerate() {
        voice.status(&format!("check {} of {}: {}", index + 1, checks.len(), check.name()));
        let ran = health::run(check, settings.check, deadline);
        if adopting {
            crate::strays::end();
        }
        if let (Some(complaint), Kind::Required) = (ran.complaint(), check.kind) {
            voice.say(Message::Step, &complaint);
        }
        all.push(ran);
    }
    all
}

/// The verdict about a trial is on disk, and the trial is the default if it is well.
fn judge_trial(sysroot: &Path, layout: &Layout, booted: &Booted, report: &Report, voice: &Voice) -> Result<(), Error> {
    let (Some(d), Some(arm)) = (booted.d, booted.arm) else { return Ok(()) };
    if !report.healthy {
        // First what the initramfs reads before it gives a try back, then our own memory.
        leave_evidence(layout, &report.evidence).unwrap_or_else(|error| voice.say(Message::Warning, &chain(&error)));
    }
    let set = deploy::record::load(layout, d).ok().map(|r| r.set).or(booted.set);
    let verdict = Event::Gate { d, arm, set, healthy: report.healthy, evidence: report.evidence.clone() };
    let mut memory = Memory::open_anyway(layout);
    let taken = memory.as_mut().map_err(|error| chain(error)).and_then(|memory| memory.take(verdict).map_err(|error| chain(&error)));
    if let Err(why) = &taken {
        // The block is what counts; the memory finds out at the next cycle.
        voice.say(Message::Warning, &format!("the verdict is not remembered: {why}"));
    }
    if !report.healthy {
        return Ok(());
    }
    let event = match promote(sysroot, booted, voice) {
        Ok(true) => Event::Promoted,
        Ok(false) => Event::Superseded,
        Err(error) => return Err(error.into()),
    };
    let text = match event {
        Event::Promoted => format!("deployment {d} is the default now"),
        _ => format!("deployment {d} is well; another one was chosen meanwhile, so nothing changes"),
    };
    voice.say(Message::Promoted, &text);
    match Store::open(sysroot).and_then(|store| store.lock(Wait::Up(LOCK_PATIENCE))) {
        Ok(store) => settle_grub(&store, voice),
        Err(error) => voice.say(Message::Warning, &chain(&error)),
    }
    match (memory, taken) {
        (Ok(mut memory), Ok(effects)) if matches!(effects.as_slice(), [Effect::Promote { .. }]) => memory.take(event).map(drop),
        _ => Ok(()),
    }
}

/// The booted trial is the good one (`true`), and nothing restarts the machine by itself any more; or the block carries another choice by now.
pub fn promote(sysroot: &Path, booted: &Booted, voice: &Voice) -> Result<bool, StoreError> {
    let mut store = Store::open(sysroot)?.lock(Wait::Up(LOCK_PATIENCE))?;
    match deploy::plan_promote(&store, booted) {
        Ok(plan) => {
            if let Some(plan) = plan {
                drop(store.run(plan)?);
            }
            drop(store);
            if sysroot == Path::new("/")
                && let Err(error) = health::end_trial()
            {
                voice.say(Message::Warning, &format!("until the next start {}", chain(&error)));
            }
            Ok(true)
        }
        Err(StoreError::Superseded { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The stage file says why this start failed.
fn leave_evidence(layout: &Layout, evidence: &[String]) -> Result<(), Error> {
    let path = layout.document(STAGE);
    let text = file::read_if_readable(&path)?.unwrap_or_default();
    let mut stage = ast::boot::stage::Stage::parse(&String::from_utf8_lossy(&text));
    for line in evidence {
        stage.add_evidence(&format!("gate: {line}"));
    }
    Ok(file::replace(&path, stage.to_string().as_bytes())?)
}

/// A new GRUB that started this machine goes a step on (C1). What goes wrong with it is told, and is no fault of this start.
fn settle_grub(store: &Locked, voice: &Voice) {
    match loader::reported_well(store) {
        Ok(Some(settled)) => voice.say(Message::Promoted, &settled.to_string()),
        Ok(None) => {}
        Err(error) => voice.say(Message::Attention, &format!("the new GRUB does not take the place of the old one: {}", chain(&error))),
    }
}

/// After any other start: it reported well if it is, and what trials and cycles left is settled either way.
fn settle(sysroot: &Path, booted: &Booted, report: &Report, failed: &[health::Failed], voice: &Voice) -> Result<(), Error> {
    let store = Store::open(sysroot)?;
    // B11: what somebody looks at by hand writes nothing and settles nothing.
    let by_hand = booted.why == Some(Why::Chosen) && Some(store.block()?.good) != booted.d;
    if booted.volatile || booted.d.is_none() || by_hand {
        return Ok(());
    }
    let mut store = store.lock(Wait::Up(LOCK_PATIENCE))?;
    if report.healthy {
        if let Some(plan) = deploy::plan_report_well(&store, booted)? {
            drop(store.run(plan)?);
        }
        if let Some(d) = booted.d.filter(|d| store.boot_block().is_ok_and(|b| b.good == *d)) {
            baseline::see(store.layout(), d, failed)?;
        }
        settle_grub(&store, voice);
    }
    drop(store);
    cycle::settle(sysroot, voice)
}
