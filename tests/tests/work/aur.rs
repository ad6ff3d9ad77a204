//! Packages of an AUR on the loopback: real PKGBUILDs, fetched by the real git, built by the real makepkg of the lab's pacman.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ast::layout::{PACMAN_DB, Part};
use ast::pacman::{self, AurError, BuildCause, Cause, Feed, PacmanError, installed};
use ast::sys::btrfs;
use ast::work::WorkingCopy;
use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::http::Server;
use ast_tests::lab::pool::Pool;
use ast_tests::lab::recipe::{Recipes, Suite};
use ast_tests::lab::repo::State;

use crate::bed::{Bed, Mirror, ask, listing, sh};

/// A bed whose snapshot may use an AUR of ours, and a second repository with what building needs.
pub struct Workshop {
    pub bed: Bed,
    pub aur: Aur,
    _mirror: Mirror,
    _devel: Server,
    _dir: tempfile::TempDir,
}

impl Workshop {
    pub fn new() -> Self {
        let (bed, mirror, aur) = (Bed::with_system(), Mirror::of(State::V1), Aur::new());
        let dir = tempfile::tempdir().expect("dir");
        make_devel(dir.path());
        let devel = Server::start(dir.path()).expect("server");
        let (etc, root) = (bed.part(Part::Etc), bed.part(Part::Root));
        for part in [&etc, &root] {
            btrfs::set_read_only(part, false).expect("opened");
        }
        mirror.is_used_by(&etc);
        let conf = std::fs::read_to_string(etc.join("pacman.conf")).expect("pacman.conf");
        std::fs::write(etc.join("pacman.conf"), format!("{conf}\n[devel]\nSigLevel = Never\nServer = {}\n", devel.host_url()))
            .expect("written");
        std::fs::copy(dir.path().join("devel.db.tar.gz"), root.join(PACMAN_DB).join("sync/devel.db")).expect("the list");
        std::fs::write(etc.join("ast.conf"), format!("# of this kiosk\naur::True\naur_url::{}\n", aur.url())).expect("written");
        bed.seal();
        Self { bed, aur, _mirror: mirror, _devel: devel, _dir: dir }
    }

    fn install(&self, copy: &WorkingCopy, name: &str) -> Result<Vec<String>, PacmanError> {
        let change = pacman::install(copy, &[name.to_owned()], Feed::Nobody)?;
        assert!(change.removed.is_empty(), "{change}");
        Ok(change.added.iter().map(|p| p.name.clone()).chain(change.changed.iter().map(|(name, _, new)| format!("{name} {new}"))).collect())
    }
}

/// The repository `devel`: what the lab's own leaves out of makepkg, as `base-devel`, and this machine's git.
fn make_devel(dir: &Path) {
    let pool = Pool::open(&cache_dir(), &Recipes::load().expect("recipes")).expect("pool");
    let makepkg = pool.suite(Suite::Trixie).find(|deb| deb.package == "makepkg").map(|deb| pool.path(deb)).expect("the lab has makepkg");
    sh(&format!(
        "cd {dir}; mkdir -p base-devel git/usr/bin
         dpkg-deb --fsys-tarfile {makepkg} | tar -x -C base-devel --wildcards './usr/bin/makepkg*' './etc/*' './usr/share/makepkg/lint_*'
         ln -s fakeroot-sysv base-devel/usr/bin/fakeroot
         sed -i 's/^OPTIONS=.*/OPTIONS=(!strip !debug !lto docs libtool staticlibs emptydirs !zipman purge)/; s/^COMPRESSZST=.*/COMPRESSZST=(zstd -c -q -1 -)/' base-devel/etc/makepkg.conf
         cp -L $(command -v git) git/usr/bin/git
         for name in base-devel git; do
           printf 'pkgname = %s\\npkgbase = %s\\npkgver = 1-1\\npkgdesc = lab\\nbuilddate = 1735689600\\nsize = 1\\narch = any\\n' $name $name > $name/.PKGINFO
           (cd $name; bsdtar -cf - --uid 0 --gid 0 .PKGINFO * | zstd -q -1 > ../$name-1-1-any.pkg.tar.zst)
           rm -r $name
         done
         repo-add -q devel.db.tar.gz *.zst",
        dir = dir.display(),
        makepkg = makepkg.display()
    ));
}

