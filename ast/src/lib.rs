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
//! Ground floor, linked into the initramfs: [`id`], [`layout`], [`cmdline`], [`fstab`], [`boot`], [`sys`].
//! Middle floor (feature `host`): everything that changes the tree. Top floor (feature `cli`): one file per verb.

pub mod boot;
pub mod cmdline;
pub mod fstab;
pub mod id;
pub mod layout;
pub mod sys;

#[cfg(feature = "host")]
pub mod apply;
#[cfg(feature = "host")]
pub mod care;
#[cfg(feature = "host")]
pub mod compare;
#[cfg(feature = "host")]
pub mod config;
#[cfg(feature = "host")]
pub mod deploy;
#[cfg(feature = "host")]
pub mod doctor;
#[cfg(feature = "host")]
pub mod etc;
#[cfg(feature = "host")]
pub mod exec;
#[cfg(feature = "host")]
pub mod grub;
#[cfg(feature = "host")]
pub mod health;
#[cfg(feature = "host")]
pub mod install;
#[cfg(feature = "host")]
pub mod legacy;
#[cfg(feature = "host")]
pub mod live;
#[cfg(feature = "host")]
pub mod loader;
#[cfg(feature = "host")]
pub mod luks;
#[cfg(feature = "host")]
pub mod others;
#[cfg(feature = "host")]
pub mod pacman;
#[cfg(feature = "host")]
pub mod plan;
#[cfg(feature = "host")]
pub mod progress;
#[cfg(feature = "host")]
pub mod retain;
#[cfg(feature = "host")]
pub mod store;
#[cfg(feature = "host")]
pub mod transfer;
#[cfg(feature = "host")]
pub mod tree;
#[cfg(feature = "host")]
pub mod updates;
#[cfg(feature = "host")]
pub mod verify;
#[cfg(feature = "host")]
pub mod volumes;
#[cfg(feature = "host")]
pub mod work;

#[cfg(feature = "cli")]
pub mod cli;
