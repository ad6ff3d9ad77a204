//! Where a new machine's packages come from: the `pacman.conf` that it was installed with, as it has to be there.

use std::path::{Path, PathBuf};

use crate::apply::ApplyError;
use crate::layout;
use crate::sys::{SysError, file};

/// Keys of `pacman.conf` that say where things are on the machine that installs.
const OF_THIS_HOST: [&str; 6] = ["RootDir", "DBPath", "CacheDir", "LogFile", "GPGDir", "HookDir"];
/// Files below it keep their place, so that whoever edits the list of mirrors finds it there.
const LISTS: &str = "/etc/pacman.d";
/// The section that is no repository.
const OPTIONS: &str = "options";
/// How deep files may include one another, as in pacman itself.
const DEPTH: u32 = 10;

/// `pacman.conf` of the new machine, and the files that it includes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    config: String,
    lists: Vec<(PathBuf, String)>,
}

impl Sources {
    /// Those that `config` names.
    ///
    /// Refuses: a configuration whose files cannot be read.
    pub fn read(config: &Path) -> Result<Self, ApplyError> {
        let mut sources = Self::default();
        sources.collect(config, DEPTH)?;
        Ok(sources)
    }

    /// The repositories that are a directory of this machine, where the new one will not find them.
    pub fn local(&self) -> Vec<&str> {
        self.sections().filter(|(_, lines)| self.is_local(lines)).filter_map(|(name, _)| name).collect()
    }

    /// The new machine whose `/etc` is in `etc` asks the same repositories but for local ones; where there are only such, it keeps what its packages
    /// say. Its database is where ast has it, also for whoever calls pacman by hand.
    pub fn settle(&self, etc: &Path) -> Result<(), ApplyError> {
        let path = etc.join("pacman.conf");
        let kept: Vec<_> = self.sections().filter(|(_, lines)| !self.is_local(lines)).collect();
        if !kept.iter().any(|(name, _)| name.is_some_and(|name| name != OPTIONS)) {
            return Ok(file::replace(&path, with_database(&text(&path)?).as_bytes())?);
        }
        let lines: String = kept.iter().flat_map(|(_, lines)| lines).map(|line| format!("{line}\n")).collect();
        file::replace(&path, with_database(&lines).as_bytes())?;
        for (list, text) in &self.lists {
            let to = etc.join(list.strip_prefix("/etc").unwrap_or(list));
            file::make_dirs(to.parent().unwrap_or(etc))?;
            file::replace(&to, text.as_bytes())?;
        }
        Ok(())
    }

    /// The lines of each section, its head among them, with its name; what stands before the first has none.
    fn sections(&self) -> impl Iterator<Item = (Option<&str>, Vec<&str>)> {
        let mut sections = vec![(None, Vec::new())];
        for line in self.config.lines() {
            if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                sections.push((Some(name), Vec::new()));
            }
            if let Some((_, lines)) = sections.last_mut() {
                lines.push(line);
            }
        }
        sections.into_iter()
    }

    fn is_local(&self, lines: &[&str]) -> bool {
        let is_file = |line: &str| value(line, "Server").is_some_and(|url| url.starts_with("file:"));
        let lists_file = |line: &str| {
            let list = value(line, "Include").and_then(|path| self.lists.iter().find(|(list, _)| list == Path::new(path)));
            list.is_some_and(|(_, text)| text.lines().any(is_file))
        };
        lines.iter().any(|line| is_file(line) || lists_file(line))
    }

    fn collect(&mut self, path: &Path, depth: u32) -> Result<(), ApplyError> {
        if depth == 0 {
            return Err(impossible(path, "it includes itself, or too many files one in the other"));
        }
        for line in text(path)?.lines() {
            let included = value(line, "Include").map(Path::new);
            let is_pattern = included.is_some_and(|file| file.to_string_lossy().contains(['*', '?', '[']));
            match included {
                Some(list) if !is_pattern && list.starts_with(LISTS) => {
                    self.lists.push((list.to_owned(), text(list)?));
                    self.config.extend([line, "\n"]);
                }
                Some(pattern) if is_pattern => {
                    for file in matching(pattern)? {
                        self.collect(&file, depth - 1)?;
                    }
                }
                Some(file) => self.collect(file, depth - 1)?,
                None if OF_THIS_HOST.iter().any(|key| value(line, key).is_some()) => {}
                None => self.config.extend([line, "\n"]),
            }
        }
        Ok(())
    }
}

fn text(path: &Path) -> Result<String, ApplyError> {
    String::from_utf8(file::read(path)?).map_err(|_| impossible(path, "it is not UTF-8"))
}

fn impossible(path: &Path, reason: &str) -> ApplyError {
    ApplyError::Impossible { object: path.display().to_string(), reason: reason.to_owned() }
}

