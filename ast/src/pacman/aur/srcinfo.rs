//! Reader of `.SRCINFO`: what a PKGBUILD says of itself, without running it. Source: `makepkg --printsrcinfo`, and
//! <https://wiki.archlinux.org/title/.SRCINFO>.

use super::super::transaction::{check_names, plain};

/// Largest file that is read, in bytes: a hundred times what the longest of the AUR has.
pub(super) const MAX_BYTES: u64 = 1 << 20;

/// Why a `.SRCINFO` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SrcInfoError {
    /// A line that is neither `key = value` nor empty.
    #[error("line {0} is not of the form key = value")]
    Line(usize),
    /// Something that has to be there is not.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A value that no PKGBUILD can have.
    #[error("line {line}: {value:?} cannot be a {key}")]
    Value {
        /// From 1.
        line: usize,
        /// The key.
        key: String,
        /// The value, shortened.
        value: String,
    },
    /// Made for other machines.
    #[error("it is for {0}, not for this machine")]
    Arch(String),
    /// Longer than any.
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
}

/// What one PKGBUILD makes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct SrcInfo {
    /// `epoch:version-release`, as the package manager writes it.
    pub version: String,
    /// What building needs.
    pub make_depends: Vec<String>,
    /// Its packages.
    pub packages: Vec<Package>,
}

/// One package of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Package {
    pub name: String,
    pub depends: Vec<String>,
    pub provides: Vec<String>,
}

impl SrcInfo {
    /// The package `name`, or the one that provides it.
    pub(super) fn maker_of(&self, name: &str) -> Option<&Package> {
        let provides = |p: &&Package| p.provides.iter().any(|provided| plain(provided) == name);
        self.packages.iter().find(|p| p.name == name).or_else(|| self.packages.iter().find(provides))
    }
}

impl SrcInfo {
    /// What its package `name` needs to run.
    pub(super) fn depends_of(&self, name: &str) -> Vec<String> {
        self.packages.iter().filter(|p| p.name == name).flat_map(|p| p.depends.clone()).collect()
    }
}

/// One section: what it says for everybody, and for one architecture; `None` where it says nothing.
#[derive(Debug, Clone, Default)]
struct Section {
    depends: [Option<Vec<String>>; 2],
    provides: [Option<Vec<String>>; 2],
}

impl Section {
    fn over(&self, base: &Self, which: impl Fn(&Self) -> &[Option<Vec<String>>; 2]) -> Vec<String> {
        let both = |index: usize| which(self)[index].as_ref().or(which(base)[index].as_ref());
        [both(0), both(1)].into_iter().flatten().flatten().cloned().collect()
    }
}

/// What `text` says of packages for `arch`. Total; keys that do not matter here are passed over.
pub(super) fn parse(text: &str, arch: &str) -> Result<SrcInfo, SrcInfoError> {
    let (mut base, mut named) = (Section::default(), Vec::<(String, Section)>::new());
    let (mut version, mut release, mut epoch) = (None, None, None);
    let (mut for_arch, mut make_depends, mut has_base) = (Vec::new(), Vec::new(), false);
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (key, value) = line.split_once('=').ok_or(SrcInfoError::Line(line_number))?;
        let (key, value) = (key.trim(), value.trim());
        let bad = || SrcInfoError::Value { line: line_number, key: key.to_owned(), value: value.chars().take(60).collect() };
        let of_arch = key.strip_suffix(arch).and_then(|key| key.strip_suffix('_'));
        let (plain_key, slot) = of_arch.map_or((key, 0), |plain_key| (plain_key, 1));
        match plain_key {
            "pkgbase" => has_base = true,
            "pkgname" => {
                if !is_package_name(value) {
                    return Err(bad());
                }
                named.push((value.to_owned(), Section::default()));
            }
            "pkgver" | "pkgrel" | "epoch" => {
                let good =
                    !value.is_empty() && value.len() <= 128 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+~".contains(&b));
                if !good {
                    return Err(bad());
                }
                *(match plain_key {
                    "pkgver" => &mut version,
                    "pkgrel" => &mut release,
                    _ => &mut epoch,
                }) = Some(value.to_owned());
            }
            "arch" => for_arch.push(value.to_owned()),
            "depends" | "provides" | "makedepends" => {
                // An empty value takes back what the base says.
                let value = if value.is_empty() { None } else { Some(value.to_owned()) };
                if value.as_ref().is_some_and(|value| check_names(std::slice::from_ref(value)).is_err() || value.contains('/')) {
                    return Err(bad());
                }
                let section = named.last_mut().map_or(&mut base, |(_, section)| section);
                let list = match plain_key {
                    "depends" => section.depends[slot].get_or_insert_default(),
                    "provides" => section.provides[slot].get_or_insert_default(),
                    _ => &mut make_depends,
                };
                list.extend(value);
            }
            _ => {}
        }
    }
    if !has_base {
        return Err(SrcInfoError::Missing("pkgbase"));
    }
    if named.is_empty() {
        return Err(SrcInfoError::Missing("pkgname"));
    }
    if !for_arch.iter().any(|a| a == "any" || a == arch) {
        return Err(SrcInfoError::Arch(for_arch.join(", ").chars().take(60).collect()));
    }
    let epoch = epoch.filter(|epoch| epoch != "0").map_or(String::new(), |epoch| format!("{epoch}:"));
    let (version, release) = (version.ok_or(SrcInfoError::Missing("pkgver"))?, release.ok_or(SrcInfoError::Missing("pkgrel"))?);
    let package = |(name, section): (String, Section)| Package {
        name,
        depends: section.over(&base, |s| &s.depends),
        provides: section.over(&base, |s| &s.provides),
    };
    Ok(SrcInfo { version: format!("{epoch}{version}-{release}"), make_depends, packages: named.into_iter().map(package).collect() })
}

