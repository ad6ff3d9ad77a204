//! The mkinitcpio hook, built by the stand-in of `tests/mkinitcpio` in a private mount namespace (root).
#![allow(clippy::disallowed_methods)]

use ast::layout::WATCHDOG_DROP_IN;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const RELEASE: &str = "6.1.0-lab";
/// Modules of a pretended kernel: `name` or `name: needs`.
const MODULES: [&str; 15] = [
    "btrfs: kernel/xor.ko kernel/libcrc32c.ko",
    "xor:",
    "libcrc32c:",
    "crc32c_generic:",
    "overlay:",
    "i6300esb:",
    "lpc_ich: kernel/mfd-core.ko",
    "i2c-i801: kernel/i2c-smbus.ko",
    "intel_pmc_bxt:",
    "iTCO_wdt:",
    "softdog:",
    "mfd-core:",
    "i2c-smbus:",
    "vfat: kernel/fat.ko",
    "fat:",
];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("project")
}

/// A directory with what a build needs beside this machine's own programs.
fn workshop() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("dir");
    let modules = dir.path().join("lib/modules").join(RELEASE);
    std::fs::create_dir_all(modules.join("kernel")).expect("modules");
    let mut list = String::new();
    for module in MODULES {
        let (name, needs) = module.split_once(':').expect("a colon");
        std::fs::write(modules.join(format!("kernel/{name}.ko")), name).expect("module");
        list += &format!("kernel/{name}.ko:{needs}\n");
    }
    std::fs::write(modules.join("modules.dep"), list).expect("list");
    std::fs::write(modules.join("modules.alias"), "alias crypto-crc32c crc32c_generic\nalias fs-btrfs btrfs\nalias fs-ext4 ext4\n")
        .expect("aliases");
    std::fs::write(modules.join("modules.symbols"), "").expect("symbols");
    std::fs::write(modules.join("modules.softdep"), "softdep btrfs pre: crypto-crc32c\n").expect("soft needs");
    std::fs::create_dir(dir.path().join("install")).expect("dir");
    dir
}

