//! A start of a trial: its marks, the watchdog, and what restarts the machine by itself, which exists only here.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::ExitCode;

use ast::boot::BootBlock;
use ast::boot::booted::{Booted, NO_WATCHDOG};
use ast::boot::stage::{self, Stage, Start};
use ast::cmdline::{Cmdline, Why};
use ast::id::ArmId;
use ast::layout::{BOOTED_RECORD, Layout, STAGE, TRIAL_DEADLINE, TRIAL_DROP_IN, TRIAL_SETTINGS, TRIAL_UNITS, WATCHDOG_DROP_IN};
use ast::sys::mount::{Mounted, MsFlags};
use ast::sys::watchdog::Watchdog;
use ast::sys::{Result, device, file};

use crate::error::Failure;
use crate::machine::Machine;
use crate::options::Options;
use crate::voice::{Level, Voice};

/// Seconds that a watchdog waits for food, or its longest: enough for systemd to come up and take it over on slow hardware.
const WATCHDOG: i32 = 120;
/// `WDIOF_CARDRESET`: the watchdog made the last reset.
const CARD_RESET: u32 = 0x20;
/// Seconds until a trial that has not reported well is restarted; `ast.deadline=` changes it. Six minutes for a slow start,
/// nine for the gate, which is what its unit allows.
const DEADLINE: u32 = 900;
/// Seconds that the same by systemd's own hand comes later: it leaves no evidence, so it is the brace to our belt.
const BRACE: u32 = 60;
/// Tries left, when this start is counted: one start counts once (B4), and /run is as old as the start.
const COUNTED: &str = "/run/ast/counted";
/// Where pstore is mounted to be looked at, before systemd takes its records away.
const PSTORE: &str = "/run/ast/pstore";

/// What notices a hang of this start.
#[derive(Debug)]
pub struct Guard {
    /// The watchdog that this program armed.
    pub watchdog: Option<Watchdog>,
    /// Its name for people.
    pub name: String,
}

impl Guard {
    fn none() -> Self {
        Self { watchdog: None, name: NO_WATCHDOG.to_owned() }
    }
}

/// The machine's first watchdog runs, if there is one, and the systemd of the root is told to take it over: what is in /run is still there
/// then. Where there is none, it is told all the same: systemd asks again each time it would feed one, and may find one that comes later.
pub fn arm_watchdog(text: &str, options: &Options, voice: &Voice) -> Guard {
    if let Some(word) = keeps_it_from_being_fed(text) {
        voice.warn(&format!("{word} on the kernel command line: no watchdog is armed; a hang is not noticed"));
        return Guard::none();
    }
    let (seconds, guard) = match arm(options) {
        Ok(armed) => armed,
        Err(error) if error.is_not_found() => {
            voice.warn("this machine has no watchdog; a hang is not noticed");
            (WATCHDOG, Guard::none())
        }
        // In an image of systemd systemd has it from the beginning where `systemd.watchdog_sec=` says so, as GRUB's script did until this program
        // armed the watchdog in both kinds of image; a script changes with the boot loader only.
        Err(error) if error.errno() == Some(nix::errno::Errno::EBUSY) => return Guard { watchdog: None, name: watchdog_name(options) },
        Err(error) => {
            voice.warn(&format!("{error}; a hang is not noticed"));
            return Guard::none();
        }
    };
    let device = options.watchdog.display();
    let text = format!(
        "[Manager]\n# Of ast-initcpio: what it armed, somebody has to feed from here on.\nRuntimeWatchdogSec={seconds}\nWatchdogDevice={device}\n"
    );
    if let Err(error) = write(Path::new(TRIAL_SETTINGS), WATCHDOG_DROP_IN, &text) {
        voice.warn(&format!("{error}; a hang is not noticed"));
        stop_watchdog(guard.watchdog, voice);
        return Guard::none();
    }
    guard
}

/// The machine's first watchdog runs; with the seconds that it waits.
fn arm(options: &Options) -> Result<(i32, Guard)> {
    let watchdog = Watchdog::arm(&options.watchdog)?;
    Ok((watchdog.set_seconds(WATCHDOG)?, Guard { watchdog: Some(watchdog), name: watchdog_name(options) }))
}

/// What the first watchdog calls itself.
fn watchdog_name(options: &Options) -> String {
    let name = file::read(&options.bootstatus.with_file_name("identity")).unwrap_or_default();
    let name = String::from_utf8_lossy(&name).trim().to_owned();
    if name.is_empty() { options.watchdog.display().to_string() } else { name }
}

