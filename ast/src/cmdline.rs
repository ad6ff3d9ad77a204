//! Our parameters on the kernel command line, written by the GRUB script and by people.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use crate::id::{ArmId, CoreId, DeployId, SetId, SnapshotId};

/// Why GRUB started what it started (`ast.why`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The good one, nothing on trial.
    Good,
    /// The trial, counted.
    Trial,
    /// One start, never promoted.
    Once,
    /// The good one, because the trial has no tries left.
    Exhausted,
    /// The good one, because the trial's files do not match their sums.
    Hash,
    /// This one, because files of the one before it in the chain did not load.
    Load,
    /// The good one, because the count could not be saved.
    NoSave,
    /// The one before the good one, which had not reported well for too many starts.
    Starts,
    /// Somebody chose it in the menu.
    Chosen,
    /// The entry baked into GRUB's files: neither copy of the block was whole.
    Baked,
}

impl Why {
    const ALL: [(Self, &'static str); 10] = [
        (Self::Good, "good"),
        (Self::Trial, "trial"),
        (Self::Once, "once"),
        (Self::Exhausted, "exhausted"),
        (Self::Hash, "hash"),
        (Self::Load, "load"),
        (Self::NoSave, "nosave"),
        (Self::Starts, "starts"),
        (Self::Chosen, "chosen"),
        (Self::Baked, "baked"),
    ];

    /// The word on the command line.
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(why, _)| *why == self).map_or("chosen", |(_, word)| word)
    }

    /// The reason with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, w)| *w == word).map(|(why, _)| *why)
    }
}

/// Where the command line says that the boot block is (`ast.block`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlockPlace {
    /// Raw sectors of the btrfs device.
    Raw,
    /// Files on the FAT filesystem with this serial.
    Files(String),
    /// A file in the documents; the initramfs counts alone.
    Local,
}

/// What names the device of the root (`root`). The GRUB script writes UUIDs, people what they like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// UUID of the filesystem.
    Uuid(String),
    /// Label of the filesystem.
    Label(String),
    /// UUID of the partition.
    PartUuid(String),
    /// Name of the partition in a GPT.
    PartLabel(String),
    /// A device node, or a link to one.
    Device(PathBuf),
}

impl Root {
    /// What this value of `root=`, or this first word of a line of fstab(5), names.
    pub fn parse(value: &str) -> Option<Self> {
        let value = value.trim_matches('"');
        let name = |text: &str| (!text.is_empty() && text.len() <= 255 && !text.chars().any(char::is_control)).then(|| text.to_owned());
        match value.split_once('=') {
            Some(("UUID", uuid)) => is_uuid(uuid).then(|| Self::Uuid(uuid.to_owned())),
            Some(("PARTUUID", uuid)) => is_uuid(uuid).then(|| Self::PartUuid(uuid.to_owned())),
            Some(("LABEL", label)) => name(label).map(Self::Label),
            Some(("PARTLABEL", label)) => name(label).map(Self::PartLabel),
            _ => {
                let path = Path::new(value);
                let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
                (path.starts_with("/dev/") && path != Path::new("/dev") && plain).then(|| Self::Device(path.to_owned()))
            }
        }
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uuid(uuid) => write!(f, "UUID {uuid}"),
            Self::Label(label) => write!(f, "label {label}"),
            Self::PartUuid(uuid) => write!(f, "partition UUID {uuid}"),
            Self::PartLabel(label) => write!(f, "partition label {label}"),
            Self::Device(path) => write!(f, "device {}", path.display()),
        }
    }
}

/// What the command line asks for. Anything malformed counts as absent: a boot must never fail on a typing error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cmdline {
    /// `root`: where the filesystem is.
    pub root: Option<Root>,
    /// `ast.d`: the deployment.
    pub deployment: Option<DeployId>,
    /// `ast.set`: a snapshot's set, booted with a volatile /etc.
    pub set: Option<SetId>,
    /// `ast.snapshot`: the same by number, for people.
    pub snapshot: Option<SnapshotId>,
    /// `ast.why`.
    pub why: Option<Why>,
    /// `ast.arm`: id of the arming, and the tries that GRUB left.
    pub arm: Option<(ArmId, u8)>,
    /// `ast.env`: whether GRUB could write.
    pub env_ok: Option<bool>,
    /// `ast.block`.
    pub block: Option<BlockPlace>,
    /// `ast.grub`: the build of GRUB that wrote this line; none where that came with the installer or from `grub-install`.
    pub grub: Option<CoreId>,
    /// `ast.attended`: a shell instead of a reboot.
    pub attended: bool,
    /// `ast.break`: a shell before switching to the root.
    pub break_before: bool,
    /// `ast.volatile`: a volatile /etc for whatever is booted.
    pub volatile: bool,
    /// `ast.deadline`: seconds until a hung trial is restarted.
    pub deadline: Option<u32>,
}

