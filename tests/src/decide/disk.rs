//! A disk of a machine that only decides: the real boot loader, script, menu and layout of subvolumes, with kernels of a hundred bytes.

use super::kernel;
use crate::image::luks;
use crate::lab::cache::cache_dir;
use crate::lab::grub::{Platform, Suite, build};
use crate::vm::{Offline, offline::Mounted};
use ast::boot::block::BootBlock;
use ast::cmdline::BlockPlace;
use ast::grub::defaults::Defaults;
use ast::grub::menu::{Health, MenuInput, MenuSettings, OtherSystem, SnapshotLine, sums};
use ast::grub::{Baked, BootEnv, ScriptConfig, Serial, install as menu_files};
use ast::id::{CoreId, DeployId};
use ast::install::core_image::{CORE_NEW, Inside, copy_modules};
use ast::install::{Boot, Grub, Target, Terminal, fat::Fat, table::Scheme};
use ast::layout::{FILE_BLOCK_A, FILE_BLOCK_B, FILE_TRY, Layout, RAW_BLOCK_A_SECTOR, RAW_BLOCK_B_SECTOR, RAW_TRY_SECTOR, SNAPSHOTS_SUBVOL};
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Bytes of the disk; sparse, of which some 30 MB are written.
const DISK: u64 = 2 << 30;
/// The partition of btrfs by number: the FAT of EFI comes first.
const BTRFS_PARTITION: [u32; 2] = [1, 2];

/// Which of the two copies of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Copy {
    A,
    B,
}

/// The key that GRUB has for an encrypted disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The right one, inside its core image.
    Inside,
    /// One that does not fit, there.
    Wrong,
    /// None: a person types it.
    Typed,
}

/// What is special about a disk.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// Seconds of the menu.
    pub timeout: u16,
    /// Where the script is told that the block is (`None`: where the machine has it).
    pub place: Option<BlockPlace>,
    /// Content of the file that is the block where GRUB cannot write.
    pub local: Vec<u8>,
    /// Blocks, by name, that the script's own function is asked about, instead of starting anything: it prints `ast_read NAME` and `good GOOD` or `bad`.
    pub read: Vec<(String, Vec<u8>)>,
    /// Another GRUB that is put beside the one that starts, as `ast boot-update --grub` does; it is asked for with [`DecisionDisk::ask_for_other`].
    pub other: Option<Other>,
    /// The btrfs is in LUKS2.
    pub luks: Option<Key>,
    /// What a grub-mkconfig puts before and behind the script.
    pub around: Option<[String; 2]>,
    /// How many snapshots the menu has beside the three that it always has.
    pub snapshots: u32,
    /// What `/etc/default/grub` says, in the place of the settings that are usual here.
    pub defaults: Option<String>,
    /// Whether the directory of GRUB's modules stays.
    pub modules: bool,
}

/// Another GRUB.
#[derive(Debug, Clone)]
pub struct Other {
    /// Its build.
    pub id: CoreId,
    /// It.
    pub grub: Grub,
    /// Whether it finds nothing: it looks for another filesystem, and has no script of its own.
    pub lost: bool,
}

/// A disk on which GRUB finds the deployments listed in [`DecisionDisk::make`].
#[derive(Debug)]
pub struct DecisionDisk {
    dir: TempDir,
    boot: Boot,
    /// What `grub.cfg` holds.
    script: Vec<u8>,
    /// Where A and B lie, in bytes from the beginning of the disk.
    blocks: [u64; 2],
    /// And the word that asks for another GRUB.
    word: u64,
    other: Option<CoreId>,
}

/// What is wrong with a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// The kernel differs from its sum in its last byte.
    Hash,
    NoKernel,
    NoInitramfs,
    /// `ast.env` is garbage, and its sum fits.
    Env,
    /// The kernel is none, and its sum fits.
    NotAKernel,
    /// `ast.sums` is empty.
    NoSums,
    /// The initramfs is there and cannot be read: it is compressed, and will be damaged.
    Unreadable,
    /// The end of the kernel is, in the same way. It has a stub.
    KernelUnreadable,
    /// The kernel has a stub that no firmware takes.
    Stub,
}

/// Deployments of the disk. 6 is baked as the good one, 5 ran before it, 7 is what is tried.
const DEPLOYMENTS: [(u32, Fault); 12] = [
    (5, Fault::Nothing),
    (6, Fault::Nothing),
    (7, Fault::Nothing),
    (8, Fault::Hash),
    (9, Fault::NoKernel),
    (10, Fault::NoInitramfs),
    (11, Fault::Env),
    (12, Fault::NotAKernel),
    (13, Fault::NoSums),
    (15, Fault::Unreadable),
    (16, Fault::KernelUnreadable),
    (17, Fault::Stub),
];

