//! Programs of the host that the lab calls.
use super::VmError;
use std::{
    ffi::OsStr,
    process::{Command, Stdio},
};

/// How much of a failed program's standard error is shown.
const STDERR_TAIL: usize = 2000;

/// Runs `program` to its end and returns its standard output; anything but exit status 0 is an error with the end of its standard error.
pub fn tool<S: AsRef<OsStr>>(program: &str, args: &[S]) -> Result<Vec<u8>, VmError> {
    let mut command = Command::new(program);
    command.args(args);
    output(&mut command)
}

/// As [`tool`], for a command that needs more than arguments.
pub fn output(command: &mut Command) -> Result<Vec<u8>, VmError> {
    let argv = argv(command);
    let out = command.stdin(Stdio::null()).output().map_err(|e| VmError::Tool {
        argv: argv.clone(),
        status: e.to_string(),
        stderr: String::new(),
    })?;
    if out.status.success() {
        return Ok(out.stdout);
    }
    Err(VmError::Tool { argv, status: out.status.to_string(), stderr: tail(&out.stderr, STDERR_TAIL) })
}

/// The command line as a person would type it, for messages.
pub fn argv(command: &Command) -> String {
    std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// The last `max` bytes as text.
pub fn tail(bytes: &[u8], max: usize) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(max)..]).into_owned()
}
