//! What machine is wanted, and the emulator's command line for it.
use super::{VmError, tool::tool};
use std::path::{Path, PathBuf};

/// Where Debian's `ovmf` keeps the EFI firmware, and an empty variable store for it.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARS: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Megabytes: 72 hang, 96 suffice for a boot, pacman in a guest wants more.
const DEFAULT_MEMORY: u32 = 512;

/// The emulator's cache of translated code, in MiB. Each block that a disk reads into memory looks for translated code there, which a restarted
/// machine has everywhere: with the default of 1 GiB an EFI machine took 80 s to start again, with 128 MiB 24 s, with 48 MiB (which does
/// not hold what a booting system needs) 45 s.
const ACCELERATOR: &str = "tcg,tb-size=128";

/// The firmware of the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    #[default]
    Bios,
    /// OVMF, with this machine's own variable store (see [`efi_vars`]).
    Efi {
        /// A qcow2 file, so that `savevm` works.
        vars: PathBuf,
    },
}

/// How a disk image is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The bytes of the disk.
    Raw,
    /// An overlay or a disk that can hold states of the machine.
    Qcow2,
}

impl Format {
    /// The emulator's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

/// One virtio disk, `/dev/vda` onwards in order.
#[derive(Debug, Clone)]
pub struct Disk {
    /// The image.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// The guest cannot write it.
    pub read_only: bool,
    /// The emulator's cache mode; `unsafe` (the default) never waits for the host's disk, and a killed emulator still loses nothing.
    pub cache: &'static str,
    /// Every write and flush of the guest is recorded in this file (see [`crate::cut::WriteLog::read`]), which is made anew. Such a disk cannot `savevm`.
    pub write_log: Option<PathBuf>,
}

impl Disk {
    fn new(path: PathBuf, format: Format) -> Disk {
        Disk { path, format, read_only: false, cache: "unsafe", write_log: None }
    }

    /// A writable raw image.
    pub fn raw(path: impl Into<PathBuf>) -> Disk {
        Disk::new(path.into(), Format::Raw)
    }

    /// A writable qcow2 image.
    pub fn qcow2(path: impl Into<PathBuf>) -> Disk {
        Disk::new(path.into(), Format::Qcow2)
    }
}

/// Start a kernel without firmware and boot loader.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The kernel image.
    pub image: PathBuf,
    /// The initramfs.
    pub initrd: Option<PathBuf>,
    /// The command line; `console=ttyS0` is wanted on it.
    pub append: String,
}

/// A machine: q35, one Nehalem CPU in software, virtio disks, serial console.
#[derive(Debug, Clone)]
pub struct VmConfig {
    /// Names logs and messages: the test's name.
    pub name: String,
    /// BIOS or EFI.
    pub firmware: Firmware,
    /// In the order of their names in the guest; the first is booted.
    pub disks: Vec<Disk>,
    /// Megabytes.
    pub mem_mb: u32,
    /// Boot this instead of a disk.
    pub kernel: Option<Kernel>,
    /// A network card; the host's loopback is 10.0.2.2 in the guest.
    pub net: bool,
    /// An i6300esb watchdog that resets the machine.
    pub watchdog: bool,
    /// A guest's reboot ends the emulator.
    pub no_reboot: bool,
    /// Go on from this state of the machine, stored in its qcow2 disks.
    pub loadvm: Option<String>,
    /// More arguments for the emulator.
    pub extra_args: Vec<String>,
    /// What the beginning of a line looks like when a root shell waits for input (a regular expression).
    pub prompt: String,
}

impl VmConfig {
    /// A BIOS machine without disks.
    pub fn new(name: impl Into<String>) -> VmConfig {
        VmConfig {
            name: name.into(),
            firmware: Firmware::Bios,
            disks: Vec::new(),
            mem_mb: DEFAULT_MEMORY,
            kernel: None,
            net: false,
            watchdog: false,
            no_reboot: false,
            loadvm: None,
            extra_args: Vec::new(),
            prompt: r"(?m)^[\[\]\w.@:~/ +-]{0,60}# ".into(),
        }
    }

    /// The same with one more disk.
    pub fn disk(mut self, disk: Disk) -> VmConfig {
        self.disks.push(disk);
        self
    }

    /// The emulator's arguments, without those for console and monitor.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut args: Vec<String> = ["-accel", ACCELERATOR, "-machine", "q35", "-cpu", "Nehalem", "-smp", "1", "-m"].map(String::from).into();
        let mut add = |words: &[&str]| args.extend(words.iter().map(ToString::to_string));
        add(&[&self.mem_mb.to_string(), "-nodefaults", "-display", "none", "-vga", "none", "-no-user-config"]);
        add(&["-device", "virtio-rng-pci"]);
        if let Firmware::Efi { vars } = &self.firmware {
            add(&["-drive", &format!("if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}")]);
            add(&["-drive", &format!("if=pflash,unit=1,format=qcow2,cache=unsafe,file={}", comma(vars))]);
        }
        for (index, disk) in self.disks.iter().enumerate() {
            let (path, format, cache) = (comma(&disk.path), disk.format.name(), disk.cache);
            if let Some(log) = &disk.write_log {
                // Not flushing the host's file: the log is what tells what a flush confirmed.
                add(&["-blockdev", &format!("driver=file,node-name=file{index},cache.no-flush=on,filename={path}")]);
                add(&["-blockdev", &format!("driver={format},node-name=image{index},file=file{index}")]);
                add(&["-blockdev", &format!("driver=file,node-name=log{index},cache.no-flush=on,filename={}", comma(log))]);
                add(&[
                    "-blockdev",
                    &format!("driver=blklogwrites,node-name=disk{index},file=image{index},log=log{index},log-sector-size=512"),
                ]);
            } else {
                let read_only = if disk.read_only { "on" } else { "off" };
                add(&["-drive", &format!("if=none,id=disk{index},format={format},cache={cache},readonly={read_only},file={path}")]);
            }
            // A kernel given directly takes the first place in the boot order itself.
            let order = if self.kernel.is_none() { format!(",bootindex={index}") } else { String::new() };
            add(&["-device", &format!("virtio-blk-pci,drive=disk{index}{order}")]);
        }
        if let Some(kernel) = &self.kernel {
            add(&["-kernel", &kernel.image.to_string_lossy(), "-append", &kernel.append]);
            if let Some(initrd) = &kernel.initrd {
                add(&["-initrd", &initrd.to_string_lossy()]);
            }
        }
        if self.net {
            // No option ROM: the firmware would try to boot from the network first.
            add(&["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile="]);
        } else {
            add(&["-nic", "none"]);
        }
        if self.watchdog {
            add(&["-device", "i6300esb", "-action", "watchdog=reset"]);
        }
        if self.no_reboot {
            add(&["-no-reboot"]);
        }
        if let Some(tag) = &self.loadvm {
            add(&["-loadvm", tag]);
        }
        args.extend(self.extra_args.iter().cloned());
        args
    }
}

/// A comma in a file name is doubled in the emulator's option strings.
fn comma(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// An empty EFI variable store in `dir`, for [`Firmware::Efi`]; one that exists is kept (a machine's variables outlive its power).
pub fn efi_vars(dir: &Path) -> Result<PathBuf, VmError> {
    let path = dir.join("efi-vars.qcow2");
    if !path.exists() {
        tool("qemu-img", &["convert", "-O", "qcow2", OVMF_VARS, &path.to_string_lossy()])?;
    }
    Ok(path)
}
