//! `import`: a snapshot that another machine exported.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::json;

use super::change::{attention, locked, opened};
use super::context::{Global, clean, print, utc};
use super::error::{CommandError, Kind};
use crate::transfer::{self, Against, Manifest, Opened, Public};
use crate::verify;
use crate::work::{Parts, Place};

/// What is imported.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The export; - is standard input
    file: PathBuf,
    /// What the new snapshot is called
    #[arg(short, long, value_name = "TEXT")]
    description: Option<String>,
    /// Trust this public key, too, besides those in /etc/ast/trusted.d
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// The export is a new snapshot: below the one that it is an increment to, or a tree of its own.
///
/// If interrupted: nothing of it is there but garbage by its name, which the next command deletes.
/// Refuses: what nobody trusted has signed, byte for byte; an increment to what is not here; too little space.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    let store = opened(global)?;
    if !global.dry_run {
        global.may_write()?;
    }
    let opened = open(args, global)?;
    let manifest = opened.manifest.clone();
    let parent = transfer::parent_on(&store, &manifest)?.needed_by(&manifest)?;
    if let Some(there) = transfer::present_on(&store, &manifest)? {
        if global.json {
            return global.print_json(&json!({ "snapshot": there, "new": false, "key": opened.key.to_string() }));
        }
        global.say("nothing to do: its content is here already");
        return print(&format!("snapshot {there}\n"));
    }
    global.say(describe(&manifest, &opened.key));
    if global.dry_run {
        let below = parent.map_or_else(|| "as a tree of its own".to_owned(), |p| format!("below {p}"));
        return global.plan(&format!(
            "import {}:\n    receive root, etc, var and boot, {} MiB\n  * commit the tree with a new snapshot {below}\n",
            args.file.display(),
            mib(manifest.unpacked())
        ));
    }
    drop(store);
    receive(args, global, opened, &manifest)
}

fn receive(args: &Args, global: &Global, opened: Opened, manifest: &Manifest) -> Result<(), CommandError> {
    let key = opened.key;
    // The lock is held while it is looked what there is, and again for the commit; receiving takes long and needs none.
    let (place, disk) = {
        let locked = locked(global)?;
        locked.has_space_for(manifest.unpacked())?;
        let layout = locked.layout().clone();
        let mut place = Place::claim(&layout)?;
        if let Some(parent) = transfer::parent_on(&locked, manifest)?.needed_by(manifest)? {
            place.hold(&layout, &[locked.set_of(parent)?])?;
        }
        (place, verify::Disk::of(&layout))
    };
    let inside = place.inside();
    transfer::unpack(opened, &inside)?;
    // What was looked at may have been deleted or saved meanwhile; what it was made against is only where it is drawn now.
    let findings = verify::check(&Parts::below(&inside), disk);
    let mut locked = locked(global)?;
    let parent = match transfer::parent_on(&locked, manifest)? {
        Against::Here(parent) => Some(parent),
        Against::Nothing | Against::Missing => None,
    };
    let description = args.description.as_deref().unwrap_or(&manifest.description);
    let file = clean(&args.file.to_string_lossy());
    let (plan, new) = locked.plan_from(|part| inside.join(part.name()), parent, description, |new| format!("import {file} as {new}"))?;
    let done = locked.run(plan)?;
    drop(place);
    if manifest.identity {
        global.say("it holds the id and the host keys of the machine that it comes from; a deployment gets this machine's in their place, where it has them");
    }
    for finding in &findings {
        global.say(format_args!("snapshot {new} would not boot: {finding}"));
    }
    if global.json {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        global.print_json(&json!({
            "snapshot": new, "new": true, "parent": parent, "key": key.to_string(), "packages": manifest.packages, "kernel": manifest.kernel,
            "would_not_boot": findings,
        }))?;
    } else {
        print(&format!("snapshot {new}\n"))?;
    }
    attention(&locked, &done)
}

fn open(args: &Args, global: &Global) -> Result<Opened, CommandError> {
    let mut trusted: Vec<Public> = transfer::trusted(&global.sysroot)?;
    if let Some(path) = &args.key {
        trusted.push(Public::read(path)?);
    }
    let input: Box<dyn BufRead> = if args.file == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file =
            File::open(&args.file).map_err(|e| CommandError::new(Kind::World, format!("cannot open {}: {e}", args.file.display())))?;
        Box::new(BufReader::new(file))
    };
    Ok(transfer::open(input, &args.file, &trusted)?)
}

fn describe(manifest: &Manifest, key: &Public) -> String {
    let kernel = manifest.kernel.as_deref().unwrap_or("none");
    let text = format!(
        "{:?}: {}kernel {kernel}, exported {} from set {} and signed with {key}",
        manifest.description,
        manifest.packages.map(|count| format!("{count} packages, ")).unwrap_or_default(),
        utc(manifest.created),
        manifest.set,
    );
    clean(&text)
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}
