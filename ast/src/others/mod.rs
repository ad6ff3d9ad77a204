//! Other systems on this machine, for the menu: found by the real `os-prober` when the owner asked for it, remembered as a document.
//!
//! Looking takes seconds and mounts foreign file systems, so no plan does it: `ast boot-update` and the daily round of care do, outside the
//! lock, in namespaces of their own and within a time limit. Every menu is written from the document, so a deploy is as fast as without.

mod parse;

pub use parse::{Kernel, MOST, Start, System, kernel, systems, uuid};

use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::exec::{Ended, ExecError, Invocation, Options, Program};
use crate::grub::other::OtherSystem;
use crate::layout::{self, Layout};
use crate::store::machine::{Firmware, Machine};
use crate::store::{Store, StoreError, document};
use crate::sys::lock::Wait;
use crate::work::{self, WorkError};

/// How long all of it may take: a disk in an idle drive spins up in ten seconds, and there may be a few.
const LIMIT: Duration = Duration::from_secs(120);

/// Why other systems could not be looked for. What was found before stays in the menu.
#[derive(Debug, thiserror::Error)]
pub enum OthersError {
    /// The program is not there.
    #[error("GRUB_DISABLE_OS_PROBER=false in /etc/default/grub asks for other systems, but {0} is not installed")]
    Missing(&'static str),
    /// It hung, or could not be run.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// Documents.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is remembered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Others {
    systems: Vec<OtherSystem>,
}

/// The systems that were found when it was last looked; none where that is not known.
pub fn known(layout: &Layout) -> Vec<OtherSystem> {
    let loaded = document::load_if_exists::<Others>(&layout.document(layout::OTHERS));
    // An entry that cannot be written costs itself, not the menu.
    let listed = |other: &OtherSystem| other.entry().is_ok();
    loaded.ok().flatten().map(|loaded| loaded.body.systems).unwrap_or_default().into_iter().filter(listed).collect()
}

/// The menu lists the systems that are on this machine now; they. `None` where the owner did not ask for them, and on a machine that does not run.
///
/// If interrupted: what was known is listed.
/// Refuses: where `os-prober` is missing or hangs; while another process holds the lock, after `wait`.
pub fn refresh(sysroot: &Path, wait: Wait) -> Result<Option<Vec<OtherSystem>>, OthersError> {
    // From another machine only its own disks are seen, and not by what runs here.
    if sysroot != Path::new("/") {
        return Ok(None);
    }
    let store = Store::open(sysroot)?;
    let Some(machine) = store.machine().filter(|_| store.asks_for_others()) else { return Ok(None) };
    let found = find(machine)?;
    if found != known(store.layout()) {
        let locked = store.lock(wait)?;
        let path = locked.layout().document(layout::OTHERS);
        document::save(&path, &Others { systems: found.clone() }).map_err(StoreError::from)?;
        locked.write_menu()?;
    }
    Ok(Some(found))
}

/// What `os-prober` finds beside `machine` itself.
fn find(machine: &Machine) -> Result<Vec<OtherSystem>, OthersError> {
    let end = Instant::now() + LIMIT;
    let run = |program: Program, args: &[&str]| -> Result<Ended, OthersError> {
        let options = Options::capture().env("OS_PROBER_DISABLE_DEBUG", "1").timeout(end.saturating_duration_since(Instant::now()));
        match work::run_beside(&Invocation::new(program).args(args), options) {
            Ok(ended) => Ok(ended),
            Err(WorkError::Exec(ExecError::Missing { program })) => Err(OthersError::Missing(program.name())),
            Err(error) => Err(error.into()),
        }
    };
    let uuid_of = |device: &str| -> Result<Option<String>, OthersError> {
        Ok(uuid(&run(Program::Blkid, &["-o", "value", "-s", "UUID", "--", device])?.text()).filter(|uuid| !uuid.eq_ignore_ascii_case(&machine.fs_uuid)))
    };
    let mut found = Vec::new();
    for system in systems(&run(Program::OsProber, &[])?.success().map_err(WorkError::from)?.text()) {
        let other = match system.start {
            Start::Program(path) if machine.firmware == Firmware::Efi => {
                uuid_of(&system.device)?.map(|fs_uuid| OtherSystem::Efi { title: system.name, fs_uuid, path })
            }
            Start::Sector if machine.firmware == Firmware::Bios => {
                uuid_of(&system.device)?.map(|fs_uuid| OtherSystem::Bios { title: system.name, fs_uuid })
            }
            // Our own file system is nobody else's, whatever is on it.
            Start::Linux if uuid_of(&system.device)?.is_some() => match kernel(&run(Program::LinuxBootProber, &[&system.device])?.text()) {
                Some(kernel) => uuid_of(&kernel.device)?.map(|fs_uuid| OtherSystem::Linux {
                    title: system.name,
                    fs_uuid,
                    kernel: kernel.path,
                    initrd: kernel.initrd,
                    args: kernel.args,
                }),
                None => {
                    tracing::info!("{} has no kernel whose start is known", system.device);
                    None
                }
            },
            _ => None,
        };
        match other.map(|other| other.entry().map(|_| other)) {
            Some(Ok(other)) if !found.contains(&other) => found.push(other),
            Some(Err(error)) => tracing::warn!("what is on {} is not listed: {error}", system.device),
            _ => {}
        }
    }
    Ok(found)
}
