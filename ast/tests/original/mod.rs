//! A machine of the original Python program, laid out on a loop device.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::Command;

use ast::layout::Layout;
use ast::sys::{btrfs, file};

use super::common::{Said, documents, write};

/// A disk of the original's, mounted at `root` for this thread and its children.
pub struct Original {
    _dir: tempfile::TempDir,
    pub root: PathBuf,
}

pub fn shell(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output().expect(program);
    assert!(out.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

/// What the tree file of the README's example says: strings and numbers mixed.
pub const TREE: &str =
    "{'name': 'root', 'children': [{'name': '0'}, {'name': '1', 'children': [{'name': 4, 'children': [{'name': 6}, {'name': 2}]}]}]}";

/// What its installer wrote, and a line of the owner's.
pub const FSTAB: &str = "LABEL=LINUX / btrfs subvol=@.snapshots/rootfs/snapshot-tmp,compress=zstd,noatime,ro 0 0\n\
    LABEL=LINUX /etc btrfs subvol=@.snapshots/etc/etc-tmp,compress=zstd,noatime 0 0\n\
    /.snapshots/ast/root /root none bind 0 0\nUUID=ABCD-1234 /boot/efi vfat umask=0077 0 2\n";

impl Original {
    /// Snapshots 0, 1, 2, 4, 6 as [`TREE`] says, 4 deployed in `tmp0`, the next to start; `/var` shared.
    pub fn new() -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        ast::sys::mount::make_private().expect("private");
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("ast-original-").tempdir_in(base).expect("dir");
        let (image, top, root) = (dir.path().join("image"), dir.path().join("top"), dir.path().join("root"));
        std::fs::File::create(&image).and_then(|f| f.set_len(256 << 20)).expect("image");
        shell("mkfs.btrfs", &["-q", "-f", &image.to_string_lossy()]);
        let device = shell("losetup", &["--find", "--show", &image.to_string_lossy()]);
        std::fs::create_dir_all(&top).expect("dir");
        shell("mount", &["-o", "subvolid=5,compress=zstd", &device, &top.to_string_lossy()]);
        for name in ["@.snapshots", "@home", "@var", "@etc", "@boot"] {
            btrfs::create_subvolume(&top.join(name)).expect("subvolume");
        }
        for (subvol, at) in [("@.snapshots", ".snapshots"), ("@var", "var")] {
            let target = root.join(at);
            std::fs::create_dir_all(&target).expect("dir");
            shell("mount", &["-o", &format!("subvol={subvol}"), &device, &target.to_string_lossy()]);
        }
        shell("umount", &[&top.to_string_lossy()]);
        // The last unmount frees it, however this process ends.
        shell("losetup", &["-d", &device]);
        let this = Self { _dir: dir, root };
        this.fill();
        this
    }

    fn fill(&self) {
        fill(&self.root);
    }

    /// Root, /etc and /boot of a snapshot under the name that the original gives it, with a word that tells it apart.
    pub fn snapshot(&self, name: &str, word: &str) {
        snapshot(&self.root, name, word);
    }

    pub fn remove(&self, name: &str) {
        btrfs::delete_subvolume(&self.at(name)).expect("deleted");
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.root.join(".snapshots").join(name)
    }

    pub fn layout(&self) -> Layout {
        Layout::of_sysroot(&self.root)
    }

    pub fn command(&self, words: &[&str]) -> Command {
        // Not `env!`: this file is part of another package, too.
        let Some(program) = option_env!("CARGO_BIN_EXE_ast") else { panic!("no test of the package that has the program") };
        let mut command = Command::new(program);
        command.arg("--sysroot").arg(&self.root).args(words).env_remove("AST_LOG");
        command
    }

    pub fn ast(&self, words: &[&str]) -> Said {
        let said = Said::of(&mut self.command(words));
        documents::check(words, said.code, &said.out);
        said
    }

    pub fn ok(&self, words: &[&str]) -> String {
        let said = self.ast(words);
        assert_eq!(said.code, 0, "ast {words:?}: {}{}", said.out, said.err);
        said.out
    }

    /// Everything that the original has, down to the last byte and time, and nothing of ours.
    pub fn theirs(&self) -> Vec<String> {
        let default = shell("btrfs", &["subvolume", "get-default", &self.at("").to_string_lossy()]);
        let mut all = vec![default.split(" gen ").next().unwrap_or_default().to_owned()];
        for dir in ["rootfs", "etc", "boot", "var"] {
            let paths = file::names(&self.at(dir)).expect("names").into_iter().map(|name| self.at(dir).join(name));
            for path in paths.filter(|path| btrfs::is_subvolume(path)) {
                all.push(format!(
                    "{} {:?} {:?}",
                    path.display(),
                    btrfs::uuids(&path).expect("uuid"),
                    btrfs::is_read_only(&path).expect("flag")
                ));
            }
        }
        let script = "cd \"$0\" && find rootfs etc boot var ast/snapshots -mindepth 1 -printf '%p %M %U %G %T@ %s %l\\n' \
            | grep -Ev '^(rootfs|etc|boot|var)/[a-z]+-[0-9]+ l' | sort
            find rootfs etc boot var ast/snapshots ast/fstree ast/part ast/upstate -type f -exec sha256sum {} + 2>/dev/null | sort";
        all.extend(shell("bash", &["-c", script, &self.at("").to_string_lossy()]).lines().map(str::to_owned));
        all
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        for at in ["boot/grub", "boot", "top", "var", ".snapshots"] {
            drop(ast::sys::mount::unmount_lazy(&self.root.join(at)));
        }
    }
}

/// Nothing of the original has changed.
pub fn same(machine: &Original, before: &[String], when: &str) {
    let now = machine.theirs();
    let differs: Vec<_> = now.iter().zip(before).filter(|(a, b)| a != b).take(3).collect();
    assert!(now.len() == before.len() && differs.is_empty(), "{when}: {} lines, then {}: {differs:#?}", before.len(), now.len());
}

/// What the original left on the disk that is seen at `root`.
pub fn fill(root: &Path) {
    let at = |name: &str| root.join(".snapshots").join(name);
    for dir in ["rootfs", "etc", "boot", "var", "ast/snapshots", "ast/root", "ast/tmp"] {
        file::make_dirs(&at(dir)).expect("dir");
    }
    for number in ["0", "1", "2", "4", "6"] {
        snapshot(root, number, number);
    }
    for (name, of) in [("tmp", "1"), ("tmp0", "4")] {
        for part in ["rootfs/snapshot", "etc/etc", "boot/boot"] {
            btrfs::snapshot(&at(&format!("{part}-{of}")), &at(&format!("{part}-{name}")), btrfs::Access::Writable).expect("deployed");
        }
    }
    write(&at("etc/etc-tmp0/hostname"), "kiosk");
    let next = btrfs::subvolume_id(&at("rootfs/snapshot-tmp0")).expect("its id").to_string();
    shell("btrfs", &["subvolume", "set-default", &next, &at("").to_string_lossy()]);
    write(&at("ast/fstree"), TREE);
    write(&at("ast/part"), &btrfs::filesystem_uuid(&at("")).expect("uuid"));
    write(&at("ast/upstate"), "0\n2022-05-01 12:00:00");
    for (number, text) in
        [("1", "multiuser system\nsecond line"), ("4", "applications"), ("2", "Plasma \u{1b}[31mfull desktop"), ("9", "deleted long ago")]
    {
        write(&at(&format!("ast/snapshots/{number}-desc")), text);
    }
    file::make_dirs(&root.join("var/lib/hello/empty")).expect("dir");
    std::os::unix::fs::symlink("../run", root.join("var/run")).expect("link");
    write(&root.join("var/lib/hello/conf"), "of the package");
    write(&root.join("var/lib/hello/database"), "of the user");
    file::syncfs(&at("")).expect("sync");
}

/// Root, /etc and /boot of a snapshot under the name that the original gives it, with a word that tells it apart.
pub fn snapshot(root: &Path, name: &str, word: &str) {
    let at = |name: &str| root.join(".snapshots").join(name);
    for part in ["rootfs/snapshot", "etc/etc", "boot/boot"] {
        let path = at(&format!("{part}-{name}"));
        btrfs::create_subvolume(&path).expect("subvolume");
        write(&path.join("word"), word);
        match part {
            "rootfs/snapshot" => {
                let db = path.join("usr/share/ast/db/local");
                file::make_dirs(&db.join("hello-1-1")).expect("dir");
                write(&db.join("ALPM_DB_VERSION"), "9\n");
                write(&db.join("hello-1-1/desc"), "%NAME%\nhello\n\n%VERSION%\n1-1\n");
                let files = "%FILES%\nusr/bin/hello\nvar/\nvar/lib/\nvar/lib/hello/\nvar/lib/hello/conf\nvar/lib/hello/empty/\nvar/run\nvar/../../escape\n";
                write(&db.join("hello-1-1/files"), files);
                write(&path.join("usr/share/ast/snap"), word);
            }
            "etc/etc" => {
                write(&path.join("ast.conf"), "aur::True\n");
                write(&path.join("fstab"), FSTAB);
                file::make_dirs(&path.join("default")).expect("dir");
                write(&path.join("default/grub"), "GRUB_CMDLINE_LINUX_DEFAULT=\"loglevel=3 quiet\"\n");
            }
            _ => {
                write(&path.join("vmlinuz-linux"), &"kernel ".repeat(9000));
                write(&path.join("initramfs-linux.img"), &"image ".repeat(9000));
                file::make_dirs(&path.join("grub")).expect("dir");
                file::make_dirs(&path.join("efi")).expect("dir");
            }
        }
        btrfs::set_read_only(&path, true).expect("sealed");
    }
}
