//! `export`: a snapshot as one file that another machine imports.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::change::{locked, opened};
use super::context::Global;
use super::error::{CommandError, Kind};
use crate::id::SnapshotId;
use crate::layout::Part;
use crate::pacman;
use crate::store::{Store, now};
use crate::sys::file::Draft;
use crate::transfer::{self, DEFAULT_KEY, Manifest, Secret, TransferError, Wish};
use crate::work::Place;

/// What is exported, and where to.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The snapshot
    snapshot: SnapshotId,
    /// The file to write; - is standard output
    file: PathBuf,
    /// Only what differs from this snapshot, which the other machine has already
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<SnapshotId>,
    /// Sign with this key instead of the machine's own (/etc/ast/export.key, made when it is first needed)
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Also a snapshot that holds this machine's id or the secret half of its host keys: for a backup of this very machine
    #[arg(long)]
    with_identity: bool,
}

/// The file is a signed export of the snapshot.
///
/// If interrupted: the file is as it was; nothing else is left.
/// Refuses: a snapshot with this machine's identity in it, unless `--with-identity`.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let to = To::of(&args.file)?;
    if matches!(to, To::Stdout) && !global.dry_run {
        if std::io::stdout().is_terminal() {
            return Err(CommandError::new(Kind::Usage, "an export is nothing for a terminal to show")
                .hint("name a file, or pipe it: ast export N - | ssh …"));
        }
        if global.json {
            return Err(CommandError::new(Kind::Usage, "standard output cannot be both the export and a JSON document").hint("name a file"));
        }
    }
    if global.dry_run {
        let (wish, private) = wish(&opened(global)?, args)?;
        let from = wish.parent.map(|(set, _)| format!(" against set {set}")).unwrap_or_default();
        let identity = if private.is_empty() { String::new() } else { format!("    it holds {}\n", private.join(", ")) };
        return global.plan(&format!(
            "export {} to {}:\n{identity}    send set {}{from}, compressed\n    sign its sums\n    write the file\n",
            args.snapshot,
            args.file.display(),
            wish.set
        ));
    }
    let store = opened(global)?;
    global.may_write()?;
    let mut place = Place::claim(store.layout())?;
    // Under the lock, so that the sets are there when they are taken hold of; sending takes long and needs no lock.
    let (wish, key) = {
        let locked = locked(global)?;
        locked.has_space()?;
        let (wish, private) = wish(&locked, args)?;
        if !private.is_empty() && !args.with_identity {
            return Err(TransferError::Private(private).into());
        }
        let key = secret(args, global)?;
        let sets: Vec<_> = [Some(wish.set), wish.parent.as_ref().map(|(set, _)| *set)].into_iter().flatten().collect();
        place.hold(locked.layout(), &sets)?;
        (wish, key)
    };
    let manifest = match to {
        To::Stdout => transfer::pack(store.layout(), &wish, &key, &place, &mut std::io::stdout().lock(), Path::new("standard output"))?,
        To::Device => {
            let file = std::fs::File::options().write(true).open(&args.file);
            let mut file = file.map_err(|e| CommandError::new(Kind::World, format!("cannot open {}: {e}", args.file.display())))?;
            transfer::pack(store.layout(), &wish, &key, &place, &mut file, &args.file)?
        }
        To::File(path) => {
            // Readable by root alone: what is in /etc/shadow is in it, too.
            let mut draft = Draft::of(&path, 0o600).map_err(TransferError::from)?;
            let manifest = transfer::pack(store.layout(), &wish, &key, &place, &mut draft.file, &path)?;
            draft.publish().map_err(TransferError::from)?;
            manifest
        }
    };
    tell(args, global, &wish, &key, &manifest)
}

/// Where an export is written.
enum To {
    Stdout,
    /// A device or a pipe with a name: written through, never replaced.
    Device,
    /// A file, whether it is there or not; where a link leads, not the link.
    File(PathBuf),
}

impl To {
    fn of(file: &Path) -> Result<Self, CommandError> {
        if file == Path::new("-") {
            return Ok(Self::Stdout);
        }
        match std::fs::metadata(file) {
            Ok(meta) if meta.is_dir() => {
                Err(CommandError::new(Kind::Usage, format!("{} is a directory", file.display())).hint("name a file in it"))
            }
            Ok(meta) if !meta.is_file() => Ok(Self::Device),
            Ok(_) => Ok(Self::File(std::fs::canonicalize(file).unwrap_or_else(|_| file.to_owned()))),
            Err(_) => Ok(Self::File(file.to_owned())),
        }
    }
}

fn tell(args: &Args, global: &Global, wish: &Wish, key: &Secret, manifest: &Manifest) -> Result<(), CommandError> {
    if global.json {
        return global.print_json(&json!({
            "snapshot": args.snapshot, "set": wish.set, "parent": args.parent, "file": args.file, "bytes": manifest.bytes(),
            "unpacked": manifest.unpacked(), "key": key.public().to_string(), "identity": manifest.identity,
        }));
    }
    global.say(format_args!(
        "snapshot {} (set {}), {} MiB, signed with {}",
        args.snapshot,
        wish.set,
        manifest.bytes().div_ceil(1 << 20),
        key.public()
    ));
    std::io::stderr().flush().or(Ok(()))
}

/// What the words mean now, and which files of the snapshot are this machine's own.
fn wish(store: &Store, args: &Args) -> Result<(Wish, Vec<String>), CommandError> {
    let tree = store.tree()?;
    let set = store.set_of(args.snapshot)?;
    let parent = match args.parent {
        Some(parent) => Some((store.set_of(parent)?, tree.get(parent)?.description.clone())),
        None => None,
    };
    let packages = pacman::installed(&store.layout().set_part(set, Part::Root)).ok().map(|packages| packages.len());
    let wish = Wish { set, description: tree.get(args.snapshot)?.description.clone(), parent, packages, created: now() };
    Ok((wish, transfer::private_files(store.layout(), set)?))
}

fn secret(args: &Args, global: &Global) -> Result<Secret, CommandError> {
    if let Some(path) = &args.key {
        return Ok(Secret::read(path)?);
    }
    let path = global.sysroot.join(DEFAULT_KEY);
    let (key, made) = Secret::read_or_make(&path)?;
    if made {
        global.say(format_args!(
            "made the key {}; machines that should import from here need {} in their /etc/ast/trusted.d",
            path.display(),
            path.with_extension("pub").display()
        ));
    }
    Ok(key)
}

impl From<TransferError> for CommandError {
    fn from(error: TransferError) -> Self {
        let kind = if error.is_refusal() { Kind::Refused } else { Kind::World };
        let failure = Self::new(kind, super::error::chain(&error));
        match &error {
            TransferError::Untrusted { key } => failure.hint(format!(
                "if you know whose it is: write the line `{key}` to /etc/ast/trusted.d/NAME.pub, or give such a file with --key"
            )),
            TransferError::NoParent { .. } => failure.hint("import that one first, or export without --parent"),
            TransferError::Private(files) => failure.hint(format!(
                "two machines should not share it: `ast run N rm {}` takes it out; --with-identity exports it as it is, for a backup of this one",
                files.join(" ")
            )),
            TransferError::Newer { .. } => failure.hint("`ast ast-sync` brings a newer ast"),
            TransferError::Damaged { .. } | TransferError::Cut { .. } | TransferError::BadSignature { .. } => {
                failure.hint("fetch it again; nothing of it was kept")
            }
            _ if error.is_out_of_space() => failure.hint("`ast clean`, or `ast del` of a snapshot, gives space back; nothing was kept"),
            _ => failure,
        }
    }
}
