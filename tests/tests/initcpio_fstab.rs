//! What `ast-initcpio` takes of the chosen root's /etc/fstab, on a real btrfs in a private mount namespace (root): options of the filesystem,
//! subvolumes to mount before the start, and that no such file keeps a machine from starting.
#![allow(clippy::disallowed_methods)]

#[path = "initcpio/fixture.rs"]
mod fixture;

use ast::id::DeployId;
use fixture::{Disk, Started, sh};

/// What is mounted at the root and below, as `PATH FLAGS SUBVOLUME`, and options of the filesystem.
const MOUNTS: &str = r#"awk -v r="$R" 'index($5, r) == 1 { p = substr($5, length(r) + 1); print (p == "" ? "/" : p), $6, $4 }' /proc/self/mountinfo | sort"#;
const OPTIONS: &str = r#"awk -v r="$R" '$2 == r { print $4 }' /proc/self/mounts"#;
/// Both, as a line each.
fn look() -> String {
    format!("{OPTIONS}; {MOUNTS}")
}

/// Deployment `d` has this fstab; `ROOT` stands for the UUID of the disk.
fn give(disk: &Disk, d: u32, text: &[u8]) {
    let named = String::from_utf8(text.to_vec()).map(|text| text.replace("ROOT", &disk.uuid).into_bytes());
    let text = named.unwrap_or_else(|strange| strange.into_bytes());
    disk.change(|top| std::fs::write(top.join(format!("@.snapshots/deploy/{d}/etc/fstab")), &text).expect("fstab"));
}

/// It started, `d` is the root, and no more was said than is allowed.
fn starts(started: &Started, d: u32) {
    assert_eq!((started.status, started.booted.d), (0, Some(DeployId::new(d))), "{started:?}");
    assert!(started.said.lines().count() <= 8, "{started:?}");
}

fn start(disk: &Disk, look: &str) -> Started {
    let started = disk.start("ast.d=6 ast.why=good", look);
    starts(&started, 6);
    started
}

#[test]
fn the_filesystem_has_the_options_of_the_line_for_the_root() {
    let disk = Disk::new();
    // As genfstab writes it, with what people add.
    give(&disk, 6, b"# a comment\nUUID=ROOT / btrfs rw,relatime,nodev,compress=zstd:7,autodefrag,discard=async,commit=120,subvolid=256,subvol=/@ 0 0\nUUID=ROOT / btrfs compress=lzo 0 0\ntmpfs /tmp tmpfs size=1G 0 0\n");
    let rest = "cat /run/ast/fstab /run/systemd/system/systemd-remount-fs.service.d/*";
    let started = start(&disk, &format!("{}; {rest}; touch $R/x $R/boot/x 2>&1 | grep -c Read-only; touch $R/etc/x $R/var/x && echo writable", look()));
    let seen: Vec<&str> = started.seen.lines().collect();
    for option in ["compress=zstd:7", "autodefrag", "discard=async", "commit=120"] {
        assert!(seen.first().is_some_and(|line| line.split(',').any(|one| one == option)), "{option}: {started:?}");
    }
    let mounts = [
        "/ ro,nodev,relatime /@.snapshots/deploy/6/root",
        "/.snapshots rw,nodev,relatime /@.snapshots",
        "/boot ro,nodev,relatime /@.snapshots/deploy/6/boot",
        "/boot/grub rw,nodev,relatime /@boot/grub",
        "/etc rw,nodev,relatime /@.snapshots/deploy/6/etc",
        "/home rw,nodev,relatime /@home",
        "/root rw,nodev,relatime /@root",
        "/var rw,nodev,relatime /@var",
        "/var/cache/pacman/pkg rw,nodev,relatime /@cache",
    ];
    // systemd gives `/` no options of its own, and has all the other lines.
    let left = ["# a comment", "tmpfs /tmp tmpfs size=1G 0 0", "[Service]", "Environment=SYSTEMD_FSTAB=/run/ast/fstab", "2", "writable"];
    assert_eq!(seen.get(1..), Some([&mounts[..], &left].concat().as_slice()), "{started:?}");
    assert_eq!(started.said, "<6>ast: deployment 6 is the root (good)\n");
    // Each root has its own: the next start of another one knows nothing of it.
    let other = disk.start("ast.d=5 ast.why=load", &format!("{}; ls /run/ast /run/systemd", look()));
    starts(&other, 5);
    assert!(other.seen.contains("/ ro,noatime /") && !other.seen.contains("compress") && !other.seen.contains("systemd:"), "{other:?}");
    // The set's own, where a set is the root; none has none.
    assert!(!disk.start("ast.set=3.2", &look()).seen.contains("compress"), "a set with another's options");
    let volatile = disk.start("ast.d=6 ast.volatile", &format!("{}; touch $R/etc/y && echo writable", look()));
    assert!(volatile.seen.contains("compress=zstd:7") && volatile.seen.ends_with("writable\n"), "{volatile:?}");
}

