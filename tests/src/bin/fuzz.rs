//! Feeds damaged and random input to everything that reads what others wrote: GRUB scripts, `/etc/default/grub`, environment blocks, the kernel
//! command line, `/etc/fstab`, LUKS headers, what `os-prober` prints, and titles on their way into a menu. `cargo run -p ast-tests --bin fuzz -- --seconds 600`
//!
//! Each input is a fixture, cut, spliced and changed, or plain noise. An input that panics, takes too long or breaks what must hold is kept in the
//! cache's `fuzz/` and printed with the seed that made it; the exit status is 1 then.
#![allow(clippy::disallowed_methods, reason = "throw-away files of the lab")]

use ast::boot::block::BootBlock;
use ast::cmdline::{Cmdline, Root};
use ast::fstab::{self, Line, Options};
use ast::grub::defaults::Defaults;
use ast::grub::menu::{clean, quote};
use ast::grub::other::OtherSystem;
use ast::grub::parser::{What, entries, parse};
use ast::grub::{Baked, BootEnv};
use ast::others::{self, Kernel, Start, System};
use ast::sys::mount::MsFlags;
use clap::Parser;
use sha2::{Digest as _, Sha256};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Longest input: some times the largest file that is read in earnest.
const LONGEST: usize = 64 * 1024;
/// More of the processor than this for one input is not linear any more, unoptimised and on the slowest machine of the lab.
const TOO_LONG: Duration = Duration::from_secs(2);
/// One reader after the other, this long each time.
const SLICE: Duration = Duration::from_millis(500);

#[derive(Debug, Parser)]
struct Args {
    /// How long, all readers together.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Where the inputs begin; the same seed gives the same inputs.
    #[arg(long)]
    seed: Option<u64>,
}

