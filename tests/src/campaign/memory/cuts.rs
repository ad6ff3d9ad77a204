//! What a cut at one moment may leave of what was not committed: of the names the first so many, since a btrfs keeps their order, and of the
//! contents of files that nobody synced any subset. The kernel has what is in the log besides.

use std::collections::HashSet;

use super::disk::{Disk, Op};
use super::trace::Cut;
use crate::cut::Seed;

/// So many files that were not written out have all their subsets looked at (4,096); of more, some.
pub(super) const ALL_OF: usize = 12;

/// One state, as both see it.
#[derive(Debug)]
pub(super) struct Left {
    pub for_grub: Disk,
    /// With what must be in the log, and with what may be.
    pub for_kernel: [Disk; 2],
}

/// How much of the log counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Log {
    None,
    Sure,
    Most,
}

/// Hands over what a cut may leave; the same more than once, if it comes about in several ways. Of more than [`ALL_OF`] contents: all, none,
/// each alone lost, each alone there, and `samples` random subsets. How many there were.
pub(super) fn each(cut: &Cut, samples: usize, random: &mut Seed, show: &mut impl FnMut(Left)) -> usize {
    let is_name = |index: &usize| cut.pending[*index].in_order;
    let names: Vec<usize> = (0..cut.pending.len()).filter(is_name).collect();
    let newest = cut.newest.then(|| cut.pending.len().saturating_sub(1));
    // Fewer names were shown when the last of them was not there yet.
    let least = if newest.is_some_and(|index| is_name(&index)) { names.len() } else { 0 };
    let mut shown = 0;
    for count in least..=names.len() {
        let base = Left {
            for_grub: with_names(cut, &names[..count], Log::None),
            for_kernel: [Log::Sure, Log::Most].map(|log| with_names(cut, &names[..count], log)),
        };
        let made = |ino: u64| !cut.pending.iter().any(|pending| matches!(*pending.op, Op::MakeFile(_, new) if new == ino));
        let there: HashSet<u64> = names[..count].iter().filter_map(|index| made_by(&cut.pending[*index].op)).collect();
        let logged: HashSet<u64> = cut.pending.iter().filter(|p| p.logged || p.perhaps).filter_map(|p| made_by(&p.op)).collect();
        // What was written to a file that is not there makes no difference.
        let contents: Vec<usize> = (0..cut.pending.len())
            .filter(|index| match &*cut.pending[*index].op {
                Op::Data(ino, _) if !is_name(index) => made(*ino) || there.contains(ino) || logged.contains(ino),
                _ => false,
            })
            .collect();
        let must = newest.filter(|index| contents.contains(index));
        if newest.is_some_and(|index| !is_name(&index)) && must.is_none() {
            continue;
        }
        let mut one = |is: &dyn Fn(usize) -> bool| {
            shown += 1;
            show(with_contents(cut, &base, &contents, &|index| Some(index) == must || is(index)));
        };
        if contents.len() <= ALL_OF {
            let free: Vec<usize> = contents.iter().copied().filter(|index| Some(*index) != must).collect();
            for bits in 0..1u32 << free.len() {
                one(&|index| free.iter().position(|other| *other == index).is_some_and(|bit| bits & (1 << bit) != 0));
            }
            continue;
        }
        one(&|_| true);
        one(&|_| false);
        for lost in &contents {
            one(&|index| index != *lost);
            one(&|index| index == *lost);
        }
        for _ in 0..samples {
            let bits: Vec<bool> = (0..cut.pending.len()).map(|_| random.one_in(2)).collect();
            one(&|index| bits[index]);
        }
    }
    shown
}

const fn made_by(op: &Op) -> Option<u64> {
    match op {
        Op::MakeFile(_, ino) => Some(*ino),
        _ => None,
    }
}

/// What is committed with these names, and, if wanted, those in the log.
fn with_names(cut: &Cut, names: &[usize], log: Log) -> Disk {
    let mut disk = cut.committed.clone();
    for (index, pending) in cut.pending.iter().enumerate() {
        if pending.in_order && (names.contains(&index) || (log != Log::None && pending.logged) || (log == Log::Most && pending.perhaps)) {
            disk.apply(&pending.op);
        }
    }
    disk
}

fn with_contents(cut: &Cut, base: &Left, contents: &[usize], is: &dyn Fn(usize) -> bool) -> Left {
    let mut left = Left { for_grub: base.for_grub.clone(), for_kernel: base.for_kernel.clone() };
    for index in contents {
        let pending = &cut.pending[*index];
        if is(*index) {
            left.for_grub.apply(&pending.op);
            for disk in &mut left.for_kernel {
                disk.apply(&pending.op);
            }
        }
    }
    left
}
