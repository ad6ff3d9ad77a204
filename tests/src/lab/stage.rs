//! The tree of one package: unpacked, cut down, links and modes set, overlays copied over.

use super::cache::{Key, tests_dir};
use super::pool::Pool;
use super::recipe::{Recipe, Recipes};
use super::run::script;
use super::sign::Signer;
use super::unpack::unpack;
use super::{Error, Result};
use std::path::{Path, PathBuf};

/// Modules a machine of the lab can need; the rest of the kernel's stay out, for speed.
const MODULES: &str = "btrfs|xor|raid6_pq|libcrc32c|zstd_compress|xxhash_generic|xxhash|blake2b_generic|crc32c[_a-z-]*|crc32[_a-z-]*|virtio[a-z_-]*|i6300esb|softdog|overlay|loop|vfat|fat|nls_[a-z0-9_-]*|isofs|dm-mod|dm-crypt|xts|aesni-intel|dax|fuse|virtiofs|rng-core|failover|net_failover|autofs4|efivarfs|efi-pstore|pstore[a-z_]*|ramoops|reed_solomon|pvpanic[a-z-]*|watchdog|squashfs|erofs|cdrom|sr_mod|sd_mod|scsi_mod|scsi_common|t10-pi|crc64[a-z0-9_-]*|crc-t10dif|crct10dif[a-z_-]*|configfs|evdev|button|ahci|libahci|libata|qemu_fw_cfg|libblake2b|sha256[a-z0-9_-]*|cryptd|crypto_simd";

/// The script that turns Debian's kernel into Arch's layout; `$1` is the pattern of kept modules.
const KERNEL: &str = r#"
kver=$(ls usr/lib/modules)
modules=usr/lib/modules/$kver
mv boot/vmlinuz-* "$modules/vmlinuz"
rm -rf boot usr/share
echo linux > "$modules/pkgbase"
find "$modules/kernel" -name '*.ko*' | { grep -Ev "/($1)\.ko(\.xz)?$" || true; } | xargs -r rm -f
find "$modules/kernel" -type d -empty -delete
find "$modules/kernel" -name '*.ko.xz' -print0 | xargs -0r -P2 -n16 xz -d
"#;

/// What the stage of `recipe` depends on, as a key.
pub fn key(recipe: &Recipe, recipes: &Recipes, pool: &Pool, signer: &Signer) -> Result<Key> {
    let text = toml::to_string(recipe).unwrap_or_default();
    let mut key = Key::new("package").with(text).with(include_str!("stage.rs")).with(include_str!("unpack.rs"));
    for deb in pool.debs_of(recipe, recipes)? {
        key = key.with(&deb.sha256);
    }
    for overlay in recipe.overlays() {
        key = key.add_tree(&overlay)?;
    }
    if recipe.initcpio {
        key = key.add_tree(&initcpio_dir())?;
    }
    Ok(key.with(signer.fingerprint()))
}

/// The upstream version of what the package is made from, in pacman's alphabet.
pub fn version(recipe: &Recipe, recipes: &Recipes, pool: &Pool) -> Result<String> {
    let rel = recipe.pkgrel.unwrap_or(1);
    if let Some(version) = &recipe.version {
        return Ok(format!("{version}-{rel}"));
    }
    let debs = pool.debs_of(recipe, recipes)?;
    let Some(first) = debs.first() else {
        return Err(Error::NoDeb { package: recipe.id(), deb: "(first)".into(), suite: recipe.suite.name() });
    };
    let version = first.version.split_once(':').map_or(first.version.as_str(), |(_, v)| v);
    let upstream = version.rsplit_once('-').map_or(version, |(u, _)| u);
    let clean: String = upstream.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    Ok(format!("{clean}-{rel}"))
}

/// The tree of `recipe` is complete below `dir`.
pub fn fill(recipe: &Recipe, recipes: &Recipes, pool: &Pool, signer: &Signer, dir: &Path) -> Result<()> {
    let debs: Vec<PathBuf> = pool.debs_of(recipe, recipes)?.into_iter().map(|d| pool.path(d)).collect();
    unpack(&debs, dir)?;
    remove(dir, &recipe.remove)?;
    if recipe.kernel.is_some() {
        script(dir, KERNEL, &[MODULES])?;
    }
    if recipe.keyring {
        signer.write_keyring(&dir.join("usr/share/pacman/keyrings"))?;
    }
    if recipe.initcpio {
        copy(&initcpio_dir(), dir)?;
    }
    for overlay in recipe.overlays() {
        if overlay.is_dir() {
            copy(&overlay, dir)?;
        }
    }
    for (path, target) in &recipe.links {
        let script_text = r#"mkdir -p "$(dirname "$1")"; ln -sfn "$2" "$1""#;
        script(dir, script_text, &[path, target])?;
    }
    for (path, mode) in &recipe.modes {
        script(dir, r#"[ -e "$1" ] || mkdir -p "$1"; chmod "$2" "$1""#, &[path, mode])?;
    }
    script(dir, "chown -R 0:0 .; find . -type d -name __pycache__ -prune -exec rm -rf {} +; chmod 755 .", &[]).map(drop)
}

/// Copies a tree of our sources over `dir`, as root's.
fn copy(from: &Path, dir: &Path) -> Result<()> {
    let text = r#"tar -C "$1" -c --owner=0 --group=0 --mode=u+w,go+rX . | tar -x --keep-directory-symlink"#;
    script(dir, text, &[&from.display().to_string()]).map(drop)
}

/// Deletes what shell patterns below `dir` match.
fn remove(dir: &Path, patterns: &[String]) -> Result<()> {
    if patterns.is_empty() {
        return Ok(());
    }
    let text = r#"shopt -s nullglob dotglob extglob; for pattern; do eval "rm -rf -- $pattern"; done"#;
    script(dir, text, &patterns.iter().map(String::as_str).collect::<Vec<_>>()).map(drop)
}

fn initcpio_dir() -> PathBuf {
    tests_dir().join("mkinitcpio")
}
