//! The machine that is started again and again, and the world that it is in.

use ast::boot::block::{ARMED_TRIES, BootBlock, Mode, Trial};
use ast::boot::stage::{MAX_BACK, Stage};
use ast::id::{ArmId, DeployId, SetId};
use ast::updates::{Candidate, Change, Changes, State, Updates};

pub(super) const PREV: DeployId = DeployId::new(5);
pub(super) const GOOD: DeployId = DeployId::new(6);
pub(super) const TRIAL: DeployId = DeployId::new(7);
pub(super) const ARM: ArmId = ArmId::new(9);
/// Cuts in one history: more than an arming forgives.
pub(super) const CUTS: u8 = MAX_BACK + 1;
/// Enough for every try, every try that is given back, and one more.
pub(super) const ALL_CUTS: u8 = ARMED_TRIES + MAX_BACK + 1;
/// Starts without a cut after which every machine has come to rest.
pub(super) const MOST_STARTS: usize = 12;

/// What is wrong with what is on trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plant {
    Nothing,
    /// Before anything of ours runs, without a word.
    Panics,
    /// The same, and the firmware keeps a record.
    PanicsWithRecord,
    /// GRUB sees it.
    Rotten,
    NotLoaded,
    /// The initramfs sees it, and the good one has this kernel's modules.
    RootBroken,
    /// The same without the modules.
    RootBrokenNoModules,
    /// A hang that the watchdog ends.
    Hangs,
    /// A required check says no.
    Unhealthy,
}

pub(super) const PLANTS: [Plant; 9] = [
    Plant::Nothing,
    Plant::Panics,
    Plant::PanicsWithRecord,
    Plant::Rotten,
    Plant::NotLoaded,
    Plant::RootBroken,
    Plant::RootBrokenNoModules,
    Plant::Hangs,
    Plant::Unhealthy,
];

/// Who counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counting {
    /// GRUB and the initramfs.
    Both,
    /// GRUB's saves come to nothing.
    NoSave,
    /// The initramfs alone: the block is where GRUB only reads.
    Alone,
}

/// What cannot be written, where the initramfs counts alone: then nobody counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unwritable {
    Nothing,
    /// The block alone: a sector of it is bad.
    Block,
    /// The filesystem: it is full, or can only be read.
    All,
}

/// A bug that the checks have to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    /// GRUB takes no try.
    GrubTakesNone,
    /// The initramfs gives a try back without having counted that it did.
    BackIsForgotten,
    /// What the start before left is not looked at: every try comes back.
    EvidenceIsForgotten,
    /// The try is given back before the mark is written.
    BlockBeforeMark,
    /// The command line has a try less than the block where the initramfs counts alone.
    AloneCountsTwice,
    /// A trial that cannot be counted is started all the same.
    UncountedIsStarted,
    /// The machine restarts when a trial cannot be counted.
    UncountedRestarts,
    /// The initramfs takes no try from what was asked for once.
    OnceIsNotCounted,
    /// The gate's verdict promotes whatever it is.
    PromotesTheUnhealthy,
    /// A failed trial stays in the block.
    NeverCleared,
}

#[derive(Clone)]
pub(super) struct Machine {
    pub(super) a: Option<BootBlock>,
    pub(super) b: Option<BootBlock>,
    pub(super) stage: Option<Stage>,
    pub(super) memory: Updates,
    pub(super) records: Vec<String>,
    pub(super) watchdog_bit: bool,
    /// What was started, and where the power was cut: for people.
    pub(super) history: Vec<String>,
    /// Starts of what is on trial.
    pub(super) tried: u8,
    pub(super) cuts_before_the_mark: u8,
    pub(super) cuts: u8,
    /// Starts, from now on, in which what is unwritable stays so.
    pub(super) faulty: u8,
}

/// A write that came to the disk: the machine then, and whether this start had left its mark.
pub(super) type Point = (Machine, bool);

/// How a start ends if nobody cuts the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It restarts by itself, or waits to be restarted into the trial.
    Again,
    /// This one stays up.
    Rest(DeployId),
}

/// What the initramfs makes of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    Yes,
    /// It is not made; the good one is mounted.
    No,
    /// The machine restarts instead.
    Restart,
}

pub(super) struct World {
    pub(super) plant: Plant,
    pub(super) counting: Counting,
    pub(super) bug: Bug,
    pub(super) cuts: u8,
    pub(super) mode: Mode,
    pub(super) unwritable: Unwritable,
    /// In how many starts; [`ALWAYS`]: in all.
    pub(super) faulty: u8,
}

pub(super) const ALWAYS: u8 = u8::MAX;

impl World {
    pub(super) fn new(plant: Plant, counting: Counting) -> Self {
        let cuts = if plant == Plant::Nothing { ALL_CUTS } else { CUTS };
        Self { plant, counting, bug: Bug::None, cuts, mode: Mode::Trial, unwritable: Unwritable::Nothing, faulty: 0 }
    }
}

pub(super) fn set(n: u32) -> SetId {
    format!("{n}.1").parse().expect("a set")
}

impl Machine {
    pub(super) fn armed(world: &World, by_update: bool) -> Self {
        let tries = if world.mode == Mode::Once { 1 } else { ARMED_TRIES };
        let trial = Trial { deployment: TRIAL, mode: world.mode, tries };
        let block = BootBlock { prev: Some(PREV), trial: Some(trial), arm: ARM, ..BootBlock::new(GOOD) };
        let mut memory = Updates::default();
        if by_update {
            let changes = Changes::new(vec![Change { name: "linux".into(), from: Some("1".into()), to: Some("2".into()) }]);
            let update = Candidate { parent: set(1), changes };
            memory.state = State::AwaitingReboot { update, set: set(2), d: TRIAL, arm: ARM, since: memory.now() };
        }
        Self {
            a: Some(block.clone()),
            b: Some(block),
            stage: None,
            memory,
            records: Vec::new(),
            watchdog_bit: false,
            history: Vec::new(),
            tried: 0,
            cuts_before_the_mark: 0,
            cuts: 0,
            faulty: world.faulty,
        }
    }

    pub(super) fn block(&self) -> &BootBlock {
        self.a.as_ref().or(self.b.as_ref()).expect("a whole copy")
    }

    /// Everything that matters for what comes next, as one word.
    pub(super) fn key(&self) -> String {
        let plain = |block: &Option<BootBlock>| block.clone().map(|b| BootBlock { cap: 0, ..b });
        let stage = self.stage.as_ref().map(ToString::to_string);
        let memory = serde_json::to_string(&self.memory).expect("a document");
        format!(
            "{:?} {:?} {stage:?} {memory} {} {} {} {} {} {}",
            plain(&self.a),
            plain(&self.b),
            self.records.len(),
            self.watchdog_bit,
            self.tried,
            self.cuts_before_the_mark,
            self.cuts,
            self.faulty
        )
    }
}
