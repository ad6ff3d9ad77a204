//! The menu of a machine with thousands of snapshots: what it costs to write it, what programs that takes, and what GRUB makes of it.

use std::path::Path;
use std::time::{Duration, Instant};

use ast::boot::block::BootBlock;
use ast::grub::BootEnv;
use ast::id::{DeployId, SetId, SnapshotId};
use ast::install::{Boot, Grub};
use ast::layout::{Layout, Part};
use ast::store::document;
use ast::tree::Later;

use crate::decide::Decider;
use crate::decide::disk::{DecisionDisk, Wish};
use crate::lab::grub::{self, Platform, Suite};
use crate::vm::offline::Offline;
use crate::vm::{Disk, Vm, VmConfig};

use super::rows::{documents, failed};
use super::{BenchError, Time, median, shell};

/// Snapshots of the machine.
pub(crate) const SNAPSHOTS: u32 = 5000;
/// Snapshots that the other way is timed with; it takes time for each, and nothing else.
const SAMPLE: u32 = 200;
/// How often a verb and a start are timed.
const TIMES: usize = 5;
/// Longest that a menu may take to be painted.
const SOON: Duration = Duration::from_secs(120);
/// After keys that only move, until the menu is painted again.
const SETTLED: Duration = Duration::from_secs(1);

