//! `docs/json.md` as a rule: what a command prints with `--json` has the keys that are documented there, and no others.

#![allow(dead_code, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use serde_json::Value;

/// The commands whose documents need a real system and its pacman: `tests/tests/across` makes them.
pub const WITH_SYSTEM: [&str; 17] = [
    "apply",
    "ast-sync",
    "base-update",
    "boot-update",
    "deploy",
    "diff",
    "force-sync",
    "install",
    "list",
    "refresh",
    "remove",
    "rollback",
    "sync",
    "tree-rmpkg",
    "tree-upgrade",
    "upgrade",
    "which",
];
/// And those with tests of their own, since they need another machine: the installed service, `bootstrap.rs` beside those, `cli_live.rs`, `migrate.rs`.
pub const ELSEWHERE: [&str; 4] = ["auto-upgrade", "bootstrap", "live-chroot", "migrate"];

/// Commands whose result is text for a person, or for a shell.
const TEXTS: [&str; 3] = ["completions", "help", "man"];
/// Those that hand the terminal to another program first.
const TERMINALS: [&str; 3] = ["chroot", "edit-conf", "live-chroot"];

const TEXT: &str = include_str!("../../../docs/json.md");

/// A documented key.
#[derive(Debug, Clone)]
struct Key {
    path: String,
    kind: String,
}

impl Key {
    fn may_be(&self, word: &str) -> bool {
        self.kind.contains(word)
    }
}

/// The tables by the names in their headings.
fn tables() -> BTreeMap<String, Vec<Key>> {
    let mut tables: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    let mut names: Vec<String> = Vec::new();
    for line in TEXT.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            let quoted: Vec<String> = heading.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            names = if quoted.is_empty() { vec![heading.to_owned()] } else { quoted };
            names.iter().for_each(|name| drop(tables.insert(name.clone(), Vec::new())));
        } else if line.starts_with("## ") {
            names.clear();
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split(" | ");
            let key = Key {
                path: cells.next().expect("a path").trim_end_matches('`').to_owned(),
                kind: cells.next().unwrap_or_else(|| panic!("{line}")).trim().to_owned(),
            };
            names.iter().for_each(|name| tables.get_mut(name).expect("begun").push(key.clone()));
        } else if let Some(part) = linked(line).filter(|_| line.starts_with('[')) {
            // The whole document is described elsewhere.
            names.iter().for_each(|name| {
                tables.get_mut(name).expect("begun").push(Key { path: String::new(), kind: format!("[{part}](#{part})") })
            });
        }
    }
    tables
}

/// The part that a cell refers to.
fn linked(cell: &str) -> Option<&str> {
    cell.split_once("](#").and_then(|(_, rest)| rest.split(')').next())
}

/// The keys of a verb, with those of the parts that they refer to. `None`: it has no table.
fn keys(verb: &str) -> Option<Vec<Key>> {
    let tables = tables();
    let mut found = Vec::new();
    let mut open: Vec<(String, Key)> = tables.get(verb)?.iter().rev().map(|key| (String::new(), key.clone())).collect();
    while let Some((prefix, key)) = open.pop() {
        let path = [prefix.as_str(), &key.path].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".");
        if let Some(part) = linked(&key.kind) {
            let inner = tables.get(part).unwrap_or_else(|| panic!("{verb}: there is no part {part}"));
            open.extend(inner.iter().rev().map(|key| (path.clone(), key.clone())));
        }
        found.push(Key { path, kind: key.kind });
    }
    Some(found)
}

/// Every command that has a table, without its aliases.
pub fn documented_verbs() -> BTreeSet<String> {
    let headings = TEXT.lines().filter_map(|line| line.strip_prefix("### ")).filter(|heading| heading.contains('`'));
    let names = headings.flat_map(|heading| heading.split(" (").next().unwrap_or_default().split('`').skip(1).step_by(2));
    names.map(str::to_owned).collect()
}

/// Keys of each verb that documents of this process showed.
static SHOWN: Mutex<BTreeSet<(String, String)>> = Mutex::new(BTreeSet::new());

/// Keys of these commands that no document of this process showed with something in it, but for those that none can here.
pub fn not_shown(verbs: &[&str], but: &[&str]) -> Vec<String> {
    let shown = SHOWN.lock().expect("the only one");
    let mut lacking = Vec::new();
    for verb in verbs {
        for key in keys(verb).unwrap_or_default().into_iter().filter(|key| !key.path.is_empty()) {
            let name = format!("{verb} {}", key.path);
            if !shown.contains(&((*verb).to_owned(), key.path)) && !but.iter().any(|path| name.starts_with(path)) {
                lacking.push(name);
            }
        }
    }
    lacking
}

/// What is wrong with a document of this verb, a line each.
pub fn wrong(verb: &str, document: &Value) -> Vec<String> {
    if document.get("changed").is_some() {
        return unchanged(verb, document);
    }
    let Some(keys) = keys(verb) else { return vec![format!("{verb} has no table in docs/json.md, and prints {document}")] };
    let mut wrong = Vec::new();
    printed(document, "", &keys, &mut wrong);
    for key in keys.iter().filter(|key| !key.path.is_empty()) {
        let segments: Vec<&str> = key.path.split('.').collect();
        lacking(document, &segments, "", &keys, &mut wrong);
    }
    wrong.sort();
    wrong.dedup();
    wrong.iter().map(|line| format!("{verb}: {line}")).collect()
}

