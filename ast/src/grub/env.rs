//! How a boot directory is started, as data that GRUB's `load_env` reads: `ast.env` in each boot subvolume, and
//! `good.cfg`, the copy of the last good one's.
//!
//! Nothing in these files is ever script: the fixed script reads named variables, checks them by the patterns that are
//! repeated here, and uses them as words.

use super::GrubError;
use crate::boot::block::{SIGNATURE, encode_env, parse_env};
use crate::id::DeployId;

/// Size in bytes of a file with ordinary arguments; also the step by which a longer one grows.
const STEP: usize = 1024;
/// Largest file: what fits into one block of btrfs metadata. Arguments of more than 2,048 bytes are cut by the kernel anyway.
const LARGEST: usize = 4096;
/// Bytes of a deployment's own arguments: the kernel takes 2,048, and ours need up to 300 of them.
const LONGEST_ARGS: usize = 1700;
/// Characters of a title: more does not fit into a line of the menu.
pub const LONGEST_TITLE: usize = 80;
/// Arguments that the fixed script writes itself; of a snapshot's own ones they are left out.
const OURS: [&str; 13] = [
    "root",
    "ro",
    "rw",
    "panic",
    "rd.systemd.gpt_auto",
    "ast.d",
    "ast.set",
    "ast.why",
    "ast.arm",
    "ast.env",
    "ast.block",
    "ast.grub",
    "ast.snapshot",
];

/// How one boot directory is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootEnv {
    linux: String,
    initrd: Vec<String>,
    args: Vec<String>,
    title: String,
}

impl BootEnv {
    /// Kernel `linux` with images `initrd` (microcode first), both file names in the boot directory, and the snapshot's own
    /// kernel arguments `args`. Those that the fixed script writes itself are left out; `title` is cut and cleaned.
    ///
    /// Refuses: names GRUB would not take, no image, arguments with quotes, backslashes or anything but visible ASCII, and
    /// those that begin with `/`, `(` or `*` (GRUB would expand them as file names).
    pub fn new(linux: &str, initrd: &[String], args: &[String], title: &str) -> Result<Self, GrubError> {
        for name in std::iter::once(linux).chain(initrd.iter().map(String::as_str)) {
            if !is_name(name) {
                return Err(GrubError::FileName(name.chars().take(80).collect()));
            }
        }
        if initrd.is_empty() {
            return Err(GrubError::NoInitramfs(linux.to_owned()));
        }
        let args: Vec<String> = args.iter().filter(|arg| !is_ours(arg)).cloned().collect();
        if let Some(bad) = args.iter().find(|arg| !is_argument(arg)) {
            return Err(GrubError::Argument(bad.chars().take(80).collect()));
        }
        let length = args.iter().map(|a| a.len() + 1).sum::<usize>();
        if length > LONGEST_ARGS {
            return Err(GrubError::TooManyArguments { length, most: LONGEST_ARGS });
        }
        let title: String = super::menu::clean(title, LONGEST_TITLE);
        Ok(Self { linux: linux.to_owned(), initrd: initrd.to_vec(), args, title })
    }

    /// File name of the kernel.
    pub fn linux(&self) -> &str {
        &self.linux
    }

    /// File names of the images, in the order in which they are loaded.
    pub fn initrd(&self) -> &[String] {
        &self.initrd
    }

    /// The snapshot's own kernel arguments.
    pub fn args(&self) -> &[String] {
        &self.args
    }

    /// What the menu calls it.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The bytes of `ast.env`.
    pub fn encode(&self) -> Result<Vec<u8>, GrubError> {
        encode(self.pairs())
    }

    /// What such bytes say, by the rules of the fixed script. Total.
    pub fn parse(bytes: &[u8]) -> Result<Self, GrubError> {
        let pairs = pairs(bytes)?;
        let value = |key: &'static str| find(&pairs, key);
        if value("ast_end")? != "1" {
            return Err(GrubError::EnvKey("ast_end"));
        }
        let words = |text: &str| text.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        Self::new(value("ast_linux")?, &words(value("ast_initrd")?), &words(value("ast_args")?), value("ast_title")?)
    }

    fn pairs(&self) -> Vec<(String, String)> {
        [
            ("ast_linux", self.linux.clone()),
            ("ast_initrd", self.initrd.join(" ")),
            ("ast_args", self.args.join(" ")),
            ("ast_title", self.title.clone()),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .to_vec()
    }
}

/// The last deployment that booted well, and how it is started: `good.cfg`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Baked {
    /// The deployment.
    pub good: DeployId,
    /// A copy of its `ast.env`.
    pub env: BootEnv,
}

impl Baked {
    /// The bytes of `good.cfg`.
    pub fn encode(&self) -> Result<Vec<u8>, GrubError> {
        let mut pairs = self.env.pairs();
        pairs.push(("ast_baked_good".to_owned(), self.good.to_string()));
        encode(pairs)
    }

    /// What such bytes say. Total.
    pub fn parse(bytes: &[u8]) -> Result<Self, GrubError> {
        let pairs = pairs(bytes)?;
        let good = find(&pairs, "ast_baked_good")?.parse().map_err(|_| GrubError::EnvKey("ast_baked_good"))?;
        Ok(Self { good, env: BootEnv::parse(bytes)? })
    }
}

fn pairs(bytes: &[u8]) -> Result<Vec<(String, String)>, GrubError> {
    if bytes.len() > LARGEST {
        return Err(GrubError::EnvSize(bytes.len()));
    }
    Ok(parse_env(bytes, None)?)
}

fn find<'a>(pairs: &'a [(String, String)], key: &'static str) -> Result<&'a str, GrubError> {
    pairs.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str()).ok_or(GrubError::EnvKey(key))
}

fn encode(mut pairs: Vec<(String, String)>) -> Result<Vec<u8>, GrubError> {
    pairs.push(("ast_end".to_owned(), "1".to_owned()));
    let needed = SIGNATURE.len() + pairs.iter().map(|(k, v)| k.len() + v.len() + 2).sum::<usize>();
    Ok(encode_env(&pairs, needed.next_multiple_of(STEP).min(LARGEST))?)
}

/// A file name that GRUB's script takes: no directory, nothing that could be an option or a pattern.
fn is_name(name: &str) -> bool {
    name.len() <= 255
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"@._+-".contains(&b))
}

/// Visible ASCII without quotes and backslash, and no beginning that GRUB expands.
fn is_argument(arg: &str) -> bool {
    let first = arg.bytes().next();
    first.is_some_and(|b| !b"/(*".contains(&b)) && arg.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b))
}

fn is_ours(arg: &str) -> bool {
    let key = arg.split_once('=').map_or(arg, |(key, _)| key);
    OURS.contains(&key)
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
