//! What is going on, as files in /run for programs: `/run/ast/update.json` and Prometheus text.

use std::path::Path;

use ast::sys::file;
use ast::updates::{Summary, Updates};

const DIRECTORY: &str = "/run/ast";

/// The files say what `updates` says. They are for others; nothing depends on them, so nothing fails for them.
pub fn publish(updates: &Updates) {
    // Made by the initramfs; where it is not, this is not the machine that the updates are about.
    let dir = Path::new(DIRECTORY);
    if !dir.join("booted").exists() {
        return;
    }
    let summary = Summary::of(updates);
    if let Ok(json) = serde_json::to_vec_pretty(&summary) {
        file::replace(&dir.join("update.json"), &json).ok();
    }
    file::replace(&dir.join("metrics.prom"), summary.metrics().as_bytes()).ok();
}
