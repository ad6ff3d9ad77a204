//! A place of one process in `work`: for what is received or collected before it is anything, and for holding sets meanwhile.

use std::path::{Path, PathBuf};

use super::{Token, WorkError, delete_parts};
use crate::id::SetId;
use crate::layout::{Layout, Part};
use crate::sys::mount::{bind, unmount_lazy};
use crate::sys::{file, namespace};

/// A directory `work/TOKEN` of this process. Dropped, it is deleted with everything in it.
#[derive(Debug)]
#[must_use = "dropped, it is deleted"]
pub struct Place {
    dir: PathBuf,
    /// Mounts that hold sets, one over the other.
    held: usize,
}

/// In the directory: where held subvolumes are mounted.
const HOLD: &str = "held";
/// In the directory: where streams are received.
const INSIDE: &str = "in";

impl Place {
    /// An empty place, under a name that says whose it is.
    ///
    /// If interrupted: what is there is garbage by its name, for the next repair.
    pub fn claim(layout: &Layout) -> Result<Self, WorkError> {
        let place = Self { dir: layout.work_copy(&Token::next()?.to_string()), held: 0 };
        file::make_dirs(&place.inside())?;
        Ok(place)
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory in it that has nothing but what the caller puts there.
    pub fn inside(&self) -> PathBuf {
        self.dir.join(INSIDE)
    }

    /// Nobody deletes these sets as long as this place lives: they are mounted where only this process sees them, and what is mounted
    /// anywhere stays (S14). The caller holds the lock, so that they are still there.
    ///
    /// The process has mounts of its own from now on. Others see them only of a process' first thread, so this must be it.
    /// If interrupted: the mounts end with the process.
    pub fn hold(&mut self, layout: &Layout, sets: &[SetId]) -> Result<(), WorkError> {
        namespace::own_mounts()?;
        let at = self.dir.join(HOLD);
        file::make_dirs(&at)?;
        for set in sets {
            for part in Part::ALL {
                bind(&layout.set_part(*set, part), &at)?;
                self.held += 1;
            }
        }
        Ok(())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for _ in 0..self.held {
            drop(unmount_lazy(&self.dir.join(HOLD)));
        }
        if let Err(error) = delete_parts(&self.dir) {
            // The next repair finds it by its name.
            tracing::warn!(target: "ast::work", %error, dir = %self.dir.display(), "left behind");
        }
    }
}
