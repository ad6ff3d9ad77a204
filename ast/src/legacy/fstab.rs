//! `/etc/fstab` of the original's snapshots, without what the initramfs mounts where ast starts the machine.

use std::path::Path;

use super::Result;
use crate::fstab::Line;
use crate::sys::file;

/// Where the initramfs mounts something, or systemd does by itself: what the original's installer wrote for these leads into its own deployment.
const OURS: [&str; 10] = ["/", "/.snapshots", "/boot", "/boot/grub", "/etc", "/home", "/root", "/tmp", "/var", "/var/cache/pacman/pkg"];
/// What a line that does not count any more begins with.
const OUT: &str = "# ast migrate: ";

/// The text without the lines that the original's installer wrote for its layout, which stay to be read as comments; `None` when there is
/// none of them. What a person added (a disk of their own at /home, say) names another filesystem, and stays.
pub(super) fn without_layout(text: &str, fs_uuid: &str) -> Option<String> {
    let mut changed = false;
    let lines = text.lines().map(|line| {
        let out = is_layout(line, fs_uuid);
        changed |= out;
        if out { format!("{OUT}{line}\n") } else { format!("{line}\n") }
    });
    let text: String = lines.collect();
    changed.then_some(text)
}

/// Whether the line mounts a part of the original's layout: this filesystem, or a directory of it bound.
fn is_layout(line: &str, fs_uuid: &str) -> bool {
    let Some(line) = Line::parse(line) else { return false };
    let target = if line.target == "/" { "/" } else { line.target.trim_end_matches('/') };
    let bound = line.source.starts_with("/.snapshots/");
    let this = line.source.strip_prefix("UUID=").map(|uuid| uuid.trim_matches('"')) == Some(fs_uuid);
    // A line by device name or label that has one of the original's subvolumes is its installer's as well.
    let subvolume = |option: &str| option.strip_prefix("subvol=").is_some_and(|name| name.trim_start_matches('/').starts_with('@'));
    let theirs = line.options.split(',').any(subvolume);
    OURS.contains(&target) && (bound || line.fstype == "btrfs" && (this || theirs))
}

/// The `/etc` at `etc` mounts nothing of the original's layout.
///
/// If interrupted: the old or the new file is there.
pub(super) fn settle(etc: &Path, fs_uuid: &str) -> Result<()> {
    let path = etc.join("fstab");
    let Some(bytes) = file::read_if_exists(&path)? else { return Ok(()) };
    match without_layout(&String::from_utf8_lossy(&bytes), fs_uuid) {
        Some(text) => Ok(file::replace_like(&path, text.as_bytes())?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_lines_of_the_originals_installer_go() {
        let uuid = "12345678-1234-1234-1234-123456789abc";
        let theirs = [
            "UUID=12345678-1234-1234-1234-123456789abc / btrfs subvol=@.snapshots/rootfs/snapshot-tmp,compress=zstd,noatime,ro 0 0",
            "UUID=12345678-1234-1234-1234-123456789abc\t/.snapshots\tbtrfs\tsubvol=@.snapshots,compress=zstd,noatime\t0 0",
            "UUID=12345678-1234-1234-1234-123456789abc /etc btrfs subvol=@.snapshots/etc/etc-tmp,compress=zstd,noatime 0 0",
            "/dev/sda2 /home/ btrfs subvol=@home,compress=zstd 0 0",
            "/.snapshots/ast/root /root none bind 0 0",
            "/.snapshots/ast/tmp /tmp none bind 0 0",
        ];
        let own = [
            "# comments stay",
            "",
            "UUID=ABCD-1234 /boot/efi vfat umask=0077 0 2",
            "UUID=99999999-1234-1234-1234-123456789abc /home btrfs compress=zstd 0 0",
            "UUID=12345678-1234-1234-1234-123456789abc /srv btrfs subvol=@srv 0 0",
            "tmpfs /tmp tmpfs size=1G 0 0",
            "word",
        ];
        let text: String = theirs.iter().chain(&own).map(|line| format!("{line}\n")).collect();
        let out = without_layout(&text, uuid).expect("a change");
        for line in theirs {
            assert!(out.contains(&format!("# ast migrate: {line}\n")), "{out}");
        }
        for line in own {
            assert!(out.contains(&format!("\n{line}\n")) && !out.contains(&format!("{OUT}{line}\n")) || line.is_empty(), "{line}: {out}");
        }
        assert_eq!(without_layout(&out, uuid), None, "twice is once");
    }
}
