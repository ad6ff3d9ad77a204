//! Kernel arguments: words of `GRUB_CMDLINE_LINUX_DEFAULT` in `/etc/default/grub`.

use super::checked::KernelArgument;
use super::declaration::Kernel;
use crate::grub::defaults::{Defaults, DefaultsError};

/// The setting with the arguments of a normal start.
const SETTING: &str = "GRUB_CMDLINE_LINUX_DEFAULT";

/// `text` of `/etc/default/grub` with the arguments as wanted, every other byte as it was; `None` when they are so already.
///
/// Refuses: a setting that only a shell could know.
pub(super) fn edited(text: &str, kernel: &Kernel) -> Result<Option<String>, DefaultsError> {
    if kernel.args.is_empty() && kernel.remove.is_empty() {
        return Ok(None);
    }
    let defaults = Defaults::parse(text);
    let before: Vec<&str> = defaults.get(SETTING)?.unwrap_or_default().split_ascii_whitespace().collect();
    let unwanted = |arg: &str| {
        kernel.remove.iter().map(KernelArgument::as_str).any(|gone| arg == gone || gone.ends_with('=') && arg.starts_with(gone))
    };
    let mut after: Vec<&str> = before.iter().copied().filter(|arg| !unwanted(arg)).collect();
    for arg in kernel.args.iter().map(KernelArgument::as_str) {
        if !after.contains(&arg) {
            after.push(arg);
        }
    }
    if before == after {
        return Ok(None);
    }
    // What a person wrote with quotes or references cannot be written back as it was meant.
    if after.iter().any(|arg| arg.contains(['"', '$', '`', '\\', '\''])) {
        return Err(defaults.bad(SETTING, "arguments without quotes, backslashes or $"));
    }
    Ok(Some(Defaults::with(text, SETTING, &after.join(" "))))
}