#[test]
fn what_the_kernel_or_a_promise_refuses_is_said_and_the_rest_is_taken() {
    let disk = Disk::new();
    for (options, has, says) in [
        ("lazytime,strictatime,compress-force=zstd,autodefrag", "autodefrag", "/: compress-force=zstd is not taken: it would compress kernels"),
        ("nobarrier,noexec,compress=lzo", "compress=lzo", "nobarrier is not taken: a power cut"),
        // All of what only btrfs understands, or nothing; flags are not its business.
        ("lazytime,compress=zstd,flurbl=3", "lazytime", "/: not taken: compress=zstd,flurbl=3 (Invalid argument"),
        ("space_cache,nosuid", "nosuid", "/: not taken: space_cache"),
    ] {
        give(&disk, 6, format!("/dev/whatever / btrfs {options} 0 1\n").as_bytes());
        let started = start(&disk, &format!("{OPTIONS}; $R/usr/lib/systemd/systemd && echo runs"));
        assert!(started.seen.lines().next().is_some_and(|line| line.split(',').any(|one| one == has)), "{options}: {started:?}");
        for not in ["compress-force", "nobarrier", "noexec", "zstd"] {
            assert!(!started.seen.contains(not), "{options}: {started:?}");
        }
        let said: Vec<&str> = started.said.lines().collect();
        assert!(matches!(said.as_slice(), [one, _] if one.starts_with("<3>ast: /etc/fstab: ") && one.contains(says) && one.ends_with("; going on without")), "{options}: {started:?}");
    }
    // What other filesystems have is not for this one.
    give(&disk, 6, b"UUID=1234-abcd / ext4 data=ordered 0 1\n");
    assert_eq!(start(&disk, "true").said.lines().count(), 1);
}

/// Subvolumes, and directories to mount them on.
fn with_subvolumes() -> Disk {
    let disk = Disk::new();
    disk.damage(6, "mkdir -p root/srv root/opt");
    disk.change(|top| {
        sh(&format!(
            "cd {}; for s in @srv @data '@a b' @nested; do btrfs -q subvolume create \"$s\" > /dev/null; echo \"$s\" > \"$s/is\"; done
             mkdir @srv/nested @srv/plain @var/a\\ b @home/own @home/data; ln -s ../../etc @home/link; ln -s /etc @home/far; echo here > @srv/plain/is",
            top.display()
        ));
    });
    disk
}

