//! A private apt for another release than the host's: own lists, own cache, an empty dpkg status.
//! Where packages come from is the host's own choice: its source entries, with the release replaced.

use super::cache::remove_tree;
use super::error::At as _;
use super::recipe::Suite;
use super::run::run;
use super::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Releases by which an entry of the host is known to be Debian's.
const RELEASES: [&str; 8] = ["bookworm", "trixie", "forky", "duke", "sid", "stable", "testing", "unstable"];

/// What the host's configuration may do after an update or an install is not for us.
const CONFIG: &str = "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n#clear APT::Update::Pre-Invoke;\n#clear DPkg::Post-Invoke;\n";

/// A Debian package that apt chose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its name.
    pub package: String,
    /// Its version, epoch included.
    pub version: String,
    /// `amd64` or `all`.
    pub arch: String,
}

impl Chosen {
    /// The name apt gives the downloaded file.
    pub fn file_name(&self) -> String {
        format!("{}_{}_{}.deb", self.package, self.version.replace(':', "%3a"), self.arch)
    }
}

/// A private apt for one suite.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// A directory with sources of `suite` exists below the cache; the host's apt is only read.
    ///
    /// Errors: the host has no Debian source entry.
    pub fn open(cache: &Path, suite: Suite) -> Result<Self> {
        let dir = cache.join("apt").join(suite.name());
        for sub in ["lists/partial", "archives/partial", "sources.d"] {
            fs::create_dir_all(dir.join(sub)).at(&dir)?;
        }
        fs::write(dir.join("status"), "").at(&dir)?;
        fs::write(dir.join("apt.conf"), CONFIG).at(&dir)?;
        let (list, deb822) = host_sources(Path::new("/etc/apt"), suite)?;
        if list.is_empty() && deb822.is_empty() {
            return Err(Error::NoDebianSource { dir: "/etc/apt".into() });
        }
        fs::write(dir.join("sources.d/debian.list"), list).at(&dir)?;
        fs::write(dir.join("sources.d/debian.sources"), deb822).at(&dir)?;
        Ok(Self { dir })
    }

    /// The suite's package lists are as new as its mirror.
    pub fn update(&self) -> Result<()> {
        run(self.command("apt-get").args(["-qq", "update"])).map(drop)
    }

    /// All packages whose name begins so.
    pub fn names(&self, start: &str) -> Result<Vec<String>> {
        Ok(run(self.command("apt-cache").args(["pkgnames", start]))?.lines().map(str::to_owned).collect())
    }

    /// `packages` and everything they need on an empty system.
    pub fn closure(&self, packages: &[String]) -> Result<Vec<Chosen>> {
        let text = run(self.command("apt-get").args(["-qq", "-s", "install"]).args(packages))?;
        Ok(text.lines().filter_map(parse_inst).collect())
    }

    /// One package by itself, as the suite offers it.
    pub fn candidate(&self, package: &str) -> Result<Option<Chosen>> {
        let text = run(self.command("apt-cache").args(["-q", "show", "--no-all-versions", package]))?;
        let field = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)).map(|v| v.trim().to_owned());
        Ok(field("Version:").zip(field("Architecture:")).map(|(version, arch)| Chosen { package: package.to_owned(), version, arch }))
    }

    /// The files of `chosen` are in the directory that comes back; apt has checked their hashes.
    pub fn download(&self, chosen: &[Chosen]) -> Result<PathBuf> {
        let dir = self.dir.join("archives");
        let missing: Vec<String> =
            chosen.iter().filter(|c| !dir.join(c.file_name()).exists()).map(|c| format!("{}={}", c.package, c.version)).collect();
        if !missing.is_empty() {
            run(self.command("apt-get").args(["-qq", "download"]).args(missing).current_dir(&dir))?;
        }
        Ok(dir)
    }

    /// Downloaded files are gone; the pool has its own links.
    pub fn clean(&self) -> Result<()> {
        remove_tree(&self.dir.join("archives"))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |p: &str| self.dir.join(p).display().to_string();
        command.env("LC_ALL", "C").env("DEBIAN_FRONTEND", "noninteractive").arg("-c").arg(path("apt.conf"));
        for option in [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={}", path("sources.d")),
            "Dir::Etc::preferences=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={}", path("")),
            format!("Dir::State::lists={}", path("lists")),
            format!("Dir::State::status={}", path("status")),
            format!("Dir::Cache={}", path("")),
            // A host made for containers has switched these off: every call would read all lists anew.
            "Dir::Cache::pkgcache=pkgcache.bin".to_owned(),
            "Dir::Cache::srcpkgcache=srcpkgcache.bin".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Install-Recommends=0".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        command
    }
}

/// A line `Inst NAME (VERSION ORIGIN [ARCH])` of a simulated install.
fn parse_inst(line: &str) -> Option<Chosen> {
    let (package, rest) = line.strip_prefix("Inst ")?.split_once(" (")?;
    let version = rest.split(' ').next()?;
    let arch = rest.split_once('[')?.1.split(']').next()?;
    Some(Chosen { package: package.to_owned(), version: version.to_owned(), arch: arch.to_owned() })
}

