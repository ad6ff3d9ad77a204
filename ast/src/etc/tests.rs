//! The merge on real directories: named cases, and random ones against a toy model.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// As a deployment is merged.
fn merge(base: &Path, mine: &Path, into: &Path) -> Result<Report, SysError> {
    let edited = Edited { base: base.to_owned(), saved: None, mine: mine.to_owned() };
    super::merge(&edited, into, Goal::Deployment)
}

/// What a path is, in a test.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Toy {
    Dir,
    File { content: u8, mode: u32 },
    Link(u8),
}

type Model = BTreeMap<PathBuf, Toy>;

/// Writes the model below `dir`; what lies in a file's place under a file is left out of both.
fn build(dir: &Path, model: &Model) -> Model {
    let mut real = Model::new();
    for (path, toy) in model {
        let parents: Vec<_> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        if parents.iter().any(|p| real.get(*p).is_some_and(|t| *t != Toy::Dir)) {
            continue;
        }
        for parent in parents.into_iter().rev() {
            if real.insert(parent.to_owned(), Toy::Dir).is_none() {
                fs::create_dir(dir.join(parent)).expect("dir");
            }
        }
        let at = dir.join(path);
        if real.contains_key(path) {
            continue;
        }
        match toy {
            Toy::Dir => fs::create_dir(&at).expect("dir"),
            Toy::File { content, mode } => {
                fs::write(&at, [*content]).expect("file");
                fs::set_permissions(&at, fs::Permissions::from_mode(*mode)).expect("mode");
            }
            Toy::Link(target) => symlink(format!("t{target}"), &at).expect("link"),
        }
        real.insert(path.clone(), toy.clone());
    }
    real
}

fn read(dir: &Path) -> Model {
    fn walk(dir: &Path, below: &Path, found: &mut Model) {
        for entry in fs::read_dir(dir).expect("list").flatten() {
            let (at, path) = (entry.path(), below.join(entry.file_name()));
            let meta = fs::symlink_metadata(&at).expect("meta");
            let toy = if meta.is_dir() {
                walk(&at, &path, found);
                Toy::Dir
            } else if meta.is_symlink() {
                let target = fs::read_link(&at).expect("link");
                Toy::Link(target.to_string_lossy()[1..].parse().expect("number"))
            } else {
                Toy::File { content: fs::read(&at).expect("read")[0], mode: meta.mode() & 0o7777 }
            };
            found.insert(path, toy);
        }
    }
    let mut found = Model::new();
    walk(dir, Path::new(""), &mut found);
    found
}

struct Dirs {
    _dir: tempfile::TempDir,
    base: PathBuf,
    mine: PathBuf,
    new: PathBuf,
}

fn dirs() -> Dirs {
    // In memory: the random cases make thousands of files.
    let memory = Path::new("/dev/shm");
    let dir = tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }).expect("dir");
    let make = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).expect("dir");
        path
    };
    Dirs { base: make("base"), mine: make("mine"), new: make("new"), _dir: dir }
}

fn merged(base: &Model, mine: &Model, new: &Model) -> (Model, [Model; 3], Report) {
    let dirs = dirs();
    let real = [build(&dirs.base, base), build(&dirs.mine, mine), build(&dirs.new, new)];
    let report = merge(&dirs.base, &dirs.mine, &dirs.new).expect("a merge never fails");
    assert_eq!(read(&dirs.mine), real[1], "the running /etc was written");
    (read(&dirs.new), real, report)
}

