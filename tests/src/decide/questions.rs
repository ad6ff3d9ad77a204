//! Questions with their answers, for whoever is asked: a machine, or GRUB without one.

use super::disk::{Copy, DecisionDisk, initramfs};
use super::model::{self, Files, Seen};
use super::{Asked, Started};
use ast::boot::block::{BootBlock, Mode, Trial};
use ast::id::{ArmId, DeployId};
use proptest::strategy::{Strategy as _, ValueTree as _};

/// Good 6, before it 5, nothing on trial, arming 4.
pub fn settled() -> BootBlock {
    BootBlock { prev: Some(DeployId::new(5)), arm: ArmId::new(4), ..BootBlock::new(DeployId::new(6)) }
}

/// The same with this on trial.
pub fn trying(d: u32, mode: Mode, tries: u8) -> BootBlock {
    BootBlock { trial: Some(Trial { deployment: DeployId::new(d), mode, tries }), ..settled() }
}

/// The same with tries.
pub fn on_trial(d: u32, tries: u8) -> BootBlock {
    trying(d, Mode::Trial, tries)
}

/// This one is good, and that one before it.
pub fn good(d: u32, prev: Option<u32>) -> BootBlock {
    BootBlock { good: DeployId::new(d), prev: prev.map(DeployId::new), ..settled() }
}

/// A machine and its disk, with questions that name themselves when the answer is wrong.
#[derive(Debug)]
pub struct Column<'a, G> {
    /// What it is called when an answer is wrong.
    pub name: &'static str,
    /// The disk, which is changed between two questions.
    pub disk: &'a DecisionDisk,
    /// Who is asked.
    pub ask: G,
}

impl<G: Asked> Column<'_, G> {
    /// GRUB starts `wanted` (deployment, why, arm, env) for the reason `because`.
    pub fn gives(&mut self, because: &str, wanted: &str) -> Started {
        let started = self.ask.ask();
        assert_eq!(started.short(), wanted, "{}: {because}: {started:?}", self.name);
        started
    }

    /// The same with this block in both copies.
    pub fn with(&mut self, because: &str, block: &BootBlock, wanted: &str) -> Started {
        self.disk.set_both(block);
        self.gives(because, wanted)
    }

    /// The block that a reader takes now; both copies are the same.
    pub fn block(&self) -> BootBlock {
        let (a, b) = (self.disk.get(Copy::A), self.disk.get(Copy::B));
        assert_eq!(String::from_utf8_lossy(&a), String::from_utf8_lossy(&b), "{}: A and B differ", self.name);
        BootBlock::parse(&a).expect("a block")
    }

    pub fn tries(&self) -> Option<u8> {
        self.block().trial.map(|t| t.tries)
    }
}

