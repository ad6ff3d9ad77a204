//! A FAT file system in an image, through mtools.
use crate::vm::{VmError, error::at, tool};
use std::{io::Write, path::Path, process::Command};

/// The EFI system partition, mostly. Paths are absolute, with `/`.
#[derive(Debug)]
pub struct Fat<'a> {
    image: &'a Path,
    start: u64,
}

impl<'a> Fat<'a> {
    pub(super) fn new(image: &'a Path, start: u64) -> Fat<'a> {
        Fat { image, start }
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, VmError> {
        tool::output(self.command("mtype").arg(remote(path)))
    }

    /// The file has this content; an old one is overwritten.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<(), VmError> {
        let base = std::env::temp_dir();
        let file = at(&base, tempfile::NamedTempFile::new())?;
        at(file.path(), file.as_file().write_all(content))?;
        tool::output(self.command("mcopy").arg("-o").arg(file.path()).arg(remote(path))).map(drop)
    }

    /// The file is gone.
    pub fn delete(&self, path: &str) -> Result<(), VmError> {
        tool::output(self.command("mdel").arg(remote(path))).map(drop)
    }

    /// The directory exists.
    pub fn create_dir(&self, path: &str) -> Result<(), VmError> {
        tool::output(self.command("mmd").arg(remote(path))).map(drop)
    }

    /// Paths of everything below `path`; directories end in `/`.
    pub fn list(&self, path: &str) -> Result<Vec<String>, VmError> {
        let out = tool::output(self.command("mdir").args(["-b", "-/"]).arg(remote(path)))?;
        Ok(String::from_utf8_lossy(&out).lines().map(|line| line.trim_start_matches("::").to_owned()).collect())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // mtools asks questions and checks geometry unless told not to.
        command.env("MTOOLS_SKIP_CHECK", "1").args(["-i", &format!("{}@@{}", self.image.display(), self.start)]);
        command
    }
}

fn remote(path: &str) -> String {
    format!("::{path}")
}