/// What on this kernel command line keeps the systemd of the root from feeding the watchdog: it counts more than any file.
fn keeps_it_from_being_fed(text: &str) -> Option<&str> {
    let last = |name: &str| {
        text.split_ascii_whitespace().rev().find(|word| word.split('=').next().is_some_and(|key| key.replace('-', "_") == name))
    };
    let off =
        |word: &&str| word.split_once('=').is_some_and(|(_, value)| value == "off" || value.trim_end_matches(char::is_alphabetic) == "0");
    last("systemd.watchdog_device").or_else(|| last("systemd.watchdog_sec").filter(off))
}

/// The watchdog stands still again, and the systemd of the root leaves it alone.
pub fn stop_watchdog(watchdog: Option<Watchdog>, voice: &Voice) {
    let drop_in = Path::new(TRIAL_SETTINGS).join(WATCHDOG_DROP_IN);
    // One that cannot be stopped has to be fed: then the drop-in stays.
    if let Err(error) = watchdog.map_or(Ok(()), Watchdog::disarm).and_then(|()| file::remove_if_exists(&drop_in)) {
        voice.warn(&error.to_string());
    }
}

/// The command `disarm`, before a shell: whoever types there needs longer than the watchdog waits. Nothing to do where it was not armed here.
pub fn disarm(options: &Options, voice: &Voice) {
    // Opening one that nobody has armed would arm it.
    if !Path::new(TRIAL_SETTINGS).join(WATCHDOG_DROP_IN).exists() {
        return;
    }
    match Watchdog::arm(&options.watchdog) {
        Ok(watchdog) => stop_watchdog(Some(watchdog), voice),
        Err(error) if error.is_not_found() => stop_watchdog(None, voice),
        Err(error) => voice.warn(&error.to_string()),
    }
}

/// The marks of this start are on disk, and the block holds the tries that B3 gives it. Where GRUB cannot write, a start that was asked
/// for once is taken out of the block as well.
///
/// If interrupted: see [`stage`]; a try may be lost, none is given twice.
/// Refuses: a trial that has no try left, or whose start cannot be counted at all.
pub fn begin(line: &Cmdline, machine: &Machine, options: &Options, voice: &Voice) -> std::result::Result<u8, Failure> {
    let Some((arm, left)) = line.arm else { return Ok(0) };
    let alone = line.env_ok == Some(false);
    match line.why {
        Some(Why::Once) if alone => {}
        Some(Why::Trial) => {}
        _ => return Ok(left),
    }
    if machine.read_only {
        return if alone { Err(Failure::ReadOnly) } else { Ok(0) };
    }
    // In the shell of an attended machine this program may be run again.
    let counted = Path::new(COUNTED);
    if let Some(left) = file::read(counted).ok().and_then(|text| String::from_utf8_lossy(&text).trim().parse().ok()) {
        return Ok(left);
    }
    let left = match line.why {
        Some(Why::Once) => count_once(line, left, machine, voice)?,
        _ => count(line, arm, left, machine, options, voice)?,
    };
    if let Err(error) = write(counted.parent().unwrap_or(counted), "counted", &format!("{left}\n")) {
        voice.warn(&error.to_string());
    }
    Ok(left)
}

/// The start that a person asked for is used up. It leaves no marks: it is never promoted, and nothing of it comes back.
fn count_once(line: &Cmdline, left: u8, machine: &Machine, voice: &Voice) -> std::result::Result<u8, Failure> {
    let left = left.checked_sub(1).ok_or(Failure::Exhausted)?;
    write_tries(line, machine, left, voice)?;
    Ok(left)
}

/// A panic of this start is recorded by the firmware: some kernels (CachyOS) can do that and are configured not to.
fn keep_records(switch: &Path, voice: &Voice) {
    let off = file::read(switch).is_ok_and(|value| value.starts_with(b"Y"));
    if off && let Err(error) = device::set_attribute(switch, "N") {
        voice.warn(&format!("{error}; a panic leaves no record"));
    }
}

