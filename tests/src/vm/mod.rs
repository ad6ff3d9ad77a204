//! Virtual machines: start one, talk to its console, cut its power, look at its disks.
//!
//! ```no_run
//! # use ast_tests::vm::{Disk, Vm, VmConfig, overlay};
//! # use std::{path::Path, time::Duration};
//! # fn main() -> Result<(), ast_tests::vm::VmError> {
//! let disk = overlay(Path::new("base.img"), Path::new("/tmp/mine"))?;
//! let mut vm = Vm::start(VmConfig::new("example").disk(Disk::qcow2(&disk)))?;
//! vm.wait_shell(Duration::from_secs(60))?;
//! assert_eq!(vm.sh("uname -s")?, "Linux\n");
//! vm.power_cut();
//! # Ok(())
//! # }
//! ```
//!
//! Two machines run at a time, over all processes ([`lock`]). A machine whose thread panics, or that was waited for in vain, leaves its console log and
//! disks in the cache's `kept/` ([`keep`]). `AST_LAB_ECHO=1` shows every console line as it comes; `AST_LAB_PATIENCE=2` doubles every time-out.

mod attach;
mod clean;
mod config;
pub mod console;
pub mod disk;
pub mod error;
pub mod initramfs;
pub mod keep;
pub mod keys;
mod life;
pub mod lock;
pub mod offline;
pub mod qmp;
pub mod scratch;
mod shell;
pub mod tool;
mod watch;

pub use crate::lab::cache::cache_dir;
pub use config::{Disk, Firmware, Format, Kernel, VmConfig, efi_vars};
pub use console::Seen;
pub use disk::{export_raw, overlay};
pub use error::VmError;
pub use keys::Key;
pub use life::Vm;
pub use offline::Offline;
pub use shell::Output;

use std::time::Duration;

/// `time`, stretched by `AST_LAB_PATIENCE` (a factor) for slow machines.
pub fn patience(time: Duration) -> Duration {
    let factor = std::env::var("AST_LAB_PATIENCE").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    time.mul_f64(factor)
}
