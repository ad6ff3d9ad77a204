//! What people read: an example for each command, and the pages of man.

use std::path::PathBuf;

use clap::CommandFactory;

use super::context::{Global, print};
use super::error::{CommandError, Kind};
use crate::sys::file;

/// Section of the manual for commands of whoever administers a machine.
const SECTION: &str = "8";

/// Where to write.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Write a page for each command into this directory; without it ast(8) goes to standard output
    directory: Option<PathBuf>,
}

/// Which verb to explain.
#[derive(Debug, clap::Args)]
pub(super) struct HelpArgs {
    /// A verb
    verb: Option<String>,
}

/// A command, one line that uses it, and what that line does.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("tree", "ast tree", "draws the snapshots; the asterisk is what boots"),
    ("current", "ast current", "prints a number, for scripts"),
    ("info", "ast info 4", "parent, children, packages and more of snapshot 4"),
    ("status", "ast --json status", "what runs and what will, as one JSON document"),
    ("desc", "ast desc 4 Plasma full desktop", "describes snapshot 4"),
    ("new", "ast new multiuser system", "a new tree from the base, with a description"),
    ("clone", "ast clone 0", "the base as a new tree"),
    ("clone-tree", "ast clone-tree 1", "1 and everything below it, all or nothing"),
    ("branch", "ast branch 1 -d applications", "a copy of 1 below it"),
    ("cbranch", "ast cbranch 4", "a copy of 4 beside it"),
    ("ubranch", "ast ubranch 1 7", "a copy of 7 below 1"),
    ("del", "ast del 7", "shows 7 and everything below it, asks, and deletes"),
    ("pin", "ast pin 4", "neither `ast del` nor `ast clean` takes 4"),
    ("unpin", "ast unpin 4", "they may again"),
    ("install", "ast install 4 firefox vlc", "both, or neither"),
    ("remove", "ast remove 4 firefox", "with what only firefox needed"),
    ("upgrade", "ast upgrade 4", "everything in 4, or nothing"),
    ("sync", "ast sync 1", "what 1 has and its children lack is added below it, after an upgrade of each"),
    ("force-sync", "ast force-sync 1", "the same from the very package files of the parent"),
    ("refresh", "ast refresh 4", "newer package lists, where no partial upgrade can come of them"),
    ("base-update", "ast base-update", "upgrades snapshot 0, of which `ast new` makes others"),
    ("tree-rmpkg", "ast tree-rmpkg 1 firefox", "from 1 and everything below it"),
    ("tree-upgrade", "ast tree-upgrade 1", "1 and everything below it, each or not, with a summary"),
    ("list", "ast list 4 --explicit", "what somebody asked for, without what it needs"),
    ("which", "ast which firefox", "the snapshots that have it, and in which version"),
    ("diff", "ast diff 4 7 --etc", "what differs in /etc of 4 and 7; without an option, packages"),
    ("apply", "ast apply kiosk.toml 4", "4 is as the file says; twice is the same as once"),
    ("run", "ast run 4 systemctl enable sshd", "saved when it ends with 0"),
    ("tree-run", "ast tree-run 1 systemctl enable sshd", "the same in 1 and everything below it"),
    ("chroot", "ast chroot 4", "a shell; `exit 0` saves, `exit 1` discards"),
    ("live-chroot", "ast live-chroot", "a shell in a copy of what runs now; `exit 0` applies it at once, and the next deploy is without it"),
    ("tmp", "ast tmp", "clears what dead sessions left"),
    ("unlock", "ast unlock 4", "clears what a dead session in 4 left"),
    ("edit-conf", "ast edit-conf 4", "$EDITOR on /etc/ast.conf of 4"),
    ("etc-update", "ast etc-update", "saves the running /etc into its snapshot"),
    ("deploy", "ast deploy 4", "the next boot tries 4, and keeps it when it boots well"),
    ("rollback", "ast rollback --previous", "back to what ran before the one that you dislike"),
    ("check", "ast check", "how the unattended updates are doing"),
    ("auto-upgrade", "ast auto-upgrade", "one update now: copy, upgrade, try at the next boot; `--pause 7days`: none by itself for a week"),
    ("good", "ast good", "what runs now is the default, whatever the checks say"),
    ("bad", "ast bad", "what runs now is left at the next reboot"),
    ("clean", "ast clean --dry-run", "which old updates would go, and why"),
    ("export", "ast export 4 kiosk.ast --parent 2", "what 4 has more than 2, signed"),
    ("import", "ast import kiosk.ast", "as a new snapshot, if its key is trusted"),
    ("bootstrap", "ast bootstrap /dev/sda --answers kiosk.toml", "shows what is on that disk and what it becomes, asks once, and installs; without the file it asks for all"),
    ("migrate", "ast --sysroot /mnt migrate --dry-run", "what taking over a machine of the original would do"),
    ("ast-sync", "ast ast-sync", "the newest ast in every snapshot"),
    ("boot-update", "ast boot-update 4", "the initramfs of 4 anew; `ast deploy 4` boots it. `ast boot-update --grub`: GRUB itself, tried by the next start"),
    ("history", "ast history", "what was done when, newest first"),
    ("doctor", "ast doctor --fix", "checks every rule, and mends what can be mended without losing anything"),
    ("completions", "ast completions bash > /etc/bash_completion.d/ast", "completes commands, options and snapshots"),
    ("man", "ast man | man -l -", "reads ast(8)"),
    ("help", "ast help deploy", "what `deploy` does, with its options"),
];

