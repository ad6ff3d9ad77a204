//! The command line: one file per verb, errors mapped to exit codes in one place.

mod across;
mod apply;
mod ask;
mod ast_sync;
mod boot_update;
mod bootstrap;
mod change;
mod chroot;
mod clean;
mod complete;
mod context;
mod decided;
mod deploy;
mod desc;
mod diff;
mod doctor;
mod edit;
mod error;
mod etc;
mod export;
mod history;
mod import;
mod info;
mod inside;
mod live;
mod manual;
mod mark;
mod migrate;
mod packages;
mod refresh;
mod rollback;
mod run;
mod status;
mod sync;
mod terminal;
mod tmp;
mod tree;
mod tree_packages;
mod tree_run;
mod update;
mod which;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use context::Global;
pub use error::{CommandError, Kind};

/// Shapes the tree of snapshots that this machine boots from.
#[derive(Debug, Parser)]
#[command(name = "ast", version, propagate_version = true, disable_help_subcommand = true, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

// What takes no part in this run is not built: that would take longer than many a verb does.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Draw the tree of snapshots
    Tree(tree::ShowArgs),
    /// Print the number of the booted snapshot
    #[command(visible_alias = "c")]
    Current(status::CurrentArgs),
    /// Say everything that is known about one snapshot
    Info(info::Args),
    /// Say what is booted, what is on trial, and what the next reboot will do
    Status(status::Args),
    /// Describe a snapshot
    #[command(visible_alias = "description")]
    Desc(desc::Args),
    /// Make a snapshot of base 0 as a new top-level tree
    #[command(visible_alias = "new-tree")]
    New(tree::NewArgs),
    /// Copy a snapshot as a new top-level tree
    Clone(tree::CopyArgs),
    /// Copy a snapshot and everything below it, all or nothing
    CloneTree(tree::CopyArgs),
    /// Copy a snapshot as its child
    #[command(visible_alias = "add-branch")]
    Branch(tree::CopyArgs),
    /// Copy a snapshot as its sibling
    #[command(visible_alias = "clone-branch")]
    Cbranch(tree::CopyArgs),
    /// Copy a snapshot under another one
    #[command(visible_alias = "clone-under")]
    Ubranch(tree::UnderArgs),
    /// Delete a snapshot and everything below it
    #[command(visible_alias = "rm-snapshot")]
    Del(tree::DeleteArgs),
    /// Protect a snapshot from deletion and clean-up
    Pin(tree::PinArgs),
    /// Take that protection away
    Unpin(tree::PinArgs),
    /// Install packages in a snapshot
    #[command(visible_alias = "in")]
    Install(packages::InstallArgs),
    /// Remove packages from a snapshot
    Remove(packages::PackageArgs),
    /// Upgrade all packages of a snapshot, or none
    #[command(visible_alias = "up")]
    Upgrade(packages::UpgradeArgs),
    /// Upgrade a tree, and install below each snapshot what it has and its children lack
    #[command(visible_alias = "tree-sync")]
    Sync(sync::Args),
    /// The same without upgrading, from the package files that the parent was made of
    #[command(visible_alias = "fsync")]
    ForceSync(sync::Args),
    /// Bring newer package databases, where no partial upgrade can come of them
    #[command(visible_alias = "ref")]
    Refresh(refresh::Args),
    /// Upgrade the base snapshot
    #[command(visible_alias = "bu")]
    BaseUpdate(packages::BaseArgs),
    /// Remove packages from a snapshot and everything below it
    #[command(visible_alias = "tremove")]
    TreeRmpkg(tree_packages::RemoveArgs),
    /// Upgrade a snapshot and everything below it
    #[command(visible_alias = "tupgrade")]
    TreeUpgrade(tree_packages::UpgradeArgs),
    /// List the packages of a snapshot
    List(packages::ListArgs),
    /// Say which snapshots hold a package, and in which version
    Which(which::Args),
    /// Say what differs between two snapshots: packages, or files
    Diff(diff::Args),
    /// Bring a snapshot to what a file says: packages, users, files, services, kernel arguments, commands
    Apply(apply::Args),
    /// Run one command in a snapshot; saved when it ends with 0
    Run(run::Args),
    /// Run one command in a snapshot and everything below it
    #[command(visible_alias = "trun")]
    TreeRun(tree_run::Args),
    /// Open a root shell in a snapshot; `exit 0` saves, anything else discards
    #[command(visible_alias = "cr")]
    Chroot(chroot::Args),
    /// Open a root shell in a copy of what is booted; `exit 0` applies it at once, anything else discards
    LiveChroot(live::Args),
    /// Clear what dead sessions left
    #[command(visible_alias = "tmpclear")]
    Tmp(tmp::TmpArgs),
    /// Clear what a dead session in a snapshot left
    Unlock(tmp::UnlockArgs),
    /// Edit the settings of a snapshot, /etc/ast.conf
    #[command(visible_alias = "edit")]
    EditConf(edit::Args),
    /// Save the booted /etc into its snapshot
    #[command(visible_alias = "etc")]
    EtcUpdate(etc::Args),
    /// Let the next boot try a snapshot, and make it the default when that boots well
    Deploy(deploy::Args),
    /// Go back to what ran well
    Rollback(rollback::Args),
    /// Build the initramfs of a snapshot anew
    #[command(visible_alias = "boot")]
    BootUpdate(boot_update::Args),
    /// Say how the unattended updates are doing
    Check(update::CheckArgs),
    /// Make one unattended update now; or pause them, or resume
    AutoUpgrade(update::UpgradeArgs),
    /// Say that the booted deployment is good, whatever the health checks say
    Good(mark::Args),
    /// Say that the booted deployment is bad, and go back at the next reboot
    Bad(mark::Args),
    /// Delete old updates, as the unattended updater does by itself
    Clean(clean::Args),
    /// Write a snapshot to a file that another machine can import
    Export(export::Args),
    /// Make a snapshot of what another machine exported
    Import(import::Args),
    /// Bring ast itself to its newest packaged version in every snapshot
    AstSync(ast_sync::Args),
    /// Install astOS onto a disk
    Bootstrap(bootstrap::Args),
    /// Take over a machine that the original Python ast laid out
    Migrate(migrate::Args),
    /// Say what was done when, newest first
    History(history::Args),
    /// Check every rule that must hold, and repair with --fix
    Doctor(doctor::Args),
    /// Print what makes a shell complete commands, options and snapshots
    Completions(complete::Args),
    /// Print the manual, or write its pages
    Man(manual::Args),
    /// Print a cheatsheet of all commands, or the help of one
    Help(manual::HelpArgs),
}

