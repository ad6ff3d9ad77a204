//! What may be run: the table, and an argument vector for one of its rows.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::ExecError;

/// Directories where programs of the table are looked for, in this order. The caller's `PATH` is not asked.
pub const PROGRAM_DIRS: [&str; 5] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"];

macro_rules! programs {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),* $(,)?) => {
        /// Every program that may be run by name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Program { $($(#[$doc])* $variant),* }

        impl Program {
            /// The whole table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its file name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

programs! {
    /// The package manager.
    Pacman = "pacman",
    /// Compares versions as the package manager does.
    Vercmp = "vercmp",
    /// Starts another program as another user, without any privilege.
    Setpriv = "setpriv",
    /// Starts another program in another directory.
    Env = "env",
    /// Fetches the sources of packages.
    Git = "git",
    /// Builds packages.
    Makepkg = "makepkg",
    /// Reader of keyrings.
    Gpg = "gpg",
    /// Keeper of the package manager's keyring.
    PacmanKey = "pacman-key",
    /// Fetches the packagers' keys of the distribution anew, from the distribution.
    KeyringSync = "archlinux-keyring-wkd-sync",
    /// The shell of `ast chroot`, and nothing else.
    Bash = "bash",
    /// Builder of initramfs images.
    Mkinitcpio = "mkinitcpio",
    /// Judge of GRUB script that we wrote.
    GrubScriptCheck = "grub-script-check",
    /// Maker of GRUB's core image.
    GrubMkimage = "grub-mkimage",
    /// Installer of GRUB.
    GrubInstall = "grub-install",
    /// Embeds GRUB's core image on BIOS machines.
    GrubBiosSetup = "grub-bios-setup",
    /// Sends and receives subvolumes, and looks after a filesystem.
    Btrfs = "btrfs",
    /// Makes a btrfs filesystem.
    MkfsBtrfs = "mkfs.btrfs",
    /// Makes a FAT filesystem.
    MkfsFat = "mkfs.fat",
    /// Makes a directory on a FAT filesystem that is not mounted.
    Mmd = "mmd",
    /// Lists a directory there.
    Mdir = "mdir",
    /// Copies a file to or from there.
    Mcopy = "mcopy",
    /// Packs the script inside GRUB's core image.
    Tar = "tar",
    /// Shows a part of a file as a block device.
    Losetup = "losetup",
    /// Partitions a disk.
    Sfdisk = "sfdisk",
    /// Talks to the running systemd.
    Systemctl = "systemctl",
    /// Asks services over D-Bus, with answers in JSON.
    Busctl = "busctl",
    /// Looks for other systems.
    OsProber = "os-prober",
    /// Looks for the kernels of a Linux among them.
    LinuxBootProber = "linux-boot-prober",
    /// Tells what is on a device.
    Blkid = "blkid",
    /// Tells the local time.
    Date = "date",
    /// Copies files with everything that belongs to them.
    Cp = "cp",
    /// Puts a file into its place with owner and mode.
    Install = "install",
    /// Makes links.
    Ln = "ln",
    /// Makes directories.
    Mkdir = "mkdir",
    /// Removes files.
    Rm = "rm",
    /// Adds a user.
    Useradd = "useradd",
    /// Changes a user.
    Usermod = "usermod",
    /// Builds locales.
    LocaleGen = "locale-gen",
    /// Tells what is on a disk.
    Lsblk = "lsblk",
    /// Tells what a disk's content says that it is.
    Wipefs = "wipefs",
    /// Makes a hash of a password.
    Openssl = "openssl",
    /// Runs playbooks.
    AnsiblePlaybook = "ansible-playbook",
    /// Runs a root as a container.
    SystemdNspawn = "systemd-nspawn",
}

impl Program {
    /// Where it is in the root that the calling thread sees.
    pub fn find(self) -> Result<PathBuf, ExecError> {
        PROGRAM_DIRS
            .iter()
            .map(|dir| PathBuf::from(dir).join(self.name()))
            .find(|path| path.is_file())
            .ok_or(ExecError::Missing { program: self })
    }
}

/// What an invocation starts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Known(Program),
    /// The user's own words: the first one is looked up in the fixed `PATH` of the place where it runs.
    Words(OsString),
}

/// A program and its arguments: a vector, never a line of shell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Invocation {
    what: What,
    args: Vec<OsString>,
}

impl Invocation {
    /// `program` without arguments yet.
    pub const fn new(program: Program) -> Self {
        Self { what: What::Known(program), args: Vec::new() }
    }

    /// The words that a user gave after `--` or in place of `CMD…`, untouched.
    ///
    /// Refuses: no words, an empty first word, a zero byte.
    pub fn words<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Result<Self, ExecError> {
        let mut words = words.into_iter().map(Into::into);
        let first = words.next().filter(|word| !word.is_empty()).ok_or(ExecError::BadWords)?;
        let args: Vec<OsString> = words.collect();
        if args.iter().chain([&first]).any(|word| word.as_bytes().contains(&0)) {
            return Err(ExecError::BadWords);
        }
        Ok(Self { what: What::Words(first), args })
    }

    /// With one more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// With more arguments.
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// What to hand to `exec`: a path for a row of the table, the first word otherwise.
    pub(super) fn executable(&self) -> Result<OsString, ExecError> {
        match &self.what {
            What::Known(program) => program.find().map(Into::into),
            What::Words(first) => Ok(first.clone()),
        }
    }

    /// The arguments after the program.
    pub(super) fn arguments(&self) -> &[OsString] {
        &self.args
    }

    /// Whether the user chose the program.
    pub(super) const fn is_words(&self) -> bool {
        matches!(self.what, What::Words(_))
    }

    /// The command line for reading, quoted where a shell would need it.
    pub fn display(&self) -> String {
        let first = match &self.what {
            What::Known(program) => OsStr::new(program.name()),
            What::Words(first) => first,
        };
        let mut line = String::new();
        for (index, word) in std::iter::once(first).chain(self.args.iter().map(OsString::as_os_str)).enumerate() {
            if index > 0 {
                line.push(' ');
            }
            quote_into(&mut line, &word.to_string_lossy());
        }
        line
    }
}

/// Adds `word` to `line`, in quotes unless it is plain.
fn quote_into(line: &mut String, word: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        line.push_str(word);
        return;
    }
    line.push('\'');
    for c in word.chars() {
        match c {
            '\'' => line.push_str("'\\''"),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                write!(line, "{}", c.escape_default()).unwrap_or_default();
            }
            c => line.push(c),
        }
    }
    line.push('\'');
}
