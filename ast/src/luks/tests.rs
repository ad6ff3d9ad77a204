//! Headers made by cryptsetup, damaged ones, and what the kernel tells of devices.
#![allow(clippy::disallowed_methods)]

use std::os::unix::fs::symlink;
use std::process::Command;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::stack::below;
use super::*;

const UUID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
/// Bytes of a copy of the header, as cryptsetup makes it.
const COPY: usize = 0x4000;

/// An image that cryptsetup formatted with these words, cheaply.
fn formatted(words: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("dir");
    let image = dir.path().join("image");
    std::fs::File::create(&image).and_then(|f| f.set_len(32 << 20)).expect("an image");
    cryptsetup(&["luksFormat", "--uuid", UUID], words, &image);
    (dir, image)
}

fn cryptsetup(verb: &[&str], words: &[&str], image: &Path) {
    let key = image.with_extension("key");
    std::fs::write(&key, "secret").expect("a key");
    let out = Command::new("cryptsetup").args(["--batch-mode", "--key-file"]).arg(&key).args(verb).args(words).arg(image).output();
    let out = out.expect("cryptsetup is installed: `./dev packages`");
    assert!(out.status.success(), "{verb:?} {words:?}: {}", String::from_utf8_lossy(&out.stderr));
}

const PBKDF2: [&str; 6] = ["--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
const ARGON2: [&str; 10] =
    ["--type", "luks2", "--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1"];

/// The two copies of a header that cryptsetup made.
fn sample() -> Vec<u8> {
    let (_dir, image) = formatted(&PBKDF2);
    std::fs::read(image).expect("the image").into_iter().take(2 * COPY).collect()
}

/// The same with this text in both copies, and sums that are right.
fn with_text(mut bytes: Vec<u8>, text: &[u8]) -> Vec<u8> {
    for at in [0, COPY] {
        let copy = &mut bytes[at..at + COPY];
        copy[4096..].fill(0);
        copy[4096..4096 + text.len()].copy_from_slice(text);
        copy[448..512].fill(0);
        let sum = Sha256::digest(&*copy);
        copy[448..480].copy_from_slice(&sum);
    }
    bytes
}

#[test]
fn b1_luks2_with_pbkdf2_is_what_grub_reads_and_argon2_is_refused_with_the_way_out() {
    let (_dir, image) = formatted(&PBKDF2);
    let header = Header::read(&image).expect("readable").expect("LUKS");
    assert_eq!((header.version, header.uuid.as_str(), header.cipher.as_str()), (2, UUID, "aes-xts-plain64"));
    assert_eq!((header.data_offset, header.segments), (16 << 20, 1));
    assert_eq!(header.slots, [Slot { number: 0, kdf: Kdf::Pbkdf2("sha256".into()) }]);
    header.for_grub().expect("GRUB reads it");

    let (_dir, image) = formatted(&ARGON2);
    let header = Header::read(&image).expect("readable").expect("LUKS");
    assert_eq!(header.slots, [Slot { number: 0, kdf: Kdf::Other("argon2id".into()) }]);
    let why = header.for_grub().expect_err("GRUB does not read it").to_string();
    assert!(why.contains("0: argon2id") && why.contains("cryptsetup luksConvertKey --pbkdf pbkdf2"), "{why}");
    // The way out is one.
    cryptsetup(&["luksConvertKey"], &PBKDF2[2..], &image);
    Header::read(&image).expect("readable").expect("LUKS").for_grub().expect("GRUB reads it now");

    let (_dir, image) = formatted(&["--type", "luks1", "--pbkdf-force-iterations", "1000"]);
    let header = Header::read(&image).expect("readable").expect("LUKS");
    assert_eq!((header.version, header.uuid.as_str(), header.cipher.as_str()), (1, UUID, "aes-xts-plain64"));
    assert!(header.data_offset >= 1 << 20);
    header.for_grub().expect("GRUB reads it");
}

#[test]
fn b1_what_else_grub_cannot_read_is_refused() {
    let refused = |text: &str| parse(&with_text(sample(), text.as_bytes())).expect("whole").expect("LUKS").for_grub().map_err(|e| e.to_string());
    let slot = r#""keyslots":{"3":{"type":"luks2","kdf":{"type":"pbkdf2","hash":"sha256"}}}"#;
    let segment = r#"{"type":"crypt","offset":"16777216","encryption":"aes-xts-plain64"}"#;
    assert_eq!(refused(&format!("{{{slot},\"segments\":{{\"0\":{segment}}}}}")), Ok(()));
    for (text, expected) in [
        (format!("{{{slot},\"segments\":{{\"0\":{segment},\"1\":{segment}}}}}"), "2 segments"),
        (format!("{{{slot},\"segments\":{{\"0\":{}}}}}", segment.replace("aes", "serpent")), "serpent-xts-plain64"),
        (format!("{{\"segments\":{{\"0\":{segment}}}}}"), "there are none"),
        (format!("{{{},\"segments\":{{\"0\":{segment}}}}}", slot.replace("sha256", "whirlpool")), "pbkdf2 with whirlpool"),
    ] {
        let why = refused(&text).expect_err(&text);
        assert!(why.contains(expected), "{text}: {why}");
    }
}

#[test]
fn a_header_is_read_from_its_second_copy_when_the_first_is_damaged() {
    let good = sample();
    let header = parse(&good).expect("whole").expect("LUKS");
    for damage in [0, 10, 5000, COPY - 1] {
        let mut bytes = good.clone();
        bytes[damage] ^= 0x55;
        assert_eq!(parse(&bytes).expect("the second copy").as_ref(), Some(&header), "byte {damage}");
        bytes[COPY + damage] ^= 0x55;
        match (damage, parse(&bytes)) {
            // Without any magic it is no LUKS at all.
            (0, Ok(None)) => {}
            (_, Err(LuksError::Damaged(_))) if damage > 0 => {}
            (_, other) => panic!("byte {damage}: {other:?}"),
        }
    }
    // Where the copies differ, the newer counts.
    let mut bytes = with_text(good, b"{\"segments\":{\"0\":{\"offset\":\"4096\",\"encryption\":\"aes-xts-plain64\"}}}");
    bytes[COPY + 23] += 1;
    let copy = &mut bytes[COPY..];
    copy[448..512].fill(0);
    let sum = Sha256::digest(&*copy);
    copy[448..480].copy_from_slice(&sum);
    assert_eq!(parse(&bytes).expect("whole").expect("LUKS").data_offset, 4096);
    assert_eq!(parse(b"no LUKS at all").expect("something else"), None);
}

#[test]
fn the_container_below_a_device_is_found_through_what_lies_between() {
    let dir = tempfile::tempdir().expect("dir");
    let device = |name: &str, uuid: &str, slaves: &[&str]| {
        let at = dir.path().join(name);
        std::fs::create_dir_all(at.join("slaves")).expect("dirs");
        if !uuid.is_empty() {
            std::fs::create_dir_all(at.join("dm")).expect("dirs");
            std::fs::write(at.join("dm/uuid"), format!("{uuid}\n")).expect("written");
        }
        for slave in slaves {
            symlink(dir.path().join(slave), at.join("slaves").join(slave)).expect("a link");
        }
        at
    };
    device("vda2", "", &[]);
    device("dm-0", "CRYPT-LUKS2-aaaaaaaabbbb4ccc8dddeeeeeeeeeeee-root-of-all", &["vda2"]);
    let volume = device("dm-1", "LVM-abc", &["dm-0"]);
    let found = below(&volume, 8).expect("a container");
    assert_eq!(found, Container { device: "/dev/vda2".into(), uuid: UUID.replace('-', "") });
    assert_eq!(below(&dir.path().join("vda2"), 8), None);
    assert_eq!(below(&device("dm-2", "CRYPT-PLAIN-x", &["vda2"]), 8), None);
    // A loop, which no kernel makes.
    let turning = device("dm-3", "", &["dm-3"]);
    assert_eq!(below(&turning, 8), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn r7_no_text_in_a_header_crashes_the_reader(text in prop::collection::vec(any::<u8>(), 0..500), json in "[\\[{\",:a-z0-9}\\]]{0,300}") {
        static SAMPLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(sample);
        for text in [text.as_slice(), json.as_bytes(), &b"[".repeat(12_000)] {
            if let Ok(Some(header)) = parse(&with_text(SAMPLE.clone(), text)) {
                drop(header.for_grub());
            }
        }
    }

    #[test]
    fn r7_no_bytes_crash_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..600), magic in any::<bool>(), cut in 0..0x8000usize, at in 0..0x8000usize) {
        static SAMPLE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(sample);
        drop(parse(&[if magic { &b"LUKS\xba\xbe\0\x02"[..] } else { b"" }, &bytes].concat()));
        drop(parse(&SAMPLE[..cut]));
        let mut changed = SAMPLE.clone();
        let end = (at + bytes.len()).min(changed.len());
        changed[at..end].copy_from_slice(&bytes[..end - at]);
        drop(parse(&changed));
    }
}
