//! The files of packages in /etc as the packages brought them. Source: `mtree` of pacman's local database, as libarchive writes it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::etc::{Owned, Pristine};
use crate::layout::PACMAN_DB;
use crate::sys::{SysError, file};

/// Largest list of one package, in bytes: a hundred times the longest of Arch (the kernel's headers), and no memory is hurt by.
const MAX_LIST: u64 = 256 << 20;

/// What packages have brought into the /etc of `root`, by the path below it; `None` for what their list does not tell enough of.
pub fn owned_in_etc(root: &Path) -> Result<Owned, SysError> {
    let local = root.join(PACMAN_DB).join("local");
    let mut owned = Owned::new();
    for name in file::names(&local)? {
        let dir = local.join(name);
        if !dir.is_dir() {
            continue;
        }
        let files = file::read_if_exists(&dir.join("files"))?.unwrap_or_default();
        let paths = in_etc(&String::from_utf8_lossy(&files));
        if paths.is_empty() {
            continue;
        }
        let mut text = String::new();
        if let Some(packed) = file::read_if_exists(&dir.join("mtree"))? {
            // A list that is cut off or no list at all tells of what it does tell.
            drop(flate2::read::GzDecoder::new(packed.as_slice()).take(MAX_LIST).read_to_string(&mut text));
        }
        let mut pristine = parse(&text);
        owned.extend(paths.into_iter().map(|path| {
            let known = pristine.remove(&path);
            (path, known)
        }));
    }
    Ok(owned)
}

/// Paths below /etc in a `files` list, without directories.
fn in_etc(files: &str) -> Vec<PathBuf> {
    let lines = files.lines().skip_while(|line| *line != "%FILES%").skip(1).take_while(|line| !line.is_empty());
    lines.filter(|line| !line.ends_with('/')).filter_map(|line| line.strip_prefix("etc/")).map(PathBuf::from).collect()
}

/// What an mtree list says of files and links below `./etc/`.
fn parse(text: &str) -> BTreeMap<PathBuf, Pristine> {
    let mut usual: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        let pairs = words.filter_map(|word| word.split_once('='));
        match first {
            "/set" => usual.extend(pairs),
            "/unset" => usual.retain(|key, _| !line.split_whitespace().any(|unset| unset == *key)),
            _ => {
                let Some(path) = first.strip_prefix("./etc/") else { continue };
                let mut values = usual.clone();
                values.extend(pairs);
                if let Some(pristine) = pristine(&values) {
                    found.insert(PathBuf::from(plain(path)), pristine);
                }
            }
        }
    }
    found
}

fn pristine(values: &BTreeMap<&str, &str>) -> Option<Pristine> {
    let number = |key: &str| values.get(key)?.parse::<u32>().ok();
    let (uid, gid) = (number("uid")?, number("gid")?);
    match *values.get("type")? {
        "file" => {
            let mode = u32::from_str_radix(values.get("mode")?, 8).ok()?;
            Some(Pristine::File { digest: digest(values.get("sha256digest").or_else(|| values.get("sha256"))?)?, mode, uid, gid })
        }
        "link" => Some(Pristine::Link { target: PathBuf::from(plain(values.get("link")?)), uid, gid }),
        _ => None,
    }
}

fn digest(hex: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    let pairs = hex.as_bytes().chunks_exact(2);
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

/// A name without the escapes of the format: a backslash and three octal digits.
fn plain(name: &str) -> OsString {
    let mut bytes = Vec::new();
    let mut rest = name.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        let octal = others.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = others.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_libarchive_is_read() {
        let sum = "06fae69e7ab0312a712b8e093cc44c8fc3fcfe62dab124a557892ba417175052";
        let text = format!(
            "#mtree\n/set type=file uid=0 gid=0 mode=644\n./.PKGINFO time=1.0 size=149 sha256digest={sum}\n./etc time=1.0 mode=755 type=dir\n\
             ./etc/profile time=1.0 size=3 md5digest=00 sha256digest={sum}\n./etc/shadow mode=600 gid=42 sha256digest={sum}\n\
             ./etc/a\\040b mode=0755 sha256digest={sum}\n./etc/mtab type=link link=../proc/self/mounts\n./etc/short sha256digest=00\n\
             ./usr/bin/x sha256digest={sum}\n/unset mode\n./etc/none sha256digest={sum}\n"
        );
        let found = parse(&text);
        let file = |mode, gid| Pristine::File { digest: digest(sum).expect("hex"), mode, uid: 0, gid };
        assert_eq!(found.get(Path::new("profile")), Some(&file(0o644, 0)));
        assert_eq!(found.get(Path::new("shadow")), Some(&file(0o600, 42)));
        assert_eq!(found.get(Path::new("a b")), Some(&file(0o755, 0)));
        assert_eq!(found.get(Path::new("mtab")), Some(&Pristine::Link { target: "../proc/self/mounts".into(), uid: 0, gid: 0 }));
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(in_etc("%FILES%\netc/\netc/a\netc/d/\netc/d/b\nusr/x\n\n%BACKUP%\netc/c\t00\n"), [Path::new("a"), Path::new("d/b")]);
    }

    proptest::proptest! {
        #[test]
        fn r7_no_list_crashes_it(text in ".*", line in "\\./etc/[\\\\0-9a-z=. ]{0,40}") {
            drop((parse(&text), parse(&format!("/set type=file uid=0 gid=0 mode=644\n{line}")), in_etc(&text)));
        }
    }
}
