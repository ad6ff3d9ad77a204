//! A mounted copy of a freshly installed disk, for the verbs that change something.

use std::path::{Path, PathBuf};

use super::{BenchError, shell};
use crate::image::{self, Column};
use crate::lab::cache::cache_dir;
use crate::lab::http::Server;
use crate::lab::repo::{self, State};

/// The machine, in a mount namespace of this process, and a mirror.
#[derive(Debug)]
pub(crate) struct Bed {
    /// The program, working on this machine.
    pub(crate) ast: String,
    /// Where the machine is mounted.
    pub(crate) root: PathBuf,
    /// Its disk.
    pub(crate) device: String,
    _mirror: Server,
    _dir: tempfile::TempDir,
}

impl Bed {
    /// Mounts a copy of an installed disk.
    pub(crate) fn new(ast: &Path) -> Result<Self, BenchError> {
        let cache = cache_dir();
        let image = image::build(&cache, Column::Bios214Raw, State::V1)?;
        let io = |source| BenchError::Io { what: "a directory for the bed".to_owned(), source };
        std::fs::create_dir_all(cache.join("run")).map_err(io)?;
        let dir = tempfile::Builder::new().prefix("bench").tempdir_in(cache.join("run")).map_err(io)?;
        let disk = dir.path().join("disk.raw");
        shell(&format!("cp --sparse=always {} {}", image.display(), disk.display()))?;
        let link = dir.path().join("mirror");
        repo::publish(&repo::build(&cache, State::V2)?, &link)?;
        let mirror = Server::start(&link)?;

        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|e| io(e.into()))?;
        ast::sys::mount::make_private().map_err(|e| BenchError::Ast(e.to_string()))?;
        let (start, length) = system_of(&disk)?;
        let device = shell(&format!("losetup -f --show --offset {start} --sizelimit {length} {}", disk.display()))?.trim().to_owned();
        let root = dir.path().join("root");
        shell(&format!(
            "mkdir -p {r}/.snapshots {r}/boot {r}/var {r}/run/ast; mount -o subvol=@.snapshots {p} {r}/.snapshots; mount -o subvol=@boot {p} {r}/boot; \
             mount -o subvol=@var {p} {r}/var; mkdir -p {r}/var/cache/pacman/pkg; mount -o subvol=@cache {p} {r}/var/cache/pacman/pkg; losetup -d {device}; \
             printf 'd=1\\nset=0.1\\nwhy=good\\nenv=ok\\n' > {r}/run/ast/booted; \
             btrfs property set {r}/.snapshots/sets/0.1/etc ro false; echo 'Server = http://127.0.0.1:{port}' > {r}/.snapshots/sets/0.1/etc/pacman.d/mirrorlist; \
             btrfs property set {r}/.snapshots/sets/0.1/etc ro true",
            r = root.display(),
            p = device,
            port = mirror.port(),
        ))?;
        let ast = format!("{} -q --yes --sysroot {}", ast.display(), root.display());
        Ok(Self { ast, root, device, _mirror: mirror, _dir: dir })
    }
}

/// First byte and length of the largest partition: the system.
fn system_of(disk: &Path) -> Result<(u64, u64), BenchError> {
    let broken = || BenchError::Ast(format!("{} has no partitions", disk.display()));
    let table: serde_json::Value =
        serde_json::from_str(&shell(&format!("sfdisk --json {}", disk.display()))?).map_err(|e| BenchError::Ast(e.to_string()))?;
    let partitions = table["partitiontable"]["partitions"].as_array().ok_or_else(broken)?;
    let system = partitions.iter().max_by_key(|p| p["size"].as_u64()).ok_or_else(broken)?;
    let bytes = |key: &str| system[key].as_u64().map(|sectors| sectors * 512).ok_or_else(broken);
    Ok((bytes("start")?, bytes("size")?))
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Before the directory is deleted: what is mounted in it is not to be walked through. Deepest first.
        drop(shell(&format!("awk '{{print $2}}' /proc/self/mounts | grep '^{}/' | sort -r | xargs -r umount -l", self.root.display())));
    }
}
