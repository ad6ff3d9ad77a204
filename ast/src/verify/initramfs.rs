//! What the boot needs in the image of a kernel.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::{Lack, cpio, unlock};
use crate::layout::{IMAGE_COMPLETE, INSTALL_HOOKS};
use crate::sys::inside;
use crate::work::Parts;

/// Something that the boot needs: its places, and its name for people.
type Part = (&'static [&'static str], &'static str);

/// What every image has, by the places where each may be.
const ALWAYS: [Part; 2] =
    [(&["usr/lib/ast/ast-initcpio", "usr/bin/ast-initcpio"], "our program ast-initcpio"), (&["init"], "its first program (init)")];
/// In an image with this one, hooks are not run.
const SYSTEMD: &str = "usr/lib/systemd/systemd";
/// What calls our program in a busybox image.
const BUSYBOX_CALLER: [Part; 1] = [(&["hooks/ast"], "our hook (hooks/ast)")];
/// What calls it in one of systemd, and what makes systemd do so.
const SYSTEMD_CALLER: [Part; 2] = [
    (&["usr/lib/systemd/system/ast-root.service"], "our unit (ast-root.service)"),
    (&["usr/lib/systemd/system/initrd-root-fs.target.requires/ast-root.service"], "the link by which systemd starts ast-root.service"),
];
/// Bytes of a hook that are read: ours has a tenth.
const MOST_OF_A_HOOK: u64 = 1 << 16;
/// Modules without which neither the root nor the boot block on FAT can be read.
const MODULES: [&str; 2] = ["btrfs", "vfat"];
/// The one without which nothing is unlocked.
const UNLOCKS: &str = "dm-crypt";

/// What `image` lacks to start kernel `version` with the root of `parts`; `unlocked_with`: the kernel's arguments, where it has to unlock the disk too.
pub(super) fn check(image: &Path, version: &str, parts: &Parts, unlocked_with: Option<&[String]>) -> Vec<Lack> {
    let open = match File::open(image) {
        Ok(open) => open,
        Err(error) => return vec![Lack::Unreadable(error.to_string())],
    };
    let names = match cpio::names(open) {
        Ok(names) => names,
        Err(cpio::CpioError::Compression(program)) => return vec![Lack::Compression(program)],
        Err(error) => return vec![Lack::BadInitramfs(error.to_string())],
    };
    let has = |name: &str| names.get(name).is_some_and(|size| *size > 0);
    let caller = if is_systemd(&names) { &SYSTEMD_CALLER[..] } else { &BUSYBOX_CALLER[..] };
    let missing = ALWAYS.iter().chain(caller).filter(|(places, _)| !places.iter().any(|place| has(place)));
    let mut lacks: Vec<Lack> = missing.map(|(_, what)| Lack::InitramfsLacks(what)).collect();
    if !has(IMAGE_COMPLETE) && hook_says_complete(parts) {
        lacks.push(Lack::HalfBuilt);
    }
    let built_in = fs::read_to_string(parts.root.join("usr/lib/modules").join(version).join("modules.builtin")).unwrap_or_default();
    lacks.extend(unlocked_with.map(|args| unlock::check(&names, args)).unwrap_or_default());
    for module in MODULES.into_iter().chain(unlocked_with.map(|_| UNLOCKS)) {
        let directories = [format!("usr/lib/modules/{version}/"), format!("lib/modules/{version}/")];
        let in_image =
            names.iter().any(|(name, size)| *size > 0 && directories.iter().any(|dir| name.starts_with(dir)) && is_module(name, module));
        if !in_image && !built_in.lines().any(|line| is_module(line, module)) {
            lacks.push(Lack::ModuleMissing { module, version: version.to_owned() });
        }
    }
    lacks
}

/// Whether the hook that built the images of this system says so in them when it has come to its end: older ones do not.
fn hook_says_complete(parts: &Parts) -> bool {
    let [own, packaged] = INSTALL_HOOKS.map(Path::new);
    let hook = inside::open_in(&parts.etc, own).or_else(|_| inside::open_in(&parts.root, packaged));
    let mut text = String::new();
    hook.is_ok_and(|file| file.take(MOST_OF_A_HOOK).read_to_string(&mut text).is_ok()) && text.contains(IMAGE_COMPLETE)
}

/// Whether systemd is the first program of the image with these files.
pub(super) fn is_systemd(names: &BTreeMap<String, u64>) -> bool {
    names.get(SYSTEMD).is_some_and(|size| *size > 0)
}

/// Whether `path` is the file of `module`: `NAME.ko`, perhaps compressed.
fn is_module(path: &str, module: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split_once(".ko").is_some_and(|(name, rest)| name == module && matches!(rest, "" | ".zst" | ".xz" | ".gz"))
}
