//! Power cuts at any moment of the verbs that change what exists and what boots, recorded on a real btrfs and replayed: old or new, for GRUB
//! (which reads no log tree) as for the kernel, and repair clears the rest.
#![allow(clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

mod common;
#[path = "../../ast/tests/common/mod.rs"]
mod machine;

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use ast::boot::block::BootBlock;
use ast::boot::booted::Booted;
use ast::deploy::{self, Etc, How};
use ast::grub::menu;
use ast::id::DeployId;
use ast::layout::{self, Layout, Part};
use ast::plan::Plan;
use ast::store::machine::Block;
use ast::store::{Locked, Store};
use ast::sys::{btrfs, file};
use ast::volumes;
use ast_tests::cut::{GrubError, Recording, State, Strategy, WriteLog, new_btrfs, replay};
use machine::{d, fill, locked, n, set, skipped, write};

/// Bytes of the disk: btrfs wants 109 MiB at least, and the store a reserve.
const SIZE: u64 = 256 << 20;

/// A directory that looks like the root of the machine whose top level is mounted at `top`.
struct Root(tempfile::TempDir);

impl Root {
    fn of(top: &Path) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        symlink(top.join("@.snapshots"), dir.path().join(".snapshots")).expect("link");
        symlink(top.join("@boot"), dir.path().join("boot")).expect("link");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

/// A machine with snapshots 1 and 2, ready to be changed.
fn base(dir: &Path) -> PathBuf {
    let image = dir.join("base.img");
    new_btrfs(&image, SIZE, |top| {
        for name in layout::TOP_SUBVOLS {
            btrfs::create_subvolume(&top.join(name)).expect("subvolume");
        }
        file::make_dirs(&top.join("@boot/grub/ast")).expect("dir");
        let root = Root::of(top);
        fill(root.path(), Block::Raw);
        let mut locked = locked(Store::open(root.path()).expect("a store"));
        for description in ["one", "two"] {
            let (plan, _) = locked.plan_new(description).expect("a plan");
            run(&mut locked, plan);
        }
    })
    .expect("a disk");
    image
}

fn run(locked: &mut Locked, plan: Plan) {
    let done = locked.run(plan).expect("committed");
    assert!(done.unfinished.is_empty(), "{:?}", done.unfinished);
}

/// What a machine is, in words: the two commits and nothing that follows from them.
fn said(store: &Store) -> Result<String, String> {
    let sets: Vec<String> = store.tree().map_err(|e| e.to_string())?.nodes().map(|node| node.set().to_string()).collect();
    let block = store.block().map_err(|e| e.to_string())?;
    Ok(format!(
        "{} | good {} prev {:?} trial {:?} arm {}",
        sets.join(" "),
        block.good,
        block.prev,
        block.trial.map(|t| t.deployment),
        block.arm
    ))
}

/// The verbs of one update and what comes after it, each marked when it has returned. Gives back what the machine was after each.
fn record(image: &Path) -> (WriteLog, Vec<String>) {
    let mut recording = Recording::new(image, 0).expect("a recording");
    let top = recording.mount("subvolid=5").expect("mounted").to_owned();
    let root = Root::of(&top);
    let mut locked = locked(Store::open(root.path()).expect("a store"));
    let mut states = vec![said(&locked).expect("a state")];
    let mut step = |locked: &mut Locked, plan: Plan| {
        run(locked, plan);
        states.push(said(locked).expect("a state"));
        recording.mark(&(states.len() - 1).to_string()).expect("marked");
    };

    let (plan, clone) = locked.plan_branch(n(1), "update").expect("a plan");
    step(&mut locked, plan);
    let from = locked.set_of(clone).expect("whole");
    let dir = locked.layout().work_copy("by-hand");
    file::make_dirs(&dir).expect("dir");
    for part in Part::ALL {
        btrfs::snapshot(&locked.layout().set_part(from, part), &dir.join(part.name()), btrfs::Access::Writable).expect("copied");
    }
    write(&dir.join("root/word"), "upgraded");
    let (plan, _) = locked.plan_seal(from, &dir, "upgrade").expect("a plan");
    step(&mut locked, plan);
    let (plan, trial) = deploy::plan_deploy(&locked, clone, How::Trial, Etc::OfSnapshot).expect("a plan");
    step(&mut locked, plan);
    let arm = locked.boot_block().expect("a block").arm;
    let booted = Booted::parse(&format!("d={trial}\nwhy=trial\narm={arm}\nleft=2\nenv=ok\n"));
    let plan = deploy::plan_promote(&locked, &booted).expect("allowed").expect("needed");
    step(&mut locked, plan);
    let (plan, _) = locked.plan_del(n(2)).expect("a plan");
    step(&mut locked, plan);
    let (plan, _) = deploy::plan_deploy(&locked, n(1), How::NoTrial, Etc::OfSnapshot).expect("a plan");
    step(&mut locked, plan);
    // An update below another one, of which retention takes the upper one: one commit that re-parents and deletes.
    for parent in [n(1), n(4)] {
        let from = locked.set_of(parent).expect("whole");
        let source = |part| locked.layout().set_part(from, part);
        let (plan, _) = locked.plan_update(source, parent, "update 0123456789ab: hello", |new| format!("update {new}")).expect("a plan");
        step(&mut locked, plan);
    }
    let found = ast::retain::look(&locked, &ast::updates::Updates::default(), 1).expect("looked");
    assert_eq!(found.going(), [n(4)]);
    let plan = found.plan(&locked).expect("a plan").expect("something goes");
    step(&mut locked, plan);
    drop(locked);
    (recording.finish().expect("a faithful log"), states)
}

/// The boot block as GRUB reads it: straight from the disk.
fn block_of(device: &Path) -> Result<BootBlock, String> {
    let copy = |sector: u64| BootBlock::parse(&file::read_at(device, sector * 512, 512).expect("readable"));
    copy(layout::RAW_BLOCK_A_SECTOR).or_else(|_| copy(layout::RAW_BLOCK_B_SECTOR)).map_err(|error| format!("no copy is whole: {error}"))
}

/// Everything that GRUB needs to start any deployment that the block names, and any set that a menu names which it would believe. One look costs
/// a start of GRUB's reader, so of a set only the file is read that says how to start it.
fn check_as_grub(state: &State<'_>) -> Result<(), String> {
    let read = |path: String| match state.grub_view(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(GrubError::Missing(_)) => Ok(None),
        Err(error) => Err(format!("{path}: {error}")),
    };
    let block = block_of(state.device())?;
    for d in [Some(block.good), block.prev, block.trial.map(|t| t.deployment)].into_iter().flatten() {
        startable(&layout::deployment_from_top(d, Part::Boot), read)?;
    }
    let mut menus = Vec::new();
    for name in ["snapshots", "snapshots.prev"] {
        let text = read(format!("/@boot/grub/ast/{name}.cfg"))?.filter(|text| !menus.contains(text));
        let Some(text) = text else { continue };
        let sums = read(format!("/@boot/grub/ast/{name}.sums"))?;
        if sums.is_none_or(|sums| menu::sums(&format!("{name}.cfg"), &text).as_bytes() != sums) {
            continue;
        }
        for line in String::from_utf8_lossy(&text).lines().filter(|l| l.starts_with("ast_snapshot ")) {
            let env = format!("{}/ast.env", layout::set_from_top(set(line.split(' ').nth(2).expect("a set")), Part::Boot));
            let bytes = read(env.clone())?.ok_or_else(|| format!("{name}.cfg names what GRUB cannot read: {env}"))?;
            ast::grub::BootEnv::parse(&bytes).map_err(|error| format!("{env}: {error}"))?;
        }
        menus.push(text);
    }
    Ok(())
}

fn startable(boot: &str, read: impl Fn(String) -> Result<Option<Vec<u8>>, String>) -> Result<(), String> {
    let there = |name: &str| read(format!("{boot}/{name}"))?.ok_or_else(|| format!("GRUB finds no {boot}/{name}"));
    let env_bytes = there("ast.env")?;
    let env = ast::grub::BootEnv::parse(&env_bytes).map_err(|error| format!("{boot}/ast.env: {error}"))?;
    let sums = String::from_utf8_lossy(&there("ast.sums")?).into_owned();
    for (name, bytes) in [(env.linux(), there(env.linux())?), ("ast.env", env_bytes)] {
        if !sums.contains(&menu::sums(name, &bytes)) {
            return Err(format!("{boot}/{name} is not what its sums say"));
        }
    }
    Ok(())
}

/// Everything that must hold on this disk. Which state of the machine it is.
fn check(state: &mut State<'_>, states: &[String]) -> Result<String, String> {
    check_as_grub(state)?;
    let top = state.mount("subvolid=5").map_err(|e| e.to_string())?;
    let root = Root::of(&top);
    let store = Store::open(root.path()).map_err(|e| e.to_string())?;
    let now = said(&store)?;
    let place = states.iter().position(|s| *s == now).ok_or_else(|| format!("neither old nor new: {now}"))?;
    let confirmed = state.marks().last().map_or(0, |mark| mark.parse::<usize>().expect("a number"));
    if place < confirmed || place > confirmed + 1 {
        return Err(format!("verb {confirmed} had returned, and this is the state after {place}: {now}"));
    }
    whole(&store)?;
    drop(store);
    let repaired = locked(Store::open(root.path()).map_err(|e| e.to_string())?);
    if let Some(problem) = repaired.repaired().problems.first() {
        return Err(format!("repair: {problem}"));
    }
    if said(&repaired)? != now {
        return Err(format!("repair made {} of {now}", said(&repaired)?));
    }
    whole(&repaired)?;
    drop(repaired);
    let again = locked(Store::open(root.path()).map_err(|e| e.to_string())?);
    if !again.repaired().mended.is_empty() {
        return Err(format!("a second repair still found {:?}", again.repaired().mended));
    }
    let on_disk = volumes::sets(again.layout()).map_err(|e| e.to_string())?.len();
    let named = again.tree().map_err(|e| e.to_string())?.nodes().count();
    if on_disk != named {
        return Err(format!("{on_disk} sets on disk, {named} in the tree"));
    }
    Ok(format!("after {place}"))
}

fn whole(store: &Store) -> Result<(), String> {
    let layout: &Layout = store.layout();
    for node in store.tree().map_err(|e| e.to_string())?.nodes() {
        if !volumes::is_whole_set(layout, node.set()) {
            return Err(format!("set {} is not whole", node.set()));
        }
    }
    let block = store.block().map_err(|e| e.to_string())?;
    let named: [Option<DeployId>; 3] = [Some(block.good), block.prev, block.trial.map(|t| t.deployment)];
    match named.into_iter().flatten().find(|d| !volumes::is_whole_deployment(layout, *d)) {
        Some(d) => Err(format!("deployment {d} is not whole")),
        None => Ok(()),
    }
}

#[test]
fn s2_s4_every_power_cut_leaves_old_or_new_for_grub_and_kernel() {
    if skipped() {
        return;
    }
    assert_eq!(d(1), DeployId::new(1));
    let dir = tempfile::tempdir().expect("dir");
    let (log, states) = record(&base(dir.path()));
    let seed = std::env::var("AST_CUT_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    eprintln!("{} flushes, {} bytes written", log.flushes(), log.bytes());
    let mut wrong = false;
    let report = replay(&log, Strategy::Subsets { seed, per_flush: 1 }, |state| {
        // The first wrong one is enough: a look costs time.
        if wrong {
            return Ok("not looked at".into());
        }
        check(state, &states).inspect_err(|what| {
            eprintln!("{} after {:?}: {what}", state.tag(), state.marks());
            wrong = true;
        })
    })
    .expect("replayed");
    eprintln!("{report}");
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.outcomes.len(), states.len(), "too few outcomes: {report}");
}
