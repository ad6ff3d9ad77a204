//! The command line of the lab.

#![allow(clippy::disallowed_methods)]

use ast_tests::campaign;
use ast_tests::image::{self, Column};
use ast_tests::lab::cache::{cache_dir, project_dir};
use ast_tests::lab::pool::Pool;
use ast_tests::lab::recipe::Recipes;
use ast_tests::lab::repo::State;
use ast_tests::lab::{grub, http, repo};
use ast_tests::scenario::Scenario;
use clap::{Parser, Subcommand};
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Makes and drives the lab's machines.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the package repositories of some states (default: v1 and v2) and prints their directories
    Repo {
        /// Names of states
        states: Vec<String>,
        /// All states
        #[arg(long)]
        all: bool,
    },
    /// Unpacks GRUB 2.06, 2.12 and 2.14 and prints their directories
    Grub,
    /// Brings all Debian packages of the lock file into the cache
    Lock {
        /// Ask the suites for newer versions and lock those
        #[arg(long)]
        update: bool,
    },
    /// Serves a directory as a mirror until interrupted
    Serve {
        /// What to serve
        dir: PathBuf,
        /// Port on the loopback
        #[arg(long, default_value_t = 8000)]
        port: u16,
    },
    /// Installs disk images (default: of all columns) and prints their paths
    Image {
        /// Names of columns
        columns: Vec<Column>,
        /// What they are installed from
        #[arg(long, default_value = "v1", value_parser = state)]
        state: State,
    },
    /// Makes everything that the tests start from, so that their own times are theirs
    Prepare,
    /// Prints the table of the scenarios that passed, from the lines that tests wrote where AST_LAB_TABLE said
    Table {
        /// That file
        lines: PathBuf,
    },
    /// Applies each seeded bug (or one) to a checkout and runs the test that must go red
    Seeded {
        /// Name of one, without `.patch`
        name: Option<String>,
    },
    /// Boots a fresh machine and shows its console; Ctrl-] ends it
    Boot {
        /// Its column
        #[arg(default_value_t = Column::Bios214Raw)]
        column: Column,
        /// What its mirror offers
        #[arg(long, default_value = "v1", value_parser = state)]
        state: State,
    },
    /// Times of `ast` beside those of others, as ratios out of one run
    Bench {
        /// Only what has this in its name
        filter: Option<String>,
    },
    /// Cuts the power at enumerated and random moments, and appends what became of it to docs/campaign.csv; goes on where it stopped
    Campaign {
        /// States made from recorded writes, until the file has so many (default: 1000)
        #[arg(long, value_name = "STATES")]
        native: Option<usize>,
        /// Virtual machines instead, until the file has so many
        #[arg(long, value_name = "MACHINES", conflicts_with = "native")]
        vm: Option<usize>,
        /// Only the recording, or the machine, of this seed
        #[arg(long)]
        seed: Option<u64>,
        /// Only states in which this verb is under way
        #[arg(long, value_name = "VERB", conflicts_with = "vm")]
        only: Option<String>,
        /// A machine of the original program that is taken over, recorded with the seed (default: 1)
        #[arg(long, conflicts_with_all = ["native", "vm", "only"])]
        migrate: bool,
        /// Another file than docs/campaign.csv
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// Shows again the one state that was kept in this directory
        #[arg(long, value_name = "DIRECTORY")]
        again: Option<PathBuf>,
    },
    /// A kiosk that updates itself, breaks, comes back, and tells why
    Demo {
        /// Leaves a console to play with at the end
        #[arg(long)]
        attach: bool,
        /// The kind of machine
        #[arg(long, default_value_t = Column::Bios206Gap)]
        column: Column,
    },
}

fn state(name: &str) -> Result<State, String> {
    let names = || State::ALL.map(State::name).join(" ");
    State::from_name(name).ok_or_else(|| format!("no state {name}; there are: {}", names()))
}

fn main() -> ExitCode {
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lab: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    let cache = cache_dir();
    match command {
        Command::Repo { states, all } => {
            let named = |name: &String| State::from_name(name).ok_or_else(|| name.clone());
            let chosen = match states.iter().map(named).collect::<Result<Vec<_>, _>>() {
                _ if all => State::ALL.to_vec(),
                Ok(chosen) if chosen.is_empty() => vec![State::V1, State::V2],
                Ok(chosen) => chosen,
                Err(name) => {
                    let known: Vec<_> = State::ALL.iter().map(|s| s.name()).collect();
                    eprintln!("lab: no state {name}; there are: {}", known.join(" "));
                    return Ok(ExitCode::from(2));
                }
            };
            for (state, dir) in chosen.iter().zip(repo::build_all(&cache, &chosen)?) {
                println!("{} {}", state.name(), dir.display());
            }
        }
        Command::Grub => {
            for suite in grub::Suite::ALL {
                let grub = grub::build(&cache, suite)?;
                println!("{} {}", suite.version(), grub.modules_dir(grub::Platform::Bios).display());
            }
        }
        Command::Lock { update } => {
            let recipes = Recipes::load()?;
            if update {
                Pool::update(&cache, &recipes)?
            } else {
                Pool::open(&cache, &recipes)?
            };
        }
        Command::Image { columns, state } => {
            let columns = if columns.is_empty() { Column::ALL.to_vec() } else { columns };
            for column in columns {
                println!("{column} {}", image::build(&cache, column, state)?.display());
            }
        }
        Command::Prepare => {
            repo::build_all(&cache, &State::ALL)?;
            for column in Column::ALL {
                eprintln!("lab: {}", image::build(&cache, column, State::V1)?.display());
            }
        }
        Command::Table { lines } => print!("{}", ast_tests::scenario::table(&lines)?),
        Command::Seeded { name } => {
            let all = ast_tests::seeded::run(&project_dir(), name.as_deref())?;
            return Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Boot { column, state } => {
            let scenario = Scenario::new("lab-boot", column)?;
            scenario.offer(state)?;
            eprintln!("{column}, mirror {}; Ctrl-] ends the machine, its disk goes with it", state.name());
            scenario.start()?.attach()?;
        }
        Command::Bench { filter } => ast_tests::bench::run(filter.as_deref())?,
        Command::Campaign { native, vm, seed, only, migrate, report, again } => {
            let report = report.unwrap_or_else(campaign::report);
            let well = match (again, vm) {
                (Some(dir), _) => campaign::native::again(&dir)?,
                (None, Some(machines)) => campaign::vm::run(&report, machines, seed)?,
                (None, None) if migrate => campaign::taken::run_into(&report, seed.unwrap_or(1))?,
                (None, None) => campaign::native::run(&report, native.unwrap_or(campaign::STATES), seed, only.as_deref())?,
            };
            return Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Command::Demo { attach, column } => ast_tests::demo::run(column, attach)?,
        Command::Serve { dir, port } => {
            let server = http::Server::start_on(&dir, port)?;
            println!("{} (in a guest: {})", server.host_url(), server.guest_url());
            loop {
                std::thread::park();
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
