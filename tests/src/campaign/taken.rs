//! The power is cut while a machine of the original program is taken over: `migrate`, back, again, `--boot`, back, again, two deployments of ours,
//! `--finish`. Recorded on a real btrfs and judged like the other verbs, by what these promise.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Instant;

use ast::boot::booted::Booted;
use ast::deploy::{self, Etc, How};
use ast::grub::install::ORIGINAL_MENU;
use ast::grub::{Baked, BootEnv, menu, script};
use ast::layout::{self, Layout};
use ast::legacy;
use ast::store::{Locked, Store};
use ast::sys::lock::Wait;
use ast::sys::{btrfs, file};
use ast::volumes;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::check::named;
use super::eyes::{Read, Right, in_blocks};
use super::machine::{locked, n, write};
use super::past::{Files, apart, booted, files_below, run, said};
use super::rows::{Row, Rows};
use super::verbs::copy;
use super::{CampaignError, original};
use crate::cut::{GrubError, Preview, Recording, Report, State, Strategy, WriteLog, new_btrfs, replay_some};

/// Bytes of the disk.
const SIZE: u64 = 256 << 20;
/// What stands in the original's `grub.cfg`.
const MENU: &str = "menuentry 'astOS Linux snapshot 4' {\n  linux /@.snapshots/boot/boot-tmp0/vmlinuz-linux\n}\n";
/// What the original has, from the top level: files and subvolumes that are its own until they are given up.
const THEIRS: [&str; 7] = [
    "@.snapshots/rootfs",
    "@.snapshots/etc",
    "@.snapshots/boot",
    "@.snapshots/ast/snapshots",
    "@.snapshots/ast/root",
    "@.snapshots/ast/tmp",
    "@var",
];
/// What it starts.
const KERNEL: &str = "@.snapshots/boot/boot-tmp0";
/// What is ours and never changes once it is made.
const OURS: [&str; 2] = ["@.snapshots/sets", "@.snapshots/deploy"];
/// In haste, one state in so many of the first step.
const ADDING_ONE_IN: u32 = 8;
/// The column and the method of the file.
const NATIVE: &str = "native";
const METHOD: &str = "replay-migrate";

/// One step, as a process of its own does it.
struct Verb {
    name: &'static str,
    /// The deployment that runs meanwhile; 0: none of ours.
    booted: u32,
    does: fn(&Path),
}

const fn verb(name: &'static str, booted: u32, does: fn(&Path)) -> Verb {
    Verb { name, booted, does }
}

/// Done again to go on from there: its states were looked at the first time.
const AGAIN: &str = "migrate-again";

const VERBS: [Verb; 13] = [
    verb("migrate", 0, take),
    verb("migrate-undo", 0, undo),
    verb(AGAIN, 0, take),
    verb("migrate-boot", 0, boot),
    verb("migrate-undo", 0, undo),
    verb(AGAIN, 0, take),
    verb("migrate-boot", 0, boot),
    verb("migrate-seal", 1, seal),
    verb("migrate-deploy", 1, deploy),
    verb("migrate-promote", 2, promote),
    verb("migrate-deploy", 2, deploy),
    verb("migrate-promote", 3, promote),
    verb("migrate-finish", 3, finish),
];

fn open(root: &Path) -> Locked {
    locked(Store::open(root).expect("a store"))
}

fn take(root: &Path) {
    if legacy::is_original(&Layout::of_sysroot(root)) {
        let taken = legacy::take(Store::take_over(root, Wait::No).expect("an original")).expect("taken over");
        assert!(taken.done.is_some_and(|done| done.unfinished.is_empty()));
    }
    // As the program does: the first repair writes what follows.
    drop(open(root));
}

fn undo(root: &Path) {
    if legacy::is_original(&Layout::of_sysroot(root)) {
        return legacy::clear(&Layout::of_sysroot(root)).expect("cleared");
    }
    legacy::undo(&open(root)).expect("undone");
}