/// What every column must decide right.
pub fn core<G: Asked>(column: &mut Column<'_, G>) {
    // B1, B2: three tries, each spent before it starts; then the good one.
    let first = column.with("a new trial", &on_trial(7, 3), "7 trial 4.11 ok");
    assert_eq!(column.tries(), Some(2));
    let cap = column.block().cap;
    assert_eq!(first.get("systemd.watchdog_sec"), None, "B14: an initramfs's systemd that has the watchdog hands it over to nobody");
    assert_eq!((first.get("panic"), first.get("rd.systemd.gpt_auto")), (Some("10"), Some("0")));
    assert_eq!((first.get("made.for"), first.get("acpi_osi")), (Some("deployment-7"), Some("!*")));
    assert!(first.words.iter().any(|w| w == "-h"), "the first argument of its own: {first:?}");
    assert!(first.words.iter().any(|w| w == "ro") && first.get("root").is_some_and(|r| r.starts_with("UUID=")), "{first:?}");
    assert!(first.kernel.ends_with(")/@.snapshots/deploy/7/boot/vmlinuz-linux"), "{first:?}");
    assert_eq!(first.initramfs, format!("ucode+{}", initramfs("deployment 7")));
    column.gives("the second try", "7 trial 4.1 ok");
    assert_ne!(column.block().cap, cap, "the proof is not renewed");
    column.gives("the last try", "7 trial 4. ok");
    column.gives("no tries left", "6 exhausted 4. ok");
    assert_eq!((column.tries(), column.block().starts), (Some(0), 1));

    column.with("one start", &trying(7, Mode::Once, 1), "7 once 4. ok");
    column.gives("it was one start", "6 good 4. ok");

    // B13.
    column.with("a kernel that is not as it was", &on_trial(8, 3), "6 hash 4.11 ok");
    assert_eq!(column.tries(), Some(2), "the try was spent");

    // B2: a good one that stops reporting.
    column.with("the fifth start without a report", &BootBlock { starts: 4, ..settled() }, "6 good 4. ok");
    assert_eq!(column.block().starts, 5);
    column.gives("five starts without a report", "5 starts 4. ok");
    let block = column.block();
    assert_eq!((block.good.get(), block.prev, block.starts), (6, settled().prev, 0), "whenever the power goes now, the block names both");
    column.gives("and only once", "6 good 4. ok");

    // B5.
    let whole = on_trial(7, 3).encode().expect("a block");
    column.disk.set(Copy::A, &whole[..100]);
    column.disk.set(Copy::B, &whole);
    column.gives("A torn", "7 trial 4.11 ok");
    let b = BootBlock::parse(&column.disk.get(Copy::B)).expect("B");
    assert_eq!(b.trial.map(|t| t.tries), Some(2), "counted in the copy that was read");
    column.disk.set(Copy::B, b"\xff\xfe\x00garbage");
    column.gives("A and B torn", "6 baked - fail");
}

/// What is the same script's work on every column, asked of those that answer fast.
pub fn more<G: Asked>(column: &mut Column<'_, G>) {
    column.with("sums are empty", &on_trial(13, 3), "6 hash 4.11 ok");
    column.with("a trial that is not there", &on_trial(14, 1), "6 hash 4. ok");
    column.with("a trial whose ast.env is garbage", &on_trial(11, 3), "6 load 4.11 ok");
    column.with("a trial whose kernel is none", &on_trial(12, 3), "6 load 4.11 ok");
    column.with("the good one asked for once", &trying(6, Mode::Once, 1), "6 good 4.1 ok");
    column.with("the one before, once", &trying(5, Mode::Once, 1), "5 once 4. ok");
    column.with("no kernel, nothing before", &good(9, None), "6 load 4. ok");
    column.with("no kernel", &good(9, Some(5)), "5 load 4. ok");
    column.with("no initramfs", &good(10, Some(5)), "5 load 4. ok");
    disk_damage(column);
    column.with("two that do not load", &good(9, Some(10)), "6 load 4. ok");
    column.with("five starts and nothing before", &BootBlock { starts: 5, ..good(6, None) }, "6 good 4. ok");
    column.with("five starts, but the one before does not load", &BootBlock { starts: 5, ..good(6, Some(9)) }, "6 good 4. ok");

    // A wins over B, and B follows.
    column.disk.set(Copy::A, &settled().encode().expect("a block"));
    column.disk.set(Copy::B, &on_trial(7, 3).encode().expect("a block"));
    column.gives("A has no trial, B has", "6 good 4. ok");
    assert_eq!(column.block().starts, 1);

    // Hostile values are data, and not ours.
    let text = String::from_utf8(settled().encode().expect("a block").to_vec()).expect("text");
    column.disk.set(Copy::B, text.as_bytes());
    let hostile =
        text.replacen("ast_good=6", "ast_good=5;reboot", 1).replacen("ast_end=1\n", "ast_end=1\nprefix=(hd9)/x\nsuperusers=x\n", 1);
    column.disk.set(Copy::A, hostile.trim_end_matches('#').as_bytes());
    column.gives("hostile values in A", "6 good 4. ok");

    let more_names = text.replacen("ast_end=1\n", "ast_fs=evil\nast_store=(hd9)/x\nast_number=.*\ntimeout=-1\nast_end=1\n", 1);
    column.disk.set(Copy::A, format!("{:#<512}", more_names.trim_end_matches('#')).as_bytes());
    let started = column.gives("names of the script's own variables in A", "6 good 4. ok");
    assert!(started.get("root").is_some_and(|r| r.len() == "UUID=".len() + 36), "{started:?}");

    // The copies of how the good one starts.
    let disk = column.disk;
    let own = disk.garble(b"deployment 6\nast_end=1");
    column.with("its own ast.env is garbage", &settled(), "6 good 4. ok");
    let baked = disk.garble(b"deployment 6\nast_baked_good=6");
    column.with("the baked copy too", &settled(), "5 load 4. ok");
    disk.set(Copy::A, b"x");
    disk.set(Copy::B, b"x");
    column.gives("and both blocks", "5 baked - fail");
    let before = disk.garble(b"deployment 5\nast_baked_good=5");
    column.ask.comes_to_nothing();
    disk.set_both(&settled());
    [own, baked, before].into_iter().for_each(|undo| disk.restore(undo));
    column.gives("after the last resort", "6 good 4. ok");

    // B16. The second menu has a resolution, the one before has not.
    let menu = disk.garble(b"set gfxmode='640x480'\n");
    column.with("menu.cfg is garbage", &settled(), "6 good 4. ok");
    disk.restore(menu);
    let menus = disk.garble(b"set timeout=0\nset timeout_style=menu\n");
    assert_eq!(menus.len() % 2, 0, "menu.cfg and menu.prev.cfg");
    let data = disk.garble(b"ast_menu=0/menu/");
    column.with("no menu is whole", &settled(), "6 good 4. ok");
    disk.restore(data);
    disk.restore(menus);
}

