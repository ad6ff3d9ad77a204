//! A file system as GRUB reads it: without the log tree, so without what only `fsync` made durable.
use crate::vm::{VmError, tool::tool};
use std::path::Path;

/// Why GRUB gives no content.
#[derive(Debug, thiserror::Error)]
pub enum GrubError {
    /// GRUB reads the file system, and there is no such file.
    #[error("{0}: GRUB finds no such file")]
    Missing(String),
    /// GRUB cannot read it.
    #[error(transparent)]
    Unreadable(#[from] VmError),
}

/// The content of a file of a raw image as the host's GRUB would read it now. `device` is GRUB's name within the image: `loop0` for a
/// file system without partition table, `loop0,msdos2`, `loop0,gpt2`. The path begins at the top of a btrfs, subvolumes are directories.
pub fn grub_view(image: &Path, device: &str, path: &str) -> Result<Vec<u8>, GrubError> {
    let args = ["-r".as_ref(), device.as_ref(), image.as_os_str(), "cat".as_ref(), path.as_ref()];
    tool("grub-fstest", &args).map_err(|error| match &error {
        VmError::Tool { stderr, .. } if stderr.contains("not found") => GrubError::Missing(path.into()),
        _ => GrubError::Unreadable(error),
    })
}
