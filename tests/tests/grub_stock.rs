//! Our reader of GRUB's language against what the stock generators of three releases write: the real `grub-mkconfig`, run with settings that bring
//! every generator to work.
#![allow(clippy::disallowed_methods, reason = "throw-away files and programs of the test")]

use std::path::Path;
use std::process::Command;

use ast::grub::parser::{Statement, entries, parse};
use ast_tests::lab::cache::cache_dir;
use ast_tests::lab::grub::{Suite, build};

/// Settings, and what `os-prober` and `linux-boot-prober` say (`@` is a device that is there): each brings other parts of the generators out.
const CASES: [(&str, &str, &str, &str); 3] = [
    ("plain", "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet splash\"\n", "", ""),
    (
        "full",
        "GRUB_DEFAULT=saved\nGRUB_SAVEDEFAULT=true\nGRUB_TIMEOUT=10\nGRUB_TIMEOUT_STYLE=countdown\nGRUB_DISTRIBUTOR=\"It's a 'Linux'\"\nGRUB_DISABLE_OS_PROBER=false\n\
         GRUB_TERMINAL='serial console'\nGRUB_SERIAL_COMMAND='serial --unit=0 --speed=115200'\nGRUB_INIT_TUNE='480 440 1'\nGRUB_CMDLINE_LINUX='a=\"b c\" d=\\$e'\n",
        "@:Windows 10 it's:Windows:chain\n@:Debian GNU/Linux 12 (bookworm):Debian:linux\n@:Mac OS X:MacOSX:macosx\n@:Hurd:Hurd:hurd\n",
        "@:@:Debian's:/boot/vmlinuz-6.1:/boot/initrd.img-6.1:root=UUID=1 ro quiet\n@:@:old:/boot/vmlinuz-6.0::ro single\n",
    ),
    (
        "graphics",
        "GRUB_TIMEOUT=0\nGRUB_TIMEOUT_STYLE=hidden\nGRUB_DISABLE_SUBMENU=y\nGRUB_TERMINAL_OUTPUT=gfxterm\nGRUB_GFXMODE=1024x768,auto\nGRUB_GFXPAYLOAD_LINUX=keep\nGRUB_DISABLE_RECOVERY=true\n\
         GRUB_DISABLE_LINUX_UUID=true\nGRUB_COLOR_NORMAL=light-blue/black\nGRUB_BADRAM=0x1,0x2\nGRUB_TOP_LEVEL=/boot/vmlinuz-6.1.0\n",
        "",
        "",
    ),
];

/// Everything in place for one run, in a mount namespace of its own: settings and probers over those of the release, kernels in `/boot`.
const RUN: &str = r#"
set -e
grub=$1 scratch=$2
cp -a "$grub/etc" "$scratch/etc"; mkdir -p "$scratch/etc/default" "$scratch/boot/grub" "$scratch/bin"
cp "$scratch/settings" "$scratch/etc/default/grub"
truncate -s 32M "$scratch/disk"; mkfs.ext4 -q "$scratch/disk"
mount -o loop "$scratch/disk" "$scratch/boot"; mkdir -p "$scratch/boot/grub"
device=$(awk -v at="$scratch/boot" '$2 == at {print $1}' /proc/self/mounts)
# A loop device that is called so leads the generators to the disk that its file is on.
mknod "$scratch/disk1" b 7 "${device#/dev/loop}"; device=$scratch/disk1
echo "(hd0) $device" > "$scratch/boot/grub/device.map"
for kernel in 6.1.0-25-amd64 6.1.0; do echo k > "$scratch/boot/vmlinuz-$kernel"; echo i > "$scratch/boot/initrd.img-$kernel"; done
: > "$scratch/boot/xen-4.17-amd64.gz"
for name in os-prober linux-boot-prober; do
  sed -i "s|@|$device|g" "$scratch/$name.txt"
  printf '#!/bin/sh\ncat %s\n' "$scratch/$name.txt" > "$scratch/bin/$name"; chmod 755 "$scratch/bin/$name"
