//! `/etc/fstab` of the chosen root, as far as the initramfs is concerned: options of the filesystem in its line for `/`, and subvolumes of it
//! that are to be there before the system starts (`x-initrd.mount`, see systemd.mount(5)). All other lines are systemd's.
//!
//! Nothing here keeps a machine from starting: what cannot be done is said and left out.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use ast::fstab::{Line, Options, is_ours, unit_of};
use ast::layout::TRIAL_UNITS;
use ast::sys::inside::{dir_at, open_at};
use ast::sys::mount::{MsFlags, mount, remount, remount_bind};
use ast::sys::{Result, file};
use nix::fcntl::OFlag;

use crate::machine::Machine;
use crate::voice::Voice;

/// Most bytes of a file that is taken for one that people wrote.
const MAX_BYTES: u64 = 64 << 10;
/// What systemd is left of it: in the initramfs (`SYSTEMD_SYSROOT_FSTAB`, set where the image is built), and where it would give `/` other
/// options than ours.
const REST: &str = "/run/ast/fstab";
/// Source: systemd's ENVIRONMENT.md. The lines for /proc and the like are still applied.
const REMOUNTS: &str = "[Service]\nEnvironment=SYSTEMD_FSTAB=/run/ast/fstab\n";
/// systemd would need what could not be mounted: a unit whose condition does not hold has not failed.
const GIVEN_UP: &str = "[Unit]\nConditionPathExists=!/run/ast/fstab\n";
/// Name of each drop-in with one of these.
const DROP_IN: &str = "50-ast-fstab.conf";

/// The lines that are ours to follow, and what became of them.
#[derive(Debug)]
pub struct Fstab {
    root: Option<Options>,
    /// Where, what, and how.
    subvolumes: Vec<(PathBuf, Line, Options)>,
    /// All other lines, as they are.
    rest: Vec<u8>,
    /// Whether any line is ours.
    ours: bool,
    /// What is not as the file says: of lines that may fail (`nofail`), and of others.
    missed: [Vec<String>; 2],
    /// Units of mounts that the system is to start without.
    given_up: Vec<String>,
}

impl Fstab {
    /// What the root at `new_root` says, with its /etc mounted. Nothing, with a message, where it cannot be read.
    pub fn read(machine: &Machine, new_root: &Path, voice: &Voice) -> Option<Self> {
        let bytes = match bytes_of(new_root) {
            Ok(bytes) => bytes?,
            Err(why) => {
                voice.error(&format!("/etc/fstab {why}; going on without it"));
                return None;
            }
        };
        let mut fstab = Self { root: None, subvolumes: Vec::new(), rest: Vec::new(), ours: false, missed: Default::default(), given_up: Vec::new() };
        for text in bytes.split_inclusive(|byte| *byte == b'\n') {
            let line = Line::parse(&String::from_utf8_lossy(text));
            if line.is_some_and(|line| fstab.takes(line, machine)) {
                fstab.ours = true;
            } else {
                fstab.rest.extend_from_slice(text);
            }
        }
        Some(fstab)
    }

    /// Whether the line is ours to follow, or to pass over because it is about what we mount.
    fn takes(&mut self, line: Line, machine: &Machine) -> bool {
        let below = line.below_root();
        if below.as_deref() == Some(Path::new("")) {
            // Of several the first counts, as for mount(8).
            if line.may_be_btrfs() && self.root.is_none() {
                self.root = Some(Options::of_root(&line.options));
            }
            return true;
        }
        // systemd mounts /usr in the initramfs without being asked.
        let early = line.has("x-initrd.mount") || below.as_deref() == Some(Path::new("usr"));
        if !line.may_be_btrfs() || !early || line.has("noauto") || !machine.is_named_by(&line.source) {
            return false;
        }
        match below.filter(|path| !is_ours(path)) {
            Some(path) => {
                let options = Options::parse(&line.options);
                self.subvolumes.push((path, line, options));
            }
            None => self.miss(&line, "no place for a mount of the initramfs"),
        }
        true
    }

    fn miss(&mut self, line: &Line, why: &str) {
        let [may_fail, must] = &mut self.missed;
        let text = format!("{}: {why}", line.target);
        if line.has("nofail") {
            may_fail.push(text);
        } else {
            must.push(text);
            self.given_up.extend(line.below_root().map(|path| unit_of(&path)));
        }
    }