/// Builds `image` with this mkinitcpio.conf, with or without our program on the machine, and the drop-in if `drop_in`.
fn build(dir: &Path, conf: &str, program: bool, drop_in: bool) -> Output {
    std::fs::write(dir.join("mkinitcpio.conf"), conf).expect("conf");
    let p = project();
    let script = format!(
        "cd {dir}; rm -rf upper work usr; mkdir -p upper work usr mkinitcpio.conf.d; rm -f mkinitcpio.conf.d/* image
         mount -t tmpfs layers usr; mkdir usr/upper usr/work; mount -t overlay o -o lowerdir=/usr/lib,upperdir=usr/upper,workdir=usr/work /usr/lib
         mkdir -p /usr/lib/ast; rm -f /usr/lib/ast/ast-initcpio; {program}; {drop_in}
         mkdir -p /usr/lib/systemd/system /usr/lib/systemd/system.conf.d; cp {units}/* /usr/lib/systemd/system; cp {conf}/* /usr/lib/systemd/system.conf.d
         export MKINITCPIO_LIBRARY={p}/tests/mkinitcpio/usr/lib/initcpio MKINITCPIO_CONF={dir}/mkinitcpio.conf MKINITCPIO_HOOKS={p}/mkinitcpio/hooks
         export MKINITCPIO_INSTALL={dir}/install:{p}/tests/mkinitcpio/usr/lib/initcpio/install:{p}/mkinitcpio/install
         exec {p}/tests/mkinitcpio/usr/bin/mkinitcpio -r {dir} -k {RELEASE} -g {dir}/image",
        dir = dir.display(),
        p = p.display(),
        program = if program { "cp /bin/true /usr/lib/ast/ast-initcpio" } else { "true" },
        units = p.join("mkinitcpio/systemd").display(),
        conf = p.join("packaging/system.conf.d").display(),
        drop_in = if drop_in { format!("cp {}/mkinitcpio/ast.conf mkinitcpio.conf.d/", p.display()) } else { "true".into() },
    );
    Command::new("unshare").args(["-m", "--propagation", "private", "bash", "-ec", &script]).output().expect("unshare")
}

fn unpack(dir: &Path, what: &str) -> String {
    let line = format!("zstd -dc {0}/image | cpio {what}", dir.display());
    String::from_utf8_lossy(&Command::new("sh").args(["-c", &line]).output().expect("cpio").stdout).into_owned()
}

fn told(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

#[test]
fn the_image_has_our_program_and_what_it_mounts_with() {
    let dir = workshop();
    // A list that is a string, with what is not wanted and ours in the wrong place: the drop-in mends it.
    let out = build(dir.path(), "MODULES=(btrfs)\nHOOKS=\"base ast block fsck\"\n", true, true);
    assert!(out.status.success(), "{}", told(&out));
    let names = unpack(dir.path(), "-t --quiet");
    let module = |name: &str| format!("usr/lib/modules/{RELEASE}/kernel/{name}.ko");
    let wanted = ["btrfs", "xor", "libcrc32c", "crc32c_generic", "vfat", "fat"].map(module);
    // B14: nothing says that Intel's watchdog needs what makes its device.
    let watchdogs = ["i6300esb", "iTCO_wdt", "lpc_ich", "mfd-core", "i2c-i801", "i2c-smbus", "intel_pmc_bxt", "softdog"].map(module);
    for want in wanted.iter().chain(&watchdogs).map(String::as_str).chain(["usr/lib/ast/ast-initcpio", "hooks/ast", "init", "usr/bin/modprobe"]) {
        assert!(names.lines().any(|name| name == want), "{want} is not in:\n{names}");
    }
    // It would be a fifth of all that is added, and is in the root of every snapshot.
    assert!(!names.contains("overlay"), "{names}");
    assert!(names.contains("/libc.so.6"), "the program's libraries are not in:\n{names}");
    let config = unpack(dir.path(), "-i --quiet --to-stdout config");
    assert_eq!(config, "MODULES=\"btrfs \"\nEARLYHOOKS=\"ast\"\nHOOKS=\"ast\"\nLATEHOOKS=\"\"\nCLEANUPHOOKS=\"\"\nEMERGENCYHOOKS=\"ast \"\n");
    let aliases = unpack(dir.path(), "-i --quiet --to-stdout 'usr/lib/modules/*/modules.alias'");
    assert_eq!(aliases, "alias crypto-crc32c crc32c_generic\nalias fs-btrfs btrfs\n");
}

/// A workshop with an image of systemd in it, by a hook that has what ours needs of the real one.
fn workshop_of_systemd() -> tempfile::TempDir {
    let dir = workshop();
    let functions = "add_systemd_unit() { add_file \"$(PATH=/usr/lib/systemd/system type -P \"$1\")\"; }
        add_systemd_drop_in() { add_file - \"/etc/systemd/system/$1.d/$2.conf\" 644; }
        build() { shopt -s nullglob; add_symlink /init usr/lib/systemd/systemd; }\n";
    std::fs::write(dir.path().join("install/systemd"), functions).expect("hook");
    let out = build(dir.path(), "HOOKS=(base systemd block fsck)\n", true, true);
    assert!(out.status.success(), "{}", told(&out));
    dir
}

#[test]
fn an_image_of_systemd_has_our_units_and_no_hook() {
    let dir = workshop_of_systemd();
    let names = unpack(dir.path(), "-t --quiet");
    // The real hook leaves `nullglob` on (v41), so that a word with a question mark which is no file is no word at all.
    for module in ["btrfs", "vfat", "i6300esb", "iTCO_wdt", "lpc_ich", "i2c-i801", "intel_pmc_bxt", "softdog"].map(|name| format!("usr/lib/modules/{RELEASE}/kernel/{name}.ko")) {
        assert!(names.lines().any(|name| name == module), "{module} is not in:\n{names}");
    }
    let units = ["ast-root", "ast-restart", "ast-break", "ast-trial-modules", "ast-trial-softdog"].map(|name| format!("usr/lib/systemd/system/{name}.service"));
    let (first, wants) = ("initrd-root-fs.target.requires/ast-root", "ast-root.service.wants");
    let links = [first, "emergency.target.wants/ast-restart", &format!("{wants}/ast-trial-modules"), &format!("{wants}/ast-trial-softdog")];
    let links = links.map(|name| format!("usr/lib/systemd/system/{name}.service"));
    let others = ["usr/lib/ast/ast-initcpio", "sysroot", "etc/modules-load.d/ast.conf", "usr/lib/systemd/system.conf.d/50-ast.conf"].map(String::from);
    for want in units.iter().chain(&links).chain(&others) {
        assert!(names.lines().any(|name| name == want), "{want} is not in:\n{names}");
    }
    assert!(!names.lines().any(|name| name == "hooks/ast"), "a hook that nothing runs is in:\n{names}");
    // systemd waits for the disk longer than our program does, which knows when to go on without one.
    let devices = unpack(dir.path(), "-i --quiet --to-stdout etc/systemd/system.conf.d/60-ast-devices.conf");
    assert_eq!(devices, "[Manager]\nDefaultDeviceTimeoutSec=240\n");
    // It leaves the watchdog alone, also when it reads its settings anew after ours has written for the systemd of the root: a file of the same name hides that.
    let watchdog = unpack(dir.path(), &format!("-i --quiet --to-stdout etc/systemd/system.conf.d/{WATCHDOG_DROP_IN}"));
    assert_eq!(watchdog, "[Manager]\nRuntimeWatchdogSec=0\n", "b14");
    // The root's fstab is what our program leaves of it.
    let fstab = unpack(dir.path(), "-i --quiet --to-stdout etc/systemd/system.conf.d/60-ast-fstab.conf");
    assert_eq!(fstab, "[Manager]\nManagerEnvironment=SYSTEMD_SYSROOT_FSTAB=/run/ast/fstab\n");
    // The mount that systemd plans because of `root=` is not made over ours, and an emergency is no shell for whoever passes by.
    let drop_in = |unit: &str| unpack(dir.path(), &format!("-i --quiet --to-stdout etc/systemd/system/{unit}.d/ast.conf"));
    assert!(drop_in("sysroot.mount").contains("ConditionPathIsMountPoint=!/sysroot"), "{}", drop_in("sysroot.mount"));
    let emergency = drop_in("emergency.service");
    assert!(emergency.contains("ConditionKernelCommandLine=ast.attended") && emergency.contains("After=ast-root.service"), "{emergency}");
}

/// A machine that hibernates is woken before anything of its filesystem is mounted: that, too, writes to it (S2).
#[test]
fn s2_the_root_is_mounted_after_a_machine_that_hibernates_was_woken() {
    let unit = std::fs::read_to_string(project().join("mkinitcpio/systemd/ast-root.service")).expect("the unit");
    assert!(unit.lines().any(|line| line == "After=local-fs-pre.target"), "{unit}");
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        return eprintln!("skipped: systemd-analyze is not installed");
    }
    let dir = workshop_of_systemd();
    // Our units and links out of the image, beside those of this machine's systemd that mkinitcpio takes, and what generators would add.
    let script = "mkdir tree; cd tree; zstd -dc ../image | cpio -id --quiet 'usr/lib/systemd/system/*' 'etc/systemd/*'
        at=usr/lib/systemd/system from=/usr/lib/systemd/system; mkdir -p $at/sysinit.target.wants $at/cryptsetup.target.requires usr/bin usr/lib/ast; touch etc/initrd-release
        for unit in initrd.target initrd-{cleanup,parse-etc,switch-root,udevadm-cleanup-db}.service initrd-{fs,root-fs,root-device,usr-fs,switch-root}.target \
            {basic,sysinit,local-fs,local-fs-pre,cryptsetup,cryptsetup-pre,paths,slices,sockets,swap,timers,emergency}.target emergency.service \
            kmod-static-nodes.service systemd-{modules-load,tmpfiles-setup-dev,udevd,udev-trigger}.service systemd-udevd-{control,kernel}.socket; do
            [ ! -e $from/$unit ] || cp -n $from/$unit $at
            [ ! -L $from/sysinit.target.wants/$unit ] || ln -s ../$unit $at/sysinit.target.wants
        done
        oneshot='DefaultDependencies=no\n[Service]\nType=oneshot\nExecStart=/bin/true\n'
        printf \"[Unit]\nWants=local-fs-pre.target\nBefore=local-fs-pre.target\n$oneshot\" > $at/systemd-hibernate-resume.service
        printf \"[Unit]\nAfter=cryptsetup-pre.target systemd-udevd-kernel.socket\nBefore=cryptsetup.target\n$oneshot\" > $at/systemd-cryptsetup@root.service
        printf '[Unit]\nAfter=local-fs-pre.target\nBefore=initrd-root-fs.target\n[Mount]\nWhat=/dev/vda2\nWhere=/sysroot\n' > $at/sysroot.mount
        ln -s ../sysroot.mount $at/initrd-root-fs.target.requires; ln -s ../systemd-hibernate-resume.service $at/sysinit.target.wants; ln -s ../systemd-cryptsetup@root.service $at/cryptsetup.target.requires
        for program in bin/true usr/bin/{modprobe,udevadm,sulogin} usr/lib/ast/ast-initcpio; do mkdir -p ${program%/*}; cp /bin/true $program; chmod 755 $program; done
        export SYSTEMD_LOG_LEVEL=debug; systemd-analyze verify --man=no --generators=no --root=$PWD initrd.target 2>&1 || true";
    let out = Command::new("bash").args(["-ec", script]).current_dir(&dir).output().expect("bash");
    let said = told(&out);
    for job in ["ast-root.service/start", "systemd-hibernate-resume.service/start", "local-fs-pre.target/start"] {
        assert!(said.contains(&format!("Installed new job {job}")), "{job} is no job of:\n{said}");
    }
    assert!(!said.contains("ordering cycle"), "{said}");
}

/// What is shipped: small, and in an image of busybox with no library but libc. It panics as any other program does.
#[test]
fn the_program_for_images_is_small_and_needs_libc_alone() {
    /// Bytes of it in an image, compressed as mkinitcpio does.
    const MOST: usize = 280 << 10;
    let build = Command::new(env!("CARGO")).args(["build", "-q", "--locked", "--profile", "initramfs", "-p", "ast-initcpio"]).status().expect("cargo");
    assert!(build.success(), "it does not build");
    let program = std::env::current_exe().expect("this test").ancestors().nth(3).expect("target").join("initramfs/ast-initcpio");
    let line = format!("readelf -d {0} | grep -o 'NEEDED.*'; zstd -q -3 -c {0} | wc -c", program.display());
    let out = String::from_utf8(Command::new("sh").args(["-c", &line]).output().expect("sh").stdout).expect("text");
    let lines: Vec<&str> = out.lines().collect();
    let [needed, size] = lines.as_slice() else { panic!("{out}") };
    assert!(needed.ends_with("[libc.so.6]"), "{out}");
    assert!(size.trim().parse::<usize>().expect("a number") <= MOST, "{out}");
    let panics = Command::new(&program).arg(std::os::unix::ffi::OsStrExt::from_bytes(b"\xff") as &std::ffi::OsStr).output().expect("started");
    assert!(!panics.status.success() && told(&panics).contains("panicked at"), "{}", told(&panics));
}

#[test]
fn a_build_that_could_not_boot_fails() {
    let dir = workshop();
    // The systemd hook is known by the functions it brings. This one finds no unit.
    std::fs::write(dir.path().join("install/systemd"), "add_systemd_unit() { false; }\nbuild() { :; }\n").expect("hook");
    for (hooks, program, complaint) in [
        ("base ast", true, ""),
        ("base ast", false, "ast-initcpio is missing"),
        ("base ast systemd", true, "'ast' must come after 'systemd'"),
        ("base systemd ast", true, "ast-root.service cannot be added"),
    ] {
        let out = build(dir.path(), &format!("HOOKS=({hooks})"), program, false);
        assert_eq!(out.status.success(), complaint.is_empty(), "{hooks}: {}", told(&out));
        assert!(told(&out).contains(complaint), "{hooks}: {}", told(&out));
    }
}

/// mkinitcpio writes an image whatever failed: what every step of ours leaves behind is known by the last.
#[test]
fn s12_an_image_is_marked_as_complete_only_if_every_step_succeeded() {
    let dir = workshop();
    let complete = |hooks: &str| {
        let out = build(dir.path(), &format!("HOOKS=({hooks})"), true, false);
        (out.status.success(), unpack(dir.path(), "-t --quiet").lines().any(|name| name == "usr/lib/ast/complete"))
    };
    assert_eq!(complete("base ast"), (true, true));
    let functions = [
        ("add_systemd_unit", "add_file \"$(PATH=/usr/lib/systemd/system type -P \"$1\")\""),
        ("add_systemd_drop_in", "add_file - \"/etc/systemd/system/$1.d/$2.conf\" 644"),
    ];
    // Each function that the hook calls fails once, at this of its arguments; a later mkinitcpio may have changed any of them.
    let fails = [
        "add_systemd_unit ast-restart.service",
        "add_systemd_drop_in emergency.service",
        "add_symlink *ast-trial-softdog.service",
        "add_dir /sysroot",
        "add_file /usr/lib/systemd/system.conf.d/50-ast.conf",
        "add_module vfat?",
        "add_module softdog?",
        "add_binary */ast-initcpio",
        "add_runscript *",
    ];
    for broken in [""].iter().chain(&fails) {
        let (name, what) = broken.split_once(' ').unwrap_or(("", ""));
        let systemd = name != "add_runscript";
        let mut hook = String::from("build() { :; }\n");
        functions.iter().filter(|_| systemd).for_each(|(name, body)| hook += &format!("{name}() {{ {body}; }}\n"));
        if !name.is_empty() {
            let wrapper = format!("eval \"real_$(declare -f {name})\"; {name}() {{ case \"${{1:-${{BASH_SOURCE[1]##*/}}}}\" in {what}) false ;; *) real_{name} \"$@\" ;; esac; }}\n");
            hook += &wrapper;
        }
        let before = if systemd { "systemd" } else { "other" };
        std::fs::write(dir.path().join("install").join(before), hook).expect("hook");
        let good = broken.is_empty();
        assert_eq!(complete(&format!("base {before} ast")), (good, good), "{broken}");
    }
}

#[test]
fn the_drop_in_puts_ours_last_whatever_the_list_is() {
    let conf = project().join("mkinitcpio/ast.conf");
    for (before, after) in [
        ("HOOKS=(base udev block filesystems fsck)", "base udev block filesystems ast"),
        ("HOOKS='base udev block'", "base udev block ast"),
        ("HOOKS=(base systemd autodetect sd-vconsole block fsck)", "base systemd autodetect sd-vconsole block ast"),
        ("HOOKS=(base ast block)", "base block ast"),
        ("HOOKS=()", "ast"),
    ] {
        // mkinitcpio sources it more than once.
        let line = format!("{before}; . {0}; . {0}; echo \"${{HOOKS[*]}}\"", conf.display());
        let out = Command::new("bash").args(["-ec", &line]).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), after, "{before}");
    }
}