/// Runs the command line of this process and gives its exit code.
pub fn main() -> ExitCode {
    tell_bugs();
    complete::answer_shells();
    // Help and refusals are of the whole command, with its examples.
    let matches = Cli::command().try_get_matches().or_else(|_| manual::command().try_get_matches());
    match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => {
            log_to_stderr(cli.global.verbose);
            terminal::show_steps(&cli.global);
            match dispatch(cli.command, &cli.global) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => error.report(),
            }
        }
        Err(error) => {
            // Nothing can be done about a terminal that is gone.
            drop(error.print());
            ExitCode::from(if error.use_stderr() { Kind::Usage.code() } else { 0 })
        }
    }
}

/// A mistake of ours ends with code 70 and a line that says where, never with a backtrace.
fn tell_bugs() {
    std::panic::set_hook(Box::new(|info| {
        eprintln!("ast: this is a bug in ast: {info}");
        eprintln!("hint: nothing half done is left behind that the next command does not repair; please report the line above");
        std::process::exit(i32::from(Kind::Bug.code()));
    }));
}

fn dispatch(command: Option<Command>, global: &Global) -> Result<(), CommandError> {
    match command {
        None => {
            eprint!("{}", manual::command().render_help());
            Err(CommandError::new(Kind::Usage, "which command?").hint("`ast help` explains them"))
        }
        Some(Command::Tree(args)) => tree::show(&args, global),
        Some(Command::Current(args)) => status::current(&args, global),
        Some(Command::Info(args)) => info::run(&args, global),
        Some(Command::Status(args)) => status::run(&args, global),
        Some(Command::Desc(args)) => desc::run(&args, global),
        Some(Command::New(args)) => tree::new(&args, global),
        Some(Command::Clone(args)) => tree::clone(&args, global),
        Some(Command::CloneTree(args)) => tree::clone_tree(&args, global),
        Some(Command::Branch(args)) => tree::branch(&args, global),
        Some(Command::Cbranch(args)) => tree::cbranch(&args, global),
        Some(Command::Ubranch(args)) => tree::ubranch(&args, global),
        Some(Command::Del(args)) => tree::delete(&args, global),
        Some(Command::Pin(args)) => tree::pin(&args, true, global),
        Some(Command::Unpin(args)) => tree::pin(&args, false, global),
        Some(Command::Install(args)) => packages::install(&args, global),
        Some(Command::Remove(args)) => packages::remove(&args, global),
        Some(Command::Upgrade(args)) => packages::upgrade(&args, global),
        Some(Command::Sync(args)) => sync::run(&args, sync::How::Upgraded, global),
        Some(Command::ForceSync(args)) => sync::run(&args, sync::How::AsItIs, global),
        Some(Command::Refresh(args)) => refresh::run(&args, global),
        Some(Command::BaseUpdate(args)) => packages::base_update(&args, global),
        Some(Command::TreeRmpkg(args)) => tree_packages::remove(&args, global),
        Some(Command::TreeUpgrade(args)) => tree_packages::upgrade(&args, global),
        Some(Command::List(args)) => packages::list(&args, global),
        Some(Command::Which(args)) => which::run(&args, global),
        Some(Command::Diff(args)) => diff::run(&args, global),
        Some(Command::Apply(args)) => apply::run(&args, global),
        Some(Command::Run(args)) => run::run(&args, global),
        Some(Command::TreeRun(args)) => tree_run::run(&args, global),
        Some(Command::Chroot(args)) => chroot::run(&args, global),
        Some(Command::LiveChroot(args)) => live::chroot(&args, global),
        Some(Command::Tmp(args)) => tmp::tmp(&args, global),
        Some(Command::Unlock(args)) => tmp::unlock(&args, global),
        Some(Command::EditConf(args)) => edit::run(&args, global),
        Some(Command::EtcUpdate(args)) => etc::run(&args, global),
        Some(Command::Deploy(args)) => deploy::run(&args, global),
        Some(Command::Rollback(args)) => rollback::run(&args, global),
        Some(Command::BootUpdate(args)) => boot_update::run(&args, global),
        Some(Command::Check(args)) => update::check(&args, global),
        Some(Command::AutoUpgrade(args)) => update::upgrade(&args, global),
        Some(Command::Good(args)) => mark::good(&args, global),
        Some(Command::Bad(args)) => mark::bad(&args, global),
        Some(Command::Clean(args)) => clean::run(&args, global),
        Some(Command::Export(args)) => export::run(&args, global),
        Some(Command::Import(args)) => import::run(&args, global),
        Some(Command::AstSync(args)) => ast_sync::run(&args, global),
        Some(Command::Bootstrap(args)) => bootstrap::run(&args, global),
        Some(Command::Migrate(args)) => migrate::run(&args, global),
        Some(Command::History(args)) => history::run(&args, global),
        Some(Command::Doctor(args)) => doctor::run(&args, global),
        Some(Command::Completions(args)) => complete::run(&args),
        Some(Command::Man(args)) => manual::man(&args, global),
        Some(Command::Help(args)) => manual::help(&args),
    }
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "info",
        _ => "debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("AST_LOG").unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let logger = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal::Paint::stderr().is_on()).without_time().with_target(false);
    // Set twice only by a second call in one process, where the first may stay.
    drop(logger.try_init());
}
