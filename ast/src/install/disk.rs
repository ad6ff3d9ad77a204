//! The disk that a machine is to be installed on: what it is, what is on it, and that nobody uses it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::Deserialize;

use super::table::SECTOR;
use super::{InstallError, Result, Target, tool};
use crate::exec::Program;
use crate::sys::{At as _, SysError, file};

/// Where the kernel tells of a device by its number.
const BY_NUMBER: &str = "/sys/dev/block";
/// Where it lists them by name.
const BLOCK: &str = "/sys/class/block";

/// A disk, or an image file that is to become one.
#[derive(Debug, Clone)]
pub struct Disk {
    /// All of it.
    pub target: Target,
    /// Who made it and what it is called, for a device that says so.
    pub model: Option<String>,
    /// What is on it: partitions, filesystems, and what is made of them.
    pub holds: Vec<Held>,
    is_file: bool,
}

/// Something on a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The device's name, as `sda1`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// What lsblk calls it: `ext4`, `LVM2_member`; empty where nothing is known.
    pub kind: String,
    /// Its label, or empty.
    pub label: String,
    /// Where it is mounted; `[SWAP]` for what is swapped to.
    pub mounts: Vec<String>,
}

/// Nobody else installs onto it or looks into it (udev keeps out of a locked disk), as long as this lives.
#[derive(Debug)]
#[must_use = "the disk is anybody's when this is dropped"]
pub struct Claim {
    _locked: Flock<File>,
}

/// As lsblk prints it.
#[derive(Debug, Deserialize)]
struct Listing {
    blockdevices: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    #[serde(default)]
    path: PathBuf,
    #[serde(default)]
    size: Option<u64>,
    #[serde(default)]
    fstype: Option<String>,
    #[serde(default)]
    label: Option<String>,
    #[serde(default)]
    vendor: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    mountpoints: Vec<Option<String>>,
    #[serde(default)]
    children: Vec<Listed>,
}

/// As wipefs prints it; nothing at all where it finds nothing.
#[derive(Debug, Default, Deserialize)]
struct Signatures {
    signatures: Vec<Signature>,
}

#[derive(Debug, Deserialize)]
struct Signature {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    label: Option<String>,
}

