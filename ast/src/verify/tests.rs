//! A system in which everything is right, and what is found when one thing is not.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::grub::BootEnv;
use crate::layout::MOUNT_POINTS;
use crate::work::write_sums;

const VERSION: &str = "6.1.0-55-cloud-amd64";

/// An archive of files with the given content, as `cpio -H newc` writes it.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files.iter().chain([&("TRAILER!!!", &b""[..])]) {
        let mut header = String::from("070701");
        for (index, number) in [0, 0o100_644, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0].into_iter().enumerate() {
            assert!(index < 13);
            header.push_str(&format!("{number:08x}"));
        }
        bytes.extend(header.as_bytes());
        bytes.extend(name.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// What an image of ours has.
fn files() -> Vec<(String, Vec<u8>)> {
    let module = |name: &str| format!("usr/lib/modules/{VERSION}/kernel/fs/{name}");
    let names = ["init".into(), "usr/lib/ast/ast-initcpio".into(), "hooks/ast".into(), module("btrfs/btrfs.ko.zst"), module("fat/vfat.ko")];
    names.into_iter().map(|name: String| (name, vec![7; 5000])).collect()
}

fn image(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    // As mkinitcpio makes them: microcode in a plain archive first, padded, then the compressed one.
    let mut bytes = archive(&[("kernel/x86/microcode/AuthenticAMD.bin", b"microcode")]);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(zstd(&archive(&borrowed)));
    bytes
}

fn system() -> (tempfile::TempDir, Parts) {
    let dir = tempfile::tempdir().expect("dir");
    let parts = Parts::below(dir.path());
    for path in MOUNT_POINTS {
        fs::create_dir_all(parts.root.join(path)).expect("dir");
    }
    let put = |path: &Path, content: &[u8]| {
        fs::create_dir_all(path.parent().expect("parent")).expect("dir");
        fs::write(path, content).expect("written");
    };
    let init = parts.root.join("usr/lib/systemd/systemd");
    put(&init, b"\x7fELF");
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).expect("mode");
    fs::create_dir_all(parts.root.join("usr/bin")).expect("dir");
    symlink("usr/bin", parts.root.join("sbin")).expect("link");
    // An absolute link means the one of this root, not of the machine that looks.
    symlink("/usr/lib/systemd/systemd", parts.root.join("usr/bin/init")).expect("link");
    put(&parts.root.join("usr/lib/os-release"), b"NAME=x\nID=arch\n");
    put(&parts.root.join("usr/lib/modules").join(VERSION).join("modules.dep"), b"x");
    put(&parts.boot.join("vmlinuz-linux"), &kernel::tests::image(VERSION));
    put(&parts.boot.join("initramfs-linux.img"), &image(&files()));
    let env = BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], &[], "title").expect("env").encode().expect("bytes");
    put(&parts.boot.join("ast.env"), &env);
    write_sums(&parts.boot).expect("sums");
    (dir, parts)
}

#[test]
fn s12_a_whole_system_has_nothing_to_find() {
    let (_dir, parts) = system();
    assert_eq!(check(&parts, Disk::Plain), []);
}

#[test]
fn s12_images_that_booted_well_are_known_by_their_sums_and_their_bytes_are_still_asked() {
    let ((_one, known), (_other, parts)) = (system(), system());
    assert!(same_images(&known.boot, &parts.boot), "built alike");
    // How they are started may differ, and what is in them may not.
    fs::write(parts.boot.join(BOOT_ENV), "another title").expect("written");
    write_sums(&parts.boot).expect("sums");
    assert!(same_images(&known.boot, &parts.boot));
    let image = parts.boot.join("initramfs-linux.img");
    fs::write(&image, "rotten").expect("written");
    let found = |depth| check_to(&parts, Disk::Plain, depth).into_iter().map(|finding| finding.lack).collect::<Vec<_>>();
    assert!(same_images(&known.boot, &parts.boot) && found(Depth::NotIntoTheImages).contains(&Lack::Sum), "the bytes are not those of the sums");
    write_sums(&parts.boot).expect("sums");
    assert!(!same_images(&known.boot, &parts.boot), "another image");
    assert!(!found(Depth::NotIntoTheImages).contains(&Lack::Sum) && found(Depth::Whole).iter().any(|lack| matches!(lack, Lack::BadInitramfs(_))));
    for list in [&b""[..], b"\xff"] {
        fs::write(parts.boot.join(BOOT_SUMS), list).expect("written");
        assert!(!same_images(&parts.boot, &parts.boot), "a list that says nothing");
    }
    fs::remove_file(parts.boot.join(BOOT_SUMS)).expect("removed");
    assert!(!same_images(&known.boot, &parts.boot) && !same_images(&parts.boot, &parts.boot));
}

