//! Machines whose system is in LUKS2, made on a kernel without device-mapper: cryptsetup makes the header, and what the installer wrote is encrypted
//! here, as dm-crypt does it.

use super::ImageError;
use aes::Aes256;
use aes::cipher::{KeyInit as _, generic_array::GenericArray};
use ast::luks::Header;
use nix::unistd::{Whence, lseek64};
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use xts_mode::{Xts128, get_tweak_default};

/// UUID of the container of every such machine.
pub const UUID: &str = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee";
/// Where its key is in the system, and so in the initramfs.
pub const KEY: &str = "/etc/luks.key";
/// Bytes before the data: what cryptsetup takes for a header if it is not told.
pub const DATA_OFFSET: u64 = 16 << 20;
/// Bytes that are encrypted as one, with their number as the tweak (`plain64`).
const SECTOR: usize = 512;
/// Of the cipher (aes-xts-plain64 with 512 bits).
const VOLUME_KEY: usize = 64;
/// Read and written at once.
const CHUNK: usize = 1 << 20;
/// Rounds of PBKDF2: an emulated GRUB computes them.
const ROUNDS: &str = "1000";

/// Files of a container in a directory of the cache: its header, and the key of its data.
const HEADER_FILE: &str = "luks.header";
const VOLUME_KEY_FILE: &str = "luks.volume";

/// A header for a container of a new machine is in `dir`, with its keys. GRUB is to have the same key as the initramfs.
pub fn format(dir: &Path) -> Result<ast::install::machine::Luks, ImageError> {
    let (header, volume) = (dir.join(HEADER_FILE), dir.join(VOLUME_KEY_FILE));
    let key = crate::lab::cache::tests_dir().join("lab/overlay/initramfs-encrypt").join(KEY.trim_start_matches('/'));
    let io = |path: &Path| { let image = path.to_owned(); move |e: std::io::Error| ImageError::Encrypt { image, why: e.to_string() } };
    let mut random = vec![0; VOLUME_KEY];
    File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).map_err(io(&volume))?;
    std::fs::write(&volume, random).map_err(io(&volume))?;
    File::create(&header).and_then(|file| file.set_len(2 * DATA_OFFSET)).map_err(io(&header))?;
    let words = ["luksFormat", "--batch-mode", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", ROUNDS];
    let words = words.into_iter().chain(["--cipher", "aes-xts-plain64", "--key-size", "512", "--sector-size", "512", "--uuid", UUID]);
    let mut cryptsetup = Command::new("cryptsetup");
    cryptsetup.args(words).arg("--volume-key-file").arg(&volume).arg("--key-file").arg(&key).arg(&header);
    crate::vm::tool::output(&mut cryptsetup).map_err(|e| ImageError::Encrypt { image: header.clone(), why: e.to_string() })?;
    let found = Header::read(&header).map_err(|e| e.to_string()).and_then(|header| header.ok_or_else(|| "no LUKS".to_owned()));
    let found = found.map_err(|why| ImageError::Encrypt { image: header, why })?;
    Ok(ast::install::machine::Luks { header: found, key: Some(std::fs::read(&key).map_err(io(&key))?) })
}

/// `disk` is the machine in `plain` with its last partition encrypted, by the container in `dir`.
pub fn encrypt(plain: &Path, dir: &Path, disk: &Path) -> Result<(), ImageError> {
    copy(plain, disk).map_err(|e| ImageError::Encrypt { image: disk.to_owned(), why: e.to_string() })?;
    encrypt_in_place(disk, dir)
}

/// `to` is as `from`, holes and all. Not by cp(1), which makes holes of zeros that were written: encrypted, those are data like any other.
pub fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let (from, to) = (File::open(from)?, File::create(to)?);
    to.set_len(from.metadata()?.len())?;
    each_chunk(&from, 0, |at, part| to.write_all_at(part, at))
}

/// The same in place. What was never written stays as it is: nobody has read it either.
pub fn encrypt_in_place(disk: &Path, dir: &Path) -> Result<(), ImageError> {
    let failed = |why: String| ImageError::Encrypt { image: disk.to_owned(), why };
    let offline = crate::vm::Offline::open(disk).map_err(|e| failed(e.to_string()))?;
    let partition = offline.partitions().iter().max_by_key(|p| p.len).cloned();
    offline.close().map_err(|e| failed(e.to_string()))?;
    let start = partition.ok_or_else(|| failed("no partition on it".into()))?.start;
    let done = || -> std::io::Result<()> {
        let file = File::options().read(true).write(true).open(disk)?;
        encrypt_data(&file, start + DATA_OFFSET, &std::fs::read(dir.join(VOLUME_KEY_FILE))?)?;
        let header = File::open(dir.join(HEADER_FILE))?;
        let mut bytes = vec![0; usize::try_from(DATA_OFFSET).unwrap_or(0)];
        header.read_exact_at(&mut bytes, 0)?;
        file.write_all_at(&bytes, start)
    };
    done().map_err(|e| failed(e.to_string()))
}

fn encrypt_data(file: &File, start: u64, key: &[u8]) -> std::io::Result<()> {
    let (first, second) = key.split_at(VOLUME_KEY / 2);
    let cipher = Xts128::new(Aes256::new(GenericArray::from_slice(first)), Aes256::new(GenericArray::from_slice(second)));
    each_chunk(file, start, |at, part| {
        cipher.encrypt_area(part, SECTOR, u128::from(at - start) / SECTOR as u128, get_tweak_default);
        file.write_all_at(part, at)
    })
}

/// `work` gets all that was written in `file` from byte `start` on, piece by piece.
fn each_chunk(file: &File, start: u64, mut work: impl FnMut(u64, &mut [u8]) -> std::io::Result<()>) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut at = start;
    // ENXIO: nothing but a hole is left.
    while let Ok(data) = lseek64(file, i64::try_from(at).unwrap_or(i64::MAX), Whence::SeekData) {
        let end = u64::try_from(lseek64(file, data, Whence::SeekHole)?).unwrap_or_default();
        at = u64::try_from(data).unwrap_or_default();
        while at < end {
            let size = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let part = &mut chunk[..size];
            file.read_exact_at(part, at)?;
            work(at, part)?;
            at += size as u64;
        }
    }
    Ok(())
}