fn boot(root: &Path) {
    legacy::take_boot(&open(root)).expect("taken over");
    drop(open(root));
}

/// Snapshot 4 as an upgrade seals it: with what GRUB needs to start it.
fn seal(root: &Path) {
    let mut locked = open(root);
    let (from, dir) = copy(&locked, n(4));
    let boot = dir.join("boot");
    let env = BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], &["quiet".into()], "sealed").expect("env");
    write(&boot.join("ast.env"), &String::from_utf8(env.encode().expect("env")).expect("text"));
    let sums =
        ["vmlinuz-linux", "initramfs-linux.img", "ast.env"].map(|name| menu::sums(name, &file::read(&boot.join(name)).expect("read")));
    write(&boot.join("ast.sums"), &sums.concat());
    let (plan, _) = locked.plan_seal(from, &dir, "upgrade").expect("a plan");
    run(&mut locked, plan);
}

fn deploy(root: &Path) {
    let mut locked = open(root);
    let (plan, _) = deploy::plan_deploy(&locked, n(4), How::Trial, Etc::OfSnapshot).expect("a plan");
    run(&mut locked, plan);
}

fn promote(root: &Path) {
    let mut locked = open(root);
    let block = locked.block().expect("a block");
    let Some(trial) = block.trial else { return };
    let booted = Booted::parse(&format!("d={}\nwhy=trial\narm={}\nleft=2\nenv=ok\n", trial.deployment, block.arm));
    let plan = deploy::plan_promote(&locked, &booted).expect("allowed").expect("needed");
    run(&mut locked, plan);
}

fn finish(root: &Path) {
    if open(root).machine().is_some_and(|machine| machine.migration.is_some()) {
        legacy::finish(&open(root)).expect("given up");
    }
    drop(open(root));
}

/// The machine whose top level is mounted at `top`, seen as its system sees it.
struct Root {
    dir: tempfile::TempDir,
    mounts: Vec<PathBuf>,
}

impl Root {
    fn of(top: &Path) -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let mut mounts = Vec::new();
        symlink(top.join(layout::SNAPSHOTS_SUBVOL), dir.path().join(".snapshots")).expect("link");
        for (subvolume, name) in [(layout::BOOT_SUBVOL, "boot"), (layout::VAR_SUBVOL, "var")] {
            let at = dir.path().join(name);
            file::make_dirs(&at).expect("dir");
            mount(Some(&top.join(subvolume)), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bound");
            mounts.push(at);
        }
        file::make_dirs(&dir.path().join("run/ast")).expect("dir");
        Self { dir, mounts }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        for at in &self.mounts {
            umount2(at, MntFlags::empty()).or_else(|_| umount2(at, MntFlags::MNT_DETACH)).ok();
        }
    }
}

/// The machine between two verbs.
#[derive(Debug)]
struct Was {
    verb: &'static str,
    said: String,
    grub_cfg: Vec<u8>,
}

/// Everything that a state may show.
#[derive(Debug, Default)]
struct Past {
    was: Vec<Was>,
    theirs: Files,
    /// Each file of ours as it was made, each time that it was.
    ours: BTreeMap<String, BTreeSet<Vec<u8>>>,
}

/// What the machine is, in words: the original's, or what tree, boot block and the step of its migration say.
fn words(root: &Path) -> Result<String, String> {
    if legacy::is_original(&Layout::of_sysroot(root)) {
        return Ok("the original's".to_owned());
    }
    let store = Store::open(root).map_err(|e| e.to_string())?;
    Ok(format!("{} | {:?}", said(&store)?, store.machine().and_then(|machine| machine.migration)))
}

fn theirs(top: &Path) -> Result<Files, String> {
    let mut found = Files::new();
    for dir in THEIRS {
        files_below(top, dir, &mut found).map_err(|e| format!("{dir}: {e}"))?;
    }
    for name in ["fstree", "part", "upstate"].map(|name| format!("@.snapshots/ast/{name}")) {
        found.extend(file::read_if_exists(&top.join(&name)).map_err(|e| e.to_string())?.map(|bytes| (name, bytes)));
    }
    // Where the original has nothing, links of ours may be.
    let is_link =
        |path: &String| path.strip_prefix("@.snapshots/").is_some_and(|rest| rest.split('/').count() == 2) && top.join(path).is_symlink();
    found.retain(|path, _| !is_link(path));
    Ok(found)
}