#[test]
fn subvolumes_of_the_machines_filesystem_are_there_before_the_start() {
    let disk = with_subvolumes();
    let id = disk.change(|top| sh(&format!("btrfs inspect-internal rootid {}/@data", top.display())));
    let links = tempfile::tempdir().expect("dir");
    sh(&format!("cd {}; mkdir by-partuuid; ln -s {} by-partuuid/1234abcd-02", links.path().display(), disk.device));
    sh(&format!("btrfs filesystem label {} 'fstab-{}' > /dev/null", disk.device, disk.uuid));
    let text = format!(
        "UUID={} / btrfs compress=zstd 0 0
UUID={}\t/srv\tbtrfs\tsubvol=@srv,noatime,noexec,x-initrd.mount 0 0
LABEL=fstab-{} /srv/nested btrfs subvol=/@nested,ro,x-initrd.mount 0 0
{} /home/data auto subvolid={id},x-initrd.mount,nosuid 0 0
PARTUUID=1234ABCD-02 /var/a\\040b/ btrfs subvol=@a\\040b,x-initrd.mount,compress-force=zstd 0 0
UUID={} /home/own btrfs subvol=@data 0 0
UUID={} /mnt btrfs subvol=@data,x-initrd.mount,noauto 0 0
UUID=11111111-2222-3333-4444-555555555555 /opt btrfs x-initrd.mount 0 0
",
        disk.uuid.to_uppercase(), disk.uuid, disk.uuid, disk.device, disk.uuid, disk.uuid,
    );
    give(&disk, 6, text.as_bytes());
    let look = format!("{MOUNTS} | grep -vE '^/(|[.]snapshots|boot.*|etc|home|root|var|var/cache.*) '; cat $R/srv/is $R/srv/nested/is $R/home/data/is \"$R/var/a b/is\"; cat /run/ast/fstab; touch $R/srv/nested/x 2>&1 | grep -c Read-only");
    let started = disk.start_with(&format!("--disks {}", links.path().display()), "ast.d=6 ast.why=good", &look);
    starts(&started, 6);
    let seen: Vec<&str> = started.seen.lines().collect();
    let mut want = vec![
        "/home/data rw,nosuid,relatime /@data",
        "/srv rw,noexec,noatime /@srv",
        "/srv/nested ro,relatime /@nested",
        "/var/a\\040b rw,relatime /@a\\040b",
        "@srv",
        "@nested",
        "@data",
        "@a b",
    ];
    want.extend(text.lines().skip(5));
    want.push("1");
    assert_eq!(seen, want, "{started:?}");
    // Options of a filesystem are taken from the line for `/` alone, so nothing is refused here.
    assert_eq!(started.said.lines().count(), 1, "{started:?}");
}

#[test]
fn b9_a_subvolume_that_cannot_be_mounted_keeps_nothing_from_starting() {
    let disk = with_subvolumes();
    let plain = start(&disk, MOUNTS).seen;
    for (line, says) in [
        ("UUID=ROOT /srv btrfs subvol=@gone,x-initrd.mount", "/srv: subvol=@gone cannot be mounted: No such file"),
        ("UUID=ROOT /srv btrfs subvol=@srv/plain,x-initrd.mount", "/srv: subvol=@srv/plain cannot be mounted"),
        ("UUID=ROOT /srv btrfs subvolid=nonsense,x-initrd.mount", "/srv: subvolid=nonsense cannot be mounted"),
        ("UUID=ROOT /srv btrfs subvol=@s\\000rv,x-initrd.mount", "cannot be mounted: "),
        ("UUID=ROOT /nowhere btrfs subvol=@srv,x-initrd.mount", "/nowhere: there is no such directory"),
        ("UUID=ROOT /home/link btrfs subvol=@srv,x-initrd.mount", "a link is on the way"),
        ("UUID=ROOT /home/far/ssh btrfs subvol=@srv,x-initrd.mount", "a link is on the way"),
        ("UUID=ROOT /home/own/../../etc btrfs subvol=@srv,x-initrd.mount", "no place for a mount"),
        ("UUID=ROOT relative btrfs subvol=@srv,x-initrd.mount", "no place for a mount"),
        ("UUID=ROOT /etc btrfs subvol=@srv,x-initrd.mount", "/etc: no place for a mount"),
        ("UUID=ROOT /boot/grub btrfs subvol=@srv,x-initrd.mount", "/boot/grub: no place for a mount"),
        ("UUID=ROOT /var/cache btrfs subvol=@srv,x-initrd.mount", "/var/cache: no place for a mount"),
        ("UUID=ROOT /usr btrfs subvol=@srv", "/usr: no place for a mount"),
    ] {
        give(&disk, 6, format!("{line} 0 0\n").as_bytes());
        let started = start(&disk, &format!("{MOUNTS}; cat /run/ast/fstab"));
        assert_eq!(started.seen, plain, "{line}: {started:?}");
        let said: Vec<&str> = started.said.lines().collect();
        assert!(matches!(said.as_slice(), [one, _] if one.starts_with("<3>ast: /etc/fstab: ") && one.contains(says)), "{line}: {started:?}");
        // Nor does systemd need it.
        let unit = line.split_whitespace().nth(1).and_then(|at| at.strip_prefix('/')).filter(|at| !at.contains("..")).map(|at| sh(&format!("systemd-escape -p --suffix=mount {at}")));
        let started = start(&disk, "cd /run/systemd/system; cat *.mount.d/*; ls -d *.mount.d 2> /dev/null");
        let want = unit.map_or("cat: '*.mount.d/*': No such file or directory\n".to_owned(), |unit| format!("[Unit]\nConditionPathExists=!/run/ast/fstab\n{unit}.d\n"));
        assert_eq!(started.seen, want, "{line}: {started:?}");
        // Where it may fail nobody in front of the machine is told.
        give(&disk, 6, format!("{line},nofail 0 0\n").as_bytes());
        let started = start(&disk, &format!("{MOUNTS}; ls -d /run/systemd/system/*.mount.d 2> /dev/null"));
        assert!(started.seen == plain && started.said.starts_with("<4>ast: /etc/fstab: "), "{line}: {started:?}");
    }
}

