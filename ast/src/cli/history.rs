//! `history`: what was done when.

use serde_json::json;

use super::change::opened;
use super::context::{Global, print, utc};
use super::error::CommandError;
use crate::layout;
use crate::store::{StoreError, history};

/// How much of it.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// At most this many lines
    #[arg(short = 'l', long, value_name = "LINES", default_value_t = 50)]
    lines: usize,
}

/// The newest lines are on standard output, newest first.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    let lines = history::read(&store.layout().document(layout::HISTORY)).map_err(StoreError::from)?;
    let newest = lines.iter().rev().take(args.lines);
    if global.json {
        let lines: Vec<_> = newest.map(|l| json!({ "time": l.time, "by": l.by, "what": l.what })).collect();
        return global.print_json(&json!({ "history": lines }));
    }
    print(&newest.map(|l| format!("{}  {}  {}\n", utc(l.time), l.by, l.what)).collect::<String>())
}
