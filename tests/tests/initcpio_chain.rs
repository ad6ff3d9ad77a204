//! B9, the whole chain: the wanted root, the good one and the one before it, each whole, broken or without this kernel's modules, in every combination,
//! as in either kind of image. The real program, a real btrfs, a private mount namespace (root).
#![allow(clippy::disallowed_methods)]

#[path = "initcpio/fixture.rs"]
mod fixture;

use ast::boot::{BootBlock, Mode, Trial};
use ast::id::{ArmId, DeployId};
use fixture::{Disk, Kind, sh};

/// What is wrong with a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Whole,
    Broken,
    NoModules,
}

const LINKS: [Link; 3] = [Link::Whole, Link::Broken, Link::NoModules];
/// The wanted one, the good one, the one before it.
const CHAIN: [u32; 3] = [7, 6, 5];

/// What has to come of it.
#[derive(Debug, PartialEq, Eq)]
enum Comes {
    /// This one is the root.
    Root(u32),
    /// GRUB starts this one next, once.
    Once(u32),
    /// The machine restarts, and the block is as it was.
    Restart,
}

/// The promise in its own words: the first whole one; else whoever lacks only the modules gets its own kernel; a trial is GRUB's to count.
fn promised(chain: [Link; 3], why: &str) -> Comes {
    let of = |wanted: Link| CHAIN.iter().zip(chain).filter(move |(_, link)| *link == wanted).map(|(d, _)| *d);
    match (of(Link::Whole).next(), of(Link::NoModules).find(|d| *d != CHAIN[0])) {
        (Some(d), _) => Comes::Root(d),
        (None, Some(d)) if why != "trial" => Comes::Once(d),
        _ => Comes::Restart,
    }
}

fn set(disk: &Disk, chain: [Link; 3]) {
    disk.change(|top| {
        for (d, link) in CHAIN.iter().zip(chain) {
            let root = top.join(format!("@.snapshots/deploy/{d}/root"));
            ast::sys::btrfs::set_read_only(&root, false).expect("opened");
            let modules = if link == Link::NoModules { "1.2.3".to_owned() } else { fixture::release() };
            let mode = if link == Link::Broken { "644" } else { "755" };
            sh(&format!(
                "cd {}/usr/lib; chmod {mode} systemd/systemd; [ -d modules/{modules} ] || mv modules/* modules/{modules}",
                root.display()
            ));
        }
    });
}

fn every_combination(kind: Kind) {
    let mut disk = Disk::new();
    disk.kind = kind;
    for why in ["trial", "chosen"] {
        for n in 0..27 {
            let chain = [LINKS[n / 9], LINKS[n / 3 % 3], LINKS[n % 3]];
            set(&disk, chain);
            let trial = (why == "trial").then_some(Trial { deployment: DeployId::new(7), mode: Mode::Trial, tries: 2 });
            let before = BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(4), trial, ..BootBlock::new(DeployId::new(6)) };
            disk.medium().write(&before).expect("written");
            let started = disk.start(&format!("ast.d=7 ast.why={why} ast.arm=4.11 ast.env=ok"), "cat $R/usr/lib/name; grep -c \" $R\" /proc/self/mounts");
            let what = format!("{kind:?} {why} {chain:?}: {started:?}");
            let after = disk.block();
            let root = started.seen.lines().next().and_then(|name| name.strip_prefix('d')).and_then(|d| d.parse().ok());
            let came = match (started.status, root, after.trial) {
                (0, Some(d), _) => Comes::Root(d),
                (3, None, Some(Trial { deployment, mode: Mode::Once, tries: 1 })) => Comes::Once(deployment.get()),
                (3, None, _) => Comes::Restart,
                _ => panic!("{what}"),
            };
            assert_eq!(came, promised(chain, why), "{what}");
            // A spent arming is never armed again; nothing else of the block changes.
            let arm = if let Comes::Once(_) = came { 5 } else { 4 };
            assert_eq!(BootBlock { trial: before.trial, ..after }, BootBlock { arm: ArmId::new(arm), ..before }, "{what}");
            if let Comes::Root(d) = came {
                assert_eq!((started.booted.d, started.booted.wanted.is_some()), (Some(DeployId::new(d)), d != 7), "{what}");
                // Not a mount more than a start that goes well has: whatever was tried before is gone.
                assert_eq!(started.seen.lines().nth(1), Some("9"), "{what}");
            }
            // It says why, of each link up to the root.
            for d in CHAIN.iter().take_while(|d| came != Comes::Root(**d)) {
                assert!(started.said.contains(&format!("deployment {d} cannot be the root: ")), "{what}");
            }
            assert!(started.said.lines().count() <= 8, "{what}");
        }
    }
}

#[test]
fn b9_every_link_of_the_chain_broken_in_turn_in_an_image_of_busybox() {
    every_combination(Kind::Busybox);
}

#[test]
fn b9_every_link_of_the_chain_broken_in_turn_in_an_image_of_systemd() {
    every_combination(Kind::Systemd);
}
