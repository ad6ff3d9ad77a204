//! `ast`: the tree of btrfs snapshots that a machine boots from.
//!
//! The walk of a snapshot, from an owner's wish to a running root:
//!
//! ```text
//!  tree ── work ── pacman ── seal ── commit ── deploy ──┬── boot block ── GRUB ── initramfs ── / 
//!  (what   (a      (what     (four   (tree.json (a set    │   (512 bytes,   (counts, (chooses,
//!  exists) copy)   changes)  read-    renamed)  cloned)   │    A and B)      hashes)  mounts)
//!                            only                         │                              │
//!                            subvolumes)                  └── promote / come back ◄── health gate
//! ```
//!
//! Ground floor, linked into the initramfs: [`id`], [`layout`], [`cmdline`], [`boot`], [`sys`].
//! Middle floor (feature `host`): everything that changes the tree. Top floor (feature `cli`): one file per verb.

pub mod boot;
pub mod cmdline;
pub mod id;
pub mod layout;
pub mod sys;