/// Whether `name` can be a package's and a directory's: letters, digits and `@._+-`, of which `-` and `.` do not begin it. Source: PKGBUILD(5).
pub(super) fn is_package_name(name: &str) -> bool {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"@._+-".contains(&b);
    !name.is_empty() && name.len() <= 200 && !name.starts_with(['-', '.']) && name.bytes().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: &str = "pkgbase = tools\n\tpkgver = 1.2\n\tpkgrel = 3\n\tepoch = 1\n\tarch = x86_64\n\tmakedepends = cmake>=3\n\
        \tmakedepends_x86_64 = nasm\n\tmakedepends_aarch64 = other\n\tdepends = glibc\n\tsource = https://x/y=z\n\n\
        pkgname = tools\n\tdepends = glibc\n\tdepends = tools-libs=1.2\n\npkgname = tools-libs\n\tprovides = libtools.so=1-64\n\n\
        pkgname = tools-doc\n\tdepends = \n";

    #[test]
    fn a_split_package_is_read() {
        let info = parse(SPLIT, "x86_64").expect("good");
        assert_eq!((info.version.as_str(), info.make_depends.join(" ").as_str()), ("1:1.2-3", "cmake>=3 nasm"));
        let depends = |name: &str| info.maker_of(name).map(|p| (p.name.as_str(), p.depends.join(" ")));
        assert_eq!(depends("tools"), Some(("tools", "glibc tools-libs=1.2".into())));
        assert_eq!(depends("libtools.so"), Some(("tools-libs", "glibc".into())));
        assert_eq!(depends("tools-doc"), Some(("tools-doc", String::new())));
        assert_eq!(depends("nothing"), None);
        assert_eq!(parse(SPLIT, "riscv64"), Err(SrcInfoError::Arch("x86_64".into())));
    }

    #[test]
    fn r7_hostile_lines_are_refused_by_their_number() {
        let with = |line: &str| parse(&format!("pkgbase = x\npkgver = 1\npkgrel = 1\narch = any\npkgname = x\n{line}\n"), "x86_64");
        assert!(with("").is_ok());
        for bad in [
            "pkgname = ../../etc/cron.d/x",
            "pkgname = -U",
            "pkgname = x y",
            "depends = --config=/x",
            "depends = core/../x",
            "depends = a;reboot",
            "makedepends = $(reboot)",
            "pkgver = 1/../../x",
            "pkgver = 1:2",
            "pkgrel = ",
        ] {
            assert!(matches!(with(bad), Err(SrcInfoError::Value { line: 6, .. })), "{bad}: {:?}", with(bad));
        }
        assert_eq!(with("nonsense"), Err(SrcInfoError::Line(6)));
        assert_eq!(parse("", "x86_64"), Err(SrcInfoError::Missing("pkgbase")));
        assert_eq!(parse("pkgbase = x", "x86_64"), Err(SrcInfoError::Missing("pkgname")));
    }

    proptest::proptest! {
        #[test]
        fn r7_no_text_crashes_it(text in "(pkg(base|name|ver)|depends|arch|[a-z_]*)( = ?.{0,20})?(\n(pkg(base|name|ver|rel)|depends_x86_64|arch) = .{0,20}){0,8}") {
            drop(parse(&text, "x86_64"));
        }
    }
}
