//! From the command line to a mounted root, or to a restart.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::sleep;
use std::time::Duration;

use ast::boot::booted::Booted;
use ast::boot::choose::{Broken, Decision, Target, candidates, decide};
use ast::boot::{BootBlock, Mode, Trial};
use ast::cmdline::{Cmdline, Why};
use ast::id::DeployId;
use ast::layout::BOOTED_RECORD;
use ast::sys::file;

use crate::error::Failure;
use crate::machine::Machine;
use crate::options::Options;
use crate::probe::{Parts, init_of, probe};
use crate::voice::{Level, Voice};
use crate::{layer, root, trial};

/// How long the last message stays on the screen before a restart.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How long the disks get to take what is still in memory (10 s). One that hangs never ends a sync, and outside of a trial no watchdog runs; what
/// the initramfs writes is synced where it is written, so nothing of ours waits for this.
const SYNC_LIMIT: Duration = Duration::from_secs(10);
/// Exit status where tests ask for no restart.
const WOULD_RESTART: u8 = 3;

/// What was mounted.
struct Done {
    target: Target,
    parts: Parts,
    volatile: bool,
}

/// A root is mounted at `new_root`; or the machine restarts; or, where somebody is there, the status is 1.
pub fn mount(new_root: &Path, options: &Options) -> ExitCode {
    let voice = Voice::new(options.kmsg.clone());
    let text = file::read(&options.cmdline).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let line = Cmdline::parse(&text);
    match boot(&line, &text, new_root, options, &voice) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            voice.error(&failure.to_string());
            if !line.attended {
                return restart(options, &voice);
            }
            trial::disarm(options, &voice);
            ExitCode::FAILURE
        }
    }
}

fn boot(line: &Cmdline, text: &str, new_root: &Path, options: &Options, voice: &Voice) -> Result<(), Failure> {
    if is_mounted(new_root)? {
        // Somebody did it by hand in the shell, and went on.
        return Ok(());
    }
    let on_trial = line.why == Some(Why::Trial);
    let guard = on_trial.then(|| trial::arm_watchdog(text, options, voice));
    let mut options = options.clone();
    if let Some(seconds) = wait_of(text) {
        options.wait_for(seconds);
    }
    let options = &options;
    let machine = Machine::open(line, options, guard.as_ref().and_then(|guard| guard.watchdog.as_ref()), voice)?;
    let (left, refused) = match trial::begin(line, &machine, options, voice) {
        Ok(left) => (left, None),
        // Started all the same, it would be started again and again: GRUB cannot tell.
        Err(failure) => (line.arm.map_or(0, |(_, left)| left), Some(Broken::Uncounted(failure.to_string()))),
    };

    let release = nix::sys::utsname::uname().map(|u| u.release().to_string_lossy().into_owned()).unwrap_or_default();
    let uncounted = refused.is_some();
    let init = init_of(text);
    let mut search = Search { line, init, release: &release, machine: &machine, new_root, voice, refused, looked_at: Vec::new() };
    let mut done = search.run();
    if let (true, Some((target, Err(why)))) = (on_trial && !uncounted && !machine.read_only, search.looked_at.first()) {
        // What speaks against a trial is on disk before anything else happens.
        trial::leave_evidence_or_say(&machine.layout, &format!("initramfs: {target}: {why}"), voice);
    }
    if done.is_none() && uncounted && !line.attended {
        done = search.with_lent_modules();
    }
    let mut decision = decide(line, &search.looked_at);
    if let Decision::ArmOnce(d) = decision {
        // GRUB cannot count even one start, so it makes none.
        let refused = if line.why == Some(Why::NoSave) { Err(Failure::NotCounted) } else { Ok(()) };
        match refused.and_then(|()| arm_once(d, &machine, voice)) {
            // GRUB counts no starts either: it would start this one for ever.
            Err(failure) if line.env_ok == Some(false) => {
                voice.error(&failure.to_string());
                done = search.with_lent_modules();
                decision = decide(line, &search.looked_at);
            }
            armed => armed?,
        }
    }
    let instead_of = match decision {
        Decision::Mount { instead_of, .. } => instead_of,
        Decision::ArmOnce(_) | Decision::Reboot | Decision::Shell => None,
    };
    let Some(done) = done else { return Err(no_candidate(search.looked_at)) };

    // From here on there is a root, so nothing may end the boot any more.
    let guarded = if on_trial && instead_of.is_none() {
        if let Err(error) = trial::write_units(line) {
            voice.error(&format!("{error}; a hang of this trial is not noticed"));
        }
        guard.map(|guard| guard.name)
    } else {
        // On the fallback nobody has asked for it.
        if let Some(guard) = guard {
            trial::stop_watchdog(guard.watchdog, voice);
        }
        None
    };
    if let Err(error) = report(line, left, &done, instead_of, guarded, &machine, voice) {
        voice.error(&error.to_string());
    }
    if let Err(error) = machine.close() {
        voice.warn(&error.to_string());
    }
    Ok(())
}