/// The lab's GRUB of this release, for this way to start.
pub fn grub(suite: Suite, boot: Boot) -> Grub {
    let found = build(&cache_dir(), suite).expect("a GRUB");
    let platform = if boot == Boot::Efi { Platform::Efi } else { Platform::Bios };
    let mkimage = found.tool("grub-mkimage").expect("a tool").remove(0).into();
    Grub { mkimage, modules: found.modules_dir(platform), version: suite.version().into() }
}

impl DecisionDisk {
    /// A disk that starts by `boot` with this GRUB.
    pub fn make(boot: Boot, grub: &Grub, wish: &Wish) -> Self {
        let dir = crate::vm::scratch::scratch_in_memory("decide").expect("a folder");
        let path = dir.path().join("disk.img");
        fs::File::create(&path).and_then(|f| f.set_len(DISK)).expect("a file");
        let disk = Target::whole(&path).expect("its size");
        let scheme = Scheme::new(boot, &disk).expect("room");
        scheme.write(&disk).expect("a table");
        let fat = scheme.fat.map(|extent| Fat::format(&disk.part(extent), "AST").expect("a FAT"));
        let luks = wish.luks.map(|key| (luks::format(dir.path()).expect("a container"), key));
        let behind = luks.as_ref().map_or(0, |(luks, _)| luks.header.data_offset);
        let btrfs = disk.part(scheme.btrfs).behind(behind);
        let attached = btrfs.attach().expect("a loop device");
        crate::vm::tool::tool("mkfs.btrfs", &["-q".as_ref(), "-f".as_ref(), attached.device().as_os_str()]).expect("a btrfs");
        drop(attached);

        let offline = Offline::open(&path).expect("the disk");
        let top = offline.mount_behind(BTRFS_PARTITION[usize::from(boot == Boot::Efi)], behind, "subvolid=5").expect("mounted");
        let uuid = ast::sys::btrfs::filesystem_uuid(top.root()).expect("its UUID");
        let there = || fat.as_ref().map_or(BlockPlace::Raw, |fat| BlockPlace::Files(fat.uuid()));
        let block = wish.place.clone().unwrap_or_else(there);
        fill(&top, boot, &ScriptConfig { fs_uuid: uuid.clone(), block, serial: Some(Serial { unit: 0, speed: 115_200 }) }, wish);
        let key = luks.as_ref().and_then(|(luks, key)| Some((luks.key.clone()?, key)));
        if let Some((right, key)) = key.filter(|(_, key)| **key != Key::Typed) {
            fs::write(top.path("@boot/grub/luks.key"), if *key == Key::Wrong { b"not it".to_vec() } else { right }).expect("written");
        }
        let containers: Vec<String> = luks.iter().map(|(luks, _)| luks.header.uuid.clone()).collect();
        let core = grub.install_to(boot, &top.path("@boot/grub"), &uuid, &containers, Terminal::Serial).expect("a core image");
        let script = fs::read(top.path("@boot/grub/grub.cfg")).expect("the script");
        if !wish.modules {
            // Everything is inside the core image: the directory of modules may be lost.
            fs::remove_dir_all(top.path("@boot/grub").join(boot.platform())).expect("removed");
        }
        if let Some(other) = &wish.other {
            put_other(&top, other, boot, &uuid, dir.path());
        }
        top.unmount().expect("unmounted");
        offline.close().expect("closed");

        match &fat {
            Some(fat) if boot == Boot::Efi => grub.place_on_esp(fat, &core).expect("room on the ESP"),
            _ => grub.embed(&disk, &scheme, &core).expect("embedded"),
        }
        let [a, b, word] = [RAW_BLOCK_A_SECTOR, RAW_BLOCK_B_SECTOR, RAW_TRY_SECTOR].map(|s| btrfs.offset + s * 512);
        let other = wish.other.as_ref().map(|other| other.id.clone());
        let mut made = Self { dir, boot, script, blocks: [a, b], word, other };
        if let Some(fat) = fat {
            let marks = [[b'A'; 512], [b'B'; 512], [b'W'; 512]];
            for (path, mark) in [FILE_BLOCK_A, FILE_BLOCK_B, FILE_TRY].iter().zip(&marks) {
                fat.make_dir(path.rsplit_once('/').expect("a directory").0).expect("made");
                fat.write(path, mark).expect("written");
            }
            let [a, b, word] = marks.map(|mark| *made.find(&mark, true).first().expect("the file's sector"));
            (made.blocks, made.word) = ([a, b], word);
        }
        made.write(made.word, &asking(None));
        if luks.is_some() {
            luks::encrypt_in_place(&made.path(), made.dir()).expect("encrypted");
        }
        made
    }

