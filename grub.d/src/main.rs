//! `/etc/grub.d/10_ast`: prints the fixed script of this machine when `grub-mkconfig` runs it, so that a plain `grub-mkconfig` makes the same
//! `grub.cfg` as ast itself; `10_ast DIR` prints that of a machine mounted at DIR. What to print follows from `machine.json`, which the installer wrote; nothing is probed here.
//! The sums of the `grub.cfg` that ast wrote are withdrawn: they do not fit the one that is about to replace it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ast::grub::defaults::Defaults;
use ast::grub::install::withdraw_script;
use ast::grub::{GrubError, ScriptConfig, Serial, script};
use ast::layout::{self, Layout};
use ast::store::document::{self, DocumentError};
use ast::store::machine::Machine;

/// Why there is nothing to print.
#[derive(Debug, thiserror::Error)]
enum GenerateError {
    /// Not a machine of ours, or its document is damaged.
    #[error(transparent)]
    Machine(#[from] DocumentError),
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] ast::sys::SysError),
    /// The script cannot be made, or the old one's sums not be withdrawn.
    #[error(transparent)]
    Script(#[from] GrubError),
}

fn main() -> ExitCode {
    let sysroot = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let text = generate(&sysroot);
    match text.and_then(|text| withdraw_script(&sysroot.join("boot/grub")).map(|()| text).map_err(GenerateError::from)) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            // grub-mkconfig stops at a generator that fails, and leaves the old grub.cfg: better than one that starts nothing.
            eprintln!("10_ast: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The script for the machine whose root is at `sysroot`.
fn generate(sysroot: &Path) -> Result<String, GenerateError> {
    let path = Layout::of_sysroot(sysroot).document(layout::MACHINE);
    let machine: Machine = document::load(&path)?.body;
    let settings = ast::sys::file::read_if_exists(&sysroot.join("etc/default/grub"))?.unwrap_or_default();
    let serial = Serial::from_defaults(&Defaults::parse(&String::from_utf8_lossy(&settings)))?;
    Ok(script::render(&ScriptConfig { fs_uuid: machine.fs_uuid, block: machine.block.into(), serial })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_document_is_refused_and_one_with_it_is_printed() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(generate(dir.path()), Err(GenerateError::Machine(_))));
        let documents = Layout::of_sysroot(dir.path()).documents();
        std::fs::create_dir_all(&documents).expect("a directory");
        let body = serde_json::json!({
            "fs_uuid": "12345678-1234-1234-1234-123456789abc", "firmware": "efi",
            "block": { "files": { "uuid": "ABCD-1234" } }, "esp_uuid": "ABCD-1234", "grub_version": "2.14"
        });
        document::save(&documents.join("machine.json"), &body).expect("saved");
        let text = generate(dir.path()).expect("a script");
        assert!(text.contains("set ast_block='files:ABCD-1234'") && text.contains("set ast_fs='12345678-"), "{text}");
        assert!(!text.contains("serial --unit"));
        std::fs::create_dir_all(dir.path().join("etc/default")).expect("a directory");
        ast::sys::file::replace(&dir.path().join("etc/default/grub"), b"GRUB_TERMINAL=serial\n").expect("written");
        assert!(generate(dir.path()).expect("a script").contains("serial --unit=0 --speed=9600"));
    }
}