/// The same image with systemd in it.
fn systemd_files() -> Vec<(String, Vec<u8>)> {
    let units = "usr/lib/systemd/system";
    let others = [
        "usr/lib/systemd/systemd".to_owned(),
        format!("{units}/ast-root.service"),
        format!("{units}/initrd-root-fs.target.requires/ast-root.service"),
    ];
    let busybox = files().into_iter().filter(|(name, _)| name != "hooks/ast");
    busybox.chain(others.into_iter().map(|name| (name, vec![7; 50]))).collect()
}

#[test]
fn s12_an_image_of_systemd_needs_our_unit_and_no_hook() {
    let (_dir, parts) = system();
    let with = |files: &[(String, Vec<u8>)]| {
        fs::write(parts.boot.join("initramfs-linux.img"), image(files)).expect("written");
        write_sums(&parts.boot).expect("sums");
        check(&parts, Disk::Plain).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(with(&systemd_files()), Vec::<String>::new());
    for (path, what) in [("system/ast-root.service", "our unit"), ("requires/ast-root.service", "the link by which systemd starts")] {
        let mut files = systemd_files();
        // A hook does not make up for it: systemd runs none.
        files.push(("hooks/ast".into(), vec![7; 50]));
        files.retain(|(name, _)| !name.ends_with(path));
        let lacks = with(&files);
        assert!(lacks.len() == 1 && lacks[0].contains(what), "{path}: {lacks:?}");
    }
}

/// mkinitcpio writes an image though a step of our hook failed, and pacman ends with 0; such an image can start well and lack what is needed when it does not.
#[test]
fn s12_an_image_whose_build_did_not_come_to_its_end_is_not_whole() {
    for whole in [files(), systemd_files()] {
        let (_dir, parts) = system();
        let with = |files: &[(String, Vec<u8>)]| {
            fs::write(parts.boot.join("initramfs-linux.img"), image(files)).expect("written");
            write_sums(&parts.boot).expect("sums");
            check(&parts, Disk::Plain).into_iter().map(|finding| finding.lack).collect::<Vec<_>>()
        };
        let hook = |path: &Path, text: &str| {
            fs::create_dir_all(path.parent().expect("parent")).expect("dir");
            fs::write(path, text).expect("written");
        };
        let packaged = parts.root.join("usr/lib/initcpio/install/ast");
        // A set whose hook is older than this rule stays whole.
        hook(&packaged, "build() { add_runscript; }\n");
        assert_eq!(with(&whole), []);
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/../mkinitcpio/install/ast");
        fs::copy(own, &packaged).expect("our own hook");
        assert_eq!(with(&whole), [Lack::HalfBuilt]);
        let stamped: Vec<_> = whole.iter().cloned().chain([("usr/lib/ast/complete".to_owned(), b"x".to_vec())]).collect();
        assert_eq!(with(&stamped), []);
        // mkinitcpio takes one in /etc before that of the package.
        hook(&parts.etc.join("initcpio/install/ast"), "build() { add_runscript; }\n");
        assert_eq!(with(&whole), []);
    }
}

/// An image that unlocks an encrypted disk with a key that it has inside, of busybox or of systemd, and the kernel arguments with which it does.
fn unlocking(systemd: bool) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let module = format!("usr/lib/modules/{VERSION}/kernel/drivers/md/dm-crypt.ko");
    let (mut files, more, args) = if systemd {
        let more = ["usr/lib/systemd/system-generators/systemd-cryptsetup-generator", "usr/bin/systemd-cryptsetup", "etc/keys/root"];
        (systemd_files(), more, ["rd.luks.name=aaaa=root", "rd.luks.key=aaaa=/etc/keys/root"])
    } else {
        (files(), ["hooks/encrypt", "usr/bin/cryptsetup", "etc/keys/root"], ["cryptdevice=UUID=aaaa:root", "cryptkey=rootfs:/etc/keys/root"])
    };
    files.extend(more.into_iter().map(str::to_owned).chain([module]).map(|name| (name, vec![7; 50])));
    (files, args.map(str::to_owned).to_vec())
}

/// What an image of these files, started with these arguments, lacks on an encrypted disk.
fn on_encrypted(files: &[(String, Vec<u8>)], args: &[String]) -> Vec<String> {
    let (_dir, parts) = system();
    fs::write(parts.boot.join("initramfs-linux.img"), image(files)).expect("written");
    let env = BootEnv::new("vmlinuz-linux", &["initramfs-linux.img".into()], args, "title").expect("env").encode().expect("bytes");
    fs::write(parts.boot.join("ast.env"), env).expect("written");
    write_sums(&parts.boot).expect("sums");
    assert_eq!(check(&parts, Disk::Plain), [], "a plain disk needs none of it");
    check(&parts, Disk::Encrypted).iter().map(ToString::to_string).collect()
}

