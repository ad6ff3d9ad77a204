//! A kernel of a hundred bytes: GRUB's real `linux`, `initrd` and `boot` take it for Linux, and it says on the serial line what it was given.

/// What runs: prints `<COMMAND LINE|INITRAMFS>` and halts. 32-bit, position independent; ESI is the zero page as in Linux's boot protocol.
///
/// ```text
///       cli; cld
///       mov $'<', %al; call putc
///       mov 0x228(%esi), %edi          # cmd_line_ptr
///    1: mov (%edi), %al; test %al, %al; jz 2f; call putc; inc %edi; jmp 1b
///    2: mov $'|', %al; call putc
///       mov 0x218(%esi), %edi          # ramdisk_image
///       mov 0x21c(%esi), %ecx          # ramdisk_size
///    3: jecxz 5f
///       mov (%edi), %al; test %al, %al; jz 4f; call putc      # zeros are padding between images
///    4: inc %edi; dec %ecx; jmp 3b
///    5: mov $'>', %al; call putc; mov $'\n', %al; call putc
///    6: hlt; jmp 6b
/// putc: push %edx; push %eax
///       mov $0x3fd, %edx               # line status of the first serial port: wait until it takes a byte
///    7: in %dx, %al; test $0x20, %al; jz 7b
///       pop %eax; mov $0x3f8, %edx; out %al, %dx; pop %edx; ret
/// ```
const CODE: [u8; 103] = [
    0xfa, 0xfc, 0xb0, 0x3c, 0xe8, 0x49, 0, 0, 0, 0x8b, 0xbe, 0x28, 2, 0, 0, 0x8a, 0x07, 0x84, 0xc0, 0x74, 0x08, 0xe8, 0x38, 0, 0, 0, 0x47,
    0xeb, 0xf2, 0xb0, 0x7c, 0xe8, 0x2e, 0, 0, 0, 0x8b, 0xbe, 0x18, 2, 0, 0, 0x8b, 0x8e, 0x1c, 2, 0, 0, 0xe3, 0x0f, 0x8a, 0x07, 0x84, 0xc0,
    0x74, 0x05, 0xe8, 0x15, 0, 0, 0, 0x47, 0x49, 0xeb, 0xef, 0xb0, 0x3e, 0xe8, 0x0a, 0, 0, 0, 0xb0, 0x0a, 0xe8, 0x03, 0, 0, 0, 0xf4, 0xeb,
    0xfd, 0x52, 0x50, 0xba, 0xfd, 3, 0, 0, 0xec, 0xa8, 0x20, 0x74, 0xfb, 0x58, 0xba, 0xf8, 3, 0, 0, 0xee, 0x5a, 0xc3,
];
/// Bytes of the real-mode part: the boot sector and one more.
const SETUP: usize = 1024;
/// Bytes of the whole: more than fits into btrfs's metadata, so that it lies on the disk as a real kernel does.
const SIZE: usize = 16 * 1024;

/// A bzImage with this code; `mark` makes two of them differ. Source of the offsets: Linux's `Documentation/arch/x86/boot.rst`.
pub fn image(mark: &str) -> Vec<u8> {
    let mut image = vec![0x90; SIZE];
    image[..SETUP].fill(0);
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0x1f1, &[1]); // setup_sects: one behind the boot sector
    put(0x1f4, &(((SIZE - SETUP) / 16) as u32).to_le_bytes()); // syssize
    put(0x1fe, &[0x55, 0xaa]);
    put(0x200, &[0xeb, 0x66]); // the jump, which says how long the header is
    put(0x202, b"HdrS");
    put(0x206, &0x020c_u16.to_le_bytes());
    put(0x211, &[1]); // loadflags: loaded high
    put(0x214, &0x10_0000_u32.to_le_bytes()); // code32_start
    put(0x22c, &0x7fff_ffff_u32.to_le_bytes()); // initrd_addr_max
    put(0x230, &0x1000_u32.to_le_bytes()); // kernel_alignment
    put(0x234, &[1, 12]); // relocatable, by pages
    put(0x238, &2047_u32.to_le_bytes()); // cmdline_size
    put(0x258, &0x100_0000_u64.to_le_bytes()); // pref_address
    put(0x260, &0x1_0000_u32.to_le_bytes()); // init_size
    put(SETUP, &CODE);
    put(SETUP + CODE.len(), mark.as_bytes());
    image
}

/// The same for a GRUB that leaves starting to the firmware: by its header it is a program of EFI that asks for its initramfs (`LoadFile2`), and for
/// the firmware it is none.
pub fn with_stub(mut image: Vec<u8>) -> Vec<u8> {
    let mut put = |offset: usize, bytes: &[u8]| image[offset..offset + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x40]);
    put(0x40, b"PE\0\0");
    put(0x58, &0x020b_u16.to_le_bytes()); // 64 bits
    put(0x84, &[1]); // major_image_version
    image
}
