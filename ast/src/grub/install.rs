//! Puts what GRUB reads in its place: beside the old, older copy first, each by one rename.
//!
//! GRUB reads a menu only if it matches its sums, and `good.cfg` only if it is whole, so every state in between these renames
//! is one that it knows to handle. `grub.cfg` itself is not touched here but by [`write_script`].
//!
//! What the disk does not give back is replaced like what is not there: all of it is derived, and GRUB cannot read it either.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::GrubError;
use super::env::Baked;
use super::groups;
use super::lexer::SyntaxError;
use super::menu::{self, MenuInput};
use super::parser::{What, Word, entries, parse};
use super::script::{self, ScriptConfig};
use crate::sys::file;

/// The `grub.cfg` of the original Python program, below GRUB's directory, on a machine that was its.
pub const ORIGINAL_MENU: &str = "ast/original.cfg";
/// The baked entry, below the directory of the menu.
const GOOD: &str = "good.cfg";
/// The one before.
const GOOD_BEFORE: &str = "good.prev.cfg";
/// What `grub.cfg` is like, below GRUB's directory, if ast wrote it.
const SCRIPT_SUMS: &str = "ast/grub.sums";

/// What has to be replaced in `grub_dir` (`@boot/grub/ast`) for a menu to be another one.
#[derive(Debug)]
#[must_use = "the menu is as it was until this is published"]
pub struct NewMenu {
    dir: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// Names of the groups that it has; files of others are left from larger ones.
    groups: BTreeSet<String>,
}

impl NewMenu {
    /// For `menu.cfg` and `snapshots.cfg` to be made of `input`, and `*.prev.cfg` to be the ones before, or the same.
    ///
    /// Refuses: what our own reader of GRUB's language cannot read back.
    pub fn of(grub_dir: &Path, input: &MenuInput) -> Result<Self, GrubError> {
        let (menu_text, snapshots_text) = (menu::menu(input)?, menu::snapshots(input));
        check_menu(&menu_text, input)?;
        check_snapshots(&snapshots_text, input)?;
        file::make_dirs(grub_dir)?;
        // The groups before the menu that leads to them. They have none before them: what GRUB reads instead is the one list.
        let groups = groups::groups(&input.snapshots);
        let mut files = Vec::new();
        for (name, text) in &groups {
            check_group(name, text, input)?;
            for (path, bytes) in of(grub_dir, name, text.as_bytes()) {
                files.extend(if_other(path, bytes)?);
            }
        }
        for (name, text) in [("snapshots", &snapshots_text), ("menu", &menu_text)] {
            files.extend(pair(grub_dir, name, text)?);
        }
        Ok(Self { dir: grub_dir.to_owned(), files, groups: groups.into_iter().map(|(name, _)| name).collect() })
    }

    /// It waits beside the menu, and is where GRUB reads after the next `sys::file::syncfs`.
    ///
    /// If interrupted: the menu is as it was; files named `.NAME.tmp` may be left, which the next one overwrites.
    pub fn stage(&self) -> Result<(), GrubError> {
        Ok(self.files.iter().try_for_each(|(path, bytes)| file::stage(path, bytes))?)
    }

    /// What was staged, and synced since, is the menu.
    ///
    /// If interrupted: GRUB reads the new menu, the one before, or none; nothing that starts by itself depends on it.
    /// The caller commits with `sys::file::syncfs`: GRUB does not see what is only in the log tree.
    pub fn publish(self) -> Result<(), GrubError> {
        self.files.iter().try_for_each(|(path, _)| file::publish(path))?;
        let is_group = |name: &str| name.starts_with(groups::GROUP) || name.starts_with(groups::GROUPS);
        for name in file::names(&self.dir)?.iter().filter_map(|name| name.to_str()) {
            let path = self.dir.join(name);
            let left = is_group(name) && name.split('.').next().is_none_or(|group| !self.groups.contains(group));
            // A draft is left by who was killed. GRUB takes its time for each name in a directory.
            if left || file::is_staged(&path) {
                file::remove_if_exists(&path)?;
            }
        }
        Ok(())
    }
}

/// The menu in `grub_dir` is made of `input`: see [`NewMenu`].
pub fn write_menu(grub_dir: &Path, input: &MenuInput) -> Result<(), GrubError> {
    let new = NewMenu::of(grub_dir, input)?;
    if !new.files.is_empty() {
        new.stage()?;
        file::syncfs(grub_dir)?;
    }
    new.publish()
}