/// An initramfs that cannot be read, behind a kernel that is loaded already: the next one must not get what is left of it.
fn disk_damage<G: Asked>(column: &mut Column<'_, G>) {
    column.disk.garble_compressed();
    let next = column.with("the initramfs cannot be read", &good(15, Some(5)), "5 load 4. ok");
    assert_eq!(next.get("made.for"), Some("deployment-5"), "{next:?}");
    column.with("that of a trial", &on_trial(15, 3), "6 hash 4.11 ok");
    column.with("behind it, a kernel that cannot be read", &good(15, Some(16)), "6 load 4. ok");
    column.with("that kernel first", &good(16, Some(5)), "5 load 4. ok");
}

/// Files of the deployments of the disk, as `DEPLOYMENTS` there has them.
fn files(d: DeployId) -> Files {
    match d.get() {
        5..=7 => Files { as_summed: true, load: true },
        8 | 13 => Files { as_summed: false, load: true },
        11 | 12 => Files { as_summed: true, load: false },
        _ => Files { as_summed: false, load: false },
    }
}

/// The model that `counters` builds on says what the real GRUB does, in states that nobody thought of.
pub fn as_the_model_says<G: Asked>(column: &mut Column<'_, G>, questions: u64) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let deployment = |numbers: &'static [u32]| proptest::sample::select(numbers).prop_map(DeployId::new);
    let trial = (deployment(&[5, 6, 7, 7, 7, 8, 9, 11, 12, 13, 14]), proptest::bool::weighted(0.8), 0..4u8)
        .prop_map(|(deployment, trial, tries)| Trial { deployment, mode: if trial { Mode::Trial } else { Mode::Once }, tries });
    let block = (deployment(&[5, 6, 6, 9]), proptest::option::of(deployment(&[5, 7, 9, 10])), proptest::option::of(trial), 0..7u8, 0..2u32)
        .prop_map(|(good, prev, trial, starts, cap)| BootBlock { prev, trial, starts, cap, arm: ArmId::new(4), ..BootBlock::new(good) });
    let copy = proptest::option::weighted(0.8, block);
    for n in 0..questions {
        let (a, b) = (copy.clone(), copy.clone()).new_tree(&mut runner).expect("a state").current();
        for (which, block) in [(Copy::A, &a), (Copy::B, &b)] {
            let bytes = block.as_ref().map_or_else(|| vec![b'x'; 512], |block| block.encode().expect("a block").to_vec());
            column.disk.set(which, &bytes);
        }
        let seen = Seen { a: a.as_ref(), b: b.as_ref(), baked: Some(DeployId::new(6)), can_save: true, counts: true, files: &files };
        let (saved, decision) = model::start(&seen);
        let decision = decision.expect("the baked one can always be started");
        column.gives(&format!("question {n}: {a:?} {b:?}"), &decision.short());
        for (which, before) in [(Copy::A, &a), (Copy::B, &b)] {
            let last = saved.iter().rev().find(|(copy, _)| *copy == which).map(|(_, block)| block).or(before.as_ref());
            let found = BootBlock::parse(&column.disk.get(which)).ok();
            assert_eq!(found.as_ref(), last, "{}: question {n}: {a:?} {b:?}: copy {which:?}", column.name);
        }
    }
}