impl Past {
    fn note(&mut self, verb: &'static str, root: &Path, top: &Path) {
        let mut ours = Files::new();
        OURS.iter().for_each(|dir| files_below(top, dir, &mut ours).expect("readable"));
        for (path, bytes) in ours {
            self.ours.entry(path).or_default().insert(bytes);
        }
        let grub_cfg = file::read(&top.join("@boot/grub/grub.cfg")).expect("readable");
        self.was.push(Was { verb, said: words(root).expect("a state"), grub_cfg });
    }

    fn operation(&self, confirmed: usize) -> &'static str {
        self.was.get(confirmed + 1).map_or("nothing", |was| was.verb)
    }
}

/// A machine of the original with a GRUB that writes raw sectors.
fn base(dir: &Path) -> PathBuf {
    let image = dir.join("base.img");
    new_btrfs(&image, SIZE, |top| {
        for name in ["@.snapshots", "@home", "@var", "@etc", "@boot"] {
            btrfs::create_subvolume(&top.join(name)).expect("subvolume");
        }
        let root = Root::of(top);
        original::fill(root.path());
        write(&top.join("@.snapshots/ast/root/.bashrc"), "of root\n");
        let grub = top.join("@boot/grub");
        file::make_dirs(&grub.join("i386-pc")).expect("dir");
        write(&grub.join("grub.cfg"), MENU);
        for name in script::MODULES.into_iter().chain(["normal"]) {
            write(&grub.join(format!("i386-pc/{name}.mod")), "\u{0}2.14\u{0}");
        }
    })
    .expect("a disk");
    image
}

fn record(image: &Path) -> Result<(WriteLog, Past), CampaignError> {
    let mut recording = Recording::new(image, 0)?;
    let top = recording.mount("subvolid=5")?.to_owned();
    let root = Root::of(&top);
    let mut past = Past { theirs: theirs(&top).expect("readable"), ..Past::default() };
    past.note("nothing", root.path(), &top);
    for (index, Verb { name, booted: running, does }) in VERBS.into_iter().enumerate() {
        booted(root.path(), running);
        does(root.path());
        recording.mark(&(index + 1).to_string())?;
        past.note(name, root.path(), &top);
    }
    // A commit that waits for nobody's data.
    btrfs::snapshot(&top.join("@home"), &top.join("somebodys"), btrfs::Access::ReadOnly).expect("copied");
    drop(root);
    Ok((apart(recording.finish()?), past))
}

/// What a state is: how many verbs had returned, and what it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    confirmed: usize,
    place: usize,
}

fn is_new(past: &Past, state: &Preview<'_>) -> bool {
    past.operation(confirmed(state.last_mark())) != AGAIN
}

fn confirmed(mark: Option<&str>) -> usize {
    mark.map_or(0, |mark| mark.parse().expect("a number"))
}

/// Judges states of one recording. What GRUB read when all was right it is asked for at once in the next: reading file by file starts its reader as
/// many times.
struct Judge<'a> {
    past: &'a Past,
    right: BTreeMap<(usize, Vec<u8>), Vec<Right>>,
}

impl<'a> Judge<'a> {
    fn new(past: &'a Past) -> Self {
        Self { past, right: BTreeMap::new() }
    }

    fn for_grub(&mut self, state: &State<'_>, confirmed: usize) -> Result<(), String> {
        let blocks = [layout::RAW_BLOCK_A_SECTOR, layout::RAW_BLOCK_B_SECTOR]
            .map(|sector| file::read_at(state.image(), sector * 512, 512).expect("readable"));
        let known = self.right.entry((confirmed, blocks.concat())).or_default();
        if known.iter().rev().any(|right| right.is_seen(state)) {
            return Ok(());
        }
        let look = Look { past: self.past, state, read: RefCell::default() };
        look.all(confirmed, &blocks)?;
        known.push(Right::of(look.read.into_inner()));
        Ok(())
    }
}

