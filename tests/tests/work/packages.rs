//! Transactions with the real pacman, on a system that it installed, against a mirror over HTTP.

use ast::layout::{PACMAN_DB, Part};
use ast::pacman::{self, Cause, Feed, PacmanError, PackageSet, installed, update_fingerprint};
use ast::sys::btrfs;
use ast::verify;
use ast::work::{Parts, WorkError, WorkingCopy};
use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::repo::State;
use ast_tests::lab::sign::Signer;

use crate::bed::{Bed, Mirror, ask, base, sh};

fn set(copy: &WorkingCopy) -> PackageSet {
    installed(&copy.parts().root).expect("a database")
}

fn copy_using(bed: &Bed, mirror: &Mirror) -> WorkingCopy {
    let copy = bed.copy();
    mirror.is_used_by(&copy.parts().etc);
    copy
}

fn cause(result: Result<pacman::Change, PacmanError>) -> Cause {
    let error = result.expect_err("it cannot be done");
    error.cause().unwrap_or_else(|| panic!("no cause: {error}")).clone()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn s12_an_installed_system_is_whole() {
    let bed = Bed::with_system();
    let parts = Parts::of_set(&bed.layout, base());
    assert_eq!(verify::check(&parts, verify::Disk::Plain), []);
    let copy = bed.copy();
    ask(&copy, &["true"]);
    let ready = copy.finish().expect("finished");
    assert_eq!(ready.findings(), []);
}

#[test]
fn r4_packages_are_installed_and_removed_and_compared() {
    let (bed, mirror) = (Bed::with_system(), Mirror::of(State::V1));
    let copy = copy_using(&bed, &mirror);
    let mut lines = 0;
    let mut each = |_: &str| lines += 1;
    let change = pacman::install(&copy, &words(&["hello"]), Feed::Lines(&mut each)).expect("installed");
    assert!(lines > 0, "no progress was told");
    assert_eq!(change.added.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["hello"]);
    assert!(ask(&copy, &["hello"]).contains("ello"));
    assert!(pacman::install(&copy, &words(&["hello"]), Feed::Nobody).expect("there already").is_empty());

    let change = pacman::remove(&copy, &words(&["hello"]), Feed::Nobody).expect("removed");
    assert_eq!(change.removed.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["hello"]);
    assert!(set(&copy).get("hello").is_none());

    assert_eq!(cause(pacman::install(&copy, &words(&["no-such-thing"]), Feed::Nobody)), Cause::NoSuchPackage);
    assert_eq!(cause(pacman::remove(&copy, &words(&["glibc"]), Feed::Nobody)), Cause::Dependency);
    std::fs::write(copy.parts().root.join("usr/bin/hello"), "mine").expect("written");
    assert_eq!(cause(pacman::install(&copy, &words(&["hello"]), Feed::Nobody)), Cause::FileConflict);

    let root = copy.parts().root.clone();
    std::fs::remove_file(root.join("usr/bin/hello")).expect("gone");
    // A killed pacman leaves its lock.
    std::fs::write(root.join(PACMAN_DB).join("db.lck"), "").expect("written");
    pacman::install(&copy, &words(&["hello"]), Feed::Nobody).expect("in spite of the lock");
    let ready = copy.finish().expect("finished");
    assert_eq!(ready.findings(), []);
    assert!(!root.join(PACMAN_DB).join("db.lck").exists());
    assert!(installed(&bed.part(Part::Root)).expect("read").get("hello").is_none(), "the source was written");
    sh(&format!("cd {} && sha256sum --check --strict --quiet ast.sums", ready.parts().boot.display()));
}

#[test]
fn b8_s12_an_upgrade_brings_kernel_modules_and_initramfs_together() {
    let (bed, mirror) = (Bed::with_system(), Mirror::of(State::V1));
    let etc = bed.part(Part::Etc);
    btrfs::set_read_only(&etc, false).expect("opened");
    mirror.is_used_by(&etc);
    btrfs::set_read_only(&etc, true).expect("sealed");
    let parts = Parts::of_set(&bed.layout, base());
    let scratch = tempfile::tempdir().expect("dir");
    let generation = |part: Part| sh(&format!("btrfs subvolume show {} | grep -i 'generation:' | head -1", bed.part(part).display()));
    let before = Part::ALL.map(generation);
    assert_eq!(pacman::check_updates(&parts, scratch.path()).expect("asked"), [], "v1 is what is installed");

    mirror.offers(State::V2);
    let updates = pacman::check_updates(&parts, scratch.path()).expect("asked");
    assert!(updates.iter().any(|u| u.name == "linux"), "{updates:?}");
    assert_eq!(update_fingerprint(&updates), update_fingerprint(&pacman::check_updates(&parts, scratch.path()).expect("again")));
    assert_eq!(Part::ALL.map(generation), before, "a check wrote into the snapshot");
    assert!(ast::sys::file::names(&bed.layout.work()).expect("list").is_empty(), "a check made a copy");

    let copy = bed.copy();
    let kernel = |boot: &std::path::Path| std::fs::read(boot.join("vmlinuz-linux")).expect("kernel");
    let image = |boot: &std::path::Path| std::fs::read(boot.join("initramfs-linux.img")).expect("image");
    let change = pacman::upgrade(&copy, Feed::Nobody).expect("upgraded");
    assert_eq!(change.changed.len(), updates.len(), "{change} against {updates:?}");
    assert!(pacman::upgrade(&copy, Feed::Nobody).expect("nothing left").is_empty());
    let ready = copy.finish().expect("whole");
    assert_eq!(ready.findings(), []);
    assert_ne!(kernel(&ready.parts().boot), kernel(&parts.boot));
    assert_ne!(image(&ready.parts().boot), image(&parts.boot));
}

#[test]
fn s12_an_image_without_our_program_is_refused_though_pacman_says_nothing() {
    let (bed, mirror) = (Bed::with_system(), Mirror::of(State::V2NoBinary));
    let copy = copy_using(&bed, &mirror);
    pacman::upgrade(&copy, Feed::Nobody).expect("pacman is content");
    let error = copy.finish().expect_err("it would not boot");
    let WorkError::NotWhole(findings) = &error else { panic!("{error}") };
    assert!(findings.iter().any(|f| f.to_string().contains("/boot/initramfs-linux.img: our program")), "{error}");
    assert!(ast::sys::file::names(&bed.layout.work()).expect("list").is_empty(), "the copy was left");
}

#[test]
fn a_mirror_that_fails_is_understood_and_nothing_is_kept() {
    let (bed, mirror) = (Bed::with_system(), Mirror::of(State::V1));
    let before = sh(&format!("find {} -printf '%P %T@ %s\\n' | sort | sha256sum", bed.layout.sets().display()));
    // The lists of the snapshot are of v1, and the mirror has moved on.
    let gone = mirror.offers_copy_of(State::V1);
    let copy = copy_using(&bed, &mirror);
    sh(&format!("rm {}/hello-*", gone.display()));
    let cache = tempfile::tempdir().expect("dir");
    let copy = copy.with_cache(Some(cache.path().to_owned()));
    assert_eq!(cause(pacman::install(&copy, &words(&["hello"]), Feed::Nobody)), Cause::Gone);
    drop(copy);

    // One byte of a package is another.
    let damaged = mirror.offers_copy_of(State::V1);
    let package = sh(&format!("ls {}/hello-*.zst", damaged.display()));
    sh(&format!("printf X | dd of={package} bs=1 seek=300 conv=notrunc status=none"));
    let copy = copy_using(&bed, &mirror).with_cache(Some(cache.path().to_owned()));
    assert!(matches!(cause(pacman::install(&copy, &words(&["hello"]), Feed::Nobody)), Cause::Key | Cause::Damaged));
    drop(copy);

    // Signed by nobody that the snapshot trusts.
    let stranger = mirror.offers_copy_of(State::V1);
    sh(&format!("cd {} && for f in *.db.tar.gz.sig; do head -c 100 /dev/urandom > $f; done", stranger.display()));
    let copy = copy_using(&bed, &mirror);
    assert_eq!(cause(pacman::upgrade(&copy, Feed::Nobody)), Cause::Key);
    drop(copy);

    // No mirror at all.
    let copy = bed.copy();
    std::fs::write(copy.parts().etc.join("pacman.d/mirrorlist"), "Server = http://127.0.0.1:9/\n").expect("written");
    assert_eq!(cause(pacman::upgrade(&copy, Feed::Nobody)), Cause::Network);
    drop(copy);

    assert_eq!(sh(&format!("find {} -printf '%P %T@ %s\\n' | sort | sha256sum", bed.layout.sets().display())), before);
    assert!(ast::sys::file::names(&bed.layout.work()).expect("list").is_empty());
}

#[test]
fn r5_an_expired_key_is_reported_as_that() {
    const OWNER: &str = "Retired Packager <retired@example.org>";
    let (bed, mirror) = (Bed::with_system(), Mirror::of(State::V1));
    let signer = Signer::open(&cache_dir()).expect("key");
    let dir = mirror.offers_copy_of(State::V1);
    let home = tempfile::tempdir().expect("dir");
    // A key of long ago that was good for a week, a package signed in that week, and a database signed by a key that is good.
    sh(&format!(
        "cd {dir}; export GNUPGHOME={home}; chmod 700 $GNUPGHOME; then='--faked-system-time 20230101T000000!'
         gpg --quiet --batch --passphrase '' $then --quick-generate-key '{OWNER}' rsa2048 sign 1w 2>/dev/null
         package=$(ls hello-*.zst); rm $package.sig
         gpg --quiet --batch --no-armor $then --detach-sign $package 2>/dev/null
         gpg --batch --export > {home}/retired.gpg; gpgconf --kill all
         GNUPGHOME={signer} repo-add -q --sign --key {key} core.db.tar.gz $package; GNUPGHOME={signer} gpgconf --kill all",
        dir = dir.display(),
        home = home.path().display(),
        signer = signer.home().display(),
        key = signer.fingerprint(),
    ));
    let copy = copy_using(&bed, &mirror).with_cache(None);
    std::fs::copy(home.path().join("retired.gpg"), copy.parts().root.join("retired.gpg")).expect("copied");
    ask(&copy, &["gpg", "--homedir", "/etc/pacman.d/gnupg", "--batch", "--quiet", "--import", "/retired.gpg"]);
    pacman::upgrade(&copy, Feed::Nobody).expect("the lists are new");
    let error = pacman::install(&copy, &words(&["hello"]), Feed::Nobody).expect_err("its key is past its date");
    assert_eq!(error.cause(), Some(&Cause::ExpiredKey(OWNER.into())), "{error}");
}

#[test]
fn r5_keys_that_are_past_their_date_are_fetched_anew_and_the_upgrade_goes_on() {
    const OWNER: &str = "Busy Packager <busy@example.org>";
    let (bed, mirror) = (Bed::with_system(), Mirror::of(State::V1));
    let signer = Signer::open(&cache_dir()).expect("key");
    let home = tempfile::tempdir().expect("dir");
    let copy = copy_using(&bed, &mirror).with_cache(None);
    pacman::install(&copy, &words(&["hello"]), Feed::Nobody).expect("installed");
    let dir = mirror.offers_copy_of(State::V2);
    // The packager's key was good for a week; its date was moved since, which this machine has not heard.
    sh(&format!(
        "cd {dir}; export GNUPGHOME={home}; chmod 700 $GNUPGHOME; then='--faked-system-time 20230101T000000!'
         gpg --quiet --batch --passphrase '' $then --quick-generate-key '{OWNER}' rsa2048 sign 1w 2>/dev/null
         package=$(ls hello-*.zst); rm $package.sig
         gpg --quiet --batch --no-armor $then --detach-sign $package 2>/dev/null
         gpg --batch --export > {home}/old.gpg
         gpg --quiet --batch --passphrase '' --quick-set-expire $(gpg --list-keys --with-colons | sed -n 's/^fpr:::::::::\\(.*\\):/\\1/p') 0
         gpg --batch --export > {home}/new.gpg; gpgconf --kill all
         GNUPGHOME={signer} repo-add -q --sign --key {key} core.db.tar.gz $package; GNUPGHOME={signer} gpgconf --kill all",
        dir = dir.display(),
        home = home.path().display(),
        signer = signer.home().display(),
        key = signer.fingerprint(),
    ));
    for name in ["old.gpg", "new.gpg"] {
        std::fs::copy(home.path().join(name), copy.parts().root.join(name)).expect("copied");
    }
    let import = "gpg --homedir /etc/pacman.d/gnupg --batch --quiet --import";
    ask(&copy, &["sh", "-c", &format!("{import} /old.gpg")]);
    let error = pacman::upgrade(&copy, Feed::Nobody).expect_err("without the program nothing renews it");
    assert_eq!(error.cause(), Some(&Cause::ExpiredKey(OWNER.into())), "{error}");
    // The network of the distribution is not here: this stands for its answer, and for the main keys that vouch for it.
    let program = copy.parts().root.join("usr/bin/archlinux-keyring-wkd-sync");
    std::fs::write(&program, format!("#!/bin/sh\n{import} /new.gpg\npacman-key --lsign-key busy@example.org\n")).expect("written");
    sh(&format!("chmod 755 {}", program.display()));
    pacman::upgrade(&copy, Feed::Nobody).expect("upgraded");
    assert_eq!(set(&copy).version("hello"), Some("2-1"));
}
