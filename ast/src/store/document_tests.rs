use std::fs;

use super::*;
use crate::store::machine::{Block, Machine};
use crate::tree::Tree;

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/documents").join(name)).expect(name)
}

/// A directory where `tree.json` and, if named, `tree.json.old` are these fixtures.
fn with(main: Option<&str>, old: Option<&str>) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("tree.json");
    for (name, to) in [(main, path.clone()), (old, dir.path().join("tree.json.old"))] {
        if let Some(name) = name {
            file::replace(&to, &fixture(name)).expect("copied");
        }
    }
    (dir, path)
}

#[test]
fn s3_every_format_ever_written_still_loads() {
    let trees =
        [("tree-v1.json", 5, 0), ("tree-v1-later-keys.json", 1, 0), ("tree-v1-by-update.json", 5, 1), ("tree-newer-readable.json", 1, 0)];
    for (name, snapshots, by_update) in trees {
        let (_dir, path) = with(Some(name), None);
        let loaded = load::<Tree>(&path).expect(name);
        assert_eq!(loaded.body.nodes().count(), snapshots, "{name}");
        assert_eq!(loaded.body.nodes().filter(|node| node.by_update).count(), by_update, "{name}");
        assert!(loaded.damage.is_none());
    }
    let machines = [
        ("machine-v1-raw.json", Block::Raw),
        ("machine-v1-files.json", Block::Files { uuid: "ABCD-1234".into() }),
        ("machine-v1-local.json", Block::Local),
    ];
    for (name, block) in machines {
        let (_dir, path) = with(Some(name), None);
        assert_eq!(load::<Machine>(&path).expect(name).body.block, block);
    }
}

/// What another program made of it, with the same content, is the same document.
#[test]
fn the_layout_of_a_document_and_the_order_of_its_keys_are_free() {
    fn turned(value: &serde_json::Value, out: &mut String) {
        match value {
            serde_json::Value::Object(fields) => {
                out.push('{');
                for (n, (key, value)) in fields.iter().rev().enumerate() {
                    out.push_str(if n == 0 { "\n\t" } else { " ,\n" });
                    out.push_str(&format!("{} : ", serde_json::Value::from(key.as_str())));
                    turned(value, out);
                }
                out.push('}');
            }
            serde_json::Value::Array(all) => {
                out.push('[');
                for (n, value) in all.iter().enumerate() {
                    out.push_str(if n == 0 { " " } else { ",\r\n" });
                    turned(value, out);
                }
                out.push(']');
            }
            other => out.push_str(&other.to_string()),
        }
    }
    for name in ["tree-v1.json", "tree-v1-later-keys.json"] {
        let (_dir, path) = with(Some(name), None);
        let before = load::<Tree>(&path).expect(name).body;
        let mut text = String::new();
        turned(&serde_json::from_slice(&fixture(name)).expect("json"), &mut text);
        assert!(text.find("\"sha256\"") < text.find("\"min_writer\""), "the other way round");
        file::replace(&path, text.as_bytes()).expect("written");
        let after = load::<Tree>(&path).expect("the same document");
        assert!(after.damage.is_none() && after.body == before, "{name}");
    }
}

#[test]
fn s3_a_damaged_document_falls_back_to_the_older_copy() {
    let damaged = [
        "tree-torn.json",
        "tree-sum.json",
        "tree-empty.json",
        "tree-hostile-cycle.json",
        "tree-hostile-deep.json",
        "tree-hostile-number.json",
        "tree-hostile-not-an-object.json",
        "tree-hostile-utf8.json",
    ];
    for name in damaged {
        let (_dir, path) = with(Some(name), None);
        assert!(matches!(load::<Tree>(&path), Err(DocumentError::Damaged { .. })), "{name} alone");
        let (_dir, path) = with(Some(name), Some("tree-v1.json"));
        let loaded = load::<Tree>(&path).expect(name);
        assert!(loaded.damage.is_some() && loaded.body.nodes().count() == 5, "{name} with an older copy");
        let (_dir, path) = with(Some(name), Some(name));
        assert!(matches!(load::<Tree>(&path), Err(DocumentError::Damaged { .. })), "{name} twice");
    }
    let (_dir, path) = with(None, Some("tree-v1.json"));
    assert!(load::<Tree>(&path).expect("older").damage.is_some(), "gone");
    let (_dir, path) = with(None, None);
    assert!(load_if_exists::<Tree>(&path).expect("none").is_none());
}

#[test]
fn s13_what_a_newer_ast_wrote_is_left_alone() {
    let (_dir, path) = with(Some("tree-newer.json"), Some("tree-v1.json"));
    assert!(matches!(load::<Tree>(&path), Err(DocumentError::NewerToRead { needs: 2, .. })));
    assert!(matches!(save(&path, &1), Err(DocumentError::NewerToWrite { needs: 2, .. })));
    assert_eq!(file::read(&path).expect("there"), fixture("tree-newer.json"));
    let (_dir, path) = with(Some("tree-newer-readable.json"), None);
    assert!(!load::<Tree>(&path).expect("readable").writable);
    assert!(matches!(save(&path, &1), Err(DocumentError::NewerToWrite { needs: 2, .. })));
    assert_eq!(file::read(&path).expect("there"), fixture("tree-newer-readable.json"));
}

#[test]
fn s3_a_damaged_one_never_replaces_the_older_copy() {
    let (_dir, path) = with(Some("tree-torn.json"), Some("tree-v1.json"));
    let tree = load::<Tree>(&path).expect("older").body;
    save(&path, &tree).expect("saved");
    assert_eq!(file::read(&file::old_copy(&path).expect("name")).expect("older"), fixture("tree-v1.json"));
    assert_eq!(load::<Tree>(&path).expect("new").body, tree);
}

#[test]
fn what_is_saved_is_the_fixture() {
    let (_dir, path) = with(Some("tree-v1.json"), None);
    let tree = load::<Tree>(&path).expect("tree").body;
    let bytes = encode(&path, &tree).expect("bytes");
    assert_eq!(String::from_utf8(bytes), String::from_utf8(fixture("tree-v1.json")), "the format has changed: add a fixture");
}

proptest::proptest! {
    #[test]
    fn s3_a_flipped_byte_is_never_another_tree(at in 0usize..4000, to in 0u8..=255) {
        let mut bytes = fixture("tree-v1.json");
        let at = at % bytes.len();
        bytes[at] = to;
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("tree.json");
        file::replace(&path, &bytes).expect("written");
        let whole: Tree = {
            let (_dir, path) = with(Some("tree-v1.json"), None);
            load::<Tree>(&path).expect("whole").body
        };
        // Unreadable, refused as newer, or the same: what a flip in the white space or in a version number gives.
        if let Ok(loaded) = load::<Tree>(&path) {
            proptest::prop_assert_eq!(loaded.body, whole);
        }
    }
}

#[test]
fn s3_the_sum_is_that_of_the_compact_form_whatever_the_strings_hold() {
    for text in ["", "a b", "\" \"", "\\", "\\\" x", "a\\\\\" b\\", "\n\t", "\u{2028} ä", "{ \"a\": [ 1, 2 ] }"] {
        let body = serde_json::json!({ text: [text, { "b c": text, "d": null }], "n": [1, -2.5e3, true] });
        let pretty = serde_json::to_string_pretty(&body).expect("text");
        assert_eq!(String::from_utf8_lossy(&without_space(&pretty)), body.to_string(), "{text:?}");
        assert!(is_sum_of(&sum(&body), &RawValue::from_string(pretty).expect("JSON")).expect("JSON"), "{text:?}");
    }
}
