//! `doctor`: every rule that must hold on this machine, what is wrong, why it matters, and what `--fix` does about it.

use std::fmt::Write as _;

use serde_json::json;

use super::change::{locked, opened};
use super::context::{Global, print};
use super::error::{CommandError, Kind, chain};
use super::terminal::{Paint, Tone};
use crate::doctor::{self, CHECKS, Finding};

/// Whether to repair.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Repair what can be repaired without losing anything
    #[arg(long)]
    fix: bool,
}

/// Each rule is checked and its state printed; what can be mended is, with `--fix`.
///
/// Refuses: nothing; exit code 5 says that something is left to look at.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let mut mended = Vec::new();
    if args.fix && !global.dry_run {
        // Taking the lock repairs: doctor knows no other way than every writing verb.
        let locked = locked(global)?;
        mended.extend(locked.repaired().mended.iter().map(ToString::to_string));
        mended.extend(locked.repaired().problems.iter().map(|p| format!("could not be repaired: {}", chain(p))));
    }
    let store = opened(global)?;
    let results = doctor::look(&store);
    let wrong = results.iter().filter(|finding| !finding.found.is_empty()).count();
    if global.json {
        let rows: Vec<_> = results
            .iter()
            .map(|Finding { check, found }| {
                let (promise, rule, why, fix) = (check.promise, check.rule, check.why, check.fix);
                json!({ "promise": promise, "rule": rule, "ok": found.is_empty(), "found": found, "why": why, "fix": fix })
            })
            .collect();
        global.print_json(&json!({ "checks": rows, "mended": mended }))?;
    } else {
        let (mut out, paint) = (String::new(), Paint::stdout());
        for text in &mended {
            // Writing into a String cannot fail.
            let _ = writeln!(out, "{}  {text}", paint.tone(Tone::Notice, "mended"));
        }
        for Finding { check, found } in &results {
            let (tone, mark) = if found.is_empty() { (Tone::Well, "ok") } else { (Tone::Bad, "WRONG") };
            let _ = writeln!(out, "{} {:<4} {}", paint.tone(tone, &format!("{mark:<7}")), check.promise, check.rule);
            for text in found {
                let _ = writeln!(out, "             {text}");
            }
            if !found.is_empty() {
                let _ = writeln!(out, "             why it matters: {}", check.why);
                let _ = writeln!(out, "             what --fix does: {}", check.fix);
            }
        }
        print(&out)?;
    }
    if wrong == 0 {
        return Ok(());
    }
    let failure = CommandError::new(Kind::Attention, format!("{wrong} of {} rules do not hold", CHECKS.len()));
    Err(if args.fix {
        failure.hint("what --fix could mend is mended; the lines above say what is left")
    } else {
        failure.hint("`ast doctor --fix` repairs what can be repaired")
    })
}
