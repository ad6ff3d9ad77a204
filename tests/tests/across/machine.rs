//! An installed machine whose base is a real system, seen through the command, with a mirror that offers packages made on the spot.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ast::boot::block::BootBlock;
use ast::deploy::record::Record;
use ast::id::{DeployId, SnapshotId};
use ast::layout::{self, Layout, Part};
use ast::pacman::{PackageSet, installed};
use ast::store::machine::{Block, Firmware};
use ast::store::{Store, document};
use ast::sys::btrfs::{self, Access};
use ast::sys::{file, mount};
use ast::tree::{Label, Tree};
use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::http::Server;
use ast_tests::lab::repo::{self, State};
use ast_tests::lab::sign::Signer;

use crate::bed::{self, Bed, base, sh};
use crate::documents;

/// Says why it cannot run, and is true then.
pub fn skipped() -> bool {
    let no = !nix::unistd::geteuid().is_root();
    if no {
        eprintln!("skipped: only root can mount a disk");
    }
    no
}

/// What `ast` said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Its document.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Snapshot and result of each row.
    pub fn rows(&self) -> Vec<(u64, String)> {
        let row = |row: &serde_json::Value| (row["snapshot"].as_u64().expect("number"), row["result"].as_str().expect("word").to_owned());
        self.json()["rows"].as_array().expect("rows").iter().map(row).collect()
    }
}

/// Rows as in [`Said::rows`].
pub fn rows(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(id, word)| (*id, (*word).to_owned())).collect()
}

/// The machine. Its mounts are this test's alone.
pub struct Machine {
    program: PathBuf,
    pub root: PathBuf,
    repository: PathBuf,
    server: Option<Server>,
    // Last: the mounts go before what they are mounted from.
    dir: tempfile::TempDir,
    _bed: Bed,
}