/// A server of git repositories, as the AUR is one.
pub struct Aur {
    dir: tempfile::TempDir,
    port: u16,
    daemon: Child,
}

impl Drop for Aur {
    fn drop(&mut self) {
        self.daemon.kill().expect("it ran");
        self.daemon.wait().expect("it ended");
    }
}

impl Aur {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("dir");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let daemon = PathBuf::from(sh("git --exec-path")).join("git-daemon");
        let daemon = Command::new(daemon)
            .args(["--listen=127.0.0.1", "--reuseaddr", "--export-all", &format!("--port={port}")])
            .arg(format!("--base-path={}", dir.path().display()))
            .arg(dir.path())
            .spawn()
            .expect("git has its daemon");
        Self { dir, port, daemon }
    }

    fn url(&self) -> String {
        format!("git://127.0.0.1:{}/", self.port)
    }

    /// A commit in the repository `base` with these files more.
    fn commit(&self, base: &str, files: &[(&str, &str)]) {
        let repository = self.dir.path().join(format!("{base}.git"));
        let work = tempfile::tempdir().expect("dir");
        let git =
            format!("GIT_CONFIG_GLOBAL=/dev/null git -c safe.directory='*' -c user.name=x -c user.email=x@x -C {}", work.path().display());
        if repository.exists() {
            sh(&format!("GIT_CONFIG_GLOBAL=/dev/null git clone -q {} {}", repository.display(), work.path().display()));
        } else {
            sh(&format!("git init -q --bare -b master {0}; {git} init -q -b master; {git} remote add origin {0}", repository.display()));
        }
        for (name, content) in files {
            let path = work.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, content).expect("written");
        }
        sh(&format!("{git} add -A; {git} commit -q -m x; {git} push -q origin master"));
    }

    /// The same of a PKGBUILD, with the `.SRCINFO` that makepkg makes of it.
    fn publish(&self, base: &str, pkgbuild: &str, files: &[(&str, &str)]) {
        let dir = tempfile::tempdir().expect("dir");
        std::fs::write(dir.path().join("PKGBUILD"), pkgbuild).expect("written");
        sh(&format!("chown 65534:65534 {}", dir.path().display()));
        let info = sh(&format!("cd {}; setpriv --reuid=65534 --regid=65534 --clear-groups makepkg --printsrcinfo", dir.path().display()));
        self.commit(base, &[&[("PKGBUILD", pkgbuild), (".SRCINFO", info.as_str())], files].concat());
    }

    /// A library, of this version.
    pub fn publish_lib(&self, version: u32) {
        // By hand, where makepkg has nothing to say that is not plain: it takes a second.
        let info =
            format!("pkgbase = aur-lib\n\tpkgver = {version}\n\tpkgrel = 1\n\tarch = x86_64\n\tmakedepends = hello\n\npkgname = aur-lib\n");
        self.commit("aur-lib", &[("PKGBUILD", &lib(version)), (".SRCINFO", &info)]);
    }

    /// An application, the library it needs to run, and a tool that is only needed to build it: three PKGBUILDs.
    fn with_a_chain(&self) {
        self.publish_lib(1);
        self.publish(
            "aur-tool",
            "pkgname=aur-tool\npkgver=1\npkgrel=1\narch=(any)\npackage() { mkdir -p \"$pkgdir/usr/bin\"; \
             printf '#!/bin/sh\\necho made with a tool\\n' > \"$pkgdir/usr/bin/aur-tool\"; chmod 755 \"$pkgdir/usr/bin/aur-tool\"; }\n",
            &[],
        );
        let [signature, key, fingerprint] = signed_notes();
        let pkgbuild = APP.replace("FINGERPRINT", &fingerprint);
        let keys = format!("keys/pgp/{fingerprint}.asc");
        self.publish("aur-app", &pkgbuild, &[("notes.txt", "notes\n"), ("notes.txt.asc", &signature), (&keys, &key)]);
    }
}

