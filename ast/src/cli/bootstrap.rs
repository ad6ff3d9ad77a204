//! `bootstrap`: astOS onto a disk, by questions or by a file of answers.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::context::{Global, clean, print};
use super::decided::{Decided, of_files};
use super::error::{CommandError, Kind, chain};
use crate::apply::PackageName;
use crate::exec::ExecError;
use crate::install::answers::{BootWish, Install};
use crate::install::disk::Disk;
use crate::install::machine::{Wish, install};
use crate::install::settle::Settling;
use crate::install::sources::Sources;
use crate::install::staging::Packages;
use crate::install::table::{SECTOR, Scheme};
use crate::install::{Boot, Grub, InstallError, Terminal, host};
use crate::layout;
use crate::pacman::Cause;
use crate::store::machine::{Block, Machine};

/// What every machine has.
const BASE: [&str; 2] = ["base", "ast"];
/// And what one that starts by EFI has too.
const ON_EFI: [&str; 2] = ["dosfstools", "efibootmgr"];
/// What is done about a disk on which an installation did not come to its end.
const AGAIN: &str = "it does not boot; `ast bootstrap` again, from the beginning, is all that it needs";

/// What `--help` adds.
const HELP: &str = "On a terminal it asks for what it has to know; with --answers it reads that from a declaration (/usr/share/doc/ast/apply.md), whose \
[install] and [system] tables are for this: profile, boot, serial and hidden_menu; hostname, timezone, locale and keymap. `password = \"ask\"` of a [[user]] asks for that \
alone. Nothing is written before the last question, which names the disk; --yes answers it. The packages come by this machine's pacman, from \
the repositories of --pacman-conf, which the new machine asks from then on; GRUB is the one of this machine. If it is interrupted, nothing stays mounted, and the \
disk does not boot: begin again.";

/// Onto which disk, and what.
#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(super) struct Args {
    /// The disk, as /dev/sda; everything on it is lost. Or an image file, which keeps its size
    disk: PathBuf,
    /// A declaration with the answers to all questions but the last
    #[arg(short, long, value_name = "FILE")]
    answers: Option<PathBuf>,
    /// What is installed: minimal, gnome, kde, mate, or a declaration of one's own
    #[arg(short = 'P', long, value_name = "NAME")]
    profile: Option<String>,
    /// How the new machine starts: efi, bios, bios-raw or bios-gap [default: as this machine was started]
    #[arg(long, value_name = "KIND")]
    boot: Option<BootWish>,
    /// Where packages come from
    #[arg(long, value_name = "FILE", default_value = "/etc/pacman.conf")]
    pacman_conf: PathBuf,
    /// The directory with GRUB's modules
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/grub")]
    grub: PathBuf,
}

/// The disk holds a machine that boots deployment 1 of the base, as was asked for.
///
/// If interrupted: the disk does not boot, and nothing of it stays mounted.
/// Refuses: a disk that anybody uses, what is no disk, a disk too small, what this machine lacks for it; all of it before anything is written.
pub(super) fn run(args: &Args, global: &Global) -> Result<(), CommandError> {
    if global.sysroot != Path::new("/") {
        return Err(CommandError::new(Kind::Usage, "--sysroot names a machine that is there, and bootstrap makes one").hint("leave it away"));
    }
    let mut decided = Decided::of(args.answers.as_deref(), args.profile.as_deref())?;
    if !global.dry_run {
        global.may_write()?;
        may_ask(args, &decided, global)?;
    }
    let disk = Disk::look(&args.disk)?;
    let (boot, grub) = starts(args, &decided.install)?;
    let scheme = Scheme::new(boot, &disk.target)?;
    let sources = Sources::read(&args.pacman_conf).map_err(of_files)?;
    if args.answers.is_none() && !global.dry_run {
        global.say(describe(&disk));
        decided.ask()?;
    }
    if !global.dry_run {
        decided.ask_passwords()?;
    }

    let wish = decided.wish(args, boot, grub, global);
    let plan = decided.plan(&disk, &scheme, &wish);
    if global.dry_run {
        return global.plan(&plan);
    }
    global.say(plan.trim_end());
    if !decided.lets_somebody_in() {
        global.say("nobody will be able to log in: neither root nor a user has a password or a key");
    }
    if let local @ [_, ..] = sources.local().as_slice() {
        global.say(format_args!("a directory of this machine, which the new one will not ask for its updates: [{}]", clean(&local.join("] ["))));
    }
    let name = disk.target.file.display();
    global.confirm(&format!("Erase everything on {name} and install?"))?;

    let claim = disk.claim()?;
    // Whatever the mirrors have to say against it, they say before the disk is erased.
    let count = host::check_packages(&wish.packages).map_err(|error| CommandError::from(error).hint("nothing was written"))?;
    global.say(format_args!("the repositories have them: {count} packages with what they need"));
    global.say(format_args!("from here on {name} holds nothing that boots, until this is done; if it is interrupted, begin again"));
    let settling = Settling { sources, declarations: decided.declarations(), hidden_menu: decided.install.hidden_menu, show: wish.packages.show };
    let machine = install(&disk.target, &wish, &|staging| settling.run(staging))
        .map_err(|error| CommandError::from(error).hint(format!("{name}: {AGAIN}")))?;
    drop(claim);
    decided.report(&disk, &wish, &machine, global)
}

