//! What is going on, as files in /run for programs: `/run/ast/update.json` and Prometheus text.

use std::path::Path;

use ast::layout::{BOOTED_RECORD, Layout};
use ast::sys::file;
use ast::updates::{Summary, Updates};

/// The files say what `updates` says. They are for others; nothing depends on them, so nothing fails for them.
pub fn publish(layout: &Layout, updates: &Updates) {
    // Made by the initramfs; where it is not, this is not the machine that the updates are about.
    let sysroot = layout.snapshots().parent().unwrap_or(Path::new("/"));
    let booted = sysroot.join(BOOTED_RECORD.trim_start_matches('/'));
    let Some(dir) = booted.parent().filter(|_| booted.exists()) else { return };
    let summary = Summary::of(updates);
    if let Ok(json) = serde_json::to_vec_pretty(&summary) {
        file::replace(&dir.join("update.json"), &json).ok();
    }
    file::replace(&dir.join("metrics.prom"), summary.metrics().as_bytes()).ok();
}