/// What `41_snapshots-btrfs` of grub-btrfs (as of 2025) starts for each snapshot in its usual setting (snapper's, `/boot` inside of the snapshot), in its
/// order and its kind: a shell for each `$(…)`, a shell and a program for each end of a pipe. What it does besides, within its own shell, is left out.
const LOOP: &str = r#"
trim() { local v="$*"; v="${v#"${v%%[![:space:]]*}"}"; v="${v%"${v##*[![:space:]]}"}"; echo -n "$v"; }
out=$1/out; : > "$out"
for n in $(seq "$2"); do
  meta=$(echo "a/b/$n" | awk -F'/' '{print $3}')
  kind=$(awk -F'<|>' 'match($2, /^type/) {print $3}' "$1/info.xml")
  text=$(awk -F'<|>' 'match($2, /^description/) {print $3}' "$1/info.xml")
  item="2024-01-01 00:00:00 | @snapshots/$n/snapshot | $kind | $text |"
  date=" $(echo "$item" | cut -d'|' -f1)"; date_trim="$(trim "$date")"
  path="$(echo "$item" | cut -d'|' -f2)"; path_trim="$(trim "$path")"
  kind="$(echo "$item" | cut -d'|' -f3)"
  text="$(echo "$item" | cut -d'|' -f4)"
  flags=$(grep -oE '^\s*[^#][[:graph:]]+\s+/\s+btrfs\s+[[:graph:]]+' "$1/fstab" | sed -E 's/^.*[[:space:]]([[:graph:]]+)$/\1/;s/^,//')
  title=
  for word in "$date" "$path" "$kind" "$text"; do
    word="$(sed "s/'//g" <(echo "$word"))"; title+=" $(trim "$word") |"
  done
  relative=$(grub-mkrelpath "$1")
  for line in $(seq -s ' ' 1 1) 2 3 4 5 6 7 8 9 10 11; do echo "    $line $title $meta $flags $relative" >> "$out"; done
done
"#;

/// Writes what is measured about the menu.
pub(super) fn measure(ast: &Path) -> Result<(), BenchError> {
    println!("\n{:<44} {:>12} {:>12} {:>8}  wanted", "menu", "2", "5,000", "ratio");
    written(ast)?;
    for suite in [Suite::G206, Suite::G214] {
        in_grub(suite)?;
    }
    Ok(())
}

/// What GRUB's script takes on a good start, alone.
pub(super) fn scripts() -> Result<(), BenchError> {
    [Suite::G206, Suite::G214].into_iter().try_for_each(|suite| script(suite, &bios(suite)?))
}

fn bios(suite: Suite) -> Result<Grub, BenchError> {
    let found = grub::build(&crate::lab::cache::cache_dir(), suite)?;
    Ok(Grub {
        mkimage: found.tool("grub-mkimage")?.first().map(Into::into).unwrap_or_default(),
        modules: found.modules_dir(Platform::Bios),
        version: suite.version().to_owned(),
    })
}

fn script(suite: Suite, grub: &Grub) -> Result<(), BenchError> {
    let script = counted(grub)?;
    let well = if script <= Duration::from_millis(50) { "yes" } else { "NO" };
    println!("{:<44} {:>12} {:>21}  ≤ 50 ms: {well}", format!("GRUB {}: the script, 10⁹ instructions/s", suite.version()), Time(script), "");
    Ok(())
}

/// What the real GRUB makes of it: an emulated machine, times as its serial line brings them.
fn in_grub(suite: Suite) -> Result<(), BenchError> {
    let grub = bios(suite)?;
    let looks = |name: &str, snapshots: u32| -> Result<Vec<Looked>, BenchError> {
        // The first command of the script, and the last one.
        let around = Some(["begins", "ends"].map(|word| format!("echo ast-bench {word}\n")));
        let disk = DecisionDisk::make(Boot::BiosGap, &grub, &Wish { timeout: 60, snapshots, around, ..Wish::default() });
        disk.set_both(&BootBlock { prev: Some(DeployId::new(5)), ..BootBlock::new(DeployId::new(6)) });
        let mut machine = Decider::start(name, &disk, false);
        (0..TIMES).map(|_| look(&mut machine)).collect()
    };
    let taken = [looks("bench-menu-few", 0)?, looks("bench-menu-many", SNAPSHOTS)?];
    let medians = |pick: fn(&Looked) -> Duration| taken.each_ref().map(|all| median(all.iter().map(pick).collect()));
    let version = suite.version();
    type Row = (&'static str, fn(&Looked) -> Duration, fn(Duration, Duration) -> bool, &'static str);
    let rows: [Row; 4] = [
        ("main menu, script to painted", |l| l.main, |few, many| many.as_secs_f64() <= few.as_secs_f64() * 1.2, "≤ 1.2×"),
        ("  of that, the script", |l| l.script, |few, many| many.as_secs_f64() <= few.as_secs_f64() * 1.2, "≤ 1.2×"),
        ("submenu, key to painted", |l| l.submenu, |_, many| many <= Duration::from_secs(3), "≤ 3 s"),
        ("its first group, key to painted", |l| l.group, |_, many| many <= Duration::from_secs(3), "≤ 3 s"),
    ];
    for (name, pick, well, wanted) in rows {
        let [few, many] = medians(pick);
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        let well = if well(few, many) { "yes" } else { "NO" };
        println!("{:<44} {:>12} {:>12} {ratio:>7.2}×  {wanted}: {well}", format!("GRUB {version}: {name}"), Time(few), Time(many));
    }
    script(suite, &grub)
}

/// Time of the script as GRUB's own clock has it, in a machine that does a thousand million instructions a second, whatever else runs here.
fn counted(grub: &Grub) -> Result<Duration, BenchError> {
    let around = Some([String::new(), String::new()]);
    let disk = DecisionDisk::make(Boot::BiosGap, grub, &Wish { timeout: 60, modules: true, around, ..Wish::default() });
    disk.set_both(&BootBlock { prev: Some(DeployId::new(5)), ..BootBlock::new(DeployId::new(6)) });
    let offline = Offline::open(disk.path()).map_err(failed)?;
    let system = offline.partitions().iter().max_by_key(|p| p.len).map(|p| p.number).unwrap_or(1);
    let top = offline.mount(system, "subvolid=5").map_err(failed)?;
    let (script, beside) = (top.path("@boot/grub/grub.cfg"), top.path("@boot/grub/timed.cfg"));
    let io = |source| BenchError::Io { what: script.display().to_string(), source };
    std::fs::rename(&script, &beside).map_err(io)?;
    std::fs::write(&script, "insmod time\ntime source ($root)/@boot/grub/timed.cfg\necho ast-bench ends\n").map_err(io)?;
    top.unmount().map_err(failed)?;
    offline.close().map_err(failed)?;
    let mut config = VmConfig::new("bench-menu-script");
    config.mem_mb = 128;
    config.extra_args = ["-icount", "shift=0,sleep=off"].map(String::from).into();
    let mut vm = Vm::start(config.disk(Disk::raw(disk.path()))).map_err(failed)?;
    let seen = vm.expect(r"Elapsed time: ([0-9.]+) seconds", SOON).map_err(failed)?;
    let seconds = seen.groups.get(1).cloned().flatten().and_then(|text| text.parse().ok()).unwrap_or(f64::MAX);
    Duration::try_from_secs_f64(seconds).map_err(failed)
}

/// Times of one start.
struct Looked {
    script: Duration,
    main: Duration,
    submenu: Duration,
    group: Duration,
}

fn look(machine: &mut Decider<'_>) -> Result<Looked, BenchError> {
    machine.reset();
    let seen = |vm: &mut crate::vm::Vm, what: &str| vm.expect(what, SOON).map(|seen| seen.at).map_err(failed);
    let vm = &mut machine.vm;
    let begun = seen(vm, "ast-bench begins")?;
    let ended = seen(vm, "ast-bench ends")?;
    let painted = seen(vm, "will be executed automatically")?;
    // From the top: the good one, the one before, the submenu.
    vm.send("\x01\x0e\x0e").map_err(failed)?;
    std::thread::sleep(SETTLED);
    vm.skip();
    let pressed = vm.elapsed();
    vm.send("\r").map_err(failed)?;
    let opened = seen(vm, "previous menu")?;
    std::thread::sleep(SETTLED);
    vm.skip();
    let chosen = vm.elapsed();
    vm.send("\r").map_err(failed)?;
    // With few snapshots that is the first of them, which is not bootable and says so.
    let inside = seen(vm, "previous menu|no kernel or no initramfs")?;
    Ok(Looked { script: ended - begun, main: painted - begun, submenu: opened.saturating_sub(pressed), group: inside.saturating_sub(chosen) })
}

/// The menu is written, with all that a verb does besides.
fn written(ast: &Path) -> Result<(), BenchError> {
    let dir = tempfile::tempdir().map_err(|source| BenchError::Io { what: "a directory".to_owned(), source })?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(failed)?;
    ast::sys::mount::make_private().map_err(failed)?;
    let mut taken = Vec::new();
    for count in [2, SNAPSHOTS] {
        let root = dir.path().join(count.to_string());
        shell(&format!(
            "mkdir {r}; truncate -s 2G {r}.img; mkfs.btrfs -q {r}.img; mount -o loop,noatime {r}.img {r}; btrfs -q subvolume create {r}/.snapshots",
            r = root.display()
        ))?;
        machine(&root, count)?;
        let mut times = Vec::new();
        let mut verbs = ["pin", "unpin"].into_iter().cycle();
        for round in 0..=TIMES {
            let verb = verbs.next().unwrap_or("pin");
            let begun = Instant::now();
            shell(&format!("{} -q --sysroot {} {verb} 1", ast.display(), root.display()))?;
            times.extend((round > 0).then(|| begun.elapsed()));
        }
        taken.push(median(times));
        if count == SNAPSHOTS {
            let line = format!("{} -q --sysroot {} pin 1", ast.display(), root.display());
            shell(&line.replace(" pin ", " unpin "))?;
            told_programs(&line)?;
        }
    }
    let [few, many] = taken[..] else { return Ok(()) };
    let each = others_way(dir.path())?;
    let theirs = each * SNAPSHOTS;
    let ratio = theirs.as_secs_f64() / many.as_secs_f64();
    println!("{:<44} {:>12} {:>12}", "a verb that writes it", Time(few), Time(many));
    println!(
        "{:<44} {:>12} {:>12} {ratio:>7.0}×  ≥ 100×: {}",
        format!("programs for each, as grub-btrfs ({})", Time(each)),
        "",
        Time(theirs),
        if ratio >= 100.0 { "yes" } else { "NO" }
    );
    shell(&format!("umount {d}/2 {d}/{SNAPSHOTS}", d = dir.path().display()))?;
    Ok(())
}

/// Time of the other way for one snapshot.
fn others_way(dir: &Path) -> Result<Duration, BenchError> {
    let write = |name: &str, text: &str| ast::sys::file::replace(&dir.join(name), text.as_bytes()).map_err(failed);
    write("loop.sh", LOOP)?;
    write("fstab", "UUID=1 / btrfs rw,noatime 0 0\n")?;
    write("info.xml", "<snapshot>\n  <type>single</type>\n  <description>number 1</description>\n</snapshot>\n")?;
    let run = |count: u32| -> Result<Duration, BenchError> {
        let begun = Instant::now();
        shell(&format!("bash {d}/loop.sh {d} {count}", d = dir.display()))?;
        Ok(begun.elapsed())
    };
    run(SAMPLE / 10)?;
    let nothing = run(0)?;
    Ok((run(SAMPLE)?.saturating_sub(nothing)) / SAMPLE)
}

/// How many processes and programs the verb starts, itself included.
fn told_programs(line: &str) -> Result<(), BenchError> {
    let out = shell(&format!("strace -f -qq -e trace=clone,clone3,fork,vfork,execve {line} 2>&1"))?;
    let count = |names: &[&str]| out.lines().filter(|l| names.iter().any(|n| l.contains(&format!("{n}("))) && !l.contains("ENOENT")).count();
    println!("{:<44} {:>12} {:>12}", "processes, programs that the verb starts", "", format!("{}, {}", count(&["clone", "clone3", "fork", "vfork"]), count(&["execve"])));
    Ok(())
}

/// A machine at `root` with `count` snapshots, each with what the menu looks at, and a deployment of the base. No subvolumes: they would take
/// minutes to make, and cost the same to look at.
fn machine(root: &Path, count: u32) -> Result<(), BenchError> {
    documents(root, count)?;
    let layout = Layout::of_sysroot(root);
    let tree: ast::tree::Tree = document::load(&layout.document(ast::layout::TREE)).map_err(failed)?.body;
    let env = BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], &["quiet".into()], "Arch").and_then(|e| e.encode()).map_err(failed)?;
    let boot = |dir: &Path| -> std::io::Result<()> {
        std::fs::create_dir_all(dir)?;
        for (name, bytes) in [("vmlinuz-linux", &b"kernel"[..]), ("initramfs-linux.img", b"image"), (ast::layout::BOOT_ENV, &env)] {
            std::fs::write(dir.join(name), bytes)?;
        }
        Ok(())
    };
    let io = |source| BenchError::Io { what: root.display().to_string(), source };
    for node in tree.nodes() {
        let set: SetId = node.set();
        std::fs::create_dir_all(layout.set_part(set, Part::Root).join("usr/lib/modules/6.12.9-arch1-1")).map_err(io)?;
        boot(&layout.set_part(set, Part::Boot)).map_err(io)?;
    }
    let d = DeployId::new(1);
    boot(&layout.deployment_part(d, Part::Boot)).map_err(io)?;
    let record = ast::deploy::record::Record {
        d,
        set: tree.set_of(SnapshotId::BASE).map_err(failed)?,
        created: 1_700_000_000,
        by: "bench".to_owned(),
        later: Later::new(),
    };
    document::save(&layout.deployment_record(d), &record).map_err(failed)?;
    std::fs::create_dir_all(root.join("boot/grub/ast")).map_err(io)
}