/// Refuses: to begin where a question will come and nobody can answer it.
fn may_ask(args: &Args, decided: &Decided, global: &Global) -> Result<(), CommandError> {
    let person = std::io::stdin().is_terminal() && !global.yes;
    if args.answers.is_none() && !person {
        return Err(CommandError::refused("an installation asks for a name, a password and more, and nobody can be asked here")
            .hint("write the answers into a file: `ast bootstrap DISK --answers FILE --yes`; /usr/share/doc/ast/apply.md describes it"));
    }
    if let Some(user) = decided.asked_for().next().filter(|_| !person) {
        return Err(CommandError::refused(format!("the answers want somebody to be asked for the password of {user}, and nobody can be asked here"))
            .hint("put a hash there, as `openssl passwd -6` prints it"));
    }
    if !person && !global.yes {
        return Err(CommandError::refused(format!("everything on {} would be lost, and nobody can be asked here", args.disk.display()))
            .hint("add --yes to go on without a question"));
    }
    Ok(())
}

/// How the new machine starts, and the GRUB for it.
fn starts(args: &Args, install: &Install) -> Result<(Boot, Grub), InstallError> {
    let version = host::grub_version()?;
    let boot = args.boot.or(install.boot).unwrap_or_else(BootWish::of_this_machine).with_grub(&version)?;
    host::check_programs(boot)?;
    Ok((boot, host::grub(&args.grub, boot, version)?))
}