/// A look at one state with GRUB's eyes, file by file.
struct Look<'a> {
    past: &'a Past,
    state: &'a State<'a>,
    read: RefCell<Read>,
}

impl Look<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let path = format!("/{path}");
        let bytes = match self.state.grub_view(&path) {
            Ok(bytes) => Some(bytes),
            Err(GrubError::Missing(_)) => None,
            Err(error) => return Err(format!("{path}: {error}")),
        };
        self.read.borrow_mut().insert(path, bytes.clone());
        Ok(bytes)
    }

    /// GRUB starts the original's system by its own menu, or ours with all that it may come to.
    fn all(&self, confirmed: usize, [a, b]: &[Vec<u8>; 2]) -> Result<(), String> {
        let past = self.past;
        let cfg = self.read("@boot/grub/grub.cfg")?.ok_or("GRUB finds no grub.cfg")?;
        if !past.was.iter().skip(confirmed).take(2).any(|was| was.grub_cfg == cfg) {
            return Err(format!("verb {confirmed} had returned, and GRUB reads as grub.cfg: {}", String::from_utf8_lossy(&cfg)));
        }
        let needs_original = confirmed + 1 < past.was.len() - 1;
        if needs_original {
            for (path, made) in past.theirs.iter().filter(|(path, _)| path.starts_with(&format!("{KERNEL}/"))) {
                if self.read(path)?.as_ref() != Some(made) {
                    return Err(format!("GRUB does not read /{path} as it was"));
                }
            }
        }
        if cfg == MENU.as_bytes() {
            return Ok(());
        }
        if needs_original && self.read(&format!("@boot/grub/{ORIGINAL_MENU}"))?.as_deref() != Some(MENU.as_bytes()) {
            return Err("our script is in the place of the original's menu, which is nowhere".to_owned());
        }
        let mut deployments = in_blocks([("A", a), ("B", b)])?;
        let good = self.read("@boot/grub/ast/good.cfg")?.ok_or("GRUB finds no good.cfg")?;
        deployments.insert(Baked::parse(&good).map_err(|e| format!("good.cfg: {e}"))?.good);
        for d in deployments {
            let boot = layout::deployment_from_top(d, layout::Part::Boot);
            self.startable(boot.trim_start_matches('/'))?;
        }
        // A menu that GRUB believes names what is there.
        for name in ["snapshots", "snapshots.prev"] {
            let at = |suffix: &str| format!("@boot/grub/ast/{name}.{suffix}");
            let (Some(text), Some(sums)) = (self.read(&at("cfg"))?, self.read(&at("sums"))?) else { continue };
            if menu::sums(&format!("{name}.cfg"), &text).as_bytes() == sums {
                let text = String::from_utf8_lossy(&text).into_owned();
                for set in text.lines().filter(|line| line.starts_with("ast_snapshot ")).filter_map(|line| line.split(' ').nth(2)) {
                    self.startable(&format!("@.snapshots/sets/{set}/boot")).map_err(|what| format!("{name} names {set}: {what}"))?;
                }
            }
        }
        Ok(())
    }

    fn startable(&self, boot: &str) -> Result<(), String> {
        let mut any = false;
        for (path, made) in self.past.ours.iter().filter(|(path, _)| path.starts_with(&format!("{boot}/"))) {
            any = true;
            let bytes = self.read(path)?.ok_or_else(|| format!("GRUB finds no /{path}"))?;
            if !made.contains(&bytes) {
                return Err(format!("GRUB reads other content in /{path} than was made, {} bytes", bytes.len()));
            }
        }
        if any { Ok(()) } else { Err(format!("{boot} was never made")) }
    }
}

