//! A scratch root that the host's pacman installs into, in mount namespaces of its own.

use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::sign::Signer;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

/// Runs `$2…` with the root (`$1`) as a mount of its own, with /proc, /dev and /sys; nothing of it is seen outside,
/// and what it leaves running ends with it.
const INSIDE: &str = r#"
root=$1; shift
mount --make-rprivate /
mount --bind "$root" "$root"
mkdir -p "$root"/{proc,dev,sys,run,tmp}
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 dev "$root/dev"
for node in null zero full random urandom; do touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 run "$root/run"
"$@"
"#;

/// The root and its configuration of pacman.
pub struct Root {
    dir: TempDir,
}

impl Root {
    /// An empty root whose pacman requires signatures by the lab's key and takes packages from `repo`.
    pub fn new(repo: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = Self { dir };
        fs::create_dir_all(root.path("usr/share/ast/db")).unwrap();
        fs::create_dir_all(root.path("../cache")).unwrap();
        root.use_repo(repo);
        root
    }

    /// A path below the root.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    /// Packages come from another directory from now on.
    pub fn use_repo(&self, repo: &Path) {
        self.use_server(&format!("file://{}", repo.display()));
    }

    /// Packages come from another mirror from now on.
    pub fn use_server(&self, url: &str) {
        let cache = cache_dir();
        let keys = Signer::open(&cache).unwrap().gpg_dir(&cache).unwrap();
        let dir = self.dir.path().display();
        let text = format!(
            "[options]\nArchitecture = x86_64\nCheckSpace\nSigLevel = Required DatabaseRequired TrustedOnly\nLocalFileSigLevel = Required\nGPGDir = {}\n\
             RootDir = {dir}/root\nDBPath = {dir}/root/usr/share/ast/db\nCacheDir = {dir}/cache\nHookDir = {dir}/root/usr/share/libalpm/hooks\nLogFile = {dir}/log\n[core]\nServer = {url}\n",
            keys.display()
        );
        fs::write(self.path("../pacman.conf"), text).unwrap();
    }

    /// No key is known any more.
    pub fn empty_keyring(&self) {
        let empty = self.path("../keys");
        fs::create_dir(&empty).unwrap();
        let file = self.path("../pacman.conf");
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().map(|l| if l.starts_with("GPGDir") { format!("GPGDir = {}\n", empty.display()) } else { format!("{l}\n") });
        fs::write(&file, lines.collect::<String>()).unwrap();
    }

    /// Host's pacman on this root.
    pub fn pacman(&self, args: &[&str]) -> Output {
        let conf = self.path("../pacman.conf").display().to_string();
        self.inside(&[&["pacman", "--config", &conf, "--noconfirm"], args].concat())
    }

    /// These packages and what they need are installed.
    pub fn install(&self, names: &[&str]) {
        pacman_ok(&self.pacman(&[&["-Sy"], names].concat()));
    }

    /// Everything newer in the repository is installed. The database is fetched whatever its age: states are built in
    /// any order, and pacman leaves one alone that is no newer than its own.
    pub fn upgrade(&self) {
        pacman_ok(&self.pacman(&["-Syyu"]));
    }

    /// The database says that these are installed, in the versions of `repo`; no files of them are.
    pub fn pretend(&self, names: &[&str], repo: &Path) {
        let text = "for name; do for p in *; do case $p in \"$name\"-[0-9]*.zst) bsdtar -xOf \"$p\" .PKGINFO | sed -n 's/^pkgver = //p';; esac; done; done";
        let out = Command::new("bash").args(["-c", text, "bash"]).args(names).current_dir(repo).output().unwrap();
        for (name, version) in names.iter().zip(String::from_utf8(out.stdout).unwrap().lines()) {
            let dir = self.path("usr/share/ast/db/local").join(format!("{name}-{version}"));
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("desc"), format!("%NAME%\n{name}\n\n%VERSION%\n{version}\n\n%ARCH%\nx86_64\n\n")).unwrap();
            fs::write(dir.join("files"), "").unwrap();
        }
    }

    /// Installed packages.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let out = pacman_ok(&self.pacman(&["-Q"]));
        out.lines().filter_map(|l| l.split_once(' ')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    /// What the repository has newer, sorted.
    pub fn upgradable(&self) -> Vec<String> {
        pacman_ok(&self.pacman(&["-Syy"]));
        // Ends with 1 where there is nothing.
        let out = self.pacman(&["-Qu"]);
        assert!(!String::from_utf8_lossy(&out.stderr).contains("error"), "{out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        let mut names: Vec<String> = text.lines().filter_map(|l| l.split(' ').next()).map(str::to_owned).collect();
        names.sort_unstable();
        names
    }

    /// The kernels that have modules here.
    pub fn kernels(&self) -> Vec<String> {
        fs::read_dir(self.path("usr/lib/modules")).unwrap().flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect()
    }

    /// A shell command inside ended with 0; its output.
    pub fn chroot(&self, command: &str) -> String {
        let root = self.path("").display().to_string();
        pacman_ok(&self.inside(&["chroot", &root, "/bin/bash", "-c", command]))
    }

    /// Programs and libraries that miss a library.
    pub fn unresolved_libraries(&self) -> Vec<String> {
        let text = r#"find /usr/bin /usr/lib -xdev -type f \( -perm -100 -o -name '*.so*' \) ! -path '/usr/lib/grub/*' ! -path '/usr/lib/modules/*' -exec grep -lP '\A\x7fELF' {} + |
            while read -r f; do echo "$f:"; LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/systemd LD_TRACE_LOADED_OBJECTS=1 /usr/lib/ld-linux-x86-64.so.2 "$f" 2>/dev/null; done |
            awk '/:$/ { file = $1 } /not found/ { print file, $1 }'; true"#;
        self.chroot(text).lines().map(str::to_owned).collect()
    }

    fn inside(&self, argv: &[&str]) -> Output {
        let root = self.dir.path().join("root");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", INSIDE, "bash"]).arg(root).args(argv);
        // The host's directory for temporary files is not there, and pacman hands its environment to the hooks.
        command.env_remove("TMPDIR").env("LC_ALL", "C").env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").output().unwrap()
    }
}

/// It ended with 0; its output.
pub fn pacman_ok(out: &Output) -> String {
    assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

/// It was refused, with a message that has `word` in it.
pub fn pacman_fails(out: &Output, word: &str) {
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(!out.status.success() && text.contains(word), "ended with {} and said:\n{text}", out.status);
}

/// A copy of a repository that may be damaged.
pub fn copy_repo(repo: &Path) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let status = Command::new("cp").arg("-a").arg("--no-preserve=links").arg(repo.join(".")).arg(dir.path()).status().unwrap();
    assert!(status.success());
    dir
}