    /// The image.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    /// The folder it lies in.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// How it starts.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// A copy of the block holds these bytes (at most 512), at once, beside a running machine.
    pub fn set(&self, copy: Copy, bytes: &[u8]) {
        let mut sector = [0; 512];
        sector[..bytes.len()].copy_from_slice(bytes);
        self.write(self.blocks[copy as usize], &sector);
    }

    /// Both copies hold this block.
    pub fn set_both(&self, block: &BootBlock) {
        let bytes = block.encode().expect("a block");
        self.set(Copy::A, &bytes);
        self.set(Copy::B, &bytes);
    }

    /// The other GRUB is asked for.
    pub fn ask_for_other(&self) {
        self.write(self.word, &asking(Some(self.other.as_ref().expect("another GRUB"))));
    }

    /// Whether it still is.
    pub fn asks(&self) -> bool {
        let mut bytes = vec![0; 512];
        let file = fs::File::open(self.path()).expect("the disk");
        file.read_exact_at(&mut bytes, self.word).expect("read");
        bytes == asking(self.other.as_ref())
    }

    /// What a copy holds.
    pub fn get(&self, copy: Copy) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        let file = fs::File::open(self.path()).expect("the disk");
        file.read_exact_at(&mut bytes, self.blocks[copy as usize]).expect("read");
        bytes
    }

    /// Writes past every filesystem.
    pub fn write(&self, offset: u64, bytes: &[u8]) {
        let file = fs::File::options().write(true).open(self.path()).expect("the disk");
        file.write_all_at(bytes, offset).expect("written");
    }

    /// Every place of `wanted` is overwritten by garbage of its length; returns how to undo it.
    pub fn garble(&self, wanted: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let places = self.find(wanted, false);
        assert!(!places.is_empty(), "not on the disk: {:?}", String::from_utf8_lossy(wanted));
        let garbage: Vec<u8> = b"\nhalt\n}{'\"$(\0\xff".iter().copied().cycle().take(wanted.len()).collect();
        places.iter().for_each(|place| self.write(*place, &garbage));
        places.into_iter().map(|place| (place, wanted.to_vec())).collect()
    }

    /// The text of `grub.cfg`.
    pub fn script(&self) -> &[u8] {
        &self.script
    }

    /// Every place of `wanted` holds only `byte`; returns how to undo it.
    pub fn lose(&self, wanted: &[u8], byte: u8) -> Vec<(u64, Vec<u8>)> {
        let places = self.find(wanted, false);
        assert!(!places.is_empty(), "not on the disk: {:?}", String::from_utf8_lossy(wanted));
        places.iter().for_each(|place| self.write(*place, &vec![byte; wanted.len()]));
        places.into_iter().map(|place| (place, wanted.to_vec())).collect()
    }

    /// Every compressed file (of one whole block or more) is unreadable from now on.
    pub fn garble_compressed(&self) {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let places: Vec<u64> = self.find(&magic, false).into_iter().filter(|place| place % 4096 == 0).collect();
        assert!(!places.is_empty(), "nothing is compressed");
        places.iter().for_each(|place| self.write(*place, &[0; 64]));
    }

    /// What [`Self::garble`] did is undone.
    pub fn restore(&self, undo: Vec<(u64, Vec<u8>)>) {
        undo.iter().for_each(|(place, bytes)| self.write(*place, bytes));
    }

    /// Where these bytes lie on the disk; at sectors only, if `aligned`. Holes of the file are skipped.
    fn find(&self, wanted: &[u8], aligned: bool) -> Vec<u64> {
        use nix::unistd::{Whence, lseek};
        let file = fs::File::open(self.path()).expect("the disk");
        let (mut found, mut at) = (Vec::new(), 0);
        while let Ok(start) = lseek(&file, at, Whence::SeekData) {
            let end = lseek(&file, start, Whence::SeekHole).expect("an end");
            let mut data = vec![0; usize::try_from(end - start).expect("fits")];
            file.read_exact_at(&mut data, start.unsigned_abs()).expect("read");
            let hits = data.windows(wanted.len()).enumerate().filter(|(_, w)| *w == wanted);
            found.extend(hits.map(|(i, _)| start.unsigned_abs() + i as u64).filter(|place| !aligned || place % 512 == 0));
            at = end;
        }
        found
    }
}

