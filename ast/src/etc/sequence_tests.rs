//! Years of a device in small: its owner edits, packages change, it is deployed and saved in any order, on real directories. After each merge
//! a model says what must be there: no edit of the owner is lost, and no change of the packages to what the owner left alone.
#![allow(clippy::disallowed_methods)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

/// A file, by everything that is judged apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Thing {
    content: u8,
    mode: u32,
    uid: u32,
    attribute: Option<u8>,
}

impl Thing {
    const NEW: Self = Self { content: 0, mode: 0o644, uid: 0, attribute: None };

    fn aspects(self) -> [u32; 4] {
        [u32::from(self.content), self.mode, self.uid, self.attribute.map_or(u32::MAX, u32::from)]
    }
}

type Model = BTreeMap<&'static str, Thing>;

const PATHS: [&str; 5] = ["a", "b", "d/x", "d/y", "e"];
const ATTRIBUTE: &str = "user.t";

#[derive(Debug, Clone, Copy)]
enum Change {
    Write(u8),
    Mode(bool),
    Owner(bool),
    Attribute(Option<u8>),
    Remove,
    /// Another name for the file at that path.
    Link(&'static str),
}

#[derive(Debug, Clone, Copy)]
enum Event {
    Owner(&'static str, Change),
    Packages(&'static str, Change),
    Deploy,
    Save,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let path = || prop::sample::select(PATHS.to_vec());
    let change = || {
        prop_oneof![
            4 => (0..4u8).prop_map(Change::Write),
            1 => any::<bool>().prop_map(Change::Mode),
            1 => any::<bool>().prop_map(Change::Owner),
            1 => prop::option::of(0..2u8).prop_map(Change::Attribute),
            2 => Just(Change::Remove),
        ]
    };
    let owner = prop_oneof![8 => change(), 1 => path().prop_map(Change::Link)];
    let event = prop_oneof![
        4 => (path(), owner).prop_map(|(path, change)| Event::Owner(path, change)),
        3 => (path(), change()).prop_map(|(path, change)| Event::Packages(path, change)),
        2 => Just(Event::Deploy),
        1 => Just(Event::Save),
    ];
    prop::collection::vec(event, 1..14)
}

/// A file becomes `thing`, at once or in place, with all that is judged.
fn put(path: &Path, thing: Thing) {
    fs::create_dir_all(path.parent().expect("parent")).expect("dir");
    fs::write(path, [thing.content]).expect("written");
    chown(path, Some(thing.uid), None).expect("needs root");
    fs::set_permissions(path, fs::Permissions::from_mode(thing.mode)).expect("mode");
    match thing.attribute {
        Some(value) => xattr::set(path, ATTRIBUTE, &[value]).expect("attribute"),
        None if xattr::get(path, ATTRIBUTE).expect("read").is_some() => xattr::remove(path, ATTRIBUTE).expect("gone"),
        None => {}
    }
}

fn get(path: &Path) -> Option<Thing> {
    let meta = fs::metadata(path).ok()?;
    let attribute = xattr::get(path, ATTRIBUTE).expect("read").map(|value| value[0]);
    Some(Thing { content: fs::read(path).expect("read")[0], mode: meta.mode() & 0o7777, uid: meta.uid(), attribute })
}

fn changed(thing: Option<Thing>, change: Change) -> Option<Thing> {
    let now = thing.unwrap_or(Thing::NEW);
    match change {
        Change::Write(content) => Some(Thing { content, ..now }),
        Change::Remove | Change::Link(_) => None,
        _ if thing.is_none() => None,
        Change::Mode(private) => Some(Thing { mode: if private { 0o600 } else { 0o644 }, ..now }),
        Change::Owner(other) => Some(Thing { uid: if other { 7 } else { 0 }, ..now }),
        Change::Attribute(attribute) => Some(Thing { attribute, ..now }),
    }
}

struct World {
    dir: tempfile::TempDir,
    count: u32,
    /// What packages bring now, and brought when the device was deployed.
    packages: Model,
    deployed: Model,
    edited: Edited,
}

impl World {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let dir = tempfile::tempdir_in(if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }).expect("dir");
        let packages = Model::from([("a", Thing::NEW), ("d/x", Thing { content: 1, ..Thing::NEW })]);
        let nowhere = PathBuf::new();
        let mut world = Self {
            dir,
            count: 0,
            deployed: packages.clone(),
            packages,
            edited: Edited { base: nowhere.clone(), saved: None, mine: nowhere },
        };
        world.edited.base = world.laid_out();
        world.edited.mine = world.laid_out();
        world
    }

    /// A directory with what packages bring.
    fn laid_out(&mut self) -> PathBuf {
        let at = self.directory();
        self.packages.iter().for_each(|(path, thing)| put(&at.join(path), *thing));
        at
    }

    fn directory(&mut self) -> PathBuf {
        self.count += 1;
        let at = self.dir.path().join(self.count.to_string());
        fs::create_dir(&at).expect("dir");
        at
    }

    fn read(&self, dir: &Path) -> Model {
        PATHS.into_iter().filter_map(|path| Some((path, get(&dir.join(path))?))).collect()
    }

