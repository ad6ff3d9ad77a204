//! Which moments of the log are looked at, and what of the unconfirmed writes is there.
use super::{Entry, Seed, WriteLog};

/// Bytes that a disk writes whole or not at all; a longer write may be torn between them.
const BLOCK: u64 = 4096;

/// Which states of the disk are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// After each flush: what is confirmed and nothing else.
    EveryFlush,
    /// After each entry, as if the disk kept the order.
    EveryWrite,
    /// After each flush, and for each flush `per_flush` cuts before it: at a random moment, with a random part of what was not confirmed yet,
    /// some writes torn between blocks of 4 KiB. The same seed gives the same states. And after each write that lies apart, with nothing else
    /// that was not confirmed.
    Subsets {
        /// Of the random choices.
        seed: u64,
        /// How many per flush.
        per_flush: u32,
    },
}

/// A piece of an entry: its number, and the bytes of it (relative) that reached the disk.
pub(super) type Piece = (usize, u64, u64);

/// One state: everything confirmed before it is on the disk, plus some pieces.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    /// Entries that had been sent when the power was cut.
    pub sent: usize,
    pub extra: Vec<Piece>,
    pub tag: String,
}

/// A run of entries that ends with a flush: before it `durable` is on the disk, after it all of it.
#[derive(Debug)]
pub(super) struct Epoch {
    /// Numbers of its entries; the last one flushes, except in the last epoch.
    pub entries: std::ops::Range<usize>,
    /// States to show before the flush is done.
    pub cuts: Vec<Moment>,
    /// A state to show when it is done.
    pub after: Option<Moment>,
}

/// All states of a log, epoch by epoch.
pub(super) fn plan(log: &WriteLog, strategy: Strategy) -> Vec<Epoch> {
    let mut epochs = Vec::new();
    let mut start = 0;
    let mut flush = 0;
    for (index, entry) in log.entries.iter().enumerate() {
        if entry.flush || index + 1 == log.entries.len() {
            flush += 1;
            epochs.push(epoch(log, start..index + 1, flush, strategy));
            start = index + 1;
        }
    }
    epochs
}

fn epoch(log: &WriteLog, entries: std::ops::Range<usize>, flush: usize, strategy: Strategy) -> Epoch {
    let changes = entries.clone().filter(|index| log.entries[*index].len > 0).count();
    let sent = entries.end;
    let after = Moment { sent, extra: Vec::new(), tag: format!("flush {flush}") };
    let cuts = match strategy {
        Strategy::EveryFlush => Vec::new(),
        Strategy::EveryWrite => {
            entries.clone().filter(|index| log.entries[*index].len > 0).map(|index| prefix(log, entries.start, index)).collect()
        }
        // With one write or none there are few subsets, but they count.
        Strategy::Subsets { seed, per_flush } => {
            let count = if changes == 0 { 0 } else { per_flush };
            let random = (0..count).map(|n| subset(log, &entries, flush, n, seed));
            entries.clone().filter(|index| log.entries[*index].apart).map(|index| apart(log, entries.start, index)).chain(random).collect()
        }
    };
    // A flush that confirms nothing shows the state before it again.
    Epoch { entries, cuts, after: (changes > 0).then_some(after) }
}

fn prefix(log: &WriteLog, start: usize, last: usize) -> Moment {
    let extra = (start..=last).map(|index| (index, 0, log.entries[index].len)).collect();
    Moment { sent: last + 1, extra, tag: format!("write {last}") }
}

/// All that this disk was sent since the last flush is lost, and nothing that the other one was.
fn apart(log: &WriteLog, start: usize, last: usize) -> Moment {
    let extra = (start..=last).filter(|index| log.entries[*index].apart).map(|index| (index, 0, log.entries[index].len)).collect();
    Moment { sent: last + 1, extra, tag: format!("write {last} and none but its like") }
}

fn subset(log: &WriteLog, entries: &std::ops::Range<usize>, flush: usize, n: u32, seed: u64) -> Moment {
    let mut random = Seed::new(seed).part(flush as u64).part(u64::from(n));
    // A flush that was done is not in question: whoever waited for it may already have gone on and set a mark.
    let open = entries.clone().filter(|index| !log.entries[*index].flush).count();
    let sent = entries.start + 1 + random.below(open as u64) as usize;
    let mut extra = Vec::new();
    for index in entries.start..sent {
        let entry = &log.entries[index];
        // Written through: it was there before the next request was sent.
        if entry.fua && index + 1 < sent {
            extra.push((index, 0, entry.len));
        } else if random.one_in(2) {
            extra.push(torn(entry, index, &mut random));
        }
    }
    Moment { sent, extra, tag: format!("flush {flush} cut {n} of seed {seed}") }
}

/// The whole entry, or, one time in four, only a part of its blocks.
fn torn(entry: &Entry, index: usize, random: &mut Seed) -> Piece {
    let blocks = entry.len / BLOCK;
    if blocks < 2 || entry.discard || !random.one_in(4) {
        return (index, 0, entry.len);
    }
    let keep = (1 + random.below(blocks - 1)) * BLOCK;
    if random.one_in(2) { (index, 0, keep) } else { (index, entry.len - keep, entry.len) }
}
