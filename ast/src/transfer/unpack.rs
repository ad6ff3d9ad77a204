//! Receiving: each stream checked, unpacked and given to `btrfs receive`, which sees one directory and nothing else.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::container::{Checked, Opened};
use super::manifest::PartManifest;
use super::{OnFile, Result, TransferError};
use crate::exec::{self, Invocation, Options, Program};
use crate::layout::Part;
use crate::progress;
use crate::sys::{btrfs, file};

/// The four subvolumes of the export are in `into`, an empty directory of a working copy, read-only and known by their content.
///
/// If interrupted, or on any error: `into` has some of them, and is garbage by its name.
/// Refuses: streams that are not what was signed, that end early, or after which something follows.
pub fn unpack(opened: Opened, into: &Path) -> Result<()> {
    let Opened { manifest, mut input, path, .. } = opened;
    for (index, (part, said)) in manifest.streams().enumerate() {
        progress::long_step(index + 1, Part::ALL.len(), &format_args!("receive {}", part.name()));
        receive(part, said, &mut Checked::new(&mut input, part, said), into)?;
        check(part, said, into)?;
        tracing::info!("{}: received", part.name());
    }
    match input.read(&mut [0]).on("read", &path)? {
        0 => Ok(()),
        _ => Err(TransferError::Trailing),
    }
}

fn receive(part: Part, said: &PartManifest, stream: &mut Checked<'_>, into: &Path) -> Result<()> {
    let words = Invocation::new(Program::Btrfs).args(["--quiet", "receive", "--chroot", "-e"]).arg(into);
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).on("make a pipe for", into)?;
    std::thread::scope(|scope| {
        let receiver = std::thread::Builder::new()
            .name("receive".into())
            .spawn_scoped(scope, || exec::run(&words, Options::capture().stdin(read)).and_then(exec::Ended::success));
        let receiver = receiver.map_err(|_| TransferError::Thread)?;
        // The pipe ends with this: the receiver sees the end of its stream.
        let given = give(said, stream, File::from(write));
        let ended = receiver.join().map_err(|_| TransferError::Thread)?;
        // What was wrong with the stream says more than what the receiver made of its end.
        if let Some(damage) = stream.damage.take() {
            return Err(damage);
        }
        match given {
            Ok(bytes) if bytes == said.unpacked && stream.is_at_end() => {}
            // It ended before it had read everything, and says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && ended.is_err() => {}
            _ => return Err(TransferError::Size { part }),
        }
        ended.map(drop).map_err(|source| TransferError::Stream { part, source })
    })
}

/// Bytes that the receiver was given: never more than one above what was signed.
fn give(said: &PartManifest, stream: &mut Checked<'_>, mut to: File) -> io::Result<u64> {
    // Read to its end and one byte beyond, so that a frame which goes on is seen, and no more of it is unpacked.
    let decoder = zstd::stream::read::Decoder::new(stream)?;
    io::copy(&mut decoder.take(said.unpacked + 1), &mut to)
}

/// The stream has made the one subvolume that it should, and nothing beside those before it.
fn check(part: Part, said: &PartManifest, into: &Path) -> Result<()> {
    let foreign = |why| TransferError::Foreign { part, why };
    let mut expected: Vec<&str> = Part::ALL.iter().take_while(|p| **p != part).chain([&part]).map(|p| p.name()).collect();
    expected.sort_unstable();
    let names = file::names(into)?;
    if names.iter().any(|name| !expected.iter().any(|e| name == *e)) {
        return Err(foreign("there is something of another name"));
    }
    let made = into.join(part.name());
    if !btrfs::is_subvolume(&made) {
        return Err(foreign("there is no subvolume of its name"));
    }
    if !btrfs::is_read_only(&made)? || !btrfs::nested_subvolumes(&made)?.is_empty() {
        return Err(foreign("it is not sealed"));
    }
    if btrfs::uuids(&made)?.received.as_deref() != Some(&said.uuid) {
        return Err(foreign("its content is known by another name than the signed one"));
    }
    Ok(())
}
