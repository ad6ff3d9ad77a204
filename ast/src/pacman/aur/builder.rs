//! Fetching and building as a user that exists only for one build: a number, a record in a `/run` of its own, and no more.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::{Path, PathBuf};

use super::super::transaction::Feed;
use super::super::{PacmanError, transaction};
use super::srcinfo::{self, SrcInfo, SrcInfoError};
use super::{AurError, BuildCause, PACKAGER};
use crate::exec::{Ended, Invocation, Options, Program};
use crate::sys::{At, file, inside};
use crate::work::{Bind, PACKAGE_CACHE, WorkingCopy};

/// The build user and its group. 60706 to 61183 belong to nobody, nor can a service get one of them.
/// Source: <https://systemd.io/UIDS-GIDS/>.
const BUILDER: u32 = 61_000;
/// What programs that ask for a name are told.
const NAME: &str = "ast-build";
/// Where builds are seen inside.
pub(super) const INSIDE: &str = "/run/ast-build";
/// Where programs look for users that no file lists. Source: nss-systemd(8).
const USERS: &str = "/run/userdb";

/// A copy of a working copy in which packages are built; all of it goes when it is dropped.
#[derive(Debug)]
pub(super) struct Builder {
    yard: WorkingCopy,
    url: String,
    /// On the host: a directory for each build.
    builds: PathBuf,
    users: PathBuf,
}