#[test]
fn b9_whatever_is_in_the_place_of_fstab_the_machine_starts() {
    let disk = with_subvolumes();
    let good = format!("UUID={} /srv btrfs subvol=@srv,x-initrd.mount 0 0\n", disk.uuid);
    // Strange lines cost nobody else's.
    for strange in [&b"# caf\xe9 \x00 \xff\xfe\n\x00\x00\n"[..], b"a\0b / btrfs c\0d\n", b"\n\n \t \n\r\nUUID=\\ \\ btrfs \\\n", b"/ / / / / / / /\n"] {
        give(&disk, 6, &[strange, good.as_bytes()].concat());
        let started = start(&disk, "cat $R/srv/is");
        assert_eq!(started.seen, "@srv\n", "{strange:?}: {started:?}");
    }
    // Thousands of lines that come to nothing are one message.
    give(&disk, 6, "UUID=ROOT /srv btrfs subvol=@gone\\033[2J,x-initrd.mount\n".repeat(600).as_bytes());
    let started = start(&disk, "cat $R/etc/name");
    assert!(started.seen == "d6\n" && started.said.lines().count() == 2 && !started.said.contains('\x1b'), "{started:?}");
    for (make, says) in [
        ("head -c 10000000 /dev/zero | tr '\\0' 'x' > fstab", "is no file of at most 65536 bytes"),
        ("truncate -s 1T fstab", "is no file of at most 65536 bytes"),
        ("mkfifo fstab", "is no file"),
        ("mkdir fstab", "is no file"),
        ("ln -s fstab fstab", "cannot be opened: ELOOP"),
        // Inside the root it is nothing.
        ("ln -s ../../../../../../../proc/self/environ fstab", ""),
        ("true", ""),
    ] {
        disk.change(|top| sh(&format!("cd {}/@.snapshots/deploy/6/etc; rm -rf fstab; {make}", top.display())));
        let started = start(&disk, "cat $R/etc/name; ls /run/ast/fstab 2> /dev/null");
        assert_eq!(started.seen, "d6\n", "{make}: {started:?}");
        let said: Vec<&str> = started.said.lines().collect();
        match said.as_slice() {
            [one, _] => assert!(one.starts_with("<3>ast: /etc/fstab ") && one.contains(says) && !says.is_empty(), "{make}: {started:?}"),
            _ => assert!(said.len() == 1 && says.is_empty(), "{make}: {started:?}"),
        }
    }
}