/// Every fixture of a block, by its name.
pub fn block_fixtures() -> Vec<(String, Vec<u8>)> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/block");
    let files = std::fs::read_dir(dir).expect("fixtures").map(|e| e.expect("an entry").path());
    files.map(|p| (p.file_name().expect("a name").to_string_lossy().into_owned(), std::fs::read(&p).expect("bytes"))).collect()
}

/// Values that GRUB's commands take for options, some of them answered with help and without an error.
const OPTIONS: [&str; 8] = ["-h", "-hx", "-u", "--help", "--usage", "--", "-", "--set=1:ast_good"];

/// Blocks that nobody wrote: one value of a whole one, or two, is another; and so many of those at random.
pub fn odd_blocks(count: usize) -> Vec<(String, Vec<u8>)> {
    let whole = String::from_utf8(on_trial(7, 3).encode().expect("a block").to_vec()).expect("text");
    let lines: Vec<String> = whole.lines().filter(|line| line.starts_with("ast_")).map(str::to_owned).collect();
    let with = |changes: &[(usize, &str)]| {
        let mut lines = lines.clone();
        for (at, value) in changes {
            let name = lines[*at].split('=').next().expect("a name").to_owned();
            lines[*at] = format!("{name}={value}");
        }
        let text = format!("# GRUB Environment Block\n{}\n", lines.join("\n"));
        format!("{text:#<512}").into_bytes()
    };
    let options = OPTIONS.iter().enumerate().flat_map(|(n, option)| (0..lines.len()).map(move |at| (format!("option-{n}-{at}"), (at, *option))));
    let number = "[0-9]{1,11}|429496729[0-9]|0[0-9]|1{0,20}|[0-9]{0,3}[ -~&&[^0-9#\\\\]]{1,3}[0-9]{0,3}|trial|once||";
    let change = (0..lines.len(), number);
    let changes = proptest::collection::vec(change, 1..3);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let random = (0..count).map(|n| {
        let changes = changes.new_tree(&mut runner).expect("a change").current();
        (format!("odd-{n}"), with(&changes.iter().map(|(at, value)| (*at, value.as_str())).collect::<Vec<_>>()))
    });
    let options = options.map(|(name, change)| (name, with(&[change])));
    // Behind a version that passes, nothing of the rest would be looked at.
    let evil = with(&[(0, "-h"), (1, "../../../evil;x"), (5, "junk")]);
    options.chain([("option-evil".to_owned(), evil)]).chain(random).collect()
}

/// The script, which said `text`, takes each of these as the host and the initramfs do.
pub fn reads_alike(read: &[(String, Vec<u8>)], text: &str) {
    // What GRUB's commands cannot tell: the size of a file, what is behind the last line, a name that is there twice. All start what they name,
    // and what they name is counted or falls back like any other.
    const LAXER: [&str; 5] = ["size-1024", "size-511", "hostile-prefix-twice", "end-not-last", "torn-first-half"];
    let mut wrong = Vec::new();
    for (file, bytes) in read {
        let ours = BootBlock::parse(bytes).map(|b| format!("good {}", b.good)).unwrap_or_else(|_| "bad".into());
        let line = text.lines().find_map(|l| l.trim_end().strip_prefix(&format!("ast_read {file} "))).unwrap_or("nothing");
        if line != ours && !LAXER.contains(&file.as_str()) {
            wrong.push(format!("{file}: GRUB {line}, host {ours}: {}", String::from_utf8_lossy(bytes).trim_end_matches('#')));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
