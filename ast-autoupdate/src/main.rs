//! `ast-autoupdate`: the service that updates an unattended machine, tries the result, and comes back when it is bad.
//!
//! Three verbs for three units: `first-boot` (ast-firstboot.service) marks the start and completes `/var`, `health`
//! (ast-health.service) judges the start and promotes a trial, `run` (ast-autoupdate.service) makes one cycle.
//! What is decided is decided in [`ast::updates`] and [`ast::health`]; here it is done.

mod baseline;
mod cycle;
mod error;
mod facts;
mod first;
mod gate;
mod hands;
mod memory;
mod reboot;
mod strays;
mod var;
mod voice;

use std::path::PathBuf;
use std::process::ExitCode;

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
    /// Marks this start, and completes /var at the first start of a deployment.
    FirstBoot,
    /// Judges this start; a trial that is well becomes the default.
    Health,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let voice = voice::Voice::new();
    match args.verb {
        Verb::FirstBoot => first::start(&args.sysroot, &voice),
        Verb::Health => gate::start(&args.sysroot, &voice),
    }
}