/// The word that asks for this build, or for none.
fn asking(build: Option<&CoreId>) -> Vec<u8> {
    let device = tempfile::NamedTempFile::new().expect("a file");
    fs::write(device.path(), vec![0; 1 << 20]).expect("written");
    ast::boot::medium::Medium::Raw { device: device.path().to_owned() }.ask(build).expect("asked");
    let at = usize::try_from(RAW_TRY_SECTOR * 512).expect("small");
    fs::read(device.path()).expect("read")[at..at + 512].to_vec()
}

/// The files of another GRUB are where the script looks for them.
fn put_other(top: &Mounted, other: &Other, boot: Boot, uuid: &str, scratch: &Path) {
    let (fs_uuid, script) = if other.lost {
        fs::write(scratch.join("grub.cfg"), "# nothing\n").expect("written");
        ("00000000-1111-2222-3333-444444444444", scratch.join("grub.cfg"))
    } else {
        (uuid, top.path("@boot/grub/grub.cfg"))
    };
    let inside = Inside { platform: boot.platform(), fs_uuid, luks: &[], key: None, serial: Some(Serial { unit: 0, speed: 115_200 }), build: Some(&other.id) };
    let parts = scratch.join("other");
    inside.write_parts(&parts, &script).expect("parts");
    let args = inside.arguments(&other.grub.modules, &parts);
    crate::vm::tool::tool(&other.grub.mkimage.to_string_lossy(), &args.iter().map(AsRef::as_ref).collect::<Vec<&OsStr>>()).expect("grub-mkimage");
    let core = fs::read(parts.join(CORE_NEW)).expect("an image");
    let dir = top.path("@boot/grub").join(ast::layout::GRUB_BUILDS).join(other.id.to_string());
    copy_modules(&other.grub.modules, &dir.join(boot.platform())).expect("modules");
    fs::write(dir.join("core.img"), &core).expect("written");
    fs::write(dir.join("core.sums"), sums("core.img", &core)).expect("written");
}

/// The content of the initramfs of a deployment, and of microcode before it.
pub fn initramfs(of: impl std::fmt::Display) -> String {
    format!("initramfs of {of}")
}

fn fill(top: &Mounted, boot: Boot, script: &ScriptConfig, wish: &Wish) {
    use ast::sys::btrfs::create_subvolume;
    for name in [SNAPSHOTS_SUBVOL, "@boot"] {
        create_subvolume(&top.path(name)).expect("a subvolume");
    }
    let layout = Layout::of_top_level(top.root());
    for dir in [layout.documents(), top.path("@boot/grub/ast")] {
        fs::create_dir_all(dir).expect("a directory");
    }
    for (d, fault) in DEPLOYMENTS {
        let dir = layout.deployment(DeployId::new(d));
        fs::create_dir_all(&dir).expect("a directory");
        boot_directory(&dir.join("boot"), &format!("deployment {d}"), fault);
    }
    for set in ["2.1", "3.4"] {
        let dir = layout.sets().join(set);
        fs::create_dir_all(&dir).expect("a directory");
        boot_directory(&dir.join("boot"), &format!("set {set}"), if set == "2.1" { Fault::NoInitramfs } else { Fault::Nothing });
    }
    let files = top.path("@boot/grub/ast");
    for d in [5, 6] {
        menu_files::write_good(&files, &Baked { good: DeployId::new(d), env: env(&format!("deployment {d}")) }).expect("written");
    }
    let line = |set: &str, description: &str, bootable| SnapshotLine {
        set: set.parse().expect("a set"),
        description: description.into(),
        kernel: Some("6.12.1".into()),
        created: Some(1_700_000_000),
        health: Some(Health::Never),
        state: Vec::new(),
        bootable,
    };
    let mut input = MenuInput { titles: [6, 5].map(|d| (DeployId::new(d), format!("Arch {d} of the menu"))).into(), ..MenuInput::default() };
    input.others.extend((boot == Boot::Efi).then_some(OtherSystem::FirmwareSetup));
    input.settings.timeout = wish.timeout;
    input.snapshots = vec![
        line("0.1", "base", false),
        line("2.1", "no initramfs", true),
        line("3.4", "'; halt; echo '}\n{ $(x) `y` \\ \"${prefix}\" ä", true),
    ];
    let more = |n: u32| line(&format!("{n}.2"), &format!("a kiosk with applications, number {n}"), true);
    input.snapshots.extend((10..10 + wish.snapshots).map(more));
    if let Some(text) = &wish.defaults {
        input.settings = MenuSettings::from_defaults(&Defaults::parse(text)).expect("settings");
    }
    for _ in 0..2 {
        menu_files::write_menu(&files, &input).expect("written");
        // The second is a little different, so that there is one before it.
        input.settings.gfxmode = Some("640x480".into());
    }
    fs::write(layout.document("bootblock"), &wish.local).expect("written");
    let boot_grub = top.path("@boot/grub");
    let grub_cfg = boot_grub.join("grub.cfg");
    menu_files::write_script(&boot_grub, script).expect("written");
    if wish.around.is_some() || !wish.read.is_empty() {
        menu_files::withdraw_script(&boot_grub).expect("removed");
    }
    if let Some([before, behind]) = &wish.around {
        let text = fs::read_to_string(&grub_cfg).expect("the script");
        fs::write(&grub_cfg, [before, &text, behind].map(String::as_str).concat()).expect("written");
    }
    if !wish.read.is_empty() {
        fs::create_dir(top.path("blocks")).expect("a directory");
        let mut text = fs::read_to_string(&grub_cfg).expect("the script");
        text.truncate(text.find("\nset my_baked=-\n").expect("the end of the functions") + 1);
        for (name, bytes) in &wish.read {
            fs::write(top.path("blocks").join(name), bytes).expect("written");
            text.push_str(&format!(
                "if ast_read \"($ast_root)/blocks/{name}\"; then echo \"ast_read {name} good $ast_good\"; else echo \"ast_read {name} bad\"; fi\n"
            ));
        }
        fs::write(&grub_cfg, text + "echo all read\nif [ \"$grub_platform\" = emu ]; then halt; fi\nsleep 1000\n").expect("written");
    }
}

