//! Debian packages into a tree with everything below /usr.

use super::Result;
use super::run::script;
use std::path::{Path, PathBuf};

/// What no machine of the lab reads.
const DROP: [&str; 10] = [
    "./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./usr/share/info", "./usr/share/lintian", "./usr/share/bug",
    "./usr/share/bash-completion", "./usr/share/zsh", "./usr/share/polkit-1", "./usr/share/metainfo",
];

/// Every package of `debs` is unpacked below `dir`, /bin, /sbin and /lib* moved to /usr.
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
    script(dir, &text, &debs.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
}
