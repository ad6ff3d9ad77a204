//! Rules about what boots: block, deployments, menu.

use std::path::PathBuf;

use crate::deploy::record;
use crate::grub::install::{self, baked_in};
use crate::id::{DeployId, SetId};
use crate::luks::{self, Header, LuksError};
use crate::store::machine::Machine;
use crate::store::{Store, vars};
use crate::sys::{device, file};
use crate::verify;
use crate::volumes::{self, MountEntry};
use crate::work::Parts;

pub(super) fn copies(store: &Store) -> Vec<String> {
    match store.copies() {
        Err(error) => vec![error.to_string()],
        Ok(copies) => {
            let of = |(name, copy): (&str, &Result<_, crate::boot::medium::MediumError>)| {
                copy.as_ref().err().map(|error| format!("copy {name}: {error}"))
            };
            [("A", &copies.a), ("B", &copies.b)].into_iter().filter_map(of).collect()
        }
    }
}

pub(super) fn filesystem(store: &Store) -> Vec<String> {
    store.booted().map(|booted| booted.disk.clone()).unwrap_or_default()
}

pub(super) fn fallback(store: &Store) -> Vec<String> {
    let prev = store.block().ok().and_then(|block| block.prev);
    let unproven = prev.filter(|prev| !store.layout().deployment_well(*prev).exists());
    unproven.map(|prev| format!("deployment {prev} is not known to have booted well")).into_iter().collect()
}

pub(super) fn kept_var(store: &Store) -> Vec<String> {
    let Some(trial) = store.block().ok().and_then(|block| block.trial) else { return Vec::new() };
    let kept = vars::kept(store).is_ok_and(|kept| kept.contains(&trial.deployment));
    let can_be = crate::deploy::shared_var(store).is_some();
    if kept || !can_be {
        return Vec::new();
    }
    let swap = volumes::swap_file(&store.sysroot().join("var")).ok().flatten();
    let why = swap.map(|swap| format!(": {} is a swap file in use, and btrfs snapshots no subvolume with one; put it into a subvolume of its own", swap.display()));
    vec![format!("there is none for deployment {}, which is on trial{}", trial.deployment, why.unwrap_or_default())]
}

pub(super) fn deployments(store: &Store) -> Vec<String> {
    // What the original's own boot loader starts is judged by nobody here.
    if store.starts_with_original() {
        return Vec::new();
    }
    let Ok(block) = store.block() else { return Vec::new() };
    let named = [Some(block.good), block.prev, block.trial.map(|t| t.deployment)];
    // Nor is its system, which our boot script starts with its own initramfs, until something is deployed.
    let theirs = |d: &DeployId| record::load(store.layout(), *d).is_ok_and(|record| record.by == crate::legacy::BY);
    named.into_iter().flatten().filter(|d| !theirs(d)).flat_map(|d| lacks(store, d)).collect()
}

fn lacks(store: &Store, d: DeployId) -> Vec<String> {
    if !volumes::is_whole_deployment(store.layout(), d) {
        return vec![format!("deployment {d} is not whole on disk")];
    }
    verify::check(&Parts::of_deployment(store.layout(), d), verify::Disk::of(store.layout())).iter().map(|finding| format!("deployment {d}: {finding}")).collect()
}

pub(super) fn named(store: &Store) -> Vec<String> {
    let baked = match baked_in(&store.grub_dir().join("ast")) {
        Ok(baked) => baked,
        Err(error) => return vec![error.to_string()],
    };
    let there = |d: &DeployId| volumes::is_whole_deployment(store.layout(), *d);
    let entries =
        baked.iter().map(|b| b.good).filter(|d| !there(d)).map(|d| format!("the baked entry names deployment {d}, which is not whole"));
    let sets = menu_sets(store).into_iter().filter(|set| !volumes::is_whole_set(store.layout(), *set));
    entries.chain(sets.map(|set| format!("the menu names set {set}, which is not whole"))).collect()
}

pub(super) fn listed(store: &Store) -> Vec<String> {
    let Some(tree) = store.tree().ok().filter(|_| !store.starts_with_original()) else { return Vec::new() };
    let text = snapshots(store);
    let listed: Vec<&str> = text.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    let missing = tree.nodes().filter(|node| !listed.contains(&node.id.to_string().as_str()));
    missing.map(|node| format!("snapshot {} is not in the menu", node.id)).collect()
}

