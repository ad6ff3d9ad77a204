//! The devices of the root's filesystem: found by what `root=` names, and awaited.
//!
//! Nothing here needs udev: superblocks are read, and the kernel is told at the mount which devices belong to the filesystem. A btrfs
//! rule of udev that ran too early, or is not in the image, keeps nothing from starting.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ast::cmdline::Root;
use ast::sys::device::{self, Member};
use ast::sys::watchdog::Watchdog;

use crate::error::Failure;
use crate::options::Options;
use crate::voice::Voice;

/// First pause between two looks for a device, and the longest: a disk that is there at once costs nothing, one that
/// comes late is not hammered.
pub const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// Commits by which a device may be behind the others: a power cut between two superblocks of one commit leaves one.
const BEHIND: u64 = 1;

/// The devices of one btrfs.
#[derive(Debug)]
pub struct Disks {
    /// Those that are there, by their numbers; never empty.
    members: Vec<Member>,
    /// How many there should be.
    wanted: u64,
    /// Where udev puts its links to disks.
    links: PathBuf,
}

impl Disks {
    /// The devices of the filesystem that `root` names are there; or, when the time is over, at least one of them is.
    ///
    /// Refuses: when none is.
    pub fn wait_for(root: &Root, options: &Options, watchdog: Option<&Watchdog>, voice: &Voice) -> Result<Self, Failure> {
        let found = poll(options.wait, watchdog, || Self::look(root, options).ok_or(()));
        let disks = found.map_err(|()| no_device(root, options))?;
        if disks.all_there() {
            return Ok(disks);
        }
        let (here, wanted, seconds) = (disks.members.len(), disks.wanted, options.wait_others.as_secs());
        voice.warn(&format!(
            "{here} of {wanted} devices of the root's filesystem are there; waiting up to {seconds} seconds for the others"
        ));
        let complete = || Self::look(root, options).filter(Self::all_there).ok_or(());
        let disks = poll(options.wait_others, watchdog, complete).ok().or_else(|| Self::look(root, options)).unwrap_or(disks);
        Ok(disks)
    }

    /// What is there now.
    fn look(root: &Root, options: &Options) -> Option<Self> {
        let first = Member::read(&resolve(root, &options.disks)?)?;
        // The usual machine has one disk, and nobody else's is read.
        let mut members = if first.devices > 1 { device::members(&first.uuid).ok()? } else { vec![first] };
        let newest = members.iter().max_by_key(|member| member.generation)?.clone();
        if newest.devices == 1 {
            // What else says that it belongs to it was taken out while it was away.
            members = vec![newest.clone()];
        }
        Some(Self { members, wanted: newest.devices, links: options.disks.clone() })
    }

    fn all_there(&self) -> bool {
        self.members.len() as u64 >= self.wanted
    }

    /// Whether the filesystem has more devices than one.
    pub fn are_several(&self) -> bool {
        self.wanted > 1
    }

    /// Whether `root` names this filesystem, or a device of it.
    pub fn are_named_by(&self, root: &Root) -> bool {
        let named = |member: &Member| match root {
            Root::Uuid(uuid) => member.uuid.eq_ignore_ascii_case(uuid),
            Root::Label(label) => member.label == *label,
            _ => false,
        };
        let by_device = || resolve(root, &self.links).is_some_and(|node| self.nodes().any(|own| own == node));
        self.members.iter().any(named) || !matches!(root, Root::Uuid(_) | Root::Label(_)) && by_device()
    }

    /// Whether one is missing.
    pub fn lack_some(&self) -> bool {
        !self.all_there()
    }

    /// The nodes of those that are there; the first is the one to mount.
    pub fn nodes(&self) -> impl Iterator<Item = &Path> {
        self.members.iter().map(|member| member.node.as_path())
    }

    /// The device to mount and, for whoever knows one device only, the filesystem's.
    pub fn first(&self) -> &Path {
        self.nodes().next().unwrap_or(Path::new("/dev"))
    }

