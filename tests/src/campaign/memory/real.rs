//! A real btrfs is asked whether what stands for it here does as it does.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::symlink;
use std::path::Path;

use ast::sys::btrfs::{self, Access};
use ast::sys::file;

use super::super::CampaignError;
use super::super::past::Past;
use super::cuts::each;
use super::disk::{Disk, Node};
use super::trace::Recorder;
use super::{Machine, verbs};
use crate::cut::{Recording, Report, Seed, Strategy, new_btrfs, replay};

/// What a subvolume is asked and told, on any btrfs: what was said to each, in words.
///
/// Both must say the same.
pub fn contract(top: &Path) -> Vec<String> {
    let mut said = Vec::new();
    let relative = |path: &Path| path.strip_prefix(top).unwrap_or(path).to_string_lossy().into_owned();
    let mut ask = |what: &str, answer: Result<String, ast::sys::SysError>| {
        said.push(format!("{what}: {}", answer.unwrap_or_else(|error| format!("{:?}", error.errno()))));
    };
    let done = |result: Result<(), ast::sys::SysError>| result.map(|()| "done".to_owned());
    let (a, b, c, w) = (top.join("a"), top.join("b"), top.join("c"), top.join("w"));
    ask("create", done(btrfs::create_subvolume(&a)));
    ask("create again", done(btrfs::create_subvolume(&a)));
    ask("create nowhere", done(btrfs::create_subvolume(&top.join("none/x"))));
    std::fs::create_dir(a.join("dir")).expect("dir");
    std::fs::write(a.join("dir/file"), "content").expect("written");
    symlink("dir/file", a.join("link")).expect("link");
    std::fs::hard_link(a.join("dir/file"), a.join("second")).expect("link");
    ask("create inside", done(btrfs::create_subvolume(&a.join("dir/nested"))));
    ask("read-only copy", done(btrfs::snapshot(&a, &b, Access::ReadOnly)));
    ask("copy again", done(btrfs::snapshot(&a, &b, Access::ReadOnly)));
    ask("copy of nothing", done(btrfs::snapshot(&top.join("none"), &c, Access::ReadOnly)));
    ask("copy of a directory", done(btrfs::snapshot(&a.join("dir"), &c, Access::ReadOnly)));
    ask("writable copy of a copy", done(btrfs::snapshot(&b, &w, Access::Writable)));
    ask("copy into what is sealed", done(btrfs::snapshot(&a, &b.join("x"), Access::ReadOnly)));
    ask("create in what is sealed", done(btrfs::create_subvolume(&b.join("x"))));
    for path in
        [&a, &b, &w, &a.join("dir"), &a.join("dir/nested"), &b.join("dir/nested"), &a.join("link"), &a.join("second"), &top.join("none")]
    {
        ask(&format!("{} is one", relative(path)), btrfs::subvolume_there(path).map(|is| is.to_string()));
    }
    for path in [&a, &b, &w, &a.join("dir"), &top.join("none")] {
        ask(&format!("{} is read-only", relative(path)), btrfs::is_read_only(path).map(|is| is.to_string()));
    }
    let nested = |path: &Path| {
        btrfs::nested_subvolumes(path)
            .map(|all| all.iter().map(|path| relative(path)).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(" "))
    };
    for path in [&a, &b, &w] {
        ask(&format!("inside {}", relative(path)), nested(path));
    }
    let same = |one: &Path, other: &Path| Ok((btrfs::subvolume_id(one)? == btrfs::subvolume_id(other)?).to_string());
    ask("a directory is in its subvolume", same(&a, &a.join("dir")));
    ask("a nested one is another", same(&a, &a.join("dir/nested")));
    ask("a copy is another", same(&a, &b));
    ask("later is higher", Ok((btrfs::subvolume_id(&w).expect("id") > btrfs::subvolume_id(&b).expect("id")).to_string()));
    ask("one filesystem", Ok((btrfs::filesystem_uuid(&a).expect("uuid") == btrfs::filesystem_uuid(&b).expect("uuid")).to_string()));
    ask("delete what holds another", done(btrfs::delete_subvolume(&a)));
    ask("delete a directory", done(btrfs::delete_subvolume(&a.join("dir"))));
    ask("delete nothing", done(btrfs::delete_subvolume(&top.join("none"))));
    ask("seal", done(btrfs::set_read_only(&a, true)));
    ask("delete inside what is sealed", done(btrfs::delete_subvolume(&a.join("dir/nested"))));
    ask("open", done(btrfs::set_read_only(&a, false)));
    ask("delete the nested", done(btrfs::delete_subvolume(&a.join("dir/nested"))));
    ask("exchange", done(file::exchange(&a, &b)));
    ask("the seal went along", btrfs::is_read_only(&a).map(|is| is.to_string()));
    ask("delete what is sealed", done(btrfs::delete_subvolume(&a)));
    ask("commit", done(btrfs::commit(top)));
    let mut left = Vec::new();
    list(top, top, &mut left);
    said.extend(left);
    said
}