    fn owner(&self, path: &str, change: Change) {
        let at = self.edited.mine.join(path);
        match change {
            Change::Link(from) if from != path => {
                drop(fs::remove_file(&at));
                fs::create_dir_all(at.parent().expect("parent")).expect("dir");
                drop(fs::hard_link(self.edited.mine.join(from), &at));
            }
            Change::Link(_) => {}
            Change::Remove => drop(fs::remove_file(&at)),
            _ => changed(get(&at), change).into_iter().for_each(|thing| put(&at, thing)),
        }
    }

    /// The merge into what packages bring, looked at.
    fn merge(&mut self, goal: Goal) -> PathBuf {
        let into = self.laid_out();
        let (mine, saved) = (self.read(&self.edited.mine), self.edited.saved.as_ref().map(|saved| self.read(saved)));
        let report = merge(&self.edited, &into, goal).expect("a merge never fails");
        assert_eq!(self.read(&self.edited.mine), mine, "the running /etc was written");
        for path in PATHS {
            self.judge(path, mine.get(path), saved.as_ref().map(|saved| saved.get(path)), &into, &report);
        }
        self.assert_linked(&into);
        into
    }

    fn judge(&self, path: &str, mine: Option<&Thing>, saved: Option<Option<&Thing>>, into: &Path, report: &Report) {
        let (base, new, result) = (self.deployed.get(path), self.packages.get(path), get(&into.join(path)));
        let about = format!("{path}: base {base:?} saved {saved:?} mine {mine:?} new {new:?} result {result:?} {report:?}");
        let touched = mine != base || saved.is_some_and(|saved| saved != mine);
        let (Some(mine), Some(new)) = (mine, new) else {
            // One side has none: whoever owns it decides about the whole.
            let want = if touched { mine } else { new };
            assert_eq!(result.as_ref(), want, "{about}");
            return;
        };
        let result = result.unwrap_or_else(|| panic!("lost: {about}"));
        for (index, (my, their)) in mine.aspects().into_iter().zip(new.aspects()).enumerate() {
            let differs = |from: Option<&Thing>| from.is_none_or(|from| from.aspects()[index] != my);
            let is = result.aspects()[index];
            let own = differs(base) || saved.is_some_and(differs);
            // Made and saved by the owner, and changed in the snapshot since: either is somebody's edit.
            let either = base.is_none() && saved.flatten().is_some() && !saved.is_some_and(differs);
            assert!(is == if own { my } else { their } || (either && is == their), "aspect {index} of {about}");
        }
        let update = saved.is_none() && base.is_some_and(|base| base.content != new.content) && mine.content != new.content;
        if update && result.content == mine.content {
            assert_eq!(fs::read(decide::pacnew_of(&into.join(path))).ok(), Some(vec![new.content]), "the package's is lost: {about}");
        }
    }