impl Cmdline {
    /// What these words ask for; the last of a repeated word counts, as in the kernel.
    pub fn parse(text: &str) -> Self {
        let mut line = Self::default();
        for word in text.split_ascii_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            match key {
                "root" => line.root = Root::parse(value),
                "ast.d" => line.deployment = value.parse().ok(),
                "ast.set" => line.set = value.parse().ok(),
                "ast.snapshot" => line.snapshot = value.parse().ok(),
                "ast.why" => line.why = Why::from_word(value),
                "ast.arm" => line.arm = parse_arm(value),
                "ast.env" => {
                    line.env_ok = match value {
                        "ok" => Some(true),
                        "fail" => Some(false),
                        _ => None,
                    }
                }
                "ast.block" => line.block = parse_block(value),
                "ast.grub" => line.grub = value.parse().ok(),
                "ast.attended" => line.attended = value != "0",
                "ast.break" => line.break_before = value != "0",
                "ast.volatile" => line.volatile = value != "0",
                "ast.deadline" => line.deadline = value.parse::<DeployId>().ok().map(DeployId::get).filter(|s| *s > 0),
                _ => {}
            }
        }
        line
    }
}

fn parse_arm(value: &str) -> Option<(ArmId, u8)> {
    let (arm, left) = value.split_once('.')?;
    // GRUB passes its unary counter as it is: `4.11` is arming 4 with two left.
    let plain = left.len() <= 16 && left.bytes().all(|b| b == b'1');
    Some((arm.parse().ok()?, plain.then(|| u8::try_from(left.len()).ok())??))
}

fn parse_block(value: &str) -> Option<BlockPlace> {
    match value {
        "raw" => Some(BlockPlace::Raw),
        "local" => Some(BlockPlace::Local),
        other => other.strip_prefix("files:").filter(|u| is_uuid(u)).map(|u| BlockPlace::Files(u.to_owned())),
    }
}

/// Letters, digits and dashes only: it becomes part of a path or a GRUB command.
fn is_uuid(text: &str) -> bool {
    (4..=36).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grub_writes_is_read() {
        let line = Cmdline::parse(
            "BOOT_IMAGE=/x root=UUID=0a-1B ro ast.d=7 ast.why=trial ast.arm=4.11 ast.env=ok ast.block=files:ABCD-1234 panic=10 quiet",
        );
        assert_eq!(line.root, Some(Root::Uuid("0a-1B".into())));
        assert_eq!(
            (line.deployment, line.why, line.arm, line.env_ok),
            (Some(DeployId::new(7)), Some(Why::Trial), Some((ArmId::new(4), 2)), Some(true))
        );
        assert_eq!(line.block, Some(BlockPlace::Files("ABCD-1234".into())));
        assert_eq!(Cmdline::parse("ast.arm=4.").arm, Some((ArmId::new(4), 0)));
    }

    #[test]
    fn r7_nonsense_counts_as_absent() {
        for text in [
            "",
            "ast.d= ast.set=../1 ast.why=why ast.arm=4.2 ast.env=maybe ast.block=files:../../x root=UUID=$(reboot)",
            "ast.d=-1 ast.arm=1.11111111111111111 ast.deadline=0",
            "ast.d\u{0}=1",
        ] {
            assert_eq!(Cmdline::parse(text), Cmdline::default(), "{text}");
        }
    }

    #[test]
    fn a_root_is_named_as_people_do() {
        for (word, root) in [
            ("root=LABEL=ast", Some(Root::Label("ast".into()))),
            ("root=LABEL=/", Some(Root::Label("/".into()))),
            ("root=PARTUUID=1234abcd-02", Some(Root::PartUuid("1234abcd-02".into()))),
            ("root=PARTLABEL=a=b", Some(Root::PartLabel("a=b".into()))),
            ("root=\"PARTLABEL=root\"", Some(Root::PartLabel("root".into()))),
            ("root=/dev/mapper/disk-root", Some(Root::Device("/dev/mapper/disk-root".into()))),
            ("root=LABEL=a root=/dev/sda2", Some(Root::Device("/dev/sda2".into()))),
            ("root=LABEL= root=/dev", None),
            ("root=/dev/", None),
            ("root=/dev/../etc/passwd", None),
            ("root=/etc/passwd", None),
            ("root=PARTUUID=../x", None),
            ("root=LABEL=a\u{7}", None),
            ("root=8:1", None),
        ] {
            assert_eq!(Cmdline::parse(word).root, root, "{word}");
        }
    }

    #[test]
    fn every_reason_has_its_word() {
        for (why, word) in Why::ALL {
            assert_eq!((why.word(), Why::from_word(word)), (word, Some(why)));
        }
    }
}
