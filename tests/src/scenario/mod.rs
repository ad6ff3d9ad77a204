//! What the scenarios have in common: a machine of one column with its mirror, and questions that are asked of it.
//!
//! ```no_run
//! # use ast_tests::{image::Column, lab::repo::State, scenario::Scenario};
//! # fn main() -> Result<(), ast_tests::scenario::ScenarioError> {
//! let mut scenario = Scenario::new("example", Column::Bios206Gap)?;
//! scenario.offer(State::V2)?;
//! let mut vm = scenario.boot()?;
//! assert_eq!(vm.sh("findmnt -no FSTYPE /")?, "btrfs\n");
//! # Ok(())
//! # }
//! ```

mod columns;
mod machine;
mod times;

pub use columns::{in_column, table};
pub use machine::{GATE, UPDATE, booted, judged, restarted, start_update, status, update, update_without_restart};
pub use times::{BootTimes, boot_times};

use crate::image::{self, Column, ImageError};
use crate::lab::http::Server;
use crate::lab::repo::{self, State};
use crate::vm::{Disk, Firmware, Vm, VmConfig, VmError, efi_vars, overlay};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Where the guest's mirror list says that its mirror is.
pub const MIRROR_PORT: u16 = 8000;
/// From power on to the root shell, emulated on a busy machine; a quiet one takes a fifth of it.
pub const BOOT: Duration = Duration::from_secs(240);

/// What can go wrong around a scenario.
#[derive(thiserror::Error)]
#[allow(missing_docs)]
pub enum ScenarioError {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Lab(#[from] crate::lab::Error),
    #[error(transparent)]
    Vm(#[from] VmError),
    #[error("a network for this machine alone: {source}")]
    Network { source: std::io::Error },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

impl std::fmt::Debug for ScenarioError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A machine, off at first: an overlay of a fresh image, its firmware's variables, its mirror.
#[derive(Debug)]
pub struct Scenario {
    name: String,
    column: Column,
    cache: PathBuf,
    disk: PathBuf,
    firmware: Firmware,
    dir: tempfile::TempDir,
    _mirror: Server,
}

impl Scenario {
    /// A freshly installed machine of `column`, whose mirror offers what it was installed from.
    pub fn new(name: &str, column: Column) -> Result<Self, ScenarioError> {
        let cache = crate::vm::cache_dir();
        let image = image::build(&cache, column, State::V1)?;
        Self::on(name, column, &image)
    }

    /// The same on an overlay of another image, which must not change meanwhile.
    pub fn on(name: &str, column: Column, image: &Path) -> Result<Self, ScenarioError> {
        let cache = crate::vm::cache_dir();
        let base = cache.join("run");
        std::fs::create_dir_all(&base).map_err(|source| ScenarioError::Io { path: base.clone(), source })?;
        let dir = tempfile::Builder::new().prefix(name).tempdir_in(&base);
        let dir = dir.map_err(|source| ScenarioError::Io { path: base, source })?;
        let disk = overlay(image, dir.path())?;
        let firmware = if column.is_efi() { Firmware::Efi { vars: efi_vars(dir.path())? } } else { Firmware::Bios };
        let link = dir.path().join("mirror");
        repo::publish(&repo::build(&cache, State::V1)?, &link)?;
        own_network()?;
        let mirror = Server::start_on(&link, MIRROR_PORT)?;
        Ok(Self { name: name.to_owned(), column, cache, disk, firmware, dir, _mirror: mirror })
    }

    /// The column.
    pub fn column(&self) -> Column {
        self.column
    }

    /// The disk, for a look or damage while the machine is off.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// A directory of this scenario's own, gone with it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The mirror offers another state from now on.
    pub fn offer(&self, state: State) -> Result<(), ScenarioError> {
        Ok(repo::publish(&repo::build(&self.cache, state)?, &self.dir.path().join("mirror"))?)
    }

    /// How its machine is started; a test may change it.
    pub fn config(&self) -> VmConfig {
        let mut config = VmConfig::new(self.name.as_str()).disk(Disk::qcow2(&self.disk));
        config.firmware = self.firmware.clone();
        config.net = true;
        config.watchdog = true;
        config
    }

    /// The machine is switched on; nothing is waited for.
    pub fn start(&self) -> Result<Vm, ScenarioError> {
        Ok(Vm::start(self.config())?)
    }

    /// The machine is switched on and shows its root shell.
    pub fn boot(&self) -> Result<Vm, ScenarioError> {
        let mut vm = self.start()?;
        vm.wait_shell(BOOT)?;
        Ok(vm)
    }
}

/// This thread and what it starts have a network of their own, with nothing but a loopback: each machine finds its mirror at the same
/// address, and no two of them, nor anything else here, meet.
fn own_network() -> Result<(), ScenarioError> {
    let failed = |source| ScenarioError::Network { source };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map_err(|e| failed(e.into()))?;
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().map_err(failed)?;
    if !status.success() {
        return Err(failed(std::io::Error::other(format!("ip link set lo up: {status}"))));
    }
    Ok(())
}