/// Everything that tree and block name is there as it was made.
fn whole(past: &Past, root: &Path, top: &Path) -> Result<(), String> {
    let store = Store::open(root).map_err(|e| e.to_string())?;
    let tree = store.tree().map_err(|e| e.to_string())?;
    let block = store.block().map_err(|e| e.to_string())?;
    let sets = tree.nodes().map(|node| (format!("sets/{}", node.set()), volumes::is_whole_set(store.layout(), node.set())));
    let deployments = named(&block).map(|d| (format!("deploy/{d}"), volumes::is_whole_deployment(store.layout(), d)));
    for (dir, is_whole) in sets.chain(deployments) {
        if !is_whole {
            return Err(format!("{dir} is not whole"));
        }
        let mut there = Files::new();
        let dir = format!("@.snapshots/{dir}");
        files_below(top, &dir, &mut there).map_err(|e| format!("{dir}: {e}"))?;
        if let Some((path, _)) = there.iter().find(|(path, bytes)| !past.ours.get(*path).is_some_and(|made| made.contains(*bytes))) {
            return Err(format!("/{path} is not as it was made"));
        }
        if let Some(path) = past.ours.keys().find(|path| path.starts_with(&format!("{dir}/")) && !there.contains_key(*path)) {
            return Err(format!("/{path} is not there"));
        }
    }
    Ok(())
}

/// Everything holds in a state: for GRUB, for the kernel, after a repair, and when what was cut off is done again.
fn check(judge: &mut Judge<'_>, state: &mut State<'_>) -> Result<Seen, String> {
    let past = judge.past;
    let confirmed = confirmed(state.marks().last().copied());
    judge.for_grub(state, confirmed)?;
    let top = state.mount("subvolid=5").map_err(|e| e.to_string())?;
    let root = Root::of(&top);
    let under_way = VERBS.get(confirmed);
    booted(root.path(), under_way.map_or(3, |verb| verb.booted));
    let now = words(root.path())?;
    let place = [confirmed, confirmed + 1].into_iter().find(|place| past.was.get(*place).is_some_and(|was| was.said == now));
    let Some(place) = place else { return Err(format!("verb {confirmed} had returned, and this is: {now}")) };
    let has = theirs(&top)?;
    let all_there = confirmed + 1 < past.was.len() - 1;
    if let Some(path) = has.iter().find(|(path, bytes)| past.theirs.get(*path) != Some(bytes)).map(|(path, _)| path) {
        return Err(format!("/{path} is not as the original left it"));
    }
    if let Some(path) = past.theirs.keys().find(|path| all_there && !has.contains_key(*path)) {
        return Err(format!("/{path} of the original is gone"));
    }
    if now != "the original's" {
        whole(past, root.path(), &top)?;
        let mended = open(root.path());
        if let Some(problem) = mended.repaired().problems.first() {
            return Err(format!("repair: {problem}"));
        }
        drop(mended);
        if words(root.path())? != now {
            return Err(format!("repair made {} of {now}", words(root.path())?));
        }
        whole(past, root.path(), &top)?;
        let again = open(root.path());
        if !again.repaired().mended.is_empty() {
            return Err(format!("a second repair still found {:?}", again.repaired().mended));
        }
    }
    // What was cut off is done again, to its end, unless it has come there.
    if let Some(verb) = under_way.filter(|_| place == confirmed) {
        (verb.does)(root.path());
        let then = words(root.path())?;
        let wanted = &past.was[confirmed + 1];
        let cfg = file::read(&top.join("@boot/grub/grub.cfg")).map_err(|e| e.to_string())?;
        // A deployment that was begun may have used a number up.
        if verb.name != "migrate-deploy" && (then != wanted.said || cfg != wanted.grub_cfg) {
            return Err(format!("{} done again ended with {then}", verb.name));
        }
        if then == "the original's" {
            let left: Vec<_> = ["sets", "deploy"].into_iter().filter(|dir| top.join("@.snapshots").join(dir).exists()).collect();
            if !left.is_empty() {
                return Err(format!("{left:?} is left of ours"));
            }
        }
    }
    Ok(Seen { confirmed, place })
}

