//! The FAT filesystem that GRUB writes its boot block to: made and filled without mounting it, because an image's is reached by
//! offset and not every kernel that runs an installer has the driver.

use std::ffi::OsString;

use super::table::{SECTOR, random_id};
use super::{Result, Target, tool};
use crate::exec::Program;

/// Bytes; FAT32 needs 65525 clusters, and firmware expects FAT32 on an ESP: below this it would be FAT16.
const FAT32_MIN: u64 = 64 * 1024 * 1024;

/// A FAT filesystem on a [`Target`].
#[derive(Debug, Clone)]
pub struct Fat {
    target: Target,
    serial: String,
}

impl Fat {
    /// The target is an empty FAT filesystem with a new serial number.
    pub fn format(target: &Target, label: &str) -> Result<Self> {
        let serial = format!("{:08X}", random_id()?);
        let (bits, blocks) = (if target.size >= FAT32_MIN { "32" } else { "12" }, (target.size / 1024).to_string());
        let hidden = (target.offset / SECTOR).to_string();
        // -I: the kernel may still know the partitions that a disk had before.
        let mut args: Vec<OsString> =
            ["-I", "-F", bits, "-s", "1", "-i", &serial, "-n", label, "-h", &hidden, "--offset", &hidden].map(Into::into).into();
        args.extend([target.file.clone().into(), blocks.into()]);
        tool::run(Program::MkfsFat, args, None)?;
        Ok(Self { target: target.clone(), serial })
    }

    /// Its serial number as `blkid` and GRUB write it: `1A2B-3C4D`.
    pub fn uuid(&self) -> String {
        let (high, low) = self.serial.split_at(4);
        format!("{high}-{low}")
    }

    /// The directory is there, its parents too.
    pub fn make_dir(&self, path: &str) -> Result<()> {
        let mut made = String::new();
        for name in path.split('/') {
            made.push('/');
            made.push_str(name);
            // -D s: one that is there is skipped; its exit status then is 1, and reading back below tells.
            if let Err(error) = self.tool(Program::Mmd, &["-D", "s", &inside(&made)], None) {
                self.tool(Program::Mdir, &["-b", &inside(&made)], None).map_err(|_| error)?;
            }
        }
        Ok(())
    }

    /// The file has this content; its directory exists already.
    pub fn write(&self, path: &str, content: &[u8]) -> Result<()> {
        self.tool(Program::Mcopy, &["-o", "-", &inside(path)], Some(content)).map(drop)
    }

    /// The content of a file.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.tool(Program::Mcopy, &[&inside(path), "-"], None)
    }

    fn tool(&self, program: Program, args: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>> {
        let mut image = OsString::from(&self.target.file);
        image.push(format!("@@{}", self.target.offset));
        let argv = ["-i".into(), image].into_iter().chain(args.iter().map(OsString::from));
        tool::run(program, argv, input)
    }
}

fn inside(path: &str) -> String {
    format!("::/{}", path.trim_start_matches('/'))
}
