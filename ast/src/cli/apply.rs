//! `apply`: a snapshot as a file says it should be.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::change::{opened, planned};
use super::context::{Global, print};
use super::error::{CommandError, Kind, chain};
use super::inside::{self, Outcome};
use crate::apply::{self, ApplyError, Declaration, Difference};
use crate::id::SnapshotId;
use crate::pacman::{self, Change, PacmanError};
use crate::work::WorkingCopy;

/// Lines about files of packages and the like, where nobody wants to read thousands.
const LINES: usize = 40;

/// What is applied where.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A declaration (TOML), or an Ansible playbook (.yml, .yaml)
    file: PathBuf,
    /// The snapshot; may be left away when a declaration names it
    snapshot: Option<SnapshotId>,
    /// Show what would change, and save nothing
    #[arg(long)]
    diff: bool,
    /// Another ansible-playbook than the machine's
    #[arg(long, value_name = "PROGRAM")]
    ansible: Option<PathBuf>,
}

/// The snapshot is as the file says, or as it was.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let is_playbook = args.file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml");
    let declaration = if is_playbook { Declaration::default() } else { Declaration::load(&args.file)? };
    let Some(n) = args.snapshot.or(declaration.snapshot) else {
        return Err(CommandError::new(Kind::Usage, format!("{} does not say which snapshot it is for", args.file.display()))
            .hint("`ast apply FILE N`, or `snapshot = N` in a declaration"));
    };
    let what = format!("apply {} to snapshot {n}", args.file.display());
    if global.dry_run && n != SnapshotId::BASE {
        opened(global)?.set_of(n)?;
        let play = is_playbook.then(|| "run the playbook inside".to_owned());
        let steps: String = declaration.steps().iter().chain(&play).map(|step| format!("    {step}\n")).collect();
        return global.plan(&format!("{what}:\n{steps}  * if that changes anything: seal it as the next generation of snapshot {n}\n"));
    }
    let described = describes(&declaration, n, global)?;
    let mut only_described = false;
    inside::change_and_describe(global, n, false, &what, declaration.description.as_deref(), |copy| {
        let show = !global.json && !global.quiet;
        if is_playbook {
            let mut tell = |line: &str| {
                if show {
                    // A terminal that is gone is no reason to stop.
                    drop(print(&format!("{line}\n")));
                }
            };
            apply::play(copy, &args.file, args.ansible.as_deref(), &mut tell)?;
        } else {
            apply::carry_out(copy, &declaration, show)?;
        }
        let (change, differences) = compared(copy)?;
        let document = json!({ "snapshot": n, "packages": change, "files": differences });
        if args.diff {
            return shown(copy, &change, &differences, described, &document, global);
        }
        if differences.is_empty() {
            only_described = described.is_some();
            return Ok(if only_described { Outcome::Told("nothing to do but to describe it") } else { Outcome::Nothing("nothing to do") });
        }
        if !global.json {
            print(&change.to_string())?;
        }
        Ok(Outcome::Save(document))
    })?;
    match described {
        Some(text) if only_described => planned(global, |store| {
            Ok(Some((store.plan_describe(n, text)?, String::new(), json!({ "snapshot": n, "packages": Change::default(), "files": [] }))))
        }),
        _ => Ok(()),
    }
}

/// The description, if it is another one than the snapshot has.
fn describes<'a>(declaration: &'a Declaration, n: SnapshotId, global: &Global) -> Result<Option<&'a str>, CommandError> {
    let store = opened(global)?;
    let node = store.tree()?.get(n)?;
    Ok(declaration.description.as_deref().filter(|text| *text != node.description))
}

/// What the copy differs in from its source: packages, files.
fn compared(copy: &WorkingCopy) -> Result<(Change, Vec<Difference>), CommandError> {
    let Some(source) = copy.source() else { return Ok((Change::default(), Vec::new())) };
    let set = |root: &Path| pacman::installed(root).map_err(PacmanError::from);
    let change = set(&source.root)?.change_to(&set(&copy.parts().root)?);
    let differences = apply::differences(source, copy.parts()).map_err(ApplyError::from)?;
    Ok((change, differences))
}

fn shown(
    copy: &WorkingCopy,
    change: &Change,
    differences: &[Difference],
    described: Option<&str>,
    document: &serde_json::Value,
    global: &Global,
) -> Result<Outcome, CommandError> {
    const SAVED_NOTHING: &str = "nothing is saved, because of --diff";
    if global.json {
        global.print_json(document)?;
        return Ok(Outcome::Told(SAVED_NOTHING));
    }
    let Some(source) = copy.source() else { return Ok(Outcome::Nothing(SAVED_NOTHING)) };
    let mut text = change.to_string();
    if let Some(described) = described {
        text.push_str(&format!("description: {}\n", super::context::clean(described)));
    }
    // What packages brought is told by their names; what a person declares is in /etc, mostly.
    let (settings, others): (Vec<_>, Vec<_>) = differences.iter().partition(|d| d.path.starts_with("/etc"));
    for difference in settings {
        text.push_str(&apply::unified(difference, source, copy.parts())?);
    }
    if change.is_empty() {
        for difference in others.iter().take(LINES) {
            text.push_str(&apply::unified(difference, source, copy.parts())?);
        }
    }
    let rest = if change.is_empty() { others.len().saturating_sub(LINES) } else { others.len() };
    if rest > 0 {
        text.push_str(&format!("and {rest} paths outside /etc\n"));
    }
    print(&text)?;
    Ok(Outcome::Nothing(if text.is_empty() { "nothing to do" } else { SAVED_NOTHING }))
}

impl From<ApplyError> for CommandError {
    fn from(error: ApplyError) -> Self {
        const KEPT: &str = "the snapshot is as it was";
        match error {
            ApplyError::Pacman(error) => error.into(),
            ApplyError::Work(error) => error.into(),
            ApplyError::Unclear { .. } => Self::new(Kind::Usage, chain(&error)).hint("docs/apply.md describes the format"),
            ApplyError::AurOff(_) => {
                Self::refused(chain(&error)).hint("write `aur::True` into it with `ast edit-conf N`, or declare that file").hint(KEPT)
            }
            _ => Self::new(Kind::World, chain(&error)).hint(KEPT),
        }
    }
}