/// One recording is replayed, up to the first state that is wrong; every state, or (`in_haste`) only those after a flush.
pub fn decide(seed: u64, in_haste: bool) -> Result<(Report, usize), CampaignError> {
    let dir = tempfile::tempdir().map_err(|source| CampaignError::Io { path: std::env::temp_dir(), source })?;
    let (log, past) = record(&base(dir.path()))?;
    let strategy = if in_haste { Strategy::EveryFlush } else { Strategy::Subsets { seed, per_flush: 1 } };
    let mut judge = Judge::new(&past);
    let (wrong, counted) = (Cell::new(false), Cell::new(0u32));
    let report = replay_some(
        &log,
        strategy,
        |state| {
            let verb = past.operation(confirmed(state.last_mark()));
            let count = counted.replace(counted.get() + 1);
            // Most flushes are those of a step that only adds, one snapshot after the other.
            !wrong.get() && verb != AGAIN && (!in_haste || verb != VERBS[0].name || count % ADDING_ONE_IN == 0)
        },
        |state| {
            let seen = check(&mut judge, state).inspect_err(|_| wrong.set(true))?;
            Ok(format!("{} {}", past.operation(seen.confirmed), if seen.place == seen.confirmed { "old" } else { "new" }))
        },
    )?;
    Ok((report, VERBS.len()))
}

/// One recording is replayed, and a row appended for each state that the file does not have. Whether none was wrong, ever.
pub fn run_into(csv: &Path, seed: u64) -> Result<bool, CampaignError> {
    let mut rows = Rows::open(csv)?;
    let ended = std::thread::scope(|scope| scope.spawn(|| recording(&mut rows, seed)).join());
    ended.unwrap_or_else(|panic| Err(CampaignError::of_panic(seed, panic.as_ref())))?;
    let wrong = rows.of(METHOD).filter(|row| row.is_wrong()).count();
    println!("{} states of a machine that is taken over, {wrong} wrong", rows.of(METHOD).count());
    Ok(wrong == 0)
}

fn recording(rows: &mut Rows, seed: u64) -> Result<(), CampaignError> {
    let dir = tempfile::tempdir().map_err(|source| CampaignError::Io { path: std::env::temp_dir(), source })?;
    let (log, past) = record(&base(dir.path()))?;
    println!("seed {seed}: {} flushes, {} KiB written", log.flushes(), log.bytes() >> 10);
    let mut judge = Judge::new(&past);
    let known = rows.moments(METHOD, seed);
    let failed: RefCell<Option<CampaignError>> = RefCell::new(None);
    let (wrong, since) = (Cell::new(false), Cell::new(Instant::now()));
    let wanted = |state: &Preview<'_>| {
        since.set(Instant::now());
        !wrong.get() && !known.contains(state.tag()) && is_new(&past, state)
    };
    replay_some(&log, Strategy::Subsets { seed, per_flush: 1 }, wanted, |state| {
        let confirmed = confirmed(state.marks().last().copied());
        let said = check(&mut judge, state);
        let outcome = match &said {
            Ok(seen) if seen.place == seen.confirmed => "old".to_owned(),
            Ok(_) => "new".to_owned(),
            Err(what) => Row::wrong(what),
        };
        if let Err(what) = &said {
            println!("WRONG: seed {seed}, {} in {}: {what}", state.tag(), past.operation(confirmed));
            wrong.set(true);
        }
        let row = Row {
            seed,
            column: NATIVE.into(),
            method: METHOD.into(),
            operation: past.operation(confirmed).into(),
            moment: state.tag().to_owned(),
            outcome,
            seconds: since.get().elapsed().as_secs_f64(),
        };
        if let Err(error) = rows.append(row) {
            *failed.borrow_mut() = Some(error);
            wrong.set(true);
        }
        Ok(String::new())
    })?;
    failed.into_inner().map_or(Ok(()), Err)
}
