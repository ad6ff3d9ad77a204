//! A file system as GRUB reads it: without the log tree, so without what only `fsync` made durable.
use crate::vm::{VmError, offline::Scheme, tool::tool};
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

/// GRUB's name of a partition (0: the whole disk) of an image that is given to one of its programs.
pub fn grub_name(scheme: Scheme, number: u32) -> String {
    match scheme {
        _ if number == 0 => "loop0".to_owned(),
        Scheme::Gpt => format!("loop0,gpt{number}"),
        Scheme::Mbr | Scheme::None => format!("loop0,msdos{number}"),
    }
}

/// The content of a file of a raw image as the host's GRUB would read it now. `device` is GRUB's name within the image (see [`grub_name`]).
/// The path begins at the top of a btrfs, subvolumes are directories.
pub fn grub_view(image: &Path, device: &str, path: &str) -> Result<Vec<u8>, GrubError> {
    let args = ["-r".as_ref(), device.as_ref(), image.as_os_str(), "cat".as_ref(), path.as_ref()];
    tool("grub-fstest", &args).map_err(|error| match &error {
        VmError::Tool { stderr, .. } if stderr.contains("not found") => GrubError::Missing(path.into()),
        _ => GrubError::Unreadable(error),
    })
}

/// Whether GRUB reads every file below the directory `expected` in the same place of a raw image with the same content. Which it does not is not told:
/// [`grub_view`] finds out. For many files at once: GRUB's reader starts once.
pub fn grub_sees(image: &Path, device: &str, expected: &Path) -> bool {
    tool("grub-fstest", &["-r".as_ref(), device.as_ref(), image.as_os_str(), "cmp".as_ref(), "/".as_ref(), expected.as_os_str()]).is_ok()
}
