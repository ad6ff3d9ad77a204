//! Completion in shells: commands and options, and numbers of snapshots with their descriptions.

use std::ffi::OsStr;
use std::path::Path;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, CompleteEnv, EnvCompleter, Fish, Zsh};

use super::context::print;
use super::error::{CommandError, Kind};
use crate::store::document;
use crate::layout::{self, Layout};
use crate::tree::Tree;

/// The variable by which a shell asks for completions.
const VARIABLE: &str = "COMPLETE";
/// Arguments that take the number of a snapshot.
const SNAPSHOTS: [&str; 5] = ["snapshot", "parent", "from", "to", "other"];

/// For which shell.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// For which shell.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell that will read it
    shell: Shell,
}

/// What the shell has to read is on standard output.
pub(super) fn run(args: &Args) -> Result<(), CommandError> {
    let shell: &dyn EnvCompleter = match args.shell {
        Shell::Bash => &Bash,
        Shell::Zsh => &Zsh,
        Shell::Fish => &Fish,
    };
    let mut script = Vec::new();
    // The name and not a path: whatever ast is found first completes for itself.
    let written = shell.write_registration(VARIABLE, "ast", "ast", "ast", &mut script);
    written.map_err(|error| CommandError::new(Kind::World, format!("cannot write the completions: {error}")))?;
    print(&String::from_utf8_lossy(&script))
}

/// A shell that asks for completions has its answer, and this process has ended; otherwise nothing happens.
pub(super) fn answer_shells() {
    CompleteEnv::with_factory(super::manual::command).var(VARIABLE).complete();
}

/// The command, with snapshots offered where one is meant.
pub(super) fn with_snapshots(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| if SNAPSHOTS.contains(&arg.get_id().as_str()) { arg.add(ArgValueCompleter::new(offer)) } else { arg })
}

/// Snapshots of this machine whose number begins with what was typed. A shell is not told why there are none.
fn offer(typed: &OsStr) -> Vec<CompletionCandidate> {
    let tree = document::load::<Tree>(&Layout::of_sysroot(Path::new("/")).document(layout::TREE));
    let typed = typed.to_string_lossy();
    let Ok(tree) = tree else { return Vec::new() };
    candidates(&tree.body, &typed)
}

fn candidates(tree: &Tree, typed: &str) -> Vec<CompletionCandidate> {
    let wanted = tree.nodes().filter(|node| node.id.to_string().starts_with(typed));
    wanted.map(|node| CompletionCandidate::new(node.id.to_string()).help(Some(super::context::clean(&node.description).into()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Label;

    #[test]
    fn snapshots_complete_with_their_descriptions() {
        let label = |text: &str| Label { description: text.to_owned(), created: 0 };
        let mut tree = Tree::new(label("base snapshot"));
        for text in ["kiosk", "with\nnewline"] {
            tree.add(None, label(text), None).expect("added");
        }
        let of = |typed| {
            let found = candidates(&tree, typed);
            found.iter().map(|c| (c.get_value().to_string_lossy().into_owned(), c.get_help().map(ToString::to_string).unwrap_or_default())).collect::<Vec<_>>()
        };
        assert_eq!(of("1"), [("1".to_owned(), "kiosk".to_owned())]);
        assert_eq!(of("").len(), 3);
        assert!(of("").iter().all(|(_, help)| !help.contains('\n')), "{:?}", of(""));
        assert!(of("7").is_empty());
    }

    #[test]
    fn every_verb_that_takes_a_snapshot_offers_them() {
        let command = super::super::manual::command();
        let mut offering = Vec::new();
        for sub in command.get_subcommands() {
            let offers = |arg: &&clap::Arg| arg.get::<ArgValueCompleter>().is_some();
            if sub.get_arguments().any(|arg| offers(&arg)) {
                offering.push(sub.get_name().to_owned());
            }
        }
        for verb in ["info", "desc", "clone", "branch", "ubranch", "del", "install", "run", "chroot", "deploy", "rollback", "export"] {
            assert!(offering.iter().any(|name| name == verb), "{verb} is not among {offering:?}");
        }
    }
}
