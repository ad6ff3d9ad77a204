//! The header of a kernel image. Source of the offsets: Linux `Documentation/arch/x86/boot.rst`.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::Lack;

/// As much as holds the header and the version text it points to (that pointer is 16 bits wide, plus 0x200).
const HEAD: u64 = 0x1_0200;
/// `0x55aa` of a boot sector.
const BOOT_FLAG: usize = 0x1fe;
/// `HdrS`.
const MAGIC: usize = 0x202;
/// Sectors of real-mode code after the first; 0 means 4.
const SETUP_SECTS: usize = 0x1f1;
/// Size of the protected-mode code in units of 16 bytes.
const SYSSIZE: usize = 0x1f4;
/// Where the version text is, less 0x200; 0: nowhere.
const KERNEL_VERSION: usize = 0x20e;

/// The version of the kernel in the file, as `uname -r` will show it, if it is a whole bzImage.
pub(super) fn version(path: &Path) -> Result<String, Lack> {
    let read = |path: &Path| -> std::io::Result<(Vec<u8>, u64)> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head)?;
        Ok((head, length))
    };
    let (head, length) = read(path).map_err(|error| Lack::Unreadable(error.to_string()))?;
    parse(&head, length)
}

/// The same of the beginning of a file of `length` bytes.
fn parse(head: &[u8], length: u64) -> Result<String, Lack> {
    if head.is_empty() {
        return Err(Lack::BadKernel("it is empty"));
    }
    let not_a_kernel = Lack::BadKernel("it is not a Linux kernel image");
    if head.get(BOOT_FLAG..BOOT_FLAG + 2) != Some(&[0x55, 0xaa]) || head.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Err(not_a_kernel);
    }
    let bytes = |at: usize, count: usize| head.get(at..at + count).unwrap_or_default();
    let number = |at: usize, count: usize| bytes(at, count).iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let setup = match number(SETUP_SECTS, 1) {
        0 => 4,
        sectors => sectors,
    };
    // A signature may follow, so longer is allowed.
    if length < (setup + 1) * 512 + number(SYSSIZE, 4) * 16 {
        return Err(Lack::BadKernel("it is cut off: shorter than its header says"));
    }
    let text_at = usize::try_from(number(KERNEL_VERSION, 2)).unwrap_or_default();
    let text = head.get(text_at + 0x200..).filter(|_| text_at != 0).unwrap_or_default();
    let word = text.split(|byte| byte.is_ascii_whitespace() || *byte == 0).next().unwrap_or_default();
    let plain = |c: &u8| c.is_ascii_alphanumeric() || b".-_+~".contains(c);
    // It becomes part of a path.
    if word.is_empty() || word.len() > 128 || !word.iter().all(plain) || word.starts_with(b".") {
        return Err(Lack::BadKernel("it does not tell its version"));
    }
    Ok(String::from_utf8_lossy(word).into_owned())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A kernel image in which everything that is looked at is right, and nothing else.
    pub(in crate::verify) fn image(version: &str) -> Vec<u8> {
        let mut image = vec![0; 512 * 5 + 16 * 100];
        image[BOOT_FLAG..BOOT_FLAG + 2].copy_from_slice(&[0x55, 0xaa]);
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[SETUP_SECTS] = 4;
        image[SYSSIZE] = 100;
        image[KERNEL_VERSION..KERNEL_VERSION + 2].copy_from_slice(&0x300u16.to_le_bytes());
        let text = format!("{version} (builder@host) #1 SMP\0");
        image[0x500..0x500 + text.len()].copy_from_slice(text.as_bytes());
        image
    }

    #[test]
    fn the_version_is_read_and_damage_is_seen() {
        let good = image("6.1.0-55-cloud-amd64");
        let length = good.len() as u64;
        assert_eq!(parse(&good, length), Ok("6.1.0-55-cloud-amd64".into()));
        assert_eq!(parse(&[], 0), Err(Lack::BadKernel("it is empty")));
        assert!(parse(&good, length - 1).is_err(), "cut off");
        assert!(parse(&vec![0; 4096], 4096).is_err(), "zeros");
        assert!(parse(&image("../../etc"), length).is_err(), "a version that is a path");
        for end in 0..0x300 {
            assert!(parse(&good[..end], end as u64).is_err());
        }
    }
}
