//! What is compared with what (issue: "Speed").

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ast::id::{DeployId, SnapshotId};
use ast::layout::{self, Layout};
use ast::store::document;
use ast::tree::{Label, Tree};

use super::bed::Bed;
use super::{BenchError, Row, Side, shell};
use crate::lab::cache::{cache_dir, once};

/// How often a reading verb is timed, and one that writes.
const OFTEN: usize = 51;
const SOME: usize = 11;
/// Snapshots of the machine whose tree is read.
const SNAPSHOTS: u32 = 1000;

pub(super) fn failed(error: impl std::fmt::Display) -> BenchError {
    BenchError::Ast(error.to_string())
}

/// A directory with the documents of a machine that has `count` snapshots: chains of five below the root, all described.
pub(super) fn documents(dir: &Path, count: u32) -> Result<(), BenchError> {
    let layout = Layout::of_sysroot(dir);
    let label = |text: String| Label { description: text, created: 1_700_000_000 };
    let mut tree = Tree::new(label("base snapshot".to_owned()));
    let mut above: Option<SnapshotId> = None;
    for n in 1..count {
        let new = tree.add(above.filter(|_| n % 5 != 0), label(format!("snapshot with applications, number {n}")), None).map_err(failed)?;
        above = Some(new);
    }
    ast::sys::file::make_dirs(&layout.documents()).map_err(failed)?;
    document::save(&layout.document(layout::TREE), &tree).map_err(failed)?;
    let machine = ast::store::machine::Machine {
        fs_uuid: "00000000-0000-0000-0000-000000000000".to_owned(),
        firmware: ast::store::machine::Firmware::Bios,
        block: ast::store::machine::Block::Local,
        esp_uuid: None,
        grub_version: Some("2.14".to_owned()),
        luks: Vec::new(),
        migration: None,
        later: Default::default(),
    };
    document::save(&layout.document(layout::MACHINE), &machine).map_err(failed)?;
    let medium = ast::boot::medium::Medium::Local { path: layout.document(layout::LOCAL_BLOCK) };
    medium.create(&ast::boot::BootBlock::new(DeployId::new(1))).map_err(failed)?;
    let run = dir.join("run/ast");
    ast::sys::file::make_dirs(&run).map_err(failed)?;
    ast::sys::file::replace(&run.join("booted"), b"d=1\nset=7.1\nwhy=good\narm=0\nleft=0\nenv=ok\n").map_err(failed)
}

/// The same tree as the original keeps it: one line, a Python literal. Source: LEGACY facts on `fstree`.
fn fstree(count: u32) -> String {
    let mut children = String::from("{'name': '0'}");
    for n in (1..count).step_by(5) {
        let last = (n + 4).min(count - 1);
        let open: String = (n..=last).map(|id| format!(", {{'name': {id}, 'children': [")).collect::<String>();
        let inner = open.trim_start_matches(", ").replace("[, {", "[{");
        children.push_str(&format!(", {inner}{}", "]}".repeat((last - n + 1) as usize)));
    }
    format!("{{'name': 'root', 'children': [{children}]}}")
}

/// Verbs that only read, beside Python that parses the original's tree, and beside snapper.
pub(super) fn readers(ast: &Path, dir: &Path) -> Result<Vec<Row>, BenchError> {
    documents(dir, SNAPSHOTS)?;
    let python = dir.join("fstree");
    ast::sys::file::replace(&python, fstree(SNAPSHOTS).as_bytes()).map_err(failed)?;
    let (parser, parse) = original(&python)?;
    let snapper = snapper(dir);
    if let Err(error) = &snapper {
        eprintln!("== skipped: beside snapper, because it cannot be set up: {error}");
    }
    let mut rows = Vec::new();
    for verb in ["tree", "current", "status"] {
        let ours = Side::new("ast", format!("{} --sysroot {} {verb} > /dev/null", ast.display(), dir.display()));
        let what = format!("{verb}, {SNAPSHOTS} snapshots");
        let theirs = Side::new(parser, parse.clone());
        rows.push(Row { what: what.clone(), ours: ours.clone(), theirs, at_least: Some(20.0), allowed: Duration::ZERO, times: OFTEN });
        if let Ok(line) = &snapper {
            let theirs = Side::new("snapper list", line.clone());
            rows.push(Row { what, ours, theirs, at_least: Some(1.0), allowed: Duration::ZERO, times: SOME });
        }
    }
    Ok(rows)
}

