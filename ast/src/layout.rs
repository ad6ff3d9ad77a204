//! The only place that knows names on disk. Everything is a path below the btrfs top level (subvolume 5),
//! or below `/.snapshots` where that is how it is reached.

use std::path::{Path, PathBuf};

use crate::id::{DeployId, SetId, SnapshotId};

/// Subvolume that holds sets, deployments, working copies and documents; mounted at `/.snapshots`.
pub const SNAPSHOTS_SUBVOL: &str = "@.snapshots";
/// Subvolume with GRUB's own files and the menu; its `grub` is seen at `/boot/grub`.
pub const BOOT_SUBVOL: &str = "@boot";
/// The shared /var.
pub const VAR_SUBVOL: &str = "@var";
/// The shared /home.
pub const HOME_SUBVOL: &str = "@home";
/// The shared /root.
pub const ROOT_HOME_SUBVOL: &str = "@root";
/// The package cache, seen at `/var/cache/pacman/pkg`.
pub const CACHE_SUBVOL: &str = "@cache";
/// Every subvolume that an installed machine has at its top level.
pub const TOP_SUBVOLS: [&str; 6] = [SNAPSHOTS_SUBVOL, BOOT_SUBVOL, VAR_SUBVOL, HOME_SUBVOL, ROOT_HOME_SUBVOL, CACHE_SUBVOL];

/// The last thing that the hook of mkinitcpio adds to an image, so that one without it is known to be half built.
pub const IMAGE_COMPLETE: &str = "usr/lib/ast/complete";
/// That hook, below `/etc` and below the root: the first that is there is the one that mkinitcpio runs.
pub const INSTALL_HOOKS: [&str; 2] = ["initcpio/install/ast", "usr/lib/initcpio/install/ast"];

/// Where the snapshots subvolume is seen in a running system.
pub const SNAPSHOTS_MOUNT: &str = "/.snapshots";
/// Where the ESP is seen, when somebody mounts it, below a root.
pub const ESP_MOUNT: &str = "efi";
/// What the initramfs says about this boot.
pub const BOOTED_RECORD: &str = "/run/ast/booted";
/// Units that exist on this start only; on a trial the initramfs leaves there what restarts the machine.
pub const TRIAL_UNITS: &str = "/run/systemd/system";
/// Name of each drop-in that it leaves.
pub const TRIAL_DROP_IN: &str = "99-ast-trial.conf";
/// Where systemd's own settings are that exist on this start only.
pub const TRIAL_SETTINGS: &str = "/run/systemd/system.conf.d";
/// Name of the drop-in there that has systemd feed the watchdog: of all such files, in whatever directory, the last one counts. A file of this name in an image of systemd
/// (`mkinitcpio/install/ast`) hides it from the systemd in there.
pub const WATCHDOG_DROP_IN: &str = "zzz-ast-trial.conf";
/// Its deadline: a timer and a service of this name.
pub const TRIAL_DEADLINE: &str = "ast-trial-deadline";
/// pacman's database inside a root: in the snapshot, so it always matches it.
pub const PACMAN_DB: &str = "usr/share/ast/db";
/// Checksums of kernel and initramfs inside a boot subvolume, as `sha256sum` writes them.
pub const BOOT_SUMS: &str = "ast.sums";
/// How to start what is in a boot subvolume: an environment block that GRUB reads (see `docs/architecture.md`).
pub const BOOT_ENV: &str = "ast.env";
/// Directories that a root must have, because something is mounted on them (S12).
pub const MOUNT_POINTS: [&str; 13] = [".snapshots", "boot", "dev", "efi", "etc", "home", "mnt", "proc", "root", "run", "sys", "tmp", "var"];

/// First 512-byte sector of copy A of a raw boot block, counted from the start of the btrfs device
/// (512 KiB: inside the first MiB, which btrfs leaves alone; 512, GRUB's own offset, is avoided). The page that it begins (4 KiB) is ours: the rest
/// of it is zeros once the copy was unreadable and is written anew.
pub const RAW_BLOCK_A_SECTOR: u64 = 1024;
/// The same of copy B (768 KiB: another page than A, and as much ours).
pub const RAW_BLOCK_B_SECTOR: u64 = 1536;
/// Copy A on the ESP or the small FAT partition.
pub const FILE_BLOCK_A: &str = "ast/a/block";
/// Copy B there: in another directory, so in another directory sector.
pub const FILE_BLOCK_B: &str = "ast/b/block";
/// First sector of the word that says which other GRUB is to be tried, where the boot block is raw (640 KiB: a page of its own).
pub const RAW_TRY_SECTOR: u64 = 1280;
/// The same word on the ESP or the small FAT partition: in a directory of its own, so in another directory sector than the blocks.
pub const FILE_TRY: &str = "ast/grub/try";
/// Below GRUB's directory: a directory for each build of GRUB that `ast boot-update --grub` made, which its core image has as its prefix.
pub const GRUB_BUILDS: &str = "builds";
/// Below [`DOCUMENTS`]: which GRUB starts this machine, and which one is to.
pub const GRUB: &str = "grub.json";
/// Below [`DOCUMENTS`]: the boot block where GRUB cannot write; the initramfs counts alone.
pub const LOCAL_BLOCK: &str = "bootblock";

