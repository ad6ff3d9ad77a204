//! Profile files: packages to install, one on a line.

use std::path::{Path, PathBuf};

use super::transaction::check_names;
use crate::sys::{SysError, file};

/// Why a profile is not used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be read.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// It is no text.
    #[error("{} line {line} is no text (UTF-8)", path.display())]
    NoText {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
    },
    /// A line that is not the name of one package.
    #[error("{} line {line}: {text:?} is not the name of one package", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// The line, or its beginning.
        text: String,
    },
    /// Nothing but comments.
    #[error("{} names no package", .0.display())]
    Empty(PathBuf),
}

/// The packages that the file names, each once, in its order. What stands behind a `#` is a comment, blank lines are passed over.
///
/// Refuses: a file with anything else in it, by its line; one that names nothing.
pub fn load_profile(path: &Path) -> Result<Vec<String>, ProfileError> {
    let bytes = file::read(path)?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        ProfileError::NoText { path: path.to_owned(), line: 1 + before.iter().filter(|byte| **byte == b'\n').count() }
    })?;
    let mut names: Vec<String> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let name = line.split('#').next().unwrap_or_default().trim();
        if name.is_empty() || names.iter().any(|known| known == name) {
            continue;
        }
        if check_names(&[name.to_owned()]).is_err() {
            return Err(ProfileError::BadLine { path: path.to_owned(), line: index + 1, text: name.chars().take(60).collect() });
        }
        names.push(name.to_owned());
    }
    if names.is_empty() { Err(ProfileError::Empty(path.to_owned())) } else { Ok(names) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(bytes: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("profile");
        file::replace(&path, bytes).expect("written");
        load_profile(&path).map_err(|error| error.to_string().rsplit_once("profile ").map_or_else(String::new, |(_, text)| text.to_owned()))
    }

    #[test]
    fn comments_blank_lines_and_repetitions_are_passed_over() {
        assert_eq!(
            load(b"# desktop\n\n  firefox  # browser\r\ncore/hello>=1\nfirefox\n"),
            Ok(vec!["firefox".into(), "core/hello>=1".into()])
        );
    }

    #[test]
    fn what_is_no_package_is_named_with_its_line() {
        assert_eq!(load(b"a\n# x\nb c\n"), Err("line 3: \"b c\" is not the name of one package".into()));
        assert_eq!(load(b"a\n--root=/x"), Err("line 2: \"--root=/x\" is not the name of one package".into()));
        assert_eq!(load(b"a\nb\n\xff"), Err("line 3 is no text (UTF-8)".into()));
        assert_eq!(load(b"# nothing\n"), Err("names no package".into()));
        assert!(load_profile(Path::new("/no/such/profile")).is_err());
    }
}
