//! What an image needs to unlock an encrypted disk before our program looks for the root. Sources: `hooks/encrypt` of Arch's package
//! `cryptsetup`, systemd-cryptsetup-generator(8).

use std::collections::BTreeMap;

use super::{Lack, is_systemd};
use crate::layout::Layout;
use crate::store::document;
use crate::store::machine::Machine;

/// Whether the machine's filesystem is in a LUKS container, which its initramfs has to unlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// It is not.
    Plain,
    /// It is.
    Encrypted,
}

impl Disk {
    /// As the machine's document says; where that cannot be read, plain: another rule complains of it.
    pub fn of(layout: &Layout) -> Self {
        let machine = document::load_if_exists::<Machine>(&layout.document(crate::layout::MACHINE)).ok().flatten();
        if machine.is_some_and(|machine| !machine.body.luks.is_empty()) { Self::Encrypted } else { Self::Plain }
    }
}

/// Places of what does it, and their names for people.
type Part = (&'static [&'static str], &'static str);
const BUSYBOX: [Part; 2] =
    [(&["hooks/encrypt"], "the hook `encrypt`"), (&["usr/bin/cryptsetup", "usr/sbin/cryptsetup", "sbin/cryptsetup"], "the program cryptsetup")];
const SYSTEMD: [Part; 2] = [
    (&["usr/lib/systemd/system-generators/systemd-cryptsetup-generator"], "systemd-cryptsetup-generator (hook `sd-encrypt`)"),
    (&["usr/lib/systemd/systemd-cryptsetup", "usr/bin/systemd-cryptsetup"], "systemd-cryptsetup (hook `sd-encrypt`)"),
];
/// Beginnings of the kernel arguments that say what to unlock.
const BUSYBOX_WORDS: [&str; 1] = ["cryptdevice="];
const SYSTEMD_WORDS: [&str; 4] = ["rd.luks.name=", "rd.luks.uuid=", "luks.name=", "luks.uuid="];
/// What says it to systemd inside the image.
const CRYPTTAB: &str = "etc/crypttab";
/// Beginnings of those that name a key, and, of busybox's, the device that stands for the image itself.
const KEY_WORDS: [&str; 2] = ["rd.luks.key=", "luks.key="];
const BUSYBOX_KEY: &str = "cryptkey=rootfs:";

/// What the image with these files lacks to unlock the disk when the kernel is started with `args`.
pub(super) fn check(names: &BTreeMap<String, u64>, args: &[String]) -> Vec<Lack> {
    let has = |name: &str| names.get(name).is_some_and(|size| *size > 0);
    let (parts, words, by_file) = match is_systemd(names) {
        true => (&SYSTEMD[..], &SYSTEMD_WORDS[..], has(CRYPTTAB)),
        false => (&BUSYBOX[..], &BUSYBOX_WORDS[..], false),
    };
    let missing = parts.iter().filter(|(places, _)| !places.iter().any(|place| has(place)));
    let mut lacks: Vec<Lack> = missing.map(|(_, what)| Lack::CannotUnlock(what)).collect();
    if !by_file && !args.iter().any(|arg| words.iter().any(|word| arg.starts_with(word))) {
        lacks.push(Lack::NothingToUnlock(words.first().copied().unwrap_or_default()));
    }
    let keys = args.iter().filter_map(|arg| key_file(arg, is_systemd(names)));
    lacks.extend(keys.filter(|key| !has(key.trim_start_matches('/'))).map(|key| Lack::NoKeyFile(key.to_owned())));
    lacks
}

/// The key inside the image that a kernel argument names.
fn key_file(arg: &str, systemd: bool) -> Option<&str> {
    if !systemd {
        return arg.strip_prefix(BUSYBOX_KEY);
    }
    let value = KEY_WORDS.iter().find_map(|word| arg.strip_prefix(word))?;
    // [UUID=]PATH[:DEVICE]
    let path = value.split_once('=').map_or(value, |(_, path)| path);
    (!path.contains(':')).then_some(path)
}
