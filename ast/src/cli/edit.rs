//! `edit-conf`: a person's editor on the `ast.conf` of a snapshot.

use std::io::IsTerminal;
use std::path::Path;

use serde_json::json;

use super::context::Global;
use super::error::{CommandError, Kind};
use super::inside::{self, Outcome};
use crate::config::snapshot::{NAME, SnapshotConfig};
use crate::exec::{self, Invocation, Options, Streams};
use crate::id::SnapshotId;
use crate::sys::file;

/// Whose settings.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
}

/// The editor of whoever has named none, as other programs have it.
const EDITOR: &str = "vi";

/// The snapshot's `/etc/ast.conf` is as the editor left it.
///
/// If interrupted: it is as it was.
/// Refuses: what cannot be understood, with the line and the reason.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let n = args.snapshot;
    inside::change(global, n, false, &format!("edit /etc/{NAME} of snapshot {n}"), |copy| {
        let place = copy.parts().etc.join(NAME);
        let before = settings(&place, n)?;
        // Beside the parts: what an editor leaves around the file stays out of the snapshot.
        let dir = copy.dir().join("edit");
        file::make_dirs(&dir)?;
        let draft = dir.join(NAME);
        file::replace(&draft, before.as_deref().unwrap_or_default())?;
        let config = loop {
            edit(&draft)?;
            let text = file::read(&draft)?;
            match SnapshotConfig::parse(&String::from_utf8_lossy(&text)) {
                Ok(config) => break config,
                Err(error) => {
                    let refusal = CommandError::refused(format!("{error}: not saved"));
                    let can_ask = !global.yes && std::io::stdin().is_terminal();
                    if !can_ask {
                        return Err(refusal.hint("the README says what may be in it: `aur::True`, comments after #"));
                    }
                    global.say(format_args!("ast: {error}"));
                    global.confirm("Edit it again?").map_err(|_| refusal)?;
                }
            }
        };
        let after = file::read(&draft)?;
        if after == before.clone().unwrap_or_default() {
            return Ok(Outcome::Nothing("nothing was changed"));
        }
        file::replace_like(&place, &after)?;
        Ok(Outcome::Save(json!({ "snapshot": n, "aur": config.aur })))
    })
}

/// What is in the file; `None` when there is none.
///
/// Refuses: a link or a directory, which could lead out of the snapshot.
fn settings(place: &Path, n: SnapshotId) -> Result<Option<Vec<u8>>, CommandError> {
    match std::fs::symlink_metadata(place) {
        Ok(meta) if meta.is_file() => Ok(Some(file::read(place)?)),
        Ok(_) => {
            Err(CommandError::refused(format!("/etc/{NAME} of snapshot {n} is no plain file"))
                .hint(format!("look at it in `ast chroot {n}`")))
        }
        Err(_) => Ok(None),
    }
}

/// The editor has run on `draft` and ended well.
fn edit(draft: &Path) -> Result<(), CommandError> {
    let named = ["VISUAL", "EDITOR"].iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()));
    let editor = named.unwrap_or_else(|| EDITOR.into());
    let invocation = Invocation::words(editor.split_whitespace())?.arg(draft);
    let ended = exec::run(&invocation, Options::new(Streams::Terminal))
        .map_err(|error| CommandError::from(error).hint("name your editor in EDITOR, as in `EDITOR=nano ast edit-conf N`"))?;
    if ended.status.success() {
        return Ok(());
    }
    Err(CommandError::new(Kind::World, format!("the editor {editor:?} ended with {}: nothing is saved", ended.status)))
}