/// A library whose build needs a package of the repositories, and tells what it can do to the system it is built in.
fn lib(version: u32) -> String {
    format!(
        r#"
pkgname=aur-lib
pkgver={version}
pkgrel=1
arch=(x86_64)
makedepends=(hello)
build() {{
  hello > greeting
  id -un > who; id -u >> who; grep -h NoNewPrivs /proc/self/status >> who; grep -h CapBnd /proc/self/status >> who
  for f in /usr/litter /etc/litter /var/litter /var/tmp/litter /boot/litter /var/cache/pacman/pkg/litter; do
    ! touch $f 2>/dev/null || echo "wrote $f" >> who
  done
  ! cat /etc/shadow >/dev/null 2>&1 || echo "read shadow" >> who
}}
package() {{
  install -Dm644 greeting "$pkgdir/usr/share/aur-lib/greeting"
  install -Dm644 who "$pkgdir/usr/share/aur-lib/who"
}}
"#
    )
}

/// Two packages of one PKGBUILD, out of a source that is signed. The sum is that of "notes\n".
const APP: &str = r#"
pkgbase=aur-app
pkgname=(aur-app aur-app-data)
pkgver=2.0
pkgrel=1
epoch=1
arch=(x86_64)
makedepends=(aur-tool aur-lib)
source=(notes.txt notes.txt.asc)
sha256sums=(444e0fffbd825e9610ff5b199485707a0c895339ae80c15cc8a8aee41b106fda SKIP)
validpgpkeys=(FINGERPRINT)
package_aur-app() {
  depends=('aur-lib>=1' aur-app-data=1:2.0 bash)
  mkdir -p "$pkgdir/usr/share/aur-app"
  aur-tool > "$pkgdir/usr/share/aur-app/tool"
  cp /usr/share/aur-lib/greeting "$pkgdir/usr/share/aur-app/greeting"
}
package_aur-app-data() { install -Dm644 notes.txt "$pkgdir/usr/share/aur-app/notes"; }
"#;

/// A signature of "notes\n", the key that made it, and its fingerprint.
fn signed_notes() -> [String; 3] {
    let dir = tempfile::tempdir().expect("dir");
    let gpg = |words: &str| {
        sh(&format!("cd {0} && gpg --homedir {0} --batch --quiet --armor --passphrase '' {words} 2>/dev/null", dir.path().display()))
    };
    sh(&format!("chmod 700 {0}; printf 'notes\\n' > {0}/notes.txt", dir.path().display()));
    gpg("--quick-generate-key 'Maintainer <m@example.org>' ed25519 sign never");
    gpg("--detach-sign notes.txt");
    let listed = gpg("--with-colons --list-keys | grep ^fpr:");
    let key = gpg("--export");
    sh(&format!("gpgconf --homedir {} --kill all", dir.path().display()));
    let signature = std::fs::read_to_string(dir.path().join("notes.txt.asc")).expect("signed");
    [signature, key, listed.trim_start_matches("fpr").trim_matches(':').to_owned()]
}

fn aur_error(result: Result<Vec<String>, PacmanError>) -> AurError {
    match result {
        Err(PacmanError::Aur(error)) => error,
        other => panic!("no failure of the AUR: {other:?}"),
    }
}

