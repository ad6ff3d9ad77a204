//! Sending: four streams, their sums, the head over all, and out.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::path::Path;

use super::container::{Summed, head};
use super::key::Secret;
use super::manifest::{Manifest, ParentManifest, PartManifest, VERSION, identity};
use super::{OnFile, Result, TransferError};
use crate::exec::{self, Invocation, Options, Program};
use crate::id::SetId;
use crate::layout::{Layout, Part};
use crate::progress;
use crate::sys::file;
use crate::tree::Later;
use crate::work::Place;

/// zstd's own default: three times as fast as a disk of such a machine writes, and a third larger than the best.
const LEVEL: i32 = 3;
/// Each part, and the file.
const STEPS: usize = Part::ALL.len() + 1;
/// Files below /etc that make a machine that one, and should not be on two.
const PRIVATE_ETC: [&str; 2] = ["machine-id", super::key::DEFAULT_KEY];
/// The same below /var.
const PRIVATE_VAR: [&str; 2] = ["lib/systemd/random-seed", "lib/systemd/credential.secret"];

/// What is to travel.
#[derive(Debug, Clone)]
pub struct Wish {
    /// The set.
    pub set: SetId,
    /// What the snapshot is called.
    pub description: String,
    /// What the other machine has already, and what that is called.
    pub parent: Option<(SetId, String)>,
    /// How many packages are in it, where that can be told.
    pub packages: Option<usize>,
    /// When, in seconds since 1970.
    pub created: u64,
}

/// The export is written to `out` (called `to`); what it says of itself.
///
/// The streams are kept in `place` until their sums are known: the head comes first, so that a reader can check before it uses anything.
/// If interrupted: `out` has a part of it; `place` has nothing that has a name.
pub fn pack(layout: &Layout, wish: &Wish, key: &Secret, place: &Place, out: &mut dyn Write, to: &Path) -> Result<Manifest> {
    let mut spool = file::unnamed(place.dir())?;
    let mut parts = Vec::new();
    for (index, part) in Part::ALL.into_iter().enumerate() {
        progress::long_step(index + 1, STEPS, &format_args!("send {} of set {}", part.name(), wish.set));
        let from = layout.set_part(wish.set, part);
        let parent = wish.parent.as_ref().map(|(set, _)| layout.set_part(*set, part));
        let (unpacked, bytes, sums) = send(part, &from, parent.as_deref(), &mut spool, place.dir())?;
        tracing::info!("{}: {unpacked} bytes in {bytes}", part.name());
        let parent = parent.as_deref().map(identity).transpose()?;
        parts.push(PartManifest { name: part.name().to_owned(), uuid: identity(&from)?, parent, bytes, unpacked, sums });
    }
    let modules = file::names(&layout.set_part(wish.set, Part::Root).join("usr/lib/modules"))?;
    let manifest = Manifest {
        min_reader: VERSION,
        created: wish.created,
        description: wish.description.clone(),
        set: wish.set.to_string(),
        packages: wish.packages,
        kernel: modules.last().and_then(|name| name.to_str()).map(str::to_owned),
        identity: !private_files(layout, wish.set)?.is_empty(),
        parent: wish.parent.as_ref().map(|(set, text)| ParentManifest { description: text.clone(), set: set.to_string() }),
        parts,
        later: Later::new(),
    };
    progress::long_step(STEPS, STEPS, &format_args!("write {}", to.display()));
    out.write_all(&head(&manifest, key)?).on("write", to)?;
    spool.rewind().on("read back the streams in", place.dir())?;
    io::copy(&mut spool, out).on("write", to)?;
    out.flush().on("write", to)?;
    Ok(manifest)
}

/// The stream of one part is at the end of `spool`: its bytes unpacked and packed, and its sums.
fn send(part: Part, from: &Path, parent: Option<&Path>, spool: &mut File, dir: &Path) -> Result<(u64, u64, Vec<String>)> {
    let mut words = Invocation::new(Program::Btrfs).args(["--quiet", "send"]);
    if let Some(parent) = parent {
        words = words.arg("-p").arg(parent);
    }
    let words = words.arg(from);
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).on("make a pipe for", from)?;
    std::thread::scope(|scope| {
        let sender = std::thread::Builder::new()
            .name("send".into())
            .spawn_scoped(scope, || exec::run(&words, Options::capture().stdout(write)).and_then(exec::Ended::success));
        let sender = sender.map_err(|_| TransferError::Thread)?;
        // The pipe ends with this: a sender that nobody reads any more ends, too.
        let packed = compress(File::from(read), spool, dir);
        let ended = sender.join().map_err(|_| TransferError::Thread)?;
        let packed = packed?;
        ended.map(drop).map_err(|source| TransferError::Stream { part, source })?;
        Ok(packed)
    })
}

fn compress(mut from: File, spool: &mut File, dir: &Path) -> Result<(u64, u64, Vec<String>)> {
    const ACTION: &str = "keep a stream in";
    let mut encoder = zstd::stream::write::Encoder::new(Summed::new(spool), LEVEL).on(ACTION, dir)?;
    encoder.include_checksum(false).on(ACTION, dir)?;
    let unpacked = io::copy(&mut from, &mut encoder).on(ACTION, dir)?;
    let (bytes, sums) = encoder.finish().on(ACTION, dir)?.finish();
    Ok((unpacked, bytes, sums))
}

/// Files of the set that make a machine that one: its id, the secret halves of its host keys, the key of its exports, its seeds.
pub fn private_files(layout: &Layout, set: SetId) -> Result<Vec<String>> {
    let (etc, var) = (layout.set_part(set, Part::Etc), layout.set_part(set, Part::Var));
    let host_keys = file::names(&etc.join("ssh"))?.into_iter().filter_map(|name| name.into_string().ok());
    let host_keys = host_keys.filter(|name| name.starts_with("ssh_host_") && name.ends_with("_key"));
    let mut found = Vec::new();
    let in_etc = PRIVATE_ETC.iter().map(|name| name.trim_start_matches("etc/").to_owned());
    for name in in_etc.chain(host_keys.map(|name| format!("ssh/{name}"))) {
        found.extend(says_something(&etc.join(&name)).then(|| format!("/etc/{name}")));
    }
    for name in PRIVATE_VAR {
        found.extend(says_something(&var.join(name)).then(|| format!("/var/{name}")));
    }
    Ok(found)
}

/// An empty machine-id, or one that says `uninitialized`, is how an image says that it has none (machine-id(5)).
fn says_something(path: &Path) -> bool {
    let text = file::read(path).unwrap_or_default();
    !text.is_empty() && text != b"uninitialized\n"
}