/// The part of the menu with a line for each snapshot.
fn snapshots(store: &Store) -> String {
    let bytes = file::read_if_exists(&store.grub_dir().join("ast/snapshots.cfg")).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn menu_sets(store: &Store) -> Vec<SetId> {
    let text = snapshots(store);
    text.lines().filter(|line| line.starts_with("ast_snapshot ")).filter_map(|line| line.split(' ').nth(2)?.parse().ok()).collect()
}

pub(super) fn counting(store: &Store) -> Vec<String> {
    let by_grub = store.booted().and_then(|b| b.env) == Some(false);
    let said = by_grub.then(|| "GRUB could not save its counter at this start".to_owned());
    said.into_iter().chain(super::write_proof(store)).collect()
}

pub(super) fn unlocking(store: &Store) -> Vec<String> {
    let Some(machine) = store.machine() else { return Vec::new() };
    let members = device::members(&machine.fs_uuid).unwrap_or_default();
    let mounted = MountEntry::of(store.layout().snapshots()).ok().flatten().map(|entry| entry.source);
    // Without root no superblock can be read; what is mounted is known all the same.
    let nodes = if members.is_empty() { mounted.into_iter().collect() } else { members.into_iter().map(|member| member.node).collect::<Vec<_>>() };
    let (mut containers, mut found) = (Vec::new(), Vec::new());
    for node in nodes {
        match luks::of(&node) {
            Ok(container) => containers.extend(container),
            Err(LuksError::Sys(_)) if !nix::unistd::geteuid().is_root() => return Vec::new(),
            Err(error) => found.push(format!("{}: {error}", node.display())),
        }
    }
    found.extend(not_unlocked(machine, &containers));
    found
}

/// What keeps GRUB from unlocking these containers, the ones that the machine's filesystem is in.
fn not_unlocked(machine: &Machine, containers: &[(PathBuf, Header)]) -> Vec<String> {
    let unreadable = containers.iter().filter_map(|(device, header)| Some(format!("{}: {}", device.display(), header.for_grub().err()?)));
    let mut found: Vec<String> = unreadable.collect();
    // What the original's boot loader unlocks, nobody here knows.
    if machine.migration.is_none() {
        let others = containers.iter().filter(|(_, header)| !machine.luks.contains(&header.uuid));
        found.extend(others.map(|(device, header)| {
            format!("{}: the filesystem is in this LUKS container ({}), which GRUB as it was installed does not unlock", device.display(), header.uuid)
        }));
        let gone = machine.luks.iter().filter(|uuid| containers.iter().all(|(_, header)| header.uuid != **uuid));
        found.extend(gone.map(|uuid| format!("GRUB as it was installed unlocks the LUKS container {uuid}, and the filesystem is not in it")));
    }
    found
}

pub(super) fn menu(store: &Store) -> Vec<String> {
    if store.starts_with_original() {
        return Vec::new();
    }
    let (dir, ours) = (store.grub_dir(), store.grub_dir().join("ast"));
    let files = ["grub.cfg", "ast/menu.cfg", "ast/menu.sums", "ast/good.cfg"].map(|name| dir.join(name));
    let empty = files.iter().filter(|path| std::fs::metadata(path).map_or(true, |m| m.len() == 0));
    let unreadable = install::derived(&ours).filter_map(|path| file::read_if_exists(&path).err()).map(|error| error.to_string());
    empty.map(|path| format!("{} is missing or empty", path.display())).chain(unreadable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::luks::{Kdf, Slot};
    use crate::store::machine::{Block, Firmware, Migration};

    #[test]
    fn c1_what_grub_cannot_unlock_is_told() {
        let machine = |luks: &[&str], migration| Machine {
            fs_uuid: "f".into(),
            firmware: Firmware::Efi,
            block: Block::Local,
            esp_uuid: None,
            luks: luks.iter().map(|uuid| (*uuid).to_owned()).collect(),
            grub_version: None,
            migration,
            later: Default::default(),
        };
        let container = |uuid: &str, kdf: Kdf| {
            let slots = vec![Slot { number: 0, kdf }];
            let header = Header { version: 2, uuid: uuid.into(), slots, cipher: "aes-xts-plain64".into(), data_offset: 0, segments: 1 };
            (PathBuf::from("/dev/vda2"), header)
        };
        let (good, bad) = (Kdf::Pbkdf2("sha256".into()), Kdf::Other("argon2id".into()));
        let told = |machine: &Machine, containers: &[_]| not_unlocked(machine, containers).join("\n");
        assert_eq!(told(&machine(&["a"], None), &[container("a", good.clone())]), "");
        assert_eq!(told(&machine(&[], None), &[]), "");
        assert!(told(&machine(&["a"], None), &[container("a", bad.clone())]).contains("luksConvertKey --pbkdf pbkdf2"));
        assert!(told(&machine(&[], None), &[container("a", good.clone())]).contains("does not unlock"));
        assert!(told(&machine(&["a"], None), &[]).contains("the filesystem is not in it"));
        // A boot loader that is not ours is judged by what no GRUB can read alone.
        assert_eq!(told(&machine(&[], Some(Migration::Boot)), &[container("a", good)]), "");
        assert!(told(&machine(&[], Some(Migration::Boot)), &[container("a", bad)]).contains("argon2id"));
    }
}
