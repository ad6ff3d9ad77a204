//! What the GRUB script decides, as a pure function. `grub_decisions` asks the real GRUB the same, `counters` checks the rest of the machine with it.

use super::disk::Copy;
use ast::boot::block::{BootBlock, Mode, Trial};
use ast::cmdline::Why;
use ast::id::{ArmId, DeployId};

/// Starts of the good one without a report, after which the one before it is started once.
const STARTS: u8 = 5;

/// What GRUB finds in the boot directory of a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Files {
    /// They are as their sums say.
    pub as_summed: bool,
    /// They can be loaded.
    pub load: bool,
}

/// What GRUB sees.
#[allow(missing_debug_implementations)]
pub struct Seen<'a> {
    /// The copies of the block, as far as they are whole.
    pub a: Option<&'a BootBlock>,
    /// The other one.
    pub b: Option<&'a BootBlock>,
    /// The baked good one.
    pub baked: Option<DeployId>,
    /// Whether a save comes to the disk.
    pub can_save: bool,
    /// Whether counting is GRUB's work; else the initramfs counts alone (`ast.block=local`).
    pub counts: bool,
    /// The deployments.
    pub files: &'a dyn Fn(DeployId) -> Files,
}

/// What is started, as the command line tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// `ast.d`.
    pub d: DeployId,
    /// `ast.why`.
    pub why: Why,
    /// `ast.arm`: the arming and the tries.
    pub arm: Option<(ArmId, u8)>,
    /// `ast.env`.
    pub env_ok: bool,
}

impl Decision {
    /// As [`super::Started::short`].
    pub fn short(&self) -> String {
        let arm = self.arm.map_or("-".to_owned(), |(arm, left)| format!("{arm}.{}", "1".repeat(left.into())));
        format!("{} {} {arm} {}", self.d, self.why.word(), if self.env_ok { "ok" } else { "fail" })
    }
}

/// One start without a person: what was saved, in this order, and what is started; nothing if nothing can be.
pub fn start(seen: &Seen<'_>) -> (Vec<(Copy, BootBlock)>, Option<Decision>) {
    let this = seen.a.map(|block| (Copy::A, Copy::B, block)).or(seen.b.map(|block| (Copy::B, Copy::A, block)));
    let Some((this, other, block)) = this else {
        let baked = seen.baked.filter(|d| (seen.files)(*d).load);
        return (Vec::new(), baked.map(|d| Decision { d, why: Why::Baked, arm: None, env_ok: false }));
    };
    let mut run = Run {
        seen,
        this,
        other,
        my: block.clone(),
        arm: Some((block.arm, block.trial.map_or(0, |t| t.tries))),
        env_ok: false,
        saved: Vec::new(),
    };
    let decision = match block.trial.filter(|t| t.deployment != block.good) {
        Some(trial) if trial.tries > 0 => run.trial(trial),
        Some(Trial { mode: Mode::Trial, .. }) => run.fall_back(Why::Exhausted),
        _ => run.fall_back(Why::Good),
    };
    (run.saved, decision)
}

struct Run<'a> {
    seen: &'a Seen<'a>,
    this: Copy,
    other: Copy,
    my: BootBlock,
    arm: Option<(ArmId, u8)>,
    env_ok: bool,
    saved: Vec<(Copy, BootBlock)>,
}

impl Run<'_> {
    fn trial(&mut self, trial: Trial) -> Option<Decision> {
        let left = trial.tries - 1;
        self.my.trial = Some(Trial { tries: left, ..trial });
        self.arm = Some((self.my.arm, left));
        if self.seen.counts {
            if !self.save() {
                return self.fall_back(Why::NoSave);
            }
        } else {
            // The command line has what the block has.
            (self.env_ok, self.arm) = (false, Some((self.my.arm, trial.tries)));
        }
        if !(self.seen.files)(trial.deployment).as_summed {
            return self.fall_back(Why::Hash);
        }
        let why = if trial.mode == Mode::Once { Why::Once } else { Why::Trial };
        self.load(Some(trial.deployment), why).or_else(|| self.fall_back(Why::Load))
    }

    fn fall_back(&mut self, why: Why) -> Option<Decision> {
        let mut instead = None;
        if self.my.starts < STARTS {
            self.my.starts += 1;
        } else if self.my.prev.is_some() {
            (instead, self.my.starts) = (self.my.prev, 0);
        }
        self.save();
        let first = self.load(instead, Why::Starts).or_else(|| self.load(Some(self.my.good), why));
        first.or_else(|| self.load(self.my.prev, Why::Load)).or_else(|| self.load(self.seen.baked, Why::Load))
    }

    fn save(&mut self) -> bool {
        self.my.cap = u32::from(self.my.cap != 1);
        self.env_ok = self.seen.can_save;
        if self.env_ok {
            self.saved.push((self.this, self.my.clone()));
            // GRUB writes into a block that it can read, and mends none.
            if self.seen.a.is_some() && self.seen.b.is_some() {
                self.saved.push((self.other, self.my.clone()));
            }
        }
        self.env_ok
    }

    fn load(&self, d: Option<DeployId>, why: Why) -> Option<Decision> {
        let d = d.filter(|d| (self.seen.files)(*d).load)?;
        Some(Decision { d, why, arm: self.arm, env_ok: self.env_ok })
    }
}