impl Machine {
    /// With base 0 alone, which asks a mirror that offers what is installed.
    pub fn new() -> Self {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS | nix::sched::CloneFlags::CLONE_FS).expect("namespaces");
        mount::make_private().expect("private");
        let bed = Bed::with_system();
        let dir = bed::scratch();
        let root = dir.path().join("root");
        for name in [".snapshots", "boot/grub/ast", "var/cache/pacman/pkg", "run/ast"] {
            fs::create_dir_all(root.join(name)).expect("dir");
        }
        mount::bind(bed.layout.snapshots(), &root.join(".snapshots")).expect("mounted");
        let repository = dir.path().join("repository");
        let offered = repo::build(&cache_dir(), State::V1).expect("v1");
        // The packages are the lab's own; the databases are copies, since more is added to them.
        let (from, to) = (offered.display(), repository.display());
        sh(&format!("mkdir {to}; ln -s {from}/*.pkg.tar* {to}; cp -L {from}/*.db* {from}/*.files* {to}"));
        let server = Server::start(&repository).expect("a mirror");
        let machine = Self { program: program(), root, repository, server: Some(server), dir, _bed: bed };
        let etc = machine.layout().set_part(base(), Part::Etc);
        btrfs::set_read_only(&etc, false).expect("opened");
        let url = machine.server.as_ref().expect("running").host_url();
        fs::write(etc.join("pacman.d/mirrorlist"), format!("Server = {url}\n")).expect("mirror list");
        btrfs::set_read_only(&etc, true).expect("sealed");
        machine.fill();
        machine
    }

    /// The documents of an installed machine, and deployment 1 of the base.
    fn fill(&self) {
        let layout = self.layout();
        let d = DeployId::new(1);
        file::make_dirs(&layout.documents()).expect("dir");
        document::save(&layout.document(layout::TREE), &Tree::new(Label { description: "base snapshot".into(), created: 0 }))
            .expect("tree");
        let machine = ast::store::machine::Machine {
            fs_uuid: btrfs::filesystem_uuid(layout.snapshots()).expect("uuid"),
            firmware: Firmware::Bios,
            block: Block::Local,
            esp_uuid: None,
            grub_version: None,
            luks: Vec::new(),
            migration: None,
            later: Default::default(),
        };
        document::save(&layout.document(layout::MACHINE), &machine).expect("machine");
        file::make_dirs(&layout.deployment(d)).expect("dir");
        for (part, to, access) in [
            (Part::Root, layout.deployment_part(d, Part::Root), Access::ReadOnly),
            (Part::Etc, layout.deployment_part(d, Part::Etc), Access::Writable),
            (Part::Etc, layout.deployment_etc_base(d), Access::ReadOnly),
            (Part::Boot, layout.deployment_part(d, Part::Boot), Access::ReadOnly),
        ] {
            btrfs::snapshot(&layout.set_part(base(), part), &to, access).expect("snapshot");
        }
        let record = Record { d, set: base(), created: 0, by: "test".into(), later: Default::default() };
        document::save(&layout.deployment_record(d), &record).expect("record");
        file::replace(&layout.deployment_well(d), b"1\n").expect("well");
        self.store().medium().expect("a medium").create(&BootBlock::new(d)).expect("block");
    }

    pub fn layout(&self) -> Layout {
        Layout::of_sysroot(&self.root)
    }

    pub fn store(&self) -> Store {
        Store::open(&self.root).expect("a store")
    }

    /// Runs `ast` on the machine.
    pub fn ast(&self, words: &[&str]) -> Said {
        let out = Command::new(&self.program).arg("--sysroot").arg(&self.root).args(words).stdin(Stdio::null()).output().expect("ast");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let said = Said { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) };
        documents::check(words, said.code, &said.out);
        said
    }

    /// The same, which has to end with 0.
    pub fn ok(&self, words: &[&str]) -> Said {
        let said = self.ast(words);
        assert_eq!(said.code, 0, "ast {words:?}: {}\n{}", said.out, said.err);
        said
    }

    /// The command that would run `ast` on the machine.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--sysroot").arg(&self.root).args(words);
        command
    }

    /// A part of a snapshot as it is now.
    pub fn part(&self, snapshot: u32, part: Part) -> PathBuf {
        let store = self.store();
        let set = store.set_of(SnapshotId::new(snapshot)).expect("whole");
        store.layout().set_part(set, part)
    }

    /// Its packages.
    pub fn packages(&self, snapshot: u32) -> PackageSet {
        installed(&self.part(snapshot, Part::Root)).expect("a database")
    }

    /// The version of a package in several snapshots; empty where it is not.
    pub fn versions<const N: usize>(&self, name: &str, snapshots: [u32; N]) -> [String; N] {
        snapshots.map(|n| self.packages(n).version(name).unwrap_or_default().to_owned())
    }

    /// Which sets there are, and that no working copy is left.
    pub fn sets(&self) -> Vec<String> {
        assert_eq!(ast::volumes::work_copies(&self.layout()).expect("copies"), Vec::<String>::new(), "a copy was left");
        ast::volumes::sets(&self.layout()).expect("sets").iter().map(ToString::to_string).collect()
    }

    /// A snapshot has content of its own in /etc, as if it had been edited in a chroot.
    pub fn write_etc(&self, snapshot: u32, name: &str, text: &str) {
        self.ok(&["run", &snapshot.to_string(), "sh", "-c", "mkdir -p $(dirname /etc/$1); printf '%s' \"$2\" > /etc/$1", "sh", name, text]);
    }

    /// The text of a file in a snapshot's /etc; empty when it is not there.
    pub fn etc(&self, snapshot: u32, name: &str) -> String {
        fs::read_to_string(self.part(snapshot, Part::Etc).join(name)).unwrap_or_default()
    }

    /// The mirror offers this package, too, which needs `depends` and brings `/usr/share/NAME/version`.
    pub fn offer(&self, name: &str, version: &str, depends: &[&str]) {
        self.make(name, version, &depends.iter().map(|d| format!("depend = {d}\\n")).collect::<String>());
    }

    /// The same of a package in a group.
    pub fn offer_in_group(&self, name: &str, version: &str, group: &str) {
        self.make(name, version, &format!("group = {group}\\n"));
    }

    /// A copy of the lab's key, with an agent that no other test ends.
    fn key(&self) -> (PathBuf, String) {
        let signer = Signer::open(&cache_dir()).expect("key");
        let home = self.dir.path().join("key");
        if !home.exists() {
            sh(&format!("cp -a {} {}", signer.home().display(), home.display()));
        }
        (home, signer.fingerprint().to_owned())
    }

    /// The mirror offers what a package that it has brings under a newer version, with more lines in its description.
    pub fn offer_again(&self, name: &str, version: &str, info: &str) {
        let (home, key) = self.key();
        let tree = tempfile::tempdir_in(self.dir.path()).expect("dir");
        let script = format!(
            "cd {tree}; old=$(ls {repository}/{name}-[0-9]*.pkg.tar.zst | head -1); bsdtar -xpf $old; rm .MTREE
             sed -i 's/^pkgver = .*/pkgver = {version}-1/; s/^arch = .*/arch = any/' .PKGINFO; printf '{info}' >> .PKGINFO
             bsdtar -cnf - --format=mtree --options='!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link' --uid 0 --gid 0 $(find . -mindepth 1 ! -name .MTREE | sort) | gzip -n > .MTREE
             file={name}-{version}-1-any.pkg.tar.zst
             bsdtar -cf - --uid 0 --gid 0 $(ls -A) | zstd -q -1 -o {repository}/$file
             cd {repository}; export GNUPGHOME={home}
             gpg --no-permission-warning --batch --yes --quiet --no-armor --detach-sign $file
             repo-add -q --sign --key {key} core.db.tar.gz $file; gpgconf --kill all",
            tree = tree.path().display(),
            repository = self.repository.display(),
            home = home.display(),
        );
        sh(&script);
    }

    fn make(&self, name: &str, version: &str, info: &str) {
        let (home, key) = self.key();
        let tree = tempfile::tempdir_in(self.dir.path()).expect("dir");
        let script = format!(
            "cd {tree}; mkdir -p usr/share/{name}; echo {version} > usr/share/{name}/version
             printf 'pkgname = {name}\\npkgbase = {name}\\nxdata = pkgtype=pkg\\npkgver = {version}-1\\npkgdesc = made on the spot\\nbuilddate = 1735689600\\npackager = test\\nsize = 9\\narch = any\\n{info}' > .PKGINFO
             bsdtar -cnf - --format=mtree --options='!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link' --uid 0 --gid 0 $(find . -mindepth 1 ! -name .MTREE | sort) | gzip -n > .MTREE
             file={name}-{version}-1-any.pkg.tar.zst
             bsdtar -cf - --uid 0 --gid 0 .PKGINFO .MTREE $(ls) | zstd -q -1 -o {repository}/$file
             cd {repository}; export GNUPGHOME={home}
             gpg --no-permission-warning --batch --yes --quiet --no-armor --detach-sign $file
             repo-add -q --sign --key {key} core.db.tar.gz $file; gpgconf --kill all",
            tree = tree.path().display(),
            repository = self.repository.display(),
            home = home.display(),
        );
        sh(&script);
    }

    /// Somebody made this package and no mirror has it; its file is where pacman keeps those that it has downloaded.
    pub fn keep(&self, name: &str, version: &str) {
        self.offer(name, version, &[]);
        let file = format!("{name}-{version}-1-any.pkg.tar.zst");
        sh(&format!(
            "cd {}; mv {file} {}; rm {file}.sig; GNUPGHOME={} repo-remove -q --sign core.db.tar.gz {name} 2>&1",
            self.repository.display(),
            self.cache().display(),
            self.key().0.display(),
        ));
    }

    /// Where pacman keeps what it has downloaded.
    pub fn cache(&self) -> PathBuf {
        self.root.join("var/cache/pacman/pkg")
    }

    /// The mirror has lost the files of a package.
    pub fn lose(&self, name: &str) {
        sh(&format!("rm {}/{name}-*", self.repository.display()));
    }

    /// Nobody answers any more.
    pub fn stop_mirror(&mut self) {
        drop(self.server.take());
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(mount::unmount_lazy(&self.root.join(".snapshots")));
    }
}

/// The command, with the stop points of a debug build.
pub fn program() -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let status = Command::new(env!("CARGO")).args(["build", "--quiet", "-p", "ast"]).current_dir(&project).status();
    assert!(status.expect("cargo").success());
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project.join("target"), PathBuf::from);
    target.join("debug/ast")
}
