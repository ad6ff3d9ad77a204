//! A directory that can be written though what is below it cannot: changes are kept in memory and lost at the next start.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use ast::sys::mount::{Mounted, MsFlags, mount};
use ast::sys::{Result, SysError, file};

/// Where the layer that takes the changes is prepared; it is not seen in the running system.
const LAYER: &str = "/run/ast/layer";

/// `lower` is at `target`, and what is changed there is in memory.
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
