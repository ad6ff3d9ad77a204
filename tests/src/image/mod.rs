//! Disk images of the lab, made by the very code that installs a machine, one per column, cached by what they are made from.

pub mod armed;
pub mod column;
pub mod luks;
pub mod settle;
pub mod worked;

pub use armed::{armed, promoted};
pub use column::Column;
pub use worked::worked;

use crate::lab::cache::{Key, keep_recent, once, project_dir, tests_dir};
use crate::lab::grub::{self, Grub};
use crate::lab::repo::{self, State};
use crate::lab::sign::Signer;
use ast::install::machine::{Wish, install};
use ast::install::staging::Packages;
use ast::install::{InstallError, Target, Terminal};
use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes of a disk; its image holds only what was written. Two systems, their working copies and the package cache fit.
const DISK: u64 = 4 << 30;
/// Name of the image in its directory, and of the one before its system was encrypted.
const FILE: &str = "disk.raw";
const PLAIN: &str = "plain.raw";

/// What a machine of the lab is installed with, beside GRUB.
const PACKAGES: [&str; 10] =
    ["base", "linux", "mkinitcpio", "btrfs-progs", "dosfstools", "efibootmgr", "ast", "hello", "extra-note", "kiosk-app"];

/// What can go wrong while an image is made.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImageError {
    #[error(transparent)]
    Lab(#[from] crate::lab::Error),
    #[error("cannot install into {}: {source}", image.display())]
    Install { image: PathBuf, source: InstallError },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot encrypt {}: {why}", image.display())]
    Encrypt { image: PathBuf, why: String },
    #[error("cannot arm the update to {state}: {why}")]
    Armed { state: &'static str, why: String },
}

/// A raw image of `column`, installed from the packages of `state`; made once per content. It must not be written: boot an overlay.
pub fn build(cache: &Path, column: Column, state: State) -> Result<PathBuf, ImageError> {
    Ok(build_both(cache, column, state)?.join(FILE))
}

/// The directory of that image; of an encrypted machine, [`PLAIN`] is in it too, which does not boot: what is done to its system by mounting it
/// is done there, and encrypted afterwards.
fn build_both(cache: &Path, column: Column, state: State) -> Result<PathBuf, ImageError> {
    let packages = repo::build(cache, state)?;
    let grub = grub::build(cache, column.grub())?;
    let project = project_dir();
    let key = Key::new("image")
        .with(name_of(&packages))
        .with(column.name())
        .with(name_of(grub.modules_dir(column.platform()).ancestors().nth(4).unwrap_or(Path::new(""))))
        .add_tree(&project.join("ast/src"))?
        .add_tree(&tests_dir().join("src/image"))?;
    let dir = cache.join("images").join(format!("{}-{}-{}", column.name(), state.name(), key.name()));
    let mut failed = None;
    let made = once(&dir, |new| {
        let made = make(cache, &new.join(if column.is_encrypted() { PLAIN } else { FILE }), column, &packages, &grub);
        let made = made.and_then(|()| if column.is_encrypted() { luks::encrypt(&new.join(PLAIN), new, &new.join(FILE)) } else { Ok(()) });
        made.map_err(|error| {
            let shown = error.to_string();
            failed = Some(error);
            crate::lab::Error::NothingBuilt { what: "the installer", dir: PathBuf::from(shown) }
        })
    });
    match (made, failed) {
        (_, Some(error)) => Err(error),
        (made, None) => {
            let dir = made?;
            keep_recent(&dir)?;
            Ok(dir)
        }
    }
}

fn name_of(path: &Path) -> Vec<u8> {
    path.file_name().map(OsStr::as_encoded_bytes).unwrap_or_default().to_vec()
}

fn make(cache: &Path, image: &Path, column: Column, packages: &Path, grub: &Grub) -> Result<(), ImageError> {
    let io = |source| ImageError::Io { path: image.to_owned(), source };
    File::create(image).and_then(|file| file.set_len(DISK)).map_err(io)?;
    let signer = Signer::open(cache)?;
    let config = image.with_extension("pacman.conf");
    let text = format!(
        "[options]\nArchitecture = x86_64\nSigLevel = Required DatabaseRequired TrustedOnly\nGPGDir = {}\nCheckSpace\n[{}]\nServer = file://{}\n",
        signer.gpg_dir(cache)?.display(),
        repo::NAME,
        packages.display()
    );
    std::fs::write(&config, text).map_err(io)?;
    let mut names: Vec<String> = PACKAGES.map(String::from).into();
    names.extend(column.packages().map(String::from));
    let mkimage = grub.tool("grub-mkimage")?;
    let wish = Wish {
        boot: column.boot(),
        grub: ast::install::Grub {
            mkimage: mkimage.first().map(PathBuf::from).unwrap_or_default(),
            modules: grub.modules_dir(column.platform()),
            version: column.grub().version().to_owned(),
        },
        terminal: Terminal::Serial,
        luks: column.is_encrypted().then(|| luks::format(image.parent().unwrap_or(Path::new("/")))).transpose()?,
        packages: Packages { config: config.clone(), cache: Some(packages.to_owned()), names, show: false },
        description: "base".to_owned(),
    };
    let to_error = |source| ImageError::Install { image: image.to_owned(), source };
    let disk = Target::whole(image).map_err(to_error)?;
    install(&disk, &wish, &|staging| settle::settle(staging, column)).map_err(to_error)?;
    std::fs::remove_file(&config).map_err(io)
}
