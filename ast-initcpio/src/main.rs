//! Mounts what the boot loader chose, from the initramfs: called by the mkinitcpio hook, or a unit, in the place of its own mounting.
//!
//! ```text
//!  kernel command line ─┬─ disks ── top level
//!  boot block ──────────┼─ candidates ── probe ── mount ── /run/ast/booted
//!  stage file (trial) ──┘                  └─ none: reboot, or a shell where somebody is there
//! ```
//!
//! Unattended, a failure ends in a restart and never in a shell; GRUB then counts down or starts what was armed.

mod boot;
mod disks;
mod error;
mod etc;
mod fstab;
mod layer;
mod machine;
mod options;
mod probe;
mod root;
mod top;
mod trial;
mod var;
mod voice;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match options::parse(&arguments) {
        Ok(options::Command::Mount { new_root, options }) => boot::mount(&new_root, &options),
        Ok(options::Command::Evidence { what, options }) => trial::note(&what, &options),
        Ok(options::Command::Restart { options }) => boot::give_up(&options),
        Ok(options::Command::Disarm { options }) => {
            trial::disarm(&options, &voice::Voice::new(options.kmsg.clone()));
            ExitCode::SUCCESS
        }
        Err(usage) => {
            eprintln!("{usage}");
            ExitCode::from(2)
        }
    }
}
