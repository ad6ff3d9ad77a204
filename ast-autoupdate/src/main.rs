//! `ast-autoupdate`: the service that updates an unattended machine, tries the result, and comes back when it is bad.
//!
//! Four verbs for four units: `first-boot` (ast-firstboot.service) marks the start and completes `/var` and `/etc`, `health`
//! (ast-health.service) judges the start and promotes a trial, `run` (ast-autoupdate.service) makes one cycle,
//! `care` (ast-care.service) looks after the filesystem.
//! What is decided is decided in [`ast::updates`] and [`ast::health`]; here it is done.

mod baseline;
mod care;
mod clock;
mod cycle;
mod error;
mod etc;
mod facts;
mod first;
mod gate;
mod hands;
mod memory;
mod reboot;
mod status;
mod strays;
mod update;
mod voice;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;

use ast::updates::Request;
use clap::{Parser, Subcommand};

/// Updates an unattended machine.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Works on the machine whose root is here.
    #[arg(long, default_value = "/")]
    sysroot: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Marks this start, and completes /var and /etc at the first start of a deployment.
    FirstBoot,
    /// Makes one cycle: check, upgrade, try.
    Run {
        /// Now, whatever pauses and waits say.
        #[arg(long)]
        now: bool,
    },
    /// Looks after the filesystem: scrub, balance, a reserve.
    Care,
    /// Judges this start; a trial that is well becomes the default.
    Health,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let voice = voice::Voice::new();
    tracing_subscriber::fmt().with_writer(std::io::stderr).without_time().with_ansi(false).with_target(false).init();
    match args.verb {
        Verb::Run { now } => cycle::start(&args.sysroot, if now { Request::Person } else { Request::Timer }, &voice),
        Verb::FirstBoot => first::start(&args.sysroot, &voice),
        Verb::Care => care::start(&args.sysroot, &voice),
        Verb::Health => gate::start(&args.sysroot, &voice),
    }
}
