#!/usr/bin/env bash
# Makes what the original Python program would have made of a fresh machine of the lab: original.sh TOP ESP
# TOP is the mounted top level of its btrfs, ESP the serial of its EFI system partition, if it has one. Runs in a mount namespace of its own.
# The facts are those of the original's installer and `deploy`: subvolumes rootfs/snapshot-0, etc-0, boot-0, one deployment `tmp`, /var shared.
set -euo pipefail
top=$1 esp=$2 snapshots=$1/@.snapshots
uuid=$(findmnt -no UUID "$top")
root=$snapshots/rootfs/snapshot-tmp etc=$snapshots/etc/etc-tmp boot=$snapshots/boot/boot-tmp

for part in root etc boot; do
  case $part in root) to=$root ;; etc) to=$etc ;; boot) to=$boot ;; esac
  btrfs -q subvolume snapshot "$snapshots/deploy/1/$part" "$to"
  btrfs property set "$to" ro false
done
# The owner brings the new program from elsewhere; its packages do not have it yet.
mkdir -p "$top/@home/new"
cp "$root/usr/bin/ast" "$top/@home/new/ast"

mount --bind "$root" "$root"
mount --bind "$etc" "$root/etc"
mount --bind "$boot" "$root/boot"
mount --bind "$top/@var" "$root/var"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmp "$root/tmp"
mount -t tmpfs run "$root/run"
env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot "$root" /usr/bin/bash -ec '
  PATH=/usr/bin
  pacman -R --noconfirm --noprogressbar ast
  # What /etc had of it was changed here, so pacman kept it.
  rm -rf /etc/mkinitcpio.conf.d/ast.conf* /etc/ast /etc/grub.d/10_ast* /boot/ast.env /boot/ast.sums
  mkinitcpio -P
  ! bsdtar -tf /boot/initramfs-linux.img 2>/dev/null | grep -q ast-initcpio'
umount -R "$root"

kernel=$(cd "$boot" && ls vmlinuz-* | head -n 1)
{
  for line in "/ @.snapshots/rootfs/snapshot-tmp,ro" "/.snapshots @.snapshots" "/home @home" "/var @var" "/etc @.snapshots/etc/etc-tmp" "/boot @.snapshots/boot/boot-tmp"; do
    echo "UUID=$uuid ${line%% *} btrfs subvol=${line#* },compress=zstd,noatime 0 0"
  done
  [ -z "$esp" ] || echo "UUID=$esp /boot/efi vfat umask=0077 0 2"
  echo '/.snapshots/ast/root /root none bind 0 0'
  echo '/.snapshots/ast/tmp /tmp none bind 0 0'
} >"$etc/fstab"
mkdir -p "$boot/efi" "$boot/grub" "$root/usr/share/ast"
echo 0 >"$root/usr/share/ast/snap"

# All that was ours on this disk.
for dir in "$snapshots"/{deploy,sets,work,vars}; do
  [ -d "$dir" ] || continue
  find "$dir" -mindepth 1 -maxdepth 2 | sort -r | while read -r path; do
    if [ "$(stat -c %i "$path")" = 256 ]; then
      btrfs property set "$path" ro false
      btrfs -q subvolume delete "$path"
    fi
  done
  rm -rf "$dir"
done
find "$snapshots"/{rootfs,etc,boot,var} -maxdepth 1 -type l -delete
rm -rf "$snapshots/ast" "$top/@boot/grub/ast" "$top/@boot/grub/grub.cfg"
btrfs -q subvolume delete "$top/@root" "$top/@cache"

for part in "rootfs/snapshot $root" "etc/etc $etc" "boot/boot $boot"; do
  btrfs -q subvolume snapshot -r "${part#* }" "$snapshots/${part%% *}-0"
done
# Its deploy copies /etc into the root as well, since systemd reads fstab there.
cp -a "$etc/." "$root/etc/"
mkdir -p "$snapshots"/ast/{root,tmp,snapshots}
chmod 1777 "$snapshots/ast/tmp"
echo 'alias ll="ls -l"' >"$snapshots/ast/root/.bashrc"
echo 'base snapshot' >"$snapshots/ast/snapshots/0-desc"
printf '%s' "{'name': 'root', 'children': [{'name': '0'}]}" >"$snapshots/ast/fstree"
echo "$uuid" >"$snapshots/ast/part"
btrfs subvolume set-default "$root"

args=$(sed -n 's/^GRUB_CMDLINE_LINUX\(_DEFAULT\)\?="\(.*\)"/\2/p' "$etc/default/grub" | tr '\n' ' ')
cat >"$top/@boot/grub/grub.cfg" <<CFG
serial --unit=0 --speed=115200
terminal_input serial console
terminal_output serial console
set timeout=2
echo 'menu of the original'
menuentry 'astOS Linux snapshot 0' {
  search --no-floppy --fs-uuid --set=root $uuid
  linux /@.snapshots/boot/boot-tmp/$kernel root=UUID=$uuid ro rootflags=subvol=@.snapshots/rootfs/snapshot-tmp $args
  initrd /@.snapshots/boot/boot-tmp/initramfs-${kernel#vmlinuz-}.img
}
CFG
sync -f "$top"