/// What the original does before every verb: Python starts, and its tree file becomes a tree. Source: the original's `import_tree_file` and
/// anytree's `DictImporter`. Where pip cannot bring anytree, the file is only parsed.
fn original(fstree: &Path) -> Result<(&'static str, String), BenchError> {
    // The distribution's own, not whatever a developer put in front of it.
    const PYTHON: &str = "/usr/bin/python3";
    let literal = format!("ast.literal_eval(open(\"{}\").read())", fstree.display());
    let made = once(&cache_dir().join("anytree"), |dir| {
        let install = format!("python3 -m pip install -q --disable-pip-version-check --target {} anytree", dir.display());
        shell(&install).map(drop).map_err(|_| crate::lab::Error::NothingBuilt { what: "pip", dir: dir.to_owned() })
    });
    let (what, line) = match made {
        Ok(lib) => {
            let tree = format!("import ast; from anytree.importer import DictImporter; DictImporter().import_({literal})");
            ("Python reading the original's tree", format!("PYTHONPATH={} {PYTHON} -c '{tree}'", lib.display()))
        }
        Err(error) => {
            eprintln!("== without anytree, which the original needs: {error}");
            ("Python parsing the original's file", format!("{PYTHON} -c 'import ast; {literal}'"))
        }
    };
    shell(&line)?;
    Ok((what, line))
}

/// `snapper list` of a btrfs with as many snapshots, by the real program. The mounts are this process's own.
fn snapper(dir: &Path) -> Result<String, BenchError> {
    shell("command -v snapper > /dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends snapper > /dev/null 2>&1")?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(failed)?;
    ast::sys::mount::make_private().map_err(failed)?;
    shell(&format!(
        "cd {d}; truncate -s 1G snapper.img; mkfs.btrfs -q snapper.img; mkdir -p s; mount -o loop snapper.img s; btrfs -q subvolume create s/.snapshots; \
         mkdir -p /run/ast-bench; mount -t tmpfs none /etc/snapper 2>/dev/null || {{ mkdir -p /etc/snapper; mount -t tmpfs none /etc/snapper; }}; mkdir -p /etc/snapper/configs; \
         printf 'SUBVOLUME=\"%s\"\\nFSTYPE=\"btrfs\"\\n' {d}/s > /etc/snapper/configs/bench; \
         for n in $(seq 1 {SNAPSHOTS}); do mkdir s/.snapshots/$n; btrfs -q subvolume snapshot -r s s/.snapshots/$n/snapshot; \
         printf '<?xml version=\"1.0\"?>\\n<snapshot>\\n  <type>single</type>\\n  <num>%s</num>\\n  <date>2024-01-01 00:00:00</date>\\n  <description>number %s</description>\\n</snapshot>\\n' $n $n > s/.snapshots/$n/info.xml; done; \
         snapper --no-dbus -c bench list | tail -1 | grep -q 1000",
        d = dir.display()
    ))?;
    Ok("snapper --no-dbus -c bench list > /dev/null".to_owned())
}

/// Verbs that change something.
pub(super) fn writers(bed: &Bed) -> Result<Vec<Row>, BenchError> {
    let root = bed.root.display().to_string();
    let ast = &bed.ast;
    let set = format!("{root}/.snapshots/sets/0.1");
    let copies = |to: &str| ["root", "etc", "var", "boot"].map(|part| format!("btrfs -q subvolume snapshot -r {set}/{part} {root}/.snapshots/bench/{to}-{part}")).join("; ");
    let gone = |to: &str| ["root", "etc", "var", "boot"].map(|part| format!("btrfs -q subvolume delete {root}/.snapshots/bench/{to}-{part} > /dev/null")).join("; ");
    shell(&format!("mkdir -p {root}/.snapshots/bench {root}/mnt"))?;
    // The root as it runs: for what has to look at a mounted one.
    let running = format!("{root}/mnt/running");
    let device = &bed.device;
    shell(&format!(
        "mkdir -p {running}; mount -o subvol=@.snapshots/deploy/1/root {device} {running}; mount -o subvol=@.snapshots/deploy/1/etc {device} {running}/etc; \
         mount -o subvol=@.snapshots/deploy/1/boot {device} {running}/boot; mount --bind {root}/boot/grub {running}/boot/grub; mount -o subvol=@.snapshots {device} {running}/.snapshots; for at in dev proc sys; do mount --rbind /$at {running}/$at; done; mount -t tmpfs none {running}/tmp; mount -t tmpfs none {running}/run"
    ))?;
    // A plain chroot: the same packages in subvolumes of its own.
    let plain = format!("{root}/mnt/plain");
    shell(&format!(
        "btrfs -q subvolume snapshot {set}/root {root}/.snapshots/bench/plain-root; btrfs -q subvolume snapshot {set}/etc {root}/.snapshots/bench/plain-etc; \
         btrfs -q subvolume snapshot {set}/var {root}/.snapshots/bench/plain-var; mkdir -p {plain}; mount -o subvol=@.snapshots/bench/plain-root {device} {plain}; \
         mount -o subvol=@.snapshots/bench/plain-etc {device} {plain}/etc; mount -o subvol=@.snapshots/bench/plain-var {device} {plain}/var; \
         mkdir -p {plain}/var/cache/pacman/pkg; mount --bind {root}/var/cache/pacman/pkg {plain}/var/cache/pacman/pkg"
    ))?;
    // As on every machine that somebody uses: what is booted has reported well.
    shell(&format!("{ast} good"))?;
    let number = shell(&format!("{ast} --json clone 0 | sed -n 's/.*\"snapshot\": *\\([0-9]*\\).*/\\1/p'"))?.trim().to_owned();
    let n = if number.is_empty() { "1".to_owned() } else { number };
    // Both have the newest databases, and hello in the cache.
    shell(&format!("{ast} upgrade {n} && {ast} remove {n} hello && arch-chroot {plain} pacman -Syu --noconfirm && arch-chroot {plain} pacman -R --noconfirm hello"))?;
    let newest = "$(ls -v .snapshots/rootfs | tail -1 | sed 's/snapshot-//')";
    Ok(vec![
        Row {
            what: "clone".to_owned(),
            ours: Side::new("ast", format!("{ast} clone 0")).again(format!("cd {root}; {ast} del {newest}")),
            theirs: Side::new("btrfs subvolume snapshot, 4 times", copies("c")).again(gone("c")),
            at_least: Some(1.0),
            allowed: Duration::ZERO,
            times: SOME,
        },
        Row {
            what: "clone".to_owned(),
            ours: Side::new("ast", format!("{ast} clone 0")).again(format!("cd {root}; {ast} del {newest}")),
            theirs: Side::new("the same and one sync", format!("{}; sync -f {root}/.snapshots", copies("c"))).again(gone("c")),
            at_least: Some(1.0 / 1.3),
            allowed: Duration::ZERO,
            times: SOME,
        },
        Row {
            what: "deploy".to_owned(),
            ours: Side::new("ast", format!("{ast} deploy --no-trial 0")),
            theirs: Side::new("grub-mkconfig alone", format!("chroot {running} grub-mkconfig -o /tmp/grub.cfg 2> /dev/null")),
            at_least: Some(10.0),
            allowed: Duration::ZERO,
            times: SOME,
        },
        Row {
            what: "run N true".to_owned(),
            ours: Side::new("ast", format!("{ast} run {n} true")),
            theirs: Side::new("arch-chroot true", format!("arch-chroot {plain} true")),
            at_least: Some(1.0),
            allowed: Duration::ZERO,
            times: SOME,
        },
        Row {
            what: "install N hello".to_owned(),
            ours: Side::new("ast", format!("{ast} install {n} hello")).again(format!("{ast} remove {n} hello")),
            theirs: Side::new("the same pacman in a chroot", format!("arch-chroot {plain} pacman -S --needed --noconfirm hello"))
                .again(format!("arch-chroot {plain} pacman -R --noconfirm hello")),
            at_least: Some(1.0 / 1.05),
            allowed: Duration::from_millis(50),
            times: SOME,
        },
    ])
}

