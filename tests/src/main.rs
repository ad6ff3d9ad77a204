//! The command line of the lab.

#![allow(clippy::disallowed_methods)]

use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::pool::Pool;
use ast_tests::lab::recipe::Recipes;
use ast_tests::lab::repo::State;
use ast_tests::lab::{Result, grub, http, repo};
use clap::{Parser, Subcommand};
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

fn run(command: Command) -> Result<ExitCode> {
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
            if update { Pool::update(&cache, &recipes)? } else { Pool::open(&cache, &recipes)? };
        }
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
