//! Debian packages into a tree with everything below /usr.

use super::Result;
use super::run::script;
use std::path::{Path, PathBuf};

/// What no machine of the lab reads.
const DROP: [&str; 10] = [
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/share/info",
    "./usr/share/lintian",
    "./usr/share/bug",
    "./usr/share/bash-completion",
    "./usr/share/zsh",
    "./usr/share/polkit-1",
    "./usr/share/metainfo",
];

/// Everything is where Arch has it: programs in usr/bin, libraries in usr/lib. A link from the one directory to
/// the file of that name in the other would point at itself, so it goes.
const MERGE: &str = r#"
shopt -s nullglob dotglob
for pair in sbin:bin lib64:lib lib32:lib libx32:lib; do
    from=usr/${pair%:*} to=usr/${pair#*:}
    [ -d "$from" ] || continue
    mkdir -p "$to"
    for file in "$from"/*; do
        name=${file##*/}
        if [ -L "$file" ] && [ "$(basename "$(readlink "$file")")" = "$name" ] && [ -e "$to/$name" ]; then
            rm "$file"
        elif [ -d "$file" ] && [ -d "$to/$name" ]; then
            cp -a "$file/." "$to/$name/"
            rm -r "$file"
        else
            mv "$file" "$to/"
        fi
    done
    rmdir "$from"
done
"#;

/// Every package of `debs` is unpacked below `dir`; /bin, /sbin, /usr/sbin and /lib* are merged into /usr/bin and /usr/lib.
pub fn unpack(debs: &[PathBuf], dir: &Path) -> Result<()> {
    let mut exclude = String::new();
    for path in DROP {
        exclude.push_str(&format!(" --exclude='{path}'"));
    }
    let text = format!(
        r#"for deb; do
            dpkg-deb --fsys-tarfile "$deb" |
                tar -x --keep-directory-symlink {exclude} --transform='s,^\./\(sbin\|bin\|lib\|lib64\|lib32\|libx32\)\(/\|$\),./usr/\1\2,S'
        done"#
    );
    let debs: Vec<String> = debs.iter().map(|d| d.display().to_string()).collect();
    script(dir, &text, &debs.iter().map(String::as_str).collect::<Vec<_>>())?;
    script(dir, MERGE, &[]).map(drop)
}
