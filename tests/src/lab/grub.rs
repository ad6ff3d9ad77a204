//! GRUB of three releases, unpacked beside the host's: modules, and tools that run on their own libraries.

use super::cache::{Key, once, remove_tree};
use super::error::At as _;
use super::pool::Pool;
use super::recipe::{Recipes, Suite as Release};
use super::run::script;
use super::unpack::unpack;
use super::{Error, Result};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// A version of GRUB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// 2.06, Debian 12.
    G206,
    /// 2.12, Debian 13.
    G212,
    /// 2.14, Debian unstable.
    G214,
}

/// The firmware a GRUB is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Platform {
    /// i386-pc.
    Bios,
    /// x86_64-efi.
    Efi,
}

impl Platform {
    /// GRUB's own name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "i386-pc",
            Self::Efi => "x86_64-efi",
        }
    }
}

impl Suite {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::G206, Self::G212, Self::G214];

    /// The version that is meant.
    pub fn version(self) -> &'static str {
        match self {
            Self::G206 => "2.06",
            Self::G212 => "2.12",
            Self::G214 => "2.14",
        }
    }

    /// The pacman package of the lab with this GRUB for the guest, if there is one.
    pub fn package(self) -> Option<&'static str> {
        match self {
            Self::G206 => Some("grub206"),
            Self::G212 => None,
            Self::G214 => Some("grub"),
        }
    }

    fn release(self) -> Release {
        match self {
            Self::G206 => Release::Bookworm,
            Self::G212 => Release::Trixie,
            Self::G214 => Release::Sid,
        }
    }
}

/// One GRUB in the cache.
#[derive(Debug, Clone)]
pub struct Grub {
    dir: PathBuf,
}

/// Makes wrappers of all programs: an ELF file runs under its own loader and libraries, a script is
/// rewritten to call its own wrappers and files.
const WRAP: &str = r#"
final=$1
mkdir -p bin
loader=$(find usr/lib/x86_64-linux-gnu -name 'ld-linux-x86-64.so.2' | head -n1)
for file in usr/bin/grub-* usr/lib/grub/i386-pc/grub-bios-setup; do
    name=${file##*/}
    if [ "$(head -c4 "$file" | tail -c3)" = ELF ]; then
        printf '#!/bin/sh\nexec %s --library-path %s/usr/lib/x86_64-linux-gnu %s "$@"\n' \
            "$final/$loader" "$final" "$final/$file" > "bin/$name"
    else
        # ${pkgdatadir} of the scripts, and the programs and generators they call.
        sed -e "s|/usr/s\?bin/grub-|$final/bin/grub-|g" -e "s|^sbindir=.*|sbindir=$final/bin|; s|^bindir=.*|bindir=$final/bin|" \
            -e "s|^datadir=.*|datadir=$final/usr/share|; s|^datarootdir=.*|datarootdir=$final/usr/share|" \
            -e "s|^sysconfdir=.*|sysconfdir=$final/etc|" -e "s|^prefix=.*|prefix=$final/usr|" "$file" > "bin/$name"
    fi
    chmod 755 "bin/$name"
done
sed -i -e "s|^datadir=.*|datadir=$final/usr/share|; s|^datarootdir=.*|datarootdir=$final/usr/share|; s|^sbindir=.*|sbindir=$final/bin|; s|^bindir=.*|bindir=$final/bin|" \
    usr/share/grub/grub-mkconfig_lib
"#;

/// The GRUB of `suite` is in the cache.
pub fn build(cache: &Path, suite: Suite) -> Result<Grub> {
    let recipes = Recipes::load()?;
    let pool = Pool::open(cache, &recipes)?;
    let wanted = ["grub", "lib", "gettext-base", "dmsetup"];
    let is_wanted = |name: &str| wanted.iter().any(|w| name.starts_with(w));
    let debs: Vec<_> = pool.suite(suite.release()).filter(|d| is_wanted(&d.package)).collect();
    let mut key = Key::new("grub").with(include_str!("grub.rs")).with(include_str!("unpack.rs"));
    for deb in &debs {
        key = key.with(&deb.sha256);
    }
    let dir = cache.join("grub").join(format!("{}-{}", suite.version(), key.name()));
    let dir = once(&dir, |new| {
        unpack(&debs.iter().map(|d| pool.path(d)).collect::<Vec<_>>(), new)?;
        for unused in ["usr/lib/x86_64-linux-gnu/gconv", "usr/share/initramfs-tools", "usr/lib/grub/x86_64-efi-signed"] {
            remove_tree(&new.join(unused))?;
        }
        let final_dir = std::path::absolute(&dir).at(&dir)?;
        script(new, WRAP, &[&final_dir.display().to_string()]).map(drop)
    })?;
    Ok(Grub { dir: std::path::absolute(&dir).at(&dir)? })
}

impl Grub {
    /// The directory of modules and images (`boot.img`, `*.mod`, `*.lst`) for a firmware.
    pub fn modules_dir(&self, platform: Platform) -> PathBuf {
        self.dir.join("usr/lib/grub").join(platform.name())
    }

    /// The command for a tool (`grub-mkimage`, `grub-editenv`, …), arguments to be appended.
    ///
    /// Errors: this GRUB has no tool of that name.
    pub fn tool(&self, name: &str) -> Result<Vec<OsString>> {
        let file = self.dir.join("bin").join(name);
        // grub-bios-setup and grub-install moved between packages; what is missing is missing.
        if file.exists() { Ok(vec![file.into()]) } else { Err(Error::MissingFile { package: "grub".into(), path: name.into() }) }
    }
}
