//! Is a candidate whole enough to be the root of the kernel that runs?

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ast::boot::choose::{Broken, Target};
use ast::id::{DeployId, SetId};
use ast::layout::{Layout, Part};
use ast::sys::btrfs;
use ast::sys::inside::open_at;
use nix::fcntl::OFlag;

/// Directories of a root without which the system does not come up, whatever is mounted on them.
const NEEDED: [&str; 6] = ["dev", "etc", "proc", "run", "sys", "var"];

/// Where the parts of a candidate are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// Its root.
    pub root: PathBuf,
    /// Its /etc.
    pub etc: PathBuf,
    /// Its /boot.
    pub boot: PathBuf,
    /// The deployment, if it is one: only its /etc may be written.
    pub deployment: Option<DeployId>,
    /// The set, or the one that the deployment was cloned from.
    pub set: Option<SetId>,
}

impl Parts {
    /// The parts of `target`; `None` for a snapshot whose link does not name a set.
    pub fn of(target: Target, layout: &Layout) -> Option<Self> {
        let of_set = |set: SetId| Self {
            root: layout.set_part(set, Part::Root),
            etc: layout.set_part(set, Part::Etc),
            boot: layout.set_part(set, Part::Boot),
            deployment: None,
            set: Some(set),
        };
        match target {
            Target::Deployment(d) => Some(Self {
                root: layout.deployment_part(d, Part::Root),
                etc: layout.deployment_part(d, Part::Etc),
                boot: layout.deployment_part(d, Part::Boot),
                deployment: Some(d),
                set: std::fs::read_to_string(layout.deployment_record(d)).ok().as_deref().and_then(set_in),
            }),
            Target::Set(set) => Some(of_set(set)),
            Target::Snapshot(n) => {
                let link = std::fs::read_link(layout.link(n, Part::Root)).ok()?;
                let set: SetId = link.parent()?.file_name()?.to_str()?.parse().ok()?;
                (set.snapshot == n && link == Layout::link_target(set, Part::Root)).then(|| of_set(set))
            }
        }
    }
}

/// The set that a deployment's record names. The record is JSON of our own; a whole parser would cost half of this program's size,
/// and nothing is decided by what is found here.
fn set_in(record: &str) -> Option<SetId> {
    let (_, after) = record.split_once("\"set\"")?;
    after.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?.split('"').next()?.parse().ok()
}

/// The parts of `target`, which can be the root of kernel `release` with the init `init`.
///
/// Refuses: with the reason. That it has no modules is looked at last, so it says that all else is well.
pub fn probe(target: Target, layout: &Layout, init: &str, release: &str) -> Result<Parts, Broken> {
    let parts = Parts::of(target, layout).ok_or(Broken::Missing)?;
    if !btrfs::is_subvolume(&parts.root) || !btrfs::is_subvolume(&parts.etc) {
        return Err(Broken::Missing);
    }
    let root = File::open(&parts.root).map_err(|e| Broken::Mount(e.to_string()))?;
    for dir in NEEDED {
        if !inside(&root, dir).is_some_and(|found| found.metadata().is_ok_and(|m| m.is_dir())) {
            return Err(Broken::Mount(format!("it has no directory {dir}")));
        }
    }
    let executable = |m: std::fs::Metadata| m.is_file() && m.len() > 0 && m.permissions().mode() & 0o111 != 0;
    if !inside(&root, init).is_some_and(|found| found.metadata().is_ok_and(executable)) {
        return Err(Broken::NoInit);
    }
    if inside(&root, "usr/lib/os-release").is_none() {
        return Err(Broken::NoOsRelease);
    }
    if inside(&root, &format!("usr/lib/modules/{release}/modules.dep")).is_none() {
        return Err(Broken::NoModules(release.to_owned()));
    }
    Ok(parts)
}

/// What `path` is when `root` is the root directory: absolute links stay inside, as they will after the switch.
fn inside(root: &File, path: &str) -> Option<File> {
    open_at(root, Path::new(path), OFlag::O_PATH).ok()
}

/// `init=` of the kernel command line, or what every root has.
pub fn init_of(cmdline: &str) -> &str {
    let mut named = cmdline.split_ascii_whitespace().filter_map(|word| word.strip_prefix("init="));
    named.next_back().filter(|path| path.starts_with('/')).unwrap_or("/sbin/init")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_of_a_record_is_found_or_nothing() {
        let set = "3.2".parse().ok();
        for record in [r#"{"version":1,"body":{"d":7,"set":"3.2"}}"#, "{\n  \"body\": {\n    \"set\" : \"3.2\",\n \"d\": 7 } }"] {
            assert_eq!(set_in(record), set, "{record}");
        }
        for record in ["", "{}", r#"{"set"}"#, r#"{"set":3}"#, r#"{"set":"../x"}"#, r#""set":""#] {
            assert_eq!(set_in(record), None, "{record}");
        }
    }

    #[test]
    fn init_is_the_last_one_named() {
        for (line, init) in [("", "/sbin/init"), ("init=/a init=/b", "/b"), ("init=a", "/sbin/init"), ("xinit=/a", "/sbin/init")] {
            assert_eq!(init_of(line), init, "{line}");
        }
    }
}
