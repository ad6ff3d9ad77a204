//! Does everything hold that must? One check for each promise that a look at the machine can confirm or refute.
//!
//! A look changes nothing, but for one: that the boot block can be written is proved by writing what it says already (B12). What is wrong is
//! mended by the repair that every writing verb begins with; doctor knows no other way.

mod boot;
mod disk;

use std::time::Duration;

use crate::layout;
use crate::store::Store;
use crate::sys::lock::{Lock, Wait};

/// One rule, by the number of its promise in the documentation.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Number of the promise.
    pub promise: &'static str,
    /// What must hold.
    pub rule: &'static str,
    /// What happens to the machine where it does not.
    pub why: &'static str,
    /// What becomes of it with `--fix`.
    pub fix: &'static str,
    look: fn(&Store) -> Vec<String>,
}

/// A check and what it found.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule.
    pub check: Check,
    /// What is wrong, a line each; nothing where the rule holds.
    pub found: Vec<String>,
}

/// How long it waits for another ast, whose work is no fault of the medium: short verbs are over by then.
const PATIENCE: Duration = Duration::from_secs(2);

const REPAIR: &str = "it is derived anew from the tree and the boot block";
const COLLECT: &str = "it is deleted, since nothing names it";
const BY_HAND: &str = "nothing: a person has to decide";

/// Every rule, in the order of the promises.
pub const CHECKS: &[Check] = &[
    check("S1", "every snapshot is there with its four parts", "one that lacks a part cannot be deployed", BY_HAND, disk::sets_there),
    check("S2", "nothing is left of what was interrupted", "it takes space", COLLECT, disk::leftovers),
    check(
        "S3",
        "every document can be read, and so can its older copy",
        "with one copy left, one bad sector loses what it says",
        "the tree is rebuilt from its older copy and the sets on disk; others are written anew by who needs them",
        disk::documents,
    ),
    check(
        "S4",
        "both copies of the boot block are whole",
        "with one copy left, one bad sector decides what boots",
        "the damaged copy is written from the other one",
        boot::copies,
    ),
    check("S5", "what is behind the default has booted well", "a fallback that never ran is none", BY_HAND, boot::fallback),
    check(
        "S6",
        "numbers go on where they ended, and the links of the README lead to the current sets",
        "people and scripts read these paths",
        REPAIR,
        disk::links,
    ),
    check("S7", "every working copy belongs to a living process", "what a dead session left takes space", COLLECT, disk::dead_copies),
    check("S8", "every snapshot is sealed", "what can be written is not what was saved", BY_HAND, disk::sealed),
    check(
        "S9",
        "the /var of the time before the trial is kept",
        "what the trial does to /var could not be undone",
        "nothing: deploy again to keep the /var of now",
        boot::kept_var,
    ),
    check("S10", "there is space to begin something", "updates stop on a full disk", "nothing: `ast clean` gives space back", disk::space),
    check("S11", "the tree reaches every snapshot", "one that cannot be reached is skipped by tree verbs", BY_HAND, disk::walk),
    check(
        "S12",
        "what boots is whole",
        "the default, and what is behind it, must always start",
        "nothing: `ast deploy` makes a new one",
        boot::deployments,
    ),
    check(
        "S13",
        "no document is newer than this ast",
        "an older ast may not change what it does not understand",
        "nothing: `ast ast-sync` brings a newer ast",
        disk::newer,
    ),
    check("S14", "what the menus name is there", "an entry that leads nowhere is chosen once", REPAIR, boot::named),
    check("R3", "no lock of the package manager is in a snapshot", "every later transaction in it would fail", BY_HAND, disk::litter),
    check("B7", "the menu lists every snapshot", "what is not listed cannot be chosen", REPAIR, boot::listed),
    check(
        "B9",
        "this start found the filesystem whole",
        "what was written last may be lost, or is kept in memory only",
        "nothing: the next start that finds nothing says so; a disk that does this again is to be replaced",
        boot::filesystem,
    ),
    check(
        "B12",
        "the boot block can be written and read back, and GRUB can save its counter",
        "a kernel that panics on trial would be started for ever",
        "nothing: the medium is to be replaced, or GRUB installed anew",
        boot::counting,
    ),
    check("B16", "there is a menu, and a baked entry", "the baked entry boots when the boot block is lost", REPAIR, boot::menu),
    check(
        "C1",
        "GRUB can unlock the disk that it starts from, if that is encrypted",
        "from a disk that GRUB cannot unlock nothing starts, the default neither",
        "nothing: `cryptsetup luksConvertKey` changes a key slot, and GRUB is to be installed anew for another container",
        boot::unlocking,
    ),
    check(
        "C1",
        "the GRUB that starts this machine is whole, where firmware looks for it, and no new one failed",
        "what starts before everything else is covered by nothing else",
        "nothing: `ast boot-update --grub` puts a whole one there",
        crate::loader::complaints,
    ),
    check(
        "C2",
        "every device of the filesystem is there, has counted no errors, and the last scrub mended what it found",
        "one more fault takes what is there only once",
        "nothing: ast-boot(7) tells how a device is replaced or brought up to date",
        disk::devices,
    ),
];

const fn check(promise: &'static str, rule: &'static str, why: &'static str, fix: &'static str, look: fn(&Store) -> Vec<String>) -> Check {
    Check { promise, rule, why, fix, look }
}

/// Every rule has been looked at.
///
/// Refuses: nothing; what cannot be looked at is a finding.
pub fn look(store: &Store) -> Vec<Finding> {
    CHECKS.iter().map(|check| Finding { check: *check, found: (check.look)(store) }).collect()
}

/// What keeps the boot block from being written; `None` when both copies were written as they are and read back, or for who may not.
///
/// If interrupted: the copies hold the bytes that they held.
fn write_proof(store: &Store) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    // Nobody else writes meanwhile, or what is written would be old.
    let _lock = match Lock::acquire(&store.layout().document(layout::LOCK), Wait::Up(PATIENCE)) {
        Ok(lock) => lock,
        Err(error) => return Some(format!("not tried: {error}")),
    };
    let prove = || store.medium().map_err(|e| e.to_string())?.prove().map_err(|e| e.to_string());
    prove().err()
}