    /// What is one file for the owner is one in `into`, where it is the same.
    fn assert_linked(&self, into: &Path) {
        let inode = |dir: &Path, path: &str| fs::metadata(dir.join(path)).map(|meta| meta.ino()).ok();
        for (index, one) in PATHS.iter().enumerate() {
            for other in &PATHS[index + 1..] {
                let (a, b) = (inode(&self.edited.mine, one), inode(&self.edited.mine, other));
                if a.is_some() && a == b && get(&into.join(one)) == get(&into.join(other)) {
                    assert_eq!(inode(into, one), inode(into, other), "{one} and {other} were one file");
                }
            }
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Owner(path, change) => self.owner(path, change),
            Event::Packages(path, change) => match changed(self.packages.get(path).copied(), change) {
                Some(thing) => drop(self.packages.insert(path, thing)),
                None => drop(self.packages.remove(path)),
            },
            Event::Deploy => {
                let mine = self.merge(Goal::Deployment);
                self.edited = Edited { base: self.laid_out(), saved: None, mine };
                self.deployed = self.packages.clone();
            }
            Event::Save => {
                let into = self.merge(Goal::Snapshot);
                let saved = self.directory();
                for (path, thing) in self.read(&self.edited.mine) {
                    put(&saved.join(path), thing);
                }
                self.edited.saved = Some(saved);
                self.packages = self.read(&into);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn u7_no_edit_and_no_update_is_lost_in_any_order(events in events()) {
        let mut world = World::new();
        for event in events.into_iter().chain([Event::Save, Event::Deploy]) {
            world.happens(event);
        }
        // Deployed again with nothing changed, nothing changes.
        let (before, paths) = (world.read(&world.edited.mine), world.packages.keys().copied().collect::<BTreeSet<_>>());
        world.happens(Event::Deploy);
        prop_assert_eq!(world.read(&world.edited.mine), before, "{:?}", paths);
    }
}

#[test]
fn s8_names_of_one_file_stay_so_when_a_third_one_goes_its_way() {
    use Event::{Owner, Packages};
    let sequences = [
        vec![Packages("a", Change::Write(1)), Owner("b", Change::Link("a")), Owner("d/x", Change::Link("a"))],
        // One file here whose names get different modes from the packages.
        vec![
            Owner("d/x", Change::Link("a")),
            Packages("a", Change::Mode(true)),
            Packages("a", Change::Write(1)),
            Owner("d/x", Change::Write(2)),
        ],
    ];
    for events in sequences {
        let mut world = World::new();
        events.into_iter().chain([Event::Save, Event::Deploy]).for_each(|event| world.happens(event));
    }
}

#[test]
fn s8_a_mode_that_is_kept_does_not_reach_another_name_of_the_packages_file() {
    let mut world = World::new();
    world.owner("a", Change::Mode(true));
    world.packages.insert("b", Thing::NEW);
    let into = world.laid_out();
    fs::remove_file(into.join("b")).expect("gone");
    fs::hard_link(into.join("a"), into.join("b")).expect("linked");
    put(&into.join("a"), Thing { content: 3, ..Thing::NEW });
    merge(&world.edited, &into, Goal::Deployment).expect("merged");
    let modes = ["a", "b"].map(|path| get(&into.join(path)).expect("there")).map(|thing| (thing.content, thing.mode));
    assert_eq!(modes, [(3, 0o600), (3, 0o644)]);
}

#[test]
fn s8_a_list_of_the_directory_for_new_files_does_not_reach_what_is_copied() {
    let world = World::new();
    // default: user::rwx user:12:rwx group::r-x mask::rwx other::r-x, as setfacl writes it.
    let acl = [2u32, 0x0007_0001, u32::MAX, 0x0007_0002, 12, 0x0005_0004, u32::MAX, 0x0007_0010, u32::MAX, 0x0005_0020, u32::MAX];
    let acl: Vec<u8> = acl.iter().flat_map(|word| word.to_le_bytes()).collect();
    for side in [&world.edited.base, &world.edited.mine] {
        xattr::set(side.join("d"), "system.posix_acl_default", &acl).expect("an ACL");
    }
    put(&world.edited.mine.join("d/y"), Thing::NEW);
    xattr::remove(world.edited.mine.join("d/y"), "system.posix_acl_access").expect("inherited here");
    fs::set_permissions(world.edited.mine.join("d/y"), fs::Permissions::from_mode(0o644)).expect("mode");
    let into = world.dir.path().join("into");
    fs::create_dir_all(into.join("d")).expect("dir");
    xattr::set(into.join("d"), "system.posix_acl_default", &acl).expect("an ACL");
    merge(&world.edited, &into, Goal::Deployment).expect("merged");
    assert_eq!(xattr::get(into.join("d/y"), "system.posix_acl_access").expect("read"), None);
    assert_eq!(xattr::get(into.join("d"), "system.posix_acl_default").expect("read"), Some(acl));
}

#[test]
fn u7_files_of_an_account_that_moved_belong_to_it() {
    let world = World::new();
    let text = |dir: &Path, name: &str, text: &str| fs::write(dir.join(name), text).expect("written");
    let owned = |dir: &Path, name: &str, id: u32| {
        text(dir, name, name);
        chown(dir.join(name), Some(id), Some(id)).expect("needs root");
    };
    let into = world.dir.path().join("into");
    fs::create_dir(&into).expect("dir");
    let mine = world.edited.mine.clone();
    for (dir, users) in
        [(&world.edited.base, ""), (&mine, "alice:x:1000:1000::/home/alice:/bin/sh\n"), (&into, "bob:x:1000:1000::/home/bob:/bin/sh\n")]
    {
        text(dir, "passwd", &format!("root:x:0:0::/root:/bin/sh\n{users}"));
        let group = users.split(':').next().filter(|name| !name.is_empty()).map(|name| format!("{name}:x:1000:\n"));
        text(dir, "group", &format!("root:x:0:\n{}", group.unwrap_or_default()));
    }
    owned(&mine, "of-alice", 1000);
    owned(&into, "of-bob", 1000);
    owned(&into, "a", 1000);
    owned(&mine, "both", 1000);
    owned(&into, "both", 1000);
    let report = merge(&world.edited, &into, Goal::Deployment).expect("merged");
    let owner = |name: &str| fs::metadata(into.join(name)).map(|meta| (meta.uid(), meta.gid())).expect("there");
    assert_eq!((owner("of-alice"), owner("of-bob"), owner("a")), ((1000, 1000), (1001, 1001), (1001, 1001)));
    assert_eq!(owner("both"), (1000, 1000), "the device's file, kept, with the device's owner");
    assert_eq!(report.moved.iter().map(|m| (m.name.as_str(), m.to)).collect::<Vec<_>>(), [("bob", 1001), ("bob", 1001)]);
    assert_eq!(report.json()["renumbered"][0], serde_json::json!({ "kind": "group", "name": "bob", "from": 1000, "to": 1001 }));
    assert!(report.to_look_at().iter().any(|line| line.starts_with("user bob has number 1001 here")), "{:?}", report.to_look_at());
    let passwd = fs::read_to_string(into.join("passwd")).expect("text");
    assert_eq!(passwd.lines().count(), 3, "{passwd}");
}