fn toy() -> impl Strategy<Value = Toy> {
    prop_oneof![
        1 => Just(Toy::Dir),
        6 => (0..3u8, prop_oneof![Just(0o644), Just(0o600)]).prop_map(|(content, mode)| Toy::File { content, mode }),
        1 => (0..2u8).prop_map(Toy::Link),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    let name = prop_oneof![Just("a"), Just("b"), Just("d"), Just("d/x"), Just("d/y"), Just("d/e"), Just("d/e/z")];
    prop::collection::btree_map(name.prop_map(PathBuf::from), toy(), 0..7)
}

/// The rule for a path that is a file or absent in all three, as one would say it.
fn expected(base: Option<&Toy>, mine: Option<&Toy>, new: Option<&Toy>) -> Option<Toy> {
    let (Some(Toy::File { content: c, mode: m }), Some(Toy::File { content: nc, mode: nm })) = (mine, new) else {
        return if mine == base { new.cloned() } else { mine.cloned() };
    };
    let (bc, bm) = match base {
        Some(Toy::File { content, mode }) => (Some(content), Some(mode)),
        _ => (None, None),
    };
    Some(Toy::File { content: if bc == Some(c) { *nc } else { *c }, mode: if bm == Some(m) { *nm } else { *m } })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn u7_nothing_changed_here_means_the_packages_etc(base in model(), new in model()) {
        let (result, real, _) = merged(&base, &base, &new);
        prop_assert_eq!(result, real[2].clone());
    }

    #[test]
    fn u7_nothing_changed_by_packages_means_the_devices_etc(base in model(), mine in model()) {
        let (result, real, report) = merged(&base, &mine, &base);
        prop_assert_eq!(result, real[1].clone());
        prop_assert!(report.conflicts.is_empty(), "{:?}", report);
    }

    #[test]
    fn u7_merging_never_fails_and_follows_the_model(base in model(), mine in model(), new in model()) {
        let (result, [base, mine, new], report) = merged(&base, &mine, &new);
        let plain = |toy: Option<&Toy>| matches!(toy, None | Some(Toy::File { .. }));
        let paths: std::collections::BTreeSet<_> = base.keys().chain(mine.keys()).chain(new.keys()).cloned().collect();
        for path in &paths {
            let around = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
            // Inside something that changed its type the whole is judged, not the path.
            let simple = around.clone().all(|p| [&base, &mine, &new].iter().all(|m| matches!(m.get(p), None | Some(Toy::Dir))));
            let (b, m, n) = (base.get(path), mine.get(path), new.get(path));
            if simple && plain(b) && plain(m) && plain(n) {
                let want = expected(b, m, n);
                prop_assert_eq!(result.get(path), want.as_ref(), "{:?}: base {:?} mine {:?} new {:?}", path, b, m, n);
                let conflict = matches!((m, n), (Some(Toy::File { content: c, .. }), Some(Toy::File { content: d, .. }))
                    if c != d && !matches!(b, Some(Toy::File { content, .. }) if content == c || content == d));
                let pacnew = path.with_extension("pacnew");
                prop_assert_eq!(result.contains_key(&pacnew), conflict, "{:?}", pacnew);
                prop_assert_eq!(report.conflicts.iter().any(|x| x.path == *path && x.outcome == Outcome::Pacnew), conflict);
            }
        }
        // Nothing comes from nowhere.
        for path in result.keys().filter(|p| p.extension().is_none()) {
            prop_assert!(mine.contains_key(path) || new.contains_key(path), "{:?} is in neither", path);
        }
    }

    #[test]
    fn u7_merging_again_changes_nothing(base in model(), mine in model(), new in model()) {
        // The next deployment of the same set: its base is the unmerged new, and the device's is the merge.
        let (first, [_, _, new], _) = merged(&base, &mine, &new);
        let (second, _, report) = merged(&new, &first, &new);
        prop_assert_eq!(second, first);
        prop_assert!(report.conflicts.is_empty());
    }
}

fn put(dir: &Path, name: &str, content: &str) {
    fs::create_dir_all(dir.join(name).parent().expect("parent")).expect("dir");
    fs::write(dir.join(name), content).expect("written");
}

fn text(dir: &Path, name: &str) -> Option<String> {
    fs::read_to_string(dir.join(name)).ok()
}

#[test]
fn u7_identity_is_carried_and_generated_files_are_new() {
    let dirs = dirs();
    for (name, base, mine, new) in [
        ("machine-id", "", "mine", "new"),
        ("ssh/ssh_host_ed25519_key", "", "mine", ""),
        ("adjtime", "same", "same", "new"),
        ("ld.so.cache", "old", "mine", "new"),
        ("pacman.d/gnupg/trustdb.gpg", "old", "mine", "new"),
        ("ast.conf", "aur::False", "aur::True", "aur::False # new"),
    ] {
        for (dir, content) in [(&dirs.base, base), (&dirs.mine, mine), (&dirs.new, new)] {
            if !content.is_empty() {
                put(dir, name, content);
            }
        }
    }
    let report = merge(&dirs.base, &dirs.mine, &dirs.new).expect("merged");
    let expect = [
        ("machine-id", "mine"),
        ("ssh/ssh_host_ed25519_key", "mine"),
        ("adjtime", "same"),
        ("ld.so.cache", "new"),
        ("pacman.d/gnupg/trustdb.gpg", "new"),
        ("ast.conf", "aur::False # new"),
    ];
    for (name, content) in expect {
        assert_eq!(text(&dirs.new, name).as_deref(), Some(content), "{name}");
    }
    assert!(!dirs.new.join("ld.so.cache.pacnew").exists());
    assert!(report.conflicts.iter().any(|c| c.outcome == Outcome::TookNew));
}

#[test]
fn u7_a_changed_type_never_fails() {
    let dirs = dirs();
    put(&dirs.base, "conf", "old");
    put(&dirs.new, "conf", "new");
    put(&dirs.mine, "conf/drop-in", "mine");
    put(&dirs.base, "conf.d/a", "old");
    put(&dirs.new, "conf.d/a", "new");
    put(&dirs.mine, "conf.d", "mine");
    let report = merge(&dirs.base, &dirs.mine, &dirs.new).expect("merged");
    assert_eq!(text(&dirs.new, "conf/drop-in").as_deref(), Some("mine"));
    assert_eq!(text(&dirs.new, "conf.pacnew").as_deref(), Some("new"));
    assert_eq!(text(&dirs.new, "conf.d").as_deref(), Some("mine"));
    assert_eq!(report.conflicts.len(), 2, "{report:?}");
}

#[test]
fn u7_owner_mode_and_attributes_are_judged_apart_from_content() {
    let dirs = dirs();
    for (dir, content) in [(&dirs.base, "old"), (&dirs.mine, "old"), (&dirs.new, "new")] {
        put(dir, "conf", content);
        put(dir, "sudoers", content);
    }
    let mine = dirs.mine.join("conf");
    std::os::unix::fs::chown(&mine, Some(12), Some(34)).expect("needs root");
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o640)).expect("mode");
    xattr::set(&mine, "user.mine", b"1").expect("a filesystem with attributes");
    xattr::set(dirs.new.join("conf"), "user.new", b"2").expect("attribute");
    // A package tightens a mode while the device changes the content.
    fs::write(dirs.mine.join("sudoers"), "mine").expect("written");
    fs::write(dirs.new.join("sudoers"), "old").expect("written");
    fs::set_permissions(dirs.new.join("sudoers"), fs::Permissions::from_mode(0o440)).expect("mode");
    let report = merge(&dirs.base, &dirs.mine, &dirs.new).expect("merged");
    let meta = fs::metadata(dirs.new.join("conf")).expect("there");
    assert_eq!((text(&dirs.new, "conf").as_deref(), meta.uid(), meta.gid(), meta.mode() & 0o7777), (Some("new"), 12, 34, 0o640));
    for name in ["user.mine", "user.new"] {
        assert!(xattr::get(dirs.new.join("conf"), name).expect("read").is_some(), "{name}");
    }
    let sudoers = fs::metadata(dirs.new.join("sudoers")).expect("there");
    assert_eq!((text(&dirs.new, "sudoers").as_deref(), sudoers.mode() & 0o7777), (Some("mine"), 0o440));
    assert!(report.conflicts.is_empty(), "{report:?}");
}

#[test]
fn u7_accounts_are_merged_by_entry_and_keep_their_mode() {
    let dirs = dirs();
    for (dir, content) in [
        (&dirs.base, "root:!:1::::::\n"),
        (&dirs.mine, "root:$6$x:1::::::\nme:$6$y:1::::::\n"),
        (&dirs.new, "root:!:1::::::\nsvc:!:1::::::\n"),
    ] {
        put(dir, "shadow", content);
        fs::set_permissions(dir.join("shadow"), fs::Permissions::from_mode(0o600)).expect("mode");
    }
    merge(&dirs.base, &dirs.mine, &dirs.new).expect("merged");
    assert_eq!(text(&dirs.new, "shadow").as_deref(), Some("root:$6$x:1::::::\nsvc:!:1::::::\nme:$6$y:1::::::\n"));
    assert_eq!(fs::metadata(dirs.new.join("shadow")).expect("there").mode() & 0o7777, 0o600);
}
