//! Showing the states of a log, one after the other.
use super::{
    CutError, GrubError, Report, Strategy, Violation, WriteLog,
    arena::Arena,
    grub_sees, grub_view,
    own::own_mounts,
    strategy::{Moment, Piece, plan},
};
use crate::vm::{VmError, error::at, offline::Mounted};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::Instant,
};

/// The disk after one power cut. Look with GRUB's eyes first: a mount replays the log tree and changes the disk. Changes are thrown away.
#[derive(Debug)]
pub struct State<'a> {
    grub_name: &'a str,
    mounts: Vec<Mounted>,
    image: &'a Path,
    device: &'a Path,
    passed: Vec<&'a str>,
    tag: &'a str,
}

impl State<'_> {
    /// Which state it is.
    pub fn tag(&self) -> &str {
        self.tag
    }

    /// Was this mark reached before the cut?
    pub fn passed(&self, label: &str) -> bool {
        self.passed.contains(&label)
    }

    /// All marks reached before the cut, in order.
    pub fn marks(&self) -> &[&str] {
        &self.passed
    }

    /// The whole disk as a raw file.
    pub fn image(&self) -> &Path {
        self.image
    }

    /// The block device of the file system.
    pub fn device(&self) -> &Path {
        self.device
    }

    /// The content of a file as GRUB would read it at the next start. GRUB's reader is given the image: nobody else's look at the device matters.
    pub fn grub_view(&self, path: &str) -> Result<Vec<u8>, GrubError> {
        grub_view(self.image, self.grub_name, path)
    }

    /// Whether GRUB would read every file below the directory `expected`, in the same place, with the same content (see [`grub_sees`]).
    pub fn grub_sees(&self, expected: &Path) -> bool {
        grub_sees(self.image, self.grub_name, expected)
    }

    /// Mounts the file system as the kernel would (several times, with other options, if wanted); unmounted after the check.
    pub fn mount(&mut self, options: &str) -> Result<PathBuf, VmError> {
        let options = if options.is_empty() { "nodiscard".to_owned() } else { format!("nodiscard,{options}") };
        let mounted = Mounted::btrfs(self.device, &options)?;
        let root = mounted.root().to_owned();
        self.mounts.push(mounted);
        Ok(root)
    }
}

/// Shows every state of `strategy` to `check`, which names what it sees (`Ok`) or says what is wrong (`Err`).
///
/// Errors: only when the lab fails; wrong states are in the report.
pub fn replay(log: &WriteLog, strategy: Strategy, check: impl FnMut(&mut State<'_>) -> Result<String, String>) -> Result<Report, CutError> {
    replay_some(log, strategy, |_| true, check)
}

/// A state before it is made.
#[derive(Debug)]
pub struct Preview<'a> {
    log: &'a WriteLog,
    work: &'a File,
    moment: &'a Moment,
}

impl Preview<'_> {
    /// Which state it is.
    pub fn tag(&self) -> &str {
        &self.moment.tag
    }

    /// The last mark that was reached before the cut.
    pub fn last_mark(&self) -> Option<&str> {
        self.log.marks.iter().rev().find(|(count, _)| *count <= self.moment.sent).map(|(_, label)| label.as_str())
    }

    /// Bytes of the disk as they will be.
    pub fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, CutError> {
        let mut bytes = vec![0; len];
        at(&self.log.base, self.work.read_exact_at(&mut bytes, offset))?;
        for (index, from, to) in &self.moment.extra as &[Piece] {
            self.log.overlay(&self.log.entries[*index], *from..*to, offset, &mut bytes)?;
        }
        Ok(bytes)
    }
}

/// Shows the states of `strategy` that are `wanted`, in their order. One that is not costs next to nothing.
///
/// Errors: only when the lab fails; wrong states are in the report.
pub fn replay_some(
    log: &WriteLog,
    strategy: Strategy,
    mut wanted: impl FnMut(&Preview<'_>) -> bool,
    mut check: impl FnMut(&mut State<'_>) -> Result<String, String>,
) -> Result<Report, CutError> {
    let started = Instant::now();
    own_mounts()?;
    let mut arena = Arena::new(log)?;
    let mut report = Report { strategy: format!("{strategy:?}"), ..Report::default() };
    let mut show = |arena: &mut Arena, moment: &Moment| {
        if wanted(&Preview { log, work: arena.work(), moment }) { show(log, arena, moment, &mut report, &mut check) } else { Ok(()) }
    };
    show(&mut arena, &Moment { sent: 0, extra: Vec::new(), tag: "start".into() })?;
    for epoch in plan(log, strategy) {
        for moment in &epoch.cuts {
            show(&mut arena, moment)?;
        }
        for index in epoch.entries {
            let entry = &log.entries[index];
            log.apply(arena.work(), entry, 0, entry.len)?;
        }
        // In order, the last cut of an epoch is the same as what comes after it.
        if let Some(moment) = epoch.after.filter(|_| strategy != Strategy::EveryWrite) {
            show(&mut arena, &moment)?;
        }
    }
    report.elapsed = started.elapsed();
    Ok(report)
}

fn show(
    log: &WriteLog,
    arena: &mut Arena,
    moment: &Moment,
    report: &mut Report,
    check: &mut impl FnMut(&mut State<'_>) -> Result<String, String>,
) -> Result<(), CutError> {
    arena.refresh()?;
    let (file, image, device) = arena.shown();
    for (index, from, to) in &moment.extra as &[Piece] {
        log.apply(file, &log.entries[*index], *from, *to)?;
    }
    arena.settled()?;
    let passed = log.marks.iter().filter(|(count, _)| *count <= moment.sent).map(|(_, label)| label.as_str()).collect();
    let mut state = State { grub_name: &log.grub, mounts: Vec::new(), image, device, passed, tag: &moment.tag };
    let said = check(&mut state);
    while let Some(mounted) = state.mounts.pop() {
        mounted.unmount()?;
    }
    report.states += 1;
    match said {
        Ok(outcome) => *report.outcomes.entry(outcome).or_default() += 1,
        Err(message) => report.violations.push(Violation { state: format!("{} after {:?}", moment.tag, state.passed), message }),
    }
    Ok(())
}
