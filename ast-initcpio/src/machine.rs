//! The machine's filesystem and its boot block.

use std::cell::OnceCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ast::boot::BootBlock;
use ast::boot::block::parse_env;
use ast::boot::medium::{Medium, MediumError};
use ast::cmdline::{BlockPlace, Cmdline, Root};
use ast::id::DeployId;
use ast::layout::{BOOT_SUBVOL, Layout};
use ast::sys::mount::{Mounted, keep_to_itself};
use ast::sys::watchdog::Watchdog;
use ast::sys::{btrfs, file};

use crate::disks::{Disks, poll};
use crate::error::Failure;
use crate::options::Options;
use crate::top::{self, Top};
use crate::voice::Voice;

/// Where the top level of the btrfs is mounted while the root is put together.
const TOP: &str = "/run/ast/top";
/// How long the filesystem of the block may come later than the root, which is on the same disk.
const BLOCK_WAIT: Duration = Duration::from_secs(3);

/// The btrfs of this machine, mounted at its top level.
#[derive(Debug)]
pub struct Machine {
    /// Its device node, the first of several.
    pub device: PathBuf,
    /// Numbers of devices that belong to it and are not there.
    pub missing: Vec<u64>,
    /// Numbers of those that were not there at an earlier start.
    pub behind: Vec<u64>,
    /// What was done to have it mounted, a line each.
    pub disk: Vec<String>,
    /// Names on it.
    pub layout: Layout,
    /// Whether it can only be read.
    pub read_only: bool,
    disks: Disks,
    top: Mounted,
    place: Option<BlockPlace>,
    medium: OnceCell<Option<Medium>>,
    block: OnceCell<Option<BootBlock>>,
}

impl Machine {
    /// The filesystem that the command line names is mounted, repaired or read-only if it cannot be otherwise.
    pub fn open(line: &Cmdline, options: &Options, watchdog: Option<&Watchdog>, voice: &Voice) -> Result<Self, Failure> {
        let root = line.root.as_ref().ok_or(Failure::NoRoot)?;
        let disks = Disks::wait_for(root, options, watchdog, voice)?;
        file::make_dirs(Path::new(TOP))?;
        let Top { mounted: top, read_only, done } = top::mount(&disks, Path::new(TOP), voice)?;
        // systemd shares mounts with whoever has the same directory: what is mounted in the new root would be here too, and unmounted there
        // with this.
        if let Err(error) = keep_to_itself(top.path()) {
            voice.warn(&error.to_string());
        }
        let missing = if disks.are_several() { missing(&disks, top.path(), voice) } else { Vec::new() };
        let (behind, late): (Vec<u64>, Vec<String>) = disks.behind().into_iter().unzip();
        late.iter().for_each(|line| voice.error(line));
        Ok(Self {
            layout: Layout::of_top_level(top.path()),
            device: disks.first().to_owned(),
            missing,
            behind,
            disk: done.into_iter().chain(late).collect(),
            read_only,
            disks,
            top,
            place: line.block.clone(),
            medium: OnceCell::new(),
            block: OnceCell::new(),
        })
    }

    /// Where the top level is mounted.
    pub fn top(&self) -> &Path {
        self.top.path()
    }

    /// Whether `source`, as fstab(5) names one, is this filesystem.
    pub fn is_named_by(&self, source: &str) -> bool {
        Root::parse(source).is_some_and(|root| self.disks.are_named_by(&root))
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
        let find = || match Medium::find(place, &self.device, &self.layout.documents()) {
            Err(error @ MediumError::NoDevice(_)) => Err(error),
            // Waiting mends nothing else.
            found => Ok(found),
        };
        let found = poll(BLOCK_WAIT, None, find).and_then(|found| found);
        found.inspect_err(|error| voice.warn(&error.to_string())).ok()
    }

    /// The boot state, read when it is first asked for: a boot that goes well does not need it.
    pub fn block(&self, voice: &Voice) -> Option<&BootBlock> {
        self.block.get_or_init(|| self.medium(voice)?.read().current().map(|(_, block)| block.clone())).as_ref()
    }

    /// What GRUB starts when neither copy of the block is whole.
    pub fn baked(&self) -> Option<DeployId> {
        let dir = self.at_top(BOOT_SUBVOL).join("grub/ast");
        let named = |name: &str| {
            let pairs = parse_env(&file::read(&dir.join(name)).ok()?, None).ok()?;
            pairs.iter().find(|(key, _)| key == "ast_baked_good")?.1.parse().ok()
        };
        ["good.cfg", "good.prev.cfg"].into_iter().find_map(named)
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

/// Numbers of the devices without which the filesystem at `top` is mounted. Whoever looks is told of them.
fn missing(disks: &Disks, top: &Path, voice: &Voice) -> Vec<u64> {
    let all = btrfs::devices(top).inspect_err(|error| voice.warn(&error.to_string())).unwrap_or_default();
    let missing: Vec<u64> = all.iter().filter(|device| device.missing).map(|device| device.id).collect();
    for id in &missing {
        voice.error(&format!(
            "device {id} of the root's filesystem is missing: it is mounted without it (degraded), and what it held is there only once"
        ));
    }
    if !missing.is_empty() {
        disks.announce(voice);
    }
    missing
}
