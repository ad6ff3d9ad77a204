//! A machine that the original Python program laid out, with the core image of a plain grub-install, taken over while it runs and started by ast.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ast_tests::columns;
use ast_tests::image::Column;
use ast_tests::lab::grub;
use ast_tests::scenario::{BOOT, Scenario, UPDATE, judged, status};
use ast_tests::vm::offline::Offline;
use ast_tests::vm::{Vm, cache_dir};

/// A menu is painted, emulated.
const MENU: Duration = Duration::from_secs(60);
/// A short command of ast, emulated.
const SHORT: Duration = Duration::from_secs(120);
/// What its system has for the root of all others.
const THEIRS: &str = "/@.snapshots/rootfs/snapshot-tmp";

/// The fresh machine of the column, laid out anew as the original's, without anything of ours.
fn original(column: Column) -> Scenario {
    let scenario = Scenario::new("migrated", column).unwrap();
    let disk = Offline::open(scenario.disk()).unwrap();
    let (system, esp) = if column.is_efi() { (2, Some(1)) } else { (1, None) };
    let top = disk.mount(system, "subvolid=5,compress=zstd").unwrap();
    let uuid = uuid_of(top.root());
    let serial = esp.map(|number| {
        let bytes = disk.read(disk.partition(number).unwrap().start, 128).unwrap();
        // The volume's serial in the boot sector: at 67 on FAT32, at 39 before.
        let at = if bytes[82..].starts_with(b"FAT32") { 67 } else { 39 };
        format!("{:02X}{:02X}-{:02X}{:02X}", bytes[at + 3], bytes[at + 2], bytes[at + 1], bytes[at])
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/migrated/original.sh");
    let mut lay_out = Command::new("unshare");
    lay_out.args(["--mount", "--pid", "--fork", "bash"]).arg(script).arg(top.root()).arg(serial.unwrap_or_default());
    let out = lay_out.output().unwrap();
    assert!(out.status.success(), "{}\n{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    top.unmount().unwrap();

    let core = core_image(&scenario, &uuid);
    match esp {
        Some(number) => {
            let esp = disk.fat(number).unwrap();
            for path in ["EFI/ast/grubx64.efi", "EFI/BOOT/BOOTX64.EFI"] {
                esp.write(path, &core).unwrap();
            }
            for path in ["ast/a/block", "ast/b/block"] {
                esp.delete(path).unwrap();
            }
        }
        // The MBR's code loads whatever begins in the next sector.
        None => disk.write(512, &core).unwrap(),
    }
    disk.close().unwrap();
    scenario
}

fn uuid_of(mounted: &Path) -> String {
    let out = Command::new("findmnt").args(["-no", "UUID"]).arg(mounted).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

/// What `grub-install` makes: it finds `@boot/grub`, and reads `grub.cfg` there.
fn core_image(scenario: &Scenario, uuid: &str) -> Vec<u8> {
    let column = scenario.column();
    let grub = grub::build(&cache_dir(), column.grub()).unwrap();
    let (early, core) = (scenario.dir().join("load.cfg"), scenario.dir().join("core.img"));
    std::fs::write(&early, format!("search.fs_uuid {uuid} root\nset prefix=($root)/@boot/grub\n")).unwrap();
    let mut mkimage = Command::new(&grub.tool("grub-mkimage").unwrap()[0]);
    mkimage.arg("--directory").arg(grub.modules_dir(column.platform())).args([
        "--format",
        column.platform().name(),
        "--prefix",
        "/@boot/grub",
    ]);
    mkimage.arg("--config").arg(&early).arg("--output").arg(&core).args(["part_gpt", "part_msdos", "btrfs", "search_fs_uuid", "normal"]);
    if !column.is_efi() {
        mkimage.arg("biosdisk");
    }
    assert!(mkimage.status().unwrap().success());
    std::fs::read(&core).unwrap()
}

fn root_of(vm: &mut Vm) -> String {
    vm.sh("findmnt -no FSROOT /").unwrap().trim().to_owned()
}

fn a_machine_of_the_original_is_taken_over_while_it_runs(column: Column) {
    let scenario = original(column);
    let mut vm = scenario.start().unwrap();
    vm.expect("menu of the original", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(root_of(&mut vm), THEIRS);
    assert_eq!(vm.sh("cat /root/.bashrc; findmnt -no FSROOT /etc").unwrap(), "alias ll=\"ls -l\"\n/@.snapshots/etc/etc-tmp\n");
    vm.sh("echo kept > /var/lib/kept").unwrap();

    // Its snapshots are in a tree of ours; a copy gets the package, and with it our hook in its image.
    vm.sh("/home/new/ast migrate && /home/new/ast clone 0 -d new").unwrap();
    let out = vm.run("/home/new/ast install 1 ast --yes", UPDATE).unwrap();
    assert_eq!(out.status, 0, "{}{}", out.stdout, out.stderr);
    let refused = vm.run("/home/new/ast deploy 1", SHORT).unwrap();
    assert!(refused.status == 3 && refused.stderr.contains("migrate --boot"), "{}{}", refused.stdout, refused.stderr);
    let out = vm.run("/home/new/ast --json migrate --boot", SHORT).unwrap();
    assert_eq!(out.status, 0, "{}{}", out.stdout, out.stderr);
    let said: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    let block = if column.is_efi() { "files" } else { "raw" };
    assert_eq!((&said["block"], said["grub_version"].as_str().unwrap().contains(column.grub().version())), (&block.into(), true), "{said}");
    vm.reboot(Duration::from_secs(90)).unwrap();

    // Its own system, by our script; its /boot/grub is not the one that GRUB reads, and ast knows.
    vm.expect(r"ast: ast\.d=1 \(good\)", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(root_of(&mut vm), THEIRS);
    let out = vm.run("/home/new/ast deploy 1", SHORT).unwrap();
    assert_eq!(out.status, 0, "{}{}", out.stdout, out.stderr);
    vm.reboot(Duration::from_secs(90)).unwrap();

    vm.expect(r"ast: ast\.d=2 \(trial\)", BOOT).unwrap();
    vm.wait_shell(BOOT).unwrap();
    judged(&mut vm).unwrap();
    let now = status(&mut vm).unwrap();
    assert_eq!((&now["booted"]["deployment"], &now["default"]["deployment"]), (&2.into(), &2.into()), "{now:#}");
    assert_eq!(root_of(&mut vm), "/@.snapshots/deploy/2/root");
    assert_eq!(
        vm.sh("cat /var/lib/kept /root/.bashrc /etc/machine-id").unwrap(),
        "kept\nalias ll=\"ls -l\"\n0123456789abcdef0123456789abcdef\n"
    );
    let failed = vm.sh("systemctl --failed --plain --no-legend; for d in /etc /home /root; do findmnt -no FSROOT $d; done").unwrap();
    assert_eq!(failed, "/@.snapshots/deploy/2/etc\n/@home\n/@root\n");
    let said = vm.run("ast migrate --finish --yes", SHORT).unwrap();
    assert!(said.status == 3 && said.stderr.contains("two deployments"), "{}{}", said.stdout, said.stderr);
    vm.power_off(SHORT).unwrap();

    // What the original's menu starts is still there for whoever stands in front of it.
    let mut vm = scenario.start().unwrap();
    vm.menu_choose("The original ast", MENU).unwrap();
    vm.expect("menu of the original", MENU).unwrap();
    vm.wait_shell(BOOT).unwrap();
    assert_eq!(root_of(&mut vm), THEIRS);
}

columns!(migrated(a_machine_of_the_original_is_taken_over_while_it_runs); test: efi206; full: bios214_raw, efi214);
