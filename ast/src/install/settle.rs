//! What a new machine is beyond its packages: where they come from, what declarations say, and that it is nobody's copy.

use std::error::Error;

use super::sources::Sources;
use super::staging::Staging;
use crate::apply::{self, Declaration};
use crate::exec::{Invocation, Options, Program, Streams};
use crate::grub::defaults::Defaults;
use crate::sys::file;

/// What an initramfs takes along of `/etc`: its own settings, and the beginnings of others' paths.
const IN_INITRAMFS: [&str; 4] = ["/etc/mkinitcpio", "/etc/vconsole.conf", "/etc/crypttab", "/etc/modprobe.d"];

/// How a new root is finished.
#[derive(Debug, Clone)]
pub struct Settling {
    /// Where its packages came from.
    pub sources: Sources,
    /// What it is to be, each over the one before it. Their packages of repositories are there already.
    pub declarations: Vec<Declaration>,
    /// Whether GRUB shows its menu only to whoever asks for it.
    pub hidden_menu: bool,
    /// Whether a person sees what programs say.
    pub show: bool,
}

impl Settling {
    /// The new root asks the repositories that it came from, is as declared, and has no machine's identity: its first start gives it one.
    ///
    /// If interrupted: some of it is done; the disk does not boot.
    pub fn run(&self, staging: &Staging) -> Result<(), Box<dyn Error + Send + Sync>> {
        let copy = staging.copy();
        self.sources.settle(&copy.parts().etc)?;
        for declaration in &self.declarations {
            let mut rest = declaration.clone();
            rest.packages.install.clear();
            apply::carry_out(copy, &rest, self.show)?;
        }
        if self.hidden_menu {
            let path = copy.parts().etc.join("default/grub");
            let text = file::read_if_exists(&path)?.unwrap_or_default();
            file::replace(&path, hiding(&String::from_utf8_lossy(&text)).as_bytes())?;
        }
        if self.declarations.iter().any(changes_initramfs) {
            let streams = if self.show { Streams::Show } else { Streams::Capture };
            copy.run(&Invocation::new(Program::Mkinitcpio).arg("-P"), Options::new(streams))?.success().map(drop)?;
        }
        // Scripts of packages make one. A base that is copied and exported has none (machine-id(5)).
        Ok(file::replace(&copy.parts().etc.join("machine-id"), b"")?)
    }
}

/// `/etc/default/grub` of a machine whose menu is shown only after ESC or F4: any key stops the time of one that is shown, and nothing lets it go on.
fn hiding(text: &str) -> String {
    [("GRUB_TIMEOUT", "3"), ("GRUB_TIMEOUT_STYLE", "hidden")].iter().fold(text.to_owned(), |text, (name, value)| Defaults::with(&text, name, value))
}

/// Whether the image that the packages built lacks something of it.
fn changes_initramfs(declaration: &Declaration) -> bool {
    let is_in = |path: &str| IN_INITRAMFS.iter().any(|begin| path.starts_with(begin));
    declaration.system.keymap.is_some() || declaration.files.iter().any(|entry| is_in(entry.path.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_initramfs_is_built_again_for_what_it_takes_along() {
        let parsed = |text: &str| Declaration::parse(text).expect("a declaration");
        assert!(changes_initramfs(&parsed("[system]\nkeymap = \"de\"")));
        assert!(changes_initramfs(&parsed("[[file]]\npath = \"/etc/mkinitcpio.conf.d/mine.conf\"\ncontent = \"\"")));
        assert!(!changes_initramfs(&parsed("[system]\nhostname = \"x\"\n[[file]]\npath = \"/etc/motd\"\ncontent = \"\"")));
    }
}