fn list(top: &Path, dir: &Path, found: &mut Vec<String>) {
    for name in file::names(dir).expect("names") {
        let path = dir.join(&name);
        let meta = std::fs::symlink_metadata(&path).expect("there");
        let shown = path.strip_prefix(top).expect("below").display();
        if meta.is_dir() {
            found.push(format!("{shown}/ subvolume {}", btrfs::is_subvolume(&path)));
            list(top, &path, found);
        } else if meta.is_symlink() {
            found.push(format!("{shown} -> {}", std::fs::read_link(&path).expect("a link").display()));
        } else {
            found.push(format!("{shown} = {}", String::from_utf8_lossy(&std::fs::read(&path).expect("readable"))));
        }
    }
}

/// The same on the one in memory.
pub fn contract_in_memory() -> Vec<String> {
    contract(&Machine::new().top())
}

/// Where a machine in memory is another one after any of the verbs than the real one that was recorded.
pub(in super::super) fn differences(real: &Past) -> Vec<String> {
    // A thread of its own: what stands for its btrfs ends with it.
    let memory = std::thread::scope(|scope| scope.spawn(verbs).join());
    memory.map_or_else(|_| vec!["a verb did not work in memory".to_owned()], |memory| between(real, &memory.past))
}

fn between(real: &Past, memory: &Past) -> Vec<String> {
    let mut found = Vec::new();
    // The name of a live change has the process in it.
    let said = |text: &str| text.split(" | changed live by ").next().unwrap_or_default().to_owned();
    for (one, other) in real.was.iter().zip(&memory.was) {
        if (&one.verb, said(&one.said)) != (&other.verb, said(&other.said)) {
            found.push(format!("after {}: {} and {}", one.verb, one.said, other.said));
        }
        let (a, b): (BTreeSet<_>, BTreeSet<_>) = (one.paths.iter().collect(), other.paths.iter().collect());
        found.extend(a.symmetric_difference(&b).map(|path| format!("after {}: {path:?} is only in one", one.verb)));
        if one.shared != other.shared || one.waits.len() != other.waits.len() {
            found.push(format!("after {}: /var differs", one.verb));
        }
        let there = |menus: &BTreeMap<String, Option<Vec<u8>>>| {
            menus.iter().map(|(name, bytes)| (name.clone(), bytes.is_some())).collect::<Vec<_>>()
        };
        if there(&one.menus) != there(&other.menus) {
            found.push(format!("after {}: the menus differ", one.verb));
        }
    }
    if real.was.len() != memory.was.len() || real.steps != memory.steps {
        found.push("other verbs or steps".to_owned());
    }
    // Records bear a time, and what was changed live its name.
    let is_dated = |path: &str| path.ends_with("deployment.json") || path.ends_with("/live") || path.ends_with(".updated");
    for (path, versions) in real.files.iter().filter(|(path, _)| !is_dated(path)) {
        if memory.files.get(path) != Some(versions) {
            found.push(format!("/{path} has other content"));
        }
    }
    found
}