/// The host's Debian entries turned into entries of `suite`: one-line ones and deb822 ones.
fn host_sources(etc: &Path, suite: Suite) -> Result<(String, String)> {
    let mut files = vec![etc.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc.join("sources.list.d")) {
        files.extend(entries.flatten().map(|e| e.path()));
    }
    files.sort();
    let (mut list, mut deb822) = (String::new(), String::new());
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else { continue };
        match file.extension().and_then(|e| e.to_str()) {
            Some("list") => list.extend(text.lines().filter_map(|l| one_line(l, suite))),
            Some("sources") => deb822.extend(stanzas(&text).filter_map(|s| stanza(&s, suite))),
            _ => {}
        }
    }
    Ok((list, deb822))
}

/// The same suite name for `suite`, if it is one of Debian's that it has too.
fn replaced(name: &str, suite: Suite) -> Option<String> {
    let (release, pocket) = name.split_once('-').map_or((name, ""), |(r, _)| (r, &name[r.len()..]));
    if !RELEASES.contains(&release) {
        return None;
    }
    match pocket {
        "" => Some(suite.name().to_owned()),
        "-updates" | "-security" if suite != Suite::Sid => Some(format!("{}{pocket}", suite.name())),
        _ => None,
    }
}

fn one_line(line: &str, suite: Suite) -> Option<String> {
    let rest = line.trim().strip_prefix("deb")?;
    if !rest.starts_with([' ', '\t', '[']) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[').and_then(|r| r.split_once(']')) {
        Some((o, r)) => (format!("[{o}] "), r.trim_start()),
        None => (String::new(), rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, name) = (words.next()?, replaced(words.next()?, suite)?);
    words.any(|w| w == "main").then(|| format!("deb {options}{uri} {name} main\n"))
}

fn stanzas(text: &str) -> impl Iterator<Item = String> {
    let clean: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
    let joined = clean.split(|l| l.trim().is_empty()).map(|s| s.join("\n")).filter(|s| !s.is_empty()).collect::<Vec<_>>();
    joined.into_iter()
}

fn stanza(text: &str, suite: Suite) -> Option<String> {
    let field = |name: &str| {
        text.lines().find_map(|l| {
            let (key, value) = l.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if field("Enabled").is_some_and(|v| v == "no") || !field("Types")?.split_whitespace().any(|t| t == "deb") {
        return None;
    }
    if !field("Components")?.split_whitespace().any(|c| c == "main") {
        return None;
    }
    let names: Vec<String> = field("Suites")?.split_whitespace().filter_map(|s| replaced(s, suite)).collect();
    if names.is_empty() {
        return None;
    }
    let mut out = format!("Types: deb\nSuites: {}\nComponents: main\n", names.join(" "));
    let mut keep = false;
    for line in text.lines() {
        if !line.starts_with([' ', '\t']) {
            let key = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            keep = !["types", "suites", "components", "architectures"].contains(&key.as_str());
        }
        if keep {
            out.push_str(line);
            out.push('\n');
        }
    }
    out.push('\n');
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_entries_become_those_of_another_release() {
        let security = "# c\nTypes: deb deb-src\nURIs: http://m/debian-security\nSuites: bookworm-security\nComponents: main contrib\nSigned-By:\n BEGIN\n .\n END\n";
        let got: Vec<_> = stanzas(security).filter_map(|s| stanza(&s, Suite::Trixie)).collect();
        assert_eq!(
            got,
            ["Types: deb\nSuites: trixie-security\nComponents: main\nURIs: http://m/debian-security\nSigned-By:\n BEGIN\n .\n END\n\n"]
        );
        assert!(stanzas(security).filter_map(|s| stanza(&s, Suite::Sid)).next().is_none());
        assert!(stanza("Types: deb\nURIs: http://x\nSuites: nodistro\nComponents: main", Suite::Sid).is_none());
        assert_eq!(
            one_line("deb [arch=amd64] http://m/debian stable main", Suite::Sid).unwrap(),
            "deb [arch=amd64] http://m/debian sid main\n"
        );
        assert!(one_line("deb-src http://m/debian stable main", Suite::Sid).is_none());
        assert!(one_line("deb http://m/debian bookworm-backports main", Suite::Trixie).is_none());
    }

    #[test]
    fn a_simulated_install_is_read() {
        let line = "Inst libc6 (2.41-12+deb13u4 Debian-Security:13/stable-security, Debian:13.7/stable [amd64]) []";
        let chosen = parse_inst(line).unwrap();
        assert_eq!((chosen.package.as_str(), chosen.version.as_str(), chosen.arch.as_str()), ("libc6", "2.41-12+deb13u4", "amd64"));
        assert!(parse_inst("Conf libc6 (2.41 Debian [amd64])").is_none());
    }
}
