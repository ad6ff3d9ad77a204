//! Runs other programs and keeps the end of what they said for the error.

use super::{Error, Result};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// How much of a failed program's output goes into the error, in bytes.
const TAIL: usize = 3000;

/// How much of a command goes into the error, in characters.
const ARGV: usize = 300;

/// The program has ended with 0; what it wrote to standard output comes back.
///
/// Streams: both captured, input empty.
/// Errors: not started, or ended otherwise; with the end of both streams.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    if !output.status.success() {
        let mut all = String::from_utf8_lossy(&output.stdout).into_owned();
        all.push_str(&String::from_utf8_lossy(&output.stderr));
        let mut from = all.len().saturating_sub(TAIL);
        while !all.is_char_boundary(from) {
            from += 1;
        }
        return Err(Error::Failed { argv: argv(command), status: output.status.to_string(), tail: all[from..].to_owned() });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program has ended, well or not.
pub fn output(command: &mut Command) -> Result<Output> {
    command.stdin(Stdio::null()).output().map_err(|source| Error::Spawn { argv: argv(command), source })
}

/// A shell script has ended with 0; `$1…` are `args`, the working directory is `dir`.
pub fn script(dir: &Path, text: &str, args: &[&str]) -> Result<String> {
    run(Command::new("bash").args(["-euo", "pipefail", "-c", text, "bash"]).args(args).current_dir(dir))
}

fn argv(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|a| a.to_string_lossy().into_owned()));
    let mut text = words.join(" ");
    if let Some((end, _)) = text.char_indices().nth(ARGV) {
        text.truncate(end);
        text.push('…');
    }
    text
}
