//! The machine's filesystem and its boot block.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ast::boot::BootBlock;
use ast::boot::medium::{Medium, MediumError};
use ast::cmdline::{BlockPlace, Cmdline};
use ast::layout::Layout;
use ast::sys::mount::{Mounted, keep_to_itself};
use ast::sys::watchdog::Watchdog;
use ast::sys::{device, file};

use crate::error::Failure;
use crate::top;
use crate::voice::Voice;

/// Where the top level of the btrfs is mounted while the root is put together.
const TOP: &str = "/run/ast/top";
/// First pause between two looks for a device, and the longest: a disk that is there at once costs nothing, one that
/// comes late is not hammered.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// How long the filesystem of the block may come later than the root, which is on the same disk.
const BLOCK_WAIT: Duration = Duration::from_secs(3);

/// The btrfs of this machine, mounted at its top level.
#[derive(Debug)]
pub struct Machine {
    /// Its device node.
    pub device: PathBuf,
    /// Names on it.
    pub layout: Layout,
    /// Whether it can only be read.
    pub read_only: bool,
    top: Mounted,
    place: Option<BlockPlace>,
    medium: OnceCell<Option<Medium>>,
    block: OnceCell<Option<BootBlock>>,
}

impl Machine {
    /// The filesystem that the command line names is mounted, repaired or read-only if it cannot be otherwise.
    pub fn open(line: &Cmdline, wait: Duration, watchdog: Option<&Watchdog>, voice: &Voice) -> Result<Self, Failure> {
        let uuid = line.root_uuid.as_deref().ok_or(Failure::NoRootUuid)?;
        let device = wait_for(uuid, wait, watchdog).ok_or_else(|| Failure::NoDevice { uuid: uuid.to_owned(), seconds: wait.as_secs() })?;
        file::make_dirs(Path::new(TOP))?;
        let (top, read_only) = top::mount(&device, Path::new(TOP), voice)?;
        // systemd shares mounts with whoever has the same directory: what is mounted in the new root would be here too, and unmounted there
        // with this.
        if let Err(error) = keep_to_itself(top.path()) {
            voice.warn(&error.to_string());
        }
        Ok(Self {
            layout: Layout::of_top_level(top.path()),
            device,
            read_only,
            top,
            place: line.block.clone(),
            medium: OnceCell::new(),
            block: OnceCell::new(),
        })
    }

    /// A path below the top level.
    pub fn at_top(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// Where the boot block is, if that is known and there.
    pub fn medium(&self, voice: &Voice) -> Option<&Medium> {
        self.medium.get_or_init(|| self.find_medium(voice)).as_ref()
    }

    fn find_medium(&self, voice: &Voice) -> Option<Medium> {
        let place = self.place.as_ref()?;
        let until = Instant::now() + BLOCK_WAIT;
        loop {
            match Medium::find(place, &self.device, &self.layout.documents()) {
                Ok(medium) => return Some(medium),
                Err(MediumError::NoDevice(_)) if Instant::now() < until => sleep(PAUSES.1),
                Err(error) => {
                    voice.warn(&error.to_string());
                    return None;
                }
            }
        }
    }

    /// The boot state, read when it is first asked for: a boot that goes well does not need it.
    pub fn block(&self, voice: &Voice) -> Option<&BootBlock> {
        self.block.get_or_init(|| self.medium(voice)?.read().current().map(|(_, block)| block.clone())).as_ref()
    }

    /// The top level is no longer mounted; what is bound from it stays.
    pub fn close(self) -> Result<(), Failure> {
        let dir = self.top.path().to_owned();
        self.top.unmount()?;
        // An empty directory in /run; one that stays behind harms nobody.
        drop(fs::remove_dir(dir));
        Ok(())
    }
}

fn wait_for(uuid: &str, wait: Duration, watchdog: Option<&Watchdog>) -> Option<PathBuf> {
    let until = Instant::now() + wait;
    let mut pause = PAUSES.0;
    loop {
        if let Ok(Some(device)) = device::find_by_uuid(uuid) {
            return Some(device);
        }
        if Instant::now() >= until {
            return None;
        }
        if let Some(watchdog) = watchdog {
            // Waiting is no hang; a watchdog that cannot be fed ends the waiting by itself.
            drop(watchdog.feed());
        }
        sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}
