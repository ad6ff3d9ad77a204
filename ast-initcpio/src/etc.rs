//! A volatile /etc: that of a snapshot, with this machine's identity and network, lost at the next start (B11).

use std::fs;
use std::os::unix::fs::{MetadataExt, lchown, symlink};
use std::path::Path;

use ast::layout::Part;
use ast::sys::mount::{MsFlags, mount};
use ast::sys::{Result, SysError, file};

use crate::layer::{self, copy_mode};
use crate::machine::Machine;
use crate::probe::Parts;
use crate::voice::Voice;

/// What makes this machine the one that its network and its people know. Names below /etc; `*` ends a name.
const OWN: [&str; 14] = [
    "NetworkManager/system-connections",
    "adjtime",
    "hostname",
    "hosts",
    "iwd",
    "localtime",
    "machine-id",
    "netctl",
    "resolv.conf",
    "ssh/ssh_host_*",
    "systemd/network",
    "systemd/resolved.conf",
    "vconsole.conf",
    "wpa_supplicant",
];

/// The /etc of `parts` is at `target`, changes to it are kept in memory, and what makes this machine itself is taken from
/// the good deployment.
pub fn volatile(parts: &Parts, machine: &Machine, target: &Path, voice: &Voice) -> Result<()> {
    if let Err(error) = layer::over(&parts.etc, target) {
        voice.warn(&format!("{error}; copying /etc instead"));
        mount("etc", target, "tmpfs", MsFlags::MS_NODEV | MsFlags::MS_NOSUID, "mode=0755")?;
        copy_inside(&parts.etc, target)?;
    }
    // A deployment has them already.
    if parts.deployment.is_none() {
        match machine.block(voice) {
            Some(block) => carry(&machine.layout.deployment_part(block.good, Part::Etc), target, voice),
            None => voice.warn("no boot block can be read: /etc is without this machine's id, host keys and network"),
        }
    }
    Ok(())
}

/// What is [`OWN`] in `from` is so in `to`; what is not there stays as the snapshot has it.
fn carry(from: &Path, to: &Path, voice: &Voice) {
    for name in OWN {
        let (dir, pattern) = name.rsplit_once('/').unwrap_or(("", name));
        let names = match pattern.strip_suffix('*') {
            Some(prefix) => {
                let all = file::names(&from.join(dir)).unwrap_or_default();
                all.into_iter().filter(|n| n.to_string_lossy().starts_with(prefix)).collect()
            }
            None => vec![pattern.into()],
        };
        for name in names {
            let path = Path::new(dir).join(name);
            let result = match fs::symlink_metadata(from.join(&path)) {
                Ok(_) => file::make_dirs(&to.join(dir)).and_then(|()| copy(&from.join(&path), &to.join(&path))),
                Err(_) => Ok(()),
            };
            if let Err(error) = result {
                voice.warn(&error.to_string());
            }
        }
    }
}

/// `to` is like `from`, with modes and owners; what was at `to` is replaced, directories are merged. Sockets and devices are
/// left out, and so are extended attributes.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let at = |source| SysError { action: "copy", path: from.to_owned(), source };
    let meta = fs::symlink_metadata(from).map_err(at)?;
    if meta.is_dir() {
        if !fs::symlink_metadata(to).is_ok_and(|m| m.is_dir()) {
            file::remove_if_exists(to)?;
            file::make_dirs(to)?;
        }
        copy_mode(from, to)?;
        return copy_inside(from, to);
    }
    if meta.is_symlink() {
        file::remove_if_exists(to)?;
        symlink(fs::read_link(from).map_err(at)?, to).map_err(at)?;
        return lchown(to, Some(meta.uid()), Some(meta.gid())).map_err(at);
    }
    if meta.is_file() {
        file::remove_if_exists(to)?;
        fs::copy(from, to).map_err(at)?;
        return copy_mode(from, to);
    }
    Ok(())
}

fn copy_inside(from: &Path, to: &Path) -> Result<()> {
    for name in file::names(from)? {
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}
