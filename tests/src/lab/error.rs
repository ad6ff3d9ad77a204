//! What can go wrong while the lab makes its packages.

use std::path::PathBuf;

/// Every failure names the file, the package or the command it is about.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("cannot run {argv}: {source}")]
    Spawn { argv: String, source: std::io::Error },
    #[error("{argv} ended with {status}:\n{tail}")]
    Failed { argv: String, status: String, tail: String },
    #[error("{path}: not valid TOML: {source}")]
    Toml { path: PathBuf, source: Box<toml::de::Error> },
    #[error("no source of Debian's main archive among the apt sources in {dir}")]
    NoDebianSource { dir: PathBuf },
    #[error("{suite} has fewer than two kernels named like {pattern}")]
    Kernels { suite: &'static str, pattern: String },
    #[error("package {package} wants Debian's {deb}, which {suite} does not have")]
    NoDeb { package: String, deb: String, suite: &'static str },
    #[error("no package recipe named {name}")]
    NoRecipe { name: String },
    #[error("{path} is missing in {package}")]
    MissingFile { package: String, path: String },
    #[error("{what} made no package in {dir}")]
    NothingBuilt { what: &'static str, dir: PathBuf },
}

/// The result of this part of the lab.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds the path to an I/O error.
pub trait At<T> {
    /// The same result, whose error names `path`.
    fn at(self, path: impl Into<PathBuf>) -> Result<T>;
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T> {
        self.map_err(|source| Error::Io { path: path.into(), source })
    }
}
