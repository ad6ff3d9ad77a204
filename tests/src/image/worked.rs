//! A machine that a person has worked on, powered off: the lines that were typed, done by the real program on the mounted disk.

use super::armed::{Fresh, on_machine, sh};
use super::{Column, FILE, ImageError};
use crate::lab::cache::{Key, keep_recent, once};
use crate::lab::repo::{self, State};
use std::path::{Path, PathBuf};

/// A raw image of `column` on which `line` was run by a shell, with the program as `$ast`; made once per content. It must not be written: boot
/// an overlay.
pub fn worked(cache: &Path, column: Column, line: &str) -> Result<PathBuf, ImageError> {
    let fresh = Fresh::build(cache, column)?;
    let packages = repo::build(cache, State::V1)?;
    let key = Key::new("worked").with(fresh.disk.as_os_str().as_encoded_bytes()).with(line).with(include_str!("worked.rs"));
    let dir = cache.join("images").join(format!("{}-worked-{}", column.name(), key.name()));
    let mut failed = None;
    let made = once(&dir, |new| {
        on_machine(&fresh, &packages, &new.join(FILE), |root, programs| {
            std::fs::write(root.join("run/ast/booted"), "d=1\nset=0.1\nwhy=good\nenv=ok\n").map_err(|e| e.to_string())?;
            let ast = format!("{} --sysroot {} --yes --quiet", programs.join("ast").display(), root.display());
            sh(&format!("ast='{ast}'\n{line}")).map(drop)
        })
        .map_err(|why| {
            failed = Some(why.clone());
            crate::lab::Error::NothingBuilt { what: "a person's work", dir: PathBuf::from(why) }
        })
    });
    match (made, failed) {
        (_, Some(why)) => Err(ImageError::Armed { state: "what a person did", why }),
        (made, None) => {
            let dir = made?;
            keep_recent(&dir)?;
            Ok(dir.join(FILE))
        }
    }
}