/// `menu.prev.cfg` and `snapshots.prev.cfg` are what the menu is, so that nothing that is about to be deleted is named by them. GRUB reads
/// them when the menu itself is damaged. Whether any was changed.
///
/// If interrupted: as [`write_menu`]. The menu itself is committed before any of them is replaced, so one of the two is always whole where GRUB
/// reads; these the caller commits.
pub fn previous_follows(grub_dir: &Path) -> Result<bool, GrubError> {
    let mut files = Vec::new();
    for name in ["snapshots", "menu"] {
        let Some(text) = file::read_if_readable(&grub_dir.join(format!("{name}.cfg")))? else { continue };
        let sums = menu::sums(&format!("{name}.prev.cfg"), &text).into_bytes();
        for (suffix, bytes) in [("cfg", text), ("sums", sums)] {
            files.extend(if_other(grub_dir.join(format!("{name}.prev.{suffix}")), bytes)?);
        }
    }
    file::replace_all(grub_dir, &files)?;
    Ok(!files.is_empty())
}

/// Every file that the menu and the baked entries in `grub_dir` are made of, but for the groups of a long list.
pub fn derived(grub_dir: &Path) -> impl Iterator<Item = PathBuf> + '_ {
    let pairs = ["menu", "menu.prev", "snapshots", "snapshots.prev"].into_iter().flat_map(|name| ["cfg", "sums"].map(|suffix| format!("{name}.{suffix}")));
    pairs.chain([GOOD.to_owned(), GOOD_BEFORE.to_owned()]).map(|name| grub_dir.join(name))
}

/// `good.cfg` in `grub_dir` names `baked`; the one before is `good.prev.cfg`. In its place already: nothing is written. One before that cannot be
/// read becomes the same: as long as nobody knows what it names, nothing may be deleted.
///
/// If interrupted: the old or the new one is there, whole. The caller commits with `syncfs`.
pub fn write_good(grub_dir: &Path, baked: &Baked) -> Result<(), GrubError> {
    let bytes = baked.encode()?;
    file::make_dirs(grub_dir)?;
    let (path, before) = (grub_dir.join(GOOD), grub_dir.join(GOOD_BEFORE));
    let old = file::read_if_readable(&path)?;
    if old.as_ref() != Some(&bytes) {
        // Only a whole one is worth keeping: else two bad ones would be left after two damages.
        if let Some(old) = old.filter(|old| Baked::parse(old).is_ok()) {
            file::replace(&before, &old)?;
        }
        file::replace(&path, &bytes)?;
    }
    match file::read_if_exists(&before) {
        Err(error) if error.is_unreadable() => Ok(file::replace(&before, &bytes)?),
        other => Ok(other.map(drop)?),
    }
}

/// The deployments that `good.cfg` and `good.prev.cfg` in `grub_dir` name: they are never deleted (S14).
pub fn baked_in(grub_dir: &Path) -> Result<Vec<Baked>, GrubError> {
    let mut all = Vec::new();
    for name in [GOOD, GOOD_BEFORE] {
        let bytes = file::read_if_readable(&grub_dir.join(name))?;
        all.extend(bytes.and_then(|bytes| Baked::parse(&bytes).ok()));
    }
    Ok(all)
}

/// `grub.cfg` in `boot_grub` (`@boot/grub`) is the fixed script for this machine, and its sums vouch for it.
///
/// If interrupted: the old or the new one is there, whole; without its sums our core image prefers its own copy. The caller commits with `syncfs`.
pub fn write_script(boot_grub: &Path, config: &ScriptConfig) -> Result<(), GrubError> {
    let text = script::render(config)?;
    file::replace(&boot_grub.join("grub.cfg"), text.as_bytes())?;
    let sums = boot_grub.join(SCRIPT_SUMS);
    file::make_dirs(sums.parent().unwrap_or(boot_grub))?;
    Ok(file::replace(&sums, menu::sums("grub.cfg", text.as_bytes()).as_bytes())?)
}

/// Whether ast vouches for the `grub.cfg` in `boot_grub`: it wrote it.
pub fn is_vouched_for(boot_grub: &Path) -> Result<bool, GrubError> {
    Ok(file::read_if_exists(&boot_grub.join(SCRIPT_SUMS))?.is_some())
}

/// Nobody vouches for the `grub.cfg` in `boot_grub` any more: another program is about to replace it.
pub fn withdraw_script(boot_grub: &Path) -> Result<(), GrubError> {
    Ok(file::remove_if_exists(&boot_grub.join(SCRIPT_SUMS))?)
}

