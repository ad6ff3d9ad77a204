//! Packages that no repository has: fetched from the AUR and built by makepkg, for a working copy.
//!
//! ```text
//!  names that no repository has ─ fetch: git clone, .SRCINFO ─ what they need ─ order ─ build ─ install
//!  └──────── in a copy of the working copy, which is thrown away ───────────────────────────┘   └ in the working copy
//! ```
//!
//! Whatever building needs (git, compilers, their users and caches) is installed in the throw-away copy alone, so it cannot be left in a
//! snapshot (R6). What runs before the result is installed runs as a user without name in any file, cannot write but in its own directory, and
//! gains no privilege by any program.

mod builder;
mod resolve;
mod sources;
mod srcinfo;

use std::fmt;

pub use srcinfo::SrcInfoError;

pub(super) use resolve::{install, upgrade};

/// What `Packager` says of what we built: the mark by which an upgrade knows what came from the AUR this way.
const PACKAGER: &str = "ast, from the AUR <https://aur.archlinux.org>";

/// Why packages of the AUR are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum AurError {
    /// Neither a repository nor the AUR has it.
    #[error("neither a repository nor the AUR ({url}) has {name}")]
    NotThere {
        /// The name.
        name: String,
        /// Where the AUR is.
        url: String,
    },
    /// Its sources could not be fetched.
    #[error("cannot fetch the sources of {name} from the AUR{}", after_line(tail))]
    Fetch {
        /// The name.
        name: String,
        /// git's last words.
        tail: String,
    },
    /// What it says of itself cannot be used.
    #[error("cannot use .SRCINFO of {name} in the AUR")]
    SrcInfo {
        /// The name.
        name: String,
        /// Why.
        source: SrcInfoError,
    },
    /// The sources of that name make something else.
    #[error("the AUR's sources {base} do not make {name}")]
    OtherName {
        /// The repository of sources.
        base: String,
        /// What was wanted.
        name: String,
    },
    /// Builds that wait for each other.
    #[error("these packages of the AUR need each other to be built: {}", .0.join(", "))]
    Circle(Vec<String>),
    /// More than anybody means.
    #[error("more than {0} packages of the AUR are needed")]
    TooMany(usize),
    /// Something it needs is not there after everything before it was built.
    #[error("{name} of the AUR needs {need}, which is not there after all it needs was installed")]
    Unsatisfied {
        /// What was to be built.
        name: String,
        /// What it needs.
        need: String,
    },
    /// makepkg failed.
    #[error("cannot build {name} of the AUR: {cause}{}", after_line(tail))]
    Build {
        /// The name.
        name: String,
        /// What it means.
        cause: BuildCause,
        /// Its last words.
        tail: String,
    },
    /// makepkg ended well, and there is no such package file.
    #[error("makepkg ended well, but made no package {0}")]
    NotMade(String),
    /// A package that was built brought another name or version than it said.
    #[error("installing what was built for {wanted} changed {name} too, which is none of them")]
    Unexpected {
        /// What was wanted.
        wanted: String,
        /// What changed.
        name: String,
    },
}

/// Why a build failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildCause {
    /// A source is not what the PKGBUILD says.
    Checksum,
    /// A source's signature is of a key that is not there, or wrong.
    Signature,
    /// A source could not be fetched.
    Download,
    /// Something else.
    Other,
}

/// Words of makepkg and what they mean, the most telling first. Source: `scripts/libmakepkg` of pacman 6.0 to 7.1.
const WORDS: &[(&str, BuildCause)] = &[
    ("unknown public key", BuildCause::Signature),
    ("PGP signatures could not be verified", BuildCause::Signature),
    ("did not pass the validity check", BuildCause::Checksum),
    ("Failure while downloading", BuildCause::Download),
    ("Could not download sources", BuildCause::Download),
];

impl BuildCause {
    fn of(words: &str) -> Self {
        WORDS.iter().find(|(word, _)| words.contains(word)).map_or(Self::Other, |(_, cause)| *cause)
    }
}

impl fmt::Display for BuildCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checksum => "a source is not what its PKGBUILD says",
            Self::Signature => "the signature of a source cannot be verified",
            Self::Download => "a source cannot be fetched",
            Self::Other => "makepkg says why",
        })
    }
}

impl AurError {
    /// The way out.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NotThere { .. } => "look at the spelling; a package that is one of several of a PKGBUILD has that one's name in the AUR",
            Self::Fetch { .. } => "look at the network, and at aur_url in the snapshot's /etc/ast.conf",
            Self::Build { cause: BuildCause::Signature, .. } => {
                "its maintainer should put the key into keys/pgp of the package; nothing is trusted that is not there and in validpgpkeys"
            }
            Self::Build { cause: BuildCause::Checksum, .. } => {
                "upstream changed the file, or somebody on the way did: wait for the maintainer"
            }
            _ => "tell the package's maintainer at the AUR",
        }
    }
}

fn after_line(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!("\n{tail}") }
}
