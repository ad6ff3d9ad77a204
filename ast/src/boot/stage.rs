//! What one start of a trial tells the next (`@.snapshots/ast/stage`), and the rule that tells a power cut from a failure (B3).
//!
//! GRUB takes a try at each start. The initramfs gives it back when the start before had come as far as the initramfs and
//! left no evidence of failure: then somebody only switched the machine off. The mark is written before the block, so a
//! cut between the two costs a try and never gives one twice.

use std::fmt;

use crate::id::ArmId;

/// How often one arming gets a try back: a machine that is only ever switched off converges, one that fails without leaving
/// evidence (a panic without pstore) stops after 3 + 5 starts.
pub const MAX_BACK: u8 = 5;
/// Most lines of evidence that are kept, and of older evidence: enough for a report, little enough for any disk.
const MAX_LINES: usize = 8;
/// Most characters of one line of evidence.
const MAX_LINE: usize = 200;

/// How far a start came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reached {
    /// Our program in the initramfs ran.
    #[default]
    Initramfs,
    /// A service of the root ran.
    Userspace,
}

/// The marks of the newest start of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stage {
    /// The arming that is on trial.
    pub arm: Option<ArmId>,
    /// Tries that the block holds while this start runs, a given back one included.
    pub left: u8,
    /// How far it came.
    pub reached: Reached,
    /// How many tries this arming has been given back.
    pub back: u8,
    /// Evidence that this start failed, a line each.
    pub evidence: Vec<String>,
    /// What earlier starts of this arming left, the newest last.
    pub earlier: Vec<String>,
    /// Records of pstore that were there when it began: they are no evidence against it.
    pub pstore: Vec<String>,
}

/// What the initramfs knows of a start of a trial.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// The arming, from `ast.arm`.
    pub arm: Option<ArmId>,
    /// Tries that GRUB says are left.
    pub left: u8,
    /// Whether GRUB took the try of this start already; if it cannot write, the initramfs takes it.
    pub grub_counts: bool,
    /// Records of pstore now, by name and time.
    pub pstore: Vec<String>,
    /// Whether the hardware watchdog says that it made this start.
    pub watchdog_reset: bool,
}

/// What to write, in this order: the mark, then the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// The mark of this start.
    pub stage: Stage,
    /// Tries to write into the block; `None`: it is right as it is.
    pub tries: Option<u8>,
    /// There was no try left to take: this trial must not be started.
    pub exhausted: bool,
}

/// The bookkeeping of a start of a trial: is the try of the start before given back?
pub fn begin(before: Option<&Stage>, start: &Start) -> Begun {
    let taken = if start.grub_counts { Some(start.left) } else { start.left.checked_sub(1) };
    let left = taken.unwrap_or(0);
    let mut stage = Stage { arm: start.arm, left, pstore: start.pstore.clone(), ..Stage::default() };
    let Some(before) = before.filter(|b| b.arm.is_some() && b.arm == start.arm) else {
        return Begun { stage, tries: (left != start.left).then_some(left), exhausted: taken.is_none() };
    };

    let mut evidence = before.evidence.clone();
    let new = start.pstore.iter().filter(|record| !before.pstore.contains(record));
    evidence.extend(new.map(|record| format!("pstore: {record}")));
    if start.watchdog_reset {
        evidence.push("watchdog: it reset the machine".to_owned());
    }
    // One try was taken since that mark, so that start was the last one; more, and later ones never came this far.
    let reached = left.checked_add(1) == Some(before.left);
    if !reached && left < before.left {
        evidence.push(format!("{} of the starts after it did not reach the initramfs", before.left - left - 1));
    }

    stage.back = before.back;
    if taken.is_some() && reached && evidence.is_empty() && before.back < MAX_BACK {
        stage.left = left + 1;
        stage.back = before.back + 1;
    }
    for line in before.earlier.iter().chain(&evidence) {
        push_line(&mut stage.earlier, line);
    }
    Begun { tries: (stage.left != start.left).then_some(stage.left), stage, exhausted: taken.is_none() }
}

impl Stage {
    /// The marks in these lines. Unknown keys and malformed values are passed over, so every version reads every other's.
    pub fn parse(text: &str) -> Self {
        let mut stage = Self::default();
        for (key, value) in text.lines().filter_map(|l| l.split_once('=')) {
            match key {
                "arm" => stage.arm = value.parse().ok(),
                "left" => stage.left = value.parse().unwrap_or(0),
                "stage" if value == "userspace" => stage.reached = Reached::Userspace,
                "back" => stage.back = value.parse().unwrap_or(MAX_BACK),
                "evidence" => push_line(&mut stage.evidence, value),
                "earlier" => push_line(&mut stage.earlier, value),
                "pstore" => stage.pstore.push(value.to_owned()),
                _ => {}
            }
        }
        stage
    }

    /// In memory only: this start failed, for this reason.
    pub fn add_evidence(&mut self, what: &str) {
        push_line(&mut self.evidence, what);
    }
}

/// `line` is the last of `lines`, on one line and cut; the oldest goes when there are too many.
fn push_line(lines: &mut Vec<String>, line: &str) {
    if lines.len() >= MAX_LINES {
        lines.remove(0);
    }
    lines.push(line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_LINE).collect());
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(arm) = self.arm {
            writeln!(f, "arm={arm}")?;
        }
        let reached = match self.reached {
            Reached::Initramfs => "initramfs",
            Reached::Userspace => "userspace",
        };
        writeln!(f, "left={}\nstage={reached}\nback={}", self.left, self.back)?;
        for (key, lines) in [("evidence", &self.evidence), ("earlier", &self.earlier), ("pstore", &self.pstore)] {
            for line in lines {
                writeln!(f, "{key}={}", line.replace(['\n', '\r'], " "))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
