//! What can be tried without mounting anything.

use std::fs::File;
use std::process::Command;

use super::core_image::{Grub, Inside, Terminal};
use super::fat::Fat;
use super::machine::{Luks, Wish, install};
use super::staging::Packages;
use super::table::{Boot, SECTOR, Scheme};
use super::{InstallError, Target};
use crate::grub::parser::parse;
use crate::luks::{Header, Kdf, Slot};
use crate::{layout, sys};

fn disk(dir: &tempfile::TempDir, size: u64) -> Target {
    let path = dir.path().join("disk");
    File::create(&path).and_then(|f| f.set_len(size)).expect("image");
    Target::whole(&path).expect("target")
}

/// `start= … size= … type=` lines as the partitioning program sees the disk.
fn partitions(disk: &Target) -> Vec<(u64, u64, String, bool)> {
    #[allow(clippy::disallowed_methods, reason = "another program is asked, not used")]
    let dump = Command::new("sfdisk").arg("--dump").arg(&disk.file).output().expect("sfdisk");
    let text = String::from_utf8(dump.stdout).expect("text");
    let lines = text.lines().filter(|line| line.contains(" start="));
    lines
        .map(|line| {
            let field = |name: &str| line.split(&format!("{name}=")).nth(1).unwrap_or("").split(',').next().unwrap_or("").trim().to_owned();
            let number = |name: &str| field(name).parse().expect("a number");
            (number("start"), number("size"), field("type"), line.contains("bootable"))
        })
        .collect()
}

#[test]
fn another_program_reads_the_tables_as_they_are_meant() {
    let dir = tempfile::tempdir().expect("dir");
    let disk = disk(&dir, 3 << 30);
    let end = (3 << 30) / SECTOR;
    for (boot, wanted) in [
        (Boot::BiosRaw, vec![(2048, end - 2048, "83".to_owned(), true)]),
        (Boot::BiosGap, vec![(2048, end - 2048, "83".into(), true), (1024, 1024, "1".into(), false)]),
        (
            Boot::Efi,
            vec![
                (2048, 532_480, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B".into(), false),
                (534_528, end - 534_528 - 2048, "0FC63DAF-8483-4772-8E79-3D69D8477DE4".into(), false),
            ],
        ),
    ] {
        let scheme = Scheme::new(boot, &disk).expect("scheme");
        scheme.write(&disk).expect("table");
        assert_eq!(partitions(&disk), wanted, "{boot:?}");
    }
}

#[test]
fn a_disk_too_small_or_too_big_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let mut disk = disk(&dir, 1 << 30);
    for boot in [Boot::BiosRaw, Boot::BiosGap, Boot::Efi] {
        assert!(matches!(Scheme::new(boot, &disk), Err(InstallError::TooSmall { .. })), "{boot:?}");
    }
    disk.size = 3 << 40;
    assert!(matches!(Scheme::new(Boot::BiosRaw, &disk), Err(InstallError::TooBig { .. })));
    Scheme::new(Boot::Efi, &disk).expect("a GPT reaches further");
}

#[test]
fn files_on_fat_read_back_at_an_offset() {
    let dir = tempfile::tempdir().expect("dir");
    let disk = disk(&dir, 3 << 30);
    for boot in [Boot::BiosGap, Boot::Efi] {
        let target = disk.part(Scheme::new(boot, &disk).expect("scheme").fat.expect("a FAT filesystem"));
        let fat = Fat::format(&target, "AST").expect("format");
        let (path, content) = (layout::FILE_BLOCK_B, [b'#'; 512]);
        fat.make_dir("ast/b").expect("directories");
        fat.make_dir("ast/b").expect("again");
        fat.write(path, &[0; 4]).expect("first");
        fat.write(path, &content).expect("again");
        assert_eq!(fat.read(path).expect("read"), content);
        assert!(fat.read("ast/b/none").is_err());
        let copy = dir.path().join("copy");
        sys::file::replace(&copy, &target.read_at(0, 4096).expect("sector")).expect("copy");
        assert_eq!(sys::device::uuid_of(&copy), Some(fat.uuid()));
    }
}

#[test]
fn an_odd_core_image_is_not_embedded() {
    let dir = tempfile::tempdir().expect("dir");
    let disk = disk(&dir, 3 << 30);
    let grub = Grub { mkimage: "/nowhere".into(), modules: dir.path().into(), version: "2.06".into() };
    sys::file::replace(&dir.path().join("boot.img"), &[0xeb; 512]).expect("boot.img");
    let gap = Scheme::new(Boot::BiosGap, &disk).expect("scheme");
    let mut core = vec![0; 5000];
    core[500] = 2;
    core[508] = 9;
    grub.embed(&disk, &gap, &core).expect("ten sectors, nine of them in the list");
    assert_eq!(disk.read_at(0x5c, 8).expect("MBR"), 1u64.to_le_bytes());
    assert_eq!(disk.read_at(0x66, 2).expect("MBR"), [0x90, 0x90]);
    assert_eq!(disk.read_at(512, 5000).expect("core"), core);
    assert_eq!(partitions(&disk).len(), 2);
    core[508] = 8;
    assert!(matches!(grub.embed(&disk, &gap, &core), Err(InstallError::Blocklist { len: 8, rest: 9, .. })));
    core.resize(1024 * 512, 0);
    assert!(matches!(grub.embed(&disk, &gap, &core), Err(InstallError::CoreTooBig { .. })));
    sys::file::replace(&dir.path().join("boot.img"), &[0; 512]).expect("boot.img");
    core.truncate(5000);
    core[508] = 9;
    assert!(matches!(grub.embed(&disk, &gap, &core), Err(InstallError::BootCode(_))));
}

#[test]
fn the_script_inside_the_core_image_is_grubs_language() {
    let fs = "12345678-1234-1234-1234-123456789abc";
    let statements = |luks: &[String]| parse(&Inside { platform: "i386-pc", fs_uuid: fs, luks, key: None, serial: None, build: None }.script()).expect("GRUB's language").len();
    assert_eq!((statements(&[]), statements(&["aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".into()])), (4, 7));
}

#[test]
fn c1_a_container_that_grub_cannot_unlock_is_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().expect("dir");
    let disk = disk(&dir, 3 << 30);
    let header = |kdf| Header {
        version: 2,
        uuid: "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee".into(),
        slots: vec![Slot { number: 0, kdf }],
        cipher: "aes-xts-plain64".into(),
        data_offset: 16 << 20,
        segments: 1,
    };
    let wish = |kdf, version: &str, key: Option<&[u8]>| Wish {
        boot: Boot::Efi,
        grub: Grub { mkimage: "/nowhere".into(), modules: dir.path().into(), version: version.into() },
        terminal: Terminal::Screen,
        luks: Some(Luks { header: header(kdf), key: key.map(<[u8]>::to_vec) }),
        packages: Packages { config: "/nowhere".into(), cache: None, names: Vec::new(), show: false },
        description: "base".into(),
    };
    let refused = |wish: &Wish| install(&disk, wish, &|_| panic!("nothing is installed")).expect_err("refused").to_string();
    let why = refused(&wish(Kdf::Other("argon2id".into()), "2.14", None));
    assert!(why.contains("0: argon2id") && why.contains("luksConvertKey --pbkdf pbkdf2"), "{why}");
    let why = refused(&wish(Kdf::Pbkdf2("sha256".into()), "2.06-13+deb12u2", Some(b"key")));
    assert!(why.contains("GRUB 2.06") && why.contains("passphrase"), "{why}");
    assert_eq!(disk.read_at(0, 1 << 20).expect("the disk"), vec![0; 1 << 20]);
}