/// Below [`DOCUMENTS`]: what one start of a trial tells the next.
pub const STAGE: &str = "stage";

/// How the names of what changes places with /var begin.
pub const VAR_SWAP: &str = "swap";
/// In a /var that is kept, and in a copy of it until that has become /var: by this the two that change places are told apart, since the
/// exchange is one rename and nothing can be written with it (a read-only subvolume cannot be moved to another directory).
pub const VAR_MARK: &str = ".ast-kept";

/// Directory of the documents, below the snapshots subvolume.
pub const DOCUMENTS: &str = "ast";
/// Below [`DOCUMENTS`]: the tree.
pub const TREE: &str = "tree.json";
/// Below [`DOCUMENTS`]: what the installer found and proved.
pub const MACHINE: &str = "machine.json";
/// Below [`DOCUMENTS`]: the lowest numbers never given to a deployment or an arming.
pub const NUMBERS: &str = "numbers.json";
/// Below [`DOCUMENTS`]: state of the unattended updates.
pub const UPDATES: &str = "updates.json";
/// Below [`DOCUMENTS`]: when the filesystem was last looked after.
pub const CARE: &str = "care.json";
/// Below [`DOCUMENTS`]: other systems that were found on this machine, for the menu.
pub const OTHERS: &str = "others.json";
/// Below [`DOCUMENTS`]: space that is given up for an update when everything else is full.
pub const RESERVE: &str = "reserve";
/// Below [`DOCUMENTS`]: a line for each committed operation.
pub const HISTORY: &str = "history.jsonl";
/// Below [`DOCUMENTS`]: the lock of every writer.
pub const LOCK: &str = "lock";

/// Directory with what GRUB reads of ours, below `@boot` and below `/boot`.
pub const GRUB_DIR: &str = "grub/ast";

/// One of the four subvolumes of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// `/` of the snapshot, `/usr` above all.
    Root,
    /// `/etc`.
    Etc,
    /// What packages put into `/var`.
    Var,
    /// `/boot`: kernel, initramfs, sums.
    Boot,
}

impl Part {
    /// The four, in the order in which they are made.
    pub const ALL: [Self; 4] = [Self::Root, Self::Etc, Self::Var, Self::Boot];

    /// Its name inside a set, a deployment or a working copy.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Etc => "etc",
            Self::Var => "var",
            Self::Boot => "boot",
        }
    }

    /// Where it is mounted in a running system or a working copy.
    pub const fn mount_point(self) -> &'static str {
        match self {
            Self::Root => "/",
            Self::Etc => "/etc",
            Self::Var => "/var",
            Self::Boot => "/boot",
        }
    }
}

/// Names below the snapshots subvolume, wherever that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    snapshots: PathBuf,
}

impl Layout {
    /// Names below `snapshots`, the directory where `@.snapshots` is seen.
    pub fn at(snapshots: impl Into<PathBuf>) -> Self {
        Self { snapshots: snapshots.into() }
    }

    /// Names of the machine whose root is at `sysroot`: its `/.snapshots`.
    pub fn of_sysroot(sysroot: &Path) -> Self {
        Self::at(sysroot.join(".snapshots"))
    }

    /// Names below a mounted btrfs top level.
    pub fn of_top_level(top: &Path) -> Self {
        Self::at(top.join(SNAPSHOTS_SUBVOL))
    }

    /// Where `@.snapshots` is seen.
    pub fn snapshots(&self) -> &Path {
        &self.snapshots
    }

    /// `sets`.
    pub fn sets(&self) -> PathBuf {
        self.snapshots.join("sets")
    }

    /// `sets/N.G`, a directory with four subvolumes.
    pub fn set(&self, set: SetId) -> PathBuf {
        self.sets().join(set.to_string())
    }

