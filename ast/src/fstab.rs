//! Lines of `/etc/fstab`, and which of their options a machine of ast takes: in memory only. Source: fstab(5), mount(8), btrfs(5).

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::sys::mount::MsFlags;

/// Where the initramfs mounts something of its own, or systemd does. A line may mount nothing there, nor above.
const OURS: [&str; 12] = [".snapshots", "boot", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "var", "var/cache/pacman/pkg"];
/// Those of them in which all belongs to one snapshot or to the kernel: a line may mount nothing below, either.
const WHOLE: [&str; 8] = [".snapshots", "boot", "dev", "etc", "proc", "run", "sys", "usr"];

/// Options that are flags of a mount or of a filesystem, with what they set and what they take back.
const FLAGS: [(&str, MsFlags, MsFlags); 18] = [
    ("noatime", MsFlags::MS_NOATIME, TIMES),
    ("relatime", MsFlags::MS_RELATIME, TIMES),
    ("strictatime", MsFlags::MS_STRICTATIME, TIMES),
    // What the kernel does by itself.
    ("atime", MsFlags::MS_RELATIME, TIMES),
    ("nodiratime", MsFlags::MS_NODIRATIME, NONE),
    ("diratime", NONE, MsFlags::MS_NODIRATIME),
    ("nodev", MsFlags::MS_NODEV, NONE),
    ("dev", NONE, MsFlags::MS_NODEV),
    ("nosuid", MsFlags::MS_NOSUID, NONE),
    ("suid", NONE, MsFlags::MS_NOSUID),
    ("noexec", MsFlags::MS_NOEXEC, NONE),
    ("exec", NONE, MsFlags::MS_NOEXEC),
    ("ro", MsFlags::MS_RDONLY, NONE),
    ("rw", NONE, MsFlags::MS_RDONLY),
    ("lazytime", MsFlags::MS_LAZYTIME, NONE),
    ("nolazytime", NONE, MsFlags::MS_LAZYTIME),
    ("sync", MsFlags::MS_SYNCHRONOUS, NONE),
    ("async", NONE, MsFlags::MS_SYNCHRONOUS),
];
const NONE: MsFlags = MsFlags::empty();
const TIMES: MsFlags = MsFlags::MS_NOATIME.union(MsFlags::MS_RELATIME).union(MsFlags::MS_STRICTATIME);

/// Options that are for programs, or that the initramfs decides itself; a name that ends with `=` or `-` begins one.
const PASSED_OVER: [&str; 22] = [
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "_netdev",
    "comment=",
    "x-",
    "X-",
    "subvol=",
    "subvolid=",
    "device=",
    "degraded",
    "rescue=",
    "nologreplay",
    "norecovery",
    "usebackuproot",
    "recovery",
];

/// Options that are not taken, and why; their names with what follows them.
const REFUSED: [(&str, &str); 2] = [
    ("compress-force", "it would compress kernels, which GRUB reads and checks as they are; use compress="),
    ("nobarrier", "a power cut could cost the filesystem"),
];

/// A line that mounts something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is mounted, as `UUID=…` or a path.
    pub source: String,
    /// Where.
    pub target: String,
    /// Type of the filesystem, as the line has it.
    pub fstype: String,
    /// Options, with commas between.
    pub options: String,
}

impl Line {
    /// The line in this text; `None` for comments, and for what has no type.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace().map(unescape);
        let source = words.next().filter(|word| !word.starts_with('#'))?;
        Some(Self { source, target: words.next()?, fstype: words.next()?, options: words.next().unwrap_or_default() })
    }

    /// Whether it can be about a btrfs.
    pub fn may_be_btrfs(&self) -> bool {
        matches!(self.fstype.as_str(), "btrfs" | "auto")
    }

    /// Where it mounts, below a root (empty: the root itself); `None` for what is no path, or leads upwards.
    pub fn below_root(&self) -> Option<PathBuf> {
        let path = Path::new(&self.target).strip_prefix("/").ok()?;
        let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        plain.then(|| path.components().collect())
    }

    /// Whether it has this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.split(',').any(|one| one == option)
    }
}