impl Decided {
    fn wish(&self, args: &Args, boot: Boot, grub: Grub, global: &Global) -> Wish {
        let on_efi = ON_EFI.iter().filter(|_| boot == Boot::Efi).copied();
        let declared = self.profile.1.packages.install.iter().chain(&self.answers.packages.install).map(PackageName::as_str);
        let mut names: Vec<String> = Vec::new();
        for name in BASE.into_iter().chain(on_efi).chain(declared) {
            let unwanted = self.answers.packages.remove.iter().any(|gone| gone.as_str() == name);
            if !unwanted && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Wish {
            boot,
            grub,
            terminal: if self.install.serial { Terminal::Serial } else { Terminal::Screen },
            luks: None,
            packages: Packages { config: args.pacman_conf.clone(), cache: None, names, show: !global.json && !global.quiet },
            description: self.description().to_owned(),
        }
    }

    fn plan(&self, disk: &Disk, scheme: &Scheme, wish: &Wish) -> String {
        let mut text = format!("install onto {}\n", describe(disk));
        let mut line = |line: String| {
            // Writing into a String cannot fail.
            let _ = writeln!(text, "    {line}");
        };
        line(format!("start by {}, with GRUB {}", wish.boot, wish.grub.version));
        if let Some(fat) = scheme.fat {
            line(format!("a FAT partition of {} with the boot block", size(fat.sectors * SECTOR)));
        }
        line(format!("a btrfs of {} with {}", size(scheme.btrfs.sectors * SECTOR), layout::TOP_SUBVOLS.join(" ")));
        line(format!("install {}", wish.packages.names.join(" ")));
        for (whose, declaration) in [(self.profile.0.as_str(), &self.profile.1), ("answers", &self.answers)] {
            let mut rest = declaration.clone();
            (rest.packages.install, rest.description) = (Vec::new(), None);
            rest.steps().iter().for_each(|step| line(format!("{whose}: {}", clean(step))));
        }
        line(format!("seal it as the base, {:?}, and make deployment 1 of it", clean(self.description())));
        text.push_str("  * write GRUB and the boot block, and read that back: from then on the disk boots\n");
        text
    }

    fn report(&self, disk: &Disk, wish: &Wish, machine: &Machine, global: &Global) -> Result<(), CommandError> {
        let name = disk.target.file.display();
        if global.json {
            return global.print_json(&json!({
                "disk": disk.target.file,
                "size": disk.target.size,
                "model": disk.model,
                "boot": wish.boot.to_string(),
                "grub": wish.grub.version,
                "filesystem": machine.fs_uuid,
                "esp": machine.esp_uuid,
                "profile": self.profile.0,
                "packages": wish.packages.names,
                "description": self.description(),
            }));
        }
        let place = match &machine.block {
            Block::Files { uuid } if wish.boot == Boot::Efi => format!("two files on the EFI system partition {uuid}"),
            Block::Files { uuid } => format!("two files on the FAT partition {uuid}"),
            Block::Raw => "two sectors in front of the btrfs".to_owned(),
            Block::Local => "a file that GRUB does not see".to_owned(),
        };
        print(&format!("{name} holds a machine: snapshot 0 is its base, deployment 1 boots\n"))?;
        global.say(format_args!(
            "starts are counted in {place}: they were written and read back here, and GRUB proves at each start that it can write them"
        ));
        global.say("start the machine from that disk; `ast status` there says how it does, `ast clone 0` is a tree of your own");
        Ok(())
    }
}

/// What it is, and what would be lost.
fn describe(disk: &Disk) -> String {
    let model = disk.model.as_ref().map(|model| format!("{}, ", clean(model))).unwrap_or_default();
    let mut text = format!("{} ({model}{})", disk.target.file.display(), size(disk.target.size));
    text.push_str(if disk.holds.is_empty() { ", on which nothing is known to be" } else { ", which loses:" });
    for held in &disk.holds {
        let named = if held.label.is_empty() { String::new() } else { format!(" {:?}", clean(&held.label)) };
        let kind = if held.kind.is_empty() { "something unknown" } else { &held.kind };
        // Writing into a String cannot fail.
        let _ = write!(text, "\n    {} {}{named}, {}", clean(&held.name), clean(kind), size(held.size));
    }
    text
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes >> 10),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes >> 20),
        _ => format!("{}.{} GiB", bytes >> 30, ((bytes % (1 << 30)) * 10) >> 30),
    }
}

impl From<InstallError> for CommandError {
    fn from(error: InstallError) -> Self {
        let message = chain(&error);
        match error {
            InstallError::NoDisk(_)
            | InstallError::Partition { .. }
            | InstallError::ReadOnly(_)
            | InstallError::SectorSize { .. }
            | InstallError::TooSmall { .. }
            | InstallError::TooBig { .. } => Self::refused(message).hint("`lsblk` lists the disks of this machine"),
            InstallError::InUse { .. } => {
                Self::refused(message).hint("unmount it, `swapoff` it, stop what is made of it; the disk that this system runs from is never erased")
            }
            InstallError::GrubTooOld { .. } => Self::refused(message).hint("--boot bios-gap, or --boot bios, which knows"),
            InstallError::Claimed(_) => Self::new(Kind::Locked, message).hint("wait for the other installation, or end it"),
            InstallError::NoProgram { package, .. } => Self::new(Kind::World, message).hint(format!("`pacman -S {package}`")),
            InstallError::NoGrubModules { .. } => Self::new(Kind::World, message).hint("--grub names another directory; --boot another platform"),
            InstallError::Exec(ExecError::Failed { ref tail, .. }) => match hint(&Cause::of(tail)) {
                Some(hint) => Self::new(Kind::World, message).hint(hint),
                None => Self::new(Kind::World, message),
            },
            _ => Self::new(Kind::World, message),
        }
    }
}

/// The way out of what pacman says, where it is the installing machine's.
fn hint(cause: &Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::NoSuchPackage => "look at the spelling in profile and answers; `ast` itself has to be in one of the repositories of --pacman-conf",
        Cause::Gone | Cause::Damaged | Cause::Network => "look at the network, and at the mirrors that --pacman-conf names",
        Cause::Key | Cause::ExpiredKey(_) => "`pacman -Sy archlinux-keyring` on this machine renews its keys; a wrong clock makes every key look wrong",
        Cause::Space => "a bigger disk, or a smaller profile",
        _ => return None,
    })
}
