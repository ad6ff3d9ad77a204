use super::*;

#[test]
fn s3_a_replaced_file_keeps_one_older_copy() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("tree.json");
    replace_keeping_old(&path, b"1").expect("first");
    replace_keeping_old(&path, b"2").expect("second");
    assert_eq!((read(&path).expect("new"), read(&old_copy(&path).expect("name")).expect("old")), (b"2".to_vec(), b"1".to_vec()));
    assert_eq!(names(dir.path()).expect("names"), ["tree.json", "tree.json.old"]);
}

#[test]
fn files_that_are_replaced_together_are_all_new_or_none_is_when_one_cannot_be_written() {
    let dir = tempfile::tempdir().expect("dir");
    let at = |name: &str| dir.path().join(name);
    replace(&at("a"), b"old").expect("written");
    replace_all(dir.path(), &[(at("a"), b"new".to_vec()), (at("b"), b"more".to_vec())]).expect("written");
    assert_eq!((read(&at("a")).expect("a"), read(&at("b")).expect("b")), (b"new".to_vec(), b"more".to_vec()));
    assert_eq!(names(dir.path()).expect("list"), ["a", "b"]);
    // What is in the way of the second keeps the first from being replaced.
    fs::create_dir(at(".b.tmp")).expect("dir");
    assert!(replace_all(dir.path(), &[(at("a"), b"newer".to_vec()), (at("b"), b"x".to_vec())]).is_err());
    assert_eq!(read(&at("a")).expect("a"), b"new");
}

#[test]
fn in_place_never_extends() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("block");
    replace(&path, &[0; 512]).expect("made");
    write_in_place(&path, 0, &[7; 512]).expect("inside");
    assert!(write_in_place(&path, 1, &[7; 512]).is_err());
    assert!(write_in_place(&dir.path().join("none"), 0, &[7; 512]).is_err());
    assert_eq!(read(&path).expect("read"), [7; 512]);
}

#[test]
fn a_link_is_replaced_and_anything_else_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let link = dir.path().join("snapshot-1");
    symlink_replace(Path::new("a"), &link).expect("new");
    symlink_replace(Path::new("b"), &link).expect("again");
    assert_eq!(fs::read_link(&link).expect("link"), Path::new("b"));
    let plain = dir.path().join("plain");
    replace(&plain, b"x").expect("file");
    assert!(symlink_replace(Path::new("b"), &plain).is_err());
}
