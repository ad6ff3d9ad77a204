//! An image of an initramfs gets files beside, or in the place of, its own.

use super::VmError;
use super::tool::output;
use std::path::Path;
use std::process::Command;

/// The files of the directory `tree` are in `image`, as root's. The kernel unpacks one archive after the other, and what is in both is as the last has it.
pub fn append(image: &Path, tree: &Path) -> Result<(), VmError> {
    // An archive begins at a multiple of four.
    let line = r#"truncate -s %4 "$0"; find . -mindepth 1 | cpio -o -H newc --quiet -R 0:0 >> "$0""#;
    output(Command::new("bash").args(["-o", "pipefail", "-ec", line]).arg(image).current_dir(tree)).map(drop)
}
