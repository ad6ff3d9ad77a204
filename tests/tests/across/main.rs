//! The verbs that work over several snapshots, with the real `ast` and the real pacman, on a machine with a tree (root).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[allow(dead_code)]
#[path = "../work/bed.rs"]
mod bed;
#[path = "../../../ast/tests/common/documents.rs"]
mod documents;
mod ast_sync;
mod boot;
mod bootstrap;
mod examples;
mod grub;
mod live;
mod machine;
mod packages;
mod refresh;
mod reports;
mod sync;
