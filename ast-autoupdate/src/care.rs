//! Looking after the filesystem (C2): one round a day, with what `ast::care` says it needs.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use ast::care::{self, Care, Duty};
use ast::exec::{self, Invocation, Options, Program};
use ast::layout::Layout;
use ast::store::Store;
use ast::sys::lock::Wait;
use ast::sys::{btrfs, file};
use ast::updates;

use crate::error::{Error, chain};
use crate::voice::{Message, Voice};

/// A scrub of a slow terabyte takes a night.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// How full a chunk may be that is put together with others, in percent: the emptiest first, since they cost the least.
const USAGES: [u8; 3] = [5, 20, 50];
/// Chunks of one round at most: it must not hold up a machine for an hour.
const CHUNKS: u8 = 10;
/// How long the menu waits for another ast to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Exit status of `btrfs scrub start -B` that found what it could not mend. Source: btrfs-scrub(8).
const UNMENDED: i32 = 3;
/// Exit status of `btrfs scrub resume` where the last one came to its end, or nothing is known of one.
const NOTHING_TO_RESUME: i32 = 2;
/// Where btrfs keeps how far a scrub has come.
const PROGRESS: &str = "/var/lib/btrfs";

/// One round; status 0 unless something is wrong with the filesystem or the world failed.
pub fn start(sysroot: &Path, voice: &Voice) -> ExitCode {
    match round(sysroot, voice) {
        Ok(wrong) if wrong.is_empty() => ExitCode::SUCCESS,
        Ok(wrong) => {
            for line in &wrong {
                voice.say(Message::Attention, line);
            }
            ExitCode::FAILURE
        }
        Err(error) => {
            voice.say(Message::Attention, &chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// What it needs is done. What is wrong with it, a line each.
///
/// If interrupted: a scrub goes on at the next round where it was, so that a slow disk that runs for eight hours a day comes to its end, too; a balance goes on when the filesystem is next mounted.
fn round(sysroot: &Path, voice: &Voice) -> Result<Vec<String>, Error> {
    let store = Store::open(sysroot)?;
    let layout = store.layout();
    let now = updates::load(layout)?.now();
    let facts = care::look(layout, now, store.block()?.trial.is_some())?;
    for duty in care::duties(&facts) {
        match duty {
            Duty::Balance => balance(layout, voice)?,
            Duty::Reserve(bytes) => {
                care::set_aside(layout, bytes)?;
                voice.say(Message::Step, &format!("{} MiB are set aside for updates on a full disk", bytes >> 20));
            }
            Duty::Scrub => {
                voice.say(Message::Step, "reading everything on the disk and comparing it with its checksums");
                let before = care::load(layout);
                care::save(layout, &Care { scrubbing: true, ..before.clone() })?;
                let damaged = scrub(layout, before.scrubbing)?;
                // One that is still away is behind when it comes back.
                care::save(layout, &Care { scrubbed: Some(now), damaged, behind: facts.missing, scrubbing: false })?;
            }
        }
    }
    let complaints = care::complaints(layout);
    if !facts.trial {
        others(sysroot, voice);
    }
    Ok(complaints)
}

/// The menu lists the other systems that are on this machine now, if its owner asked for them. No more than a word where that fails.
fn others(sysroot: &Path, voice: &Voice) {
    match ast::others::refresh(sysroot, Wait::Up(PATIENCE)) {
        Ok(_) => {}
        Err(error) => voice.say(Message::Warning, &format!("the menu has no news of other systems: {}", chain(&error))),
    }
}

fn btrfs() -> Invocation {
    Invocation::new(Program::Btrfs)
}

/// Chunks that are mostly empty are put together, until there is unallocated space again.
fn balance(layout: &Layout, voice: &Voice) -> Result<(), Error> {
    let unallocated = || btrfs::devices(layout.snapshots()).map(|all| all.iter().map(btrfs::Device::unallocated).sum::<u64>());
    let before = unallocated()?;
    for usage in USAGES {
        let filter = format!("-dusage={usage},limit={CHUNKS}");
        let ended = exec::run(&btrfs().args(["balance", "start", &filter]).arg(layout.snapshots()), Options::capture().timeout(LIMIT))?;
        if !ended.status.success() {
            // No space to move anything: what can be done is done.
            voice.say(Message::Warning, &format!("balance: {}", ended.tail()));
            break;
        }
        if unallocated()? > before {
            break;
        }
    }
    voice.say(Message::Step, &format!("{} MiB of the disk are unallocated, {} MiB before", unallocated()? >> 20, before >> 20));
    Ok(())
}

/// Everything has been read, in this round or, with `resumes`, in those before it. Whether something was found in this one that could not be
/// mended; what an earlier one found is in the counters of the device.
fn scrub(layout: &Layout, resumes: bool) -> Result<bool, Error> {
    // Where btrfs notes every few seconds how far it has come; without the directory it scrubs all the same.
    file::make_dirs(Path::new(PROGRESS)).unwrap_or_else(|error| tracing::warn!("a scrub that is cut off begins anew: {error}"));
    // In the foreground, at idle priority.
    let run = |how| exec::run(&btrfs().args(["scrub", how, "-B", "-c", "3"]).arg(layout.snapshots()), Options::capture().timeout(LIMIT));
    let resumed = if resumes { Some(run("resume")?).filter(|ended| ended.status.code() != Some(NOTHING_TO_RESUME)) } else { None };
    let ended = match resumed {
        Some(ended) => ended,
        None => run("start")?,
    };
    match ended.status.code() {
        Some(0) => Ok(false),
        Some(UNMENDED) => Ok(true),
        _ => Err(ended.success().err().map_or(Error::Lost, Error::from)),
    }
}
