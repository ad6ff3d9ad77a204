//! Care over years (C2) on a real btrfs that is full to the last byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, missing_docs)]

mod common;

use std::process::Command;

use ast::store::machine::Block;
use ast::{care, layout, updates};
use common::*;

/// As a log does that nobody stops.
fn fill(machine: &Machine1) {
    let script = "n=0; for step in 64M 8M 1M 64K 4K; do while fallocate -l $step fill.$n 2>/dev/null; do n=$((n + 1)); done; done; \
                  sync; cat /dev/zero > log 2>/dev/null || true; sync";
    let status = Command::new("sh").args(["-c", script]).current_dir(machine.root.join("var")).status();
    assert!(status.expect("a shell").success());
}

#[test]
fn c2_what_was_set_aside_is_lent_where_no_document_has_room_and_taken_back() {
    if skipped() {
        return;
    }
    let machine = Machine1::new(Block::Raw);
    let layout = machine.layout();
    let reserve = || std::fs::metadata(layout.document(layout::RESERVE)).map_or(0, |meta| meta.len());
    care::set_aside(&layout, 25 << 20).expect("set aside");
    assert_eq!(care::lend(&layout).expect("looked at"), None, "there is room");
    fill(&machine);
    // A memory of some age is no longer stored beside its metadata.
    let mut memory = updates::load(&layout).expect("a memory");
    memory.degraded = Some("x".repeat(20_000));
    let error = updates::save(&layout, &mut memory).expect_err("there is no room for it");
    assert!(error.to_string().contains("space"), "{error}");

    assert_eq!(care::lend(&layout).expect("lent"), Some(25 << 20));
    updates::save(&layout, &mut memory).expect("there is room now");
    care::take_back(&layout, 25 << 20).expect("taken back");
    assert!(reserve() > 15 << 20, "{} are set aside again", reserve());
    // Nothing is there to be lent twice, and what somebody took meanwhile is gone.
    std::fs::remove_file(layout.document(layout::RESERVE)).expect("removed");
    ast::sys::btrfs::commit(layout.snapshots()).expect("committed");
    assert_eq!(care::lend(&layout).expect("looked at"), None);
    fill(&machine);
    care::take_back(&layout, 25 << 20).expect("nothing to take");
    assert_eq!(reserve(), 0);
}
