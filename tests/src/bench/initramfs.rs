//! What the initramfs part costs: time beside a mount of one subvolume, and bytes beside an image without it.

use std::path::Path;
use std::time::Duration;

use super::bed::Bed;
use super::{BenchError, Row, Side, shell};

/// How much longer than a plain mount it may take: nobody sees that at a start.
const ALLOWED: Duration = Duration::from_millis(30);
/// Bytes by which an image may grow; GRUB reads them.
const GROWTH: u64 = 400 << 10;
const SOME: usize = 21;

/// The program that mounts a whole machine, beside what mkinitcpio's own `mount_handler` does: a mount of its root.
pub(super) fn mounts(bed: &Bed, program: &Path) -> Result<Vec<Row>, BenchError> {
    let root = bed.root.display();
    let deployed = format!("{root}/.snapshots/deploy/1/root");
    // Modules of the kernel that runs here: without them it is another root that is looked for.
    shell(&format!(
        "btrfs property set {deployed} ro false; mkdir -p {deployed}/usr/lib/modules/$(uname -r); : > {deployed}/usr/lib/modules/$(uname -r)/modules.dep; \
         btrfs property set {deployed} ro true; printf 'root={device} ro ast.d=1 ast.why=good ast.arm=0. ast.env=ok ast.block=raw\\n' > {root}/cmdline; : > {root}/kmsg",
        device = bed.device
    ))?;
    let in_initramfs =
        |line: String| format!("unshare -m --propagation private sh -ec 'mount -t tmpfs run /run; mkdir /run/new_root; {line}; test -d /run/new_root/usr'");
    let ours = format!(
        "{} mount /run/new_root --cmdline {root}/cmdline --kmsg {root}/kmsg --watchdog /nowhere --pstore /nowhere --bootstatus /nowhere --wait 1 --no-restart; \
         grep -q d=1 /run/ast/booted",
        program.display()
    );
    let theirs = format!("mount -t btrfs -o ro,subvol=@.snapshots/deploy/1/root {} /run/new_root", bed.device);
    Ok(vec![Row {
        what: "initramfs: mount a machine".to_owned(),
        ours: Side::new("ast-initcpio", in_initramfs(ours)),
        theirs: Side::new("mount of one subvolume", in_initramfs(theirs)),
        at_least: Some(1.0),
        allowed: ALLOWED,
        times: SOME,
    }])
}

/// An image with the hook beside one without it that mounts btrfs too, as mkinitcpio writes both. The lab's busybox needs no libc, while mkinitcpio's
/// does: a program that does is in both.
pub(super) fn growth(bed: &Bed, program: &Path) -> Result<(), BenchError> {
    let plain = format!("{}/mnt/plain", bed.root.display());
    let build = |hook: &str| -> Result<u64, BenchError> {
        let line = format!(
            "cp {program} {plain}/usr/lib/ast/ast-initcpio; cat {plain}/etc/mkinitcpio.conf > {plain}/etc/bench.conf; \
             printf 'MODULES+=(btrfs)\\nBINARIES+=(kmod)\\nread -ra HOOKS <<< \"${{HOOKS[*]}}\"\\n{hook}\\n' >> {plain}/etc/bench.conf; \
             arch-chroot {plain} mkinitcpio -c /etc/bench.conf -z zstd -k $(ls {plain}/usr/lib/modules | tail -1) -g /etc/bench.img > /dev/null 2>&1; stat -c %s {plain}/etc/bench.img",
            program = program.display()
        );
        shell(&line)?.trim().parse().map_err(|_| BenchError::Ast("mkinitcpio left no image".to_owned()))
    };
    let (without, with) = (build("")?, build("HOOKS+=(ast)")?);
    let more = with.saturating_sub(without);
    let holds = if with > without && more <= GROWTH { "yes" } else { "NO" };
    println!("{:<28} {with:>10}  {:<34} {without:>10} {:>8}  ≤ {GROWTH} more: {holds} ({more} more)", "initramfs: bytes", "the same image without the hook", "");
    Ok(())
}
