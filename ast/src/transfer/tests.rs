//! The file itself, without a filesystem: everything before a stream reaches `btrfs receive`.

use std::io::{Cursor, Read, Write};
use std::path::Path;

use proptest::prelude::*;

use super::container::{Checked, Summed, head, open};
use super::key::{Public, Secret, hex, unhex};
use super::manifest::{CHUNK, Manifest, PartManifest};
use super::{Result, TransferError};
use crate::layout::Part;
use crate::sys::file;

fn secret() -> (tempfile::TempDir, Secret) {
    let dir = tempfile::tempdir().expect("dir");
    let (key, made) = Secret::read_or_make(&dir.path().join("ast/export.key")).expect("a key");
    assert!(made);
    (dir, key)
}

fn part(name: &str, stream: &[u8]) -> PartManifest {
    let mut summed = Summed::new(Vec::new());
    summed.write_all(stream).expect("written");
    let (bytes, sums) = summed.finish();
    let uuid = "0b6c0f9e-4e0e-4a54-a1a5-bc5e75d9a1b0".to_owned();
    PartManifest { name: name.to_owned(), uuid, parent: None, bytes, unpacked: 1, sums }
}

fn manifest() -> Manifest {
    Manifest {
        min_reader: 1,
        created: 0,
        description: "kiosk".into(),
        set: "4.2".into(),
        packages: Some(3),
        kernel: None,
        identity: false,
        parent: None,
        parts: Part::ALL.iter().map(|p| part(p.name(), p.name().as_bytes())).collect(),
        later: Default::default(),
    }
}

fn read(bytes: &[u8], trusted: &[Public]) -> Result<Manifest> {
    open(Box::new(Cursor::new(bytes.to_vec())), Path::new("test"), trusted).map(|opened| opened.manifest)
}

#[test]
fn r7_no_byte_of_the_head_can_be_changed_or_cut() {
    let (_dir, key) = secret();
    let whole = head(&manifest(), &key).expect("a head");
    let trusted = [key.public()];
    assert_eq!(read(&whole, &trusted).expect("whole"), manifest());
    for at in 0..whole.len() {
        for bit in [0, 5, 7] {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            assert!(read(&changed, &trusted).is_err(), "byte {at} bit {bit}");
        }
        assert!(read(&whole[..at], &trusted).is_err(), "cut at {at}");
    }
    assert!(matches!(read(&whole, &[]), Err(TransferError::Untrusted { key: named }) if named == key.public()));
    assert!(matches!(read(b"ast-export 2\nrest", &trusted), Err(TransferError::Newer { needs: 2 })));
}

#[test]
fn r7_a_manifest_that_makes_no_sense_is_refused_though_it_is_signed() {
    let (_dir, key) = secret();
    let spoil: Vec<(&str, fn(&mut Manifest))> = vec![
        ("a path for a name", |m| m.parts[0].name = "../../etc".into()),
        ("two of a kind", |m| m.parts[1].name = "root".into()),
        ("a part too few", |m| drop(m.parts.pop())),
        ("a part too many", |m| m.parts.push(part("more", b"x"))),
        ("more bytes than sums", |m| m.parts[2].bytes = 1 << 40),
        ("no bytes", |m| (m.parts[2].bytes, m.parts[2].sums) = (0, Vec::new())),
        ("more than a number holds", |m| (m.parts[0].unpacked, m.parts[1].unpacked) = (u64::MAX, u64::MAX)),
        ("a sum that is none", |m| m.parts[3].sums[0] = "xyz".into()),
        ("an identity that is a path", |m| m.parts[3].uuid = "../../../../../../../../../../../../../..".into()),
        ("the identity of nothing", |m| m.parts[3].uuid = "00000000-0000-0000-0000-000000000000".into()),
        ("half an increment", |m| m.parts[3].parent = Some(m.parts[3].uuid.clone())),
    ];
    for (what, spoil) in spoil {
        let mut spoiled = manifest();
        spoil(&mut spoiled);
        let refused = read(&head(&spoiled, &key).expect("a head"), &[key.public()]);
        assert!(matches!(refused, Err(TransferError::BadManifest(_))), "{what}: {refused:?}");
    }
    let newer = Manifest { min_reader: 2, ..manifest() };
    let refused = read(&head(&newer, &key).expect("a head"), &[key.public()]);
    assert!(matches!(refused, Err(TransferError::Newer { needs: 2 })), "{refused:?}");
}