fn count(line: &Cmdline, arm: ArmId, left: u8, machine: &Machine, options: &Options, voice: &Voice) -> std::result::Result<u8, Failure> {
    let grub_counts = line.env_ok != Some(false);
    keep_records(&options.pstore_switch, voice);
    let start =
        Start { arm: Some(arm), left, grub_counts, pstore: pstore_records(options), watchdog_reset: watchdog_reset(&options.bootstatus) };
    let path = machine.layout.document(STAGE);
    let before = file::read(&path).ok().map(|bytes| Stage::parse(&String::from_utf8_lossy(&bytes)));
    let begun = stage::begin(before.as_ref(), &start);
    if begun.exhausted {
        return Err(Failure::Exhausted);
    }
    let marked = file::replace(&path, begun.stage.to_string().as_bytes()).and_then(|()| file::syncfs(&path));
    let unmarked = marked.inspect_err(|error| voice.warn(&format!("{error}; no try is given back"))).is_err();
    let tries = match begun.tries {
        // Without its mark a try that is given back would not be counted.
        Some(tries) if !(grub_counts && unmarked) => tries,
        _ => return Ok(begun.stage.left.min(left)),
    };
    match write_tries(line, machine, tries, voice) {
        Ok(()) => {
            if grub_counts {
                let back = begun.stage.back;
                voice.say(
                    Level::Info,
                    &format!("the start before was only switched off: its try is given back ({back} of {})", stage::MAX_BACK),
                );
            }
            Ok(tries)
        }
        // A try that cannot be given back is lost; one that cannot be taken would be there for ever.
        Err(error) if grub_counts => {
            voice.warn(&error.to_string());
            Ok(left)
        }
        Err(error) => Err(error),
    }
}

fn write_tries(line: &Cmdline, machine: &Machine, tries: u8, voice: &Voice) -> std::result::Result<(), Failure> {
    let (Some(medium), Some(block)) = (machine.medium(voice), machine.block(voice)) else { return Err(Failure::NoBlock) };
    match block.trial {
        Some(trial) if Some(trial.deployment) == line.deployment && line.arm.map(|(arm, _)| arm) == Some(block.arm) => {
            let trial = Some(ast::boot::Trial { tries, ..trial });
            Ok(medium.write(&BootBlock { trial, ..block.clone() })?)
        }
        _ => Err(Failure::AnotherTrial),
    }
}

/// The stage file says that this start failed, and why; the disk has it. For the boot it is enough to have tried.
pub fn leave_evidence_or_say(layout: &Layout, what: &str, voice: &Voice) {
    if let Err(error) = leave_evidence(layout, what) {
        voice.error(&error.to_string());
    }
}

fn leave_evidence(layout: &Layout, what: &str) -> Result<()> {
    let path = layout.document(STAGE);
    let text = file::read_if_readable(&path)?.unwrap_or_default();
    let mut stage = Stage::parse(&String::from_utf8_lossy(&text));
    stage.add_evidence(what);
    file::replace(&path, stage.to_string().as_bytes())?;
    file::syncfs(&path)
}