/// Reading verbs at 100 and 10,000 snapshots: time by time, and memory.
pub(super) fn grows(ast: &Path) -> Result<(), BenchError> {
    println!("\n{:<28} {:>12} {:>14} {:>8} {:>12}  wanted", "reading", "100", "10,000", "ratio", "memory");
    let dir = |count: u32| -> Result<tempfile::TempDir, BenchError> {
        let dir = super::scratch()?;
        documents(dir.path(), count)?;
        Ok(dir)
    };
    let (small, large) = (dir(100)?, dir(10_000)?);
    for verb in [&["tree"][..], &["current"], &["status"], &["--json", "tree"]] {
        let mut taken = [Vec::new(), Vec::new()];
        let mut memory = 0;
        for _ in 0..SOME {
            for (dir, times) in [small.path(), large.path()].into_iter().zip(&mut taken) {
                let begun = Instant::now();
                memory = memory.max(peak(ast, dir, verb)?);
                times.push(begun.elapsed());
            }
        }
        let [small, large] = taken.map(super::median);
        let ratio = large.as_secs_f64() / small.as_secs_f64();
        let linear = if ratio <= 100.0 && memory < 50 << 10 { "≤ 100×, < 50 MB: yes" } else { "≤ 100×, < 50 MB: NO" };
        println!("{:<28} {:>12} {:>14} {ratio:>7.1}× {:>9} MB  {linear}", verb.join(" "), super::Time(small), super::Time(large), memory >> 10);
    }
    Ok(())
}

/// Peak resident memory of one run, in KiB.
fn peak(ast: &Path, dir: &Path, verb: &[&str]) -> Result<u64, BenchError> {
    let io = |source| BenchError::Io { what: ast.display().to_string(), source };
    let mut child = Command::new(ast).arg("--sysroot").arg(dir).args(verb).stdout(Stdio::piped()).spawn().map_err(io)?;
    let mut out = child.stdout.take();
    let status_path = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    if let Some(out) = out.as_mut() {
        // Read slowly enough to look: what it holds at its peak it still holds when it prints.
        let mut first = [0; 1];
        std::io::Read::read(out, &mut first).map_err(io)?;
        let text = std::fs::read_to_string(&status_path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
        peak = line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).unwrap_or(0);
        std::io::copy(out, &mut std::io::sink()).map_err(io)?;
    }
    let status = child.wait().map_err(io)?;
    if !status.success() {
        return Err(BenchError::Command { what: verb.join(" "), status: std::process::ExitStatus::from_raw(status.into_raw()), tail: String::new() });
    }
    Ok(peak)
}
