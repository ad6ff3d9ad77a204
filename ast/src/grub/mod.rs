//! Everything that GRUB reads: the fixed script, the menu, how a boot directory is started; and readers of GRUB's own
//! language and of `/etc/default/grub`.

pub mod defaults;
pub mod env;
pub mod groups;
pub mod install;
pub mod lexer;
pub mod menu;
pub mod other;
pub mod parser;
pub mod release;
pub mod script;

pub use env::{Baked, BootEnv};
pub use script::{ScriptConfig, Serial};

use crate::boot::block::BlockError;
use crate::sys::SysError;

/// What this room refuses.
#[derive(Debug, thiserror::Error)]
pub enum GrubError {
    /// Not a UUID.
    #[error("{0:?} is not a UUID, and may not stand in GRUB's script")]
    Uuid(String),
    /// A kernel or image whose name GRUB's script does not take.
    #[error("{0:?} is not a file name that GRUB can start: letters, digits and @ . _ + - only")]
    FileName(String),
    /// A kernel without an image: it would start, and find no root.
    #[error("there is no initramfs for {0}")]
    NoInitramfs(String),
    /// An argument that cannot be carried.
    #[error("kernel argument {0:?} cannot be passed by GRUB: no quotes, no backslash, and it may not begin with / ( or *")]
    Argument(String),
    /// More than the kernel takes.
    #[error("the kernel arguments have {length} bytes; at most {most} fit beside ours")]
    TooManyArguments {
        /// Bytes as given.
        length: usize,
        /// Bytes that fit.
        most: usize,
    },
    /// Not an environment block.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// More than GRUB should read for a few words.
    #[error("the file has {0} bytes; one that says how to start a boot directory has at most 4096")]
    EnvSize(usize),
    /// A variable is missing or malformed.
    #[error("{0} is missing or malformed")]
    EnvKey(&'static str),
    /// A line of /etc/default/grub.
    #[error(transparent)]
    Defaults(#[from] defaults::DefaultsError),
    /// What we wrote does not read back as a GRUB script, which is a bug of ours.
    #[error("the new {file} is not a GRUB script: {error}")]
    Script {
        /// Name of the file.
        file: &'static str,
        /// Where and why.
        error: lexer::SyntaxError,
    },
    /// What we wrote reads back as something else, which is a bug of ours.
    #[error("the new {file} reads back with {found} entries instead of {wanted}")]
    Entries {
        /// Name of the file.
        file: &'static str,
        /// Entries as they should be.
        found: usize,
        /// Entries that should be there.
        wanted: usize,
    },
    /// A title, user name or hash that cannot stand in the menu.
    #[error("{0:?} cannot stand in the menu as {1}")]
    Setting(String, &'static str),
    /// Reading or writing failed.
    #[error(transparent)]
    Sys(#[from] SysError),
}
