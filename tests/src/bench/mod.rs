//! `./dev bench`: what `ast` takes beside what others take for the same, as ratios of medians out of one run. It tells; it decides nothing.
//!
//! Commands are timed from fork to wait, in turns, so that whatever else the machine does hits both sides. What a shell that does nothing takes is taken
//! off both.

mod bed;
mod initramfs;
mod menu;
mod rows;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bed::Bed;

/// Why a benchmark could not be made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BenchError {
    #[error(transparent)]
    Image(#[from] crate::image::ImageError),
    #[error(transparent)]
    Lab(#[from] crate::lab::Error),
    #[error("{what}: {status}\n{tail}")]
    Command { what: String, status: ExitStatus, tail: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{0}")]
    Ast(String),
    #[error("cannot build the programs")]
    Build,
}

/// One side of a comparison: a command that does it once, and what makes it possible to do it again.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    name: String,
    line: String,
    again: String,
}

impl Side {
    /// A line of shell, timed.
    pub(crate) fn new(name: &str, line: impl Into<String>) -> Self {
        Self { name: name.to_owned(), line: line.into(), again: String::new() }
    }

    /// What is run after each time, not timed.
    pub(crate) fn again(mut self, line: impl Into<String>) -> Self {
        self.again = line.into();
        self
    }
}

/// A comparison and what is wanted of it.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    ours: Side,
    theirs: Side,
    /// Theirs by ours that is wanted; `None`: told only.
    at_least: Option<f64>,
    /// How much longer than that ours may take.
    allowed: Duration,
    times: usize,
}

/// Medians of both sides.
#[derive(Debug)]
struct Measured {
    ours: Duration,
    theirs: Duration,
}

/// Measures everything and prints a line for each.
pub fn run(filter: Option<&str>) -> Result<(), BenchError> {
    if filter == Some("script") {
        return menu::scripts();
    }
    let programs = program("ast", "release")?;
    // What nobody asked for is not set up.
    if filter == Some("menu") {
        return menu::measure(&programs);
    }
    println!("{:<28} {:>10}  {:<34} {:>10} {:>8}  wanted", "what", "ast", "against", "", "ratio");
    let documents = scratch()?;
    for row in rows::readers(&programs, documents.path())?.into_iter().filter(|row| wanted(row, filter)) {
        tell_or_say(&row);
    }
    // snapper's own filesystem, if it was set up.
    drop(shell(&format!("umount -l {}/s", documents.path().display())));
    let bed = Bed::new(&programs)?;
    let initcpio = program("ast-initcpio", "initramfs")?;
    for row in rows::writers(&bed)?.into_iter().chain(initramfs::mounts(&bed, &initcpio)?).filter(|row| wanted(row, filter)) {
        tell_or_say(&row);
    }
    if filter.is_none_or(|filter| "initramfs: bytes".contains(filter)) {
        initramfs::growth(&bed, &initcpio)?;
    }
    if filter.is_none_or(|filter| "10,000 snapshots".contains(filter)) {
        rows::grows(&programs)?;
    }
    if filter.is_none() {
        menu::measure(&programs)?;
    }
    Ok(())
}

/// A directory that is gone with its last user.
fn scratch() -> Result<tempfile::TempDir, BenchError> {
    tempfile::tempdir().map_err(|source| BenchError::Io { what: "a directory".to_owned(), source })
}

fn wanted(row: &Row, filter: Option<&str>) -> bool {
    filter.is_none_or(|filter| row.what.contains(filter))
}

/// One that cannot be measured here keeps none of the others from it.
fn tell_or_say(row: &Row) {
    if let Err(error) = tell(row) {
        println!("{:<28} not measured beside {}: {}", row.what, row.theirs.name, error.to_string().replace('\n', " "));
    }
}

fn tell(row: &Row) -> Result<(), BenchError> {
    let Measured { ours, theirs } = measure(row)?;
    let ratio = theirs.as_secs_f64() / ours.as_secs_f64();
    let allowed = row.allowed.as_secs_f64();
    let more = if row.allowed.is_zero() { String::new() } else { format!(" and {}", Time(row.allowed)) };
    let wanted = match row.at_least {
        Some(least) if ours.as_secs_f64() <= theirs.as_secs_f64() / least + allowed => format!("≥ {least:.2}{more}: yes"),
        Some(least) => format!("≥ {least:.2}{more}: NO"),
        None => String::new(),
    };
    println!("{:<28} {:>10}  {:<34} {:>10} {ratio:>7.2}×  {wanted}", row.what, Time(ours), row.theirs.name, Time(theirs));
    Ok(())
}

/// Both sides in turns, after one round that is not counted.
fn measure(row: &Row) -> Result<Measured, BenchError> {
    let nothing = Side::new("a shell", ":");
    let mut taken = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..=row.times {
        for (side, times) in [&row.ours, &row.theirs, &nothing].into_iter().zip(&mut taken) {
            let time = once(side)?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    let [ours, theirs, nothing] = taken.map(median);
    Ok(Measured { ours: ours.saturating_sub(nothing), theirs: theirs.saturating_sub(nothing) })
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// From fork to wait.
fn once(side: &Side) -> Result<Duration, BenchError> {
    let begun = Instant::now();
    let out = shell(&side.line)?;
    let taken = begun.elapsed();
    if !out.is_empty() && !side.again.is_empty() {
        shell(&side.again.replace("@OUT@", out.trim()))?;
    } else if !side.again.is_empty() {
        shell(&side.again)?;
    }
    Ok(taken)
}

/// Runs a line of shell that has to succeed; its output.
pub(crate) fn shell(line: &str) -> Result<String, BenchError> {
    let out = Command::new("sh")
        .args(["-c", line])
        .stdin(Stdio::null())
        .output()
        .map_err(|source| BenchError::Io { what: line.to_owned(), source })?;
    if !out.status.success() {
        let tail = String::from_utf8_lossy(&out.stderr).into_owned();
        return Err(BenchError::Command { what: line.to_owned(), status: out.status, tail });
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// A program of ours, built as it is shipped.
fn program(name: &str, profile: &str) -> Result<PathBuf, BenchError> {
    let project = crate::lab::cache::project_dir();
    let status = Command::new("cargo").args(["build", "--quiet", "--profile", profile, "-p", name]).current_dir(&project).status();
    match status {
        Ok(status) if status.success() => {}
        _ => return Err(BenchError::Build),
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from);
    Ok(target.join(profile).join(name))
}

struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:.1} ms", self.0.as_secs_f64() * 1000.0))
    }
}
