//! Opening files of another root: links lead where they would with that root as `/`, and never out of it (R7).

use std::fs::File;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::{At, Result};

/// `path` inside `root`, open for reading; absolute links and `..` stay below `root`.
pub fn open_in(root: &Path, path: &Path) -> Result<File> {
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    let dir = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).at("open", root)?;
    openat2(&dir, path, how).map(File::from).at("open", &root.join(path))
}
