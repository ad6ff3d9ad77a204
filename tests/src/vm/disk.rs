//! Images: overlays that cost nothing, copies in another format.
use super::{Format, VmError, tool::tool};
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A new qcow2 image in `dir` that shows `base` and keeps what is written for itself. `base` must not change while it lives.
pub fn overlay(base: &Path, dir: &Path) -> Result<PathBuf, VmError> {
    let base = super::error::at(base, base.canonicalize())?;
    let path = new_path(&base, dir, "qcow2");
    let args: [OsString; 8] = [
        "create".into(),
        "-q".into(),
        "-fqcow2".into(),
        "-F".into(),
        format_of(&base)?.name().into(),
        "-b".into(),
        base.into(),
        path.clone().into(),
    ];
    tool("qemu-img", &args)?;
    Ok(path)
}

/// A raw, sparse image beside `image` with the same bytes as the disk it shows.
pub fn export_raw(image: &Path) -> Result<PathBuf, VmError> {
    let path = new_path(image, image.parent().unwrap_or(Path::new(".")), "raw");
    let args: [OsString; 5] = ["convert".into(), "-Oraw".into(), "--".into(), image.into(), path.clone().into()];
    tool("qemu-img", &args)?;
    Ok(path)
}

/// A copy of an image file itself, sparse, sharing blocks where the file system can: an overlay with the machine states stored in it.
pub fn copy(image: &Path, dir: &Path) -> Result<PathBuf, VmError> {
    let path = new_path(image, dir, image.extension().and_then(|e| e.to_str()).unwrap_or("img"));
    let args: [OsString; 5] = ["--sparse=always".into(), "--reflink=auto".into(), "--".into(), image.into(), path.clone().into()];
    tool("cp", &args)?;
    Ok(path)
}

/// The format an image is stored in, by its first bytes.
pub fn format_of(image: &Path) -> Result<Format, VmError> {
    use std::io::Read;
    let mut magic = [0u8; 4];
    let mut file = super::error::at(image, std::fs::File::open(image))?;
    let known = file.read_exact(&mut magic).is_ok() && magic == *b"QFI\xfb";
    Ok(if known { Format::Qcow2 } else { Format::Raw })
}

fn new_path(image: &Path, dir: &Path, extension: &str) -> PathBuf {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy();
    // One name for one process and call: overlays of overlays do not collide and their names do not grow.
    let stem = stem.split("--").next().unwrap_or_default();
    dir.join(format!("{stem}--{}-{}.{extension}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
}
