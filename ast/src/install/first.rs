//! The first snapshot and the first deployment of a machine, out of a finished working copy.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Result, Terminal};
use crate::deploy::record::Record;
use crate::grub::defaults::Defaults;
use crate::grub::install::{write_good, write_menu, write_script};
use crate::grub::menu::{MenuInput, MenuSettings, SnapshotLine};
use crate::grub::{Baked, BootEnv, ScriptConfig};
use crate::id::{DeployId, Generation, SetId, SnapshotId};
use crate::layout::{self, Layout, Part};
use crate::store::document;
use crate::store::machine::Machine;
use crate::sys::btrfs::{self, Access};
use crate::sys::file;
use crate::tree::{Label, Later, Tree};
use crate::work::ReadyToSeal;

/// The set of a new machine's base.
pub const SET: SetId = SetId { snapshot: SnapshotId::BASE, generation: Generation::new(1) };
/// The deployment that it boots.
pub const DEPLOYMENT: DeployId = DeployId::new(1);

/// The top level has its subvolumes and directories. `@var` comes with [`deploy`].
pub(super) fn make_top_level(top: &Path) -> Result<()> {
    for name in layout::TOP_SUBVOLS.into_iter().filter(|name| *name != layout::VAR_SUBVOL) {
        btrfs::create_subvolume(&top.join(name))?;
    }
    btrfs::set_uncompressed(&top.join(layout::BOOT_SUBVOL))?;
    file::make_dirs(&top.join(layout::BOOT_SUBVOL).join(layout::GRUB_DIR))?;
    let layout = Layout::of_top_level(top);
    for dir in [layout.sets(), layout.deployments(), layout.work(), layout.documents()] {
        file::make_dirs(&dir)?;
    }
    for part in Part::ALL {
        file::make_dirs(layout.link(SnapshotId::BASE, part).parent().unwrap_or(top))?;
    }
    Ok(())
}

/// Base 0 in generation 1 is what was staged, and the tree says so.
pub(super) fn seal(top: &Path, ready: &ReadyToSeal, description: &str) -> Result<()> {
    let layout = Layout::of_top_level(top);
    file::make_dirs(&layout.set(SET))?;
    for part in Part::ALL {
        if let Some(from) = ready.parts().get(part) {
            btrfs::snapshot(from, &layout.set_part(SET, part), Access::ReadOnly)?;
        }
        file::symlink_replace(&Layout::link_target(SET, part), &layout.link(SET.snapshot, part))?;
    }
    file::syncfs(top)?;
    let label = Label { description: description.to_owned(), created: now() };
    Ok(document::save(&layout.document(layout::TREE), &Tree::new(label))?)
}

/// Deployment 1 is a clone of the base, and the shared `/var` holds what packages put there.
pub(super) fn deploy(top: &Path) -> Result<()> {
    let layout = Layout::of_top_level(top);
    file::make_dirs(&layout.deployment(DEPLOYMENT))?;
    let etc = layout.set_part(SET, Part::Etc);
    for (from, to, access) in [
        (layout.set_part(SET, Part::Root), layout.deployment_part(DEPLOYMENT, Part::Root), Access::ReadOnly),
        (etc.clone(), layout.deployment_part(DEPLOYMENT, Part::Etc), Access::Writable),
        (etc, layout.deployment_etc_base(DEPLOYMENT), Access::ReadOnly),
        (layout.set_part(SET, Part::Boot), layout.deployment_part(DEPLOYMENT, Part::Boot), Access::ReadOnly),
        (layout.set_part(SET, Part::Var), top.join(layout::VAR_SUBVOL), Access::Writable),
    ] {
        btrfs::snapshot(&from, &to, access)?;
    }
    let record = Record { d: DEPLOYMENT, set: SET, created: now(), by: "ast bootstrap".to_owned(), later: Later::new() };
    document::save(&layout.deployment_record(DEPLOYMENT), &record)?;
    file::syncfs(top)?;
    Ok(())
}

/// Seconds since 1970; 0 on a clock before that.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// What GRUB reads is there: its script, the baked good entry, the menu with the one snapshot.
pub(super) fn write_grub_files(top: &Path, grub_dir: &Path, machine: &Machine, terminal: Terminal) -> Result<()> {
    let layout = Layout::of_top_level(top);
    let env = BootEnv::parse(&file::read(&layout.deployment_part(DEPLOYMENT, Part::Boot).join(layout::BOOT_ENV))?)?;
    let defaults = file::read(&layout.deployment_part(DEPLOYMENT, Part::Etc).join("default/grub"))?;
    let settings = MenuSettings::from_defaults(&Defaults::parse(&String::from_utf8_lossy(&defaults)))?;
    let ours = top.join(layout::BOOT_SUBVOL).join(layout::GRUB_DIR);
    let line = SnapshotLine { set: SET, description: "base".to_owned(), kernel: None, created: None, health: None, state: vec!["default".to_owned()], bootable: true };
    let titles = vec![(DEPLOYMENT, env.title().to_owned())];
    write_menu(&ours, &MenuInput { settings, snapshots: vec![line], others: Vec::new(), titles })?;
    write_good(&ours, &Baked { good: DEPLOYMENT, env })?;
    let config = ScriptConfig { fs_uuid: machine.fs_uuid.clone(), block: machine.block.clone().into(), serial: terminal.serial() };
    Ok(write_script(grub_dir, &config)?)
}