#[test]
fn only_a_failing_add_function_fails_a_build_and_the_image_is_replaced_anyway() {
    let dir = workshop();
    let install = |text: &str| std::fs::write(dir.path().join("install/own"), text).expect("hook");
    for (text, good) in [
        ("build() { ls /nothere; false; }", true),
        ("build() { add_module nothere; }", false),
        ("build() { add_module nothere?; }", true),
        ("build() { add_file /nothere; }", false),
        ("build() { add_binary nothere-program; }", false),
        ("nothing() { :; }", false),
    ] {
        install(text);
        let out = build(dir.path(), "HOOKS=(base own)", false, false);
        assert_eq!(out.status.success(), good, "{text}: {}", told(&out));
        assert!(unpack(dir.path(), "-t --quiet").contains("init_functions"), "{text}: no image");
    }
}

/// The modules of watchdogs in the order in which a trial loads them; the last is for machines on which none of the others found its device.
const WATCHDOGS: [&str; 8] = ["wdat_wdt", "sp5100_tco", "i6300esb", "lpc_ich", "i2c_i801", "intel_pmc_bxt", "iTCO_wdt", "softdog"];

#[test]
fn b14_a_trial_loads_every_watchdog_and_the_one_in_software_where_there_is_none() {
    let loaded = |why: &str, before: &str| {
        let out = hook(why, "", &format!("modprobe() {{ echo \"$2\"; }}; {before}; run_hook"));
        out.lines().filter(|line| WATCHDOGS.contains(line)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(loaded("trial", ":"), WATCHDOGS);
    assert_eq!(loaded("trial", ": > \"$ast_watchdog\""), WATCHDOGS[..7]);
    assert_eq!(loaded("good", ":"), [""; 0]);
    // In an image of systemd two units do the same.
    let unit = |name: &str| std::fs::read_to_string(project().join("mkinitcpio/systemd").join(name)).expect("a unit");
    assert!(unit("ast-trial-modules.service").contains(&format!("modprobe -qa efi_pstore {}\n", WATCHDOGS[..7].join(" "))));
    let soft = unit("ast-trial-softdog.service");
    for line in ["ConditionPathExists=!/dev/watchdog", "ConditionKernelCommandLine=ast.why=trial", "Before=ast-root.service", "ExecStart=-/usr/bin/modprobe -q softdog"] {
        assert!(soft.lines().any(|l| l == line), "{line} is not in:\n{soft}");
    }
    assert!(soft.contains("After=ast-trial-modules.service"), "{soft}");
}

/// What the runtime hook of busybox does in these lines, with an alarm that costs no time; a restart is the word `restarted`.
fn hook(why: &str, attended: &str, lines: &str) -> String {
    let dir = tempfile::tempdir().expect("dir");
    let (hook, alarm) = (project().join("mkinitcpio/hooks/ast"), dir.path().join("alarm"));
    let script = format!(
        ". {}; ast_alarm={}; ast_watchdog={}; getarg() {{ case $1 in ast.why) echo {why} ;; ast.attended) echo {attended} ;; esac; }}
         sleep() {{ echo >> {}; /bin/sleep 0.001; }}; ast_restart() {{ echo restarted; : > \"$ast_alarm.rang\"; exit; }}
         {lines}",
        hook.display(),
        alarm.display(),
        dir.path().join("watchdog").display(),
        dir.path().join("slept").display(),
    );
    let out = Command::new("busybox").args(["sh", "-c", &script]).output().expect("busybox");
    assert!(out.status.success(), "{}", told(&out));
    let slept = std::fs::read(dir.path().join("slept")).unwrap_or_default().len();
    format!("{}{slept}", String::from_utf8_lossy(&out.stdout))
}

#[test]
fn b1_a_hook_that_waits_for_ever_ends_a_trial_and_nothing_else() {
    assert_eq!(hook("trial", "", "run_earlyhook; wait"), "restarted\n300");
    // Whoever has to type a passphrase has the time for it.
    for (why, attended) in [("good", ""), ("chosen", ""), ("trial", "y")] {
        assert_eq!(hook(why, attended, "run_earlyhook; wait"), "0", "{why} {attended}");
    }
    // It is over when ours is at work.
    let quick = "run_earlyhook; rm -f \"$ast_alarm.hooks\"; wait";
    assert!(!hook("trial", "", quick).contains("restarted"));
    let handler = handler();
    assert_eq!(handler.lines().nth(1).map(str::trim), Some("rm -f \"$ast_alarm.hooks\""));
}

/// Our mount handler, with a program of the shell in the place of ours.
fn handler() -> String {
    let own = std::fs::read_to_string(project().join("mkinitcpio/hooks/ast")).expect("hook");
    let handler = own.split("ast_mount_handler() {\n").nth(1).and_then(|rest| rest.split("\n}\n").next()).expect("a handler");
    handler.replace("/usr/lib/ast/ast-initcpio", "program")
}

#[test]
fn b9_a_mount_that_hangs_ends_on_every_start_that_nobody_attends() {
    let started = |why: &str, attended: &str, delay: &str, program: &str| {
        let args = format!("getarg() {{ case $1 in ast.why) echo {why} ;; ast.attended) echo {attended} ;; rootdelay) echo {delay} ;; esac; }}");
        hook(why, attended, &format!("{args}; program() {{ {program}; }}; launch_interactive_shell() {{ echo shell; exit; }}; handler() {{\n{}\n}}; handler; wait", handler()))
    };
    let hangs = "while [ -e \"$ast_alarm.mount\" ] && ! [ -e \"$ast_alarm.rang\" ]; do /bin/sleep 0.01; done";
    for (delay, seconds) in [("", 450), ("20", 490), ("08", 450)] {
        let out = started("good", "", delay, hangs);
        assert_eq!(out, format!("restarted\n{seconds}"), "rootdelay={delay}");
    }
    assert!(started("trial", "", "", hangs).starts_with("restarted\n"));
    // Nothing rings when it has ended, nor where somebody is there.
    assert!(!started("good", "", "", "true").contains("restarted"));
    let attended = started("good", "y", "", "false");
    assert!(attended.ends_with("shell\n0") && !attended.contains("restarted"), "{attended}");
}

#[test]
fn b9_a_disk_that_hangs_keeps_the_hook_from_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let (hook, sysrq) = (project().join("mkinitcpio/hooks/ast"), dir.path().join("sysrq"));
    // Neither ends. Nothing here is this machine's: no sysrq, and a process namespace for who would restart.
    let script = format!(
        "[ ! -e /proc/sysrq-trigger ] || mount --bind /dev/null /proc/sysrq-trigger; exec busybox sh -c '. {}; ast_sysrq={}
         hang() {{ echo $*; exec /bin/sleep 100 > /dev/null 2>&1; }}; sync() {{ hang sync; }}; reboot() {{ hang reboot $*; }}
         sleep() {{ [ $1 != 60 ] || exit 0; /bin/sleep 0.1; }}; ast_restart'",
        hook.display(),
        sysrq.display(),
    );
    let out = Command::new("unshare").args(["-mpf", "--propagation", "private", "--kill-child", "bash", "-ec", &script]).output().expect("unshare");
    assert_eq!(told(&out), "ast: the initramfs cannot go on, restarting\nsync\nreboot -n -f\n");
    assert_eq!(std::fs::read_to_string(sysrq).expect("the kernel was told"), "b\n");
}