/// The menu reads back as the lines that it was made of.
fn check_menu(text: &str, input: &MenuInput) -> Result<(), GrubError> {
    let found = entries(&parse(text).map_err(|e| unread("menu.cfg", e))?).len();
    let wanted = usize::from(!input.snapshots.is_empty()) + input.others.len();
    if found == wanted { Ok(()) } else { Err(GrubError::Entries { file: "menu.cfg", found, wanted }) }
}

/// Each line reads back as one call of one of our functions, whatever a description holds.
fn check_snapshots(text: &str, input: &MenuInput) -> Result<(), GrubError> {
    let script = parse(text).map_err(|e| unread("snapshots.cfg", e))?;
    let calls = script.iter().filter_map(|statement| match &statement.what {
        What::Command { words, block: None } => words.iter().map(Word::literal).collect::<Option<Vec<_>>>(),
        _ => None,
    });
    let is_ours = |(words, line): &(Vec<String>, &menu::SnapshotLine)| {
        let (n, set) = (line.set.snapshot.to_string(), line.set.to_string());
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["ast_snapshot", a, b, _] => line.bootable && *a == n && *b == set,
            ["ast_unbootable", a, _] => !line.bootable && *a == n,
            _ => false,
        }
    };
    let (found, wanted) = (calls.zip(&input.snapshots).filter(is_ours).count(), input.snapshots.len());
    if found == wanted && script.len() == wanted { Ok(()) } else { Err(GrubError::Entries { file: "snapshots.cfg", found, wanted }) }
}

/// Each line of a group is one of ours, each of the list of groups a submenu.
fn check_group(name: &str, text: &str, input: &MenuInput) -> Result<(), GrubError> {
    let script = parse(text).map_err(|e| unread("a group", e))?;
    let (found, wanted) = match name {
        groups::GROUPS => (entries(&script).iter().filter(|entry| entry.submenu).count(), input.snapshots.len().div_ceil(groups::EACH)),
        _ => {
            let ours = |first: &str| first == "ast_snapshot" || first == "ast_unbootable";
            let is_ours = |what: &What| matches!(what, What::Command { words, block: None } if words.first().and_then(Word::literal).is_some_and(|w| ours(&w)));
            (script.iter().filter(|statement| is_ours(&statement.what)).count(), text.lines().count())
        }
    };
    if found == wanted && script.len() == wanted { Ok(()) } else { Err(GrubError::Entries { file: "a group", found, wanted }) }
}

fn unread(file: &'static str, error: SyntaxError) -> GrubError {
    GrubError::Script { file, error }
}

/// What is to be written, in this order, for one file to be this text, with its sums. The pair before it goes to `NAME.prev.*` first, if it
/// is whole; where it is there already, `NAME.prev.*` follows at once.
fn pair(dir: &Path, name: &str, text: &str) -> Result<Vec<(PathBuf, Vec<u8>)>, GrubError> {
    let of = |name: &str, text: &[u8]| of(dir, name, text);
    let prev = format!("{name}.prev");
    let new = of(name, text.as_bytes());
    let Some(old) = file::read_if_readable(&dir.join(format!("{name}.cfg")))? else { return Ok(new.into()) };
    if !is_there(&of(name, &old))? {
        return Ok(new.into());
    }
    if old == text.as_bytes() {
        return Ok(Vec::new());
    }
    let kept = of(&prev, &old);
    // Whatever is replaced when the power goes, one of the two pairs is whole: renames come to disk in their order.
    Ok(if is_there(&kept)? { new.into_iter().chain(of(&prev, text.as_bytes())).collect() } else { kept.into_iter().chain(new).collect() })
}

/// A file of this name and text, and its sums.
fn of(dir: &Path, name: &str, text: &[u8]) -> [(PathBuf, Vec<u8>); 2] {
    let sums = menu::sums(&format!("{name}.cfg"), text).into_bytes();
    [(dir.join(format!("{name}.cfg")), text.to_owned()), (dir.join(format!("{name}.sums")), sums)]
}