    /// Mount options that tell the kernel about all of them. Nothing for a single one.
    pub fn options(&self) -> String {
        let mut options = String::new();
        for node in self.nodes().filter(|_| self.are_several()) {
            // Writing into a String cannot fail.
            let _ = write!(options, ",device={}", node.display());
        }
        options
    }

    /// Number and a line for each device that has missed commits: it was not there at an earlier start.
    pub fn behind(&self) -> Vec<(u64, String)> {
        let newest = self.members.iter().map(|member| member.generation).max().unwrap_or(0);
        let by = |member: &Member| newest.saturating_sub(member.generation);
        let late = self.members.iter().filter(|member| by(member) > BEHIND);
        late.map(|member| {
            let (id, node, commits) = (member.id, member.node.display(), by(member));
            let text = format!(
                "device {id} ({node}) was away and is {commits} commits behind the others; ast-boot(7) tells how it is brought up to date"
            );
            (id, text)
        })
        .collect()
    }

    /// Whoever waits for the filesystem looks at its devices again: udev calls them not ready as long as one is missing, until somebody
    /// has mounted them all the same.
    pub fn announce(&self, voice: &Voice) {
        for node in self.nodes() {
            if let Err(error) = device::announce(node) {
                voice.warn(&error.to_string());
            }
        }
    }
}

/// What `look` finds, as soon as it finds it; else its last answer, when the time is over.
pub fn poll<T, E>(wait: Duration, watchdog: Option<&Watchdog>, mut look: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let until = Instant::now() + wait;
    let mut pause = PAUSES.0;
    loop {
        let answer = look();
        if answer.is_ok() || Instant::now() >= until {
            return answer;
        }
        if let Some(watchdog) = watchdog {
            // Waiting is no hang; a watchdog that cannot be fed ends the waiting by itself.
            drop(watchdog.feed());
        }
        sleep(pause);
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// The device node that `root` names, if it is there now.
fn resolve(root: &Root, links: &Path) -> Option<PathBuf> {
    match root {
        Root::Uuid(uuid) => device::find_by_uuid(uuid).ok()?,
        Root::Label(label) => device::find_by_label(label).ok()?,
        // udev reads partition tables; without it newer kernels tell.
        Root::PartUuid(uuid) => {
            let link = links.join("by-partuuid").join(uuid.to_ascii_lowercase());
            fs::canonicalize(link).ok().or_else(|| device::find_partition("PARTUUID", uuid).ok()?)
        }
        Root::PartLabel(name) => device::find_partition("PARTNAME", name).ok()?,
        Root::Device(path) => {
            fs::canonicalize(path).ok().filter(|node| fs::metadata(node).is_ok_and(|meta| meta.file_type().is_block_device()))
        }
    }
}

fn no_device(root: &Root, options: &Options) -> Failure {
    Failure::NoDevice { root: root.clone(), is: resolve(root, &options.disks), seconds: options.wait.as_secs(), seen: seen() }
}

/// Every device that has a size, and what is known in it.
fn seen() -> Vec<String> {
    let has_size = |node: &PathBuf| {
        use std::io::{Seek, SeekFrom};
        fs::File::open(node).and_then(|mut file| file.seek(SeekFrom::End(0))).is_ok_and(|size| size > 0)
    };
    let describe = |node: PathBuf| match (Member::read(&node), device::uuid_of(&node)) {
        (Some(btrfs), _) if btrfs.label.is_empty() => format!("{} (btrfs {})", node.display(), btrfs.uuid),
        (Some(btrfs), _) => format!("{} (btrfs {} {})", node.display(), btrfs.uuid, btrfs.label),
        (None, Some(serial)) => format!("{} (FAT {serial})", node.display()),
        (None, None) if device::is_luks(&node) => format!("{} (LUKS)", node.display()),
        (None, None) => node.display().to_string(),
    };
    device::nodes().unwrap_or_default().into_iter().filter(has_size).map(describe).collect()
}