impl Disk {
    /// What `path` is, looked at and not written to.
    ///
    /// Refuses: what is neither a block device nor a file, a partition, what is read-only, what anybody uses.
    pub fn look(path: &Path) -> Result<Self> {
        let node = path.canonicalize().at("look at", path)?;
        let meta = node.metadata().at("look at", &node)?;
        if meta.is_file() {
            let target = Target::whole(&node)?;
            let name = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let held = Held { name, size: target.size, kind: String::new(), label: String::new(), mounts: Vec::new() }.probed(&node)?;
            let holds = Some(held).filter(|held| !held.kind.is_empty()).into_iter().collect();
            let disk = Self { target, model: None, holds, is_file: true };
            return disk.loop_over()?.map_or(Ok(disk), |user| Err(InstallError::InUse { disk: node, by: vec![user] }));
        }
        if !meta.file_type().is_block_device() {
            return Err(InstallError::NoDisk(node));
        }
        let device = meta.rdev();
        let about = Path::new(BY_NUMBER).join(format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device)));
        if about.join("partition").exists() {
            let whole = about.canonicalize().ok().and_then(|dir| dir.parent().and_then(Path::file_name).map(|name| Path::new("/dev").join(name)));
            return Err(InstallError::Partition { node, whole });
        }
        if file::read(&about.join("ro")).is_ok_and(|text| text.starts_with(b"1")) {
            return Err(InstallError::ReadOnly(node));
        }
        let sector = file::read(&about.join("queue/logical_block_size")).unwrap_or_default();
        if let Some(size) = String::from_utf8_lossy(&sector).trim().parse().ok().filter(|size| *size != SECTOR) {
            return Err(InstallError::SectorSize { disk: node, size });
        }
        let listed = list(&node)?;
        let name = [listed.vendor.as_deref(), listed.model.as_deref()].into_iter().flatten().map(str::trim).collect::<Vec<_>>().join(" ");
        let model = Some(name).filter(|name| !name.is_empty());
        let mut disk = Self { target: Target::whole(&node)?, model, holds: Vec::new(), is_file: false };
        disk.refuse_if_used(&listed)?;
        disk.holds = held(&listed)?;
        Ok(disk)
    }

    /// The loop device that shows an image file, if one does.
    fn loop_over(&self) -> Result<Option<String>> {
        for name in file::names(Path::new(BLOCK))? {
            let backing = file::read(&Path::new(BLOCK).join(&name).join("loop/backing_file")).unwrap_or_default();
            let backing = PathBuf::from(String::from_utf8_lossy(&backing).trim());
            if backing == self.target.file {
                return Ok(Some(format!("/dev/{} shows it", name.to_string_lossy())));
            }
        }
        Ok(None)
    }

    /// Asked of the kernel: who opens a disk so is refused while it, or a partition of it, is mounted, swapped to or part of another device.
    fn refuse_if_used(&self, listed: &Listed) -> Result<()> {
        let path = &self.target.file;
        match OpenOptions::new().read(true).custom_flags(OFlag::O_EXCL.bits()).open(path) {
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                return Err(InstallError::InUse { disk: path.clone(), by: users(listed) });
            }
            Err(error) => return Err(error).at("open", path)?,
        }
        // A container may see a mount that the kernel counts elsewhere.
        match users(listed) {
            by if by.is_empty() => Ok(()),
            by => Err(InstallError::InUse { disk: path.clone(), by }),
        }
    }

    /// Nobody else has it, from now on.
    ///
    /// Refuses: while another program has locked it, or uses it since it was looked at.
    pub fn claim(&self) -> Result<Claim> {
        let path = &self.target.file;
        let open = OpenOptions::new().read(true).write(true).open(path).at("open", path)?;
        let locked = Flock::lock(open, FlockArg::LockExclusiveNonblock);
        let locked = locked.map_err(|(_, errno)| match errno {
            Errno::EWOULDBLOCK => InstallError::Claimed(path.clone()),
            errno => SysError { action: "lock", path: path.clone(), source: errno.into() }.into(),
        })?;
        if !self.is_file {
            self.refuse_if_used(&list(path)?)?;
        }
        Ok(Claim { _locked: locked })
    }
}

fn list(node: &Path) -> Result<Listed> {
    const COLUMNS: &str = "NAME,PATH,SIZE,FSTYPE,LABEL,VENDOR,MODEL,MOUNTPOINTS";
    let said = tool::run(Program::Lsblk, ["--json".as_ref(), "--bytes".as_ref(), "--output".as_ref(), COLUMNS.as_ref(), node.as_os_str()], None)?;
    let unclear = |reason: String| InstallError::Listing { disk: node.to_owned(), reason };
    let listing: Listing = serde_json::from_slice(&said).map_err(|error| unclear(error.to_string()))?;
    listing.blockdevices.into_iter().next().ok_or_else(|| unclear("it lists nothing".to_owned()))
}

/// The disk's own content, if it has no partitions, and everything below.
fn held(listed: &Listed) -> Result<Vec<Held>> {
    fn below(listed: &Listed, found: &mut Vec<Held>) -> Result<()> {
        for child in &listed.children {
            found.push(Held::of(child).probed(&child.path)?);
            below(child, found)?;
        }
        Ok(())
    }
    let mut found = Vec::new();
    if listed.children.is_empty() {
        found.extend(Some(Held::of(listed).probed(&listed.path)?).filter(|held| !held.kind.is_empty()));
    }
    below(listed, &mut found)?;
    Ok(found)
}

impl Held {
    fn of(listed: &Listed) -> Self {
        let text = |text: &Option<String>| text.as_deref().unwrap_or_default().trim().to_owned();
        Self {
            name: listed.name.clone(),
            size: listed.size.unwrap_or_default(),
            kind: text(&listed.fstype),
            label: text(&listed.label),
            mounts: listed.mountpoints.iter().flatten().cloned().collect(),
        }
    }