/// The command `evidence`, for the units of a trial in the running system. Nothing to do on any other start.
pub fn note(what: &str, options: &Options) -> ExitCode {
    let voice = Voice::new(options.kmsg.clone());
    let booted = file::read(Path::new(BOOTED_RECORD)).map(|bytes| Booted::parse(&String::from_utf8_lossy(&bytes)));
    if !booted.is_ok_and(|record| record.on_trial()) {
        return ExitCode::SUCCESS;
    }
    voice.error(&format!("this start of the trial failed: {what}"));
    match leave_evidence(&Layout::at(&options.snapshots), what) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            voice.error(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Everything that restarts a hung trial is in /run: a deadline that leaves evidence, systemd's own as a brace, and an
/// emergency that is no shell.
pub fn write_units(line: &Cmdline) -> Result<()> {
    let deadline = line.deadline.unwrap_or(DEADLINE);
    let brace = deadline.saturating_add(BRACE);
    for target in ["multi-user", "graphical", "boot-complete"] {
        let text = format!("[Unit]\nJobTimeoutSec={brace}\nJobTimeoutAction=reboot-force\n");
        drop_in(&format!("{target}.target"), &text)?;
    }
    // The gate leaves evidence of its verdict itself; of its own hanging or dying it cannot. Somebody who switches the machine off
    // while it runs ends it with SIGTERM: that is no failure, and must not turn switching off into a restart.
    drop_in(
        "ast-health.service",
        "[Unit]\nFailureAction=reboot-force\n\n[Service]\nSuccessExitStatus=SIGTERM\nExecStopPost=-/bin/sh -c 'case $SERVICE_RESULT in \
         success|exit-code) ;; *) exec /usr/lib/ast/ast-initcpio evidence \"the gate ended with $SERVICE_RESULT\" ;; esac'\n",
    )?;
    let units = Path::new(TRIAL_UNITS);
    write(
        units,
        &format!("{TRIAL_DEADLINE}.timer"),
        &format!("[Unit]\nDescription=Deadline of the trial\nDefaultDependencies=no\n\n[Timer]\nOnActiveSec={deadline}\nAccuracySec=1\n"),
    )?;
    write(
        units,
        &format!("{TRIAL_DEADLINE}.service"),
        &format!(
            "[Unit]\nDescription=Restart of a trial that does not report well\nDefaultDependencies=no\n\n[Service]\nType=oneshot\n\
             ExecStart=/bin/sh -c 'systemctl -q is-active boot-complete.target && exit 0; \
             /usr/lib/ast/ast-initcpio evidence \"deadline: not up after {deadline} seconds\"; exec systemctl --force reboot'\n"
        ),
    )?;
    let wants = units.join("sysinit.target.wants");
    file::make_dirs(&wants)?;
    let timer = format!("{TRIAL_DEADLINE}.timer");
    file::symlink_replace(&Path::new("..").join(&timer), &wants.join(&timer))?;
    if line.attended {
        return Ok(());
    }
    for shell in ["emergency", "rescue"] {
        let text = format!(
            "[Unit]\nSuccessAction=reboot-force\nFailureAction=reboot-force\n\n[Service]\nType=oneshot\nExecStartPre=\nExecStart=\n\
             ExecStart=-/usr/lib/ast/ast-initcpio evidence {shell}: systemd could not start what it should\n\
             StandardInput=null\nStandardOutput=journal+console\n"
        );
        drop_in(&format!("{shell}.service"), &text)?;
    }
    Ok(())
}

fn drop_in(unit: &str, text: &str) -> Result<()> {
    write(&Path::new(TRIAL_UNITS).join(format!("{unit}.d")), TRIAL_DROP_IN, text)
}

fn write(dir: &Path, name: &str, text: &str) -> Result<()> {
    file::make_dirs(dir)?;
    file::replace(&dir.join(name), text.as_bytes())
}

/// Records of crashes that the firmware or memory kept, by name and time.
fn pstore_records(options: &Options) -> Vec<String> {
    let Some(dir) = &options.pstore else {
        let dir = Path::new(PSTORE);
        let mounted = file::make_dirs(dir).and_then(|()| Mounted::new("pstore", dir, "pstore", MsFlags::MS_RDONLY, ""));
        // Without pstore in this kernel its absence proves nothing.
        return mounted.map(|mounted| records_in(mounted.path())).unwrap_or_default();
    };
    records_in(dir)
}

fn records_in(dir: &Path) -> Vec<String> {
    let names = file::names(dir).unwrap_or_default();
    let crashes = names.iter().filter(|name| name.to_string_lossy().starts_with("dmesg-"));
    crashes.map(|name| format!("{} {}", name.to_string_lossy(), fs::symlink_metadata(dir.join(name)).map_or(0, |m| m.mtime()))).collect()
}

fn watchdog_reset(bootstatus: &Path) -> bool {
    let text = file::read(bootstatus).unwrap_or_default();
    String::from_utf8_lossy(&text).trim().parse::<u32>().is_ok_and(|status| status & CARD_RESET != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b14_what_nobody_would_feed_is_not_armed() {
        for (text, word) in [
            ("quiet ast.why=trial", None),
            ("systemd.watchdog_sec=120", None),
            ("systemd.watchdog_sec=1min", None),
            ("systemd.watchdog_sec=off systemd.watchdog_sec=120", None),
            ("systemd.watchdog_sec=120 systemd.watchdog_sec=off", Some("systemd.watchdog_sec=off")),
            ("systemd.watchdog-sec=0", Some("systemd.watchdog-sec=0")),
            ("systemd.watchdog_sec=0s quiet", Some("systemd.watchdog_sec=0s")),
            ("systemd.watchdog_device=/dev/watchdog1", Some("systemd.watchdog_device=/dev/watchdog1")),
        ] {
            assert_eq!(keeps_it_from_being_fed(text), word, "{text}");
        }
    }
}
