//! Mounts that nobody else sees, and that keep nobody else's alive.
use crate::vm::{VmError, error::at};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

thread_local! {
    static OWN: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread, and what it starts from now on, mounts in a namespace of its own.
///
/// Whoever makes a namespace (other tests do, at any moment) gets a copy of every mount that it sees, and a copied mount lives on when ours is
/// unmounted: the kernel would go on with the file system of a state that is long gone, and the next state would be looked at through its caches.
/// For the same reason the copies that this very call makes of others' mounts are let go of at once.
pub(super) fn own_mounts() -> Result<(), VmError> {
    if OWN.get() {
        return Ok(());
    }
    let (namespace, root) = (Path::new("/proc/thread-self/ns/mnt"), Path::new("/"));
    at(namespace, unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).map_err(Into::into))?;
    at(root, mount(None::<&str>, root, None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(Into::into))?;
    OWN.set(true);
    for path in mount_points()?.into_iter().rev().filter(|path| is_foreign(path)) {
        // One that is gone already was below another.
        umount2(&path, MntFlags::MNT_DETACH).ok();
    }
    Ok(())
}

/// Mounted where tests mount, and not what the tests themselves lie in.
fn is_foreign(mount_point: &Path) -> bool {
    let temporary = std::env::temp_dir();
    let ours = std::env::current_dir().is_ok_and(|dir| dir.starts_with(mount_point)) || temporary.starts_with(mount_point);
    let places = [temporary.as_path(), Path::new("/tmp"), Path::new("/dev/shm")];
    !ours && places.iter().any(|place| mount_point.starts_with(place) && mount_point != *place)
}

fn mount_points() -> Result<Vec<PathBuf>, VmError> {
    let table = Path::new("/proc/thread-self/mountinfo");
    let text = at(table, std::fs::read_to_string(table))?;
    Ok(text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect())
}