    /// A file that exists once a deployment of this set has booted well: it outlives that, for the menu.
    pub fn set_well(&self, set: SetId) -> PathBuf {
        self.set(set).join("well")
    }

    /// One subvolume of a set.
    pub fn set_part(&self, set: SetId, part: Part) -> PathBuf {
        self.set(set).join(part.name())
    }

    /// `deploy`.
    pub fn deployments(&self) -> PathBuf {
        self.snapshots.join("deploy")
    }

    /// `deploy/D`, a directory with the subvolumes root, etc, etc.base and boot.
    pub fn deployment(&self, d: DeployId) -> PathBuf {
        self.deployments().join(d.to_string())
    }

    /// One subvolume of a deployment (there is no `var`: that is shared).
    pub fn deployment_part(&self, d: DeployId, part: Part) -> PathBuf {
        self.deployment(d).join(part.name())
    }

    /// `/etc` as it was when the deployment was made: the base of every merge.
    pub fn deployment_etc_base(&self, d: DeployId) -> PathBuf {
        self.deployment(d).join("etc.base")
    }

    /// `/etc` as it was when it was last saved into the deployment's snapshot, if it ever was.
    pub fn deployment_etc_saved(&self, d: DeployId) -> PathBuf {
        self.deployment(d).join("etc.saved")
    }

    /// What deployment `d` was made from: a small document written once.
    pub fn deployment_record(&self, d: DeployId) -> PathBuf {
        self.deployment(d).join("deployment.json")
    }

    /// `vars`: what is kept of the shared /var (S9).
    pub fn vars(&self) -> PathBuf {
        self.snapshots.join("vars")
    }

    /// `vars/D`, which outlives `deploy/D`: a trial that failed may have changed /var.
    pub fn var(&self, d: DeployId) -> PathBuf {
        self.vars().join(d.to_string())
    }

    /// The shared /var as it was when the trial of `d` was armed, read-only; given back only on request (S9).
    pub fn var_before(&self, d: DeployId) -> PathBuf {
        self.var(d).join("before")
    }

    /// A file that says that `d` was armed: without it, what is kept is left over from a deploy that never was.
    pub fn var_armed(&self, d: DeployId) -> PathBuf {
        self.var(d).join("armed")
    }

    /// Beside it, `swap` and whatever begins so: with a [`VAR_MARK`] in it, it is to be /var at the next start of `d` as the good one;
    /// without, it is what was /var until then.
    pub fn var_swap(&self, d: DeployId) -> PathBuf {
        self.var(d).join(VAR_SWAP)
    }

    /// A file that exists once `d` has booted well: only such a deployment becomes a fallback (B2).
    pub fn deployment_well(&self, d: DeployId) -> PathBuf {
        self.deployment(d).join("well")
    }

    /// `work`, whose content is garbage by its name.
    pub fn work(&self) -> PathBuf {
        self.snapshots.join("work")
    }

    /// `work/TOKEN`, a directory with four writable subvolumes, whose name says whose it is.
    pub fn work_copy(&self, token: &str) -> PathBuf {
        self.work().join(token)
    }

    /// The documents.
    pub fn documents(&self) -> PathBuf {
        self.snapshots.join(DOCUMENTS)
    }

    /// One document by its file name.
    pub fn document(&self, name: &str) -> PathBuf {
        self.documents().join(name)
    }

    /// The link that the README promises for one part of the current set of `n`: `rootfs/snapshot-N`, `etc/etc-N` …
    pub fn link(&self, n: SnapshotId, part: Part) -> PathBuf {
        match part {
            Part::Root => self.snapshots.join(format!("rootfs/snapshot-{n}")),
            other => self.snapshots.join(format!("{0}/{0}-{n}", other.name())),
        }
    }

    /// Where that link points, relative to its own directory.
    pub fn link_target(set: SetId, part: Part) -> PathBuf {
        PathBuf::from(format!("../sets/{set}/{}", part.name()))
    }
}

/// Path that GRUB and `subvol=` use for one part of a deployment, from the top level.
pub fn deployment_from_top(d: DeployId, part: Part) -> String {
    format!("/{SNAPSHOTS_SUBVOL}/deploy/{d}/{}", part.name())
}

/// The same for a part of a set.
pub fn set_from_top(set: SetId, part: Part) -> String {
    format!("/{SNAPSHOTS_SUBVOL}/sets/{set}/{}", part.name())
}
