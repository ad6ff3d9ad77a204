//! `.updated` in /etc and /var: tells systemd that what packages bring is in place, as `systemd-update-done.service` would.

use std::fs::File;

use super::Parts;
use crate::sys::{At, SysError, file};

/// Source: `src/update-done/update-done.c` and `ConditionNeedsUpdate=` in systemd.unit(5): what counts is that the file is not
/// older than /usr.
const CONTENT: &[u8] = b"# Written by ast when it sealed this snapshot, in the place of systemd-update-done.service.\n";

/// The services that rebuild caches after an offline update have nothing to do at the next start: pacman's hooks have done it in the
/// working copy. Without this every start of a volatile /etc, and the first one of each update, would rebuild them all.
pub(super) fn mark(parts: &Parts) -> Result<(), SysError> {
    const ACTION: &str = "mark as updated";
    let usr = parts.root.join("usr");
    let when = std::fs::metadata(&usr).and_then(|m| m.modified()).at("read the time of", &usr)?;
    for dir in [Some(&parts.etc), parts.var.as_ref()].into_iter().flatten() {
        let path = dir.join(".updated");
        if !path.exists() {
            file::replace(&path, CONTENT)?;
        }
        File::options().write(true).open(&path).and_then(|f| f.set_modified(when)).at(ACTION, &path)?;
    }
    Ok(())
}