impl Builder {
    /// A place to build for `copy` exists, with the packages of `copy`.
    ///
    /// If interrupted: what is there is garbage by its name.
    pub(super) fn open(copy: &WorkingCopy, url: &str) -> Result<Self, PacmanError> {
        let yard = copy.branch()?;
        let (builds, users) = (yard.dir().join("builds"), yard.dir().join("users"));
        file::make_dirs(&builds)?;
        file::make_dirs(&users)?;
        let records = [
            ("user", format!(r#"{{"userName":"{NAME}","uid":{BUILDER},"gid":{BUILDER},"homeDirectory":"{INSIDE}","shell":"/bin/sh"}}"#)),
            ("group", format!(r#"{{"groupName":"{NAME}","gid":{BUILDER}}}"#)),
        ];
        for (kind, record) in records {
            for name in [NAME.to_owned(), BUILDER.to_string()] {
                file::replace(&users.join(format!("{name}.{kind}")), record.as_bytes())?;
            }
        }
        Ok(Self { yard, url: url.to_owned(), builds, users })
    }

    /// The copy to build in.
    pub(super) const fn yard(&self) -> &WorkingCopy {
        &self.yard
    }

    /// What others have to be shown to reach what was built.
    pub(super) fn results(&self) -> Bind {
        Bind { source: self.builds.clone(), target: INSIDE.into(), read_only: true }
    }

    /// The sources of `base` are here. What they say they make.
    ///
    /// Refuses: a name that is none; a repository that is not there or says nothing that can be understood.
    pub(super) fn fetch(&self, base: &str, feed: &mut Feed<'_>) -> Result<SrcInfo, PacmanError> {
        if !srcinfo::is_package_name(base) {
            return Err(PacmanError::BadName(base.chars().take(60).collect()));
        }
        let dir = self.builds.join(base);
        let not_there = || AurError::NotThere { name: base.to_owned(), url: self.url.clone() };
        if dir.exists() {
            // Looked for before, as the sources of another of its packages, and not found.
            return Err(not_there().into());
        }
        for path in [dir.clone(), dir.join("home"), dir.join("out"), dir.join("tmp")] {
            DirBuilder::new().mode(0o700).create(&path).at("make the directory", &path)?;
            chown(&path, Some(BUILDER), Some(BUILDER)).at("set the owner of", &path)?;
        }
        let words = ["clone", "--quiet", "--depth=1", "--single-branch", "--no-tags", "--"].map(str::to_owned);
        let words = words.into_iter().chain([format!("{}/{base}.git", self.url), format!("{INSIDE}/{base}/src")]);
        let ended = self.run(base, INSIDE, Program::Git, words, feed.options())?;
        if !ended.status.success() {
            let said = said(&ended);
            if NO_REPOSITORY.iter().any(|words| said.contains(words)) {
                return Err(not_there().into());
            }
            return Err(AurError::Fetch { name: base.to_owned(), tail: ended.tail() }.into());
        }
        // The AUR answers with an empty repository for a name that it does not have.
        let source = |source| AurError::SrcInfo { name: base.to_owned(), source };
        match self.read_info(&dir.join("src"))? {
            None => Err(not_there().into()),
            Some(None) => Err(source(SrcInfoError::TooLong).into()),
            Some(Some(text)) => Ok(srcinfo::parse(&text, std::env::consts::ARCH).map_err(source)?),
        }
    }

    /// `.SRCINFO` in `src`, whatever links somebody made of it; the inner `None` for one that is too long.
    fn read_info(&self, src: &Path) -> Result<Option<Option<String>>, PacmanError> {
        let info = match inside::open_in(src, Path::new(".SRCINFO")) {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let path = src.join(".SRCINFO");
        if !info.metadata().at("look at", &path)?.is_file() {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        info.take(srcinfo::MAX_BYTES + 1).read_to_end(&mut bytes).at("read", &path)?;
        let whole = bytes.len() as u64 <= srcinfo::MAX_BYTES;
        Ok(Some(whole.then(|| String::from_utf8_lossy(&bytes).into_owned())))
    }

    /// The packages of `base` are built. Their files, as seen inside where [`Builder::results`] is shown, by the packages' names.
    ///
    /// Refuses: sources that are not what the PKGBUILD says (checksums, signatures), a build that fails, one that makes nothing.
    pub(super) fn build(&self, base: &str, feed: &mut Feed<'_>) -> Result<Vec<(String, PathBuf)>, PacmanError> {
        let src = format!("{INSIDE}/{base}/src");
        let keys: Vec<PathBuf> = self.keys(base)?;
        if !keys.is_empty() {
            let words = ["--batch", "--quiet", "--import", "--"].map(PathBuf::from).into_iter().chain(keys);
            self.judged(base, self.run(base, &src, Program::Gpg, words, feed.options())?)?;
        }
        let words = ["--nodeps", "--nocheck", "--noconfirm", "--nocolor", "--force", "--cleanbuild"];
        self.judged(base, self.run(base, &src, Program::Makepkg, words, feed.options())?)?;
        let out = self.builds.join(base).join("out");
        if !is_dir(&out) {
            return Ok(Vec::new());
        }
        let file = |name: std::ffi::OsString| {
            let is_file = fs::symlink_metadata(out.join(&name)).is_ok_and(|meta| meta.is_file());
            let package = transaction::package_of_file(name.to_str()?)?.to_owned();
            is_file.then(|| (package, Path::new(INSIDE).join(base).join("out").join(name)))
        };
        Ok(file::names(&out)?.into_iter().filter_map(file).collect())
    }

    /// The packages of that version are in the machine's cache already, built for another snapshot: their files as seen inside.
    pub(super) fn cached(&self, names: &[&str], version: &str) -> Result<Option<Vec<(String, PathBuf)>>, PacmanError> {
        let Some(cache) = self.yard.cache() else { return Ok(None) };
        let files = file::names(cache)?;
        let find = |name: &str| {
            let starts = ["any", std::env::consts::ARCH].map(|arch| format!("{name}-{version}-{arch}.pkg.tar"));
            let is_it = |file: &&str| {
                starts.iter().any(|start| file.strip_prefix(start).is_some_and(|end| !end.ends_with(".sig") && !end.ends_with(".part")))
            };
            let file = files.iter().filter_map(|file| file.to_str()).find(is_it)?;
            Some((name.to_owned(), Path::new(PACKAGE_CACHE).join(file)))
        };
        Ok(names.iter().map(|name| find(name)).collect())
    }

    /// The machine's cache has these files of `base`: the next snapshot that needs them need not build them.
    pub(super) fn keep(&self, base: &str, files: &[PathBuf]) -> Result<(), PacmanError> {
        let Some(cache) = self.yard.cache() else { return Ok(()) };
        for name in files.iter().filter_map(|file| file.file_name()) {
            file::copy(&self.builds.join(base).join("out").join(name), &cache.join(name))?;
        }
        Ok(())
    }

    /// The public keys that came with the sources, as the AUR's custom is: makepkg accepts those that `validpgpkeys` names.
    fn keys(&self, base: &str) -> Result<Vec<PathBuf>, PacmanError> {
        let relative = "keys/pgp";
        let mut dir = self.builds.join(base).join("src");
        for part in relative.split('/') {
            dir.push(part);
            if !is_dir(&dir) {
                return Ok(Vec::new());
            }
        }
        let is_key = |name: &std::ffi::OsString| name.to_str().is_some_and(|n| n.ends_with(".asc") && srcinfo::is_package_name(n));
        Ok(file::names(&dir)?.into_iter().filter(is_key).map(|name| Path::new(relative).join(name)).collect())
    }

    fn judged(&self, base: &str, ended: Ended) -> Result<(), AurError> {
        if ended.status.success() {
            return Ok(());
        }
        let cause = BuildCause::of(&said(&ended));
        Err(AurError::Build { name: base.to_owned(), cause, tail: ended.tail() })
    }

    /// `program` has run as the build user, which may write below the build of `base` and nowhere else.
    fn run<W: AsRef<OsStr>>(
        &self,
        base: &str,
        dir: &str,
        program: Program,
        words: impl IntoIterator<Item = W>,
        options: Options<'_>,
    ) -> Result<Ended, PacmanError> {
        let invocation = Invocation::new(Program::Setpriv)
            .args([format!("--reuid={BUILDER}"), format!("--regid={BUILDER}")])
            .args(["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all", "--"])
            .args([Program::Env.name().to_owned(), format!("--chdir={dir}"), program.name().to_owned()])
            .args(words);
        let place = |name: &str| format!("{INSIDE}/{base}/{name}");
        let options = ["PKGDEST", "SRCPKGDEST", "LOGDEST"].into_iter().fold(options, |options, name| options.env(name, place("out")));
        let options =
            options.env("HOME", place("home")).env("TMPDIR", place("tmp")).env("BUILDDIR", place("tmp")).env("SRCDEST", place("tmp"));
        let options = options.env("USER", NAME).env("LOGNAME", NAME).env("PACKAGER", PACKAGER).env("GIT_TERMINAL_PROMPT", "0");
        let binds = [
            Bind { source: self.builds.clone(), target: INSIDE.into(), read_only: false },
            Bind { source: self.users.clone(), target: USERS.into(), read_only: true },
        ];
        Ok(self.yard.run_reading(&binds, &invocation, options)?)
    }
}

/// What git and its servers say of a repository that is not there. Source: messages of git 2.30 to 2.50, GitHub, cgit.
const NO_REPOSITORY: [&str; 5] =
    ["repository not exported", "does not appear to be a git repository", "Repository not found", "does not exist", "not found"];

fn said(ended: &Ended) -> String {
    format!("{}\n{}", ended.text(), String::from_utf8_lossy(&ended.stderr))
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir())
}