    /// The filesystem has the options of the line for `/`, and so has what is bound from its top level from now on. Gives the flags of such a mount.
    pub fn set_options(&mut self, machine: &Machine) -> MsFlags {
        let unchanged = MsFlags::MS_NOATIME;
        let Some(options) = self.root.as_mut() else { return unchanged };
        let [_, missed] = &mut self.missed;
        missed.extend(options.refused.drain(..).map(|why| format!("/: {why}")));
        if machine.read_only || options.flags == unchanged && options.btrfs.is_empty() {
            return unchanged;
        }
        for btrfs in [options.btrfs.as_str(), ""] {
            match remount(machine.top(), options.flags, btrfs) {
                Ok(()) => return options.flags,
                Err(error) => missed.push(format!("/: not taken: {btrfs} ({})", error.source)),
            }
        }
        unchanged
    }

    /// The subvolumes that are named are mounted below `new_root`, read-only where nothing can be written.
    pub fn mount_subvolumes(&mut self, machine: &Machine, new_root: &Path) {
        for (path, line, options) in std::mem::take(&mut self.subvolumes) {
            let Ok(at) = File::open(new_root).map_err(drop).and_then(|root| dir_at(&root, &path).map_err(drop)) else {
                self.miss(&line, "there is no such directory, or a link is on the way");
                continue;
            };
            let read_only = if machine.read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
            // By what is open: nothing can come between.
            let target = PathBuf::from(format!("/proc/self/fd/{}", at.as_raw_fd()));
            if let Err(error) = mount(&machine.device.to_string_lossy(), &target, "btrfs", options.flags | read_only, &options.subvolume) {
                self.miss(&line, &format!("{} cannot be mounted: {}", options.subvolume, error.source));
            }
        }
    }

    /// What was left out is said, and systemd is told what is its own.
    pub fn hand_over(self, voice: &Voice) {
        let [may_fail, must] = &self.missed;
        if !may_fail.is_empty() {
            voice.warn(&format!("/etc/fstab: {}; going on without (nofail)", may_fail.join("; ")));
        }
        if !must.is_empty() {
            voice.error(&format!("/etc/fstab: {}; going on without", must.join("; ")));
        }
        if let Err(error) = self.leave_rest() {
            voice.warn(&error.to_string());
        }
    }

    fn leave_rest(&self) -> Result<()> {
        let path = Path::new(REST);
        file::make_dirs(path.parent().unwrap_or(Path::new("/")))?;
        file::replace(path, &self.rest)?;
        if !self.ours {
            return Ok(());
        }
        drop_in("systemd-remount-fs.service", REMOUNTS)?;
        self.given_up.iter().try_for_each(|unit| drop_in(unit, GIVEN_UP))
    }
}

fn drop_in(unit: &str, text: &str) -> Result<()> {
    let dir = Path::new(TRIAL_UNITS).join(format!("{unit}.d"));
    file::make_dirs(&dir)?;
    file::replace(&dir.join(DROP_IN), text.as_bytes())
}

/// `/` and its /etc, which were mounted before their options were known, have these flags, too.
pub fn set_flags(flags: MsFlags, new_root: &Path, etc: Option<&Path>, voice: &Voice) {
    let set = remount_bind(new_root, flags | MsFlags::MS_RDONLY).and_then(|()| etc.map_or(Ok(()), |etc| remount_bind(etc, flags)));
    if let Err(error) = set {
        voice.warn(&error.to_string());
    }
}

/// What is in the file; `None` where there is none. The error says what is wrong with it.
fn bytes_of(new_root: &Path) -> std::result::Result<Option<Vec<u8>>, String> {
    let root = File::open(new_root).map_err(|error| error.to_string())?;
    // A pipe there would be waited for, for ever.
    let file = match open_at(&root, Path::new("etc/fstab"), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Ok(file) => file,
        Err(nix::errno::Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(format!("cannot be opened: {error}")),
    };
    let meta = file.metadata().map_err(|error| error.to_string())?;
    if !meta.is_file() || meta.len() > MAX_BYTES {
        return Err(format!("is no file of at most {MAX_BYTES} bytes"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    Ok(Some(bytes))
}
