//! Values of a declaration that are checked while it is read, so that what is wrong is told with its line.

use std::path::{Component, Path};

use serde::Deserialize;

macro_rules! checked {
    ($($(#[$doc:meta])* $name:ident, $wanted:literal, $check:expr;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
            #[serde(try_from = "String")]
            pub struct $name(String);

            impl TryFrom<String> for $name {
                type Error = String;

                fn try_from(text: String) -> Result<Self, String> {
                    let check: fn(&str) -> bool = $check;
                    if check(&text) { Ok(Self(text)) } else { Err(format!("{:?} is not {}", text.chars().take(60).collect::<String>(), $wanted)) }
                }
            }

            impl $name {
                /// As it was written.
                pub fn as_str(&self) -> &str {
                    &self.0
                }
            }
        )*
    };
}

checked! {
    /// A package, or a group of packages.
    PackageName, "the name of a package", |s| word(s, "@._+-") && !s.starts_with(['-', '.']);
    /// A unit of systemd.
    UnitName, "the name of a unit", |s| word(s, "@._:\\-") && !s.starts_with(['-', '.']);
    /// A user or a group. Source: `NAME_REGEX` of useradd(8).
    AccountName, "the name of a user or group (lower case, digits, _ and -, 31 characters at most)", account;
    /// An absolute path of the snapshot, of at least two parts.
    InsidePath, "an absolute path without .. inside a snapshot (not below /home, /root, /tmp, /run, /proc, /sys, /dev, /.snapshots, /efi, /mnt)", inside;
    /// What a link leads to.
    Target, "the target of a link", |s| one_line(s) && !s.is_empty();
    /// Bits of a mode.
    Mode, "a mode in octal, as \"0644\"", |s| (3..=4).contains(&s.len()) && s.bytes().all(|b| (b'0'..=b'7').contains(&b));
    /// Owner and group.
    Owner, "an owner, as \"user\" or \"user:group\"", |s| s.split(':').count() <= 2 && s.split(':').all(account);
    /// A hash as crypt(5) writes it, `!` or `*` for none, or `ask`.
    PasswordHash, "a hash of a password, as `openssl passwd -6` prints it, or \"!\" or \"*\" (or \"ask\", for `ast bootstrap`)", |s| {
        matches!(s, "!" | "*" | "!*" | ASK) || s.starts_with('$') && one_line(s) && !s.contains([':', ' '])
    };
    /// A public key of ssh.
    SshKey, "a public key of ssh", |s| one_line(s) && s.split(' ').count() >= 2 && s.is_ascii();
    /// A field of an account.
    Field, "a text without colons or line breaks", |s| one_line(s) && !s.contains(':') && !s.starts_with('-');
    /// The name of a machine. Source: hostname(5).
    HostName, "the name of a machine (letters, digits, - and dots, 63 characters at most)", host_name;
    /// A time zone.
    Zone, "a time zone, as \"Europe/Prague\"", |s| word(s, "/_+-") && s.starts_with(|c: char| c.is_ascii_alphabetic()) && !s.contains("//");
    /// A locale.
    Locale, "a locale, as \"en_US.UTF-8\"", |s| word(s, "_.@-") && s.starts_with(|c: char| c.is_ascii_alphabetic());
    /// A layout of the keyboard.
    Keymap, "a keyboard layout, as \"us\" or \"de-latin1\"", |s| word(s, "_.-") && s.starts_with(|c: char| c.is_ascii_alphanumeric());
    /// One argument of the kernel.
    KernelArgument, "a kernel argument that GRUB can carry (no spaces, quotes, $, ` or backslashes)", |s| {
        !s.is_empty() && s.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\$`;&|<>()".contains(&b)) && !s.starts_with(['/', '*'])
    };
}

/// In the place of a hash: somebody is asked when a machine is installed.
const ASK: &str = "ask";

impl PasswordHash {
    /// Whether somebody is to be asked, so that there is no hash here.
    pub fn is_asked(&self) -> bool {
        self.0 == ASK
    }

    /// Whether somebody can log in with a password.
    pub fn opens(&self) -> bool {
        self.0.starts_with('$')
    }
}

fn host_name(text: &str) -> bool {
    let good = |label: &str| word(label, "-") && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-');
    text.len() <= 63 && text.split('.').all(good)
}

fn word(text: &str, more: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

fn account(text: &str) -> bool {
    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    first && text.len() <= 31 && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}

fn one_line(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Directories of a running machine that belong to no snapshot: what is written there would never be seen.
const ELSEWHERE: [&str; 10] = ["home", "root", "tmp", "run", "proc", "sys", "dev", ".snapshots", "efi", "mnt"];

fn inside(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    let absolute = parts.next() == Some(Component::RootDir);
    let names: Vec<_> = parts.collect();
    let plain = names.iter().all(|part| matches!(part, Component::Normal(_))) && !text.split('/').any(|part| part == ".");
    let here = names.first().is_some_and(|first| !ELSEWHERE.iter().any(|dir| first.as_os_str() == *dir));
    absolute && plain && here && names.len() >= 2 && one_line(text)
}
