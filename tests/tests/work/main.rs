//! Working copies, transactions and checks on a real btrfs on a loop device (root). Named by the promise that each keeps.
#![allow(clippy::disallowed_methods)]

mod apply;
mod aur;
mod bed;
mod copies;
mod packages;