#[test]
fn fields_of_a_later_version_are_passed_over() {
    let (_dir, key) = secret();
    let mut later = manifest();
    later.later.insert("colour".into(), "blue".into());
    assert_eq!(read(&head(&later, &key).expect("a head"), &[key.public()]).expect("read"), later);
}

#[test]
fn a_key_file_is_read_by_root_alone_and_made_once() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, key) = secret();
    let path = dir.path().join("ast/export.key");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let (again, made) = Secret::read_or_make(&path).expect("a key");
    assert!(!made && again.public() == key.public());
    assert_eq!(Public::read(&path.with_extension("pub")).expect("its public half"), key.public());
    assert!(!format!("{key:?}").contains(file_text(&path).trim_start_matches("ed25519-secret ").trim()));
    for text in ["", "ed25519-secret", "ed25519-secret 00", "ed25519 00", &format!("ed25519-secret {}", "G".repeat(64))] {
        file::replace(&path, text.as_bytes()).expect("written");
        assert!(matches!(Secret::read(&path), Err(TransferError::BadKey { .. })), "{text:?}");
        assert!(matches!(Public::read(&path), Err(TransferError::BadKey { .. })), "{text:?}");
    }
}

fn file_text(path: &Path) -> String {
    String::from_utf8(file::read(path).expect("read")).expect("text")
}

#[test]
fn a_stream_of_several_chunks_is_given_on_whole_and_no_damaged_chunk_is() {
    let stream: Vec<u8> = (0..CHUNK * 2 + 77).map(|i| (i % 251) as u8).collect();
    let said = part("root", &stream);
    assert_eq!(said.sums.len(), 3);
    let give = |bytes: &[u8]| {
        let mut input = Cursor::new(bytes.to_vec());
        let mut checked = Checked::new(&mut input, Part::Root, &said);
        let mut given = Vec::new();
        let result = checked.read_to_end(&mut given);
        (given, result.is_ok(), checked.is_at_end(), checked.damage.take())
    };
    assert_eq!((&give(&stream).0, give(&stream).2), (&stream, true));
    let mut damaged = stream.clone();
    damaged[CHUNK + 5] ^= 1;
    let (given, well, _, damage) = give(&damaged);
    assert!(!well && given == stream[..CHUNK], "{} bytes were given", given.len());
    assert!(matches!(damage, Some(TransferError::Damaged { part: Part::Root, from, .. }) if from == CHUNK as u64));
    let (given, well, _, damage) = give(&stream[..CHUNK + 5]);
    assert!(!well && given.len() == CHUNK && matches!(damage, Some(TransferError::Cut { .. })));
}

proptest! {
    #[test]
    fn nothing_makes_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), after in "[ -~\n]{0,200}") {
        let (_dir, key) = secret();
        for begin in ["", "ast-export 1\n", &format!("ast-export 1\n{}\n", key.public())] {
            let text = [begin.as_bytes(), after.as_bytes(), &bytes].concat();
            prop_assert!(read(&text, &[key.public()]).is_err());
        }
        drop(Manifest::parse(&bytes));
    }

    #[test]
    fn hex_there_and_back(bytes in any::<[u8; 32]>()) {
        prop_assert_eq!(unhex::<32>(&hex(&bytes)), Some(bytes));
        prop_assert_eq!(unhex::<31>(&hex(&bytes)), None);
    }
}