fn env(of: &str) -> BootEnv {
    // The first one is what GRUB's commands would take for an option.
    let args = ["-h".to_owned(), "quiet".to_owned(), format!("made.for={}", of.replace(' ', "-")), "acpi_osi=!*".to_owned()];
    BootEnv::new(
        "vmlinuz-linux",
        &["ucode.img".to_owned(), "initramfs-linux.img".to_owned()],
        &args,
        &format!("Arch '\"}};reboot;$(x)` {of}"),
    )
    .expect("fits")
}

fn boot_directory(dir: &Path, of: &str, fault: Fault) {
    ast::sys::btrfs::create_subvolume(dir).expect("a subvolume");
    let mut files = vec![
        ("vmlinuz-linux", kernel::image(of)),
        ("ucode.img", b"ucode+".to_vec()),
        ("initramfs-linux.img", initramfs(of).into_bytes()),
        ("ast.env", env(of).encode().expect("fits")),
    ];
    match fault {
        Fault::Env => files[3].1 = b"# GRUB Environment Block\nast_linux=../x;halt\nast_initrd=y\nast_args=\nast_end=1\n##".to_vec(),
        Fault::NotAKernel => files[0].1 = vec![b'n'; 9000],
        Fault::KernelUnreadable | Fault::Stub => files[0].1 = kernel::with_stub(kernel::image(of)),
        _ => {}
    }
    let mut list: String = files.iter().map(|(name, content)| sums(name, content)).collect();
    match fault {
        Fault::Hash => *files[0].1.last_mut().expect("a byte") ^= 1,
        Fault::NoSums => list.clear(),
        _ => {}
    }
    files.retain(|(name, _)| {
        !(fault == Fault::NoKernel && name.starts_with("vmlinuz") || fault == Fault::NoInitramfs && name.starts_with("initramfs"))
    });
    for (name, content) in &files {
        let path = dir.join(*name);
        fs::write(&path, content).expect("written");
        let unreadable = match fault {
            Fault::Unreadable => name.starts_with("initramfs"),
            Fault::KernelUnreadable => name.starts_with("vmlinuz"),
            _ => false,
        };
        if unreadable {
            append_compressed(&path, &[b'x'; 1 << 18]);
        }
    }
    fs::write(dir.join("ast.sums"), list).expect("written");
    ast::sys::btrfs::set_read_only(dir, true).expect("read-only");
}

/// Behind what is in the file, which is on the disk as it is (if it is more than a block), stands this, compressed.
fn append_compressed(path: &Path, content: &[u8]) {
    let mut file = fs::File::options().append(true).open(path).expect("the file");
    file.sync_all().expect("on the disk");
    let args = ["property", "set"].map(OsStr::new);
    crate::vm::tool::tool("btrfs", &[args[0], args[1], path.as_os_str(), "compression".as_ref(), "zstd".as_ref()]).expect("compressed");
    file.write_all(content).expect("written");
}