#[test]
fn s12_on_an_encrypted_disk_an_image_must_unlock_it() {
    for systemd in [false, true] {
        let (whole, args) = unlocking(systemd);
        assert_eq!(on_encrypted(&whole, &args), Vec::<String>::new());
        let damages: &[(&str, &str)] = match systemd {
            false => &[("hooks/encrypt", "the hook `encrypt`"), ("usr/bin/cryptsetup", "the program cryptsetup")],
            true => &[("systemd-cryptsetup-generator", "systemd-cryptsetup-generator"), ("bin/systemd-cryptsetup", "systemd-cryptsetup (hook")],
        };
        for (name, expected) in damages.iter().chain(&[("dm-crypt.ko", "the module dm-crypt"), ("etc/keys/root", "the key /etc/keys/root")]) {
            let mut files = whole.clone();
            files.retain(|(file, _)| !file.ends_with(name));
            let found = on_encrypted(&files, &args);
            assert!(found.len() == 1 && found[0].contains(expected), "without {name}: {found:#?}");
        }
        // Nothing says what to unlock; what speaks to the other kind of image is nothing either.
        for args in [Vec::new(), unlocking(!systemd).1] {
            let found = on_encrypted(&whole, &args);
            assert!(found.len() == 1 && found[0].contains("no kernel argument says how it is unlocked"), "{args:?}: {found:#?}");
        }
        // With a passphrase instead of a key, or a key on another device, there is no key to find.
        let without: Vec<_> = whole.iter().filter(|(name, _)| name != "etc/keys/root").cloned().collect();
        let elsewhere = if systemd { "rd.luks.key=aaaa=/etc/keys/root:UUID=bbbb" } else { "cryptkey=UUID=bbbb:ext4:/etc/keys/root" };
        for args in [vec![args[0].clone()], vec![args[0].clone(), elsewhere.to_owned()]] {
            assert_eq!(on_encrypted(&without, &args), Vec::<String>::new(), "{args:?}");
        }
    }
    // systemd takes it from a file, too.
    let (mut files, _) = unlocking(true);
    files.push(("etc/crypttab".into(), vec![7; 50]));
    assert_eq!(on_encrypted(&files, &[]), Vec::<String>::new());
}

type Damage = (&'static str, fn(&Parts), &'static str);

fn image_without(parts: &Parts, name: &str) {
    let mut files = files();
    let before = files.len();
    files.retain(|(n, _)| !n.ends_with(name));
    assert!(files.len() < before, "{name} was not in it");
    fs::write(parts.boot.join("initramfs-linux.img"), image(&files)).expect("written");
    write_sums(&parts.boot).expect("sums");
}