/// One thing to do with files, by its name.
type Doing = (&'static str, fn(&Path));

/// One after the other: each way in which the product writes.
const DOINGS: [Doing; 12] = [
    ("new", |top| std::fs::write(top.join("s/new"), long("new")).expect("written")),
    ("replace", |top| file::replace(&top.join("d/replaced"), &long("one")).expect("replaced")),
    ("rename", |top| {
        std::fs::write(top.join("d/.renamed"), long("renamed")).expect("written");
        file::rename(&top.join("d/.renamed"), &top.join("d/renamed")).expect("renamed");
    }),
    ("link", |top| file::symlink_replace(Path::new("replaced"), &top.join("d/link")).expect("linked")),
    ("keep", |top| {
        for word in ["older", "old", "newest"] {
            file::replace_keeping_old(&top.join("d/kept"), &long(word)).expect("replaced");
        }
    }),
    ("snapshot", |top| btrfs::snapshot(&top.join("s"), &top.join("copy"), Access::ReadOnly).expect("copied")),
    ("append", |top| file::append_line(&top.join("d/lines"), "a line").expect("appended")),
    ("all", |top| {
        let files = ["x", "y"].map(|name| (top.join("d").join(name), long(name)));
        file::replace_all(&top.join("d"), &files).expect("replaced");
    }),
    ("remove", |top| file::remove_if_exists(&top.join("d/renamed")).expect("removed")),
    ("clone", |top| {
        std::fs::create_dir(top.join("d/.ast-merge-dir")).expect("dir");
        std::fs::remove_dir(top.join("d/.ast-merge-dir")).expect("gone");
        std::fs::copy(top.join("s/new"), top.join("d/.ast-merge-clone")).expect("cloned");
        file::rename(&top.join("d/.ast-merge-clone"), &top.join("d/clone")).expect("renamed");
    }),
    // Somebody's commit, which waits for nobody's data.
    ("commit", |top| btrfs::snapshot(&top.join("other"), &top.join("somebodys"), Access::ReadOnly).expect("copied")),
    ("delete", |top| btrfs::delete_subvolume(&top.join("copy")).expect("deleted")),
];

/// Too long to lie inside metadata, and easy to tell apart.
fn long(word: &str) -> Vec<u8> {
    format!("{word}\n").repeat(3000).into_bytes()
}

fn prepare(top: &Path) {
    for name in ["s", "other"] {
        btrfs::create_subvolume(&top.join(name)).expect("subvolume");
    }
    std::fs::create_dir(top.join("d")).expect("dir");
    std::fs::write(top.join("s/base"), long("base")).expect("written");
    file::syncfs(top).expect("synced");
}

/// Names and contents in words: what a state shows.
fn shown(disk: &Disk) -> BTreeMap<String, String> {
    fn inside(disk: &Disk, at: &str, found: &mut BTreeMap<String, String>) {
        let Some(Node::Dir(dir)) = disk.get(at) else { return };
        for (name, node) in &dir.names {
            let path = if at.is_empty() { name.clone() } else { format!("{at}/{name}") };
            match node {
                Node::Dir(_) => inside(disk, &path, found),
                Node::File(ino, bytes) => drop(found.insert(path, word(&disk.content(*ino, bytes).bytes))),
                Node::Link(to) => drop(found.insert(path, format!("-> {to}"))),
            }
        }
    }
    let mut found = BTreeMap::new();
    inside(disk, "", &mut found);
    found
}

fn word(bytes: &[u8]) -> String {
    format!("{} bytes of {}", bytes.len(), String::from_utf8_lossy(bytes.split(|b| *b == b'\n').next().unwrap_or_default()))
}

/// Everything that a real btrfs shows after a cut, to the kernel and to GRUB, is what is enumerated here for that moment.
pub fn durable(seed: u64) -> Result<Report, CampaignError> {
    let machine = Machine::new();
    prepare(&machine.top());
    let recorder = Recorder::begin(&machine);
    for (_, does) in DOINGS {
        does(&machine.top());
        recorder.mark();
    }
    let mut allowed: BTreeSet<(usize, bool, BTreeMap<String, String>)> = BTreeSet::new();
    for cut in recorder.end() {
        each(&cut, 0, &mut Seed::new(seed), &mut |left| {
            allowed.extend(left.for_kernel.iter().map(|disk| (cut.confirmed, true, shown(disk))));
            allowed.insert((cut.confirmed, false, shown(&left.for_grub)));
        });
    }
    ast::sys::witness::set(None);
    let dir = tempfile::tempdir().map_err(|source| CampaignError::Io { path: std::env::temp_dir(), source })?;
    let image = dir.path().join("base.img");
    new_btrfs(&image, 128 << 20, prepare)?;
    let mut recording = Recording::new(&image, 0)?;
    let top = recording.mount("subvolid=5")?.to_owned();
    for (index, (_, does)) in DOINGS.into_iter().enumerate() {
        does(&top);
        recording.mark(&(index + 1).to_string())?;
    }
    let log = recording.finish()?;
    let all: BTreeSet<String> = allowed.iter().flat_map(|(.., files)| files.keys().cloned()).collect();
    Ok(replay(&log, Strategy::Subsets { seed, per_flush: 2 }, |state| {
        let confirmed = state.marks().last().map_or(0, |mark| mark.parse().expect("a number"));
        let doing = DOINGS.get(confirmed).map_or("nothing", |(name, _)| name);
        let mut for_grub = BTreeMap::new();
        // What a link leads to GRUB reads itself.
        for path in all.iter().filter(|path| !path.ends_with("/link")) {
            if let Ok(bytes) = state.grub_view(&format!("/{path}")) {
                for_grub.insert(path.clone(), word(&bytes));
            }
        }
        let links = |files: &BTreeMap<String, String>| {
            files.iter().filter(|(path, _)| !path.ends_with("/link")).map(|(a, b)| (a.clone(), b.clone())).collect::<BTreeMap<_, _>>()
        };
        if !allowed.iter().any(|(at, kernel, files)| *at == confirmed && !kernel && links(files) == for_grub) {
            return Err(format!("in {doing} GRUB sees {for_grub:#?}"));
        }
        let top = state.mount("subvolid=5").map_err(|e| e.to_string())?;
        let mut for_kernel = BTreeMap::new();
        real_files(&top, &top, &mut for_kernel);
        if !allowed.contains(&(confirmed, true, for_kernel.clone())) {
            return Err(format!("in {doing} the kernel sees {for_kernel:#?}"));
        }
        Ok(doing.to_owned())
    })?)
}

fn real_files(top: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for name in file::names(dir).expect("names") {
        let path = dir.join(name);
        let meta = std::fs::symlink_metadata(&path).expect("there");
        let at = path.strip_prefix(top).expect("below").to_string_lossy().into_owned();
        if meta.is_dir() {
            real_files(top, &path, found);
        } else if meta.is_symlink() {
            found.insert(at, format!("-> {}", std::fs::read_link(&path).expect("a link").display()));
        } else {
            found.insert(at, word(&std::fs::read(&path).expect("readable")));
        }
    }
}
