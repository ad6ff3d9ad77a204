//! What the boot needs in the image of a kernel.

use std::fs::{self, File};
use std::path::Path;

use super::{Lack, cpio};

/// Where our program may be: the hook puts it under its own name.
const OUR_PROGRAM: [&str; 2] = ["usr/lib/ast/ast-initcpio", "usr/bin/ast-initcpio"];
/// The runtime hook that calls it, in a busybox image.
const OUR_HOOK: [&str; 1] = ["hooks/ast"];
/// What the kernel starts.
const INIT: [&str; 1] = ["init"];
/// Modules without which neither the root nor the boot block on FAT can be read.
const MODULES: [&str; 2] = ["btrfs", "vfat"];

/// What `image` lacks to start kernel `version`, whose modules are in `modules` of the root.
pub(super) fn check(image: &Path, version: &str, modules: &Path) -> Vec<Lack> {
    let open = match File::open(image) {
        Ok(open) => open,
        Err(error) => return vec![Lack::Unreadable(error.to_string())],
    };
    let names = match cpio::names(open) {
        Ok(names) => names,
        Err(cpio::CpioError::Compression(program)) => return vec![Lack::Compression(program)],
        Err(error) => return vec![Lack::BadInitramfs(error.to_string())],
    };
    let has = |places: &[&str]| places.iter().any(|place| names.get(*place).is_some_and(|size| *size > 0));
    let mut lacks = Vec::new();
    for (places, what) in
        [(&OUR_PROGRAM[..], "our program ast-initcpio"), (&OUR_HOOK[..], "our hook (hooks/ast)"), (&INIT[..], "its first program (init)")]
    {
        if !has(places) {
            lacks.push(Lack::InitramfsLacks(what));
        }
    }
    let built_in = fs::read_to_string(modules.join("modules.builtin")).unwrap_or_default();
    for module in MODULES {
        let directories = [format!("usr/lib/modules/{version}/"), format!("lib/modules/{version}/")];
        let in_image =
            names.iter().any(|(name, size)| *size > 0 && directories.iter().any(|dir| name.starts_with(dir)) && is_module(name, module));
        if !in_image && !built_in.lines().any(|line| is_module(line, module)) {
            lacks.push(Lack::ModuleMissing { module, version: version.to_owned() });
        }
    }
    lacks
}

/// Whether `path` is the file of `module`: `NAME.ko`, perhaps compressed.
fn is_module(path: &str, module: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split_once(".ko").is_some_and(|(name, rest)| name == module && matches!(rest, "" | ".zst" | ".xz" | ".gz"))
}
