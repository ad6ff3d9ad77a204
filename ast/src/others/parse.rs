//! What `os-prober`, `linux-boot-prober` and `blkid` print, as values. Pure and total: what they print comes from disks that may hold anything.
//!
//! Formats, as grub-mkconfig's `30_os-prober` reads them: `DEVICE:LONG NAME:LABEL:TYPE[:…]`, with `DEVICE@PATH` for an EFI program, and
//! `ROOT:BOOT:LABEL:KERNEL:INITRD…:PARAMETERS`.

use crate::grub::parser::{What, Word, parse};

/// Systems listed at most, and kernels looked at of each: a menu is for people.
pub const MOST: usize = 16;
/// Bytes of a line that are looked at.
const LONGEST: usize = 8192;
/// Types of systems that 30_os-prober knows.
const TYPES: [&str; 6] = ["chain", "efi", "linux", "macosx", "hurd", "minix"];

/// How a system on another disk is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// By the boot sector of its partition.
    Sector,
    /// By the program at this path of the partition.
    Program(String),
    /// By a kernel, which `linux-boot-prober` finds.
    Linux,
}

/// A line of `os-prober`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// Its partition.
    pub device: String,
    /// Its name, as it says itself.
    pub name: String,
    /// How it is started.
    pub start: Start,
}

/// A line of `linux-boot-prober`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kernel {
    /// The partition with the kernel.
    pub device: String,
    /// Path of the kernel there.
    pub path: String,
    /// Paths of its images there.
    pub initrd: Vec<String>,
    /// Its arguments.
    pub args: Vec<String>,
}

/// The systems in the output of `os-prober` that GRUB can start and we know how, at most [`MOST`].
pub fn systems(text: &str) -> Vec<System> {
    lines(text).filter_map(system).take(MOST).collect()
}

fn system(line: &str) -> Option<System> {
    let fields: Vec<&str> = line.split(':').collect();
    // A name may hold colons, and something may follow the type: the last type is it.
    let at = fields.iter().rposition(|field| TYPES.contains(field)).filter(|at| *at >= 3)?;
    let (name, label) = (fields.get(1..at - 1)?.join(":"), fields.get(at - 1)?);
    let name = if name.trim().is_empty() { (*label).to_owned() } else { name };
    let (device, path) = match fields.first()?.split_once('@') {
        Some((device, path)) => (device, Some(path.to_owned())),
        None => (*fields.first()?, None),
    };
    let start = match (*fields.get(at)?, path) {
        ("chain", None) => Start::Sector,
        ("efi", Some(path)) => Start::Program(path),
        ("linux", None) => Start::Linux,
        _ => return None,
    };
    is_device(device).then(|| System { device: device.to_owned(), name, start })
}

/// The first kernel in the output of `linux-boot-prober` that can be started as it is told: what that system starts by itself.
pub fn kernel(text: &str) -> Option<Kernel> {
    lines(text).take(MOST).find_map(kernel_of)
}

fn kernel_of(line: &str) -> Option<Kernel> {
    let mut fields = line.splitn(6, ':');
    let (root, boot, _label) = (fields.next()?, fields.next()?, fields.next()?);
    let (kernel, initrd, parameters) = (fields.next()?, fields.next()?, fields.next()?);
    // Where /boot is a partition of its own, GRUB sees its files at the top.
    let there = |path: &str| match root != boot {
        true => path.strip_prefix("/boot").filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned(),
        false => path.to_owned(),
    };
    if !is_device(boot) || !kernel.starts_with('/') {
        return None;
    }
    let initrd = initrd.split_ascii_whitespace().map(there).collect();
    Some(Kernel { device: boot.to_owned(), path: there(kernel), initrd, args: words(parameters)? })
}

/// The words that GRUB would pass on, where they came out of another `grub.cfg`; `None` if that depends on what GRUB knows when it starts.
fn words(parameters: &str) -> Option<Vec<String>> {
    let mut script = parse(&format!("linux {parameters}\n")).ok()?;
    match (script.pop()?.what, script.is_empty()) {
        (What::Command { words, block: None }, true) => words.iter().skip(1).map(Word::literal).collect(),
        _ => None,
    }
}

/// The UUID in what `blkid -o value -s UUID` prints.
pub fn uuid(text: &str) -> Option<String> {
    let line = text.lines().next()?.trim();
    let plain = (4..=36).contains(&line.len()) && line.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    plain.then(|| line.to_owned())
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| line.len() <= LONGEST)
}

