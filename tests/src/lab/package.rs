//! A tree into a pacman package: .PKGINFO, .MTREE, zstd.

use super::Result;
use super::cache::{Key, once};
use super::error::At as _;
use super::pool::Pool;
use super::recipe::{Recipe, Recipes};
use super::run::script;
use super::sign::Signer;
use super::stage;
use std::fs;
use std::path::{Path, PathBuf};

/// A fixed date (2025-01-01), so that the same parts make the same package.
const BUILD_DATE: u64 = 1_735_689_600;

/// As libalpm wants it: metadata first, the mtree with md5 and sha256, names in byte order.
const PACK: &str = r#"
export LC_ALL=C
list() { find . -mindepth 1 -path ./.MTREE -prune -o -printf '%P\0' | sort -z; }
list | bsdtar -cnf - --format=mtree --options='!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link' --null -T - | gzip -1 -n > .MTREE
{ printf '.PKGINFO\0.MTREE\0'; list | { grep -zvx .PKGINFO || true; }; } | bsdtar -cnf - --null -T - | zstd -q -1 -o "$1"
"#;

/// One finished package.
#[derive(Debug, Clone)]
pub struct Package {
    /// pkgname.
    pub name: String,
    /// The file; its signature is beside it, `.sig` appended.
    pub file: PathBuf,
    /// What it was made from.
    pub key: String,
}

/// The package of `recipe` is in the cache, signed.
pub fn build(cache: &Path, recipe: &Recipe, recipes: &Recipes, pool: &Pool, signer: &Signer) -> Result<Package> {
    let key = stage::key(recipe, recipes, pool, signer)?.with(include_str!("package.rs")).name();
    let version = stage::version(recipe, recipes, pool)?;
    let file_name = format!("{}-{version}-x86_64.pkg.tar.zst", recipe.name);
    let dir = once(&cache.join("packages").join(format!("{}-{key}", recipe.id())), |dir| {
        let tree = tempfile::Builder::new().prefix("stage-").tempdir_in(cache).at(cache)?;
        stage::fill(recipe, recipes, pool, signer, tree.path())?;
        let info = tree.path().join(".PKGINFO");
        fs::write(&info, pkginfo(recipe, &version, tree.path())?).at(info)?;
        let file = dir.join(&file_name);
        script(tree.path(), PACK, &[&file.display().to_string()])?;
        signer.sign(&[file])
    })?;
    Ok(Package { name: recipe.name.clone(), file: dir.join(file_name), key })
}

/// A package file that something else made is in the cache, signed.
pub fn adopt(cache: &Path, name: &str, key: Key, signer: &Signer, make: impl FnOnce(&Path) -> Result<()>) -> Result<Package> {
    let key = key.with(signer.fingerprint()).name();
    let dir = once(&cache.join("packages").join(format!("{name}-{key}")), |dir| {
        make(dir)?;
        signer.sign(&[made_in(dir, name)?])
    })?;
    Ok(Package { name: name.to_owned(), file: made_in(&dir, name)?, key })
}

fn made_in(dir: &Path, name: &str) -> Result<PathBuf> {
    let mut found = fs::read_dir(dir).at(dir)?.flatten().map(|e| e.path());
    let is_package =
        |p: &PathBuf| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with(name) && n.ends_with(".pkg.tar.zst"));
    found.find(is_package).ok_or_else(|| super::Error::NothingBuilt { what: "makepkg", dir: dir.to_owned() })
}

fn pkginfo(recipe: &Recipe, version: &str, tree: &Path) -> Result<String> {
    let size = script(tree, "du -sb --apparent-size . | cut -f1", &[])?;
    let mut text = format!(
        "pkgname = {0}\npkgbase = {0}\nxdata = pkgtype=pkg\npkgver = {version}\npkgdesc = {0} (lab)\nurl = https://archlinux.org\nbuilddate = {BUILD_DATE}\npackager = ast lab\nsize = {1}\narch = x86_64\n",
        recipe.name,
        size.trim()
    );
    let lists = [("depend", &recipe.depends), ("provides", &recipe.provides), ("conflict", &recipe.conflicts), ("backup", &recipe.backup)];
    for (key, values) in lists {
        for value in values {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    Ok(text)
}