/// The walk over the candidates.
struct Search<'a> {
    line: &'a Cmdline,
    init: &'a str,
    release: &'a str,
    machine: &'a Machine,
    new_root: &'a Path,
    voice: &'a Voice,
    /// Why the wanted one must not even be tried.
    refused: Option<Broken>,
    /// What was found, in the order of the candidates.
    looked_at: Vec<(Target, Result<(), Broken>)>,
}

impl Search<'_> {
    /// The first whole candidate is mounted.
    fn run(&mut self) -> Option<Done> {
        let wanted = candidates(self.line, None);
        if let (Some(why), Some(target)) = (self.refused.take(), wanted.first()) {
            self.not_this(*target, why);
        } else if let Some(done) = wanted.iter().find_map(|target| self.look(*target)) {
            return Some(done);
        }
        // The good one and the one before it are asked for only when they are needed: the block may be on a slow medium.
        let block = self.machine.block(self.voice).cloned().or_else(|| self.machine.baked().map(BootBlock::new));
        let others = candidates(self.line, block.as_ref());
        others.iter().filter(|target| !wanted.contains(target)).find_map(|target| self.look(*target))
    }

    /// The first candidate that lacks nothing but this kernel's modules is mounted, with those of the wanted one. For where nobody could tell
    /// GRUB to start it with its own kernel. Without modules, if they cannot be read: that is dark in places, and a restart for ever in all.
    fn with_lent_modules(&mut self) -> Option<Done> {
        let wanted = self.looked_at.first()?.0;
        let lender = Parts::of(wanted, &self.machine.layout)?.root;
        let lacking = |(target, found): &(Target, Result<(), Broken>)| matches!(found, Err(Broken::NoModules(_))).then_some(*target);
        let targets: Vec<Target> = self.looked_at.iter().filter_map(lacking).collect();
        if let Err(error) = layer::prepare(&lender) {
            self.voice.warn(&error.to_string());
        }
        let (target, parts, volatile) = targets.into_iter().find_map(|target| {
            let parts = Parts::of(target, &self.machine.layout)?;
            let volatile = root::assemble(&parts, self.machine, self.line.volatile, self.new_root, self.voice);
            Some((target, parts, volatile.inspect_err(|error| self.voice.error(&error.to_string())).ok()?))
        })?;
        match root::lend_modules(&lender, self.new_root) {
            Ok(()) => self.voice.error(&format!("{target} has no modules for this kernel, and gets those of {wanted}")),
            Err(error) => self.voice.error(&format!("{error}; {target} is without modules")),
        }
        self.looked_at.push((target, Ok(())));
        Some(Done { target, parts, volatile })
    }

    fn not_this(&mut self, target: Target, why: Broken) {
        self.voice.error(&format!("{target} cannot be the root: {why}"));
        self.looked_at.push((target, Err(why)));
    }

    /// `target` is mounted if it is whole.
    fn look(&mut self, target: Target) -> Option<Done> {
        let mounted = probe(target, &self.machine.layout, self.init, self.release).and_then(|parts| {
            let assembled = root::assemble(&parts, self.machine, self.line.volatile, self.new_root, self.voice);
            assembled.map(|volatile| Done { target, parts, volatile }).map_err(|error| Broken::Mount(error.to_string()))
        });
        match mounted {
            Ok(done) => {
                self.looked_at.push((target, Ok(())));
                Some(done)
            }
            Err(why) => {
                self.not_this(target, why);
                None
            }
        }
    }
}

fn no_candidate(looked_at: Vec<(Target, Result<(), Broken>)>) -> Failure {
    Failure::NoCandidate(looked_at.into_iter().filter_map(|(target, result)| Some((target, result.err()?))).collect())
}

/// GRUB starts `d` at the next start, once.
fn arm_once(d: DeployId, machine: &Machine, voice: &Voice) -> Result<(), Failure> {
    let (Some(medium), Some(block)) = (machine.medium(voice), machine.block(voice)) else { return Err(Failure::NoBlock) };
    // A spent arming is never armed again, so this is a new one.
    let arm = block.arm.next().unwrap_or(block.arm);
    let once = Trial { deployment: d, mode: Mode::Once, tries: 1 };
    medium.write(&BootBlock { trial: Some(once), arm, ..block.clone() })?;
    voice.error(&format!("deployment {d} is started next, with its own kernel"));
    Ok(())
}

