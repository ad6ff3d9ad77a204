//! A directory that can be written though what is below it cannot: changes are kept in memory and lost at the next start.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use ast::sys::mount::{Mounted, MsFlags, bind, mount, unmount_lazy};
use ast::sys::{Result, SysError, file};

/// Where the layer that takes the changes is prepared; it is not seen in the running system.
const LAYER: &str = "/run/ast/layer";

/// Where the kernel's modprobe finds modules: those of the initramfs, while that runs.
const MODULES: &str = "/usr/lib/modules";

/// Layers can be made. The module for them is in no image, as few starts need it: it is taken out of the root `from`, which is for this kernel.
pub fn prepare(from: &Path) -> Result<()> {
    let known = file::read(Path::new("/proc/filesystems")).unwrap_or_default();
    if String::from_utf8_lossy(&known).split_ascii_whitespace().any(|name| name == "overlay") {
        return Ok(());
    }
    let modules = Path::new(MODULES);
    file::make_dirs(modules)?;
    bind(&from.join(MODULES.trim_start_matches('/')), modules)?;
    // The kernel loads it, and then finds that such a mount has no layers.
    drop(mount("layer", modules, "overlay", MsFlags::empty(), ""));
    // Something else may have one of them open.
    unmount_lazy(modules)
}

/// `lower` is at `target`, and what is changed there is in memory. [`prepare`] comes before.
pub fn over(lower: &Path, target: &Path) -> Result<()> {
    let base = Path::new(LAYER);
    file::make_dirs(base)?;
    let memory = Mounted::new("layer", base, "tmpfs", MsFlags::MS_NODEV | MsFlags::MS_NOSUID, "mode=0700")?;
    file::make_dirs(&base.join("upper"))?;
    file::make_dirs(&base.join("work"))?;
    // The upper directory lends the whole its mode.
    copy_mode(lower, &base.join("upper"))?;
    let data = format!("lowerdir={},upperdir={LAYER}/upper,workdir={LAYER}/work", lower.display());
    mount("layer", target, "overlay", MsFlags::empty(), &data)?;
    // The overlay has its own hold on it.
    memory.unmount()?;
    drop(fs::remove_dir(base));
    Ok(())
}

/// `to` has owner and mode of `from`.
pub fn copy_mode(from: &Path, to: &Path) -> Result<()> {
    let at = |source| SysError { action: "copy owner and mode of", path: from.to_owned(), source };
    let meta = fs::symlink_metadata(from).map_err(at)?;
    lchown(to, Some(meta.uid()), Some(meta.gid())).map_err(at)?;
    fs::set_permissions(to, fs::Permissions::from_mode(meta.mode() & 0o7777)).map_err(at)
}
