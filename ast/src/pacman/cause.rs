//! What pacman's words mean. pacman has one exit status for every failure; its messages are stable and, under `LC_ALL=C`, English.

use std::fmt;

/// Why a transaction failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// A package that no repository has.
    NoSuchPackage,
    /// The package file is gone from the mirror: the snapshot's databases are older than the mirror.
    Gone,
    /// No mirror could be reached.
    Network,
    /// A signature is missing, wrong, or of a key that is unknown.
    Key,
    /// The signature's key is past its date: whose it is (R5).
    ExpiredKey(String),
    /// A package is not what the repository says it is.
    Damaged,
    /// The disk is full.
    Space,
    /// Two packages have the same file, or a file is there that no package has.
    FileConflict,
    /// Packages that exclude or need each other.
    Dependency,
    /// The snapshot has no package databases yet.
    NoDatabase,
    /// Another pacman works in the same copy.
    Locked,
    /// Something else.
    Other,
}

/// Words of pacman and what they mean, the most telling first. Source: messages of `lib/libalpm` and `src/pacman` 6.0 to 7.1.
const WORDS: &[(&str, Cause)] = &[
    ("not enough free disk space", Cause::Space),
    ("No space left on device", Cause::Space),
    ("invalid or corrupted package (PGP signature)", Cause::Key),
    ("invalid or corrupted database (PGP signature)", Cause::Key),
    ("missing required signature", Cause::Key),
    ("is unknown trust", Cause::Key),
    ("is marginal trust", Cause::Key),
    ("is invalid", Cause::Key),
    ("is expired", Cause::Key),
    ("required key missing from keyring", Cause::Key),
    ("could not be looked up remotely", Cause::Key),
    ("keyring is not writable", Cause::Key),
    ("invalid or corrupted package", Cause::Damaged),
    ("target not found", Cause::NoSuchPackage),
    ("The requested URL returned error: 404", Cause::Gone),
    ("Could not resolve host", Cause::Network),
    ("Failed to connect", Cause::Network),
    ("Could not connect", Cause::Network),
    ("Connection refused", Cause::Network),
    ("Operation too slow", Cause::Network),
    ("failed to synchronize", Cause::Network),
    ("failed retrieving file", Cause::Network),
    ("no servers configured", Cause::Network),
    ("conflicting files", Cause::FileConflict),
    ("exists in filesystem", Cause::FileConflict),
    ("could not satisfy dependencies", Cause::Dependency),
    ("conflicting dependencies", Cause::Dependency),
    ("unresolvable package conflicts", Cause::Dependency),
    ("database file for", Cause::NoDatabase),
    ("unable to lock database", Cause::Locked),
];

impl Cause {
    /// What these last words of pacman mean.
    pub fn of(words: &str) -> Self {
        WORDS.iter().find(|(word, _)| words.contains(word)).map_or(Self::Other, |(_, cause)| cause.clone())
    }

    /// The way out.
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::NoSuchPackage => {
                "look at the spelling; `ast refresh N` brings newer databases, `ast upgrade N` where that finds newer packages; for packages of \
                 the AUR, `aur::True` in /etc/ast.conf of the snapshot (`ast edit-conf N`)"
            }
            Self::Gone => "the mirror has newer packages than the snapshot knows: `ast upgrade N` first",
            Self::Network => "look at the network and at /etc/pacman.d/mirrorlist of the snapshot",
            Self::Key => "`ast install N archlinux-keyring` renews the keys; a wrong clock makes every key look wrong",
            Self::ExpiredKey(_) => {
                "a newer keyring has a newer date for it: `ast install N archlinux-keyring`; if that is signed by it too, \
                 `pacman-key --refresh-keys` in `ast chroot N`; a clock that is ahead makes every key look expired"
            }
            Self::Damaged => "try again, or name another mirror in /etc/pacman.d/mirrorlist of the snapshot",
            Self::Space => "`ast del` of a snapshot, or `ast clean`, gives space back",
            Self::FileConflict => "move the file away in `ast chroot N`",
            Self::Dependency => "`ast upgrade N` first: a partial upgrade is refused",
            Self::NoDatabase => "`ast refresh N` or `ast upgrade N` brings the databases",
            Self::Locked => "wait for it to end",
            Self::Other => "pacman's words above say what to do",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchPackage => "no repository has such a package",
            Self::Gone => "the mirror no longer has the package file",
            Self::Network => "the mirror cannot be reached",
            Self::Key => "a signature cannot be trusted",
            Self::ExpiredKey(owner) => return write!(f, "the key of {owner} has expired"),
            Self::Damaged => "a package file is damaged",
            Self::Space => "the disk is full",
            Self::FileConflict => "a file is in the way",
            Self::Dependency => "the packages do not fit together",
            Self::NoDatabase => "the snapshot has no package databases yet",
            Self::Locked => "another pacman is at work",
            Self::Other => "pacman says why",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_words_of_pacman_have_their_meaning() {
        let table = [
            ("error: target not found: nonsense", Cause::NoSuchPackage),
            (
                "error: failed retrieving file 'hello-1-1-x86_64.pkg.tar.zst' from 10.0.2.2:8000 : The requested URL returned error: 404",
                Cause::Gone,
            ),
            ("error: failed retrieving file 'core.db' from x : Could not resolve host: x", Cause::Network),
            (
                "error: hello: signature from \"lab <lab@lab>\" is unknown trust\nerror: failed to commit transaction (invalid or corrupted package (PGP signature))",
                Cause::Key,
            ),
            ("error: failed to commit transaction (invalid or corrupted package (checksum))", Cause::Damaged),
            ("error: key \"AB\" could not be looked up remotely", Cause::Key),
            ("error: Partition / too full: 9 blocks needed, 1 blocks free\nerror: not enough free disk space", Cause::Space),
            ("error: failed to commit transaction (conflicting files)\nhello: /usr/bin/hello exists in filesystem", Cause::FileConflict),
            ("warning: database file for 'core' does not exist (use '-Sy' to download)", Cause::NoDatabase),
            ("error: failed to prepare transaction (could not satisfy dependencies)\n:: installing x (2-1) breaks dependency 'x=1-1' required by y", Cause::Dependency),
            ("error: unresolvable package conflicts detected\nerror: failed to prepare transaction (conflicting dependencies)", Cause::Dependency),
            // Nothing that the packages are to blame for: the updater would not try them again for 30 days.
            ("error: failed to prepare transaction (could not open database)", Cause::Other),
            ("something new", Cause::Other),
        ];
        for (words, cause) in table {
            assert_eq!(Cause::of(words), cause, "{words}");
            assert!(!cause.hint().is_empty());
        }
    }
}
