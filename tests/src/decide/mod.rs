//! What GRUB decides, asked of the real GRUB: a disk with the real script and layout, kernels that only print what they were given, and a machine
//! that is reset for every question. One answer takes a second or two instead of a whole boot.

pub mod disk;
pub mod emulated;
pub mod kernel;
pub mod model;
pub mod questions;

use crate::vm::{Disk, Firmware, Vm, VmConfig, efi_vars};
use ast::install::Boot;
use disk::DecisionDisk;
use std::time::Duration;

/// Longest that firmware and GRUB may take to come to an answer: they need 1 s (BIOS) or 4 s (EFI), and forty times that beside a full lab.
const ANSWER: Duration = Duration::from_secs(180);

/// Who can be asked what GRUB starts from a disk.
pub trait Asked {
    /// What the next start gives.
    fn ask(&mut self) -> Started;

    /// The next start finds nothing to start, and another one follows by itself.
    fn comes_to_nothing(&mut self);
}

/// A machine that is asked.
#[derive(Debug)]
pub struct Decider<'a> {
    /// The disk, which may be changed between two questions.
    pub disk: &'a DecisionDisk,
    /// The machine.
    pub vm: Vm,
    fresh: bool,
}

/// What GRUB started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Words of the command line, without the first (`BOOT_IMAGE=…`), which only names the kernel.
    pub words: Vec<String>,
    /// The kernel's path.
    pub kernel: String,
    /// Content of the initramfs.
    pub initramfs: String,
}

impl Started {
    /// The value of the last `KEY=…` word.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.words.iter().rev().find_map(|w| w.strip_prefix(key)?.strip_prefix('='))
    }

    /// `d why arm env`, with `-` for what is not there: one line to compare.
    pub fn short(&self) -> String {
        let of = |key| self.get(key).unwrap_or("-");
        let what = self.get("ast.d").or(self.get("ast.set")).unwrap_or("-");
        format!("{what} {} {} {}", of("ast.why"), of("ast.arm"), of("ast.env"))
    }
}

impl<'a> Decider<'a> {
    /// The machine runs; its first answer is on its way.
    pub fn start(name: &str, disk: &'a DecisionDisk, read_only: bool) -> Self {
        let mut config = VmConfig::new(name);
        config.mem_mb = 128;
        if disk.boot() == Boot::Efi {
            config.firmware = Firmware::Efi { vars: efi_vars(disk.dir()).expect("a variable store") };
        }
        let mut image = Disk::raw(disk.path());
        image.read_only = read_only;
        // Blocks are changed beside the running machine: the emulator must not hold the file for itself.
        config.extra_args = Vec::new();
        let vm = Vm::start(config.disk(image)).expect("a machine");
        Self { disk, vm, fresh: true }
    }

    /// What the next start gives. The machine is reset first, unless it was just started.
    pub fn ask(&mut self) -> Started {
        self.reset();
        self.answer()
    }

    /// The machine was just reset by itself: the next question needs no reset.
    pub fn fresh(&mut self) {
        self.fresh = true;
    }

    /// The machine is starting; follow with [`Self::answer`] or keys.
    pub fn reset(&mut self) {
        if !std::mem::take(&mut self.fresh) {
            self.vm.reset().expect("reset");
        }
    }

    /// What GRUB starts next.
    pub fn answer(&mut self) -> Started {
        let seen = self.vm.expect(r"<BOOT_IMAGE=([^|<>]*)\|([^>]*)>\n", ANSWER).expect("a decision");
        let group = |n: usize| seen.groups.get(n).cloned().flatten().unwrap_or_default();
        let mut words = group(1).split(' ').map(str::to_owned).collect::<Vec<_>>();
        let kernel = words.remove(0);
        Started { words, kernel, initramfs: group(2) }
    }
}

impl Asked for Decider<'_> {
    fn ask(&mut self) -> Started {
        Decider::ask(self)
    }

    fn comes_to_nothing(&mut self) {
        self.reset();
        self.vm.expect("nothing here can be started", ANSWER).expect("the last resort");
        self.vm.wait_reset(ANSWER).expect("another start by itself");
        self.fresh = true;
    }
}