/// A reader, what it must keep to, and what its inputs are made of.
struct Target {
    name: &'static str,
    check: fn(&[u8]) -> Result<(), String>,
    corpus: Vec<Vec<u8>>,
    words: &'static [&'static str],
    runs: u64,
    bytes: u64,
    taken: u64,
    slowest: Duration,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let seed = args.seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_nanos() as u64));
    println!("seed {seed}");
    let mut random = Random(seed);
    let mut targets = targets();
    // An optimised build ends at its first panic: the input is kept before that.
    std::panic::set_hook(Box::new(|panic| {
        let (name, input) = &*CURRENT.lock().unwrap_or_else(|e| e.into_inner());
        println!("{name}: {panic}; input in {}", keep(name, input).display());
    }));
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let mut failures = 0;
    while Instant::now() < end && failures < 20 {
        for target in &mut targets {
            let slice = (Instant::now() + SLICE).min(end);
            while Instant::now() < slice {
                let input = target.input(&mut random);
                if let Err(why) = target.run(&input) {
                    failures += 1;
                    println!("{}: {why}; seed {seed}, input in {}", target.name, keep(target.name, &input).display());
                }
            }
        }
    }
    for Target { name, runs, bytes, taken, slowest, .. } in &targets {
        println!("{name:10} {runs:>10} runs, {taken:>9} taken, {:>6} MB, slowest {slowest:?}", bytes / 1_000_000);
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The reader that runs, and its input.
static CURRENT: Mutex<(&'static str, Vec<u8>)> = Mutex::new(("", Vec::new()));

impl Target {
    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        if let Ok(mut current) = CURRENT.lock() {
            current.0 = self.name;
            input.clone_into(&mut current.1);
        }
        let (check, start) = (self.check, processor());
        let result = catch_unwind(AssertUnwindSafe(|| check(input)));
        let took = processor().saturating_sub(start);
        self.runs += 1;
        self.bytes += input.len() as u64;
        self.slowest = self.slowest.max(took);
        match result {
            Err(panic) => Err(format!("panicked: {:?}", panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied()))),
            Ok(_) if took > TOO_LONG => Err(format!("took {took:?} for {} bytes", input.len())),
            Ok(Err(why)) if why.is_empty() => Ok(()),
            Ok(Err(why)) => Err(why),
            Ok(Ok(())) => {
                self.taken += 1;
                Ok(())
            }
        }
    }

    fn input(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = match random.below(20) {
            0 => (0..random.below(600)).map(|_| random.next() as u8).collect(),
            1 => self.words[random.below(self.words.len())].repeat(1 + random.below(3000)).into_bytes(),
            _ => self.corpus[random.below(self.corpus.len())].clone(),
        };
        for _ in 0..random.below(12) {
            self.change(&mut bytes, random);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&self, bytes: &mut Vec<u8>, random: &mut Random) {
        let (a, b) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
        let (from, to) = (a.min(b), a.max(b));
        match random.below(8) {
            0 if from < bytes.len() => bytes[from] ^= 1 << random.below(8),
            1 if from < bytes.len() => bytes[from] = random.next() as u8,
            2 => drop(bytes.drain(from..to.min(from + 40))),
            3 => bytes.truncate(from),
            4 => {
                let piece = bytes[from..to.min(from + 200)].to_vec();
                drop(bytes.splice(to..to, piece));
            }
            5 => {
                let other = &self.corpus[random.below(self.corpus.len())];
                let cut = random.below(other.len() + 1);
                drop(bytes.splice(from.., other[cut..].iter().copied()));
            }
            _ => {
                let word = self.words[random.below(self.words.len())];
                drop(bytes.splice(from..from, word.bytes()));
            }
        }
    }
}

/// Time that this thread had of the processor.
fn processor() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Taken, refused (an empty reason), or taken for something that it is not.
type Checked = Result<(), String>;

const REFUSED: fn() -> Checked = || Err(String::new());

fn script(input: &[u8]) -> Checked {
    let text = String::from_utf8_lossy(input);
    let Ok(found) = parse(&text) else { return REFUSED() };
    let inside = |span: &std::ops::Range<usize>| text.get(span.clone()).is_some_and(|s| !s.is_empty());
    let whole = found.iter().all(|s| inside(&s.span)) && entries(&found).iter().all(|e| inside(&e.span));
    if whole { Ok(()) } else { Err("a span is not in the text".into()) }
}

fn defaults(input: &[u8]) -> Checked {
    let found = Defaults::parse(&String::from_utf8_lossy(input));
    drop(ast::grub::menu::MenuSettings::from_defaults(&found));
    match found.kernel_args() {
        Ok(args) => match args.iter().any(|a| a.contains(|c: char| c.is_whitespace() || c.is_control() || "\"'\\".contains(c))) {
            false => Ok(()),
            true => Err(format!("carried: {args:?}")),
        },
        Err(_) => REFUSED(),
    }
}

fn block(input: &[u8]) -> Checked {
    let baked = Baked::parse(input).is_ok_and(|b| b.encode().ok().and_then(|bytes| Baked::parse(&bytes).ok()).as_ref() != Some(&b));
    let env = BootEnv::parse(input).is_ok_and(|e| e.encode().ok().and_then(|bytes| BootEnv::parse(&bytes).ok()).as_ref() != Some(&e));
    if baked || env {
        return Err("does not read back".into());
    }
    match BootBlock::parse(input) {
        // Keys of a later format may be too long together with ours; what fits must read back.
        Ok(found) => match found.encode().map(|bytes| BootBlock::parse(&bytes)) {
            Ok(Ok(again)) if again == found => Ok(()),
            other => Err(format!("does not read back: {other:?}")),
        },
        Err(_) => REFUSED(),
    }
}

fn cmdline(input: &[u8]) -> Checked {
    let found = Cmdline::parse(&String::from_utf8_lossy(input));
    let safe = match &found.root {
        Some(Root::Uuid(id) | Root::PartUuid(id)) => id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'),
        Some(Root::Label(name) | Root::PartLabel(name)) => !name.is_empty() && !name.chars().any(char::is_control),
        Some(Root::Device(path)) => path.starts_with("/dev") && !path.components().any(|part| part == std::path::Component::ParentDir),
        None => true,
    };
    if safe { Ok(()) } else { Err(format!("{found:?}")) }
}

/// What is left of a line neither leaves the root nor brings the kernel anything that is ours.
fn fstab(input: &[u8]) -> Checked {
    let lines: Vec<Line> = String::from_utf8_lossy(input).lines().filter_map(Line::parse).collect();
    for line in &lines {
        if let Some(path) = line.below_root() {
            let plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            if !plain || fstab::unit_of(&path).contains('/') || (path.as_os_str().is_empty() && !fstab::is_ours(&path)) {
                return Err(format!("{line:?} is below the root at {path:?}"));
            }
        }
        let options = Options::of_root(&line.options);
        let ours = |option: &str| ["ro", "rw", "noexec"].contains(&option) || ["subvol=", "subvolid=", "compress-force", "nobarrier", "rescue=", "device="].iter().any(|name| option.starts_with(name));
        if options.btrfs.split(',').any(ours) || options.flags.intersects(MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_REMOUNT | MsFlags::MS_BIND) {
            return Err(format!("{line:?} gives {options:?}"));
        }
    }
    if lines.is_empty() { REFUSED() } else { Ok(()) }
}

fn title(input: &[u8]) -> Checked {
    let title = clean(&String::from_utf8_lossy(input), 60);
    if title.chars().any(char::is_control) || title.chars().count() > 60 {
        return Err(format!("{title:?} is not one clean line"));
    }
    let line = format!("ast_snapshot 1 1.1 {}\n", quote(&title));
    let one = parse(&line).ok().filter(|s| s.len() == 1).and_then(|mut s| s.pop());
    match one.map(|s| s.what) {
        Some(What::Command { words, block: None }) if words.len() == 4 && words[3].literal().as_deref() == Some(&title) => Ok(()),
        other => Err(format!("{line:?} is read as {other:?}")),
    }
}

/// What other systems say of themselves: whatever it is, it makes one entry that reads back with its title, or none.
fn others(input: &[u8]) -> Checked {
    let text = String::from_utf8_lossy(input);
    let mut all: Vec<OtherSystem> = Vec::new();
    for System { device, name, start } in others::systems(&text) {
        if !device.starts_with("/dev/") {
            return Err(format!("{device:?} is no device"));
        }
        all.push(match start {
            Start::Program(path) => OtherSystem::Efi { title: name, fs_uuid: "ABCD-1234".into(), path },
            _ => OtherSystem::Bios { title: name, fs_uuid: "ABCD-1234".into() },
        });
    }
    let kernel = others::kernel(&text).zip(others::uuid(&text).or(Some("ABCD-1234".into())));
    all.extend(kernel.map(|(Kernel { path, initrd, args, .. }, fs_uuid)| OtherSystem::Linux { title: text.clone().into_owned(), fs_uuid, kernel: path, initrd, args }));
    let written: Vec<(&OtherSystem, String)> = all.iter().filter_map(|other| Some((other, other.entry().ok()?))).collect();
    for (other, text) in &written {
        let found = parse(text).map(|script| (script.len(), entries(&script))).map_err(|e| format!("{text:?}: {e}"))?;
        match found {
            (1, entries) if entries.len() == 1 && entries[0].title.as_ref() == Some(&other.entry_title()) => {}
            other => return Err(format!("{text:?} is read as {other:?}")),
        }
    }
    if written.is_empty() { REFUSED() } else { Ok(()) }
}

/// The input is the text of a header whose sums are right, and a header itself.
fn luks(input: &[u8]) -> Checked {
    const SIZE: usize = 0x4000;
    let mut header = vec![0; SIZE];
    let fields: [(usize, &[u8]); 5] =
        [(0, b"LUKS\xba\xbe\0\x02"), (14, &[0x40]), (72, b"sha256"), (168, b"aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"), (4096, &input[..input.len().min(SIZE - 4096)])];
    for (at, bytes) in fields {
        header[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let sum = Sha256::digest(&header);
    header[448..480].copy_from_slice(&sum);
    drop(ast::luks::parse(input));
    match ast::luks::parse(&header) {
        Ok(Some(found)) if found.slots.len() > SIZE || found.segments > SIZE => Err(format!("{found:?}")),
        // What is told to people has no control characters, whoever wrote the header.
        Ok(Some(found)) => match found.for_grub().map_err(|e| e.to_string()) {
            Err(why) if why.chars().any(char::is_control) => Err(why),
            _ => Ok(()),
        },
        Ok(None) => Err("it is LUKS".into()),
        Err(_) => REFUSED(),
    }
}

fn targets() -> Vec<Target> {
    let target = |name, check, corpus: Vec<Vec<u8>>, words| {
        assert!(!corpus.is_empty(), "{name} has no fixtures");
        Target { name, check, corpus, words, runs: 0, bytes: 0, taken: 0, slowest: Duration::ZERO }
    };
    let env = BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], &["quiet".into()], "Arch").and_then(|e| e.encode());
    let mut blocks = fixtures("block");
    blocks.extend(env.ok());
    let settings = "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet\"\nexport GRUB_DISTRIBUTOR=`x`\nA='b'\\''c'\nGRUB_CMDLINE_LINUX=\"$A ${B}\" # c\n";
    let header = r#"{"keyslots":{"0":{"type":"luks2","kdf":{"type":"pbkdf2","hash":"sha256"}},"1":{"type":"luks2","kdf":{"type":"argon2id","time":4}}},"segments":{"0":{"type":"crypt","offset":"16777216","size":"dynamic","encryption":"aes-xts-plain64"}}}"#;
    let line = "BOOT_IMAGE=(hd0,gpt2)/x root=UUID=12345678-1234-1234-1234-123456789abc ro ast.d=7 ast.why=trial ast.arm=4.11 ast.env=ok ast.block=files:ABCD-1234 ast.set=3.4 panic=10";
    vec![
        target("script", script, fixtures("grub"), SCRIPT_WORDS),
        target("defaults", defaults, vec![settings.into()], &["$(", "`", "\"", "'", "\\", "${", "}", "$A", "=", "+=", "\n", "#", "export ", "GRUB_TIMEOUT=", ";", "é"]),
        target("block", block, blocks, &["ast_end=1\n", "ast_good=", "\n", "\\", "#", "=", "\n\n", "ast_v=1\n", "4294967295", "ast_later=x\n", "# GRUB Environment Block\n"]),
        target("cmdline", cmdline, vec![line.into()], &[" ", "ast.d=", "ast.set=", "ast.arm=", ".", "\"", "root=UUID=", "4294967296", "1.1", "=", "ast.block=files:"]),
        target(
            "fstab",
            fstab,
            vec!["# x\nUUID=1-2 / btrfs rw,relatime,ssd,compress=zstd:3,subvolid=256,subvol=/@ 0 0\nLABEL=a /srv/a\\040b btrfs subvol=@srv,x-initrd.mount,nofail 0 0\n".into()],
            &[",", " ", "\t", "\n", "/", "..", "\\040", "\\057", "\\000", "\\", "ro", "noexec", "exec", "compress-force=", "nobarrier", "subvol=", "btrfs ", "auto ", "x-", "é", "\0"],
        ),
        target(
            "others",
            others,
            vec![
                "/dev/sda1@/EFI/Microsoft/Boot/bootmgfw.efi:Windows Boot Manager:Windows:efi\n/dev/sdb2:Debian GNU/Linux 12:Debian:linux\n/dev/sda2:Windows 7:W:chain\n".into(),
                "/dev/sdb2:/dev/sdb1:Debian:/boot/vmlinuz-6.1:/boot/a.img /boot/b.img:root=UUID=1 ro x=\"a b\" 'y z'\n".into(),
            ],
            &[":", "/dev/sdb1:/dev/sdb1:x:/vmlinuz:/i.img:", "/dev/sdb1:", ":chain\n", ":efi\n", ":linux\n", "@/", "'", "\"", "\\", "$", ";", "{", "}", "\n", " ", "#", "é", "\u{202e}", "--id"],
        ),
        target("luks", luks, vec![header.into()], &["{", "}", "[", "\"", ":", ",", "\"kdf\"", "\"keyslots\"", "\"segments\"", "null", "1e999", "\\u0000", "\"99999999999\"", "\0"]),
        target("title", title, vec!["kiosk, a 'title' with $(x)".into()], &["'", "\\", "\n", "\"", "}", "{", "$(", "\u{202e}", "\u{2028}", "'\\''", ";", "é"]),
    ]
}

const SCRIPT_WORDS: &[&str] = &[
    "if ", "then ", "elif ", "else ", "fi\n", "for i in ", "do ", "done\n", "while ", "until ", "function f ", "menuentry ", "submenu ", "{ ", "}\n", "'", "\"", "$", "${",
    "$\"", "\\", "\\\n", "#", ";", "\n", "|", "&&", "é", "a {", "[[ ", "$menuentry_id_option ", "--id ",
];

/// The content of every fixture of a kind.
fn fixtures(kind: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(kind);
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|entry| std::fs::read(entry.path()).ok()).collect()
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let dir = ast_tests::vm::cache_dir().join("fuzz");
    let path = dir.join(format!("{name}-{:016x}", input.iter().fold(0u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))));
    if let Err(error) = std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(&path, input)) {
        println!("{}: {error}", path.display());
    }
    path
}

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is not 0 (0 counts as 1).
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }
}
