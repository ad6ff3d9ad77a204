//! A throw-away key that signs every package and database, as long as the cache lives.

use super::Result;
use super::cache::once;
use super::error::At as _;
use super::run::run;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Who the key says it is.
const NAME: &str = "ast lab (throw-away)";

/// The lab's signing key.
#[derive(Debug)]
pub struct Signer {
    home: PathBuf,
    fingerprint: String,
}

impl Signer {
    /// The cache has a signing key without a passphrase.
    pub fn open(cache: &Path) -> Result<Self> {
        let home = once(&cache.join("signing"), |dir| {
            run(Command::new("chmod").arg("700").arg(dir))?;
            // RSA: an emulated machine checks it fastest.
            run(gpg(dir).args(["--batch", "--passphrase", "", "--quick-generate-key", NAME, "rsa2048", "sign", "never"]))?;
            let text = run(gpg(dir).args(["--with-colons", "--list-keys"]))?;
            let fingerprint = text.lines().find_map(|l| l.strip_prefix("fpr:")).unwrap_or_default().trim_matches(':');
            let file = dir.join("fingerprint");
            fs::write(&file, fingerprint).at(file)?;
            stop_agent(dir);
            Ok(())
        })?;
        let file = home.join("fingerprint");
        let fingerprint = fs::read_to_string(&file).at(file)?;
        Ok(Self { home, fingerprint })
    }

    /// The key's fingerprint, 40 hex digits.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// `FILE.sig` is a detached signature of each file.
    pub fn sign(&self, files: &[PathBuf]) -> Result<()> {
        // One at a time: whoever ends first stops the agent.
        static ONE: Mutex<()> = Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        for file in files {
            run(gpg(&self.home).args(["--batch", "--yes", "--quiet", "--no-armor", "--detach-sign"]).arg(file))?;
        }
        stop_agent(&self.home);
        Ok(())
    }

    /// The three files of a keyring for `pacman-key --populate archlinux` are in `dir`.
    pub fn write_keyring(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir).at(dir)?;
        run(gpg(&self.home).args(["--batch", "--yes", "--export", "-o"]).arg(dir.join("archlinux.gpg")))?;
        let trusted = dir.join("archlinux-trusted");
        fs::write(&trusted, format!("{}:4:\n", self.fingerprint)).at(trusted)?;
        let revoked = dir.join("archlinux-revoked");
        fs::write(&revoked, "").at(revoked)
    }

    /// A directory for pacman's `GPGDir` on the host that trusts this key and no other.
    pub fn gpg_dir(&self, cache: &Path) -> Result<PathBuf> {
        once(&cache.join(format!("gpgdir-{}", &self.fingerprint[..16.min(self.fingerprint.len())])), |dir| {
            run(Command::new("chmod").arg("755").arg(dir))?;
            let key = dir.join("lab.gpg");
            run(gpg(&self.home).args(["--batch", "--yes", "--export", "-o"]).arg(&key))?;
            run(gpg(dir).args(["--batch", "--import"]).arg(&key))?;
            let trust = dir.join("trust");
            fs::write(&trust, format!("{}:6:\n", self.fingerprint)).at(&trust)?;
            run(gpg(dir).args(["--batch", "--import-ownertrust"]).arg(&trust))?;
            run(gpg(dir).args(["--batch", "--check-trustdb"]))?;
            stop_agent(dir);
            for file in [key, trust] {
                fs::remove_file(&file).at(&file)?;
            }
            Ok(())
        })
    }

    /// The home directory of the key, for programs that call gpg themselves.
    pub fn home(&self) -> &Path {
        &self.home
    }
}

fn gpg(home: &Path) -> Command {
    let mut command = Command::new("gpg");
    command.env("GNUPGHOME", home).arg("--no-permission-warning");
    command
}

/// Ends the agent that gpg started for this home; an error is of no consequence.
pub fn stop_agent(home: &Path) {
    drop(run(Command::new("gpgconf").env("GNUPGHOME", home).args(["--kill", "all"])));
}
