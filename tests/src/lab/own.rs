//! Our own package, built by the real makepkg from packaging/PKGBUILD around binaries that cargo built.

use super::cache::{Key, project_dir};
use super::error::At as _;
use super::package::{Package, adopt};
use super::run::{run, script};
use super::sign::Signer;
use super::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the package installs, by the names cargo gives.
pub const BINARIES: [&str; 4] = ["ast", "ast-initcpio", "ast-autoupdate", "10_ast"];

/// The parts of the sources that PKGBUILD's package() takes files from.
const TREES: [&str; 3] = ["packaging", "mkinitcpio", "docs/man"];

/// makepkg refuses root: it runs as nobody, in a directory of its own.
const MAKEPKG: &str = r#"
chown -R 65534:65534 .
cat > makepkg.conf <<'CONF'
CARCH=x86_64
CHOST=x86_64-pc-linux-gnu
BUILDENV=(!distcc !color !ccache !check !sign)
OPTIONS=(!strip docs libtool staticlibs emptydirs !zipman !purge !debug !lto)
PKGEXT=.pkg.tar.zst
SRCEXT=.src.tar.gz
COMPRESSZST=(zstd -c -q -1 -)
PACKAGER="ast lab <lab@localhost>"
CONF
cd packaging
setpriv --reuid=65534 --regid=65534 --clear-groups env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME="$PWD/.." \
    AST_PREBUILT="$PWD/../bin" PKGDEST="$PWD/../out" SOURCE_DATE_EPOCH=1735689600 \
    makepkg --config "$PWD/../makepkg.conf" --nodeps --force --noconfirm --skipinteg
mv ../out/*.pkg.tar.zst "$1"
chown 0:0 "$1"/*.pkg.tar.zst
"#;

/// The directory with the binaries: `$AST_PREBUILT`, or the workspace's `lab` build, brought up to date.
pub fn binaries() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("AST_PREBUILT").filter(|d| !d.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    let project = project_dir();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let packages = ["-p", "ast", "-p", "ast-initcpio", "-p", "ast-autoupdate", "-p", "ast-grub-d"];
    // Each with its own features: the initramfs program must not get those of the others.
    for pair in packages.chunks(2) {
        run(Command::new(&cargo).args(["build", "--quiet", "--profile", "lab"]).args(pair).current_dir(&project))?;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from);
    Ok(target.join("lab"))
}

/// Our package is in the cache, signed.
pub fn build(cache: &Path, signer: &Signer) -> Result<Package> {
    let binaries = binaries()?;
    let project = project_dir();
    let mut key = Key::new("ast").with(include_str!("own.rs"));
    for tree in TREES {
        key = key.add_tree(&project.join(tree))?;
    }
    for name in BINARIES {
        let file = binaries.join(name);
        key = key.with(fs::read(&file).at(&file)?);
    }
    adopt(cache, "ast", key, signer, |dir| make(&project, &binaries, dir))
}

fn make(project: &Path, binaries: &Path, out: &Path) -> Result<()> {
    // In /tmp: nobody must be able to reach it, wherever the cache is.
    let work = tempfile::Builder::new().prefix("ast-makepkg-").tempdir().at("/tmp")?;
    for tree in TREES {
        if project.join(tree).is_dir() {
            let text = r#"mkdir -p "$2"; cp -a "$1/." "$2""#;
            script(work.path(), text, &[&project.join(tree).display().to_string(), tree])?;
        }
    }
    for dir in ["bin", "out"] {
        let dir = work.path().join(dir);
        fs::create_dir(&dir).at(&dir)?;
    }
    for name in BINARIES {
        let to = work.path().join("bin").join(name);
        fs::copy(binaries.join(name), &to).at(&to)?;
    }
    if !work.path().join("packaging/PKGBUILD").exists() {
        return Err(Error::MissingFile { package: "ast".into(), path: "packaging/PKGBUILD".into() });
    }
    script(work.path(), MAKEPKG, &[&out.display().to_string()]).map(drop)
}