done
mount --bind "$scratch/etc" "$grub/etc"
mount --bind "$scratch/boot" /boot
PATH="$scratch/bin:$PATH" "$grub/bin/grub-mkconfig" 2> "$scratch/said" || { cat "$scratch/said" >&2; exit 1; }
"#;

fn generated(grub: &Path, (name, settings, systems, kernels): (&str, &str, &str, &str)) -> String {
    let scratch = tempfile::tempdir().expect("a directory");
    for (file, text) in [("settings", settings), ("os-prober.txt", systems), ("linux-boot-prober.txt", kernels)] {
        ast::sys::file::replace(&scratch.path().join(file), text.as_bytes()).expect("written");
    }
    let mut command = Command::new("unshare");
    let out = command.args(["-m", "sh", "-c", RUN, "sh"]).arg(grub).arg(scratch.path()).output().expect("unshare of util-linux");
    assert!(out.status.success(), "{name}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// Every byte is in a sentence or between two, where nothing stands but blanks, comments and ends; and each sentence, alone at its place, reads as
/// it did in the whole.
fn goes_round(name: &str, text: &str) -> Vec<Statement> {
    let script = parse(text).unwrap_or_else(|e| panic!("{name}: {e}\n{text}"));
    let mut at = 0;
    for statement in &script {
        let between = &text[at..statement.span.start];
        let trivia = between.lines().all(|line| line.trim_start_matches([' ', '\t', ';']).is_empty() || line.trim_start().starts_with('#'));
        assert!(trivia, "{name}: {between:?} is in no sentence");
        let blank: String = text[..statement.span.start].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        let alone = format!("{blank}{}", &text[statement.span.clone()]);
        if blank.len() == statement.span.start {
            assert_eq!(parse(&alone).as_deref(), Ok(std::slice::from_ref(statement)), "{name}: {:?}", &text[statement.span.clone()]);
        }
        at = statement.span.end;
    }
    assert!(text[at..].lines().all(|line| line.trim_matches([' ', '\t', ';']).is_empty() || line.trim_start().starts_with('#')), "{name}: an end is in no sentence");
    script
}

fn stock(suite: Suite) {
    let grub = build(&cache_dir(), suite).expect("a GRUB");
    let dir = grub.modules_dir(ast_tests::lab::grub::Platform::Bios);
    let dir = dir.ancestors().nth(4).expect("its directory");
    for case in CASES {
        let name = format!("{} {}", suite.version(), case.0);
        let text = generated(dir, case);
        let found = entries(&goes_round(&name, &text));
        // What the generator wrote as a line of the menu is found as one, by counting words at the beginning of lines.
        let written = text.lines().filter(|l| ["menuentry ", "submenu "].iter().any(|w| l.trim_start().starts_with(w))).count();
        assert_eq!(found.len(), written, "{name}: {found:?}");
        let titled = |title: &str| found.iter().any(|e| e.title.as_deref().is_some_and(|t| t.contains(title)));
        match case.0 {
            "full" => assert!(titled("Windows 10 it's") && titled("Debian GNU/Linux 12") && titled("It's a 'Linux'") && titled("Mac OS X"), "{name}: {found:?}"),
            "graphics" => assert!(found.iter().all(|e| e.depth == 0 || titled("Xen")), "{name}: {found:?}"),
            _ => assert!(found.len() >= 4, "{name}: {found:?}"),
        }
    }
}

#[test]
fn stock_generators_of_2_06_are_read() {
    stock(Suite::G206);
}

#[test]
fn stock_generators_of_2_12_are_read() {
    stock(Suite::G212);
}

#[test]
fn stock_generators_of_2_14_are_read() {
    stock(Suite::G214);
}

/// What lies in `fixtures/grub` too, for the fuzzer begins with it.
#[test]
fn fixtures_go_round() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/grub");
    for entry in std::fs::read_dir(dir).expect("fixtures") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if !name.starts_with("bad-") {
            goes_round(&name, &std::fs::read_to_string(&path).expect("text"));
        }
    }
}