/// The text with the database of its `[options]` in the snapshot's root, so that it always matches it.
fn with_database(text: &str) -> String {
    let setting = format!("DBPath = /{}/\n", layout::PACMAN_DB);
    let mut new = String::new();
    let mut done = false;
    for line in text.lines().filter(|line| value(line, "DBPath").is_none()) {
        new.extend([line, "\n"]);
        if !done && line.trim() == "[options]" {
            new.push_str(&setting);
            done = true;
        }
    }
    if done { new } else { format!("[options]\n{setting}{new}") }
}

/// Files whose name is `BEGIN*END`, in the order of their names: the only pattern that anybody writes there.
fn matching(pattern: &Path) -> Result<Vec<PathBuf>, SysError> {
    let (dir, name) = (pattern.parent().unwrap_or(Path::new("/")), pattern.file_name().unwrap_or_default().to_string_lossy());
    let (begin, end) = name.split_once('*').unwrap_or((&name, ""));
    let names = match file::names(dir) {
        Err(error) if error.is_not_found() => Vec::new(),
        other => other?,
    };
    let is_meant = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    };
    let mut found: Vec<PathBuf> = names.into_iter().filter(is_meant).map(|name| dir.join(name)).collect();
    found.sort();
    Ok(found)
}

/// The value, if the line sets `key`.
fn value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let (name, value) = line.split_once('=')?;
    (name.trim() == key).then(|| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        file::replace(&path, text.as_bytes()).expect("written");
        path
    }

    #[test]
    fn the_new_machine_asks_the_same_repositories_and_has_no_path_of_this_one() {
        let dir = tempfile::tempdir().expect("dir");
        let list = put(dir.path(), "mirrorlist", "# near\nServer = https://mirror.example/$repo/os/$arch\n");
        put(dir.path(), "own-b.conf", "[b]\nServer = https://b.example\n");
        put(dir.path(), "own-a.conf", "[a]\nServer = https://a.example\n");
        let here = dir.path().display();
        let config = put(
            dir.path(),
            "pacman.conf",
            &format!("[options]\nDBPath=/x\nGPGDir = /mnt/keys\nCheckSpace\n[core]\nInclude = {here}/mirrorlist\nInclude = {here}/own-*.conf\nInclude = {here}/none/*.conf\n"),
        );
        let wanted = "[options]\nCheckSpace\n[core]\n# near\nServer = https://mirror.example/$repo/os/$arch\n[a]\nServer = https://a.example\n[b]\nServer = https://b.example\n";
        let sources = Sources::read(&config).expect("read");
        assert_eq!((sources.config.as_str(), sources.local()), (wanted, vec![]));

        let etc = dir.path().join("etc");
        file::make_dirs(&etc.join("pacman.d")).expect("dir");
        let with_list = Sources { lists: vec![("/etc/pacman.d/mirrorlist".into(), "Server = https://near.example\n".into())], ..sources };
        with_list.settle(&etc).expect("settled");
        assert_eq!(text(&etc.join("pacman.conf")).expect("read"), wanted.replace("[options]\n", "[options]\nDBPath = /usr/share/ast/db/\n"));
        assert_eq!(text(&etc.join("pacman.d/mirrorlist")).expect("read"), "Server = https://near.example\n");

        put(dir.path(), "mirrorlist", "Server = file:///run/media/repo\n");
        for name in ["own-a.conf", "own-b.conf"] {
            put(dir.path(), name, "");
        }
        let local = Sources::read(&config).expect("read");
        put(&etc, "pacman.conf", "# as packaged\n[options]\n#DBPath = /var/lib/pacman\n[core]\n");
        local.settle(&etc).expect("settled");
        assert_eq!(text(&etc.join("pacman.conf")).expect("read"), "# as packaged\n[options]\nDBPath = /usr/share/ast/db/\n#DBPath = /var/lib/pacman\n[core]\n");

        put(dir.path(), "own-a.conf", "[a]\nServer = file:///root\n");
        put(dir.path(), "own-b.conf", "[b]\nServer = https://b.example\n");
        let one = Sources::read(&config).expect("read");
        assert_eq!(one.local(), ["core", "a"]);
        one.settle(&etc).expect("settled");
        assert_eq!(text(&etc.join("pacman.conf")).expect("read"), "[options]\nDBPath = /usr/share/ast/db/\nCheckSpace\n[b]\nServer = https://b.example\n");

        put(dir.path(), "mirrorlist", &format!("Include = {}\n", list.display()));
        assert!(Sources::read(&config).expect_err("for ever").to_string().contains("includes itself"));
        file::remove_if_exists(&list).expect("removed");
        assert!(Sources::read(&config).expect_err("gone").to_string().contains("mirrorlist"));
    }
}