/// What is wrong with what any of them prints when it changes nothing: at the top of `docs/json.md`.
fn unchanged(verb: &str, document: &Value) -> Vec<String> {
    let text =
        ["why", "plan"].iter().filter_map(|key| document.get(key)).filter(|value| value.as_str().is_some_and(|text| !text.is_empty()));
    let good =
        document["changed"] == Value::Bool(false) && document.as_object().is_some_and(|fields| fields.len() == 2) && text.count() == 1;
    if good { Vec::new() } else { vec![format!("{verb}: {document} is neither why nothing was changed nor what would be")] }
}

/// The documented key with this path.
fn is_at(path: &str, keys: &[Key]) -> Option<Key> {
    keys.iter().find(|key| key.path == path).cloned()
}

/// Each key that is printed is documented, and of the type that is.
fn printed(value: &Value, path: &str, keys: &[Key], wrong: &mut Vec<String>) {
    let documented = is_at(path, keys);
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let known = keys.iter().any(|key| {
                    key.path == inner || key.path.starts_with(&format!("{inner}.")) || key.path.starts_with(&format!("{inner}[]"))
                });
                if known { printed(value, &inner, keys, wrong) } else { wrong.push(format!("{inner} is printed and not documented")) }
            }
        }
        Value::Array(values) => {
            let inner = format!("{path}[]");
            if !keys.iter().any(|key| key.path.starts_with(&inner)) {
                wrong.push(format!("{path} is a list and not documented as one"));
            }
            values.iter().for_each(|value| printed(value, &inner, keys, wrong));
        }
        scalar => {
            let word = match scalar {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                _ => "text",
            };
            if !documented.as_ref().is_some_and(|key| key.may_be(word)) {
                wrong.push(format!("{path} is {scalar}, and documented as {:?}", documented.map(|key| key.kind)));
            }
        }
    }
}

/// Each key that is documented is printed, unless it may be left out, or what it is in is null, left out or an empty list.
fn lacking(value: &Value, segments: &[&str], path: &str, keys: &[Key], wrong: &mut Vec<String>) {
    let Some((segment, rest)) = segments.split_first() else { return };
    let name = segment.trim_end_matches("[]");
    let at = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let Value::Object(fields) = value else { return };
    let Some(inner) = fields.get(name) else {
        let optional = is_at(&at, keys).is_some_and(|key| key.may_be("not always"));
        if !optional {
            wrong.push(format!("{at} is documented and not printed"));
        }
        return;
    };
    let mut inside = vec![inner];
    for _ in 0..segment.matches("[]").count() {
        inside = inside.into_iter().filter_map(Value::as_array).flatten().collect();
    }
    let at = format!("{at}{}", &segment[name.len()..]);
    inside.into_iter().for_each(|value| lacking(value, rest, &at, keys, wrong));
}

/// The command among the words, if they ask for a document of it.
fn verb_of<W: AsRef<std::ffi::OsStr>>(words: &[W]) -> Option<String> {
    let words: Vec<_> = words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect();
    let asks = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    words.into_iter().find(|word| !word.starts_with('-')).filter(|_| asks)
}

/// What was printed on standard output is one document, as documented, where one was asked for and it ended well.
pub fn check<W: AsRef<std::ffi::OsStr>>(words: &[W], code: i32, out: &str) {
    let Some(verb) = verb_of(words).filter(|verb| !TEXTS.contains(&verb.as_str())) else { return };
    // What a shell or an editor printed stands before it.
    let begin = out.rfind("\n{\n").filter(|_| TERMINALS.contains(&verb.as_str())).map_or(0, |newline| newline + 1);
    let out = &out[begin..];
    let document = match serde_json::from_str::<Value>(out) {
        Ok(document) => document,
        Err(error) => {
            assert!(!matches!(code, 0 | 5), "{verb} ended with {code} and printed no document, or more than one ({error}):\n{out}");
            return;
        }
    };
    let wrong = wrong(&verb, &document);
    assert!(wrong.is_empty(), "not as in docs/json.md:\n{}\n{document:#}", wrong.join("\n"));
    let mut paths = BTreeSet::new();
    shown(&document, "", &mut paths);
    SHOWN.lock().expect("the only one").extend(paths.into_iter().map(|path| (verb.clone(), path)));
}

/// The paths in a value.
fn shown(value: &Value, path: &str, paths: &mut BTreeSet<String>) {
    paths.insert(path.to_owned());
    match value {
        Value::Object(fields) => {
            let inner = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            fields.iter().for_each(|(name, value)| shown(value, &inner(name), paths));
        }
        Value::Array(values) => values.iter().for_each(|value| shown(value, &format!("{path}[]"), paths)),
        _ => {}
    }
}