/// A node below `/dev`, and nothing that a program could take for an option.
fn is_device(text: &str) -> bool {
    text.starts_with("/dev/")
        && !text.contains("..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-+.!".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_are_read_as_os_prober_writes_them() {
        let found = |line: &str| systems(line).pop().map(|s| (s.device, s.name, s.start));
        let is = |device: &str, name: &str, start| Some((device.to_owned(), name.to_owned(), start));
        let cases = [
            ("/dev/sda1:Windows 10:Windows:chain", is("/dev/sda1", "Windows 10", Start::Sector)),
            (
                "/dev/nvme0n1p1@/EFI/Microsoft/Boot/bootmgfw.efi:Windows Boot Manager:Windows:efi",
                is("/dev/nvme0n1p1", "Windows Boot Manager", Start::Program("/EFI/Microsoft/Boot/bootmgfw.efi".into())),
            ),
            ("/dev/sdb2:Debian GNU/Linux 12 (bookworm):Debian:linux", is("/dev/sdb2", "Debian GNU/Linux 12 (bookworm)", Start::Linux)),
            ("/dev/sdb3:openSUSE:openSUSE:linux:btrfs:UUID=1-2:subvol=@", is("/dev/sdb3", "openSUSE", Start::Linux)),
            ("/dev/mapper/vg-root::Fedora:linux", is("/dev/mapper/vg-root", "Fedora", Start::Linux)),
            // As os-prober 1.81 printed it.
            (
                "/dev/loop5:Other Linux '; reboot; ' $(reboot) }:Other:linux",
                is("/dev/loop5", "Other Linux '; reboot; ' $(reboot) }", Start::Linux),
            ),
            // A name with colons, and one that ends like a type.
            ("/dev/sda1:a:b: c:L:linux", is("/dev/sda1", "a:b: c", Start::Linux)),
            ("/dev/sda1:x:efi:L:chain", is("/dev/sda1", "x:efi", Start::Sector)),
            ("/dev/sda1:Mac OS X:MacOSX:macosx", None),
            ("/dev/sda1:no program:W:efi", None),
            ("/dev/sda1:x:linux", None),
            ("sda1:x:L:linux", None),
            ("--help:x:L:linux", None),
            ("/dev/../etc/x:x:L:linux", None),
            ("/dev/a b:x:L:linux", None),
            ("", None),
            (":::", None),
        ];
        for (line, expected) in cases {
            assert_eq!(found(line), expected, "{line:?}");
        }
        assert_eq!(systems(&"/dev/sda1:x:L:chain\n".repeat(500)).len(), MOST);
    }

    #[test]
    fn kernels_are_read_as_linux_boot_prober_writes_them() {
        let cases: &[(&str, Option<(&str, &str, &[&str], &[&str])>)] = &[
            (
                "/dev/sdb1:/dev/sdb1:Debian:/boot/vmlinuz-6.1:/boot/initrd.img-6.1:root=UUID=1 ro quiet",
                Some(("/dev/sdb1", "/boot/vmlinuz-6.1", &["/boot/initrd.img-6.1"], &["root=UUID=1", "ro", "quiet"])),
            ),
            // As linux-boot-prober 1.81 printed it.
            (
                "/dev/loop5:/dev/loop5:Other Linux:/boot/vmlinuz-1:/boot/initrd.img-1:root=LABEL=other ro console=ttyS0,115200 panic=5 word=\"a b\"",
                Some((
                    "/dev/loop5",
                    "/boot/vmlinuz-1",
                    &["/boot/initrd.img-1"],
                    &["root=LABEL=other", "ro", "console=ttyS0,115200", "panic=5", "word=a b"],
                )),
            ),
            // /boot is a partition of its own.
            ("/dev/sdb2:/dev/sdb1::/boot/vmlinuz:/boot/a.img /boot/b.img:ro", Some(("/dev/sdb1", "/vmlinuz", &["/a.img", "/b.img"], &["ro"]))),
            ("/dev/sdb2:/dev/sdb1::/bootx:/boot:ro", Some(("/dev/sdb1", "/bootx", &["/boot"], &["ro"]))),
            // No image; colons and quotes in the arguments.
            ("/dev/sdb1:/dev/sdb1::/vmlinuz::root=/dev/sdb1 a=b:c d=\"e f\"", Some(("/dev/sdb1", "/vmlinuz", &[], &["root=/dev/sdb1", "a=b:c", "d=e f"]))),
            ("/dev/sdb1:/dev/sdb1::/vmlinuz::", Some(("/dev/sdb1", "/vmlinuz", &[], &[]))),
            // What only that GRUB would know, and what is no list of words.
            ("/dev/sdb1:/dev/sdb1::/vmlinuz::root=$root", None),
            ("/dev/sdb1:/dev/sdb1::/vmlinuz::x; halt", None),
            ("/dev/sdb1:/dev/sdb1::/vmlinuz::x }", None),
            ("/dev/sdb1:/dev/sdb1::/vmlinuz::'x", None),
            ("/dev/sdb1:sdb1::/vmlinuz::x", None),
            ("/dev/sdb1:/dev/sdb1::vmlinuz::x", None),
            ("/dev/sdb1:/dev/sdb1:x", None),
        ];
        for (line, expected) in cases {
            let found = kernel(line);
            let owned = |all: &[&str]| all.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let expected = expected.map(|(device, path, initrd, args)| Kernel {
                device: device.to_owned(),
                path: path.to_owned(),
                initrd: owned(initrd),
                args: owned(args),
            });
            assert_eq!(found, expected, "{line:?}");
        }
        let second = kernel("/dev/sdb1:/dev/sdb1::/vmlinuz::$x\n/dev/sdb1:/dev/sdb1::/vmlinuz-2::ro\n");
        assert_eq!(second.map(|k| k.path).as_deref(), Some("/vmlinuz-2"));
    }

    #[test]
    fn uuids_are_what_blkid_prints() {
        assert_eq!(uuid("ABCD-1234\n").as_deref(), Some("ABCD-1234"));
        assert_eq!(uuid("12345678-1234-1234-1234-123456789abc\n").map(|u| u.len()), Some(36));
        for bad in ["", "\n", "x; reboot\n", "123"] {
            assert_eq!(uuid(bad), None, "{bad:?}");
        }
    }
}
