//! The boot state: the block that GRUB reads, where it lives, what this boot is, and what to mount.

pub mod block;
pub mod booted;
pub mod choose;
pub mod asked;
pub mod medium;
pub mod stage;

pub use block::{BlockError, BootBlock, Mode, Trial};
