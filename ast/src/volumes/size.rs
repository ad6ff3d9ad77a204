//! How much is in a set, and what of it nothing else has: asked of each file, so that no quotas are needed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::id::SetId;
use crate::layout::{Layout, Part};
use crate::sys::{At, Result, btrfs, file};

/// Bytes of the data of files; what describes them (names, owners, small files' content) is not counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Of which there is no other copy: what comes back when it is deleted.
    pub exclusive: u64,
    /// That a deployment, another snapshot or another file has too.
    pub shared: u64,
}

/// How much is in the set. Looks at every file: about a second for 50,000.
///
/// Refuses: what cannot be read, as most of it by anybody but root.
pub fn size_of_set(layout: &Layout, set: SetId) -> Result<Size> {
    let mut size = Size::default();
    for part in Part::ALL {
        // Of a file with several names only one is counted; other subvolumes count their own numbers.
        add(&layout.set_part(set, part), &mut BTreeSet::new(), &mut size)?;
    }
    Ok(size)
}

fn add(dir: &Path, seen: &mut BTreeSet<u64>, size: &mut Size) -> Result<()> {
    for name in file::names(dir)? {
        let path = dir.join(name);
        let meta = fs::symlink_metadata(&path).at("look at", &path)?;
        if meta.is_dir() {
            add(&path, seen, size)?;
        } else if meta.is_file() && meta.len() > 0 && (meta.nlink() < 2 || seen.insert(meta.ino())) {
            let (all, shared) = btrfs::data(&path)?;
            size.exclusive = size.exclusive.saturating_add(all.saturating_sub(shared));
            size.shared = size.shared.saturating_add(shared);
        }
    }
    Ok(())
}