fn report(
    line: &Cmdline,
    left: u8,
    done: &Done,
    instead_of: Option<(Target, Broken)>,
    guarded: Option<String>,
    machine: &Machine,
    voice: &Voice,
) -> ast::sys::Result<()> {
    let (wanted, reason) = match &instead_of {
        Some((target, why)) => (Some(target.to_string()), Some(why.to_string())),
        None => (None, None),
    };
    let record = Booted {
        d: done.parts.deployment,
        set: done.parts.set,
        // What was to be tried was not started, because nothing would have counted it.
        why: if matches!(instead_of, Some((_, Broken::Uncounted(_)))) { Some(Why::NoSave) } else { line.why },
        arm: line.arm.map(|(arm, _)| arm),
        left: line.arm.map(|_| left),
        env: line.env_ok,
        wanted,
        reason,
        volatile: done.volatile,
        block: line.block.clone(),
        grub: line.grub.clone(),
        missing: machine.missing.clone(),
        behind: machine.behind.clone(),
        disk: machine.disk.clone(),
        watchdog: guarded,
    };
    let path = Path::new(BOOTED_RECORD);
    file::make_dirs(path.parent().unwrap_or(Path::new("/")))?;
    file::replace(path, record.to_string().as_bytes())?;

    let mut text = format!("{} is the root", done.target);
    if let Some(why) = record.why {
        text.push_str(&format!(" ({})", why.word()));
    }
    if line.why == Some(Why::Trial) && instead_of.is_none() {
        text.push_str(&format!(", {left} tries left"));
    }
    if done.volatile {
        text.push_str(", changes to /etc are lost at the next start");
    }
    let level = if instead_of.is_some() { Level::Error } else { Level::Info };
    voice.say(level, &text);
    Ok(())
}

/// `rootdelay=`: how long mkinitcpio waits for a root, too, in seconds.
fn wait_of(cmdline: &str) -> Option<u64> {
    let mut named = cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix("rootdelay="));
    // A time of which the end cannot be told would be a panic.
    named.next_back()?.parse::<u32>().ok().map(u64::from)
}

/// Whether something is mounted at `dir` already.
fn is_mounted(dir: &Path) -> Result<bool, Failure> {
    let here = fs::metadata(dir).map_err(|_| Failure::NoMountPoint(dir.to_owned()))?;
    let above = dir.parent().and_then(|parent| fs::metadata(parent).ok());
    Ok(above.is_some_and(|above| above.dev() != here.dev()))
}

/// The initramfs cannot go on, for a reason of its own: a root may be mounted, and if it is a trial's, that start has failed.
pub fn give_up(options: &Options) -> ExitCode {
    let voice = Voice::new(options.kmsg.clone());
    voice.error("the initramfs cannot go on");
    trial::note("initramfs: it could not go on to the root", options);
    restart(options, &voice)
}

/// The machine restarts. Comes back only where tests ask for it, or the kernel refuses.
fn restart(options: &Options, voice: &Voice) -> ExitCode {
    if options.no_restart {
        println!("restart");
        return ExitCode::from(WOULD_RESTART);
    }
    voice.error("restarting");
    if !ends_within(SYNC_LIMIT, nix::unistd::sync) {
        voice.error("a disk does not answer: restarting all the same");
    }
    sleep(LAST_WORDS);
    match nix::sys::reboot::reboot(nix::sys::reboot::RebootMode::RB_AUTOBOOT) {
        Ok(never) => match never {},
        Err(error) => {
            voice.error(&format!("cannot restart: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether `work` has ended after `limit` at most. It goes on in a thread of its own if it has not.
fn ends_within(limit: Duration, work: impl FnOnce() + Send + 'static) -> bool {
    let (done, ended) = mpsc::channel();
    let run = move || {
        work();
        // Nobody listens any more if it took too long.
        done.send(()).unwrap_or_default();
    };
    std::thread::Builder::new().spawn(run).is_ok() && ended.recv_timeout(limit).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b9_a_disk_that_hangs_keeps_no_machine_from_restarting() {
        let began = std::time::Instant::now();
        assert!(!ends_within(Duration::from_millis(50), || sleep(Duration::from_secs(100))));
        assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
        assert!(ends_within(Duration::from_secs(600), || sleep(Duration::from_millis(50))), "what ends is waited for");
    }
}
