//! `/etc/ast.conf`: settings of one snapshot, `key::value` lines. The format is the original's; comments, blank lines and any
//! case are accepted, as people write them.

use std::path::Path;

use crate::sys::{SysError, file};

/// The file, below `/etc`.
pub const NAME: &str = "ast.conf";

/// What a snapshot's `ast.conf` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// Packages may come from the AUR.
    pub aur: bool,
    /// Where the AUR is; [`AUR_URL`] when nothing is said. A package's sources are at `URL/PACKAGE.git`.
    pub aur_url: Option<String>,
}

/// The AUR itself. Source: <https://wiki.archlinux.org/title/Arch_User_Repository>.
pub const AUR_URL: &str = "https://aur.archlinux.org";
/// How an address of `aur_url` may begin: nothing that git would run as a command.
const SCHEMES: [&str; 4] = ["https://", "http://", "git://", "file:///"];

/// A line that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("/etc/{NAME} line {line}: {reason}")]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// No `::` in it.
    #[error("{0:?} is not of the form key::value")]
    NoSeparator(String),
    /// A value that is neither true nor false.
    #[error("{value:?} is neither True nor False, which {key} has to be")]
    NoBoolean {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
    /// A value that is no address.
    #[error("{value:?} is no address that {key} can have (https://…, http://…, git://… or file:///…)")]
    NoAddress {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
    },
}

/// Why the settings of a snapshot are not known.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error(transparent)]
    Sys(#[from] SysError),
    /// It cannot be understood.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl SnapshotConfig {
    /// What the file in `etc` says; what is usual when there is none.
    pub fn load(etc: &Path) -> Result<Self, LoadError> {
        let bytes = file::read_if_exists(&etc.join(NAME))?.unwrap_or_default();
        Ok(Self::parse(&String::from_utf8_lossy(&bytes))?)
    }

    /// What `text` says. Keys that are not ours are passed over: a later version may know them. The last of several lines counts.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        for (index, line) in text.lines().enumerate() {
            let fail = |reason| ConfigError { line: index + 1, reason };
            let content = line.split('#').next().unwrap_or_default().trim();
            if content.is_empty() {
                continue;
            }
            let Some((key, value)) = content.split_once("::") else {
                return Err(fail(Reason::NoSeparator(content.chars().take(60).collect())));
            };
            let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
            if key == "aur" {
                config.aur =
                    boolean(value).ok_or_else(|| fail(Reason::NoBoolean { key: "aur", value: value.chars().take(60).collect() }))?;
            }
            if key == "aur_url" {
                let bad = || fail(Reason::NoAddress { key: "aur_url", value: value.chars().take(60).collect() });
                config.aur_url = Some(address(value).ok_or_else(bad)?);
            }
        }
        Ok(config)
    }
}

/// An address without a slash at its end.
fn address(value: &str) -> Option<String> {
    let rest = SCHEMES.iter().find_map(|scheme| value.strip_prefix(scheme))?;
    let good = !rest.is_empty() && !rest.starts_with('-') && rest.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    good.then(|| value.trim_end_matches('/').to_owned())
}

/// Any case of what people write for yes and no.
fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Some(true),
        "false" | "no" | "off" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_understood() {
        for on in ["aur::True", "AUR::TRUE", " aur :: yes # comment", "# x\n\naur::1\n", "aur::False\naur::True", "later::key\naur::on"] {
            assert_eq!(SnapshotConfig::parse(on), Ok(SnapshotConfig { aur: true, aur_url: None }), "{on:?}");
        }
        for off in ["", "\n\n", "# aur::True", "aur::false", "other::x"] {
            assert_eq!(SnapshotConfig::parse(off), Ok(SnapshotConfig::default()), "{off:?}");
        }
    }

    #[test]
    fn what_cannot_be_understood_is_named_with_its_line() {
        let error = SnapshotConfig::parse("# first\naur=True").expect_err("no separator");
        assert_eq!(error.to_string(), "/etc/ast.conf line 2: \"aur=True\" is not of the form key::value");
        let error = SnapshotConfig::parse("aur::maybe").expect_err("no boolean");
        assert_eq!(error.to_string(), "/etc/ast.conf line 1: \"maybe\" is neither True nor False, which aur has to be");
    }

    #[test]
    fn r7_an_address_is_no_command() {
        let url = |text: &str| SnapshotConfig::parse(text).map(|config| config.aur_url);
        assert_eq!(url("AUR_URL:: https://example.org/aur/ # ours"), Ok(Some("https://example.org/aur".into())));
        assert_eq!(url("aur_url::file:///srv/aur"), Ok(Some("file:///srv/aur".into())));
        for bad in ["ext::sh -c id", "--upload-pack=x", "ssh://-oProxyCommand=x/y", "https://a b", "https://", "git://-x", "", "/srv"] {
            let error = url(&format!("\naur_url::{bad}")).expect_err(bad);
            assert_eq!(error.line, 2, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn r7_no_text_crashes_it(text in ".*") {
            drop(SnapshotConfig::parse(&text));
        }
    }
}