const DAMAGES: &[Damage] = &[
    ("kernel missing", |p| fs::remove_file(p.boot.join("vmlinuz-linux")).expect("gone"), "/boot/: there is no kernel"),
    ("kernel empty", |p| fs::write(p.boot.join("vmlinuz-linux"), "").expect("written"), "/boot/vmlinuz-linux: it is empty"),
    (
        "kernel truncated",
        |p| {
            let path = p.boot.join("vmlinuz-linux");
            let bytes = fs::read(&path).expect("kernel");
            fs::write(path, &bytes[..bytes.len() - 100]).expect("written");
        },
        "/boot/vmlinuz-linux: it is cut off",
    ),
    (
        "kernel changed inside",
        |p| {
            let path = p.boot.join("vmlinuz-linux");
            let mut bytes = fs::read(&path).expect("kernel");
            bytes[3000] ^= 1;
            fs::write(path, bytes).expect("written");
        },
        "/boot/vmlinuz-linux: it does not match",
    ),
    ("modules of another version", |p| {
        fs::remove_dir_all(p.root.join("usr/lib/modules").join(VERSION)).expect("gone");
    }, "/usr/lib/modules: the kernel's version is 6.1.0-55-cloud-amd64"),
    ("no index of modules", |p| {
        fs::write(p.root.join("usr/lib/modules").join(VERSION).join("modules.dep"), "").expect("written");
    }, "modules.dep: the index"),
    ("image missing", |p| fs::remove_file(p.boot.join("initramfs-linux.img")).expect("gone"), "/boot/initramfs-linux.img: there is no initramfs"),
    ("image empty", |p| fs::write(p.boot.join("initramfs-linux.img"), "").expect("written"), "/boot/initramfs-linux.img: it cannot be read: it is empty"),
    ("image truncated", |p| {
        let path = p.boot.join("initramfs-linux.img");
        let bytes = fs::read(&path).expect("image");
        fs::write(path, &bytes[..bytes.len() - 10]).expect("written");
    }, "/boot/initramfs-linux.img: it cannot be read"),
    ("without our program", |p| image_without(p, "ast-initcpio"), "our program"),
    ("without our hook", |p| image_without(p, "hooks/ast"), "our hook"),
    ("without its init", |p| image_without(p, "init"), "its first program"),
    ("without btrfs", |p| image_without(p, "btrfs.ko.zst"), "the module btrfs for kernel"),
    ("without vfat", |p| image_without(p, "vfat.ko"), "the module vfat for kernel"),
    ("compressed strangely", |p| fs::write(p.boot.join("initramfs-linux.img"), b"BZh91AY").expect("written"), "compressed with bzip2"),
    ("no way to start", |p| fs::remove_file(p.boot.join("ast.env")).expect("gone"), "/boot/ast.env: it is missing"),
    ("no list of sums", |p| fs::remove_file(p.boot.join("ast.sums")).expect("gone"), "/boot/ast.sums: it does not match"),
    ("no os-release", |p| fs::write(p.root.join("usr/lib/os-release"), "NAME=x\n").expect("written"), "/usr/lib/os-release: it is missing"),
    ("no init", |p| fs::remove_file(p.root.join("usr/lib/systemd/systemd")).expect("gone"), "/sbin/init: it is missing"),
    ("init not executable", |p| {
        fs::set_permissions(p.root.join("usr/lib/systemd/systemd"), fs::Permissions::from_mode(0o644)).expect("mode");
    }, "/usr/lib/systemd/systemd: it is not executable"),
    ("init no program", |p| fs::write(p.root.join("usr/lib/systemd/systemd"), "#!/bin/sh").expect("written"), "it is not a program"),
    ("mount point missing", |p| fs::remove_dir(p.root.join("efi")).expect("gone"), "/efi: it is not a directory"),
    ("mount point a link", |p| {
        fs::remove_dir(p.root.join("var")).expect("gone");
        symlink("home", p.root.join("var")).expect("link");
    }, "/var: it is not a directory"),
];

#[test]
fn s12_every_damage_is_found_and_named() {
    for (what, damage, expected) in DAMAGES {
        let (_dir, parts) = system();
        damage(&parts);
        let found: Vec<String> = check(&parts, Disk::Plain).iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|finding| finding.contains(expected)), "{what}: {found:#?}");
    }
}

#[test]
fn modules_may_be_built_in() {
    let (_dir, parts) = system();
    image_without(&parts, "vfat.ko");
    let list = parts.root.join("usr/lib/modules").join(VERSION).join("modules.builtin");
    fs::write(list, "kernel/fs/fat/vfat.ko\n").expect("written");
    assert_eq!(check(&parts, Disk::Plain), []);
}

#[test]
fn an_image_may_be_compressed_in_any_way_that_we_know() {
    let (dir, parts) = system();
    let files = files();
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let plain = archive(&borrowed);
    let file = dir.path().join("image");
    fs::write(&file, &plain).expect("written");
    let xz = std::process::Command::new("xz").args(["--check=crc32", "--stdout"]).arg(&file).output().expect("xz is installed").stdout;
    for (what, bytes) in [("plain", plain.clone()), ("gzip", gzip(&plain)), ("zstd", zstd(&plain)), ("xz", xz)] {
        fs::write(parts.boot.join("initramfs-linux.img"), &bytes).expect("written");
        write_sums(&parts.boot).expect("sums");
        assert_eq!(check(&parts, Disk::Plain), [], "{what}");
        // Another archive after it counts too, and wins.
        let second = [bytes, gzip(&archive(&[("hooks/ast", b"")]))].concat();
        assert!(cpio::names(second.as_slice()).expect("readable")["hooks/ast"] == 0, "{what}");
    }
}

proptest! {
    #[test]
    fn r7_no_bytes_crash_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0..6usize) {
        let magic: &[u8] = [&b"070701"[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"070702", b""][start];
        drop(cpio::names([magic, &bytes].concat().as_slice()));
    }

    #[test]
    fn s12_a_truncated_image_is_never_whole(cut in 0.0..1.0f64) {
        let whole = image(&files());
        let end = (whole.len() as f64 * cut) as usize;
        let names = cpio::names(&whole[..end]);
        prop_assert!(!names.is_ok_and(|names| names.contains_key("init") && names.len() > files().len()));
    }

    #[test]
    fn r7_a_flipped_byte_crashes_nothing(at in 0..2000usize, bit in 0..8u32) {
        let mut bytes = image(&files());
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        drop(cpio::names(bytes.as_slice()));
    }
}