#[test]
fn r4_r6_a_chain_is_built_and_nothing_of_the_building_is_left() {
    let shop = Workshop::new();
    shop.aur.with_a_chain();
    let cache = tempfile::tempdir().expect("dir");
    let copy = shop.bed.copy().with_cache(Some(cache.path().to_owned()));
    ask(&copy, &["true"]);
    let passwd = std::fs::read(copy.parts().etc.join("passwd")).expect("passwd");
    let before = names_below(&copy);
    assert_eq!(shop.install(&copy, "aur-app").expect("built and installed"), ["aur-app", "aur-app-data", "aur-lib"]);

    let set = installed(&copy.parts().root).expect("a database");
    assert_eq!(set.version("aur-app"), Some("1:2.0-1"));
    assert_eq!(
        ["aur-app", "aur-app-data", "aur-lib"].map(|name| set.get(name).map(|p| p.explicit)),
        [Some(true), Some(false), Some(false)]
    );
    let share = |path: &str| std::fs::read_to_string(copy.parts().root.join("usr/share").join(path)).expect(path);
    assert!(share("aur-app/greeting").contains("ello"), "built without what the repositories have");
    assert_eq!((share("aur-app/tool").as_str(), share("aur-app/notes").as_str()), ("made with a tool\n", "notes\n"));
    assert_eq!(share("aur-lib/who"), "ast-build\n61000\nNoNewPrivs:\t1\nCapBnd:\t0000000000000000\n");

    // R6: what is new is the two packages, the list of packages, the log: no user, no tool, no directory, no file of that user.
    assert_eq!(std::fs::read(copy.parts().etc.join("passwd")).expect("passwd"), passwd);
    let allowed = ["root/usr/share/aur-app", "root/usr/share/aur-lib", "root/usr/share/ast/db", "var/log/pacman.log", "var/cache/ldconfig"];
    let new: Vec<_> = names_below(&copy).into_iter().filter(|line| !before.contains(line)).collect();
    let litter: Vec<_> = new.iter().filter(|line| !allowed.iter().any(|path| line.starts_with(path))).collect();
    assert!(litter.is_empty() && new.len() > 4, "{litter:?}");
    for part in Part::ALL {
        // Kind, path, then mode, owner, group and more; a time may hold any number.
        let is_his = |line: &String| line.split('\t').nth(2).is_some_and(|rest| rest.split(' ').skip(1).take(2).any(|id| id == "61000"));
        let foreign: Vec<_> = listing(copy.parts().get(part).expect("part")).into_iter().filter(is_his).collect();
        assert!(foreign.is_empty(), "{foreign:?}");
    }
    assert_eq!(ast::sys::file::names(&shop.bed.layout.work()).expect("list").len(), 1, "the place to build was left");

    // Another snapshot gets the very files, though nothing could be built any more.
    shop.aur.commit("aur-lib", &[("PKGBUILD", "exit 1\n")]);
    shop.aur.commit("aur-app", &[("PKGBUILD", "exit 1\n")]);
    let other = shop.bed.copy().with_cache(Some(cache.path().to_owned()));
    assert_eq!(shop.install(&other, "aur-app").expect("out of the cache"), ["aur-app", "aur-app-data", "aur-lib"]);
    drop(other);

    assert!(shop.install(&copy, "aur-app").expect("there already").is_empty());
    // Both packages of a PKGBUILD that has left the AUR stay as they are.
    std::fs::rename(shop.aur.dir.path().join("aur-app.git"), shop.aur.dir.path().join("gone")).expect("renamed");
    assert!(pacman::upgrade(&copy, Feed::Nobody).expect("they stay").is_empty());
    pacman::remove(&copy, &["aur-app".into()], Feed::Nobody).expect("as any package");
    assert!(installed(&copy.parts().root).expect("a database").get("aur-lib").is_none());
    assert_eq!(copy.finish().expect("finished").findings(), []);
}

/// Everything in the copy, as `PART/PATH`.
fn names_below(copy: &WorkingCopy) -> std::collections::BTreeSet<String> {
    let list = sh(&format!("cd {} && find root etc var boot", copy.dir().display()));
    list.lines().map(str::to_owned).collect()
}

#[test]
fn r4_an_upgrade_builds_what_is_newer_and_nothing_else() {
    let shop = Workshop::new();
    shop.aur.publish_lib(1);
    let copy = shop.bed.copy();
    pacman::upgrade(&copy, Feed::Nobody).expect("nothing of the AUR is there");
    assert_eq!(shop.install(&copy, "aur-lib").expect("built"), ["aur-lib"]);
    assert!(pacman::upgrade(&copy, Feed::Nobody).expect("nothing is newer").is_empty());

    shop.aur.publish_lib(10);
    assert_eq!(pacman::upgrade(&copy, Feed::Nobody).expect("built anew").to_string(), "  aur-lib 1-1 -> 10-1\n");
    assert!(installed(&copy.parts().root).expect("a database").get("aur-lib").is_some_and(|p| p.explicit), "the reason was lost");

    // A child that lacks it builds it itself: no cache has its file, and without the AUR that is said.
    let child = shop.bed.copy();
    let error = pacman::share_from_cache(&child, &copy.parts().root, Feed::Nobody).expect_err("it was never in the cache");
    assert!(matches!(&error, PacmanError::NotCached { name, .. } if name == "aur-lib"), "{error}");
    let change = pacman::share(&child, &copy.parts().root, Feed::Nobody).expect("built again");
    assert_eq!(change.to_string(), "+ aur-lib 10-1\n");
    drop(child);

    // One that does not build any more fails the whole upgrade; one that is gone stays.
    shop.aur.publish_lib(11);
    shop.aur.commit("aur-lib", &[("PKGBUILD", &lib(11).replace("hello > greeting", "false"))]);
    let error = pacman::upgrade(&copy, Feed::Nobody).expect_err("it does not build");
    assert!(matches!(&error, PacmanError::Aur(AurError::Build { name, cause: BuildCause::Other, .. }) if name == "aur-lib"), "{error}");
    std::fs::rename(shop.aur.dir.path().join("aur-lib.git"), shop.aur.dir.path().join("gone")).expect("renamed");
    assert!(pacman::upgrade(&copy, Feed::Nobody).expect("it stays as it is").is_empty());
}