#[test]
fn b9_where_only_reading_is_possible_fstab_makes_nothing_writable() {
    let mut disk = with_subvolumes();
    give(&disk, 6, b"UUID=ROOT / btrfs rw,compress=zstd,commit=120 0 0\nUUID=ROOT /srv btrfs rw,subvol=@srv,x-initrd.mount 0 0\n");
    let image = disk.image().display().to_string();
    sh(&format!("losetup -d {}", disk.device));
    disk.device = sh(&format!("losetup -r -f --show {image}"));
    let started = start(&disk, &format!("{OPTIONS}; cat $R/srv/is; touch $R/srv/x $R/x 2>&1 | grep -c Read-only; ls /run/systemd/system"));
    let seen: Vec<&str> = started.seen.lines().collect();
    assert!(seen.first().is_some_and(|line| line.starts_with("ro,") && !line.contains("compress")), "{started:?}");
    assert_eq!(seen.get(1..), Some(&["@srv", "2", "systemd-remount-fs.service.d"][..]), "{started:?}");
}

#[test]
fn a_root_that_takes_the_place_of_another_has_its_own_options() {
    let disk = Disk::new();
    give(&disk, 6, b"UUID=ROOT / btrfs compress=zstd 0 0\n");
    give(&disk, 5, b"UUID=ROOT / btrfs autodefrag 0 0\n");
    disk.damage(6, "rm root/usr/lib/os-release");
    let started = disk.start("ast.d=6 ast.why=good", OPTIONS);
    starts(&started, 5);
    assert!(started.seen.contains("autodefrag") && !started.seen.contains("compress"), "{started:?}");
}

#[test]
fn systemd_in_the_initramfs_finds_no_line_of_ours() {
    let disk = with_subvolumes();
    give(&disk, 6, b"UUID=ROOT / btrfs x-initrd.mount 0 0\nUUID=ROOT /srv btrfs subvol=@gone,x-initrd.mount 0 0\nUUID=ROOT /usr btrfs subvol=@usr 0 0\ntmpfs /opt tmpfs x-initrd.mount 0 0\n");
    let generate = |fstab: &str| {
        format!(
            "d=$(mktemp -d); mkdir $d/n $d/e $d/l; SYSTEMD_IN_INITRD=1 SYSTEMD_FSTAB=/dev/null SYSTEMD_SYSROOT_FSTAB={fstab} SYSTEMD_PROC_CMDLINE='root=/dev/none' \
             /lib/systemd/system-generators/systemd-fstab-generator $d/n $d/e $d/l > /dev/null 2>&1; ls $d/n | grep -E 'sysroot-.*mount'; rm -r $d"
        )
    };
    // The real generator; without us it would need all of them.
    assert_eq!(start(&disk, &generate("$R/etc/fstab")).seen, "sysroot-opt.mount\nsysroot-srv.mount\nsysroot-usr.mount\n");
    assert_eq!(start(&disk, &generate("/run/ast/fstab")).seen, "sysroot-opt.mount\n");
}

#[test]
fn a_btrfs_of_two_devices_has_its_subvolumes_also_with_one_of_them() {
    let mut disk = Disk::of_two("-m raid1 -d raid1");
    disk.change(|top| sh(&format!("btrfs -q subvolume create {0}/@extra > /dev/null; echo extra > {0}/@extra/is; btrfs filesystem sync {0} > /dev/null", top.display())));
    disk.forget();
    // Either device names it.
    let second = disk.second.clone();
    give(&disk, 6, format!("UUID=ROOT / btrfs compress=zstd 0 0\n{second} /mnt btrfs subvol=@extra,x-initrd.mount 0 0\nUUID=ROOT /home btrfs x-initrd.mount,nofail 0 0\n").as_bytes());
    disk.forget();
    let seen = "cat $R/mnt/is; touch $R/mnt/x && echo writable";
    let look = format!("{OPTIONS} | grep -o compress=zstd; {seen}");
    assert_eq!(start(&disk, &look).seen, "compress=zstd\nextra\nwritable\n");
    give(&disk, 6, b"UUID=ROOT / btrfs compress=zstd 0 0\nUUID=ROOT /mnt btrfs subvol=@extra,x-initrd.mount 0 0\n");
    disk.detach_second();
    let started = start(&disk, &look);
    assert!(started.seen == "compress=zstd\nextra\nwritable\n" && !started.booted.missing.is_empty(), "{started:?}");
}
