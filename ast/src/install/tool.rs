//! How this room runs programs.

use std::ffi::OsStr;
use std::path::Path;

use super::Result;
use crate::exec::{Invocation, Options, Program, run as exec};

/// What `program` wrote, after it ended well. `input` is what it reads.
pub(super) fn run<A: AsRef<OsStr>>(program: Program, args: impl IntoIterator<Item = A>, input: Option<&[u8]>) -> Result<Vec<u8>> {
    run_invocation(&Invocation::new(program).args(args), input)
}

/// The same for a program at a path that the caller's caller chose: GRUB of another release.
pub(super) fn run_path<A: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = A>) -> Result<Vec<u8>> {
    run_invocation(&Invocation::words([program])?.args(args), None)
}

fn run_invocation(invocation: &Invocation, input: Option<&[u8]>) -> Result<Vec<u8>> {
    let options = match input {
        Some(bytes) => Options::capture().input(bytes),
        None => Options::capture(),
    };
    Ok(exec(invocation, options)?.success()?.stdout)
}