#[test]
fn r7_what_is_wrong_with_sources_is_said_and_the_copy_is_as_it_was() {
    let shop = Workshop::new();
    let copy = shop.bed.copy();
    ask(&copy, &["true"]);
    let before = names_below(&copy);
    assert!(matches!(aur_error(shop.install(&copy, "no-such-thing")), AurError::NotThere { name, .. } if name == "no-such-thing"));

    // A source that is another one than its PKGBUILD says; one that nobody known has signed. Both before anything of it is run.
    let [signature, _, fingerprint] = signed_notes();
    let alone = APP.replace("makedepends=(aur-tool aur-lib)", "").replace("'aur-lib>=1'", "").replace("FINGERPRINT", &fingerprint);
    shop.aur.publish("aur-app", &alone, &[("notes.txt.asc", &signature)]);
    for (notes, expected) in [("other notes\n", BuildCause::Checksum), ("notes\n", BuildCause::Signature)] {
        shop.aur.commit("aur-app", &[("notes.txt", notes)]);
        let error = aur_error(shop.install(&copy, "aur-app"));
        assert!(matches!(&error, AurError::Build { cause, .. } if *cause == expected), "{error}");
    }

    let info = |more: &str| format!("pkgbase = x\npkgver = 1\npkgrel = 1\narch = any\npkgname = x\n{more}");
    for (base, text, message) in [
        ("hostile", info("depends = --config=/tmp/x\n"), "line 6: \"--config=/tmp/x\" cannot be a depends"),
        ("climbing", info("pkgname = ../../../etc/cron.d/x\n"), "cannot be a pkgname"),
        ("other-name", info(""), "the AUR's sources other-name do not make other-name"),
        ("silent", "pkgbase = silent\n".to_owned(), "it has no pkgname"),
    ] {
        shop.aur.commit(base, &[(".SRCINFO", &text), ("PKGBUILD", "touch /usr/run-by-root\n")]);
        let error = shop.install(&copy, base).expect_err(base);
        let said = format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default());
        assert!(said.contains(message), "{base}: {said}");
    }
    // Two that wait for each other.
    for (base, other) in [("chicken", "egg"), ("egg", "chicken")] {
        let text = format!("pkgbase = {base}\npkgver = 1\npkgrel = 1\narch = any\nmakedepends = {other}\npkgname = {base}\n");
        shop.aur.commit(base, &[(".SRCINFO", &text)]);
    }
    assert!(matches!(aur_error(shop.install(&copy, "egg")), AurError::Circle(circle) if circle == ["chicken", "egg"]));
    // What says that it is one thing and is another: the package that was built decides.
    let liar = "pkgname=glibc\npkgver=999\npkgrel=1\narch=(any)\npackage() { :; }\n";
    let text = "pkgbase = harmless\npkgver = 1\npkgrel = 1\narch = any\npkgname = harmless\n";
    shop.aur.commit("harmless", &[(".SRCINFO", text), ("PKGBUILD", liar)]);
    assert!(matches!(aur_error(shop.install(&copy, "harmless")), AurError::NotMade(name) if name == "harmless"));
    for name in ["-Rdd", "../x", "a b", "$(reboot)", ".git"] {
        assert!(matches!(shop.install(&copy, name), Err(PacmanError::BadName(_))), "{name}");
    }
    assert_eq!(names_below(&copy), before);

    // Without the AUR the name is unknown, and the way out is told.
    std::fs::write(copy.parts().etc.join("ast.conf"), "aur::False\n").expect("written");
    let error = shop.install(&copy, "egg").expect_err("the AUR is not asked");
    assert_eq!(error.cause(), Some(&Cause::NoSuchPackage));
    assert!(Cause::NoSuchPackage.hint().contains("aur::True"));
}