/// Whether a mount at `path`, which is below a root, would hide something of ast's own or of the kernel's.
pub fn is_ours(path: &Path) -> bool {
    OURS.iter().any(|own| Path::new(own).starts_with(path)) || WHOLE.iter().any(|own| path.starts_with(own))
}

/// Name of systemd's unit for a mount at `path`, which is below a root. Source: systemd.unit(5), "String Escaping".
pub fn unit_of(path: &Path) -> String {
    let mut name = String::new();
    for (at, byte) in path.as_os_str().as_bytes().iter().enumerate() {
        match byte {
            b'/' => name.push('-'),
            b':' | b'_' => name.push(char::from(*byte)),
            b'.' if at > 0 => name.push('.'),
            byte if byte.is_ascii_alphanumeric() => name.push(char::from(*byte)),
            byte => name.push_str(&format!("\\x{byte:02x}")),
        }
    }
    name + ".mount"
}

/// What is taken of a line's options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Flags of the mount, and those that mount(2) sets for a filesystem.
    pub flags: MsFlags,
    /// What only btrfs understands; the kernel takes all of it or nothing.
    pub btrfs: String,
    /// `subvol=…` or `subvolid=…`, the last of them.
    pub subvolume: String,
    /// Options that are not taken, each with the reason.
    pub refused: Vec<String>,
}

impl Options {
    /// The options of a line that mounts a subvolume.
    pub fn parse(text: &str) -> Self {
        Self::onto(NONE, text)
    }

    /// The options of the line of `/`. Where they say nothing about times, reading sets none.
    pub fn of_root(text: &str) -> Self {
        let mut options = Self::onto(MsFlags::MS_NOATIME, text);
        if options.flags.contains(MsFlags::MS_NOEXEC) {
            options.flags.remove(MsFlags::MS_NOEXEC);
            options.refused.push("noexec is not taken: nothing could be started".to_owned());
        }
        // Every root is read-only, and the rest of its filesystem is not.
        options.flags.remove(MsFlags::MS_RDONLY);
        options
    }

    fn onto(flags: MsFlags, text: &str) -> Self {
        let mut options = Self { flags, btrfs: String::new(), subvolume: String::new(), refused: Vec::new() };
        for option in text.split(',').filter(|option| !option.is_empty()) {
            if let Some((_, set, clear)) = FLAGS.iter().find(|(name, ..)| *name == option) {
                options.flags = options.flags.difference(*clear).union(*set);
            } else if let Some((_, why)) = REFUSED.iter().find(|(name, _)| option.starts_with(name)) {
                options.refused.push(format!("{option} is not taken: {why}"));
            } else if option.starts_with("subvol=") || option.starts_with("subvolid=") {
                option.clone_into(&mut options.subvolume);
            } else if !is_passed_over(option) {
                if !options.btrfs.is_empty() {
                    options.btrfs.push(',');
                }
                options.btrfs.push_str(option);
            }
        }
        options
    }
}

fn is_passed_over(option: &str) -> bool {
    let begins = |name: &str| name.ends_with(['=', '-']) && option.starts_with(name);
    PASSED_OVER.iter().any(|name| *name == option || begins(name))
}

