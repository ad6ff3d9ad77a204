//! Putting the root together out of bind mounts from the top level.
//!
//! One mount of the filesystem and binds from it, because the flags of the first mount of a btrfs are those of all: `/` is
//! made read-only as a mount, and its subvolume is read-only itself.

use std::path::Path;

use ast::layout::{BOOT_SUBVOL, CACHE_SUBVOL, HOME_SUBVOL, ROOT_HOME_SUBVOL, SNAPSHOTS_SUBVOL, VAR_SUBVOL};
use ast::sys::mount::{MsFlags, bind, mount, remount_bind, remount_bind_ro, unmount_lazy};
use ast::sys::{Result, file};

use crate::etc;
use crate::fstab::{Fstab, set_flags};
use crate::layer;
use crate::machine::Machine;
use crate::probe::Parts;
use crate::var;
use crate::voice::Voice;

/// Where a root has the modules of its kernels.
const MODULES: &str = "usr/lib/modules";
/// Where pacman keeps packages: below /var, in a subvolume of its own.
const CACHE: &str = "var/cache/pacman/pkg";

/// `parts` are mounted at `new_root` with everything that all roots share. Says whether /etc is volatile.
///
/// If interrupted: mounts of an initramfs, which end with it.
/// Refuses: when root or /etc cannot be mounted; then nothing is. Anything else missing is said and left out.
pub fn assemble(parts: &Parts, machine: &Machine, volatile: bool, new_root: &Path, voice: &Voice) -> Result<bool> {
    let volatile = volatile || machine.read_only || parts.deployment.is_none();
    if volatile && let Err(error) = layer::prepare(&parts.root) {
        voice.warn(&error.to_string());
    }
    bind(&parts.root, new_root)?;
    let rest = remount_bind_ro(new_root).and_then(|()| {
        if volatile { etc::volatile(parts, machine, &new_root.join("etc"), voice) } else { bind(&parts.etc, &new_root.join("etc")) }
    });
    if let Err(error) = rest {
        // With MNT_DETACH the whole tree goes.
        unmount_lazy(new_root)?;
        return Err(error);
    }
    if !volatile && let Err(error) = var::settle(parts, machine, voice) {
        voice.error(&format!("{error}; whether /var is what the rollback asked for, .snapshots/vars tells"));
    }
    // From here on there is a root: whatever its fstab says, it is started.
    let mut fstab = Fstab::read(machine, new_root, voice);
    let flags = fstab.as_mut().map_or(MsFlags::MS_NOATIME, |fstab| fstab.set_options(machine));
    if flags != MsFlags::MS_NOATIME {
        let etc = new_root.join("etc");
        set_flags(flags, new_root, (!volatile).then_some(&etc), voice);
    }
    shared(parts, machine, flags, new_root, voice);
    if let Some(mut fstab) = fstab {
        fstab.mount_subvolumes(machine, new_root);
        fstab.hand_over(voice);
    }
    Ok(volatile)
}

/// The root at `new_root` has the modules of the root `lender`, whose kernel runs.
pub fn lend_modules(lender: &Path, new_root: &Path) -> Result<()> {
    let at = new_root.join(MODULES);
    bind(&lender.join(MODULES), &at)?;
    remount_bind_ro(&at)
}

/// With the flags that what is bound from the top level has.
fn shared(parts: &Parts, machine: &Machine, flags: MsFlags, new_root: &Path, voice: &Voice) {
    let optional = |result: Result<()>| {
        if let Err(error) = result {
            voice.warn(&format!("{error}; going on without it"));
        }
    };
    // What is written there is lost where nothing can be kept; a service that cannot write at all would not even run.
    let written = |from: &Path, to: &Path| {
        if machine.read_only { layer::over(from, to).or_else(|_| bind(from, to)) } else { bind(from, to) }
    };
    let var = new_root.join("var");
    if let Err(error) = written(&machine.at_top(VAR_SUBVOL), &var) {
        // Services that need /var find it empty, and the machine can still be reached and repaired.
        voice.error(&format!("{error}; /var is empty and lost at the next start"));
        optional(mount("var", &var, "tmpfs", MsFlags::MS_NODEV | MsFlags::MS_NOSUID, "mode=0755"));
    }
    let boot = new_root.join("boot");
    optional(bind(&parts.boot, &boot).and_then(|()| remount_bind(&boot, flags | MsFlags::MS_RDONLY)));
    optional(bind(&machine.at_top(BOOT_SUBVOL).join("grub"), &boot.join("grub")));
    optional(bind(&machine.at_top(SNAPSHOTS_SUBVOL), &new_root.join(".snapshots")));
    optional(written(&machine.at_top(HOME_SUBVOL), &new_root.join("home")));
    optional(written(&machine.at_top(ROOT_HOME_SUBVOL), &new_root.join("root")));
    let cache = new_root.join(CACHE);
    optional(file::make_dirs(&cache).and_then(|()| bind(&machine.at_top(CACHE_SUBVOL), &cache)));
}