    /// With what its content says, where lsblk knows nothing: it asks udev, which may not run here.
    fn probed(mut self, node: &Path) -> Result<Self> {
        if !self.kind.is_empty() || !node.exists() {
            return Ok(self);
        }
        let said = tool::run(Program::Wipefs, ["--json".as_ref(), node.as_os_str()], None)?;
        let found: Signatures = match said.trim_ascii() {
            b"" => Signatures::default(),
            text => serde_json::from_slice(text).map_err(|error| InstallError::Listing { disk: node.to_owned(), reason: error.to_string() })?,
        };
        let mut kinds: Vec<&str> = found.signatures.iter().map(|signature| signature.kind.as_str()).collect();
        kinds.dedup();
        self.kind = kinds.join(", ");
        self.label = found.signatures.iter().find_map(|signature| signature.label.clone()).unwrap_or_default();
        Ok(self)
    }
}

/// What can be said of who uses it.
fn users(listed: &Listed) -> Vec<String> {
    fn of(listed: &Listed, found: &mut Vec<String>) {
        for at in listed.mountpoints.iter().flatten() {
            found.push(match at.as_str() {
                "[SWAP]" => format!("{} is swapped to", listed.name),
                "/" => format!("this system runs from {}", listed.name),
                at => format!("{} is mounted at {at}", listed.name),
            });
        }
        listed.children.iter().for_each(|child| of(child, found));
    }
    let mut found = Vec::new();
    of(listed, &mut found);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_a_disk_and_who_uses_it_is_read_from_lsblk() {
        // As util-linux 2.38 and 2.41 print it.
        let text = r#"{"blockdevices": [{"name":"sda","size":21474836480,"fstype":null,"label":null,"vendor":"ATA     ","model":"QEMU HARDDISK","mountpoints":[null],
            "children": [
              {"name":"sda1","size":536870912,"fstype":"vfat","label":"ESP","mountpoints":["/boot/efi"]},
              {"name":"sda2","size":1073741824,"fstype":"swap","label":null,"mountpoints":["[SWAP]"]},
              {"name":"sda3","path":"/none","size":19862126592,"fstype":"crypto_LUKS","label":null,"mountpoints":[null],
               "children": [{"name":"root","size":19845349376,"fstype":"btrfs","label":"arch","mountpoints":["/home","/"]}]}]}]}"#;
        let listing: Listing = serde_json::from_str(text).expect("a listing");
        let disk = &listing.blockdevices[0];
        let held: Vec<_> = held(disk).expect("nothing is asked").iter().map(|h| format!("{} {} {}", h.name, h.kind, h.label)).collect();
        assert_eq!(held, ["sda1 vfat ESP", "sda2 swap ", "sda3 crypto_LUKS ", "root btrfs arch"]);
        let users = users(disk);
        assert_eq!(users, ["sda1 is mounted at /boot/efi", "sda2 is swapped to", "root is mounted at /home", "this system runs from root"]);
    }

    #[test]
    fn what_is_no_disk_is_told_apart() {
        let dir = tempfile::tempdir().expect("dir");
        assert!(matches!(Disk::look(dir.path()), Err(InstallError::NoDisk(_))));
        assert!(matches!(Disk::look(Path::new("/dev/null")), Err(InstallError::NoDisk(_))));
        assert!(matches!(Disk::look(&dir.path().join("none")), Err(InstallError::Sys(_))));
        let image = dir.path().join("image");
        File::create(&image).and_then(|f| f.set_len(1 << 20)).expect("image");
        let disk = Disk::look(&image).expect("an image");
        let claim = disk.claim().expect("free");
        assert!(matches!(disk.claim(), Err(InstallError::Claimed(_))));
        drop(claim);
        drop(disk.claim().expect("free again"));
    }
}