/// `\040` and its like, as is written what would break a line.
pub(crate) fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        match after.get(..3).and_then(|octal| u8::from_str_radix(octal, 8).ok()) {
            Some(byte) => {
                out.push(char::from(byte));
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_fstab_has_it() {
        let line = Line::parse("\tUUID=1-2  /srv/a\\040b\tbtrfs noatime,subvol=@srv 0 0").expect("a line");
        assert_eq!((line.source.as_str(), line.target.as_str()), ("UUID=1-2", "/srv/a b"));
        assert!(line.may_be_btrfs() && line.has("noatime") && !line.has("atime") && !line.has(""));
        assert_eq!(Line::parse("/dev/sda1 / auto").map(|line| line.options), Some(String::new()));
        for text in ["", "  # UUID=1 / btrfs", "word", "one two", "#"] {
            assert_eq!(Line::parse(text), None, "{text}");
        }
        for (text, plain) in [("a\\134b", "a\\b"), ("a\\04", "a\\04"), ("\\", "\\"), ("\\999ü", "\\999ü"), ("\\ü", "\\ü"), ("\\000", "\0")]
        {
            assert_eq!(unescape(text), plain);
        }
    }

    #[test]
    fn r7_a_line_mounts_below_the_root_and_nowhere_else() {
        let below = |target: &str| Line::parse(&format!("x {target} btrfs")).and_then(|line| line.below_root());
        for (target, path) in [("/", ""), ("//", ""), ("/srv/", "srv"), ("/srv//./a", "srv/a"), ("/a\\040b", "a b")] {
            assert_eq!(below(target), Some(path.into()), "{target}");
        }
        for target in ["none", "swap", "srv", "./srv", "/../srv", "/srv/../../etc", "/srv\\057..\\057..\\057etc"] {
            assert_eq!(below(target), None, "{target}");
        }
        for own in
            ["", "etc", "etc/x", "boot/grub", ".snapshots/sets", "var", "var/cache", "var/cache/pacman/pkg", "home", "usr/bin", "run/x"]
        {
            assert!(is_ours(Path::new(own)), "{own}");
        }
        for other in ["srv", "var/log", "var/lib/docker", "var/cache/other", "home/ann", "root/x", "opt", "data/etc", "mnt", "bootx"] {
            assert!(!is_ours(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_mount_has_the_name_that_systemd_gives_it() {
        // By systemd-escape --path --suffix=mount.
        for (path, unit) in [
            ("srv", "srv.mount"),
            ("var/log", "var-log.mount"),
            ("a b/c-d_e:f.g", "a\\x20b-c\\x2dd_e:f.g.mount"),
            (".x/.y", "\\x2ex-.y.mount"),
            ("caf\u{e9}\\", "caf\\xc3\\xa9\\x5c.mount"),
        ] {
            assert_eq!(unit_of(Path::new(path)), unit);
        }
    }

    #[test]
    fn options_are_sorted_by_who_is_to_have_them() {
        // What genfstab writes, and what people do.
        let options = Options::of_root("rw,relatime,ssd,discard=async,space_cache=v2,subvolid=256,subvol=/@,compress=zstd:3,commit=120");
        assert_eq!(options.flags, MsFlags::MS_RELATIME);
        assert_eq!(options.btrfs, "ssd,discard=async,space_cache=v2,compress=zstd:3,commit=120");
        assert_eq!((options.subvolume.as_str(), options.refused.len()), ("subvol=/@", 0));
        for (text, flags) in [
            ("", MsFlags::MS_NOATIME),
            ("defaults,x-systemd.growfs,nofail,noauto,comment=a,_netdev", MsFlags::MS_NOATIME),
            ("ro,degraded,rescue=all,device=/dev/sdb,usebackuproot", MsFlags::MS_NOATIME),
            ("noatime,atime", MsFlags::MS_RELATIME),
            (
                "strictatime,nodev,nosuid,nodiratime",
                MsFlags::MS_STRICTATIME | MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NODIRATIME,
            ),
            ("lazytime,nodev,dev,nosuid,suid,async", MsFlags::MS_NOATIME | MsFlags::MS_LAZYTIME),
        ] {
            let options = Options::of_root(text);
            assert_eq!((options.flags, options.btrfs.as_str(), options.refused.len()), (flags, "", 0), "{text}");
        }
        let own = Options::parse("ro,noexec,subvolid=300,nodev,compress=lzo");
        assert_eq!(own.flags, MsFlags::MS_RDONLY | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV);
        assert_eq!(own.subvolume, "subvolid=300");
    }

    #[test]
    fn what_would_break_a_promise_is_refused_and_the_rest_is_taken() {
        for (text, why) in [
            ("compress-force", "GRUB"),
            ("compress-force=zstd:3", "GRUB"),
            ("nobarrier", "power cut"),
            ("noexec", "nothing could be started"),
        ] {
            let options = Options::of_root(&format!("autodefrag,{text}"));
            assert!(matches!(options.refused.as_slice(), [one] if one.starts_with(text) && one.contains(why)), "{options:?}");
            assert_eq!((options.flags, options.btrfs.as_str()), (MsFlags::MS_NOATIME, "autodefrag"), "{text}");
        }
    }
}