/// The commands with their examples, and completion of snapshots where one is meant.
pub(super) fn command() -> clap::Command {
    let mut command = super::Cli::command();
    // Their arguments are there from then on.
    command.build();
    command.mut_subcommands(|mut sub| {
        if let Some((_, line, what)) = EXAMPLES.iter().find(|(name, ..)| *name == sub.get_name()) {
            let example = format!("Example:\n  {line}\n      {what}");
            // What a verb itself adds to its long help stands before it.
            if let Some(more) = sub.get_after_long_help().map(ToString::to_string) {
                sub = sub.after_long_help(format!("{more}\n\n{example}"));
            }
            sub = sub.after_help(example);
        }
        super::complete::with_snapshots(sub)
    })
}

/// A cheatsheet of all commands, or the help of one, is on standard output.
pub(super) fn help(args: &HelpArgs) -> Result<(), CommandError> {
    let mut command = command();
    let text = match &args.verb {
        None => command.render_long_help(),
        Some(verb) => match command.find_subcommand_mut(verb) {
            Some(sub) => sub.render_long_help(),
            None => return Err(CommandError::new(Kind::Usage, format!("there is no command {verb:?}")).hint("`ast help` lists them")),
        },
    };
    print(&text.to_string())
}

/// The manual is on standard output, or a page for each command is in the directory.
pub(super) fn man(args: &Args, global: &Global) -> Result<(), CommandError> {
    let mut command = command();
    // So that each page calls itself `ast VERB`, and knows the options that all have.
    command.build();
    let render = |command: clap::Command, title: String| {
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command).section(SECTION).title(title).manual("astOS");
        man.render(&mut page).map(|()| page).map_err(|error| CommandError::new(Kind::World, format!("cannot write the manual: {error}")))
    };
    let Some(directory) = &args.directory else {
        return print(&String::from_utf8_lossy(&render(command, "AST".to_owned())?));
    };
    if global.dry_run {
        return print(&format!("write the pages of {} commands into {}\n", command.get_subcommands().count(), directory.display()));
    }
    file::make_dirs(directory)?;
    for sub in command.get_subcommands() {
        let name = format!("ast-{}", sub.get_name());
        let page = render(sub.clone(), name.to_uppercase())?;
        file::replace(&directory.join(format!("{name}.{SECTION}")), &page)?;
    }
    Ok(file::replace(&directory.join(format!("ast.{SECTION}")), &render(command, "AST".to_owned())?)?)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn every_command_has_an_example_that_is_one() {
        assert_eq!(command().get_subcommands().count(), EXAMPLES.len(), "an example of a command that there is not");
        for sub in command().get_subcommands() {
            let name = sub.get_name();
            let (_, line, what) = EXAMPLES.iter().find(|(verb, ..)| *verb == name).unwrap_or_else(|| panic!("{name} has no example"));
            assert!(!what.is_empty());
            let words = line.split(" | ").next().into_iter().flat_map(|part| part.split(" > ").next()).flat_map(|part| part.split(' '));
            let parsed = super::super::Cli::try_parse_from(words);
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
            assert!(line.split(' ').any(|word| word == name), "{line} is no example of {name}");
            assert!(sub.clone().render_help().to_string().contains(line), "{name}");
        }
    }

    #[test]
    fn every_command_of_the_read_me_is_one() {
        let lines = include_str!("../../../README.md").lines().filter(|line| line.starts_with("ast "));
        let mut seen = 0;
        for line in lines {
            let line = line.split('#').next().unwrap_or_default().trim();
            let parsed = super::super::Cli::try_parse_from(line.split_whitespace());
            assert!(parsed.is_ok(), "{line}: {}", parsed.err().map(|e| e.to_string()).unwrap_or_default());
            seen += 1;
        }
        assert!(seen > 15, "{seen}");
    }

    #[test]
    fn every_command_has_its_document_described_or_prints_none() {
        // Text for a shell, for man and for people.
        const NONE: [&str; 3] = ["completions", "man", "help"];
        let headings = include_str!("../../../docs/json.md").lines().filter(|line| line.starts_with("### `"));
        let named: std::collections::BTreeSet<&str> = headings.flat_map(|heading| heading.split('`').skip(1).step_by(2)).collect();
        let command = command();
        let verbs = command.get_subcommands().filter(|verb| !NONE.contains(&verb.get_name()));
        let known: std::collections::BTreeSet<&str> = verbs.flat_map(|verb| std::iter::once(verb.get_name()).chain(verb.get_visible_aliases())).collect();
        assert_eq!(named, known);
    }

    #[test]
    fn the_manual_names_every_command_and_escapes_what_roff_would_take() {
        let mut page = Vec::new();
        clap_mangen::Man::new(command()).section(SECTION).render(&mut page).expect("rendered");
        let page = String::from_utf8(page).expect("text");
        for sub in command().get_subcommands() {
            assert!(page.contains(&sub.get_name().replace('-', "\\-")), "{}", sub.get_name());
        }
        assert!(page.starts_with(".ie"), "{}", page.lines().next().unwrap_or_default());
    }
}