/// Each file holds this already.
fn is_there(files: &[(PathBuf, Vec<u8>)]) -> Result<bool, GrubError> {
    for (path, bytes) in files {
        if file::read_if_readable(path)?.as_ref() != Some(bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The file, unless it holds this already: most often the menu before is kept already.
fn if_other(path: PathBuf, bytes: Vec<u8>) -> Result<Option<(PathBuf, Vec<u8>)>, GrubError> {
    let same = file::read_if_readable(&path)?.is_some_and(|there| there == bytes);
    Ok((!same).then_some((path, bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grub::env::BootEnv;
    use crate::id::DeployId;

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn b16_the_menu_before_is_kept_and_a_damaged_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut input = MenuInput::default();
        write_menu(dir.path(), &input).expect("written");
        assert_eq!(names(dir.path()), ["menu.cfg", "menu.sums", "snapshots.cfg", "snapshots.sums"]);
        // What a kill left of a larger menu goes with the next one.
        file::put(&dir.path().join(".group-3.cfg.tmp"), b"cut").expect("left");
        let first = std::fs::read(dir.path().join("menu.cfg")).expect("the menu");
        input.settings.timeout = 9;
        write_menu(dir.path(), &input).expect("written");
        assert_eq!(std::fs::read(dir.path().join("menu.prev.cfg")).expect("the one before"), first);
        let sums = std::fs::read_to_string(dir.path().join("menu.prev.sums")).expect("its sums");
        assert_eq!(sums, menu::sums("menu.prev.cfg", &first));
        assert_eq!(names(dir.path()).iter().filter(|name| name.ends_with(".tmp")).count(), 0, "a draft was left");
        crate::sys::file::write_in_place(&dir.path().join("menu.cfg"), 0, b"garbage").expect("damaged");
        input.settings.timeout = 10;
        write_menu(dir.path(), &input).expect("written");
        assert_eq!(std::fs::read(dir.path().join("menu.prev.cfg")).expect("the one before"), first, "the damaged one was kept");
        // From where both are the same, both go on together, the menu first.
        assert!(previous_follows(dir.path()).expect("written"));
        let second = std::fs::read_to_string(dir.path().join("menu.cfg")).expect("the menu");
        let third = second.replace("10", "11");
        let files = pair(dir.path(), "menu", &third).expect("read");
        let names: Vec<_> = files.iter().filter_map(|(path, _)| path.file_name()?.to_str()).collect();
        assert_eq!(names, ["menu.cfg", "menu.sums", "menu.prev.cfg", "menu.prev.sums"]);
        input.settings.timeout = 11;
        write_menu(dir.path(), &input).expect("written");
        assert_eq!(
            std::fs::read(dir.path().join("menu.cfg")).expect("the menu"),
            std::fs::read(dir.path().join("menu.prev.cfg")).expect("its copy")
        );
        assert!(!previous_follows(dir.path()).expect("read"), "there is nothing left to do");
    }

    /// GRUB takes its time for each line, so it is shown only those that a person asks for.
    #[test]
    fn b7_thousands_are_listed_in_groups_and_none_is_left_out() {
        let dir = tempfile::tempdir().expect("a directory");
        let line = |n: u32| menu::SnapshotLine {
            set: format!("{n}.1").parse().expect("a set"),
            description: "'; halt; '".to_owned(),
            kernel: None,
            created: Some(1_700_000_000 + u64::from(n) * 86_400),
            health: None,
            state: Vec::new(),
            bootable: n != 3,
        };
        let mut input = MenuInput { snapshots: (0..250).map(line).collect(), ..MenuInput::default() };
        write_menu(dir.path(), &input).expect("written");
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
        assert!(read("menu.cfg").contains("if ast_source groups; then set ast_nop=0; elif ast_source snapshots; then"));
        let list = "submenu '249 - 150  2024-07-20 - 2024-04-12' --id ast-g0 --class ast { if ast_source group-0; then set ast_nop=0; elif ast_source snapshots; then";
        assert!(read("groups.cfg").starts_with(list), "{}", read("groups.cfg"));
        assert_eq!(read("groups.cfg").lines().count(), 3);
        let all = ["group-0.cfg", "group-1.cfg", "group-2.cfg"].map(read).concat();
        let sorted = |text: &str| text.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        assert_eq!((sorted(&all), all.lines().count()), (sorted(&read("snapshots.cfg")), 250));
        assert_eq!(read("group-2.sums"), menu::sums("group-2.cfg", read("group-2.cfg").as_bytes()));
        // Fewer again: nothing leads to groups, and none are left.
        input.snapshots.truncate(3);
        write_menu(dir.path(), &input).expect("written");
        assert!(!read("menu.cfg").contains("groups") && names(dir.path()).iter().all(|name| !name.starts_with("group")), "{:?}", names(dir.path()));
    }

    #[test]
    fn s14_the_good_one_before_is_still_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let baked = |d| Baked {
            good: DeployId::new(d),
            env: BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], &["quiet".into()], "Arch").expect("fits"),
        };
        for d in [4, 5, 5, 6] {
            write_good(dir.path(), &baked(d)).expect("written");
        }
        let named: Vec<u32> = baked_in(dir.path()).expect("read").iter().map(|b| b.good.get()).collect();
        assert_eq!(named, [6, 5]);
    }
}
